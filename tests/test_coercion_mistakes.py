"""Every mistake a caller makes with rows: what is accepted and how, what is refused and with which words."""

import datetime as dt
from collections import OrderedDict
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from modelkit import Column, Signature, TensorSpec
from modelkit.cast import MISSING
from modelkit.errors import SignatureError

Y = TensorSpec("y", "float32", ("batch",))

NUMBER, SINGLE = Column("n", "float64"), Column("n", "float32")
MAYBE, MAYBE_SINGLE = Column("n", "float64", nullable=True), Column("n", "float32", nullable=True)
INTEGER, BYTE, BOOLEAN = Column("n", "int64"), Column("n", "uint8"), Column("n", "bool")
TEXT, MAYBE_TEXT = Column("n", "string"), Column("n", "string", nullable=True)
CITY = Column("n", "string", categories=("Oslo", "Rome"))
MAYBE_CITY = Column("n", "string", nullable=True, categories=("Oslo", "Rome"))
AGE, INCOME, VISITS = Column("age"), Column("income"), Column("visits")


def one_tensor(*columns):
    return Signature((TensorSpec("X", columns[0].dtype, ("batch", len(columns)), columns),), (Y,))


def tensor_per_column(*columns):
    return Signature(tuple(TensorSpec(c.name, c.dtype, ("batch", 1), (c,)) for c in columns), (Y,))


def in_both_layouts(cases):
    """Each case with its columns in one tensor, and in a tensor each, since a caller sees no difference."""
    return [
        pytest.param(layout(*columns), X, expected, id=f"{name}, {layout.__name__}")
        for name, columns, X, expected in cases
        for layout in (one_tensor, tensor_per_column)
    ]


def containers(values, *, numpy=None, pandas=None, polars=None, arrow=None):
    """One column of the same values as every container holds it."""
    return {
        "list": {"n": values},
        "records": [{"n": value} for value in values],
        "numpy": {"n": np.array(values, numpy)},
        "pandas": pd.DataFrame({"n": pd.Series(values, dtype=pandas)}),
        "polars": pl.DataFrame({"n": pl.Series(values, dtype=polars)}),
        "arrow": pa.table({"n": pa.array(values, arrow)}),
    }


def in_every_container(name, columns, held, expected):
    return [(f"{name}, {container}", columns, X, expected) for container, X in held.items()]


NOT_TO_NUMBERS = "parse them first, for example with pandas.to_numeric"
TRUNCATES = "a cast would truncate, so round and cast them yourself"
NOT_TO_TEXT = "a number is not turned into text"
LIKE_IN_TRAINING = "turn timestamps into numbers the way it was done in training"
NOON = dt.datetime(2024, 5, 1, 12)  # noqa: DTZ001 - naive, as most data is

# Mistakes in the names of columns.
NAMES = [
    (
        "another case",
        [AGE],
        {"Age": [1.0]},
        ["missing column 'age' (is it 'Age'?)", "unexpected column 'Age'"],
    ),
    ("a blank", [AGE], {"age ": [1.0]}, ["missing column 'age' (is it 'age '?)"]),
    ("a typing error", [INCOME], {"incme": [1.0]}, ["missing column 'income' (is it 'incme'?)"]),
    (
        "nothing like it",
        [AGE],
        {"zip": [1.0]},
        ["missing column 'age'\n", "unexpected column 'zip'"],
    ),
    (
        "all of them at once",
        [AGE, INCOME, VISITS],
        pd.DataFrame({"visits": [1.0], "AGE": [1.0], "zip": [1], "street": ["x"]}),
        [
            "missing column 'age' (is it 'AGE'?)",
            "missing column 'income'\n",
            "unexpected column 'AGE'",
            "unexpected column 'zip'",
            "unexpected column 'street'",
        ],
    ),
    ("one too few", [AGE, INCOME], pl.DataFrame({"age": [1.0]}), ["missing column 'income'"]),
    (
        "one too many",
        [AGE],
        pa.table({"age": [1.0], "income": [2.0]}),
        ["unexpected column 'income'"],
    ),
    (
        "records with one too many",
        [AGE],
        [{"age": 1.0, "income": 2.0}],
        ["unexpected column 'income'"],
    ),
    ("no columns", [AGE], {}, ["missing column 'age'"]),
    (
        "a column twice, pandas",
        [AGE, INCOME],
        pd.DataFrame([[1.0, 2.0, 3.0]], columns=["age", "income", "age"]),
        ["column 'age' appears twice"],
    ),
    (
        "a column twice, arrow",
        [AGE],
        pa.table([[1.0], [2.0]], names=["age", "age"]),
        ["column 'age' appears twice"],
    ),
    (
        "a column twice, as text and as a number",
        [Column("0"), Column("1")],
        pd.DataFrame([[1.0, 2.0, 3.0]], columns=[0, 1, "1"]),
        ["column '1' appears twice"],
    ),
    (
        "columns that differ in several ways",
        [AGE, INCOME, VISITS],
        pd.DataFrame({"visits": ["1"], "age": [NOON], "income": [1.0]}),
        ["column 'age': values (datetime64", "column 'visits': '1' in row 0 is a str"],
    ),
]

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

