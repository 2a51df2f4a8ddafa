"""Rows as engines have them: tensors that are missing, whole, or of mixed types; names; decimals."""

import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.graphs import model_of, tensor
from onnx import TensorProto
from sklearn.linear_model import LinearRegression, LogisticRegression

import modelkit as mk
from modelkit.errors import DeviceError, DriftError, SignatureError
from modelkit.integrations.scorer.arrow import as_block
from modelkit.integrations.scorer.columns import check_known_widths
from modelkit.integrations.scorer.refusals import check_apart_in_any_case, check_pool, check_zone
from modelkit.integrations.scorer.tallier import Tallier
from modelkit.model.golden import decode_golden

R = np.random.default_rng(0)
STRING = TensorProto.STRING


def saved(graph, path, **example):
    mk.save(graph, path, example=example, name="m", version="1")
    return path


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """The sum of three floats of a tensor without columns."""
    graph = model_of(
        [("ReduceSum", ["x", "axis"], ["y"], {"keepdims": 0})],
        [tensor("x", "n", 3)],
        [tensor("y", "n")],
        {"axis": np.array([1])},
    )
    folder = tmp_path_factory.mktemp("sums")
    return saved(graph, folder / "m.mk", x=np.zeros((4, 3), np.float32))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """An output of which only the rows tell how many values it has."""
    graph = model_of(
        [("Identity", ["x"], ["y"], {})], [tensor("x", "n", "k")], [tensor("y", "n", "k")]
    )
    folder = tmp_path_factory.mktemp("wide")
    return saved(graph, folder / "m.mk", x=np.zeros((4, 3), np.float32))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A text, as it is."""
    graph = model_of(
        [("Identity", ["x"], ["y"], {})],
        [tensor("x", "n", kind=STRING)],
        [tensor("y", "n", kind=STRING)],
    )
    folder = tmp_path_factory.mktemp("texts")
    return saved(graph, folder / "m.mk", x=np.full(4, "a", object))


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """A model that was trained on an array of three columns."""
    X = R.normal(size=(60, 3))
    path = tmp_path_factory.mktemp("arrays") / "m.mk"
    mk.save(LinearRegression().fit(X, X.sum(axis=1)), path, example=X, name="m", version="1")
    return path


# Tensors.


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
    scorer = mk.Scorer(saved(graph, tmp_path / "m.mk", x=np.zeros((4, 3), np.int64)))
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


def test_a_kept_column_of_python_values_needs_no_shape(sums):
    rows = {"x": np.ones((2, 3), np.float32), "tags": [["a"], ["a", "b"]]}
    scored = mk.Scorer(sums, keep=["tags"])(rows)
    assert scored["tags"] == rows["tags"]
    with pytest.raises(SignatureError, match="keep has others"):
        mk.Scorer(sums, keep=["tags"])(rows | {"tags": [["a"]]})


def test_a_dict_with_two_names_that_are_written_alike_is_refused(tmp_path):
    X = pd.DataFrame(R.normal(size=(60, 2)))
    mk.save(LinearRegression().fit(X, X[0]), tmp_path / "m.mk", example=X, name="m", version="1")
    scorer = mk.Scorer(tmp_path / "m.mk")
    assert len(scorer({0: X[0], 1: X[1]})["prediction"]) == 60
    with pytest.raises(SignatureError, match="several columns"):
        scorer({0: X[0], 1: X[1], "1": X[0]})


def test_a_tally_of_two_columns_of_one_name_is_refused():
    X = pd.DataFrame(R.normal(size=(600, 2)), columns=["a", "b"])
    tallier = Tallier(mk.Profile.fit(X[:300], reference=X[300:]))
    odd = pa.table([X.a, X.b, X.a], names=["a", "b", "a"])
    for count, rows in ((tallier.frame, odd.to_pandas()), (tallier.arrow, odd)):
        with pytest.raises(DriftError, match="several columns of the names"):
            count(rows)


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
    scorer = mk.Scorer(saved(graph, tmp_path / "m.mk", x=np.zeros(4, np.float32)))

    def scored(values):
        column = pl.Series(values) if kind == "polars" else pd.Series(values, dtype=kind)
        return scorer({"x": column})["y"]

    with pytest.raises(SignatureError, match="beyond 2\\*\\*24"):
        scored([16777217, None])
    assert np.array_equal(scored([5, None]), [5, np.nan], equal_nan=True)


def test_lists_that_are_no_array_are_told(sums):
    rows = pd.DataFrame({"x": [[[1.0], [1.0, 2.0]], [[1.0], [1.0, 2.0]]]})
    with pytest.raises(SignatureError, match="no array"):
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


# Texts.


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


@pytest.mark.parametrize("form", ["plain", "chunks"])
def test_categories_of_a_view_and_values_that_are_no_text_are_read(texts, form):
    views = pa.array(["a", "b"], pa.string_view())
    column = pa.DictionaryArray.from_arrays(pa.array([0, None, 1]), views)
    ids = pa.array([uuid.uuid4().bytes], pa.uuid())
    if form == "chunks":
        column, ids = pa.chunked_array([column]), pa.chunked_array([ids])
    assert mk.Scorer(texts).arrow(pa.table({"x": column}))["y"].to_pylist() == ["a", None, "b"]
    with pytest.raises(SignatureError, match="is a UUID, a string is expected"):
        mk.Scorer(texts).arrow(pa.table({"x": ids}))


# Names and types.


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A model that was trained on a frame whose columns are numbers."""
    X = pd.DataFrame(R.normal(size=(200, 2)))
    path = tmp_path_factory.mktemp("numbered") / "m.mk"
    mk.save(LogisticRegression().fit(X, X[0] > 0), path, example=X, name="m", version="1")
    return path, X


