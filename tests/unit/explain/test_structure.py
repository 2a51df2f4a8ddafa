"""Graphs that a careless reading of the structure explains wrongly."""

import numpy as np
import pytest
from helpers.coalitions import agree, brute, saved
from helpers.ensembles import answers, graph, old_node, tree_of
from onnx import TensorProto, helper
from sklearn import compose, datasets, impute, linear_model, preprocessing
from sklearn.pipeline import make_pipeline

import modelkit as mk

pytestmark = pytest.mark.usefixtures("one_thread")


def concat_of_encoders():
    """Encoders of one column each, joined in the third dimension; the second dimension is then of size one."""
    options = {"domain": "ai.onnx.ml", "cats_int64s": [0, 1, 2], "zeros": 1}
    return [helper.make_node("OneHotEncoder", [name], [f"{name}1"], **options) for name in "ab"]


def odd_graphs():
    f32, x3 = np.float32, {"x": (np.float32, 3)}
    y = {"y": (np.float32, 1)}
    ab = {"a": (np.int64, 1), "b": (np.int64, 1)}
    tree, node = (
        [tree_of(0), tree_of(1, 0.5, -1.0, 2.0), tree_of(2, -0.5, 3.0, -1.0)],
        helper.make_node,
    )
    pair = [
        ("BRANCH_LEQ", 0, 0.5, (), False, tree_of(4, 0.5, 1.0, 5.0), tree_of(3, 0.5, -2.0, 0.0))
    ]
    product = (
        "BRANCH_LEQ",
        0,
        0.0,
        (),
        False,
        tree_of(1, 0.0, 1.0, 5.0),
        tree_of(2, 0.0, -2.0, 0.0),
    )
    yield "gather in the second dimension", graph(
        [*concat_of_encoders(), node("Concat", ["a1", "b1"], ["c"], axis=-1), node("Gather", ["c", "i"], ["t"], axis=1),
         old_node(pair, 1, f32, tracks=False, inputs="t")],
        inputs=ab, outputs=y, constants={"i": np.int64(0)})  # fmt: skip
    yield "stacked in the second dimension", graph(
        [*concat_of_encoders(), node("Concat", ["a1", "b1"], ["c"], axis=-1),
         node("Concat", ["b1", "a1"], ["e"], axis=-1),
         node("Concat", ["c", "e"], ["s"], axis=1), node("Gather", ["s", "i"], ["t"], axis=1),
         old_node(pair, 1, f32, tracks=False, inputs="t")],
        inputs=ab, outputs=y, constants={"i": np.int64(1)})  # fmt: skip
    yield "an encoder of one category and a wide constant", graph(
        [node("OneHotEncoder", ["x"], ["o"], domain="ai.onnx.ml", cats_int64s=[1], zeros=1),
         node("Add", ["o", "w"], ["s"]), node("Reshape", ["s", "shape"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs={"x": (np.int64, 2)}, outputs=y,
        constants={"w": f32([0, -0.5]), "shape": np.int64([-1, 4])})  # fmt: skip
    yield "rows of a table by a column", graph(
        [node("Gather", ["w", "x"], ["g"], axis=1), node("Reshape", ["g", "shape"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs={"x": (np.int64, 3)}, outputs=y,
        constants={"w": f32([[1, -1, 1]]), "shape": np.int64([-1, 3])})  # fmt: skip
    for post in ("LOGISTIC", "SOFTMAX", "PROBIT"):
        wide = 2 if post == "SOFTMAX" else 1
        yield f"a regressor that ends in {post}", graph(
            [node("LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", coefficients=[0.05, 0.1, -0.05] * wide,
                  intercepts=[0.5] * wide, targets=wide, post_transform=post)],
            inputs=x3, outputs={"y": (f32, wide)})  # fmt: skip
    yield "a product of columns before trees", graph(
        [node("Gather", ["x", "i"], ["r"], axis=1), node("Mul", ["x", "r"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y, constants={"i": np.int64([1, 2, 0])})  # fmt: skip
    yield "columns in another order before trees", graph(
        [node("Gather", ["x", "i"], ["t"], axis=1), old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y, constants={"i": np.int64([2, -3, 1])})  # fmt: skip
    yield "a rotation before trees", graph(
        [node("MatMul", ["x", "w"], ["t"]), old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y, constants={"w": np.linalg.qr(np.arange(9.0).reshape(3, 3) + np.eye(3))[0].astype(f32)}
    )  # fmt: skip
    yield "a column's square", graph([node("Mul", ["x", "x"], ["s"]), node("MatMul", ["s", "w"], ["y"])],
                                     inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]])})  # fmt: skip
    yield "a quotient of sums", graph(
        [node("Gemm", ["x", "w", "far"], ["s"]), node("Div", ["one", "s"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]]), "one": f32([9.0]), "far": f32([20.0])})  # fmt: skip
    yield "a sum made whole", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Cast", ["s"], ["n"], to=TensorProto.INT64),
         node("Cast", ["n"], ["y"], to=TensorProto.FLOAT)],
        inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]])})  # fmt: skip
    yield "labels as numbers", graph(
        [old_node(tree, 3, f32, tracks=False, op="TreeEnsembleClassifier", outputs=("label", "scores"),
                  classlabels_int64s=[0, 1, 2]), node("Cast", ["label"], ["n"], to=TensorProto.FLOAT),
         node("Reshape", ["n", "shape"], ["y"])],
        inputs=x3, outputs=y, constants={"shape": np.int64([-1, 1])})  # fmt: skip
    yield "labels of a linear classifier as numbers", graph(
        [node("LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", coefficients=[1.0, 2, -1, -1, -2, 1],
              intercepts=[0.0, 0.0], classlabels_ints=[0, 1]), node("Cast", ["label"], ["n"], to=TensorProto.FLOAT),
         node("Reshape", ["n", "shape"], ["y"])],
        inputs=x3, outputs=y, constants={"shape": np.int64([-1, 1])})  # fmt: skip
    yield "flattened over the rows and back", graph(
        [node("Flatten", ["x"], ["f"], axis=0), node("Reshape", ["f", "shape"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y, constants={"shape": np.int64([-1, 3])})  # fmt: skip
    yield "two sigmoids of their own", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Sigmoid", ["s"], ["y"])],
        inputs=x3, outputs={"y": (f32, 2)}, constants={"w": f32([[1, 2], [2, -1], [-1, 0.5]])})  # fmt: skip
    yield "a softmax over the rows", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Softmax", ["s"], ["y"], axis=1)],
        inputs=x3, outputs={"y": (f32, 3)}, constants={"w": f32([[1, 2, 0], [2, -1, 1], [-1, 0.5, 2]])})  # fmt: skip
    yield "twice an exponential", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Exp", ["s"], ["e"]), node("Mul", ["e", "two"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[0.1], [0.2], [-0.3]]), "two": f32(2)})  # fmt: skip
    yield "twice a sigmoid", graph(
        [node("MatMul", ["x", "w"], ["s"]), node("Sigmoid", ["s"], ["e"]), node("Mul", ["e", "two"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[1], [0.2], [-0.3]]), "two": f32(2)})  # fmt: skip
    yield "a half of a tree", graph(
        [old_node(tree, 1, f32, tracks=False, outputs=("t",)), node("Div", ["t", "two"], ["y"])],
        inputs=x3, outputs=y, constants={"two": f32([[2]])})  # fmt: skip
    yield "a tree of a tree", graph(
        [old_node([product], 1, f32, tracks=False, outputs=("s",)), node("Mul", ["x", "s"], ["t"]),
         old_node([product], 1, f32, tracks=False, inputs="t")],
        inputs=x3, outputs=y)  # fmt: skip


def by_name(value):
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("name", "proto"), list(odd_graphs()), ids=by_name)
def test_odd_graphs_are_never_explained_wrongly(name, proto, tmp_path):
    rng = np.random.default_rng(0)
    model = saved(proto, tmp_path)
    inputs = [(i.name, i.type.tensor_type.elem_type, i.type.tensor_type.shape.dim[1].dim_value)
              for i in proto.graph.input]  # fmt: skip
    whole = all(element == TensorProto.INT64 for _, element, _ in inputs)
    width = sum(w for _, _, w in inputs)
    rows = (
        rng.integers(0, 3, (80, width))
        if whole
        else rng.choice(np.float32([-2, -1, -0.4, 0.3, 1, 2]), (80, width))
    )

    def feeds(r):
        ends = np.cumsum([w for _, _, w in inputs])[:-1]
        parts = np.split(r, ends, axis=1)
        kind = np.int64 if whole else np.float32
        return {name: part.astype(kind) for (name, _, _), part in zip(inputs, parts, strict=True)}

    explanation = mk.Explainer(model, background=feeds(rows[:60])).explain(feeds(rows[60:]))

    def f(r):
        got = np.asarray(model.run(feeds(r))["y"], float)
        if explanation.output_space != "raw_score":
            return got
        if "exponential" in name:
            return np.log(got)
        if "softmax" in name:
            return r @ np.array([[1, 2, 0], [2, -1, 1], [-1, 0.5, 2]])
        if "two sigmoids" in name:
            return r @ np.array([[1, 2], [2, -1], [-1, 0.5]])
        return np.log(got / (1 - got))[:, -explanation.values.shape[2] :]

    agree(explanation, *brute(f, rows[60:], rows[:60]), within=2e-5)


