"""Columns of arrays and of texts: whole tensors, large integers, and what is missing."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.graphs import model_of, tensor
from helpers.scored import save_graph
from onnx import TensorProto

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.model.golden import decode_golden

R = np.random.default_rng(0)
STRING = TensorProto.STRING


@pytest.mark.parametrize("given", ["example", "golden"])
def test_missing_texts_are_golden_rows_that_verify(tmp_path, given):
    graph = model_of(
        [("Identity", ["x"], ["y"], {})],
        [tensor("x", "n", kind=STRING)],
        [tensor("y", "n", kind=STRING)],
    )
    rows = {"x": np.array(["a", None, "None", "b"], object)}
    path = tmp_path / "m.mk"
    mk.save(graph, path, name="m", version="1", **({"example": rows} | {given: rows}))
    model = mk.load(path)
    assert model.verify() == 0
    model.warmup()
    answer = model.attachments["golden"]
    assert decode_golden(answer, model.signature)[1]["y"].tolist().count(None) == (
        1 if given == "golden" else 0
    )
    assert model.run(rows)["y"].tolist() == ["a", None, "None", "b"]


@pytest.mark.parametrize("kind", ["Int64", "int64[pyarrow]", "polars"])
def test_a_large_integer_beside_a_missing_one_is_not_rounded(tmp_path, kind):
    graph = model_of([("Identity", ["x"], ["y"], {})], [tensor("x", "n")], [tensor("y", "n")])
    scorer = mk.Scorer(save_graph(graph, tmp_path / "m.mk", x=np.zeros(4, np.float32)))

    def scored(values):
        column = pl.Series(values) if kind == "polars" else pd.Series(values, dtype=kind)
        return scorer({"x": column})["y"]

    with pytest.raises(SignatureError, match="beyond 2\\*\\*24"):
        scored([16777217, None])
    assert np.array_equal(scored([5, None]), [5, np.nan], equal_nan=True)


def test_lists_that_are_no_array_are_told(sums):
    rows = pd.DataFrame({"x": [[[1.0], [1.0, 2.0]], [[1.0], [1.0, 2.0]]]})
    with pytest.raises(SignatureError, match="not an array"):
        mk.Scorer(sums).frame(rows)


def test_a_whole_tensor_is_taken_under_the_name_of_the_input(arrays):
    """As mk.load takes it, and as an engine has arrays and vectors: in one column."""
    X = R.normal(size=(5, 3))
    model = mk.load(arrays, threads=1)
    (spec,) = model.signature.inputs
    ours = model.predict({spec.name: X})
    scorer = mk.Scorer(arrays, keep=["id"])
    ids = np.arange(5)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(X)
    assert np.array_equal(scorer({spec.name: X, "id": ids})["prediction"], ours)
    for column in (tensors, pa.array(list(X)), pa.array(X.tolist(), pa.list_(pa.float64(), 3))):
        table = pa.table({spec.name: column, "id": ids})
        assert np.array_equal(scorer.arrow(table)["prediction"], ours)
    frame = pd.DataFrame({spec.name: list(X), "id": ids})
    assert np.array_equal(scorer.frame(frame)["prediction"], ours)
    assert scorer.frame(frame[:0]).dtypes.equals(scorer.frame(frame).dtypes)
    named = pd.DataFrame(X, columns=["x0", "x1", "x2"]).assign(**{spec.name: "no tensor", "id": 1})
    assert np.array_equal(scorer.frame(named)["prediction"], ours)
    with pytest.raises(SignatureError, match="must have shape"):
        scorer.frame(pd.DataFrame({spec.name: list(X[:, :2]), "id": ids}))


def test_texts_leave_as_they_came_and_missing_ones_as_none(texts):
    """A zero at the end of a text, and the mark that a graph has for a missing one."""
    values = np.array(["a", "b\0", None], object)
    scorer = mk.Scorer(texts, keep=["x"])
    found = [
        mk.load(texts).run({"x": values})["y"].tolist(),
        mk.load(texts).run({"x": np.tile(values, 9000)})["y"].tolist()[-3:],
        scorer({"x": values})["y"].tolist(),
        scorer.frame(pd.DataFrame({"x": values}))["y"].astype(object).replace({np.nan: None}),
        scorer.arrow(pa.table({"x": values}))["y"].to_pylist(),
    ]
    assert [list(each) for each in found] == [["a", "b\0", None]] * 5