def test_names_that_are_numbers_are_read_as_the_model_reads_them(numbered):
    path, X = numbered
    ours = mk.load(path, threads=1).run(X)["label"]
    scorer = mk.Scorer(path, keep=["0"])
    assert np.array_equal(scorer.frame(X)["label"], ours)
    assert np.array_equal(scorer({0: X[0], 1: X[1]})["label"], ours)
    assert scorer.frame(X)["0"].tolist() == X[0].tolist()
    profile = mk.Profile.fit(X[:100], reference=X[100:])
    assert Tallier(profile).frame(X) == [profile.tally(X)]
    frames = pytest.importorskip("dask.dataframe")
    from modelkit.integrations import dask as integration

    rows = frames.from_pandas(X, npartitions=2)
    assert np.array_equal(integration.score(rows, path).compute()["label"], ours)
    assert integration.drift(rows, profile).features == mk.Detector(profile).test(X).features


def test_columns_are_told_before_anything_runs(arrays):
    scorer = mk.Scorer(arrays, keep=["id"])
    assert scorer.columns(["x2", "other", "x1", "id", "x0"]) == ["id", "x0", "x1", "x2"]
    with pytest.raises(SignatureError, match=r"missing column 'x1' \(is it 'X1'\?\)"):
        scorer.columns(["x0", "X1", "x2", "id"])
    with pytest.raises(SignatureError, match=r"several columns of the names \['x1'\]"):
        scorer.columns(["x0", "x1", "x1", "x2", "id"])
    with pytest.raises(SignatureError, match=r"keep names \['id'\]"):
        scorer.columns(["x0", "x1", "x2"])
    with pytest.raises(SignatureError, match="missing column 'x2'"):
        scorer.schema(pa.schema({"x0": pa.float64(), "x1": pa.float64(), "id": pa.int64()}))


def test_decimals_are_refused_with_the_cast_that_makes_them_floats(arrays):
    scorer = mk.Scorer(arrays, keep=["price"])
    decimals = pa.array([Decimal("0.1"), Decimal(2)])
    table = pa.table({"x0": [1.0, 2.0], "x1": decimals, "x2": [1.0, 2.0], "price": decimals})
    with pytest.raises(SignatureError, match=r"\['x1'\] are decimals.*cast\(\"double\"\) in Spark"):
        scorer.arrow(table)
    whole = table.set_column(1, "x1", table["x1"].cast("float64"))
    assert scorer.arrow(whole)["price"].to_pylist() == decimals.to_pylist()


