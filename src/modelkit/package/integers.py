"""Refuse a division of integers that may trap: that of the least integer by -1.

onnxruntime leaves it to the processor, which ends the process.

The types of a graph are not written in it. So each value is given the most it may be: no integer of
32 or 64 bits, one that is not negative, or any; and a division is refused only where both of its
sides may be any. Division by a constant, of and by sizes, and of floating-point numbers pass, which
is all that converters and exporters write.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf

from modelkit.errors import GraphError
from modelkit.package.operators import Node

# The levels of a value.
NO = 0  # no integer of 32 or 64 bits
NATURAL = 1  # one that is at least 0
ANY = 2
INT32 = 6  # as a data type
INT64 = 7
INTEGERS = frozenset((INT32, INT64))
# Those that give no integers of 32 or 64 bits.
FLOATING = frozenset(
    b"BatchNormalization Conv ConvTranspose DequantizeLinear Elu Erf Exp Gelu "
    b"InstanceNormalization IsInf IsNaN LayerNormalization Log LogSoftmax LpNormalization "
    b"QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike "
    b"Reciprocal Sigmoid Softmax Softplus Sqrt Tanh And Equal Greater GreaterOrEqual Less "
    b"LessOrEqual Not Or Xor DynamicQuantizeLinear".split()
)
# Those that give integers of at least 0.
COUNTING = frozenset(
    b"ArgMax ArgMin EyeLike Multinomial NonMaxSuppression NonZero Shape Size".split()
)
# Those whose results are of the level of the first input.
MOVING = frozenset(
    b"ArrayFeatureExtractor Compress DepthToSpace Expand Flatten Gather GatherElements "
    b"GatherND Identity ReduceMax ReduceMin Reshape ReverseSequence Slice SpaceToDepth "
    b"Split Squeeze Tile Transpose Trilu Unsqueeze".split()
)
# Those whose results are of the highest level of the inputs.
MIXING = frozenset(b"Concat Div Min Range Where".split())
BY_PLACE = frozenset(b"Pad ScatterElements ScatterND".split())  # or sizes, their second input
# Those whose first result is of the level of the first input, while the others count.
BESIDE = frozenset(b"MaxPool TopK Unique".split())
# Those that give integers whatever their first input is.
ALWAYS_INTEGER = frozenset(
    b"CastMap CategoryMapper ConvInteger Imputer LabelEncoder LinearClassifier "
    b"MatMulInteger MurmurHash3 SVMClassifier TreeEnsembleClassifier".split()
)
KNOWN_DOMAINS = (b"", b"ai.onnx.ml", b"com.microsoft")


Constants = Sequence[tuple[int, Sequence[float]]]  # of one name, data types and numbers


def level_of(kind: int, numbers: Sequence[float]) -> int:
    """The level of a constant of a data type.

    Infinity at the end of the numbers stands for those that are missing.
    """
    if kind not in INTEGERS:
        return NO
    return NATURAL if all(0 <= number < 2.0**63 for number in numbers) else ANY


def is_safe(kind: int, numbers: Sequence[float]) -> bool:
    """Whether one may divide by a constant of a data type."""
    return kind not in INTEGERS or not any(number in (-1, inf) for number in numbers)


def check_divisions(
    nodes: Sequence[Node],
    constants: Mapping[bytes, Constants],
    declared: Mapping[bytes, AbstractSet[int]],
    functions: AbstractSet[bytes],
) -> None:
    """Raise GraphError where a division may trap.

    Args:
        nodes: of the graph, its subgraphs and its functions, in any order.
        constants: data type and numbers of the initializers of each name.
        declared: the data types of inputs and other values by name, as the graph declares them;
            onnxruntime refuses one that declares another than it infers.
        functions: the names of those of the graph.
    """
    divisions = [node for node in nodes if node.name == b"Div" and len(node.inputs) == 2]
    transforms = [node for node in nodes if node.name == b"STFT"]
    if not divisions and not transforms:
        return
    made = Counter(name for node in nodes for name in node.outputs)
    known = _known_constants(nodes, constants, made)
    for node in transforms:
        _check_frames(node, known)
    doubtful = [node for node in divisions if not _divides_safely(node, known)]
    if not doubtful:
        return
    fixed = _fixed_levels(known, declared, made)
    found = _spread_levels(nodes, fixed, functions)
    for node in doubtful:
        _check_division(node, found)


def _check_division(node: Node, found: Mapping[bytes, int]) -> None:
    """Raise GraphError where both sides of a division may be any integer."""
    if any(found.get(name, ANY) != ANY for name in node.inputs):
        return
    output = (node.outputs or (b"",))[0].decode("utf-8", "backslashreplace")
    raise GraphError(
        f"operator Div of {output!r} is refused: it divides integers by others that may be -1, "
        "which ends the process where the first is the least integer; divide by a constant, or by "
        "Max(divisor, 1)"
    )


def _known_constants(
    nodes: Sequence[Node], constants: Mapping[bytes, Constants], made: Counter[bytes]
) -> dict[bytes, Constants]:
    """Initializers that no node overwrites, and what operators of the name Constant give."""
    known = {name: several for name, several in constants.items() if name not in made}
    for node in nodes:
        if node.name == b"Constant" and all(made[name] == 1 for name in node.outputs):
            told = [(setting.kind, setting.numbers) for setting in node.settings]
            known |= dict.fromkeys(node.outputs, told)
    return known


def _divides_safely(node: Node, known: Mapping[bytes, Constants]) -> bool:
    """Whether all constants that a division may divide by are safe."""
    several = known.get(node.inputs[1], [(INT64, [-1])])
    return all(is_safe(kind, numbers) for kind, numbers in several)


def _check_frames(node: Node, known: Mapping[bytes, Constants]) -> None:
    """Raise GraphError unless a constant says how long the frames of a transform are, at least 1.

    A frame is as long as its window, or as `frame_length` says, and a window of another length is
    an error.
    """
    window = b"".join(node.inputs[2:3])
    length = b"".join(node.inputs[3:4])
    told = [numbers for _, numbers in known.get(length or window, ())]
    sound = all(len(numbers) > 0 for numbers in told)
    if length:
        sound = sound and all(min(numbers) >= 1 for numbers in told)
    if told and sound:
        return
    output = (node.outputs or (b"",))[0].decode("utf-8", "backslashreplace")
    raise GraphError(
        f"operator STFT of {output!r} is refused: frames of length 0 end the process; make its "
        "frame_length a constant of at least 1"
    )


def _fixed_levels(
    known: Mapping[bytes, Constants],
    declared: Mapping[bytes, AbstractSet[int]],
    made: Counter[bytes],
) -> dict[bytes, int]:
    """The levels of constants, and of values that are declared as no integers."""
    fixed = {}
    for name, several in known.items():
        if several:
            fixed[name] = max(level_of(kind, numbers) for kind, numbers in several)
    for name, kinds in declared.items():
        undoubted = INTEGERS.isdisjoint(kinds) and 0 not in kinds
        if undoubted and made[name] <= 1 and name not in fixed:
            fixed[name] = NO
    return fixed


def _spread_levels(
    nodes: Sequence[Node], fixed: Mapping[bytes, int], functions: AbstractSet[bytes]
) -> dict[bytes, int]:
    """The highest level that each value may have; levels only rise, so that this ends."""
    found = dict.fromkeys((name for node in nodes for name in node.outputs), NO)
    found |= fixed
    users = _users(nodes)
    waiting = list(reversed(range(len(nodes))))
    while waiting:
        node = nodes[waiting.pop()]
        unknown = node.name in functions
        levels = [ANY] * len(node.outputs) if unknown else _levels(node, found)
        for name, level in zip(node.outputs, levels, strict=False):
            if level > found[name] and name not in fixed:
                found[name] = level
                waiting += users[name]
    return found


def _users(nodes: Sequence[Node]) -> dict[bytes, list[int]]:
    """By name of a value, the places of the nodes that take it."""
    users: dict[bytes, list[int]] = defaultdict(list)
    for at, node in enumerate(nodes):
        for name in node.inputs:
            users[name].append(at)
    return users


def _levels(node: Node, found: Mapping[bytes, int]) -> Iterable[int]:
    """The level of each output of an operator."""
    inputs = [found.get(name, ANY) if name else NO for name in node.inputs]
    first = inputs[0] if inputs else NO
    others = len(node.outputs) - 1
    known = node.domain in KNOWN_DOMAINS and not any(setting.nests for setting in node.settings)
    if known and node.name in BESIDE:
        return [first] + [NATURAL] * others
    level = _level_alike(node, inputs, first) if known else ANY
    return [level] * len(node.outputs)


def _level_alike(node: Node, inputs: Sequence[int], first: int) -> int:
    """The level of the outputs of an operator whose outputs are all alike."""
    if node.name in MOVING:
        return first
    if node.name in COUNTING:
        return NATURAL
    if node.name in FLOATING:
        return NO
    if node.name in MIXING:
        return max(inputs, default=NO)
    if node.name in BY_PLACE:
        return max([first, *inputs[2:3]])
    return _level(node, inputs, first)


def _level(node: Node, inputs: Sequence[int], first: int) -> int:
    """The level of the outputs of an operator that has a rule of its own, or none."""
    name = node.name
    if name == b"Cast":
        if not any(number in INTEGERS for number in node.numbers(b"to")):
            return NO
        return NATURAL if first == NATURAL else ANY
    if name in (b"Constant", b"ConstantOfShape"):
        levels = [level_of(setting.kind, setting.numbers) for setting in node.settings]
        return max(levels, default=NO)
    if name == b"Max" and NATURAL in inputs:
        return NATURAL
    if name == b"Clip" and first:
        return NATURAL if inputs[1:2] == [NATURAL] else ANY
    if name in (b"CastLike", b"OneHot"):
        return ANY if inputs and inputs[-1] else NO
    if name in ALWAYS_INTEGER and not _gives_others(node, first):
        return ANY
    # Of others, an output has the type of the first input, but of onnxruntime's own. Sums and
    # products of integers that are not negative may still pass the largest one, and begin at the
    # least.
    return ANY if first and not node.domain else NO


def _gives_others(node: Node, first: int) -> bool:
    """Whether an operator that may give integers is told, or given, something else.

    A LabelEncoder gives what stands in its one tensor of values.
    """
    if node.name == b"Imputer":
        return not first
    if node.name != b"LabelEncoder":
        return False
    told = [setting for setting in node.settings if setting.name.startswith(b"values_")]
    kinds = [setting.kind for setting in told if setting.name == b"values_tensor"]
    return len(told) == 1 and len(kinds) == 1 and kinds[0] not in (0, *INTEGERS)