IN_ROW_1 = "missing value (NaN) in row 1; the model was not shown to accept it"

# Missing and infinite values where the model was not shown any.
MISSES = [
    (
        "NaN, rows are named",
        [NUMBER],
        {"n": np.array([0, np.nan, 0, np.nan])},
        ["missing value (NaN) in rows 1, 3;"],
    ),
    (
        "NaN, many rows are counted",
        [NUMBER],
        {"n": np.full(12, np.nan)},
        ["missing value (NaN) in rows 0, 1, 2, 3, 4, ... (12 in all);"],
    ),
    ("NaN, the only row", [SINGLE], {"n": np.array([np.nan])}, ["missing value (NaN) in row 0;"]),
    ("NaN, array", [NUMBER], np.array([[0.0], [np.nan]]), [IN_ROW_1]),
    ("NaN, float32 array", [SINGLE], np.array([[0.0], [np.nan]], np.float32), [IN_ROW_1]),
    ("NaN, list", [NUMBER], {"n": [0.0, float("nan")]}, [IN_ROW_1]),
    ("NaN, pandas", [NUMBER], pd.DataFrame({"n": [0.0, np.nan]}), [IN_ROW_1]),
    ("NaN, a Series in a dict", [NUMBER], {"n": pd.Series([0.0, np.nan])}, [IN_ROW_1]),
    ("NaN, polars", [NUMBER], pl.DataFrame({"n": [0.0, np.nan]}), [IN_ROW_1]),
    ("NaN, arrow", [NUMBER], pa.table({"n": [0.0, np.nan]}), [IN_ROW_1]),
    *in_every_container(
        "None among floats",
        [NUMBER],
        containers([0.0, None], numpy=object, pandas="Float64"),
        [IN_ROW_1],
    ),
    *in_every_container(
        "None among float32",
        [SINGLE],
        containers([0.0, None], numpy=object, pandas="Float32"),
        [IN_ROW_1],
    ),
    *in_every_container(
        "None among integers for floats",
        [NUMBER],
        containers([0, None], numpy=object, pandas="Int64"),
        [IN_ROW_1],
    ),
    *in_every_container(
        "None among integers",
        [INTEGER],
        containers([0, None], numpy=object, pandas="Int64"),
        ["missing value in row 1; int64 has none"],
    ),
    *in_every_container(
        "None among booleans",
        [BOOLEAN],
        containers([True, None], numpy=object, pandas="boolean"),
        ["missing value in row 1; bool has none"],
    ),
    *in_every_container(
        "None among strings",
        [TEXT],
        containers(["a", None], numpy=object, pandas="string"),
        ["missing value in row 1; the model was not shown to accept it"],
    ),
    ("None, the only row", [NUMBER], {"n": [None]}, ["missing value (NaN) in row 0;"]),
    (
        "None, the only row, pandas",
        [NUMBER],
        pd.DataFrame({"n": pd.array([None], "Float64")}),
        ["missing value (NaN)"],
    ),
    (
        "None, the only row, polars",
        [INTEGER],
        pl.DataFrame({"n": pl.Series([None], dtype=pl.Int64)}),
        ["has none"],
    ),
    (
        "NA, arrow integers in pandas",
        [INTEGER],
        pd.DataFrame({"n": pd.array([1, None], "int64[pyarrow]")}),
        ["row 1"],
    ),
    (
        "NA, arrow floats in pandas",
        [NUMBER],
        pd.DataFrame({"n": pd.array([1, None], "double[pyarrow]")}),
        [IN_ROW_1],
    ),
    (
        "NA, categories",
        [TEXT],
        pd.DataFrame({"n": pd.Categorical(["a", None])}),
        ["missing value in row 1;"],
    ),
    (
        "NA, an arrow array in a dict",
        [INTEGER],
        {"n": pa.array([1, None])},
        ["missing value in row 1; int64 has none"],
    ),
    ("NA, a polars series in a dict", [NUMBER], {"n": pl.Series([1.0, None])}, [IN_ROW_1]),
    (
        "NA, a masked array in a dict",
        [NUMBER],
        {"n": np.ma.MaskedArray([1.0, 2.0], [False, True])},
        [IN_ROW_1],
    ),
    ("infinity", [NUMBER], {"n": np.array([0.0, -np.inf])}, ["infinite value in row 1;"]),
    ("infinity, the only row", [NUMBER], np.array([[np.inf]]), ["infinite value in row 0;"]),
    ("infinity, list", [NUMBER], {"n": [0.0, float("inf")]}, ["infinite value in row 1;"]),
    (
        "infinity, polars",
        [NUMBER],
        pl.DataFrame({"n": [0.0, np.inf]}),
        ["infinite value in row 1;"],
    ),
]

