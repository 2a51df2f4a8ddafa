"""Rows by column, as source and graph are both asked about; and some rows of whatever has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.source import Columns, Source
from modelkit.signature.cast import is_missing
from modelkit.signature.signature import Signature

GAPS = {"O": None, "M": "NaT", "m": "NaT"}


def columns_of(source: Source, signature: Signature) -> Columns:
    """The example by column: whole numbers in float64, floats in the dtype of their column.

    `signature` takes all of it. Tensors without columns stay as they are.
    """
    if isinstance(source.rows, dict):
        return source.rows
    inputs = [replace(spec, dtype=_wide(spec)) for spec in signature.inputs]
    wide = replace(signature, inputs=tuple(inputs))
    found = wide.columns(wide.coerce(source.rows))
    for spec in inputs:
        for column in spec.columns:
            if column.dtype.startswith("float"):
                found[column.name] = found[column.name].astype(column.dtype)
    return found


def _wide(spec: Any) -> str:
    """The dtype in which a tensor holds all numbers of its columns."""
    narrow = spec.dtype == "float32" and any(each.dtype != "float32" for each in spec.columns)
    return "float64" if narrow else str(spec.dtype)


def count(rows: Any) -> int:
    """The number of rows."""
    return len(next(iter(rows.values())) if isinstance(rows, dict) else rows)


def at(rows: Any, places: Any) -> Any:
    """The rows at some places of columns by name, of a frame or of an array."""
    if isinstance(rows, dict):
        return {name: values[places] for name, values in rows.items()}
    return rows.iloc[places] if hasattr(rows, "iloc") else rows[places]


def spread(rows: Any, most: int) -> Any:
    """At most this number of rows, evenly spaced."""
    rest = count(rows)
    return rows if rest <= most else at(rows, np.linspace(0, rest - 1, most).astype(int))


def repeated(rows: Columns, number: int) -> Columns:
    """This number of rows, from the first on and over again."""
    found: Columns = at(rows, np.arange(number) % count(rows))
    return found


def gaps(values: Array) -> Array:
    """Where a column is missing."""
    if values.dtype.kind != "O":
        return np.asarray(values != values)
    return np.array([is_missing(value) for value in values], bool)


def put(values: Array, places: Any, others: Any) -> Array:
    """A copy of a column with others at some places; whole numbers become float64."""
    kept = values.dtype.kind in "OfmM"
    found = values.astype(values.dtype if kept else np.float64)
    found[places] = others
    return found


def blank(values: Array, places: Any) -> Array:
    """A copy of a column that is missing at some places."""
    return put(values, places, GAPS.get(values.dtype.kind, np.nan))


def dtypes_in(rows: Any) -> list[Any]:
    """The dtype of each column of a frame or an array, numpy's or an extension's."""
    return [rows.dtype] * rows.shape[1] if isinstance(rows, np.ndarray) else list(rows.dtypes)


def column_in(rows: Any, place: int) -> Any:
    """One column of an array, as an array, or of a frame, as a Series."""
    return rows[:, place] if isinstance(rows, np.ndarray) else rows.iloc[:, place]


def numbers_in(rows: Any, place: int) -> Array:
    """A column of numbers in float64, NaN for those that are missing."""
    column = column_in(rows, place)
    if isinstance(rows, np.ndarray):
        return np.asarray(column, np.float64)
    return np.asarray(column.to_numpy(np.float64, na_value=np.nan))


def replaced(rows: Any, columns: Mapping[int, Array]) -> Any:
    """A copy with other values in some columns; an array of whole numbers becomes one of float64."""
    if not isinstance(rows, np.ndarray):
        found = rows.reset_index(drop=True)
        for place, values in columns.items():
            found.isetitem(place, values)
        return found
    found = rows.astype(rows.dtype if rows.dtype.kind in "fO" else np.float64)
    for place, values in columns.items():
        found[:, place] = values
    return found