def test_trees_that_read_doubles_made_on_the_way_compare_doubles(tmp_path):
    """Thresholds between two neighbouring floats: of single precision, the columns would be on the other side."""
    split = 1.0 + 1e-10
    tree = ("BRANCH_LEQ", 0, split, (), False, ("BRANCH_LT", 1, split, (), False, 1.0, 3.0), 7.0)
    nodes = [
        helper.make_node("Identity", ["x"], ["t"]),
        old_node([tree], 1, np.float64, tracks=False, inputs="t"),
    ]
    proto = graph(nodes, inputs={"x": (np.float64, 2)}, outputs={"y": (np.float32, 1)})
    model = saved(proto, tmp_path)
    rows = np.random.default_rng(0).choice([0.0, 1.0, 1 + 1e-10, 1 + 2e-10, 4.0], (60, 2))
    explainer = mk.Explainer(model, background=rows[:30])
    assert explainer.plan().method == "trees", explainer.plan()
    agree(explainer.explain(rows), *brute(lambda r: answers(proto, r), rows, rows[:30]))


def test_large_whole_numbers_are_compared_as_onnxruntime_does(tmp_path):
    tree = ("BRANCH_LEQ", 0, 16777216.0, (), False, tree_of(1, 16777218.0, 0.1, 0.7), -0.3)
    node = old_node([tree, tree_of(1, 3.0)], 2, np.float32, tracks=False, op="TreeEnsembleClassifier",
                    outputs=("label", "y"), classlabels_int64s=[0, 1])  # fmt: skip
    proto = graph([node], inputs={"x": (np.int64, 2)}, outputs={"y": (np.float32, 2)})
    rows = np.random.default_rng(0).choice(
        [0, 5, 16777215, 16777216, 16777217, 16777218, 16777219], (50, 2)
    )
    explanation = mk.Explainer(saved(proto, tmp_path), background=rows[:20]).explain(rows)
    agree(explanation, *brute(lambda r: answers(proto, r), rows, rows[:20]))


