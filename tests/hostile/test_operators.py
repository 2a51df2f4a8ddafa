"""Operators that would end the process, by their settings, their inputs or their numbers."""

import numpy as np
import pytest
from helpers.forge import with_graph
from helpers.graphs import beside, constant, folding, node, told
from onnx import AttributeProto, TensorProto, helper

from modelkit.errors import GraphError
from modelkit.package.review import review

# What operators are told


ONES = constant("ones", np.ones((1, 4)), np.float32)
ORDER = constant("order", [0])
FEW = constant("few", np.zeros((1, 1, 4)), np.float32)
GRAMS = {
    "mode": "TF",
    "min_gram_length": 1,
    "max_gram_length": 2,
    "max_skip_count": 5,
    "ngram_counts": [0, 4],
}
POOL = [2, 3, 5, 4, 5, 6, 7, 8, 6, 7]
ENDED = {
    "n-grams without a column": (
        node(
            "TfIdfVectorizer",
            ["order"],
            ["made"],
            **GRAMS,
            ngram_indexes=[2, 1, 4, 4, 0],
            pool_int64s=POOL,
        ),
        [ORDER],
        18,
    ),
    "n-grams of words without a column": (
        node(
            "TfIdfVectorizer",
            ["order"],
            ["made"],
            **GRAMS,
            ngram_indexes=range(9),
            pool_strings=list("abcdefghij"),
        ),
        [ORDER],
        18,
    ),
    "a cast to memory nobody wrote": (
        node("Cast", ["relu"], ["made"], to=TensorProto.INT64, saturate=3),
        [],
        21,
    ),
    "a cast to a type beyond 32 bits": (
        node("Cast", ["relu"], ["made"], to=(1 << 32) + TensorProto.INT64),
        [],
        18,
    ),
    "batch_dims": (node("GatherND", ["few", "order"], ["made"], batch_dims=-2), [FEW, ORDER], 18),
    "scale": (node("RandomNormalLike", ["relu"], ["made"], scale=0.0), [], 18),
    "no scale": (node("RandomNormal", [], ["made"], shape=[2], scale=float("nan")), [], 18),
    "low": (node("RandomUniform", [], ["made"], shape=[2], low=1e30, high=0.5), [], 18),
    "low alone": (node("RandomUniformLike", ["relu"], ["made"], low=2.0), [], 18),
    "an equation": (node("Einsum", ["relu"], ["made"], equation="b'L2'"), [], 18),
    "the transform of nothing": (node("DFT", ["few", "", ""], ["made"]), [FEW], 20),
    "a width below 0 behind many others": (
        node(
            "FeatureVectorizer",
            ["relu"] * 80,
            ["made"],
            domain="ai.onnx.ml",
            inputdimensions=[1] * 79 + [-5],
        ),
        [],
        18,
    ),
    "a recurrent layer of no rows": (
        node("GRU", ["none", "w", "w"], ["made"], hidden_size=2),
        [
            constant("none", np.zeros((2, 0, 2)), np.float32),
            constant("w", np.zeros((1, 6, 2)), np.float32),
        ],
        18,
    ),
    "a recurrent layer of no rows, under a name that is there twice": (
        node("GRU", ["none", "w", "w"], ["made"], hidden_size=2),
        [
            *[constant("none", np.zeros((2, 0, 2)), np.float32)] * 2,
            constant("w", np.zeros((1, 6, 2)), np.float32),
        ],
        18,
    ),
    "a transform along no axis": (
        node("DFT", ["few", "", "none"], ["made"]),
        [FEW, constant("none", np.zeros((2, 0)), np.int64)],
        20,
    ),
    "unique along an axis": (
        node("Unique", ["none"], ["made"], axis=0),
        [constant("none", np.zeros((2, 0, 3)))],
        18,
    ),
    "a past": (
        node("Attention", ["few", "few", "few", "", "few", "order"], ["made"]),
        [FEW, ORDER],
        23,
    ),
    "a norm without bias": (
        node("LayerNormalization", ["few", "ones", ""], ["made"]),
        [FEW, ONES],
        18,
    ),
}


