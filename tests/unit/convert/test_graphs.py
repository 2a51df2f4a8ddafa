"""ONNX graphs of any make: names, batches, dicts of probabilities, columns."""

import numpy as np
import onnxruntime
import pandas as pd
import polars as pl
import pytest
from helpers.packages import kept
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError
from modelkit.testing import check_model

ROWS, SPECIES = load_iris(return_X_y=True)
ROWS = ROWS.astype(np.float32)
NAMES = np.array(["setosa", "versicolor", "virginica"])
COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]


def onnx_model(shape=("batch", 4), op="Relu"):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_any_onnx_model_can_be_saved(tmp_path):
    proto = onnx_model()
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    before = proto.SerializeToString()
    for source in (proto, proto.SerializeToString(), path, str(path)):
        manifest = mk.save(source, tmp_path / "m.mk", name="m", version="1")
        assert manifest.parity.against is None
        assert manifest.parity.batch_invariant
        with mk.load(tmp_path / "m.mk") as model:
            check_model(model, np.ones((5, 4), np.float32))
            np.testing.assert_array_equal(
                model.predict(np.float32([[-1, 0, 1, 2]])), [[0, 0, 1, 2]]
            )
            with pytest.raises(AttributeError, match="predict_proba needs classes"):
                model.predict_proba(np.ones((1, 4), np.float32))
    assert proto.SerializeToString() == before


def test_dimensions_without_a_name_and_fixed_batches(tmp_path):
    mk.save(onnx_model((None, 4)), tmp_path / "m.mk", name="m", version="1")
    assert mk.inspect(tmp_path / "m.mk").signature.batch == "batch"
    mk.save(onnx_model((2, 4)), tmp_path / "m.mk", name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        assert model.signature.batch is None
        check_model(model, np.ones((2, 4), np.float32))
        with pytest.raises(SignatureError, match=r"shape \(2, 4\), got \(3, 4\)"):
            model.predict(np.ones((3, 4), np.float32))


def test_a_graph_whose_rows_depend_on_each_other_is_never_split(tmp_path):
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in "xy")
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    axes = numpy_helper.from_array(np.array([0]), "axes")
    graph = helper.make_graph(nodes, "g", [x], [y], [axes])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    manifest = mk.save(proto, tmp_path / "m.mk", name="m", version="1")
    assert not manifest.parity.batch_invariant
    X = np.random.default_rng(0).normal(size=(50_000, 2)).astype(np.float32)
    with mk.load(tmp_path / "m.mk") as model:
        np.testing.assert_allclose(model.predict(X), X - X.mean(axis=0), atol=1e-4)


def test_two_inputs_that_disagree_on_the_batch_are_refused(tmp_path):
    a, b, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in "aby")
    s = helper.make_tensor_value_info("s", TensorProto.FLOAT, ["batch", 2])
    nodes = [helper.make_node("Abs", ["a"], ["y"]), helper.make_node("Abs", ["b"], ["s"])]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [a, b], [y, s]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    mk.save(proto, tmp_path / "m.mk", name="m", version="1")
    ones = np.ones((3, 2), np.float32)
    with mk.load(tmp_path / "m.mk") as model:
        check_model(model, {"a": ones, "b": ones})
        with pytest.raises(SignatureError, match="'batch' is 3 in 'a', but 5 in 'b'"):
            model.run({"a": ones, "b": np.ones((5, 2), np.float32)})
        with pytest.raises(SignatureError, match="predict needs a primary output"):
            model.predict({"a": ones, "b": ones})


def test_weights_that_lie_beside_an_onnx_file_are_taken_in(tmp_path):
    import onnx

    w = numpy_helper.from_array(np.arange(4096, dtype=np.float32).reshape(64, 64), "w")
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 64]) for n in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [w])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(
        proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0
    )
    mk.save(tmp_path / "m.onnx", tmp_path / "m.mk", name="m", version="1")
    (tmp_path / "m.bin").unlink()
    with mk.load(tmp_path / "m.mk") as model:
        np.testing.assert_array_equal(
            model.predict(np.eye(64, dtype=np.float32)), np.arange(4096).reshape(64, 64)
        )


