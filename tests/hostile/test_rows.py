"""Rows that a package once answered wrongly, or not at all: each was found by an attack on it."""

import enum
import json
from datetime import datetime, timedelta, timezone, tzinfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.packages import saved
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import modelkit as mk
from modelkit.errors import SignatureError

N = 60
FAR = datetime(9999, 12, 31)  # noqa: DTZ001 - a column of times without a time zone
NANOSECOND = pd.Timestamp("2024-01-01 00:00:00.000000001")


class Word(str, enum.Enum):  # noqa: UP042 - a StrEnum is shown as its text
    """As an application keeps its words: equal to a text, and shown as another one."""

    GOOD = "good film"


class Silent(tzinfo):
    """A time zone that does not say how far it is from UTC."""

    def utcoffset(self, _):
        return None

    dst = tzname = utcoffset


def to_texts(X):
    return X.astype(str)


def taking(dtype):
    column = mk.Column("at", dtype, nullable=True)
    inputs = (mk.TensorSpec("at", dtype, ("batch", 1), (column,)),)
    return mk.Signature(inputs, (mk.TensorSpec("y", "float64", ("batch",)),))


def coerced(dtype, *values):
    found = taking(dtype).coerce([{"at": value} for value in values])["at"][:, 0]
    return found.tolist()


def test_a_time_far_away_beside_one_of_nanoseconds_is_no_other_time():
    """The year 9999 was taken for 1816, as numpy wraps around."""
    with pytest.raises(SignatureError, match="a time in row 0 that"):
        coerced("datetime64[ns]", FAR, NANOSECOND)
    with pytest.raises(SignatureError, match="a time in row 1 that"):
        coerced("datetime64[us]", FAR, NANOSECOND)
    assert coerced("datetime64[us]", FAR, NANOSECOND.floor("us"), None)[0] == FAR


def test_times_at_the_ends_of_the_calendar_have_a_time_zone_too():
    west, east = (timezone(timedelta(hours=hours)) for hours in (-5, 5))
    last = datetime(9999, 12, 31, 23, tzinfo=west)
    first = datetime(1, 1, 1, 1, tzinfo=east)
    found = coerced("datetime64[us, UTC]", last, first)
    ends = ["9999-12-31T23:00", "0001-01-01T01:00"]
    expected = np.array(ends, "M8[us]") + np.array([5, -5], "m8[h]")
    assert found == expected.tolist()


def test_a_time_zone_that_does_not_say_is_none():
    with pytest.raises(SignatureError, match="with a time zone are expected"):
        coerced("datetime64[us, UTC]", datetime(2024, 1, 1, tzinfo=Silent()))


@pytest.mark.parametrize("unit", ["Y", "M", "generic"])
@pytest.mark.parametrize("form", ["array", "objects"])
def test_a_span_whose_length_nobody_knows_is_refused(unit, form):
    spans = np.array([1], "m8" if unit == "generic" else f"m8[{unit}]")
    held = spans if form == "array" else np.array([spans[0], None], object)
    with pytest.raises(SignatureError, match="does not hold exactly"):
        taking("timedelta64[ms]").coerce({"at": held})


def test_a_message_names_the_time_zone_that_is_expected():
    with pytest.raises(SignatureError, match="times with a time zone are expected"):
        taking("datetime64[us, UTC]").coerce({"at": np.array([1, 2])})


def test_a_longdouble_beyond_the_floats_is_no_infinity():
    with pytest.raises(SignatureError, match="beyond the range of float64 in row 0"):
        coerced("float64", np.longdouble("1e4000"), None)
    assert coerced("float64", np.longdouble("0.5"), True) == [0.5, 1.0]


def test_a_missing_time_of_pandas_is_null_in_json():
    assert json.loads(mk.to_json({"at": [pd.NaT, pd.Timestamp(0)]})) == {
        "at": [None, "1970-01-01T00:00:00"]
    }


