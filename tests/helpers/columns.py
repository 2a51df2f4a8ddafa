"""Columns of every dtype, their layouts in tensors, and one column in every container."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from modelkit import Column, Signature, TensorSpec
from modelkit.errors import SignatureError

Y = TensorSpec("y", "float32", ("batch",))

NUMBER, SINGLE = Column("n", "float64"), Column("n", "float32")
MAYBE, MAYBE_SINGLE = Column("n", "float64", nullable=True), Column("n", "float32", nullable=True)
INTEGER, BYTE, BOOLEAN = Column("n", "int64"), Column("n", "uint8"), Column("n", "bool")
TEXT, MAYBE_TEXT = Column("n", "string"), Column("n", "string", nullable=True)
CITY = Column("n", "string", categories=("Oslo", "Rome"))
MAYBE_CITY = Column("n", "string", nullable=True, categories=("Oslo", "Rome"))
AGE, INCOME, VISITS = Column("age"), Column("income"), Column("visits")

NOT_TO_NUMBERS = "parse them first, for example with pandas.to_numeric"
TRUNCATES = "a cast would truncate, so round and cast them yourself"
NOON = dt.datetime(2024, 5, 1, 12)  # noqa: DTZ001 - naive, as most data is


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


def check_refused(signature, X, expected):
    with pytest.raises(SignatureError) as error:
        signature.coerce(X)
    for part in expected:
        assert part in f"{error.value}\n"
