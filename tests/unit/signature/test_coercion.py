"""What looks like a mistake and is none: the values that reach the model are exact."""

from collections import OrderedDict

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse
from helpers.columns import (
    AGE,
    BOOLEAN,
    BYTE,
    CITY,
    INCOME,
    INTEGER,
    MAYBE,
    MAYBE_CITY,
    MAYBE_SINGLE,
    MAYBE_TEXT,
    NOON,
    NUMBER,
    SINGLE,
    TEXT,
    VISITS,
    check_refused,
    containers,
    in_both_layouts,
    in_every_container,
)

from modelkit import Column, Signature, TensorSpec
from modelkit.errors import SignatureError
from modelkit.signature.cast import MISSING

# What looks like a mistake and is none: the values that reach the model, by column.
EXACT = [0, 2**53, -(2**53)]
NAN = float("nan")
ROWS = {"visits": [3.0, 6.0], "income": [2.0, 5.0], "age": [1.0, 4.0]}
IN_ORDER = {"age": [1.0, 4.0], "income": [2.0, 5.0], "visits": [3.0, 6.0]}
ACCEPTED = [
    (
        "a list of lists",
        [AGE, INCOME],
        [[1, 2], [3.5, 4]],
        {"age": [1.0, 3.5], "income": [2.0, 4.0]},
    ),
    ("a list of tuples", [AGE, INCOME], [(1, 2)], {"age": [1.0], "income": [2.0]}),
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
        ["column 'age': values (datetime64", "column 'visits': '1' in row 0 is of type str"],
    ),
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
        [
            "missing value in row 1; the model was not shown to accept it; where an empty text is meant, "
            "pass '' (CSV has none: its empty cells are missing values)"
        ],
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
        ["cannot read rows from DoubleArray; pass a numpy array"],
    ),
    ("a chunked arrow array", [NUMBER], pa.chunked_array([[1.0]]), ["ChunkedArray"]),
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
        ["cannot read rows from NoneType; pass a numpy array, a dict of arrays"],
    ),
    ("a string", [NUMBER], "n", ["cannot read rows from str"]),
    ("bytes", [NUMBER], b"n", ["cannot read rows from bytes"]),
    ("a number", [NUMBER], 1.0, ["cannot read rows from float"]),
    ("a set", [NUMBER], {1.0}, ["cannot read rows from set"]),
    ("a generator", [NUMBER], (row for row in [{"n": 1.0}]), ["cannot read rows from generator"]),
    (
        "a list of lists of several lengths",
        [NUMBER],
        [[1.0], [2.0, 3.0]],
        ["every row needs a value for each column; got rows of several lengths, [1, 2]"],
    ),
    (
        "a list of lists with one in a row",
        [NUMBER],
        [[[1.0]], [[2.0]]],
        ["column 'n': [1.0] in row 0 is of type list, a number is expected"],
    ),
    (
        "a list of lists, of which one row has a list",
        [NUMBER],
        [[1.0], [[2.0, 3.0]]],
        ["column 'n': [2.0, 3.0] in row 1 is of type list, a number is expected"],
    ),
    (
        "an object where categories are expected",
        [Column("n", "float64", categories=(0, 1))],
        np.array([[{}]]),
        ["column 'n': {} in row 0 is of type dict, a number is expected"],
    ),
    (
        "a list of numbers",
        [NUMBER],
        [1.0, 2.0],
        ["list of numbers; pass [X] for one row, [[x] for x in X] for one column"],
    ),
    (
        "a tuple of strings",
        [NUMBER],
        ("a", "b"),
        ["tuple of str; pass {column: X}, a frame or records"],
    ),
    ("records and None", [NUMBER], [{"n": 1.0}, None], ["cannot read rows from list"]),
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
    ("signature", "X", "expected"), in_both_layouts([*NAMES, *MISSES, *RANGES, *SHAPES])
)
def test_a_mistake_is_refused_and_named(signature, X, expected):
    check_refused(signature, X, expected)


# Lists of lists: values of Python in the order of the columns.


def rows_of(dtype, **options):
    columns = tuple(Column(name, dtype, **options) for name in "ab")
    return Signature(
        (TensorSpec("X", dtype, ("n", 2), columns),), (TensorSpec("y", dtype, ("n",)),)
    )


PLAIN = Signature((TensorSpec("X", "float64", ("n", 2)),), (TensorSpec("y", "float64", ("n",)),))


@pytest.mark.parametrize(
    ("signature", "rows", "expected"),
    [
        (rows_of("float32"), [[5, 3.5], [1, 0.2]], [[5, np.float32(3.5)], [1, np.float32(0.2)]]),
        (rows_of("float64"), [[2**53, 0.5]], [[2.0**53, 0.5]]),
        (rows_of("float64"), [(1e300, 2), [True, 3]], [[1e300, 2], [1, 3]]),
        (rows_of("float64", nullable=True), [[None, 1], [2.5, float("nan")]], None),
        (rows_of("int64"), [[2**53 + 1, 2]], [[2**53 + 1, 2]]),
        (PLAIN, [[1, 0.5]], [[1, 0.5]]),
        (PLAIN, [[2**53 + 1, 0.5]], "integer beyond 2**53"),
        (rows_of("float64"), [[2**53 + 1, 0.5]], "column 'a': integer beyond 2**53"),
        (rows_of("float32"), [[2**24 + 1, 0.5]], "column 'a': integer beyond 2**24"),
        (rows_of("float64"), [[2**63 + 5, 2]], "column 'a': integer beyond 2**53"),
        (rows_of("int64"), [[1, 2.5]], "column 'b': 2.5 in row 0"),
        (rows_of("float64"), [[None, 1.5]], "column 'a': missing value"),
        (rows_of("float64"), [[1.5, "2"]], "column 'b': '2' in row 0"),
        (rows_of("float64"), [[1.5, 2, 3]], "must have shape (n, 2), got (1, 3)"),
        (rows_of("float64"), [[[1.5, 2.5]]], "must have shape (n, 2), got (1, 1)"),
        (rows_of("float64"), [[[1.5], [2.5]]], "column 'a': [1.5] in row 0 is of type list"),
        (rows_of("float64"), [[1.5, [2, 3]]], "column 'b': [2, 3] in row 0 is of type list"),
    ],
)
def test_lists_of_lists_are_cast_exactly_or_refused(signature, rows, expected):
    """An integer beside a float was rounded by numpy, before anything looked at it."""
    if isinstance(expected, str):
        with pytest.raises(SignatureError) as error:
            signature.coerce(rows)
        assert expected in str(error.value)
    elif expected is None:
        assert np.isnan(signature.coerce(rows)["X"]).tolist() == [[True, False], [False, True]]
    else:
        assert signature.coerce(rows)["X"].tolist() == expected