def test_softmax_that_is_divided_by_its_sum_is_additive(tmp_path):
    X, y = datasets.load_iris(return_X_y=True, as_frame=True)
    X = X.assign(kind=np.where(X.iloc[:, 0] > 5.8, "u", "v"))
    parts = compose.make_column_transformer(
        (preprocessing.OneHotEncoder(), ["kind"]), remainder=preprocessing.StandardScaler()
    )
    mk.save(
        make_pipeline(parts, linear_model.LogisticRegression()).fit(X, y),
        tmp_path / "m.mk",
        example=X,
        name="m",
        version="1",
    )
    model = mk.load(tmp_path / "m.mk")
    explanation = mk.Explainer(model, background=X[:40]).explain(X[50:60])
    assert (explanation.method, explanation.exact) == ("additive", True)
    margin = explanation.base_values + explanation.values.sum(axis=1)
    shares = np.exp(margin - margin.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        shares / shares.sum(axis=1, keepdims=True), model.predict_proba(X[50:60]), atol=1e-5
    )


def linear_ends():
    """Linear models whose number a row is a vector, of which onnxruntime knows that it is one."""
    scaled = preprocessing.StandardScaler
    yield (
        "behind gaps",
        make_pipeline(
            compose.make_column_transformer(
                (impute.SimpleImputer(add_indicator=True), [0, 1]), (scaled(), [2, 3])
            ),
            linear_model.Ridge(),
        ),
    )
    yield (
        "of a scaled target",
        make_pipeline(
            impute.SimpleImputer(),
            compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=scaled()),
        ),
    )


@pytest.mark.parametrize(("name", "model"), list(linear_ends()), ids=by_name)
def test_a_sum_that_ends_in_a_vector_is_additive(name, model, tmp_path):
    rows, y = datasets.load_iris(return_X_y=True)
    rows[::7, 0] = np.nan
    model.fit(rows, y)
    explainer = mk.Explainer(saved(model, tmp_path, rows), background=rows[:30])
    assert explainer.plan().method == "additive", (name, explainer.plan())
    agree(explainer.explain(rows[:20]), *brute(model.predict, rows[:20], rows[:30]), within=1e-9)