@pytest.mark.parametrize("what", ENDED)
def test_operators_that_end_the_process(toy, warden, what):
    made, constants, opset = ENDED[what]
    answer = told(warden, with_graph(toy, beside([made], constants), opset), then="predict")
    assert "GraphError" in (answer["error"] or ()), answer
    assert f"operator {made.op_type} of 'made' is refused" in answer["message"]


@pytest.mark.parametrize("operator", ["Sum", "Min", "Max", "Mean", "Concat"])
def test_inputs_without_a_name_among_many(toy, warden, operator):
    axis = {"axis": 0} if operator == "Concat" else {}
    made = node(operator, ["ones", "", "relu"], ["made"], **axis)
    answer = told(warden, with_graph(toy, beside([made], [ONES])), then="predict")
    assert "an input without a name" in answer["message"], answer


@pytest.mark.parametrize(
    "operator", ["Inverse", "AttnLSTM", "WordConvEmbedding", "QLinearWhere", "Range"]
)
def test_operators_that_nothing_writes(toy, warden, operator):
    made = node(operator, ["ones"], ["made"], domain="com.microsoft")
    data = with_graph(toy, beside([made], [ONES], "com.microsoft"))
    answer = told(warden, data)
    assert "GraphError" in answer["error"]
    assert f"['{operator}']" in answer["message"]
    assert review(data).needs == {"allow": ["com.microsoft"]}


def test_operators_that_nothing_writes_open_where_the_caller_says_so(toy, warden):
    made = node("Inverse", ["square"], ["made"], domain="com.microsoft")
    data = with_graph(
        toy, beside([made], [constant("square", np.eye(4), np.float32)], "com.microsoft")
    )
    assert "GraphError" in told(warden, data)["error"]
    assert told(warden, data, allow=["com.microsoft"], then="predict")["error"] is None


def test_a_quantised_product_that_is_scaled_by_another_shape(toy, warden):
    def product(scale):
        weights = constant("w8", np.ones((64, 3)), np.uint8)
        made = node(
            "DynamicQuantizeMatMul", ["relu", "w8", "scale"], ["made"], domain="com.microsoft"
        )
        return with_graph(
            toy, beside([made], [weights, constant("scale", scale, np.float32)], "com.microsoft")
        )

    for sound in (0.5, [0.5], [0.5, 1, 2]):
        assert told(warden, product(sound), then="predict")["error"] is None
    for odd in ([0.5, 1], np.ones((2, 2, 2))):
        assert "scales input 1" in told(warden, product(odd))["message"]
    for given in ([], ["relu"], ["relu", "w8"]):
        made = node("DynamicQuantizeMatMul", given, ["made"], domain="com.microsoft")
        data = with_graph(toy, beside([made], [ONES], "com.microsoft"))
        assert "scales input 1" in told(warden, data)["message"]


def test_a_range_of_two_inputs(toy, warden):
    made = node("Range", ["order", "order"], ["made"])
    assert "GraphError" in told(warden, with_graph(toy, beside([made], [ORDER])))["error"]


# Division of integers

LEAST, LESS = constant("least", [-(1 << 63)]), constant("less", [-1])
WHOLE = node("Cast", ["relu"], ["whole"], to=TensorProto.INT64)
SIZE = [node("Shape", ["relu"], ["shape"]), node("Gather", ["shape", "one"], ["size"])]


def division(by, of="least"):
    return node("Div", [of, by], ["made"])


NO_INTEGERS = node("Constant", [], ["empty"])
NO_INTEGERS.attribute.add(name="value_ints", type=AttributeProto.INTS)
LABELS = node("LabelEncoder", ["whole"], ["label"], domain="ai.onnx.ml", default_int64=-1)
for name in ("keys_int64s", "values_int64s"):
    LABELS.attribute.add(name=name, type=AttributeProto.INTS)
