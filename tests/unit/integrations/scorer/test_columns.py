"""Which columns a Scorer reads, keeps and gives: names that come twice, are numbers, or are missing; decimals."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.scored import X
from sklearn.linear_model import LinearRegression

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.integrations.scorer.columns import check_known_widths
from modelkit.integrations.scorer.tallier import Tallier


def test_a_kept_column_that_is_there_twice_or_has_other_rows_is_refused(package):
    scorer = mk.Scorer(package, keep=["id"])
    twice = pd.concat([X, pd.DataFrame({"id": X["a"]}), pd.DataFrame({"id": X["b"]})], axis=1)
    with pytest.raises(SignatureError, match="several columns of that name"):
        scorer.frame(twice)
    names = ["a", "b", "id", "id"]
    table = pa.table([twice.iloc[:, i].to_numpy() for i in range(4)], names=names)
    with pytest.raises(SignatureError, match="several columns of that name"):
        scorer.arrow(table)
    with pytest.raises(SignatureError, match=r"given 3 rows, and keep has others in \['id'\]"):
        scorer({"a": np.ones(3), "b": np.ones(3), "id": np.ones(4)})


def test_a_model_column_that_is_there_twice_in_a_table_is_refused(package):
    table = pa.table([X["a"], X["b"], X["a"]], names=["a", "b", "a"])
    with pytest.raises(SignatureError, match=r"several columns of the names \['a'\]"):
        mk.Scorer(package).arrow(table)


R = np.random.default_rng(0)


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


@pytest.mark.parametrize("odd", [4, "text", np.float64(3), [1, 2, 3], b"1234567"])
def test_a_kept_value_that_is_no_column_of_these_rows_is_told(arrays, odd):
    columns = {f"x{i}": np.ones(4) for i in range(3)}
    with pytest.raises(SignatureError, match=r"given 4 rows, and keep has others in \['id'\]"):
        mk.Scorer(arrays, keep=["id"])(columns | {"id": odd})


IMAGES = R.normal(size=(7, 3)).astype(np.float32)


def test_two_outputs_of_one_name_in_a_frame_are_refused(alike):
    """One of them was lost without a word."""
    scorer = mk.Scorer(alike)
    (name,) = scorer.inputs
    frame = pd.DataFrame({name: list(IMAGES)})
    with pytest.raises(SignatureError, match=r"would be named \['y_0'\]"):
        scorer.frame(frame)
    assert scorer.arrow(pa.table({name: list(IMAGES)})).column_names == ["y", "y_0"]
    assert list(mk.Scorer(alike, outputs=["y"]).frame(frame)) == ["y_0", "y_1"]


def test_a_kept_column_is_not_written_over_by_an_output(wide):
    scorer = mk.Scorer(wide, keep=["y_0"])
    rows = pd.DataFrame({"x": [[1.0, 2, 3], [4, 5, 6]], "y_0": ["kept", "kept"]})
    with pytest.raises(SignatureError, match=r"would be named \['y_0'\]; score an Arrow table"):
        scorer.frame(rows)
    table = scorer.arrow(pa.table({"x": rows["x"], "y_0": rows["y_0"]}))
    assert table.to_pydict() == {"y_0": ["kept", "kept"], "y": [[1, 2, 3], [4, 5, 6]]}
    with pytest.raises(SignatureError, match=r"\['y'\] have as many values a row as the rows say"):
        check_known_widths(scorer.outputs, "Dask")
