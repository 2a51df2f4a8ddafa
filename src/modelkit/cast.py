"""One column of values -> a numpy array of the declared dtype, by rules that look at types, never at luck.

    into a float     floats (NaN only where nullable), integers that it holds exactly, booleans
    into an integer  integers within its range, booleans
    into a boolean   booleans
    into a string    strings, and missing values where nullable

Anything else is refused. A column of Python objects is judged element by element, by the same rules.
A missing string travels through a graph as `MISSING`, because ONNX has no null.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# U+FDD0 is one of the noncharacters that Unicode reserves for use inside a program.
MISSING = "\ufdd0"

Array = np.ndarray[Any, np.dtype[Any]]


class CastError(Exception):
    """Why a column cannot be cast; the caller turns all of them into one SignatureError."""


def rows_of(bad: Array) -> str:
    """Name the first rows at which a boolean mask is true: 'row 3', 'rows 0, 4, 7, ... (12 in all)'."""
    rows = np.flatnonzero(bad)
    shown = ", ".join(str(row) for row in rows[:5])
    if len(rows) == 1:
        return f"row {shown}"
    return f"rows {shown}" if len(rows) <= 5 else f"rows {shown}, ... ({len(rows)} in all)"  # noqa: PLR2004


def is_missing(value: object) -> bool:
    """Whether a Python value stands for 'no value': None, NaN, pandas.NA, pandas.NaT."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return bool(value != value)  # noqa: PLR0124 - the definition of NaN
    return type(value).__name__ in ("NAType", "NaTType")


def to_dtype(values: Array, declared: np.dtype[Any], target: np.dtype[Any], *, nullable: bool) -> Array:
    """Cast a 1-D array (masked where values are missing) of a `declared` column to the tensor dtype `target`.

    `declared` is the dtype of the column as the source was trained on it and bounds which integers are
    exact; `target` may be narrower (a tree compares in float32), which is then part of the signature.
    Raises CastError.
    """
    if values.dtype == object and not isinstance(values, np.ma.MaskedArray):
        values = _from_objects(values, target)
    if target.kind == "O":
        return _to_string(values, nullable=nullable)
    if values.dtype.kind == target.kind == "f" and not isinstance(values, np.ma.MaskedArray):
        return _to_float(values, target, nullable=nullable)
    masked = isinstance(values, np.ma.MaskedArray) and bool(np.ma.getmaskarray(values).any())
    if masked and target.kind != "f":
        raise CastError(f"missing value in {rows_of(np.ma.getmaskarray(values))}; {target} has none")
    data = np.ma.getdata(values)
    _check_kind(data, declared, target, np.ma.getmaskarray(values) if masked else None)
    if not masked:
        if data.dtype.kind == "f":
            return _to_float(data, target, nullable=nullable)
        return data.astype(target, copy=False)
    out = data.astype(np.float64)
    out[np.ma.getmaskarray(values)] = np.nan
    return _to_float(out, target, nullable=nullable)


def _to_float(values: Array, target: np.dtype[Any], *, nullable: bool) -> Array:
    with np.errstate(over="ignore"):
        out = values.astype(target, copy=False)
    if not nullable:
        bad = ~np.isfinite(out)
        if bad.any():
            found = "missing value (NaN)" if np.isnan(values[bad]).any() else f"infinite or beyond {target}: value"
            raise CastError(f"{found} in {rows_of(bad)}; the model was not shown to accept it")
    elif out.dtype.itemsize < values.dtype.itemsize:
        bad = np.isinf(out) & ~np.isinf(values)
        if bad.any():
            raise CastError(f"value beyond the range of {target} in {rows_of(bad)}")
    return out


