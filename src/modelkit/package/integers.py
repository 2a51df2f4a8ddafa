"""Refuse a division of integers that may trap: the least integer divided by -1.

onnxruntime leaves it to the processor, which ends the process.

The types of a graph are not written in it. So each value is given the most it may be: no integer of
32 or 64 bits, one that is not negative, or any; and a division is refused only where both of its
sides may be any. Division by a constant, of and by sizes, and of floating-point numbers pass, which
is all that converters and exporters write. A test compares the tables with the schemas of ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf

from modelkit.package.operators import CONTRIB, MICROSOFT, Constant, Node, refused

# The levels of a value.
NO = 0  # no integer of 32 or 64 bits
NATURAL = 1  # one that is at least 0
ANY = 2
INT64 = 7  # as a data type
INTEGERS = frozenset((6, INT64))
# Those that give no integers of 32 or 64 bits.
FLOATING = frozenset(
    b"Acos Acosh And Asin Asinh Atan Atanh AveragePool BatchNormalization Celu Conv ConvTranspose Cos "
    b"Cosh DFT DequantizeLinear DynamicQuantizeLinear Elu Equal Exp FeatureVectorizer GRU Gelu "
    b"GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish "
    b"Hardmax InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual "
    b"LinearRegressor Log LogSoftmax LpNormalization LpPool Mish Normalizer Not OneHotEncoder Or "
    b"QLinearConv QLinearMatMul QuantizeLinear RMSNormalization RNN RandomNormal RandomNormalLike "
    b"RandomUniform RandomUniformLike Reciprocal RegexFullMatch RoiAlign RotaryEmbedding Round "
    b"SVMRegressor STFT Scaler Selu Sigmoid Sin Sinh Softmax Softplus Softsign Sqrt StringConcat "
    b"StringNormalizer Swish Tan Tanh TfIdfVectorizer ThresholdedRelu TreeEnsemble "
    b"TreeEnsembleRegressor Xor".split()
)
# Those that give integers of at least 0.
COUNTING = frozenset(b"ArgMax ArgMin NonMaxSuppression NonZero Shape Size".split())
# Those whose results are elements of the first input.
MOVING = frozenset(
    b"ArrayFeatureExtractor Compress DepthToSpace Expand Flatten Gather GatherElements GatherND "
    b"Identity Reshape ReverseSequence Slice SpaceToDepth Split Squeeze Tile Transpose Trilu "
    b"Unsqueeze".split()
)
# Those whose results are of the highest level of the inputs.
MIXING = frozenset(b"Concat Div Min Range Where".split())
# Those whose first result has the type of the first input, and of the last one.
ALIKE = frozenset(
    b"Abs Add BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil CenterCropPad Clip Col2Im CumSum Dropout "
    b"Einsum Erf Floor FusedGemm Gemm GridSample Imputer MatMul Max MaxPool MaxUnpool Mean "
    b"MeanVarianceNormalization Mod Mul Neg PRelu Pad Pow ReduceL1 ReduceL2 ReduceLogSum "
    b"ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Resize "
    b"ScatterElements ScatterND Sign Sub Sum TensorScatter TopK Unique Upsample".split()
)
LAST = frozenset((b"CastLike", b"OneHot"))
# onnxruntime's own that may give integers of 32 bits.
WHOLE = frozenset(
    b"EmbedLayerNormalization FusedGemm MurmurHash3 QEmbedLayerNormalization Trilu".split()
)


def check_divisions(
    nodes: Sequence[Node],
    known: Mapping[bytes, Constant],
    declared: Mapping[bytes, AbstractSet[int]],
    sources: Mapping[bytes, int],
) -> None:
    """Raise GraphError where a division may trap.

    Args:
        nodes: of the graph and its subgraphs. What one takes that stands behind it may be any integer,
            and so may a value whose name another one has too.
        known: the constants by name.
        declared: the data types by name that a graph declares of its own values; onnxruntime refuses
            one that declares another than it infers.
        sources: how many values there are of a name.
    """
    levels = {name: level_of(each.kind, each.numbers) for name, each in known.items()}
    for name, kinds in declared.items():
        if sources[name] <= 1 and kinds.isdisjoint({0, *INTEGERS}):
            levels.setdefault(name, NO)
    for node in nodes:
        found = [levels.get(name, ANY) if name else NO for name in node.inputs]
        declares = NO in map(levels.get, filter(None, node.outputs))
        if node.name == b"Div" and found[:2] == [ANY, ANY] and not declares:
            _check_divisor(node, known.get(node.inputs[1]))
        elif node.name == b"STFT":
            _check_frames(node, known)
        for name, level in zip(node.outputs, _levels(node, found), strict=False):
            if sources[name] == 1:
                levels.setdefault(name, level)


def level_of(kind: int, numbers: Sequence[float]) -> int:
    """The level of a constant. Infinity at the end of its numbers stands for those that are missing."""
    if kind not in INTEGERS:
        return NO
    return NATURAL if all(0 <= number < inf for number in numbers) else ANY


def _check_divisor(node: Node, divisor: Constant | None) -> None:
    """Raise GraphError unless a division is by a constant without -1."""
    if divisor is None or {-1, inf}.intersection(divisor.numbers):
        raise refused(
            node,
            "divides integers by others that may be -1, which ends the process where the first is the "
            "least integer; divide by a constant, or by Max(divisor, 1)",
        )


def _check_frames(node: Node, known: Mapping[bytes, Constant]) -> None:
    """Raise GraphError unless a constant says how long the frames of a transform are, at least 1.

    A frame is as long as its window, or as `frame_length` says, and a window of another length is
    an error.
    """
    window, length = (b"".join(node.inputs[at : at + 1]) for at in (2, 3))
    found = known.get(length or window)
    numbers = [] if found is None else found.numbers
    if not numbers or (length and min(numbers) < 1):
        raise refused(
            node,
            "may have frames of length 0, which end the process; make its frame_length a constant of "
            "at least 1",
        )


def _levels(node: Node, inputs: Sequence[int]) -> list[int]:
    """The levels of the outputs of an operator."""
    name = node.name
    own = node.domain == MICROSOFT.encode()
    if name in (CONTRIB - WHOLE if own else FLOATING):
        return [NO] * len(node.outputs)
    if name in MOVING:
        return [*inputs[:1]] * len(node.outputs)
    if name.endswith(b"Classifier"):
        return [ANY, NO]
    return [_level(node, inputs)]


def _level(node: Node, inputs: Sequence[int]) -> int:
    """The level of the first output of an operator, of which others may be any integers."""
    name, first = node.name, max(inputs[:1], default=ANY)
    if name in COUNTING:
        return NATURAL
    if name in MIXING:
        return max(inputs, default=ANY)
    if name == b"Max" and NATURAL in inputs:
        return NATURAL
    if name == b"Clip" and inputs[1:2] == [NATURAL] and ANY not in inputs[2:]:
        return NATURAL
    if name in ALIKE or name in LAST:
        return ANY if (inputs or [ANY])[-1 if name in LAST else 0] else NO
    if name == b"Cast" and INTEGERS.isdisjoint(node.numbers(b"to")):
        return NO
    if name == b"Cast" and node.numbers(b"to") == [INT64] and first == NATURAL:
        return NATURAL
    kinds = [setting.kind for setting in node.settings if setting.name.startswith(b"values_")]
    if name == b"LabelEncoder" and kinds and INTEGERS.isdisjoint(kinds):
        return NO
    if name == b"ConstantOfShape":
        return max((level_of(each.kind, each.numbers) for each in node.settings), default=NO)
    return ANY
