"""Check the attributes and inputs of operators where onnxruntime does not look, or looks too late.

Each rule here stands for a graph of one operator that ended the process, or answered with memory
that nobody wrote; `tests/helpers/fuzz_operators.py` finds them. Names and attributes are ONNX's, as
bytes, since that is how they lie in a graph; tests compare the tables with the schemas of the
`onnx` library, which would take 100 ms to import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from modelkit.errors import GraphError

MICROSOFT = "com.microsoft"
# onnxruntime's own operators that its optimizers and quantizers, and the converters of
# scikit-learn, write into graphs. It has a hundred more, which nobody checks against strange input:
# two of the first five that were tried crashed.
CONTRIB = frozenset(
    b"Attention BiasAdd BiasGelu BiasSoftmax BiasSplitGelu CDist "
    b"ConvTransposeWithDynamicPads DequantizeLinear DynamicQuantizeLSTM "
    b"DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedConv FusedGemm "
    b"FusedMatMul GatherBlockQuantized Gelu GemmFastGelu GridSample GroupNorm "
    b"GroupQueryAttention MatMulIntegerToFloat MatMulNBits MultiHeadAttention MurmurHash3 "
    b"NhwcMaxPool QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool "
    b"QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul "
    b"QLinearSigmoid QLinearSoftmax QuantizeLinear QuickGelu RotaryEmbedding SkipGroupNorm "
    b"SkipLayerNormalization SkipSimplifiedLayerNormalization Tokenizer TransposeMatMul "
    b"Trilu".split()
)
# Integers that say yes or no, in every operator that has them.
FLAGS = frozenset(
    b"align_corners allowzero antialias broadcast ceil_mode center_point_box "
    b"count_include_pad detect_negative detect_positive exclude_outside exclusive fmod "
    b"input_forget interleaved inverse is_case_sensitive is_causal is_test keepdims largest "
    b"layout linear_before_reset new_axis noop_with_empty_axes one_class onesided "
    b"output_sequence periodic reverse saturate select_last_index sorted spatial "
    b"storage_order training_mode transA transB upper zeros".split()
)
PADS = "NOTSET SAME_UPPER SAME_LOWER VALID"
TRANSFORMS = "NONE SOFTMAX LOGISTIC SOFTMAX_ZERO PROBIT"
KERNELS = "LINEAR POLY RBF SIGMOID"
DIRECTIONS = "forward reverse bidirectional"
SCATTERS = "none add mul max min"
LOSSES = "none mean sum"
# What a text may be, by operator and attribute.
ALLOWED_TEXTS = {
    (operator.encode(), attribute.encode()): frozenset(values.encode().split())
    for attribute, operators in {
        "aggregate_function": {"TreeEnsembleRegressor": "AVERAGE SUM MIN MAX"},
        "approximate": {"Gelu": "none tanh"},
        "auto_pad": dict.fromkeys(
            ["AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool",
             "QLinearConv"], PADS
        ),
        "case_change_action": {"StringNormalizer": "NONE LOWER UPPER"},
        "cast_to": {"CastMap": "TO_FLOAT TO_STRING TO_INT64"},
        "coordinate_transformation_mode": {
            "Resize": "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric "
                      "tf_half_pixel_for_nn tf_crop_and_resize",
            "RoiAlign": "half_pixel output_half_pixel",
        },
        "direction": {
            "BitShift": "LEFT RIGHT", "GRU": DIRECTIONS, "LSTM": DIRECTIONS, "RNN": DIRECTIONS,
        },
        "keep_aspect_ratio_policy": {"Resize": "stretch not_larger not_smaller"},
        "kernel_type": {"SVMClassifier": KERNELS, "SVMRegressor": KERNELS},
        "map_form": {"CastMap": "DENSE SPARSE"},
        "mode": {
            "DepthToSpace": "DCR CRD", "GridSample": "linear nearest cubic bilinear bicubic",
            "Pad": "constant reflect edge wrap", "Resize": "nearest linear cubic",
            "RoiAlign": "avg max", "SpaceToDepth": "DCR CRD", "TfIdfVectorizer": "TF IDF TFIDF",
            "Upsample": "nearest linear bilinear cubic",
        },
        "nearest_mode": {"Resize": "round_prefer_floor round_prefer_ceil floor ceil simple"},
        "norm": {"Normalizer": "MAX L1 L2"},
        "padding_mode": {"GridSample": "zeros border reflection"},
        "post_transform": dict.fromkeys(
            ["LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor",
             "TreeEnsembleClassifier", "TreeEnsembleRegressor"], TRANSFORMS
        ),
        "reduction": {
            "NegativeLogLikelihoodLoss": LOSSES, "SoftmaxCrossEntropyLoss": LOSSES,
            "ScatterElements": SCATTERS, "ScatterND": SCATTERS,
        },
        "round_mode": {"Cast": "up down nearest", "CastLike": "up down nearest"},
    }.items()
    for operator, values in operators.items()
}  # fmt: skip
# The least and the most that a number may be, by operator and attribute.
POSITIVE = 2.0**-149  # the smallest float32 above zero
LARGEST_FLOAT = 3.4e38
RANGES = {
    (b"Cast", b"to"): (0, 64),  # onnxruntime keeps the last 32 bits
    (b"FeatureVectorizer", b"inputdimensions"): (0, 1 << 24),
    **{
        (operator, heads): (0, 1 << 16)
        for operator in (
            b"Attention",
            b"GroupQueryAttention",
            b"MultiHeadAttention",
            b"QAttention",
            b"RotaryEmbedding",
        )
        for heads in (b"num_heads", b"kv_num_heads", b"q_num_heads")
    },
    (b"GatherND", b"batch_dims"): (0, 64),
    (b"LpNormalization", b"p"): (1, 2),
    (b"RandomNormal", b"scale"): (POSITIVE, LARGEST_FLOAT),
    (b"RandomNormalLike", b"scale"): (POSITIVE, LARGEST_FLOAT),
    (b"TreeEnsemble", b"aggregate_function"): (0, 3),
    (b"TreeEnsemble", b"post_transform"): (0, 4),
}
RECURRENT = frozenset((b"GRU", b"LSTM", b"RNN"))  # which an empty batch ends
UNIFORM = frozenset((b"RandomUniform", b"RandomUniformLike"))
EQUATION = re.compile(rb"(?:[A-Za-z, ]|\.\.\.)*(?:->(?:[A-Za-z ]|\.\.\.)*)?")
# Operators of any number of inputs, none of which may be left out.
VARIADIC = frozenset(
    b"Concat Einsum FeatureVectorizer Max Mean Min QLinearConcat SequenceConstruct Sum".split()
)
# Operators whose last input may be absent, but must not be an empty name.
NAMED_LAST = frozenset((b"DFT", b"LayerNormalization"))
# The inputs that the kernel takes for granted.
LEAST_INPUTS = {b"QLinearLeakyRelu": 5, b"QLinearSigmoid": 5}
# The first of the inputs of ONNX's Attention that hold a past. A past of another shape ends the
# process, and a Model has none.
PAST = 4
# The inputs that scale another, whose columns they must fit: one number, or one for each column.
SCALES = {b"DynamicQuantizeMatMul": ((1, 2),), b"MatMulIntegerToFloat": ((0, 2), (1, 3))}
# The inputs of quantised operators of which the kernel reads a number without asking whether there
# is one.
NUMBERS = dict.fromkeys(
    b"QLinearAveragePool QLinearGlobalAveragePool QLinearLeakyRelu QLinearSigmoid "
    b"QLinearSoftmax".split(),
    (1, 2, 3, 4),
) | {
    b"DFT": (1, 2),
    b"QGemm": (1, 2, 4, 5, 7, 8),
    b"QLinearAdd": (1, 2, 4, 5, 6, 7),
    b"QLinearConcat": (0, 1, *(at for at in range(3, 3000) if at % 3 != 2)),
    b"QLinearMul": (1, 2, 4, 5, 6, 7),
}


class Constant(NamedTuple):
    """A constant: its data type, its numbers, its shape if that is known, its elements and its bytes.

    A number more than a shape has, which may be infinity, stands for more of them than are kept.
    """

    kind: int
    numbers: list[float]
    shape: tuple[int, ...] | None
    elements: float
    size: float


class Setting(NamedTuple):
    """An attribute of an operator.

    Attributes:
        name: of the attribute.
        numbers: those it holds; of a long list the beginning.
        kind: their data type.
        text: its text, empty where it has none.
        elements: of its lists and tensors.
        nests: whether it holds a graph.
    """

    name: bytes
    numbers: list[float]
    kind: int
    text: bytes
    elements: float
    nests: bool


class Node(NamedTuple):
    """A call of an operator; the domain of ONNX is the empty one."""

    domain: bytes
    name: bytes
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    settings: list[Setting]

    @property
    def is_constant(self) -> bool:
        """Whether it is ONNX's Constant, whose outputs are taken for what they hold."""
        return self.name == b"Constant" and not self.domain

    def numbers(self, name: bytes) -> list[float]:
        """What an attribute holds."""
        return next((each.numbers for each in self.settings if each.name == name), [])


