"""Bound the tensors that a graph makes of constants alone, and how many of them are computed at load.

onnxruntime computes at load what depends on constants only, and keeps each result below a limit of
bytes. Forty results of 240 MiB, or a hundred products of large matrices, come from a file of 5 KB
all the same. So the limit of one result is lowered until all that is read and made is in proportion
to the size of the package: an operator that only moves or maps numbers makes as much as it reads, and
any other one as much as the limit. What is not computed at load is computed by each run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf, prod
from typing import NamedTuple

from modelkit.errors import GraphError
from modelkit.package.operators import Constant, Node, decoded

ITEM = 8  # the bytes of an element of a tensor at most, other than a complex number or a string
MAX_STATED_BYTES = 1 << 30  # of a tensor whose shape the graph states
STRING = 8  # as a data type
STRING_BYTES = 40  # of the shortest string
FEW_NUMBERS = 64  # more of them are no shape
# The limits of one result in bytes, of which the first that fits is taken.
RESULT_LIMITS = (1 << 28, 1 << 26, 1 << 24, 1 << 22, 1 << 20, 1 << 17, 1 << 14)
TOUCHED_BYTES = 64 << 20  # of all results and what they are made of, and 32 times the package
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
# Operators whose work is in proportion to what they read and make, and how many elements a result has at
# most for those of the inputs. Those of SAME are no wider than the widest input.
SAME = frozenset(
    b"Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Clip Compress Cos Cosh CumSum "
    b"DepthToSpace Dropout Elu Erf Exp Flatten Floor GatherElements Gelu HardSigmoid HardSwish Identity "
    b"LayerNormalization LeakyRelu Log LogSoftmax LpNormalization Mish Neg Not Reciprocal ReduceL1 "
    b"ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    b"ReduceSumSquare Relu Reshape Round ScatterElements ScatterND Selu Sigmoid Sign Sin Sinh Slice "
    b"Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Tan Tanh ThresholdedRelu Transpose "
    b"Trilu Unsqueeze".split()
)
FILLED = frozenset((b"ConstantOfShape", b"Range"))
SPREAD = frozenset(
    (b"Expand", b"OneHot", b"Tile")
)  # which make as many of each element as is stated
SHAPES = frozenset((b"Shape", b"Size"))
# Of each element, or of those of inputs whose shapes are made equal.
ELEMENTWISE = frozenset(
    b"Abs Add And Cast Ceil Clip DequantizeLinear Div Equal Erf Exp Floor Identity Log Max Mean Min Mod "
    b"Mul Neg Not Or Pow Reciprocal Relu Round Sign Sqrt Sub Sum Tanh Where Xor".split()
)
MATRIX_PRODUCTS = frozenset((b"Gemm", b"MatMul"))
ELEMENTS: dict[bytes, Callable[[list[float]], float]] = {
    **dict.fromkeys(SAME, max),
    **dict.fromkeys(
        b"ArgMax ArgMin Cast CastLike DequantizeLinear IsInf IsNaN QuantizeLinear TopK Unique".split(),
        max,
    ),
    **dict.fromkeys(
        b"Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Gather GatherND Gemm Greater "
        b"GreaterOrEqual Less LessOrEqual MatMul Max Mean Min Mod Mul Or Pow PRelu Sub Sum Where "
        b"Xor".split(),
        prod,
    ),
    **dict.fromkeys(
        b"ConstantOfShape Expand If NonZero OneHot Pad Range Tile".split(), lambda _: inf
    ),
    **dict.fromkeys(SHAPES, lambda _: 64),  # numbers of a shape, whatever it is of
    b"Concat": sum,
}
CHANCE = frozenset(
    b"Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike".split()
)
HEAVY = 1 << 28  # multiplications


class Folding(NamedTuple):
    """Which results of constants are computed at load.

    `limit` is the size in bytes up to which a result is kept, 0 where none is computed. `costly`
    says that results that are left to the runs may take time out of proportion, whatever the rows are.
    """

    limit: int
    costly: bool


class Stated(NamedTuple):
    """What the constants of one name would state as a shape; of several constants, the largest.

    The largest tensor has `shape`, `least` and `most` bound their numbers, and `step` is the
    smallest magnitude that is not zero.
    """

    shape: list[float]
    least: float
    most: float
    step: float


def state(several: Sequence[list[float]]) -> Stated:
    """What constants of one name, each with its numbers, would state."""
    numbers = [number for shape in several for number in shape]
    steps = [abs(number) for number in numbers if number]
    return Stated(
        shape=max(several, key=_elements),
        least=min(numbers),
        most=max(numbers),
        step=min(steps, default=1.0),
    )


def _elements(shape: Sequence[float]) -> float:
    return inf if len(shape) > FEW_NUMBERS else prod(max(float(size), 1.0) for size in shape)


def check_stated(
    nodes: Iterable[Node], constants: Mapping[bytes, Sequence[Constant]]
) -> dict[bytes, float]:
    """The most elements of each value whose shape is stated. Raises GraphError for too many."""
    numbers = {name: [each.numbers for each in several] for name, several in constants.items()}
    stated = {name: state(several) for name, several in numbers.items() if any(several)}
    found: dict[bytes, float] = {}
    for node in nodes:
        shape = _stated(node, stated)
        if not shape:
            continue
        made = _elements(shape)
        found |= {name: max(made, found.get(name, 0)) for name in node.outputs}
        if not made * ITEM <= MAX_STATED_BYTES:
            raise GraphError(
                f"{decoded(node.name)} makes a tensor of the size {list(shape[:FEW_NUMBERS])}, which is "
                f"more than {MAX_STATED_BYTES >> 30} GiB"
            )
    return found


def _stated(node: Node, stated: Mapping[bytes, Stated]) -> list[float]:
    """The shape of the result of an operator, as constants state it; empty where none does."""
    if node.name == b"Range":
        ends = [stated[name] for name in node.inputs[:3] if name in stated]
        return [_length(*ends)] if len(ends) == 3 else []
    at = SHAPED.get(node.name, len(node.inputs))
    if at < len(node.inputs):
        found = stated.get(node.inputs[at])
        return [] if found is None else found.shape
    return node.numbers(SHAPED_BY_ATTRIBUTE.get(node.name, b""))


def _length(start: Stated, stop: Stated, step: Stated) -> float:
    """The most elements of a Range between constants."""
    return max(stop.most - start.least, start.most - stop.least) / step.step


def choose_folding(
    nodes: Sequence[Node],
    constants: Mapping[bytes, Sequence[Constant]],
    sources: Mapping[bytes, int],
    inputs: Mapping[bytes, bool],
    stated: Mapping[bytes, float],
    size: int,
) -> Folding:
    """What to compute at load of a package of `size` bytes.

    Args:
        nodes: of the graph and its subgraphs.
        constants: by name.
        sources: how many values there are of a name.
        inputs: of the graph and its subgraphs, and whether the shape of one is known to vary.
        stated: what `check_stated` gave.
        size: of graph and weights in bytes.
    """
    elements = {name: max(each.elements for each in several) for name, several in constants.items()}
    held = {name: max(each.size for each in several) for name, several in constants.items()}
    cone = _cone(nodes, sources, inputs)
    if any(node.domain or node.name not in ELEMENTS for node in cone):
        return Folding(0, costly=True)
    shapes = {name: each[0].shape for name, each in constants.items() if sources[name] == 1}
    heavy = False
    for node in cone:
        shape = _shape(node, shapes)
        made = _made(node, elements, stated) if shape is None else prod(shape)
        shapes |= {name: shape for name in node.outputs if sources[name] == 1}
        width = STRING_BYTES if node.numbers(b"to") == [STRING] else ITEM
        heavy |= node.name in MATRIX_PRODUCTS and made > HEAVY
        widest = max([held.get(name, inf) for name in node.inputs if name], default=0)
        for name in node.outputs:
            elements[name] = max(made, elements.get(name, 0))
            held[name] = max(widest if node.name in SAME else width * made, held.get(name, 0))
    most = TOUCHED_BYTES + 32 * size
    limit = next((each for each in RESULT_LIMITS if _touched(cone, held, each) <= most), 0)
    return Folding(limit, costly=heavy and limit < RESULT_LIMITS[0])


def _cone(
    nodes: Sequence[Node], sources: Mapping[bytes, int], inputs: Mapping[bytes, bool]
) -> list[Node]:
    """The nodes that may depend on constants alone.

    A name may stand for several tensors: it counts as a constant where any of them is one. So does
    a shape, unless it is of an input whose shape is not fixed, and what stands behind the node that
    takes it.
    """
    found = []
    varying = Counter(inputs.keys())
    for node in nodes:
        if node.name in SHAPES and not any(inputs.get(name) for name in node.inputs):
            found.append(node)
            continue
        chance = node.name in CHANCE or (
            node.name != b"If" and any(setting.nests for setting in node.settings)
        )
        if chance or any(0 < sources[name] <= varying[name] for name in node.inputs):
            varying.update(node.outputs)
        elif not node.is_constant:
            found.append(node)
    return found


def _shape(node: Node, shapes: Mapping[bytes, tuple[int, ...] | None]) -> tuple[int, ...] | None:
    """The longest of the shapes along each axis, from the last; None if it is not known."""
    known = [shapes.get(name) for name in node.inputs if name]
    found = [shape for shape in known if shape is not None]
    if node.name not in ELEMENTWISE or len(found) < len(known):
        return None
    rank = max(map(len, found), default=0)
    aligned = [(1,) * (rank - len(shape)) + shape for shape in found]
    return tuple(map(max, zip(*aligned, strict=True)))


def _made(node: Node, elements: Mapping[bytes, float], stated: Mapping[bytes, float]) -> float:
    """The most elements of a result."""
    counts = [elements.get(name, inf) for name in node.inputs if name] or [1]
    if node.name in FILLED | SPREAD:
        each = counts[0] if node.name in SPREAD else 1
        return each * stated.get(node.outputs[0], inf) if node.outputs else 0
    return ELEMENTS[node.name](counts)


def _touched(cone: Iterable[Node], held: Mapping[bytes, float], limit: int) -> float:
    """The bytes that are read and made at load where a result is kept below the limit."""
    results = {name for node in cone for name in node.outputs}
    total = 0.0
    for node in cone:
        names = filter(None, node.inputs)
        parts = [min(held.get(name, 0), limit if name in results else inf) for name in names]
        made = max((held[name] for name in node.outputs), default=0)
        total += sum(parts) + min(made, limit)
        if node.name in MATRIX_PRODUCTS:  # which reads its shorter side again and again
            total += prod(parts) / 256
    return total