@pytest.mark.parametrize("analyzer", ["word", "char", "char_wb"])
def test_a_member_of_an_enumeration_is_the_text_that_it_holds(analyzer, tmp_path):
    """It was the text "Word.GOOD" to a vectorizer that leaves capitals as they are."""
    texts = ["good film", "bad film", "a good day", "none"] * 5
    vectorizer = CountVectorizer(lowercase=False, analyzer=analyzer)
    fitted = make_pipeline(vectorizer, LinearRegression()).fit(texts, [1, 2, 3, 4] * 5)
    _, model = saved(fitted, texts, tmp_path)
    np.testing.assert_allclose(model.predict([Word.GOOD]), fitted.predict(["good film"]))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_columns_of_one_dtype_of_which_some_are_dropped(dtype, tmp_path):
    """No joblib package could be made of them: all columns were filled from those that are read."""
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(N, 4)), columns=list("abcd")).astype(
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
    X = pd.DataFrame({"town": ["Ulm", "Bonn"] * (N // 2)})
    encoder = OneHotEncoder(handle_unknown="ignore")
    fitted = make_pipeline(encoder, LinearRegression()).fit(X, X.town == "Ulm")
    _, model = saved(fitted, X, tmp_path, format="joblib")
    with pytest.raises(SignatureError, match="a text of column 'town' is no valid Unicode"):
        model.predict([{"town": "\ud800"}])


def _shops(form):
    shops = np.arange(N) % 5
    if form == "array":
        return np.column_stack([shops, shops % 3])
    return pd.DataFrame({"shop": pd.array(shops, form), "size": np.arange(N) / 7})


@pytest.mark.parametrize("form", ["int64", "int8", "Int64", "array"])
def test_whole_numbers_that_become_texts_are_alike_beside_any_other_rows(form, tmp_path):
    """A gap in a row of another caller made 1.0 of 1, and an unknown shop of a known one."""
    X = _shops(form)
    texts = make_pipeline(FunctionTransformer(to_texts), OneHotEncoder(handle_unknown="ignore"))
    if form != "array":
        texts = ColumnTransformer([("shop", texts, ["shop"])], remainder="passthrough")
    fitted = make_pipeline(texts, LinearRegression()).fit(X, np.arange(N) % 5)
    _, model = saved(fitted, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))
    strange = X.copy().astype(float) if form == "array" else X.assign(shop=0.5)
    if form == "array":
        strange[0, 0] = 0.5
    with pytest.raises(SignatureError, match="where integers"):
        model.predict(strange)


def test_whole_numbers_that_stay_numbers_may_be_missing(tmp_path):
    X = _shops("int64")
    fitted = LinearRegression().fit(X, np.arange(N) % 5)
    _, model = saved(fitted, X, tmp_path, format="joblib")
    halves = X.assign(shop=X["shop"] + 0.5)
    np.testing.assert_allclose(model.predict(halves), fitted.predict(halves))


def test_a_frame_of_python_objects_that_are_numbers_has_a_joblib_package(tmp_path):
    """Texts were made up for its columns, which the estimator does not take."""
    numbers = np.random.default_rng(0).normal(size=(N, 2))
    X = pd.DataFrame(numbers, columns=["a", "b"]).astype(object)
    fitted = LinearRegression().fit(X, numbers[:, 0])
    _, model = saved(fitted, X, tmp_path, format="joblib")
    np.testing.assert_array_equal(model.predict(X), fitted.predict(X))


@pytest.mark.parametrize("package", ["onnx", "joblib"])
def test_an_example_of_another_order_of_bytes(package, tmp_path):
    X = np.random.default_rng(0).normal(size=(N, 2)).astype(">f8")
    fitted = LinearRegression().fit(X, X[:, 0])
    _, model = saved(fitted, X, tmp_path, format=package)
    np.testing.assert_allclose(model.predict(X), fitted.predict(X), atol=1e-9)


def test_an_example_that_forbids_equal_labels(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(N, 2))
    X = pd.DataFrame(numbers, columns=["a", "b"]).set_flags(allows_duplicate_labels=False)
    fitted = LinearRegression().fit(X, numbers[:, 0])
    _, model = saved(fitted, X, tmp_path)
    np.testing.assert_allclose(model.predict(X), fitted.predict(X), atol=1e-9)
    assert not X.flags.allows_duplicate_labels


@pytest.mark.parametrize("form", [pl.Series, pa.array, pd.Series, np.array])
def test_an_example_of_texts_in_any_form(form, tmp_path):
    texts = ["good film", "bad film", "a good day", "none"] * 5
    fitted = make_pipeline(CountVectorizer(), LinearRegression()).fit(texts, [1, 2, 3, 4] * 5)
    _, model = saved(fitted, form(texts), tmp_path)
    np.testing.assert_allclose(model.predict(texts), fitted.predict(texts))