def exported(estimator, **options):
    skl2onnx = pytest.importorskip("skl2onnx")
    types = [("input", skl2onnx.common.data_types.FloatTensorType([None, 4]))]
    return skl2onnx.convert_sklearn(estimator, "m", types, target_opset=17, **options)


def session(proto):
    return onnxruntime.InferenceSession(proto.SerializeToString())


@pytest.mark.parametrize("labels", [SPECIES, NAMES[SPECIES], SPECIES == 1])
def test_dicts_of_probabilities_become_a_matrix_with_classes(labels, tmp_path):
    """skl2onnx writes a ZipMap unless it is told not to."""
    proto = exported(RandomForestClassifier(9, random_state=0).fit(ROWS, labels))
    assert "ZipMap" in {node.op_type for node in proto.graph.node}
    expected, dicts = session(proto).run(None, {"input": ROWS})
    model = kept(proto, tmp_path)
    assert model.classes_.tolist() == np.unique(expected).tolist()
    np.testing.assert_array_equal(model.predict(ROWS), expected)
    rows = [[share[label] for label in model.classes_.tolist()] for share in dicts]
    np.testing.assert_allclose(model.predict_proba(ROWS), rows, atol=1e-6)
    assert model.score(ROWS, expected) == 1


@pytest.mark.parametrize("labels", [SPECIES, NAMES[SPECIES]])
def test_dicts_of_probabilities_of_catboost(labels, tmp_path):
    catboost = pytest.importorskip("catboost")
    booster = catboost.CatBoostClassifier(
        iterations=5, verbose=False, allow_writing_files=False, thread_count=1
    ).fit(ROWS, labels)
    booster.save_model(str(tmp_path / "booster.onnx"), format="onnx")
    model = kept(tmp_path / "booster.onnx", tmp_path, example=pd.DataFrame(ROWS, columns=COLUMNS))
    np.testing.assert_allclose(model.predict_proba(ROWS), booster.predict_proba(ROWS), atol=1e-6)
    assert model.predict(ROWS).tolist() == booster.predict(ROWS).reshape(-1).tolist()
    assert model.classes_.tolist() == booster.classes_.tolist()
    assert [column.name for column in model.signature.inputs[0].columns] == COLUMNS


def test_an_example_with_names_names_the_columns(tmp_path):
    estimator = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    proto = exported(estimator.fit(ROWS, SPECIES))
    frame = pd.DataFrame(ROWS, columns=COLUMNS)
    for example in (frame, pl.from_pandas(frame), frame.to_dict("records")):
        model = kept(proto, tmp_path, example=example)
        expected = model.predict(ROWS)
        np.testing.assert_array_equal(model.predict(frame[COLUMNS[::-1]]), expected)
        np.testing.assert_array_equal(model.predict(frame.to_dict("records")), expected)
        with pytest.raises(SignatureError, match="missing column 'petal width'"):
            model.predict(frame.rename(columns={"petal width": "width"}))
    with pytest.raises(ConversionError, match="the example has 3 columns"):
        kept(proto, tmp_path, example=frame[COLUMNS[:3]])
    model = kept(proto, tmp_path, names=COLUMNS)
    np.testing.assert_array_equal(model.predict(frame[COLUMNS[::-1]]), expected)


def test_one_input_a_column_takes_frames(tmp_path):
    """As skl2onnx has it for frames: each column is an input of its own."""
    skl2onnx = pytest.importorskip("skl2onnx")
    kinds = skl2onnx.common.data_types
    frame = pd.DataFrame({"size": ROWS[:, 0], "shop": np.where(SPECIES, "a", "b")})
    columns = make_column_transformer((OneHotEncoder(), ["shop"]), remainder="passthrough")
    estimator = make_pipeline(columns, LogisticRegression()).fit(frame, SPECIES)
    types = [
        ("size", kinds.FloatTensorType([None, 1])),
        ("shop", kinds.StringTensorType([None, 1])),
    ]
    proto = skl2onnx.convert_sklearn(estimator, "m", types, target_opset=17)
    model = kept(proto, tmp_path, example=frame)
    for rows in (frame, frame[["shop", "size"]], frame.to_dict("records"), frame.to_dict("list")):
        np.testing.assert_array_equal(model.predict(rows), estimator.predict(frame))