DIVISIONS = {
    "of constants": ([division("less")], False),
    "by a constant of 1": ([division("one")], True),
    "by what is cast": ([WHOLE, division("whole", "whole")], False),
    "by a sum": ([node("Add", ["less", "one"], ["sum"]), division("sum")], False),
    "by at least 1": ([WHOLE, node("Max", ["whole", "one"], ["most"]), division("most")], True),
    "of sizes": ([*SIZE, division("size", "shape")], True),
    "of floats": ([node("ReduceSum", ["relu", "one"], ["sum"]), division("sum", "relu")], True),
    "through a branch": ([], False),
    # Each of these ended the process once.
    "by a large constant cast to 32 bits": (
        [
            node("Cast", ["large"], ["small"], to=TensorProto.INT32),
            node("Neg", ["small"], ["negated"]),
            division("small", "negated"),
        ],
        False,
    ),
    "by a clip whose largest is below its least": (
        [SIZE[0], node("Clip", ["shape", "zero", "minus"], ["clipped"]), division("clipped")],
        False,
    ),
    "by a scattered product": (
        [
            node("ScatterElements", ["one", "twice", "factors"], ["scattered"], reduction="mul"),
            division("scattered"),
        ],
        False,
    ),
    "by the last of many integers": (
        [node("Constant", [], ["many"], value_ints=[1] * 80 + [-1]), division("many")],
        False,
    ),
    "by a number made of no integers": (
        [
            NO_INTEGERS,
            node("ReduceProd", ["empty"], ["factor"]),
            node("Neg", ["factor"], ["negated"]),
            division("negated"),
        ],
        False,
    ),
    "by a label of no integers": ([WHOLE, LABELS, division("label")], False),
    "of the largest of nothing": (
        [
            node("Shape", ["zero"], ["nothing"]),
            node("ReduceMax", ["nothing"], ["largest"]),
            node("Add", ["less", "none"], ["minus one"]),
            division("minus one", "largest"),
        ],
        False,
    ),
    "by a count of words": (
        [
            node("StringSplit", ["words"], ["split", "count"], delimiter=" "),
            node("Neg", ["count"], ["negated"]),
            division("negated"),
        ],
        False,
    ),
}


FRAMES = {
    "an empty window": (["signal", "one", "empty"], False),
    "a window": (["signal", "one", "window"], True),
    "a length of 0": (["signal", "one", "", "none"], False),
    "a length": (["signal", "one", "", "length"], True),
    "a computed length": (["signal", "one", "", "product"], False),
    "a computed window of a length": (["signal", "one", "halves", "length"], True),
    "a computed window": (["signal", "one", "halves"], False),
}


@pytest.mark.parametrize("what", FRAMES)
def test_frames_that_hold_nothing(toy, warden, what):
    inputs, sound = FRAMES[what]
    nodes = [
        node("Mul", ["none", "length"], ["product"]),
        node("Mul", ["window", "window"], ["halves"]),
        node("STFT", inputs, ["made"]),
    ]
    constants = [
        constant("signal", np.ones((1, 32, 1)), np.float32),
        constant("window", np.ones(8), np.float32),
        constant("empty", np.ones(0), np.float32),
        constant("one", 1),
        constant("none", 0),
        constant("length", 8),
    ]
    answer = told(warden, with_graph(toy, beside(nodes, constants)), then="predict")
    if sound:
        assert answer["error"] is None, answer
    else:
        assert "operator STFT of 'made' is refused" in answer["message"], answer


@pytest.mark.parametrize("what", DIVISIONS)
def test_divisions_that_may_trap(toy, warden, what):
    nodes, sound = DIVISIONS[what]
    if what == "through a branch":
        value = helper.make_tensor_value_info("o", TensorProto.INT64, [1])
        branch = helper.make_graph([node("Identity", ["less"], ["o"])], "b", [], [value])
        choice = node("If", ["yes"], ["branched"], then_branch=branch, else_branch=branch)
        nodes = [choice, division("branched")]
    constants = [
        LEAST, LESS, constant("one", [1]), constant("yes", True), constant("large", [(1 << 32) - 1]),
        constant("zero", 0), constant("minus", -1), constant("twice", [0, 0]), constant("none", [0]),
        constant("factors", [1, -1]), constant("words", ["a"], object),
    ]  # fmt: skip
    answer = told(warden, with_graph(toy, beside(nodes, constants), 20), then="predict")
    if sound:
        assert answer["error"] is None, answer
    else:
        assert "GraphError" in answer["error"], answer
        assert "operator Div of 'made' is refused" in answer["message"]