def is_rare(node: Node) -> bool:
    """Whether it is one of onnxruntime's own operators that nothing writes."""
    return node.domain == MICROSOFT.encode() and node.name not in CONTRIB


def check_operator(node: Node) -> None:
    """Raise GraphError where onnxruntime would not survive what an operator is given."""
    _check_inputs(node)
    for setting in node.settings:
        _check_setting(node, setting)
    if node.name in UNIFORM:
        low = (node.numbers(b"low") or [0.0])[0]
        high = (node.numbers(b"high") or [1.0])[0]
        if not -LARGEST_FLOAT / 2 <= low <= high <= LARGEST_FLOAT / 2:
            raise refused(node, f"draws numbers between {low} and {high}")


def _check_inputs(node: Node) -> None:
    if node.name in VARIADIC and not all(node.inputs):
        raise refused(node, "has an input without a name")
    if node.name in NAMED_LAST and node.inputs and not node.inputs[-1]:
        raise refused(node, "has a last input without a name")
    if node.name == b"Attention" and not node.domain and any(node.inputs[PAST:]):
        raise refused(node, "takes keys and values of a past")
    least = LEAST_INPUTS.get(node.name, 0)
    if len(node.inputs) < least or not all(node.inputs[:least]):
        raise refused(node, f"has fewer than {least} inputs")