# Values that the declared type cannot hold.
PAST_53, PAST_24 = (
    ["integer beyond 2**53, which a float cannot hold exactly, in row 1"],
    ["integer beyond 2**24"],
)
BIG, LESS_BIG = 2**53 + 1, 2**24 + 1
RANGES = [
    *in_every_container("integers beyond float64", [NUMBER], containers([1, BIG]), PAST_53),
    *in_every_container("integers beyond minus float64", [NUMBER], containers([1, -BIG]), PAST_53),
    *in_every_container("integers beyond float32", [SINGLE], containers([1, LESS_BIG]), PAST_24),
    *in_every_container(
        "integers beyond float64 beside None",
        [MAYBE],
        containers([None, BIG], numpy=object, pandas="Int64"),
        PAST_53,
    ),
    ("integers beyond float64, array", [NUMBER], np.array([[1], [BIG]]), PAST_53),
    ("integers beyond float64, the only row", [NUMBER], {"n": [BIG]}, ["integer beyond 2**53"]),
    (
        "integers beyond float64, long long",
        [NUMBER],
        {"n": np.array([1, BIG], np.longlong)},
        PAST_53,
    ),
    ("integers beyond float64, unsigned", [NUMBER], {"n": np.array([1, BIG], np.uint64)}, PAST_53),
    ("integers beyond float64 among floats", [NUMBER], {"n": [0.5, BIG]}, PAST_53),
    ("integers beyond float32 among floats", [SINGLE], {"n": [0.5, LESS_BIG]}, PAST_24),
    ("integers beyond int64 among negative ones", [NUMBER], {"n": [-1, 2**63]}, PAST_53),
    (
        "unsigned beyond int64, numpy",
        [INTEGER],
        {"n": np.array([2**63], np.uint64)},
        ["beyond the range of int64"],
    ),
    (
        "unsigned beyond int64, pandas",
        [INTEGER],
        pd.DataFrame({"n": [1, 2**63]}),
        ["beyond the range of int64 in row 1"],
    ),
    (
        "unsigned beyond int64, list",
        [INTEGER],
        {"n": [2**63]},
        ["integer beyond the range of int64 in row 0"],
    ),
    (
        "beyond 64 bits, polars",
        [INTEGER],
        pl.DataFrame({"n": pl.Series([2**64], dtype=pl.Int128)}),
        ["beyond the range of int64"],
    ),
    ("beyond 64 bits", [INTEGER], {"n": [2**64]}, ["integer beyond the range of int64 in row 0"]),
    (
        "integers beyond uint8",
        [BYTE],
        {"n": [256, 1, -1]},
        ["integer beyond the range of uint8 in rows 0, 2"],
    ),
    (
        "floats beyond float32",
        [SINGLE],
        {"n": np.array([0.0, 1e39])},
        ["beyond the range of float32 in row 1"],
    ),
    (
        "floats beyond float32, array",
        [SINGLE],
        np.array([[0.0], [-1e39]]),
        ["beyond the range of float32 in row 1"],
    ),
    (
        "floats beyond float32, the only row",
        [SINGLE],
        {"n": [1e39]},
        ["beyond the range of float32 in row 0"],
    ),
    (
        "floats beyond float32 beside NaN",
        [MAYBE_SINGLE],
        {"n": [np.nan, 1e39]},
        ["beyond the range of float32 in row 1"],
    ),
    (
        "unknown category",
        [CITY],
        {"n": ["Rome", "rome"]},
        ["unknown category 'rome' in row 1; known are ['Oslo', 'Rome']"],
    ),
    (
        "unknown category, the only row",
        [CITY],
        {"n": ["Paris"]},
        ["unknown category 'Paris' in row 0"],
    ),
    (
        "unknown category, pandas",
        [CITY],
        pd.DataFrame({"n": pd.Categorical(["Bern"])}),
        ["unknown category 'Bern'"],
    ),
    (
        "unknown category, an empty string",
        [MAYBE_CITY],
        {"n": [None, ""]},
        ["unknown category '' in row 1"],
    ),
    ("missing category", [CITY], {"n": ["Rome", None]}, ["missing value in row 1;"]),
]