def _check_kind(data: Array, declared: np.dtype[Any], target: np.dtype[Any], mask: Array | None) -> None:
    kind = data.dtype.kind
    if kind == "b" and target.kind in "biuf":
        return
    if kind in "iu" and target.kind == "f":
        bits = np.finfo(declared if declared.kind == "f" else np.float64).nmant + 1
        bad = (data > 2**bits) | (data < -(2**bits))
        if mask is not None:
            bad &= ~mask
        if bad.any():
            raise CastError(f"integer beyond 2**{bits}, which a float cannot hold exactly, in {rows_of(bad)}")
        return
    if kind in "iu" and target.kind in "iu":
        info = np.iinfo(target)
        bad = (data < info.min) | (data > info.max)
        if bad.any():
            raise CastError(f"integer beyond the range of {target} in {rows_of(bad)}")
        return
    if kind == "f" and target.kind == "f":
        return
    raise CastError(f"{_describe(data.dtype)} where {_describe(target)} are expected{_advice(data.dtype, target)}")


def _describe(dtype: np.dtype[Any]) -> str:
    words = {"b": "booleans", "i": "integers", "u": "integers", "f": "floats", "U": "strings", "O": "strings"}
    return f"{words.get(dtype.kind, 'values')} ({'string' if dtype.kind in 'UO' else dtype})"


def _advice(found: np.dtype[Any], target: np.dtype[Any]) -> str:
    if found.kind == "f" and target.kind in "iu":
        return "; a cast would truncate, so round and cast them yourself"
    if found.kind in "UO" and target.kind in "iuf":
        return "; parse them first, for example with pandas.to_numeric"
    if found.kind == "M":
        return "; turn timestamps into numbers the way it was done in training"
    return ""


def _to_string(values: Array, *, nullable: bool) -> Array:
    if values.dtype.kind == "U":
        values = values.astype(object)
    if values.dtype.kind != "O":
        raise CastError(f"{_describe(values.dtype)} where strings are expected; a number is not turned into text")
    mask = np.ma.getmaskarray(values)
    if mask.any():
        if not nullable:
            raise CastError(f"missing value in {rows_of(mask)}; the model was not shown to accept it")
        values = np.ma.getdata(values).copy()
        values[mask] = MISSING
    return np.ma.getdata(values)


def _from_objects(values: Array, target: np.dtype[Any]) -> Array:
    """Python objects -> a (masked) array of one kind; the first value that does not fit is named."""
    items: Sequence[Any] = values.tolist()
    if target.kind == "O" and all(type(item) is str for item in items):
        return values
    missing = np.fromiter(map(is_missing, items), dtype=bool, count=len(items))
    accepted, kind = _accepted(target)
    for row, item in enumerate(items):
        if not missing[row] and not isinstance(item, accepted):
            text = repr(item) if len(repr(item)) <= 40 else repr(item)[:37] + "..."  # noqa: PLR2004
            advice = _advice(np.dtype(object if isinstance(item, str) else type(item)), target)
            raise CastError(f"{text} in row {row} is a {type(item).__name__}, {kind} is expected{advice}")
    if target.kind == "O":
        data: Array = values
    else:
        present = [0 if gone else item for gone, item in zip(missing, items, strict=True)]
        try:
            data = np.array(present) if present else np.empty(0, target)
        except OverflowError:
            data = np.array(present, dtype=object)
        if data.dtype == object:
            raise CastError("integer beyond 64 bits")
    return np.ma.MaskedArray(data, mask=missing) if missing.any() else data


def _accepted(target: np.dtype[Any]) -> tuple[tuple[type, ...], str]:
    if target.kind == "O":
        return (str,), "a string"
    if target.kind == "b":
        return (bool, np.bool_), "a boolean"
    if target.kind == "f":
        return (bool, int, float, np.bool_, np.integer, np.floating), "a number"
    return (bool, int, np.bool_, np.integer), "an integer"


def is_a(value: object, library: str, *names: str) -> bool:
    """Whether `value` is an instance of one of a library's classes, without importing the library."""
    module = sys.modules.get(library)
    return module is not None and isinstance(value, tuple(getattr(module, name) for name in names))