def exported():
    """The last operators of graphs as other converters write them, and what stands before them."""
    node, ml, f32 = helper.make_node, {"domain": "ai.onnx.ml"}, np.float32
    tree = [tree_of(0), tree_of(1, 0.5, -1.0, 2.0), tree_of(2, -0.5, 3.0, -1.0)]
    x3, y = {"x": (f32, 3)}, {"y": (f32, 1)}
    three = {"coefficients": [1.0, 2, -1, -1, -2, 1, 0, 1, 0], "intercepts": [0.0, 0.5, 0.0]}
    yield "trees", "trees behind an imputer and a scaler", graph(
        [node("Imputer", ["x"], ["i"], imputed_value_floats=[0.5], replaced_value_float=-2.0, **ml),
         node("Scaler", ["i"], ["t"], offset=[0.5, 0.0, 0.1], scale=[2.0, 1.0, 0.5], **ml),
         old_node(tree, 1, f32, tracks=False, inputs="t")], inputs=x3, outputs=y)  # fmt: skip
    yield "trees", "trees behind inputs side by side", graph(
        [node("Cast", ["b"], ["c"], to=TensorProto.FLOAT), node("Concat", ["c", "a"], ["t"], axis=1),
         old_node(tree, 1, f32, tracks=False, inputs="t")],
        inputs={"a": (f32, 2), "b": (f32, 1)}, outputs=y)  # fmt: skip
    for post in ("SOFTMAX", "LOGISTIC"):
        yield "additive", f"a linear classifier of {post} over its sum", graph(
            [node("LinearClassifier", ["x"], ["label", "s"], classlabels_ints=[0, 1, 2], post_transform=post,
                  **three, **ml), node("Normalizer", ["s"], ["y"], norm="L1", **ml)],
            inputs=x3, outputs={"y": (f32, 3)})  # fmt: skip
    yield "additive", "a product and a shift", graph(
        [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]]), "b": f32([0.5])})  # fmt: skip
    yield "enumeration", "a product and what is no shift", graph(
        [node("MatMul", ["x", "w"], ["p"]), node("Abs", ["p"], ["q"]), node("Add", ["p", "q"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]])})  # fmt: skip
    yield "enumeration", "trees and a shift", graph(
        [old_node(tree, 1, f32, tracks=False, outputs=("t",)), node("Add", ["t", "b"], ["y"])],
        inputs=x3, outputs=y, constants={"b": f32([0.5])})  # fmt: skip
    yield "enumeration", "a product of constants", graph(
        [node("MatMul", ["v", "w"], ["p"]), node("Mul", ["x", "zero"], ["z"]),
         node("ReduceSum", ["z", "axes"], ["n"]), node("Add", ["n", "p"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]]), "v": f32([[1, 2, 3]]), "zero": f32([0]),
                                         "axes": np.int64([1])})  # fmt: skip
    yield "enumeration", "a product of a product", graph(
        [node("Mul", ["x", "x"], ["s"]), node("MatMul", ["s", "w"], ["y"])],
        inputs=x3, outputs=y, constants={"w": f32([[1], [2], [3]])})  # fmt: skip


@pytest.mark.parametrize(("method", "name", "proto"), list(exported()), ids=by_name)
def test_of_other_graphs_the_last_operator_is_explained(method, name, proto, tmp_path):
    model = saved(proto, tmp_path)
    inputs = model.signature.inputs
    widths = [spec.shape[1] for spec in inputs]
    rows = np.random.default_rng(0).choice(np.float32([-2, -1, -0.4, 0.3, 1, 2]), (80, 3))

    def feeds(r):
        parts = np.split(np.float32(r), np.cumsum(widths)[:-1], axis=1)
        return {spec.name: part for spec, part in zip(inputs, parts, strict=True)}

    explanation = mk.Explainer(model, background=feeds(rows[:60])).explain(feeds(rows[60:]))
    assert explanation.method == method

    def f(r):
        if explanation.output_space != "raw_score":
            return np.asarray(model.run(feeds(r))["y"], float)
        return r @ np.reshape([1.0, 2, -1, -1, -2, 1, 0, 1, 0], (3, 3)).T + [0.0, 0.5, 0.0]

    agree(explanation, *brute(f, rows[60:], rows[:60]), within=2e-5)
