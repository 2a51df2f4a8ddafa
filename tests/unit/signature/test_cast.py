"""Values of another type than the column's, and that their type decides, never their values."""

from collections import OrderedDict
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.columns import (
    BOOLEAN,
    INTEGER,
    MAYBE,
    MAYBE_TEXT,
    NOON,
    NOT_TO_NUMBERS,
    NUMBER,
    TEXT,
    TRUNCATES,
    check_refused,
    containers,
    in_both_layouts,
    in_every_container,
    tensor_per_column,
)

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
        ["2.0 in row 1 is of type float, an integer is expected"],
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
        ["'x' in row 1 is of type str, a number is expected"],
    ),
    (
        "a string and a missing value among numbers",
        [MAYBE],
        pd.DataFrame({"n": np.array([None, 1, "n/a"], object)}),
        ["'n/a' in row 2 is of type str, a number is expected"],
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
        ["1 in row 1 is of type", "a string is expected"],
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
        ["1 in row 1 is of type"],
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
        ["b'a' in row 0 is of type bytes, a string is expected"],
    ),
    ("bytes for strings, numpy", [TEXT], {"n": np.array([b"a"])}, ["where strings are expected"]),
    (
        "bytes for strings, arrow",
        [TEXT],
        pa.table({"n": [b"a"]}),
        ["b'a' in row 0 is of type bytes"],
    ),
    (
        "bytes for numbers",
        [NUMBER],
        {"n": [b"1"]},
        ["b'1' in row 0 is of type bytes, a number is expected"],
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
        ["1j in row 0 is of type complex, a number is expected"],
    ),
    ("decimals", [NUMBER], {"n": [Decimal("1.5")]}, ["Decimal('1.5') in row 0 is of type Decimal"]),
    (
        "decimals, polars",
        [NUMBER],
        pl.DataFrame({"n": [Decimal("1.5")]}),
        ["Decimal('1.5') in row 0 is of type Decimal"],
    ),
    (
        "decimals, arrow",
        [NUMBER],
        pa.table({"n": [Decimal("1.5")]}),
        ["Decimal('1.5') in row 0 is of type Decimal"],
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
        ["in row 0 is of type datetime, a number is expected", LIKE_IN_TRAINING],
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
        ["is of type Period"],
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
        ["1 in row 0 is of type"],
    ),
    (
        "structs",
        [NUMBER],
        pl.DataFrame({"n": [{"x": 1.0}]}),
        ["in row 0 is of type dict, a number is expected"],
    ),
    (
        "lists in a column",
        [NUMBER],
        {"n": [[1.0, 2.0], [3.0]]},
        ["[1.0, 2.0] in row 0 is of type list"],
    ),
    (
        "arrays in a column",
        [NUMBER],
        {"n": [np.ones(2), np.ones(2)]},
        ["in row 0 is of type ndarray"],
    ),
    (
        "any object",
        [NUMBER],
        {"n": [1.0, object]},
        ["in row 1 is of type type, a number is expected"],
    ),
    ("a long value is cut", [NUMBER], {"n": ["x" * 99]}, [f"'{'x' * 36}... in row 0"]),
    ("no rows of floats for integers", [INTEGER], {"n": np.empty(0)}, [TRUNCATES]),
    ("no rows of numbers for strings", [TEXT], pd.DataFrame({"n": np.empty(0)}), [NOT_TO_TEXT]),
]


@pytest.mark.parametrize(("signature", "X", "expected"), in_both_layouts(TYPES))
def test_a_mistake_is_refused_and_named(signature, X, expected):
    check_refused(signature, X, expected)


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


def test_what_a_masked_array_of_objects_holds_is_judged():
    """A number among the texts reached the graph."""
    given = np.ma.MaskedArray(np.array(["u", 1, None], object), mask=[True, False, False])
    with pytest.raises(SignatureError, match="1 in row 1 is of type int, a string is expected"):
        tensor_per_column(MAYBE_TEXT).coerce({"n": given})
    given[1] = "v"
    assert tensor_per_column(MAYBE_TEXT).coerce({"n": given})["n"].tolist() == [
        [MISSING],
        ["v"],
        [MISSING],
    ]
