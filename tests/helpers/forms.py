"""The same rows in every form that a Model takes, over random signatures."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from helpers.examples import examples
from modelkit import Column, Signature, TensorSpec
from modelkit.signature.cast import MISSING
from modelkit.signature.spec import numpy_dtype

Y = TensorSpec("y", "float32", ("batch",))


def tensor_of(*columns, dtype="float32", rows="batch"):
    return Signature((TensorSpec("X", dtype, (rows, len(columns)), columns),), (Y,))


# The same rows in every form, over random signatures.


@dataclass
class Table:
    """A random signature, and rows that fit it; None is a missing value."""

    signature: Signature
    columns: tuple[Column, ...]
    rows: list[dict[str, object]]

    def values(self, column):
        return [row[column.name] for row in self.rows]


def values_of(column, target):
    """Values that a column of a tensor of dtype `target` accepts without doubt."""
    if column.dtype == "string":
        return st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters=[MISSING, "\0"]), max_size=4
        )
    if column.dtype == "bool":
        return st.booleans()
    if column.dtype == "int64":
        bits = 53 if target.startswith("float") else 63
        return st.integers(-(2**bits), 2**bits - 1)
    if "float32" in (column.dtype, target):
        return st.floats(width=32, allow_nan=False, allow_infinity=False)
    return st.floats(allow_nan=False, allow_infinity=False)


NAMES = st.text(st.characters(categories=["L", "Nd", "Pd", "Zs"]), min_size=1, max_size=4)


@st.composite
def tables(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    family = draw(
        st.sampled_from(
            ["numbers in one", "int64 in one", "bool in one", "string in one", "one a column"]
        )
    )
    if family == "one a column":
        dtypes = [
            draw(st.sampled_from(["float32", "float64", "int64", "bool", "string"])) for _ in names
        ]
        targets = [
            dtype if dtype == "string" else draw(st.sampled_from([dtype, "float32", "float64"]))
            for dtype in dtypes
        ]
    elif family == "numbers in one":
        dtypes = [draw(st.sampled_from(["float32", "float64", "int64", "bool"])) for _ in names]
        targets = [draw(st.sampled_from(["float32", "float64"]))] * len(names)
    else:
        dtypes = targets = [family.split()[0]] * len(names)
    columns = tuple(
        Column(
            name, dtype, nullable=target in ("float32", "float64", "string") and draw(st.booleans())
        )
        for name, dtype, target in zip(names, dtypes, targets, strict=True)
    )
    if family == "one a column":
        inputs = tuple(
            TensorSpec(c.name, t, ("batch", 1), (c,)) for c, t in zip(columns, targets, strict=True)
        )
    else:
        inputs = (TensorSpec("all of them", targets[0], ("batch", len(columns)), columns),)
    row = st.fixed_dictionaries(
        {
            c.name: st.none() | values_of(c, target) if c.nullable else values_of(c, target)
            for c, target in zip(columns, targets, strict=True)
        }
    )
    return Table(Signature(inputs, (Y,)), columns, draw(st.lists(row, max_size=6)))


def as_array_of(column, values):
    """A numpy array, of objects where numpy's own dtype cannot say that a value is missing."""
    if column.dtype.startswith("float"):
        return np.array([np.nan if value is None else value for value in values], column.dtype)
    plain = column.dtype != "string" and None not in values
    return np.array(values, column.dtype if plain else object)


def as_pandas_of(column, values):
    """A pandas column in the dtype a user would have: nullable ones where a value is missing."""
    nullable = {
        "int64": "Int64",
        "bool": "boolean",
        "float32": "Float32",
        "float64": "Float64",
        "string": "string",
    }
    if None in values or column.dtype == "string":
        return pd.array(values, nullable[column.dtype])
    return pd.Series(values, dtype=column.dtype)


def as_records(table, columns):
    return [{column.name: row[column.name] for column in columns} for row in table.rows]


def as_object_array(table, _):
    X = np.empty((len(table.rows), len(table.columns)), object)
    for j, column in enumerate(table.columns):  # an array has no names, so its columns are in order
        X[:, j] = table.values(column)
    return X


def as_typed_array(table, columns):
    """One array of the dtype that all columns share, where there is one."""
    if len({column.dtype for column in columns}) > 1 or columns[0].dtype == "string":
        return as_object_array(table, columns)
    return np.column_stack([as_array_of(column, table.values(column)) for column in table.columns])


def as_lists(table, _):
    """Lists of Python values, which have no names, so that they are in order."""
    return [[row[column.name] for column in table.columns] for row in table.rows]


def as_series(table, columns):
    """A Series where there is one column of texts, which is all that may come without its name."""
    if len(columns) > 1 or columns[0].dtype != "string":
        return CONTAINERS["pandas"](table, columns)
    return pd.Series(table.values(columns[0]), dtype=object)


POLARS = {
    "int64": pl.Int64,
    "bool": pl.Boolean,
    "float32": pl.Float32,
    "float64": pl.Float64,
    "string": pl.String,
}
ARROW = {"int64": pa.int64(), "bool": pa.bool_(), "float32": pa.float32(), "float64": pa.float64()}


def as_arrow(table, columns):
    return pa.table(
        {c.name: pa.array(table.values(c), ARROW.get(c.dtype, pa.string())) for c in columns}
    )


CONTAINERS = {
    "dict of arrays": lambda t, cs: {c.name: as_array_of(c, t.values(c)) for c in cs},
    "dict of lists": lambda t, cs: {c.name: t.values(c) for c in cs},
    "records": as_records,
    "pandas": lambda t, cs: pd.DataFrame({c.name: as_pandas_of(c, t.values(c)) for c in cs}),
    "pandas of numpy": lambda t, cs: pd.DataFrame(
        {c.name: as_array_of(c, t.values(c)) for c in cs}
    ),
    "pandas of arrow": lambda t, cs: as_arrow(t, cs).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda t, cs: pl.DataFrame(
        [pl.Series(c.name, t.values(c), POLARS[c.dtype]) for c in cs]
    ),
    "arrow": as_arrow,
    "object array": as_object_array,
    "typed array": as_typed_array,
    "lists": as_lists,
    "tuples": lambda t, cs: [*map(tuple, as_lists(t, cs))],
    "series": as_series,
}


def expected_feeds(table):
    """What `coerce` should give, built cell by cell."""
    feeds = {}
    for spec in table.signature.inputs:
        gone = MISSING if spec.dtype == "string" else np.nan
        cells = [
            [gone if row[c.name] is None else row[c.name] for c in spec.columns]
            for row in table.rows
        ]
        feeds[spec.name] = np.array(cells, numpy_dtype(spec.dtype)).reshape(
            len(cells), len(spec.columns)
        )
    return feeds


def same_feeds(got, expected):
    """Bit by bit: -0.0 is not 0.0, a mask or another dtype is a difference."""
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert type(got[name]) is np.ndarray, name
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), name
        if array.dtype == object:
            assert got[name].tolist() == array.tolist(), name
        else:
            assert got[name].tobytes() == array.tobytes(), (
                f"{name}: {got[name].tolist()} for {array.tolist()}"
            )


every_container = pytest.mark.parametrize("container", CONTAINERS)
moderately = settings(deadline=None, max_examples=examples(100))