def check_scales(
    nodes: Sequence[Node],
    constants: Mapping[bytes, Sequence[Constant]],
    known: Mapping[bytes, Constant],
    sources: Mapping[bytes, int],
) -> None:
    """Raise GraphError where the scales of a quantised operator have another shape, or none.

    `constants` are all of each name, `known` those whose name nothing else has, and `sources` how many
    values there are of each name. What a DynamicQuantizeLinear gives is one number.
    """
    shapes = {name: constant.shape for name, constant in known.items()}
    for node in nodes:
        if node.name == b"DynamicQuantizeLinear" and not node.domain:
            shapes |= {name: () for name in node.outputs[1:] if sources[name] == 1}
    for node in nodes:
        found = [shapes.get(name) for name in node.inputs] + [None] * 4
        for matrix, scale in SCALES.get(node.name, ()):
            if found[scale] not in ((), (1,), (found[matrix] or (1,))[-1:]):
                raise refused(
                    node, f"scales input {matrix} by a value that is not one number for each column"
                )
        for at in NUMBERS.get(node.name, ()):
            shape = found[at] if node.inputs[at : at + 1] > (b"",) else ()
            if shape is None or 0 in shape:
                raise refused(node, f"has an input {at} that is not a constant, or an empty one")
        held = [each.shape or () for name in node.inputs for each in constants.get(name, ())]
        if node.name in RECURRENT and any(0 in shape for shape in held):
            raise refused(node, "has an input that is empty")


def _check_setting(node: Node, setting: Setting) -> None:
    if (node.name, setting.name) == (b"Unique", b"axis"):
        raise refused(
            node, "looks along an axis, which ends the process where another one is empty"
        )
    if not _is_sound(node, setting):
        value = decoded(setting.text) or setting.numbers[:4]
        raise refused(
            node,
            f"has the attribute {decoded(setting.name)!r:.40} of {value!r:.80}, which ONNX does not define",
        )


def _is_sound(node: Node, setting: Setting) -> bool:
    """Whether an attribute holds what ONNX defines for it, as far as that is checked."""
    key = (node.name, setting.name)
    if setting.name in FLAGS:
        return all(number in (0, 1) for number in setting.numbers)
    if key in ALLOWED_TEXTS:
        return setting.text in ALLOWED_TEXTS[key]
    if key in RANGES:
        least, most = RANGES[key]
        return all(least <= number <= most for number in setting.numbers or [0])
    return key != (b"Einsum", b"equation") or EQUATION.fullmatch(setting.text) is not None


def decoded(text: bytes) -> str:
    """A text of the graph, whatever bytes it holds."""
    return text.decode("utf-8", "backslashreplace")


def refused(node: Node, what: str) -> GraphError:
    """The error of an operator, `what` of which is refused."""
    first = decoded((node.outputs or (b"",))[0])
    return GraphError(f"operator {decoded(node.name)} of {first!r} is refused: it {what}")
