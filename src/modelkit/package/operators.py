"""Check what operators are told where onnxruntime does not look, or looks too late.

Each rule here stands for a graph of one operator that ended the process, or answered with memory
that nobody wrote; `tests/helpers/fuzz_operators.py` finds them. Names and attributes are those of ONNX, as
bytes, since that is how they lie in a graph; tests compare the tables with the schemas of the
`onnx` library, which would take 100 ms to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
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


class Setting(NamedTuple):
    """An attribute of an operator.

    Attributes:
        name: of the attribute.
        numbers: those it holds; of a long list the beginning.
        kind: their data type.
        text: its text, empty where it has none.
        elements: of its lists and tensors.
        borrowed: whether it has the value of an argument of a function instead.
        nests: whether it holds a graph.
    """

    name: bytes
    numbers: list[float]
    kind: int
    text: bytes
    elements: float
    borrowed: bool
    nests: bool


class Node(NamedTuple):
    """A call of an operator; the domain of ONNX is the empty one."""

    domain: bytes
    name: bytes
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    settings: list[Setting]

    def numbers(self, name: bytes) -> list[float]:
        """What an attribute holds; where it stands twice, the last."""
        for setting in reversed(self.settings):
            if setting.name == name:
                return setting.numbers
        return []


def is_rare(node: Node) -> bool:
    """Whether it is one of onnxruntime's own operators that nothing writes."""
    return node.domain == MICROSOFT.encode() and node.name not in CONTRIB


def check_operator(node: Node) -> None:
    """Raise GraphError where onnxruntime would not survive what an operator is told."""
    _check_inputs(node)
    for setting in node.settings:
        _check_setting(node, setting)
    if node.name in UNIFORM:
        low = (node.numbers(b"low") or [0.0])[0]
        high = (node.numbers(b"high") or [1.0])[0]
        if not -LARGEST_FLOAT / 2 <= low <= high <= LARGEST_FLOAT / 2:
            raise _refused_operator(node, f"draws numbers between {low} and {high}")


def _check_inputs(node: Node) -> None:
    if node.name in VARIADIC and not all(node.inputs):
        raise _refused_operator(node, "has an input without a name")
    if node.name in NAMED_LAST and node.inputs and not node.inputs[-1]:
        raise _refused_operator(node, "has a last input without a name")
    if node.name == b"Attention" and not node.domain and any(node.inputs[PAST:]):
        raise _refused_operator(node, "takes keys and values of a past")
    least = LEAST_INPUTS.get(node.name, 0)
    if len(node.inputs) < least or not all(node.inputs[:least]):
        raise _refused_operator(node, f"has fewer than {least} inputs")


def check_scales(nodes: Iterable[Node], shapes: Mapping[bytes, tuple[int, ...] | None]) -> None:
    """Raise GraphError where the scales of a quantised operator have another shape, or none.

    `shapes` are those of constants by name. What a DynamicQuantizeLinear gives is one number.
    """
    checked = SCALES.keys() | NUMBERS.keys() | RECURRENT
    asked = [node for node in nodes if node.name in checked]
    if not asked:
        return
    numbers, others = _outputs(nodes)
    made = numbers | others
    constants = {name: shape for name, shape in shapes.items() if name not in made}
    for node in asked:
        _check_scales(node, constants, numbers - others)
        _check_quantised(node, constants)
        empty = any(0 in (constants.get(name) or ()) for name in node.inputs)
        if node.name in RECURRENT and empty:
            raise _refused_operator(node, "has an input that is empty")


def _outputs(nodes: Iterable[Node]) -> tuple[set[bytes], set[bytes]]:
    """The values that operators give: those that are one number, and all others."""
    numbers: set[bytes] = set()
    others: set[bytes] = set()
    for node in nodes:
        if node.name == b"DynamicQuantizeLinear" and not node.domain:
            others.update(node.outputs[:1])
            numbers.update(node.outputs[1:])
        else:
            others.update(node.outputs)
    return numbers, others


def _check_scales(
    node: Node, constants: Mapping[bytes, tuple[int, ...] | None], numbers: AbstractSet[bytes]
) -> None:
    inputs = (*node.inputs, b"", b"", b"", b"")  # those that are left out have no name
    for matrix, scale in SCALES.get(node.name, ()):
        name = inputs[scale]
        columns = (constants.get(inputs[matrix]) or (1,))[-1:]
        if name not in numbers and constants.get(name) not in ((), (1,), columns):
            raise _refused_operator(
                node,
                f"scales input {matrix} by {name!r:.40}, which is not one number for each column",
            )


def _check_quantised(node: Node, constants: Mapping[bytes, tuple[int, ...] | None]) -> None:
    for at in NUMBERS.get(node.name, ()):
        if at >= len(node.inputs):
            return
        shape = constants.get(node.inputs[at])
        if node.inputs[at] and (shape is None or 0 in shape):
            raise _refused_operator(
                node, f"has an input {at} that is not a constant, or an empty one"
            )


def _check_setting(node: Node, setting: Setting) -> None:
    if (node.name, setting.name) == (b"Unique", b"axis"):
        raise _refused_operator(
            node, "looks along an axis, which ends the process where another one is empty"
        )
    sound = _is_sound(node, setting)
    if sound is None or (sound and not setting.borrowed):
        return
    text = setting.text.decode("utf-8", "backslashreplace")
    value = "an argument of a function" if setting.borrowed else text or setting.numbers[:4]
    name = setting.name.decode("utf-8", "backslashreplace")
    raise _refused_operator(
        node, f"has the attribute {name!r:.40} of {value!r:.80}, which ONNX does not define"
    )


def _is_sound(node: Node, setting: Setting) -> bool | None:
    """Whether an attribute holds what ONNX defines for it; None for one that is not checked."""
    key = (node.name, setting.name)
    if setting.name in FLAGS:
        return all(number in (0, 1) for number in setting.numbers)
    if key in ALLOWED_TEXTS:
        return setting.text in ALLOWED_TEXTS[key]
    if key in RANGES:
        least, most = RANGES[key]
        return all(least <= number <= most for number in setting.numbers or [0])
    if key == (b"Einsum", b"equation"):
        return EQUATION.fullmatch(setting.text) is not None
    return None


def _refused_operator(node: Node, what: str) -> GraphError:
    name = node.name.decode("utf-8", "backslashreplace")
    first = (node.outputs or (b"",))[0].decode("utf-8", "backslashreplace")
    return GraphError(f"operator {name} of {first!r} is refused: it {what}")
