"""Classes, names and roles of the outputs of a graph."""

import numpy as np
import onnxruntime
import pytest
from helpers.graphs import model_of, tensor
from helpers.packages import kept
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.errors import ConversionError, UsageError

RNG = np.random.default_rng(0)
ROWS, SPECIES = load_iris(return_X_y=True)
ROWS = ROWS.astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])
COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]


def session(proto):
    return onnxruntime.InferenceSession(proto.SerializeToString())


def scores(classes=3, kind=TensorProto.FLOAT):
    """Two outputs with names that tell nothing: a softmax, and what it is of."""
    weights = RNG.normal(size=(4, classes)).astype(np.float32)
    return model_of(
        [
            ("MatMul", ["x", "w"], ["output_0"], {}),
            ("Softmax", ["output_0"], ["output_1"], {"axis": 1}),
        ],
        [tensor("x", "n", 4)],
        [tensor("output_0", "n", classes), tensor("output_1", "n", classes)],
        {"w": weights},
    )


@pytest.mark.parametrize("classes", [list(NAMES), [3, 7, 9], np.array([2, 0, 1])])
def test_classes_and_outputs_are_named(classes, tmp_path):
    proto = scores()
    raw, shares = session(proto).run(None, {"x": ROWS})
    outputs = {"probabilities": "output_1", "scores": "output_0"}
    model = kept(proto, tmp_path, classes=classes, outputs=outputs)
    assert model.signature.output_names == ("label", "scores", "probabilities")
    assert model.classes_.tolist() == list(classes)
    np.testing.assert_array_equal(model.predict(ROWS), np.asarray(classes)[shares.argmax(axis=1)])
    np.testing.assert_array_equal(model.predict_proba(ROWS), shares)
    np.testing.assert_array_equal(model.run(ROWS)["scores"], raw)
    with mk.Batcher(model) as batcher:
        assert batcher.predict(ROWS[:1]).tolist() == model.predict(ROWS[:1]).tolist()