ALWAYS_A_BATCH = "the input is always a batch of rows, but this is "

# What is no batch of rows at all, or has another shape.
SHAPES = [
    (
        "a pandas Series",
        [NUMBER],
        pd.Series([1.0]),
        [ALWAYS_A_BATCH, "a pandas Series; pass a frame: df[['column']]"],
    ),
    ("a pandas row", [NUMBER], pd.DataFrame({"n": [1.0]}).iloc[0], ["df.iloc[[i]] for one row"]),
    (
        "a polars Series",
        [NUMBER],
        pl.Series([1.0]),
        [ALWAYS_A_BATCH, "a polars Series; pass a frame: series.to_frame()"],
    ),
    (
        "a polars LazyFrame",
        [NUMBER],
        pl.DataFrame({"n": [1.0]}).lazy(),
        ["a polars LazyFrame; pass X.collect()"],
    ),
    (
        "an arrow array",
        [NUMBER],
        pa.array([1.0]),
        ["cannot read rows from a DoubleArray; pass a numpy array"],
    ),
    ("a chunked arrow array", [NUMBER], pa.chunked_array([[1.0]]), ["a ChunkedArray"]),
    (
        "an array of one dimension",
        [NUMBER],
        np.ones(3),
        [ALWAYS_A_BATCH, "shape (3,); pass X.reshape(1, -1) for one row"],
    ),
    ("an array of no dimension", [NUMBER], np.array(1.0), [ALWAYS_A_BATCH, "an array of shape ()"]),
    ("a record", [NUMBER], {"n": 1.0}, ["pass a list of records"]),
    ("a record of strings", [TEXT], {"n": "Rome"}, ["pass a list of records"]),
    ("a record of numpy values", [NUMBER], {"n": np.float64(1)}, ["pass a list of records"]),
    (
        "a record that lacks a field",
        [AGE, INCOME],
        {"age": 1.0},
        ["pass a list of records: [record]"],
    ),
    (
        "one value among columns",
        [AGE, INCOME],
        {"age": [1.0], "income": 2.0},
        ["column 'income': a column has shape ()"],
    ),
    (
        "a sparse matrix",
        [NUMBER],
        scipy.sparse.csr_matrix(np.eye(1)),
        ["a sparse csr_matrix; pass X.toarray()"],
    ),
    (
        "a sparse array",
        [NUMBER],
        scipy.sparse.coo_array(np.eye(1)),
        ["a sparse coo_array; pass X.toarray()"],
    ),
    (
        "None",
        [NUMBER],
        None,
        ["cannot read rows from a NoneType; pass a numpy array, a dict of arrays"],
    ),
    ("a string", [NUMBER], "n", ["cannot read rows from a str"]),
    ("bytes", [NUMBER], b"n", ["cannot read rows from a bytes"]),
    ("a number", [NUMBER], 1.0, ["cannot read rows from a float"]),
    ("a set", [NUMBER], {1.0}, ["cannot read rows from a set"]),
    ("a generator", [NUMBER], (row for row in [{"n": 1.0}]), ["cannot read rows from a generator"]),
    (
        "a list of lists",
        [NUMBER],
        [[1.0], [2.0]],
        ["a list of list; pass np.asarray(X), a frame, or a list of records"],
    ),
    ("a list of numbers", [NUMBER], [1.0, 2.0], ["a list of float; pass np.asarray(X)"]),
    (
        "a tuple of strings",
        [NUMBER],
        ("a", "b"),
        ["a tuple of str; pass {column: X}, a frame or records"],
    ),
    ("records and None", [NUMBER], [{"n": 1.0}, None], ["cannot read rows from a list"]),
    (
        "records with a field more",
        [NUMBER],
        [{"n": 1.0}, {"n": 1.0, "m": 1.0}],
        ["record 1 and record 0 differ", "['m']"],
    ),
    (
        "records without a field",
        [NUMBER],
        [{"n": 1.0}, {}],
        ["record 1 and record 0 differ in the fields ['n']"],
    ),
    (
        "records with another field",
        [NUMBER],
        [{"n": 1.0}, {"n": 1.0}, {"m": 1.0}],
        ["record 2 and record 0 differ in the fields ['m', 'n']", "write a missing value as None"],
    ),
    (
        "columns of different lengths",
        [AGE, INCOME],
        {"age": [1.0], "income": [1.0, 2.0]},
        ["different lengths: [1, 2]"],
    ),
    (
        "arrays of different lengths",
        [AGE, INCOME],
        {"age": np.ones((1, 1)), "income": np.ones((2, 1))},
        ["different lengths: [1, 2]"],
    ),
    (
        "two dimensions in a column",
        [AGE, INCOME],
        {"age": np.ones((2, 2)), "income": np.ones(2)},
        ["column 'age'", "(2, 2)"],
    ),
    ("an array too wide", [AGE, INCOME], np.ones((4, 3)), ["(4, 3)", "age", "income"]),
    ("an array too narrow", [AGE, INCOME], np.ones((4, 1)), ["(4, 1)", "age", "income"]),
    ("an array of no width", [AGE, INCOME], np.ones((4, 0)), ["(4, 0)", "age", "income"]),
    (
        "an array of too many dimensions",
        [AGE, INCOME],
        np.ones((4, 2, 1)),
        ["(4, 2, 1)", "age", "income"],
    ),
]


