"""What looks like a mistake and is none: the values that reach the model are exact."""

from collections import OrderedDict

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from helpers.mistakes import (
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
    NUMBER,
    SINGLE,
    TEXT,
    VISITS,
    containers,
    in_both_layouts,
    in_every_container,
)

from modelkit import Column
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
