"""Values of another type than the column's, and that their type decides, never their values."""

from collections import OrderedDict
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.examples import examples
from helpers.mistakes import (
    BOOLEAN,
    BYTE,
    INTEGER,
    MAYBE,
    MAYBE_SINGLE,
    MAYBE_TEXT,
    NOON,
    NOT_TO_NUMBERS,
    NUMBER,
    SINGLE,
    TEXT,
    TRUNCATES,
    check_refused,
    containers,
    in_both_layouts,
    in_every_container,
    one_tensor,
    tensor_per_column,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from modelkit import Column
from modelkit.errors import SignatureError
from modelkit.signature.cast import MISSING

NOT_TO_TEXT = "a number is not turned into text"
LIKE_IN_TRAINING = "turn timestamps into numbers the way it was done in training"


# Values of another type than the column's.
TYPES = [
    *in_every_container("floats for integers", [INTEGER], containers([1.0, 2.0]), [TRUNCATES]),
    (
        "one float among integers",
        [INTEGER],
        {"n": [1, 2.0, 3]},
        ["2.0 in row 1 is a float, an integer is expected"],
    ),
    *in_every_container(
        "integers for booleans", [BOOLEAN], containers([0, 1]), ["integers (int64) where booleans"]
    ),
    *in_every_container(
        "floats for booleans",
        [BOOLEAN],
        containers([0.0, 1.0]),
        ["floats (float64) where booleans"],
    ),
    *in_every_container("strings for floats", [NUMBER], containers(["1", "2"]), [NOT_TO_NUMBERS]),
    *in_every_container(
        "strings for integers", [INTEGER], containers(["1", "2"]), [NOT_TO_NUMBERS]
    ),
    *in_every_container("strings for booleans", [BOOLEAN], containers(["True", ""]), ["boolean"]),
    ("an array of strings", [NUMBER], np.array([["1"], ["2"]]), [NOT_TO_NUMBERS]),
    (
        "a string among numbers",
        [NUMBER],
        {"n": [1.5, "x", 2]},
        ["'x' in row 1 is a str, a number is expected"],
    ),
    (
        "a string and a missing value among numbers",
        [MAYBE],
        pd.DataFrame({"n": np.array([None, 1, "n/a"], object)}),
        ["'n/a' in row 2 is a str, a number is expected"],
    ),
    (
        "numbers for strings, numpy",
        [TEXT],
        {"n": np.array([1, 2])},
        ["integers (int64) where strings", NOT_TO_TEXT],
    ),
    (
        "numbers for strings, pandas",
        [TEXT],
        pd.DataFrame({"n": [1.5]}),
        ["floats (float64) where strings", NOT_TO_TEXT],
    ),
    (
        "numbers for strings, polars",
        [TEXT],
        pl.DataFrame({"n": [1]}),
        ["integers (int64) where strings", NOT_TO_TEXT],
    ),
    (
        "numbers for strings, arrow",
        [TEXT],
        pa.table({"n": [1]}),
        ["integers (int64) where strings", NOT_TO_TEXT],
    ),
    (
        "numbers for strings, list",
        [TEXT],
        {"n": [1, 2]},
        ["where strings are expected", NOT_TO_TEXT],
    ),
    ("booleans for strings", [TEXT], {"n": [True]}, ["booleans (bool) where strings are expected"]),
    (
        "a number among strings",
        [TEXT],
        {"n": ["a", 1]},
        ["1 in row 1 is a", "a string is expected"],
    ),
    (
        "a number among strings, an ordered dict",
        [TEXT],
        OrderedDict(n=["a", 1]),
        ["1", "a string is expected"],
    ),
    (
        "a number among strings, an array",
        [TEXT],
        np.array([["a"], [1]], object),
        ["1 in row 1 is a"],
    ),
    (
        "the mark of a missing string",
        [TEXT],
        {"n": ["a", "\ufdd0"]},
        ["U+FDD0 in row 1", "pass None"],
    ),
    (
        "the mark of a missing string, the only row",
        [TEXT],
        {"n": ["\ufdd0"]},
        ["U+FDD0 in row 0", "pass None"],
    ),
    (
        "bytes for strings, list",
        [TEXT],
        {"n": [b"a"]},
        ["b'a' in row 0 is a bytes, a string is expected"],
    ),
    ("bytes for strings, numpy", [TEXT], {"n": np.array([b"a"])}, ["where strings are expected"]),
    ("bytes for strings, arrow", [TEXT], pa.table({"n": [b"a"]}), ["b'a' in row 0 is a bytes"]),
    (
        "bytes for numbers",
        [NUMBER],
        {"n": [b"1"]},
        ["b'1' in row 0 is a bytes, a number is expected"],
    ),
    (
        "complex numbers, numpy",
        [NUMBER],
        {"n": np.array([1j])},
        ["(complex128) where floats (float64) are expected"],
    ),
    (
        "complex numbers, array",
        [NUMBER],
        np.array([[1j]]),
        ["(complex128) where floats (float64) are expected"],
    ),
    (
        "complex numbers, list",
        [NUMBER],
        {"n": [1j]},
        ["1j in row 0 is a complex, a number is expected"],
    ),
    ("decimals", [NUMBER], {"n": [Decimal("1.5")]}, ["Decimal('1.5') in row 0 is a Decimal"]),
    (
        "decimals, polars",
        [NUMBER],
        pl.DataFrame({"n": [Decimal("1.5")]}),
        ["Decimal('1.5') in row 0 is a Decimal"],
    ),
    (
        "decimals, arrow",
        [NUMBER],
        pa.table({"n": [Decimal("1.5")]}),
        ["Decimal('1.5') in row 0 is a Decimal"],
    ),
    ("datetimes, numpy", [INTEGER], {"n": np.array([NOON], "M8[ns]")}, [LIKE_IN_TRAINING]),
    ("datetimes, pandas", [INTEGER], pd.DataFrame({"n": [NOON]}), [LIKE_IN_TRAINING]),
    (
        "datetimes with a zone, pandas",
        [INTEGER],
        pd.DataFrame({"n": pd.to_datetime(["2024-05-01"], utc=True)}),
        [LIKE_IN_TRAINING],
    ),
    ("datetimes, polars", [NUMBER], pl.DataFrame({"n": [NOON]}), [LIKE_IN_TRAINING]),
    ("dates, polars", [NUMBER], pl.DataFrame({"n": [NOON.date()]}), [LIKE_IN_TRAINING]),
    ("datetimes, arrow", [NUMBER], pa.table({"n": [NOON]}), [LIKE_IN_TRAINING]),
    (
        "datetimes, list",
        [NUMBER],
        {"n": [NOON]},
        ["in row 0 is a datetime, a number is expected", LIKE_IN_TRAINING],
    ),
    ("datetimes for strings", [TEXT], pd.DataFrame({"n": [NOON]}), ["(datetime64"]),
    (
        "time differences",
        [NUMBER],
        pd.DataFrame({"n": pd.to_timedelta([1], "s")}),
        ["(timedelta64"],
    ),
    (
        "periods",
        [NUMBER],
        pd.DataFrame({"n": pd.period_range("2024", periods=1, freq="D")}),
        ["is a Period"],
    ),
    (
        "categories of strings for numbers",
        [NUMBER],
        pd.DataFrame({"n": pd.Categorical(["1"])}),
        [NOT_TO_NUMBERS],
    ),
    (
        "categories of integers for strings",
        [TEXT],
        pd.DataFrame({"n": pd.Categorical([1])}),
        ["1 in row 0 is a"],
    ),
    (
        "structs",
        [NUMBER],
        pl.DataFrame({"n": [{"x": 1.0}]}),
        ["in row 0 is a dict, a number is expected"],
    ),
    ("lists in a column", [NUMBER], {"n": [[1.0, 2.0], [3.0]]}, ["[1.0, 2.0] in row 0 is a list"]),
    ("arrays in a column", [NUMBER], {"n": [np.ones(2), np.ones(2)]}, ["in row 0 is a ndarray"]),
    ("any object", [NUMBER], {"n": [1.0, object]}, ["in row 1 is a type, a number is expected"]),
    ("a long value is cut", [NUMBER], {"n": ["x" * 99]}, [f"'{'x' * 36}... in row 0"]),
    ("no rows of floats for integers", [INTEGER], {"n": np.empty(0)}, [TRUNCATES]),
    ("no rows of numbers for strings", [TEXT], pd.DataFrame({"n": np.empty(0)}), [NOT_TO_TEXT]),
]


@pytest.mark.parametrize(("signature", "X", "expected"), in_both_layouts(TYPES))
def test_a_mistake_is_refused_and_named(signature, X, expected):
    check_refused(signature, X, expected)


# Whether a column is accepted depends on its type, never on its values.

NULLABLE = {"f": "Float64", "i": "Int64", "b": "boolean", "U": "string"}
FORMS = {
    "list": lambda array: {"n": array.tolist()},
    "records": lambda array: [{"n": value} for value in array.tolist()],
    "numpy": lambda array: {"n": array},
    "array": lambda array: array[:, None],
    "array of objects": lambda array: array.astype(object)[:, None],
    "pandas": lambda array: pd.DataFrame({"n": array}),
    "pandas, nullable": lambda array: pd.DataFrame(
        {"n": pd.array(array, NULLABLE[array.dtype.kind])}
    ),
    "polars": lambda array: pl.DataFrame({"n": array}),
    "arrow": lambda array: pa.table({"n": array}),
}
FLOATS, INTEGERS = (
    st.sampled_from([0.0, 1.0, -0.0]) | st.floats(),
    st.sampled_from([0, 1]) | st.integers(-99, 99),
)
WRONG = {
    "floats for integers": (INTEGER, np.float64, FLOATS),
    "floats for booleans": (BOOLEAN, np.float64, FLOATS),
    "floats for strings": (
        TEXT,
        np.float64,
        FLOATS.filter(lambda value: value == value),
    ),  # not NaN
    "integers for booleans": (BOOLEAN, np.int64, INTEGERS),
    "integers for strings": (TEXT, np.int64, INTEGERS),
    "booleans for strings": (TEXT, np.bool_, st.booleans()),
    "strings for floats": (NUMBER, np.str_, INTEGERS.map(str)),
    "strings for integers": (INTEGER, np.str_, INTEGERS.map(str)),
    "strings for booleans": (BOOLEAN, np.str_, st.sampled_from(["True", "False", "1", "0"])),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", [one_tensor, tensor_per_column])
@pytest.mark.parametrize("wrong", WRONG)
@settings(deadline=None, max_examples=examples(20))
@given(data=st.data())
def test_a_column_of_another_type_is_refused_whatever_its_values(wrong, layout, form, data):
    column, dtype, values = WRONG[wrong]
    array = np.array(data.draw(st.lists(values, min_size=1, max_size=5)), dtype)
    with pytest.raises(SignatureError):
        layout(column).coerce(FORMS[form](array))


@pytest.mark.parametrize("layout", [one_tensor, tensor_per_column])
@settings(deadline=None, max_examples=examples(100))
@given(
    array=npst.arrays(np.float64, st.integers(1, 5)),
    column=st.sampled_from([NUMBER, SINGLE, MAYBE, MAYBE_SINGLE]),
)
def test_floats_are_refused_exactly_where_one_of_them_does_not_fit(layout, array, column):
    with np.errstate(over="ignore"):
        narrow = array.astype(column.dtype)
    too_large = np.isinf(narrow) & np.isfinite(array)
    refused = too_large if column.nullable else too_large | ~np.isfinite(array)
    for form in FORMS.values():
        if refused.any():
            with pytest.raises(SignatureError):
                layout(column).coerce(form(array))
        else:
            (feed,) = layout(column).coerce(form(array)).values()
            np.testing.assert_array_equal(feed, narrow[:, None])


@pytest.mark.parametrize("layout", [one_tensor, tensor_per_column])
@settings(deadline=None, max_examples=examples(100))
@given(
    array=npst.arrays(
        st.sampled_from([np.int64, np.longlong, np.int32, np.uint64, np.uint8]), st.integers(1, 5)
    ),
    column=st.sampled_from([NUMBER, SINGLE, INTEGER, BYTE]),
)
def test_integers_are_refused_exactly_where_one_of_them_does_not_fit(layout, array, column):
    low, high = {
        "float64": (-(2**53), 2**53),
        "float32": (-(2**24), 2**24),
        "int64": (-(2**63), 2**63 - 1),
        "uint8": (0, 255),
    }[column.dtype]
    fits = all(low <= value <= high for value in array.tolist())
    for name in ("list", "numpy", "array", "array of objects", "pandas", "arrow"):
        if fits:
            (feed,) = layout(column).coerce(FORMS[name](array)).values()
            assert feed[:, 0].tolist() == array.tolist()
        else:
            with pytest.raises(SignatureError):
                layout(column).coerce(FORMS[name](array))


def test_a_missing_string_is_one_whatever_stands_beside_it():
    signature = tensor_per_column(Column("n", "string", nullable=True))
    for missing in (None, float("nan"), np.float64("nan"), pd.NA):
        alone = signature.coerce([{"n": missing}])["n"]
        beside = signature.coerce([{"n": missing}, {"n": "a"}])["n"]
        assert alone[0] == beside[0] == "\ufdd0"


BLANK = {
    "floats": np.array([np.nan, np.nan]),
    "Int64": pd.array([pd.NA, pd.NA], "Int64"),
    "boolean": pd.array([pd.NA, pd.NA], "boolean"),
    "timestamps": pd.array([pd.NaT, pd.NaT], "datetime64[ns]"),
    "polars, integers": pl.Series([None, None], dtype=pl.Int64),
    "arrow, integers": pa.array([None, None], pa.int64()),
}


@pytest.mark.parametrize("blank", BLANK)
def test_a_column_without_any_value_is_missing_whatever_its_dtype(blank):
    """As readers give it: `pd.read_csv` makes floats of empty cells, `convert_dtypes` makes Int64."""
    texts = tensor_per_column(MAYBE_TEXT)
    assert texts.coerce({"n": BLANK[blank]})["n"].tolist() == [[MISSING], [MISSING]]
    numbers = tensor_per_column(MAYBE)
    assert np.isnan(numbers.coerce({"n": BLANK[blank]})["n"]).all()
    for column in (TEXT, NUMBER, INTEGER, BOOLEAN):
        with pytest.raises(SignatureError, match="missing value"):
            tensor_per_column(column).coerce({"n": BLANK[blank]})