@pytest.mark.parametrize(
    ("signature", "X", "expected"), in_both_layouts([*NAMES, *TYPES, *MISSES, *RANGES, *SHAPES])
)
def test_a_mistake_is_refused_and_named(signature, X, expected):
    with pytest.raises(SignatureError) as error:
        signature.coerce(X)
    for part in expected:
        assert part in f"{error.value}\n"


# What looks like a mistake and is none: the values that reach the model, by column.
EXACT = [0, 2**53, -(2**53)]
NAN = float("nan")
ROWS = {"visits": [3.0, 6.0], "income": [2.0, 5.0], "age": [1.0, 4.0]}
IN_ORDER = {"age": [1.0, 4.0], "income": [2.0, 5.0], "visits": [3.0, 6.0]}
ACCEPTED = [
    ("another order, lists", [AGE, INCOME, VISITS], ROWS, IN_ORDER),
    (
        "another order, arrays",
        [AGE, INCOME, VISITS],
        {k: np.array(v) for k, v in ROWS.items()},
        IN_ORDER,
    ),
    ("another order, ordered dict", [AGE, INCOME, VISITS], OrderedDict(ROWS), IN_ORDER),
    (
        "another order, records",
        [AGE, INCOME, VISITS],
        pd.DataFrame(ROWS).to_dict("records"),
        IN_ORDER,
    ),
    ("another order, pandas", [AGE, INCOME, VISITS], pd.DataFrame(ROWS), IN_ORDER),
    ("another order, polars", [AGE, INCOME, VISITS], pl.DataFrame(ROWS), IN_ORDER),
    ("another order, arrow", [AGE, INCOME, VISITS], pa.table(ROWS), IN_ORDER),
    (
        "another order in each record",
        [AGE, INCOME],
        [{"age": 1.0, "income": 2.0}, {"income": 4.0, "age": 3.0}],
        {"age": [1.0, 3.0], "income": [2.0, 4.0]},
    ),
    ("another index", [NUMBER], pd.DataFrame({"n": [1.0, 2.0]}, index=[7, 3]), {"n": [1.0, 2.0]}),
    ("a slice", [NUMBER], pd.DataFrame({"n": [1.0, 2.0, 3.0, 4.0]})[::-2], {"n": [4.0, 2.0]}),
    (
        "labels that are numbers",
        [Column("0"), Column("1")],
        pd.DataFrame([[1.0, 2.0]]),
        {"0": [1.0], "1": [2.0]},
    ),
    (
        "keys that are numbers",
        [Column("0"), Column("1")],
        {1: [2.0], 0: [1.0]},
        {"0": [1.0], "1": [2.0]},
    ),
    *in_every_container(
        "integers for floats", [NUMBER], containers(EXACT), {"n": [0.0, 2.0**53, -(2.0**53)]}
    ),
    *in_every_container(
        "integers for float32",
        [SINGLE],
        containers([2**24, 1 - 2**24]),
        {"n": [2.0**24, 1 - 2.0**24]},
    ),
    (
        "integers for floats, array",
        [NUMBER],
        np.array([EXACT]).T,
        {"n": [0.0, 2.0**53, -(2.0**53)]},
    ),
    ("integers among floats", [NUMBER], {"n": [1, 2.5, True]}, {"n": [1.0, 2.5, 1.0]}),
    *in_every_container(
        "booleans for floats", [NUMBER], containers([True, False]), {"n": [1.0, 0.0]}
    ),
    *in_every_container(
        "booleans for integers", [INTEGER], containers([True, False]), {"n": [1, 0]}
    ),
    ("smaller integers", [INTEGER], {"n": np.array([1, 255], np.uint8)}, {"n": [1, 255]}),
    (
        "larger integers that fit, polars",
        [INTEGER],
        pl.DataFrame({"n": pl.Series([1], dtype=pl.Int128)}),
        {"n": [1]},
    ),
    ("larger integers that fit", [BYTE], {"n": [0, 255]}, {"n": [0, 255]}),
    (
        "float64 for float32",
        [SINGLE],
        {"n": np.array([0.1, 3e38])},
        {"n": [float(np.float32(0.1)), float(np.float32(3e38))]},
    ),
    (
        "float32 for float64",
        [NUMBER],
        {"n": np.array([0.1], np.float32)},
        {"n": [float(np.float32(0.1))]},
    ),
    ("another byte order", [NUMBER], {"n": np.array([1.5, 2.5], ">f8")}, {"n": [1.5, 2.5]}),
    *in_every_container(
        "nullable floats",
        [MAYBE],
        containers([1.5, None], numpy=object, pandas="Float64"),
        {"n": [1.5, NAN]},
    ),
    *in_every_container(
        "nullable integers",
        [MAYBE],
        containers([1, None], numpy=object, pandas="Int64"),
        {"n": [1.0, NAN]},
    ),
    *in_every_container(
        "nullable booleans",
        [MAYBE_SINGLE],
        containers([True, None], numpy=object, pandas="boolean"),
        {"n": [1.0, NAN]},
    ),
    *in_every_container(
        "nullable strings",
        [MAYBE_TEXT],
        containers(["a", None], numpy=object, pandas="string"),
        {"n": ["a", MISSING]},
    ),
    (
        "Float64 without NA",
        [NUMBER],
        pd.DataFrame({"n": pd.array([1.5, 2.5], "Float64")}),
        {"n": [1.5, 2.5]},
    ),
    (
        "Int64 without NA",
        [INTEGER],
        pd.DataFrame({"n": pd.array([1, 2**63 - 1], "Int64")}),
        {"n": [1, 2**63 - 1]},
    ),
    (
        "boolean without NA",
        [BOOLEAN],
        pd.DataFrame({"n": pd.array([True, False], "boolean")}),
        {"n": [True, False]},
    ),
    (
        "string without NA",
        [TEXT],
        pd.DataFrame({"n": pd.array(["a", "b"], "string")}),
        {"n": ["a", "b"]},
    ),
    (
        "arrow types in pandas",
        [INTEGER],
        pd.DataFrame({"n": pd.array([1, 2], "int64[pyarrow]")}),
        {"n": [1, 2]},
    ),
    (
        "a masked array",
        [MAYBE],
        {"n": np.ma.MaskedArray([1.0, 2.0], [False, True])},
        {"n": [1.0, NAN]},
    ),
    (
        "a mask of nothing",
        [INTEGER],
        {"n": np.ma.MaskedArray([1, 2], [False, False])},
        {"n": [1, 2]},
    ),
    (
        "every kind of missing number",
        [MAYBE],
        {"n": [None, NAN, pd.NA, pd.NaT, 1]},
        {"n": [NAN, NAN, NAN, NAN, 1.0]},
    ),
    (
        "every kind of missing string",
        [MAYBE_TEXT],
        {"n": [None, NAN, pd.NA, pd.NaT, ""]},
        {"n": [MISSING] * 4 + [""]},
    ),
    ("nothing but missing, list", [MAYBE], {"n": [None, None]}, {"n": [NAN, NAN]}),
    ("nothing but missing, polars", [MAYBE], pl.DataFrame({"n": [None, None]}), {"n": [NAN, NAN]}),
    (
        "nothing but missing, arrow",
        [MAYBE_TEXT],
        pa.table({"n": [None, None]}),
        {"n": [MISSING, MISSING]},
    ),
    (
        "infinities beside NaN",
        [MAYBE_SINGLE],
        {"n": [np.inf, NAN, -np.inf]},
        {"n": [np.inf, NAN, -np.inf]},
    ),
    (
        "categories of strings",
        [TEXT],
        pd.DataFrame({"n": pd.Categorical(["b", "a", "b"])}),
        {"n": ["b", "a", "b"]},
    ),
    (
        "categories with NA",
        [MAYBE_TEXT],
        pd.DataFrame({"n": pd.Categorical(["b", None])}),
        {"n": ["b", MISSING]},
    ),
    (
        "categories, polars",
        [TEXT],
        pl.DataFrame({"n": pl.Series(["b", "a"], dtype=pl.Categorical)}),
        {"n": ["b", "a"]},
    ),
    (
        "categories, arrow",
        [TEXT],
        pa.table({"n": pa.array(["b", "a"]).dictionary_encode()}),
        {"n": ["b", "a"]},
    ),
    ("known categories", [CITY], {"n": ["Rome", "Oslo", "Rome"]}, {"n": ["Rome", "Oslo", "Rome"]}),
    ("known categories beside None", [MAYBE_CITY], {"n": ["Rome", None]}, {"n": ["Rome", MISSING]}),
    ("numpy strings", [TEXT], {"n": np.array(["a", "bc"])}, {"n": ["a", "bc"]}),
    (
        "numpy strings of any length",
        [TEXT],
        {"n": np.array(["a", "bc"], np.dtypes.StringDType())},
        {"n": ["a", "bc"]},
    ),
    ("an array of numpy strings", [TEXT], np.array([["a"], ["bc"]]), {"n": ["a", "bc"]}),
    (
        "objects of one kind",
        [NUMBER],
        pd.DataFrame({"n": np.array([1.5, 2], object)}),
        {"n": [1.5, 2.0]},
    ),
    ("a tuple", [NUMBER], {"n": (1.0, 2.0)}, {"n": [1.0, 2.0]}),
    ("a range", [INTEGER], {"n": range(3)}, {"n": [0, 1, 2]}),
    ("a tuple of records", [NUMBER], ({"n": 1.0}, {"n": 2.0}), {"n": [1.0, 2.0]}),
    ("a column of two dimensions", [NUMBER], {"n": np.array([[1.0], [2.0]])}, {"n": [1.0, 2.0]}),
    ("a Series in a dict", [MAYBE], {"n": pd.Series([1.0, NAN])}, {"n": [1.0, NAN]}),
    (
        "sparse pandas columns",
        [NUMBER],
        pd.DataFrame({"n": pd.arrays.SparseArray([0.0, 2.0])}),
        {"n": [0.0, 2.0]},
    ),
    (
        "chunks, arrow",
        [NUMBER],
        pa.table({"n": pa.chunked_array([[1.0], [], [2.0]])}),
        {"n": [1.0, 2.0]},
    ),
    ("a batch, arrow", [INTEGER], pa.RecordBatch.from_pydict({"n": [1, 2]}), {"n": [1, 2]}),
    ("a file on disk", [NUMBER], np.array([[1.0], [2.0]]).view(np.memmap), {"n": [1.0, 2.0]}),
]


