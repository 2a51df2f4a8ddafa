"""Tensors as Arrow has them: missing, in another order, of mixed types, or encoded."""

import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.graphs import model_of, tensor
from helpers.scored import save_graph
from onnx import TensorProto

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.integrations.scorer.arrow import as_block
from modelkit.integrations.scorer.tallier import Tallier

R = np.random.default_rng(0)
IMAGES = R.normal(size=(7, 3)).astype(np.float32)


def test_arrays_that_are_missing_or_differ_are_told(alike):
    scorer = mk.Scorer(alike, outputs=["y_0"])
    (name,) = scorer.inputs
    for odd in (None, IMAGES[0][:2]):
        for rows in ([odd, IMAGES[0]], [IMAGES[0], odd]):
            with pytest.raises(SignatureError, match="has arrays of the shapes"):
                scorer.frame(pd.DataFrame({name: rows}))
    encoded = pa.table({name: pa.array(["a", "b"]).dictionary_encode()})
    with pytest.raises(SignatureError, match="must have shape"):
        scorer.arrow(encoded)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_null_among_whole_numbers_is_refused(tmp_path, depth):
    shape = ("n", *[2] * depth)
    graph = model_of(
        [("Flatten", ["x"], ["y"], {})],
        [tensor("x", *shape, kind=TensorProto.INT64)],
        [tensor("y", "n", 2**depth, kind=TensorProto.INT64)],
    )
    example = {"x": np.ones([4] + [2] * depth, np.int64)}
    mk.save(graph, tmp_path / "m.mk", example=example, name="m", version="1")
    model = mk.load(tmp_path / "m.mk")
    whole, gap = [2**60 + 1, 2], [None, 2]
    if depth == 2:
        whole, gap = [whole, whole], [whole, gap]
    assert np.array_equal(model.run({"x": np.array([whole])})["y"], [np.ravel(whole)])
    scorer = mk.Scorer(tmp_path / "m.mk")
    with pytest.raises(SignatureError, match=r"missing value in row 1; int64 has none"):
        scorer.arrow(pa.table({"x": [whole, gap]}))


def missing_tensors(kind):
    """Three tensors, of which the second is missing and has numbers under its null."""
    flat = pa.array([1, 2, 3, 77, 88, 99, 4, 5, 6], pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(flat, 3, mask=pa.array([False, True, False]))
    if kind == "lists":
        return lists
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [3]), lists)


@pytest.mark.parametrize("kind", ["lists", "tensors"])
def test_a_missing_tensor_is_refused_and_not_read_from_under_its_null(sums, kind):
    column = missing_tensors(kind)
    with pytest.raises(SignatureError, match="1 missing lists or tensors"):
        mk.Scorer(sums).arrow(pa.table({"x": column}))
    vectors = R.normal(size=(600, 3)).astype(np.float32)
    profile = mk.Profile.fit({"x": vectors[:300]}, reference={"x": vectors[300:]})
    with pytest.raises(SignatureError, match="1 missing lists or tensors"):
        Tallier(profile).arrow(pa.table({"x": column}))
    assert mk.Scorer(sums).arrow(pa.table({"x": column.take([0, 2])}))["y"].to_pylist() == [6, 15]


def test_a_number_that_is_missing_in_a_tensor_is_told(tmp_path):
    graph = model_of(
        [("Identity", ["x"], ["y"], {})],
        [tensor("x", "n", 3, kind=TensorProto.INT64)],
        [tensor("y", "n", 3, kind=TensorProto.INT64)],
    )
    scorer = mk.Scorer(save_graph(graph, tmp_path / "m.mk", x=np.zeros((4, 3), np.int64)))
    kind = pa.fixed_shape_tensor(pa.int64(), [3])
    for gap, chunks in ((None, [[1, 2, 3]]), (None, [])):
        lists = pa.array([*chunks, [1, gap, 3]], pa.list_(pa.int64(), 3))
        column = pa.ExtensionArray.from_storage(kind, lists)
        with pytest.raises(SignatureError, match="missing value"):
            scorer.arrow(pa.table({"x": column}))


@pytest.mark.parametrize("axes", [(1, 2, 3), (1, 3, 2), (3, 2, 1), (2, 3, 1), (3, 1, 2)])
def test_tensors_of_any_order_of_axes_are_read_as_they_were_or_refused(axes):
    values = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4).transpose(0, *axes)
    whole = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    if axes in ((2, 3, 1), (3, 1, 2)):
        with pytest.raises(SignatureError, match="ascontiguousarray"):
            as_block(pa.chunked_array([whole]), "x")
        whole = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
    assert np.array_equal(as_block(pa.chunked_array([whole, whole[1:]]), "x")[:2], values)
    flat = whole.storage.flatten().to_numpy()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(flat, mask=flat == 1), 24)
    gaps = as_block(pa.chunked_array([pa.ExtensionArray.from_storage(whole.type, lists)]), "x")
    assert np.array_equal(gaps.mask, values == 1)
    assert np.array_equal(gaps.data[~gaps.mask], values[values != 1])


@pytest.mark.parametrize("odd", [np.array([16777217, 0, 0]), [16777217, 0, 0]])
def test_a_large_integer_beside_floats_is_not_rounded(sums, odd):
    scorer = mk.Scorer(sums)
    rows = pd.DataFrame({"x": [odd, np.array([0.5, 1, 2])]})
    with pytest.raises(SignatureError, match="beyond 2\\*\\*24"):
        scorer.frame(rows)
    with pytest.raises(SignatureError, match="beyond 2\\*\\*24"):
        scorer.arrow(pa.table({"x": [[16777217, None, 0]]}))
    whole = pd.DataFrame({"x": [np.array([1, 2, 3]), np.array([0.5, 1, 2]), [1, 2, 3]]})
    assert scorer.frame(whole)["y"].tolist() == [6, 3.5, 6]


@pytest.mark.parametrize("form", ["plain", "chunks"])
def test_categories_of_a_view_and_values_that_are_no_text_are_read(texts, form):
    views = pa.array(["a", "b"], pa.string_view())
    column = pa.DictionaryArray.from_arrays(pa.array([0, None, 1]), views)
    ids = pa.array([uuid.uuid4().bytes], pa.uuid())
    if form == "chunks":
        column, ids = pa.chunked_array([column]), pa.chunked_array([ids])
    assert mk.Scorer(texts).arrow(pa.table({"x": column}))["y"].to_pylist() == ["a", None, "b"]
    with pytest.raises(SignatureError, match="is of type UUID, a string is expected"):
        mk.Scorer(texts).arrow(pa.table({"x": ids}))
