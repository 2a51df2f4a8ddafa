"""joblib packages take what joblib takes: each dtype reaches the estimator as it was in training."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers.packages import saved
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import ConversionError, SignatureError

N = 100
TIMES = pd.date_range("2024-01-01", periods=N, freq="7h")
SPANS = pd.to_timedelta(np.arange(N) % 17, unit="s")
SEEN = []  # the dtypes of the rows that the estimator was given


def numbers_of(rows):
    """A number for each value; it also notes the dtypes that it sees."""
    SEEN.append(rows.dtypes.tolist())
    columns = [[_number(value) for value in column] for _, column in rows.items()]
    return np.array(columns, np.float64).T


def _number(value):
    if isinstance(value, pd.Timestamp):
        return value.day_of_year + value.hour / 24
    if isinstance(value, pd.Timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return float(len(value))
    if value is None:
        return -2.0
    return -1.0 if value is pd.NA or value != value else float(value)


DTYPES = {
    "times": TIMES,
    "nanoseconds": TIMES.astype("datetime64[ns]"),
    "times with gaps": TIMES.where(np.arange(N) % 5 > 0),
    "times in Berlin": TIMES.tz_localize("UTC").tz_convert("Europe/Berlin"),
    "times of Arrow": pd.Series(TIMES).astype("timestamp[us][pyarrow]"),
    "times of Arrow in UTC": pd.Series(TIMES.tz_localize("UTC")).astype(
        "timestamp[us, tz=UTC][pyarrow]"
    ),
    "spans": SPANS,
    "Int64 with gaps": pd.array([1, None, 3, 4] * (N // 4), "Int64"),
    "boolean with gaps": pd.array([True, None] * (N // 2), "boolean"),
    "Float64 with gaps": pd.array([1.5, None] * (N // 2), "Float64"),
    "integers of Arrow": pd.Series([1, None, 3, 4] * (N // 4), dtype="int64[pyarrow]"),
    "strings of Arrow": pd.Series(["a", None, "bcd", "ef"] * (N // 4), dtype="string[pyarrow]"),
    "sparse floats": pd.arrays.SparseArray(np.tile([0.0, 1.5], N // 2)),
    "sparse integers": pd.arrays.SparseArray(np.tile([0, 2], N // 2)),
    "objects of several types": pd.Series([1, "abc", None, True, 2.5] * (N // 5), dtype=object),
    "texts, None and NaN": pd.Series(["a", None, np.nan, "bcd"] * (N // 4), dtype=object),
    "booleans with None": pd.Series([True, False, None, True] * (N // 4), dtype=object),
    "categories of integers": pd.Categorical([1, 2] * (N // 2)),
    "categories of booleans": pd.Categorical([True, False] * (N // 2)),
    "categories of booleans with gaps": pd.Categorical([True, False, None, True] * (N // 4)),
    "unsigned bytes": np.arange(N, dtype="uint8"),
    "large integers": np.arange(N) + 2**60,
}


def estimator_and_rows(values):
    rows = pd.DataFrame({"v": values, "x": np.linspace(-1, 1, N)})
    estimator = make_pipeline(FunctionTransformer(numbers_of), LogisticRegression())
    return estimator.fit(rows, np.arange(N) % 2), rows


def pickled(estimator, rows, path):
    manifest = mk.save(estimator, path, example=rows, name="m", version="1", format="joblib")
    return mk.load(path, digest=manifest.digest, allow={"joblib"})


@pytest.mark.parametrize("kind", DTYPES)
def test_rows_reach_the_estimator_in_the_dtype_of_training(kind, tmp_path):
    estimator, rows = estimator_and_rows(DTYPES[kind])
    with pickled(estimator, rows, tmp_path / "m.mk") as model:
        assert model.verify() == 0
        expected = estimator.predict_proba(rows)
        SEEN.clear()
        np.testing.assert_array_equal(model.predict_proba(rows), expected)
        np.testing.assert_array_equal(model.predict_proba(rows[::-1]), expected[::-1])
        records = rows[:7].to_dict("records")
        np.testing.assert_array_equal(model.predict_proba(records), expected[:7])
        assert [rows.dtypes.tolist()] * 3 == SEEN
        again = model.signature.columns(model.signature.coerce(rows))
        np.testing.assert_array_equal(model.predict_proba(again), expected)


def test_times_are_not_mixed_up(tmp_path):
    estimator, rows = estimator_and_rows(TIMES)
    with pickled(estimator, rows, tmp_path / "m.mk") as model:
        for other, refused in (
            (rows.assign(v=rows.v.dt.tz_localize("UTC")), "times without a time zone are expected"),
            (rows.assign(v=rows.v.astype(str)), r"of texts with pandas\.to_datetime"),
            (rows.assign(v=rows.v + pd.Timedelta(1, "ns")), "does not hold exactly"),
            (rows.assign(v=1.0), "where times without a time zone are expected"),
        ):
            with pytest.raises(SignatureError, match=refused):
                model.predict(other)
        expected = model.predict(rows)
        seconds = rows.assign(v=rows.v.astype("datetime64[s]"))
        for same in (seconds, pl.from_pandas(rows), pl.from_pandas(rows).to_arrow()):
            np.testing.assert_array_equal(model.predict(same), expected)


def test_times_with_a_zone_are_the_same_in_any(tmp_path):
    estimator, rows = estimator_and_rows(DTYPES["times in Berlin"])
    with pickled(estimator, rows, tmp_path / "m.mk") as model:
        expected = model.predict_proba(rows)
        elsewhere = rows.assign(v=rows.v.dt.tz_convert("Asia/Tokyo"))
        for same in (elsewhere, pl.from_pandas(rows), pl.from_pandas(elsewhere).to_arrow()):
            np.testing.assert_array_equal(model.predict_proba(same), expected)
        with pytest.raises(SignatureError, match="times without a time zone"):
            model.predict(rows.assign(v=TIMES))


def test_what_no_graph_takes_is_refused_with_a_way_out(tmp_path):
    for values, says in (
        (
            DTYPES["times in Berlin"],
            r"column 'v' has dtype datetime64\[.*tz_localize.*format='joblib'",
        ),
        (DTYPES["objects of several types"], r"column 'v' is one of Python objects"),
    ):
        estimator, rows = estimator_and_rows(values)
        with pytest.raises(ConversionError, match=says):
            mk.save(estimator, tmp_path / "m.mk", example=rows, name="m", version="1")
    estimator, rows = estimator_and_rows(TIMES)
    rows["v"] = [(1,)] * N
    with pytest.raises(ConversionError, match=r"holds \(1,\), a tuple"):
        pickled(estimator, rows, tmp_path / "m.mk")


def test_sparse_columns_convert_as_dense_ones(tmp_path):
    rows = pd.DataFrame({"a": pd.arrays.SparseArray(np.tile([0.0, 1.5], N // 2)), "b": 1.0})
    columns = ColumnTransformer([("n", "passthrough", ["a", "b"])])
    source = make_pipeline(columns, LogisticRegression()).fit(rows, np.arange(N) % 2)
    mk.save(source, tmp_path / "m.mk", example=rows, name="m", version="1")
    with mk.load(tmp_path / "m.mk") as model:
        expected = source.predict_proba(rows)
        np.testing.assert_allclose(model.predict_proba(rows), expected, atol=1e-12)


@pytest.mark.parametrize(
    "values", [["a", None, np.nan, "bcd"] * (N // 4), [1, 2, None, True, 2.5] * (N // 5)]
)
def test_encoders_of_what_no_signature_lists(values, tmp_path):
    column = pd.Series(values, dtype=object)
    rows = pd.DataFrame({"v": column, "x": np.linspace(-1, 1, N)})
    columns = ColumnTransformer([("c", OneHotEncoder(), ["v"]), ("n", "passthrough", ["x"])])
    source = make_pipeline(columns, LogisticRegression()).fit(rows, np.arange(N) % 2)
    with pickled(source, rows, tmp_path / "m.mk") as model:
        np.testing.assert_array_equal(model.predict_proba(rows), source.predict_proba(rows))
        spec = model.signature.inputs[0]
        assert (spec.columns[0].dtype, spec.columns[0].categories) == ("mixed", None)
        with pytest.raises(ValueError, match="unknown categories"):
            model.predict(rows.assign(v=pd.Series([values[-1] * 3] * N, dtype=object)))


FEW = 60


def to_texts(X):
    return X.astype(str)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_columns_of_one_dtype_of_which_some_are_dropped(dtype, tmp_path):
    """No joblib package could be made of them: all columns were filled from those that are read."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(FEW, 4)), columns=list("abcd")).astype(
        dtype
    )
    chosen = ColumnTransformer([("scaled", StandardScaler(), ["d", "b"])])
    fitted = make_pipeline(chosen, LogisticRegression()).fit(X, X.b > 0)
    _, model = saved(fitted, X, tmp_path, format="joblib")
    assert model.signature.ignored == ("a", "c")
    expected = fitted.predict_proba(X)
    for rows in (X, X[["b", "d"]], X.assign(a="not read")):
        np.testing.assert_array_equal(model.predict_proba(rows), expected)