def test_a_constant_of_the_name_of_what_a_loop_holds(toy, warden):
    """A division in the body of a loop, by -1, while the graph has a constant 2 of the same name."""
    kinds = {"i": 7, "c": 9, "held": 7, "c2": 9, "held2": 7, "made": 7}
    values = {
        name: helper.make_tensor_value_info(name, kind, [] if kind == 9 or name == "i" else [1])
        for name, kind in kinds.items()
    }
    nodes = [
        node("Identity", ["c"], ["c2"]), node("Identity", ["held"], ["held2"]), division("held", "sum"),
    ]  # fmt: skip
    body = helper.make_graph(
        nodes, "b", [values[name] for name in ("i", "c", "held")], [values[name] for name in ("c2", "held2", "made")]
    )  # fmt: skip
    looped = [
        node("Add", ["least", "none"], ["sum"]),
        node("Loop", ["once", "yes", "less"], ["left", "all made"], body=body),
    ]
    constants = [
        LEAST, LESS, constant("none", [0]), constant("once", 1), constant("yes", True), constant("held", [2])
    ]  # fmt: skip
    answer = told(warden, with_graph(toy, beside(looped, constants)), then="predict")
    assert "operator Div of 'made' is refused" in answer["message"], answer


def test_a_type_that_a_branch_declares_of_a_value_of_the_graph(toy, warden):
    """onnxruntime does not compare it with anything."""
    branch = helper.make_graph(
        [node("Identity", ["relu"], ["o"])], "b", [], [helper.make_tensor_value_info("o", 1, None)],
        value_info=[helper.make_tensor_value_info("sum", 1, [1])],
    )  # fmt: skip
    nodes = [
        node("Add", ["less", "none"], ["sum"]),
        node("If", ["yes"], ["branched"], then_branch=branch, else_branch=branch),
        division("sum"),
    ]
    constants = [LEAST, LESS, constant("none", [0]), constant("yes", True)]
    answer = told(warden, with_graph(toy, beside(nodes, constants)), then="predict")
    assert "operator Div of 'made' is refused" in answer["message"], answer


def test_declared_types_clear_a_division_behind_a_branch(toy):
    """As exporters declare them: without, what a branch gives may be integers."""
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("Identity", ["relu"], ["o"])], "b", [], [value])
    nodes = [
        node("If", ["yes"], ["branched"], then_branch=branch, else_branch=branch),
        node("Div", ["branched", "branched"], ["made"]),
    ]
    change = beside(nodes, [constant("yes", True)])
    with pytest.raises(GraphError, match="Div of 'made'"):
        folding(with_graph(toy, change))

    def declared(proto):
        change(proto)
        proto.graph.value_info.append(
            helper.make_tensor_value_info("branched", TensorProto.FLOAT, None)
        )

    assert folding(with_graph(toy, declared)).limit


def test_the_declared_type_of_a_quotient_clears_it(toy):
    """It is that of both sides."""
    value = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    branch = helper.make_graph([node("Identity", ["relu"], ["o"])], "b", [], [value])
    nodes = [
        node("If", ["yes"], ["branched"], then_branch=branch, else_branch=branch),
        node("Div", ["branched", "branched"], ["made"]),
    ]

    def declared(proto):
        beside(nodes, [constant("yes", True)])(proto)
        quotient = helper.make_tensor_value_info("made", TensorProto.FLOAT, None)
        proto.graph.value_info.append(quotient)

    assert folding(with_graph(toy, declared)).limit