@pytest.mark.parametrize("width", [(), (1,)])
def test_one_probability_is_that_of_the_second_of_two_classes(width, tmp_path):
    axes = [] if width else ["axes"]
    last = "Identity" if width else "Squeeze"
    proto = model_of(
        [
            ("MatMul", ["x", "w"], ["sum"], {}),
            ("Sigmoid", ["sum"], ["column"], {}),
            (last, ["column", *axes], ["share"], {}),
        ],
        [tensor("x", "n", 4)],
        [tensor("share", "n", *width)],
        {"w": RNG.normal(size=(4, 1)).astype(np.float32), "axes": np.array([1])},
    )
    (second,) = session(proto).run(None, {"x": ROWS})
    model = kept(proto, tmp_path, classes=["no", "yes"], outputs={"probabilities": "share"})
    np.testing.assert_array_equal(model.predict_proba(ROWS)[:, 1], second.reshape(-1))
    np.testing.assert_allclose(model.predict_proba(ROWS).sum(axis=1), 1, atol=1e-7)
    expected = np.where(second.reshape(-1) > 0.5, "yes", "no")
    np.testing.assert_array_equal(model.predict(ROWS), expected)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"classes": ["a", "b", "c"]}, "needs an output of probabilities"),
        ({"classes": ["a", "b"], "outputs": {"probabilities": "output_1"}}, "one column for each"),
        ({"classes": ["a", "b", "c"], "outputs": {"probabilities": "output_0"}}, "softmax"),
        ({"outputs": {"a": "output_2"}}, "the outputs are"),
        ({"outputs": {"output_1": "output_0"}}, "each once"),
        ({"outputs": {"a": "output_0", "b": "output_0"}}, "each once"),
        ({"outputs": {"x": "output_0"}}, "an input of the graph"),
        ({"names": ["a", "b"]}, "2 names are given"),
        ({"names": {"y": ["a"]}}, "the inputs are"),
        ({"names": "abcd"}, "a list of the names"),
        ({"names": ["a", "a", "b", "c"]}, "distinct column names"),
        ({"preprocess": mk.Preprocess()}, "floats of four dimensions"),
    ],
)
def test_what_is_said_of_a_graph_must_fit_it(said, message, tmp_path):
    with pytest.raises(ConversionError, match=message):
        kept(scores(), tmp_path, **said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("classes", "message"),
    [(["a", "b", "b"], "twice"), ([0.5, 1.5, 2.5], "all strings"), ("abc", "all strings")],
)
def test_classes_are_distinct_labels_of_one_type(classes, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        kept(scores(), tmp_path, classes=classes, outputs={"probabilities": "output_1"})


def test_an_estimator_says_all_of_itself(tmp_path):
    estimator = LogisticRegression(max_iter=500).fit(ROWS, SPECIES)
    for form in ("onnx", "joblib"):
        with pytest.raises(ConversionError, match="names=, classes= is for ONNX graphs"):
            kept(estimator, tmp_path, example=ROWS, format=form, names=COLUMNS, classes=[0, 1, 2])


def test_outputs_change_places_and_push_aside_what_has_their_name(tmp_path):
    proto = model_of(
        [
            ("Relu", ["x"], ["positive"], {}),
            ("Neg", ["positive"], ["a"], {}),
            ("Abs", ["a"], ["b"], {}),
        ],
        [tensor("x", "n", 4)],
        [tensor("a", "n", 4), tensor("b", "n", 4)],
    )
    model = kept(proto, tmp_path, outputs={"b": "a", "positive": "b"})
    found = model.run(ROWS)
    np.testing.assert_array_equal(found["b"], -ROWS)
    np.testing.assert_array_equal(found["positive"], ROWS)


def test_an_output_of_a_branch_is_renamed_where_it_is_read(tmp_path):
    """A graph inside another reads its tensors by name."""
    branches = {}
    for name, operator in (("then_branch", "Neg"), ("else_branch", "Identity")):
        branches[name] = helper.make_graph(
            [helper.make_node(operator, ["y"], ["inner_" + name])],
            name,
            [],
            [tensor("inner_" + name, "n", 4)],
        )
    proto = model_of(
        [
            ("Relu", ["x"], ["y"], {}),
            ("ReduceMax", ["y"], ["most"], {"keepdims": 0}),
            ("Greater", ["most", "zero"], ["any"], {}),
            ("If", ["any"], ["z"], branches),
        ],
        [tensor("x", "n", 4)],
        [tensor("y", "n", 4), tensor("z", "n", 4)],
        {"zero": np.float32(0)},
    )
    model = kept(proto, tmp_path, outputs={"positive": "y"}, example=ROWS)
    found = model.run(ROWS)
    np.testing.assert_array_equal(found["z"], -found["positive"])


def test_a_graph_written_as_ours_are_keeps_its_tensors_apart_from_those_added(tmp_path):
    """The added nodes are called as spox calls them, and so may be those of the graph."""
    weights = RNG.normal(size=(4, 2)).astype(np.float32)
    proto = model_of(
        [
            ("MatMul", ["x", "Constant_0_output"], ["label"], {}),
            ("Softmax", ["label"], ["classes/ArgMax_0_reduced"], {"axis": 1}),
            ("Identity", ["classes/ArgMax_0_reduced"], ["share"], {}),
        ],
        [tensor("x", "n", 4)],
        [tensor("share", "n", -1)],
        {"Constant_0_output": weights},
    )
    (shares,) = session(proto).run(None, {"x": ROWS})
    model = kept(
        proto, tmp_path, classes=["a", "b"], outputs={"probabilities": "share"}, example=ROWS
    )
    np.testing.assert_array_equal(model.predict_proba(ROWS), shares)
    assert set(zip(model.predict(ROWS), shares.argmax(axis=1), strict=True)) <= {("a", 0), ("b", 1)}


def test_constants_among_the_inputs_and_an_input_among_the_outputs(tmp_path):
    """Graphs of old versions list their constants as inputs; and what goes in may come out as it is."""
    proto = model_of(
        [("MatMul", ["x", "label"], ["sum"], {}), ("Softmax", ["sum"], ["share"], {"axis": 1})],
        [tensor("x", "n", 4), tensor("label", 4, 3)],
        [tensor("share", "n", 3), tensor("x", "n", 4)],
        {"label": RNG.normal(size=(4, 3)).astype(np.float32)},
    )
    shares, _ = session(proto).run(None, {"x": ROWS})
    model = kept(proto, tmp_path, outputs={"probabilities": "share"}, example=ROWS)
    found = model.run(ROWS)
    np.testing.assert_array_equal(found["probabilities"], shares)
    np.testing.assert_array_equal(found["x"], ROWS)