def test_a_text_that_is_no_unicode_is_refused_by_a_joblib_package(tmp_path):
    """It was an error of pandas, which no caller expects."""
    X = pd.DataFrame({"town": ["Ulm", "Bonn"] * (FEW // 2)})
    encoder = OneHotEncoder(handle_unknown="ignore")
    fitted = make_pipeline(encoder, LinearRegression()).fit(X, X.town == "Ulm")
    _, model = saved(fitted, X, tmp_path, format="joblib")
    with pytest.raises(SignatureError, match="a text of column 'town' is no valid Unicode"):
        model.predict([{"town": "\ud800"}])


def _shops(form):
    shops = np.arange(FEW) % 5
    if form == "array":
        return np.column_stack([shops, shops % 3])
    return pd.DataFrame({"shop": pd.array(shops, form), "size": np.arange(FEW) / 7})


@pytest.mark.parametrize("form", ["int64", "int8", "Int64", "array"])
def test_whole_numbers_that_become_texts_are_alike_beside_any_other_rows(form, tmp_path):
    """A gap in a row of another caller made 1.0 of 1, and an unknown shop of a known one."""
    X = _shops(form)
    texts = make_pipeline(FunctionTransformer(to_texts), OneHotEncoder(handle_unknown="ignore"))
    if form != "array":
        texts = ColumnTransformer([("shop", texts, ["shop"])], remainder="passthrough")
    fitted = make_pipeline(texts, LinearRegression()).fit(X, np.arange(FEW) % 5)
    _, model = saved(fitted, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
    strange = X.copy().astype(float) if form == "array" else X.assign(shop=0.5)
    if form == "array":
        strange[0, 0] = 0.5
    with pytest.raises(SignatureError, match="where integers"):
        model.predict(strange)


def test_whole_numbers_that_stay_numbers_may_be_missing(tmp_path):
    X = _shops("int64")
    fitted = LinearRegression().fit(X, np.arange(FEW) % 5)
    _, model = saved(fitted, X, tmp_path, format="joblib")
    halves = X.assign(shop=X["shop"] + 0.5)
    np.testing.assert_allclose(model.predict(halves), fitted.predict(halves))


def test_a_frame_of_python_objects_that_are_numbers_has_a_joblib_package(tmp_path):
    """Texts were made up for its columns, which the estimator does not take."""
    numbers = np.random.default_rng(0).normal(size=(FEW, 2))
    X = pd.DataFrame(numbers, columns=["a", "b"]).astype(object)
    fitted = LinearRegression().fit(X, numbers[:, 0])
    _, model = saved(fitted, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
