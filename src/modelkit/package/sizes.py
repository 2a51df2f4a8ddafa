"""Bound the tensors that a graph makes of constants alone, and choose which are computed at load.

onnxruntime computes at load what depends on constants only, and keeps each result below a limit of
bytes. Forty results of 240 MiB, or a hundred products of large matrices, come from a file of 5 KB
all the same. So the bytes of all such results, and the reading they take, are estimated from above,
and the limit of one result is lowered until their sum is in proportion to the size of the package.
What is not computed at load is computed by each run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf, prod
from typing import NamedTuple

from modelkit.errors import GraphError
from modelkit.package.operators import Node

# The bytes of an element of a tensor at most, other than a complex number or a string.
ITEM = 8
STRING_BYTES = 40  # of the shortest string
# Bytes of a tensor whose shape the graph states, and of all that it makes of constants so.
MAX_STATED_BYTES = 1 << 30
SPARSE_BYTES = 64 << 20  # of all sparse tensors, which are kept as dense ones
FEW_NUMBERS = 64  # more of them are no shape
# The limits of one result in bytes, of which the first that fits is taken.
RESULT_LIMITS = (1 << 28, 1 << 26, 1 << 24, 1 << 22, 1 << 20, 1 << 17, 1 << 14)
MADE_BYTES = 64 << 20  # of all results, and sixteen times the size of the package
READ_BYTES = 256 << 20  # that all results are made of, and sixty-four times the size of the package

# Operators that make a tensor of a shape which another tensor states, and which of their inputs
# that is.
SHAPED = {
    b"AffineGrid": 1, b"BlackmanWindow": 0, b"CenterCropPad": 1, b"Col2Im": 1, b"ConstantOfShape": 0,
    b"CropAndResize": 3, b"DFT": 1, b"Expand": 1, b"HammingWindow": 0, b"HannWindow": 0, b"MaxUnpool": 2,
    b"OneHot": 1, b"Pad": 1, b"Resize": 3, b"Tile": 1,
}  # fmt: skip
SHAPED_BY_ATTRIBUTE = {
    b"MaxRoiPool": b"pooled_shape", b"Multinomial": b"sample_size", b"Pad": b"pads", b"RandomNormal": b"shape",
    b"RandomUniform": b"shape", b"Tile": b"repeats", b"TreeEnsemble": b"n_targets",
    b"TreeEnsembleRegressor": b"n_targets",
}  # fmt: skip
# Operators whose work is in proportion to what they read and make: the result has no more elements
# than the largest of the inputs, than their product, than their sum, or than the shape states.
ALIKE = frozenset(
    b"Abs Acos Acosh ArgMax ArgMin Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu "
    b"Clip Compress Cos Cosh CumSum DepthToSpace DequantizeLinear Elu Erf Exp Flatten Floor "
    b"GatherElements Gelu HardSigmoid HardSwish Identity IsInf IsNaN LayerNormalization "
    b"LeakyRelu Log LogSoftmax LpNormalization Mish Neg Not QuantizeLinear Reciprocal "
    b"ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
    b"ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round ScatterElements ScatterND "
    b"Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth "
    b"Split Sqrt Squeeze Tan Tanh ThresholdedRelu TopK Transpose Trilu Unique Unsqueeze".split()
)
CROSSED = frozenset(
    b"Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Gather GatherND Greater "
    b"GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow PRelu Sub Sum Where Xor".split()
)
PICKED = frozenset((b"Gather", b"GatherND"))
SHAPELY = frozenset(
    b"Abs Cast Ceil Clip Erf Exp Floor Identity Log Neg Not Reciprocal Relu Round Sign Sqrt "
    b"Tanh".split()
)
JOINED = frozenset((b"Concat",))
STATED = frozenset((b"ConstantOfShape", b"Expand", b"OneHot", b"Pad", b"Range", b"Tile"))
MATRIX_PRODUCTS = frozenset((b"Gemm", b"MatMul"))
CHANCE = frozenset(
    b"Bernoulli Dropout Multinomial RandomNormal RandomNormalLike RandomUniform "
    b"RandomUniformLike".split()
)
RANK = 64  # numbers that a shape or a size has at most, whatever it is of
# The bytes of an element by data type; ITEM for others.
WIDTHS = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 8: STRING_BYTES, 9: 1, 10: 2, 12: 4, 16: 2}


class Held(NamedTuple):
    """A constant: its most elements, the bytes of an element, and its shape if that is known."""

    elements: float
    width: int
    shape: tuple[int, ...] | None = None

    @property
    def size(self) -> float:
        """The most bytes that it has."""
        return self.elements * self.width


def larger(one: Held, other: Held | None) -> Held:
    """What two constants of one name have at most."""
    if other is None or one == other:
        return one
    return Held(max(one.elements, other.elements), max(one.width, other.width))


class Made(NamedTuple):
    """A result of constants, estimated from above.

    `size` is in bytes, `read` has the bytes of each input and whether it is such a result itself,
    and `product` counts multiplications.
    """

    size: float
    read: list[tuple[float, bool]]
    product: float


class Folding(NamedTuple):
    """Which results of constants are computed at load.

    `limit` is the size in bytes up to which a result is kept, 0 where none is computed. `costly`
    says that results that are left to the runs take time out of proportion, whatever the rows are.
    """

    limit: int
    costly: bool


class Stated(NamedTuple):
    """What the constants of one name would state as a shape; of several constants, the largest.

    `shape` is that of the largest tensor, `product` its elements, and `padded` its elements with
    one more along each axis. `least` and `most` are of their numbers, and `step` is the smallest
    magnitude that is not zero.
    """

    shape: list[float]
    product: float
    padded: float
    least: float
    most: float
    step: float


def state(several: Sequence[list[float]]) -> Stated:
    """What constants of one name, each with its numbers, would state."""
    numbers = [number for shape in several for number in shape]
    steps = [abs(number) for number in numbers if number]
    return Stated(
        shape=max(several, key=_elements),
        product=max(map(_elements, several)),
        padded=max(map(_enlarged, several)),
        least=min(numbers),
        most=max(numbers),
        step=min(steps, default=1.0),
    )


def _enlarged(shape: list[float]) -> float:
    """The elements of a tensor that is one larger along each axis."""
    return _elements([size + 1 for size in shape])


def check_bound(name: str, shape: Sequence[float]) -> None:
    """Raise GraphError where a tensor of this shape, or one enlarged by it, is too large."""
    if not _elements(shape) * ITEM <= MAX_STATED_BYTES:
        raise GraphError(
            f"{name} makes a tensor of the size {list(shape[:FEW_NUMBERS])}, which is more than "
            f"{MAX_STATED_BYTES >> 30} GiB"
        )


def _elements(shape: Sequence[float]) -> float:
    return inf if len(shape) > FEW_NUMBERS else prod(max(float(size), 1.0) for size in shape)


def check_stated(nodes: Iterable[Node], stated: Mapping[bytes, Stated]) -> None:
    """Raise GraphError where an operator makes a tensor of a shape that is too large."""
    for node in nodes:
        found = _stated(node, stated)
        if found is not None:
            check_bound(node.name.decode("utf-8", "backslashreplace"), found.shape)


def _stated(node: Node, stated: Mapping[bytes, Stated]) -> Stated | None:
    """The shape of the result of an operator, as constants state it; None where none does."""
    if node.name == b"Range":
        length = _length([stated.get(name) for name in node.inputs[:3]])
        return None if length is None else state([[length]])
    at = SHAPED.get(node.name)
    if at is not None and at < len(node.inputs):
        return stated.get(node.inputs[at])
    attribute = SHAPED_BY_ATTRIBUTE.get(node.name)
    shape = [] if attribute is None else node.numbers(attribute)
    return state([shape]) if shape else None


def _length(ends: Sequence[Stated | None]) -> float | None:
    """The most elements of a Range between constants; None where one of its inputs is none."""
    if len(ends) < 3:
        return None
    start, stop, step = ends
    if start is None or stop is None or step is None:
        return None
    return max(stop.most - start.least, start.most - stop.least) / step.step


def choose_folding(
    nodes: Sequence[Node],
    held: Mapping[bytes, Held],
    stated: Mapping[bytes, Stated],
    size: int,
    *,
    unknown: AbstractSet[bytes],
    functions: bool,
) -> Folding:
    """What to compute at load of a package of `size` bytes.

    Args:
        nodes: of the graph and its subgraphs, in any order.
        held: its constants by name.
        stated: what small constants would state as a shape, by name.
        size: of graph and weights in bytes.
        unknown: the inputs of the model whose shape is not fixed.
        functions: whether the graph has some, into whose calls nobody looks: then nothing is
            computed at load.

    Raises GraphError where what the graph states of constants is too large in all.
    """
    known = dict(held)
    made: list[Made] = []
    results: set[bytes] = set()
    total = 0.0
    costly = False
    for node in _constant_nodes(nodes, held, unknown):
        told = _stated(node, stated)
        if told is not None:
            total += told.product * ITEM
        if total > 2 * MAX_STATED_BYTES:
            gibibytes = MAX_STATED_BYTES >> 29
            raise GraphError(f"the graph makes more than {gibibytes} GiB of constants alone")
        names = [name for name in node.inputs if name in known]
        result, product = _result(node, [known[name] for name in names], told)
        costly = costly or product == inf
        for name in node.outputs:
            known[name] = larger(result, known.get(name))
        if node.name != b"Constant":
            read = [(known[name].size, name in results) for name in names]
            made.append(Made(result.size, read, product))
            results.update(node.outputs)
    limit = 0 if costly or functions else _limit(made, size)
    heavy = limit < RESULT_LIMITS[0] and any(one.product > READ_BYTES for one in made)
    return Folding(limit, costly or heavy)


def _constant_nodes(
    nodes: Sequence[Node], held: Iterable[bytes], unknown: AbstractSet[bytes]
) -> list[Node]:
    """The nodes that may depend on constants alone, each after those that it takes from.

    A name may stand for several tensors: it counts as a constant where any of them is one. So does
    a shape, other than that of an input whose shape is not fixed.
    """
    unknown = unknown - {name for node in nodes for name in node.outputs}
    waiting: dict[bytes, list[int]] = defaultdict(list)
    lacking: list[int] = []
    ready: list[int] = []
    for at, node in enumerate(nodes):
        names = _awaited(node, unknown)
        lacking.append(len(names))
        if not names:
            ready.append(at)
        for name in names:
            waiting[name].append(at)
    found: list[Node] = []
    for name in held:
        ready += _release(waiting.pop(name, ()), lacking)
    while ready:
        node = nodes[ready.pop()]
        if node.name in CHANCE or any(setting.nests for setting in node.settings):
            continue
        found.append(node)
        for name in node.outputs:
            ready += _release(waiting.pop(name, ()), lacking)
    return found


def _awaited(node: Node, unknown: AbstractSet[bytes]) -> set[bytes]:
    """The inputs that must be constants for the result to be one."""
    if node.name in (b"Shape", b"Size") and unknown.isdisjoint(node.inputs):
        return set()
    return {name for name in node.inputs if name}


def _release(waiting: Iterable[int], lacking: list[int]) -> list[int]:
    """The nodes among `waiting` that lack no input any more."""
    free = []
    for at in waiting:
        lacking[at] -= 1
        if not lacking[at]:
            free.append(at)
    return free


def _result(node: Node, inputs: list[Held], told: Stated | None) -> tuple[Held, float]:
    """The largest that a result can be, and its multiplications: infinitely many if not known."""
    name = node.name
    if node.domain:
        return Held(inf, ITEM), inf
    if name in MATRIX_PRODUCTS:
        crossed = _crossed([one.elements for one in inputs])
        return Held(crossed, _width(node, inputs)), crossed
    if name in STATED:
        return _stated_result(node, inputs, told), 0
    result = _plain_result(node, inputs)
    return (Held(inf, ITEM), inf) if result is None else (result, 0)


def _plain_result(node: Node, inputs: list[Held]) -> Held | None:
    """The largest result of an operator without products and stated shapes; None if not known."""
    name = node.name
    elements = [one.elements for one in inputs]
    if name in (b"Shape", b"Size"):
        return Held(RANK, ITEM)
    if name == b"Constant":
        width = max((WIDTHS.get(setting.kind, ITEM) for setting in node.settings), default=ITEM)
        return Held(sum(setting.elements for setting in node.settings), max(width, ITEM))
    if name in ALIKE:
        shape = inputs[0].shape if name in SHAPELY and len(inputs) == 1 else None
        return Held(max(elements, default=1), _width(node, inputs), shape)
    if name == b"NonZero":
        return Held(RANK * max(elements, default=1), ITEM)
    if name in JOINED:
        return Held(sum(elements), _width(node, inputs))
    if name in CROSSED:
        shape = None if name in PICKED else _broadcast([one.shape for one in inputs])
        return Held(_crossed(elements if shape is None else shape), _width(node, inputs), shape)
    return None


def _stated_result(node: Node, inputs: list[Held], told: Stated | None) -> Held:
    """The largest result of an operator whose shape another tensor states."""
    width = _width(node, inputs)
    if told is None:
        return Held(inf, width)
    enlarged = told.padded if node.name == b"Pad" else told.product
    if node.name in (b"ConstantOfShape", b"Range"):
        return Held(enlarged, width)
    return Held(enlarged * _crossed([one.elements for one in inputs[:1]]), width)


def _broadcast(shapes: Sequence[tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """The longest of the shapes along each axis, from the last; None if one is unknown."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return None
    rank = max(map(len, known), default=0)
    aligned = [(1,) * (rank - len(shape)) + shape for shape in known]
    return tuple(max(sizes) for sizes in zip(*aligned, strict=True))