@pytest.mark.parametrize(("signature", "X", "expected"), in_both_layouts(ACCEPTED))
def test_what_only_looks_like_a_mistake_is_accepted_exactly(signature, X, expected):
    feeds = signature.coerce(X)
    columns = [
        (column.name, feeds[spec.name], j)
        for spec in signature.inputs
        for j, column in enumerate(spec.columns)
    ]
    for spec in signature.inputs:
        assert type(feeds[spec.name]) is np.ndarray
        assert feeds[spec.name].dtype == (object if spec.dtype == "string" else spec.dtype)
    got = {name: block[:, j].tolist() for name, block, j in columns}
    assert repr(got) == repr(expected)  # NaN is NaN, 1 is not 1.0


# Tensors without columns are held to the same rules.

PIXELS = Signature((TensorSpec("pixels", "float32", ("batch", 2, 2)),), (Y,))
TOKENS = Signature(
    tuple(TensorSpec(name, "int64", ("batch", "seq")) for name in ("ids", "mask")), (Y,)
)
TEXTS = Signature((TensorSpec("text", "string", ("batch",)),), (Y,))
PAIRS = Signature(
    (TensorSpec("X", "string", ("batch", 2), (Column("a", "string"), Column("b", "string"))),), (Y,)
)
MASK = np.ones((2, 3), int)