def test_a_kept_column_is_not_written_over_by_an_output(wide):
    scorer = mk.Scorer(wide, keep=["y_0"])
    rows = pd.DataFrame({"x": [[1.0, 2, 3], [4, 5, 6]], "y_0": ["kept", "kept"]})
    with pytest.raises(SignatureError, match=r"would be named \['y_0'\]; score an Arrow table"):
        scorer.frame(rows)
    table = scorer.arrow(pa.table({"x": rows["x"], "y_0": rows["y_0"]}))
    assert table.to_pydict() == {"y_0": ["kept", "kept"], "y": [[1, 2, 3], [4, 5, 6]]}
    with pytest.raises(SignatureError, match=r"\['y'\] have as many values a row as the rows say"):
        check_known_widths(scorer.outputs, "Dask")


def test_dask_is_told_of_a_width_that_only_rows_know_where_the_job_is_built(wide):
    frames = pytest.importorskip("dask.dataframe")
    from modelkit.integrations import dask as integration

    rows = frames.from_map(lambda i: pd.DataFrame({"x": [[1.0, 2.0 + i]]}), [0, 1])
    with pytest.raises(SignatureError, match="and Dask needs to know the columns"):
        integration.score(rows, wide)


@pytest.mark.parametrize("odd", [4, "text", np.float64(3), [1, 2, 3], b"1234567"])
def test_a_kept_value_that_is_no_column_of_these_rows_is_told(arrays, odd):
    columns = {f"x{i}": np.ones(4) for i in range(3)}
    with pytest.raises(SignatureError, match=r"given 4 rows, and keep has others in \['id'\]"):
        mk.Scorer(arrays, keep=["id"])(columns | {"id": odd})


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"keep": [1]}, SignatureError, r"keep has the names \[1\], which are no texts"),
        ({"keep": {"a"}}, SignatureError, "a set has none"),
        ({"outputs": {"prediction"}}, SignatureError, "a set has none"),
        ({"explain": "no"}, TypeError, "explain is True or False"),
        ({"digest": 5}, TypeError, "digest is a text"),
    ],
)
def test_arguments_of_another_type_are_told(arrays, wrong, error, says):
    with pytest.raises(error, match=says):
        mk.Scorer(arrays, **wrong)


# What a cluster has.

GPU_NODE = {"CPU": 0.0, "GPU": 1.0}
HEAD = {"CPU": 2.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("nodes", "actors"),
    [([HEAD, GPU_NODE], 1), ([{"CPU": 1.0, "GPU": 2.0}], 2), ([HEAD, *[GPU_NODE] * 8], 8)],
)
def test_a_pool_that_a_cluster_can_hold(nodes, actors):
    check_pool(nodes, actors)


@pytest.mark.parametrize(
    ("nodes", "actors", "says"),
    [
        ([HEAD], 1, "have 0"),
        ([HEAD, GPU_NODE], 2, "have 1"),
        ([HEAD, {"GPU": 0.5}, {"GPU": 0.5}], 1, "have 0"),
        ([GPU_NODE], 1, "no node of the cluster has a CPU"),
        ([], 1, "have 0"),
    ],
)
def test_a_pool_that_would_wait_for_ever_is_refused(nodes, actors, says):
    with pytest.raises(DeviceError, match=says):
        check_pool(nodes, actors)


@pytest.mark.parametrize("gpus", [-1, 0.5, "2", None])
def test_a_number_of_gpus_that_is_none_is_told(gpus):
    with pytest.raises(ValueError, match="whole number of GPUs"):
        check_pool([GPU_NODE, HEAD], gpus)


def test_names_that_differ_in_case_alone_and_times_of_another_zone_are_told():
    check_apart_in_any_case(["id", "label"])
    with pytest.raises(SignatureError, match=r"\['Label', 'label'\] of keep and outputs"):
        check_apart_in_any_case(["id", "Label", "label"])
    check_zone(["at"], "UTC")
    check_zone([], "Europe/Berlin")
    with pytest.raises(DriftError, match=r"session zone is Europe/Berlin.*timestamp_ntz"):
        check_zone(["at"], "Europe/Berlin")