def _crossed(elements: Sequence[float]) -> float:
    return prod(max(size, 1.0) for size in elements)


def _width(node: Node, inputs: list[Held]) -> int:
    """The bytes of an element of a result."""
    if node.name == b"Cast":
        kind = int((node.numbers(b"to") or [0])[0])
        return WIDTHS.get(kind, ITEM)
    if node.name == b"DequantizeLinear":
        return 4
    if node.name in ALIKE | JOINED and inputs:
        integers = node.name in (b"ArgMax", b"ArgMin", b"CastLike", b"TopK")
        return max(inputs[0].width, ITEM if integers else 0)
    return max((one.width for one in inputs), default=ITEM)


def _limit(made: Sequence[Made], size: int) -> int:
    """The largest limit with which all results stay in proportion to the size of the package."""
    for limit in RESULT_LIMITS:
        total = sum(min(one.size, limit) for one in made)
        read = sum(_bytes_read(one, limit) for one in made)
        if total <= MADE_BYTES + 16 * size and read <= READ_BYTES + 64 * size:
            return limit
    return 0


def _bytes_read(one: Made, limit: int) -> float:
    """The bytes that are read to make a result whose own parts are kept below the limit."""
    parts = sum(min(part, limit) if result else part for part, result in one.read)
    # A product of this many elements reads the shorter side of what it is made of again and again.
    shorter = min((part for part, _ in one.read), default=0)
    return parts + min(one.product, limit * shorter / 16) / ITEM