@pytest.mark.parametrize(
    ("signature", "X", "expected"),
    [
        pytest.param(
            PIXELS,
            np.ones((3, 2, 3)),
            "input 'pixels' must have shape (batch, 2, 2), got (3, 2, 3)",
            id="size",
        ),
        pytest.param(
            PIXELS,
            np.ones((3, 4)),
            "input 'pixels' must have shape (batch, 2, 2), got (3, 4)",
            id="rank",
        ),
        pytest.param(PIXELS, np.ones(4), "pass X.reshape(1, -1) for one row", id="one dimension"),
        pytest.param(PIXELS, np.full((1, 2, 2), "1"), NOT_TO_NUMBERS, id="strings"),
        pytest.param(
            PIXELS,
            np.array([[[0, 0]] * 2, [[0, 1e39]] * 2]),
            "range of float32 in row 1",
            id="its row is named",
        ),
        pytest.param(PIXELS, {}, "pixels", id="nothing"),
        pytest.param(
            PIXELS, {"pixel": np.ones((3, 2, 2))}, "pixels: float32[batch, 2, 2]", id="renamed"
        ),
        pytest.param(
            PIXELS, pd.DataFrame({"a": [1.0]}), "pixels: float32[batch, 2, 2]", id="frame"
        ),
        pytest.param(
            TOKENS, {"ids": MASK}, "ids: int64[batch, seq]; mask: int64[batch, seq]", id="missing"
        ),
        pytest.param(
            TOKENS,
            {"ids": MASK, "mask": MASK, "types": MASK},
            "mask: int64[batch, seq]",
            id="extra",
        ),
        pytest.param(
            TOKENS,
            MASK,
            "one array cannot feed 2 inputs; pass a dict of arrays by name",
            id="one array for two",
        ),
        pytest.param(
            TOKENS, {"ids": MASK, "mask": MASK * 1.0}, TRUNCATES, id="floats for integers"
        ),
        pytest.param(TOKENS, {"ids": [[1, 2], [3]], "mask": [[1, 1], [1]]}, "'ids'", id="ragged"),
        pytest.param(
            TOKENS, {"ids": [[1, 2.0]], "mask": [[1, 1]]}, "integer", id="one float among integers"
        ),
        pytest.param(TEXTS, {"text": ["a", 1]}, "1 in row 1 is a", id="a number among strings"),
        pytest.param(TEXTS, {"text": "a"}, "must have shape (batch), got ()", id="one text"),
        pytest.param(
            TEXTS, ["a", "b"], "or np.asarray(X) for a tensor without columns", id="a list of texts"
        ),
        pytest.param(
            PAIRS,
            {"X": [["a", 1]]},
            "1 in row 0 is a",
            id="a number among strings in a tensor with columns",
        ),
        pytest.param(
            one_tensor(AGE, INCOME),
            {"X": np.ma.MaskedArray([[1.0, 2.0]], [[False, True]])},
            "missing value",
            id="a mask is not dropped",
        ),
        pytest.param(
            one_tensor(AGE, INCOME),
            np.ma.MaskedArray([[1.0, 2.0]], [[False, True]]),
            "",
            id="a mask is not dropped from an array",
        ),
        pytest.param(
            Signature((TensorSpec("h", "float16", ("batch", 1), (Column("n", "float64"),)),), (Y,)),
            {"n": [1, 70_000]},
            "float16 in row 1",
            id="integers beyond float16",
        ),
    ],
)
def test_a_mistake_with_tensors_is_refused_and_named(signature, X, expected):
    with pytest.raises(SignatureError) as error:
        signature.coerce(X)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("signature", "X", "count"),
    [
        (tensor_per_column(AGE, INCOME), {"Age": [1.0], "zip": [1.0]}, 4),
        (tensor_per_column(AGE, INCOME), {"age": ["x"], "income": ["y"]}, 2),
        (one_tensor(AGE, INCOME), np.array([[np.nan, np.inf]]), 2),
        (one_tensor(AGE, INCOME), np.ones((2, 3)), 1),
        (one_tensor(AGE, INCOME), np.ones(2), 1),
        (one_tensor(AGE, INCOME), None, 1),
        (tensor_per_column(AGE, INCOME), np.ones((2, 3)), 1),
        (tensor_per_column(AGE, INCOME), {"age": [1.0], "income": [1.0, 2.0]}, 1),
        (TOKENS, {"ids": MASK, "mask": MASK[:1]}, 1),
        (TOKENS, {"ids": MASK}, 1),
        (TOKENS, MASK, 1),
    ],
)
def test_a_refusal_lists_its_problems(signature, X, count):
    with pytest.raises(SignatureError) as error:
        signature.coerce(X)
    assert len(error.value.problems) == count


def test_a_long_refusal_shows_twenty_problems_and_lists_them_all():
    columns = [Column(f"c{i}") for i in range(30)]
    with pytest.raises(SignatureError, match=r"\.\.\. and 10 more") as error:
        one_tensor(*columns).coerce({column.name: ["x"] for column in columns})
    assert len(error.value.problems) == 30
    assert str(error.value).count("\n") == 21


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
    "floats for strings": (TEXT, np.float64, FLOATS.filter(lambda value: value == value)),  # noqa: PLR0124 - not NaN
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
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_column_of_another_type_is_refused_whatever_its_values(wrong, layout, form, data):
    column, dtype, values = WRONG[wrong]
    array = np.array(data.draw(st.lists(values, min_size=1, max_size=5)), dtype)
    with pytest.raises(SignatureError):
        layout(column).coerce(FORMS[form](array))


@pytest.mark.parametrize("layout", [one_tensor, tensor_per_column])
@settings(deadline=None, max_examples=100)
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
@settings(deadline=None, max_examples=100)
@given(
    array=npst.arrays(
        st.sampled_from([np.int64, np.longlong, np.int32, np.uint64, np.uint8]),
        st.integers(1, 5),
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
