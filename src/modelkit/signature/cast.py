"""Cast a column of values to a numpy array of the declared dtype.

What is accepted depends on types and ranges, never on whether the values happen to convert:

    into a float     floats (NaN only where nullable), integers that it holds exactly, booleans
    into an integer  integers within its range, booleans
    into a boolean   booleans
    into a string    strings, and missing values where nullable

Anything else is refused. A column of Python objects is judged element by element, by the same
rules. A missing string travels through a graph as `MISSING`, because ONNX has no null.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.rule import F4, F8, MISSING, CastError, Rule, exact_bits, name_rows
from modelkit.signature.times import to_times

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "F4",
    "F8",
    "MISSING",
    "VDOT_ITEMS",
    "CastError",
    "Rule",
    "cast_column",
    "is_missing",
    "name_rows",
    "quick_cast",
]

ONLY_STRINGS = {str}
VDOT_ITEMS = 8192  # below the 10,000 from which OpenBLAS uses threads
SHOWN_LETTERS = 40  # of a value that a message shows


def is_missing(value: object) -> bool:
    """Whether a Python value stands for 'no value': None, NaN, pandas.NA, pandas.NaT."""
    if value is None:
        return True
    if isinstance(value, float | np.floating | np.datetime64 | np.timedelta64):
        return bool(value != value)  # the definition of NaN and NaT
    return type(value).__name__ in ("NAType", "NaTType")


def quick_cast(values: Array, rule: Rule) -> Array | None:
    """Cast an array that plainly fits; None where `cast_column` must look closer.

    The dot product of an array with itself is finite only if every element is, and bounds the
    largest: one pass at memory speed, without a temporary. On small arrays this is what a call
    costs over the bare runtime.
    """
    target = rule.quick
    dtype = values.dtype
    if values.size == 1:  # one row: looking at its value is four times cheaper than a reduction
        item = values.item()
        if dtype is target:
            if rule.text:
                return values if type(item) is str and item != MISSING else None
            return values if isfinite(item) else None
        bound = rule.bounds.get(dtype)
        return values.astype(target) if bound is not None and item * item < bound else None
    if dtype is target:
        if rule.text:
            plain = {*map(type, values.flat)} <= ONLY_STRINGS and not (values == MISSING).any()
            return values if plain else None
        if rule.as_is is target or (rule.finite and not np.count_nonzero(np.isinf(values))):
            return values
        return values if isfinite(_square_norm(values)) else None
    if dtype is F4 and target is F8 and (rule.as_is is target or values.size <= VDOT_ITEMS):
        values = values.astype(F8)  # exact; the sum of few wide values is read faster
        return values if rule.as_is is target or isfinite(_square_norm(values)) else None
    bound = rule.bounds.get(dtype)
    if bound is None:
        return None
    if dtype.kind == "i":
        values = values.astype(F8)  # whose squares do not wrap around
    return values.astype(target) if _square_norm(values) < bound else None


def _square_norm(values: Array) -> Any:
    """The dot product of an array with itself.

    For more than 10,000 elements OpenBLAS calls its threads, which then spin for milliseconds on the
    cores that the model is about to use. `einsum` has a loop as fast of its own.
    """
    if values.size <= VDOT_ITEMS:
        return np.vdot(values, values)
    flat = values.reshape(-1)
    return np.einsum("i,i->", flat, flat)


def cast_column(values: Array, rule: Rule) -> Array:
    """Cast a 1-D array, masked where values are missing. Raises CastError."""
    if rule.target.kind in "mM":
        return _to_times(values, rule)
    if rule.mixed:
        values = _as_json(values, nullable=rule.nullable)
    out = to_dtype(values, rule.declared, rule.target, nullable=rule.nullable)
    rule.check_finite(out)
    if rule.text and rule.closed:
        _check_categories(out, rule)
    elif rule.closed:  # the numbers as they are, not as a narrower float rounds them
        exact = to_dtype(values, rule.declared, F8, nullable=rule.nullable)
        _check_categories(exact, rule)
    return out


def _as_json(values: Array, *, nullable: bool) -> Array:
    """Values of any type as the JSON of each, but for None; NaN is another value where it may be.

    Raises CastError.
    """
    mask = np.ma.getmaskarray(values)
    found = np.full(len(values), None, object)
    for row, item in enumerate(np.ma.getdata(values).tolist()):
        plain = item.item() if isinstance(item, np.generic) else item
        kept = nullable and isinstance(plain, float)
        if mask[row] or (is_missing(plain) and not kept):
            continue
        if not isinstance(plain, str | int | float):  # a boolean is an integer
            expected = "a string, a number or a boolean"
            raise CastError(_wrong_type(item, expected, F8), _mask_at(row, len(values)))
        found[row] = json.dumps(plain, ensure_ascii=False)
    return found


def _to_times(values: Array, rule: Rule) -> Array:
    missing = np.ma.getmaskarray(values).copy()
    if values.dtype.kind == "O":
        missing |= np.fromiter(map(is_missing, np.ma.getdata(values).tolist()), bool, len(values))
    elif is_blank(values):
        missing[:] = True
        values = np.full(len(values), None, object)  # its dtype is what a reader gave it
    out = to_times(values, missing, rule.target, zoned=rule.zoned)
    gone = np.isnat(out)
    if gone.any() and not rule.nullable:
        raise CastError("missing value in {rows}; the model was not shown to accept it", gone)
    return out


def _check_categories(values: Array, rule: Rule) -> None:
    items = values.tolist()
    known = rule.known
    if known.issuperset(items):
        return

    def is_strange(item: Any) -> bool:
        if item in known:
            return False
        missing = item == MISSING or item != item  # NaN
        return not (rule.nullable and missing)

    strange = [is_strange(item) for item in items]
    if any(strange):
        unknown = items[strange.index(True)]
        bad = np.fromiter((item == unknown for item in items), bool, len(items))
        shown = sorted(rule.categories or (), key=str if rule.text else None)
        raise CastError(f"unknown category {unknown!r} in {{rows}}; known are {shown}", bad)


def to_dtype(
    values: Array, declared: np.dtype[Any], target: np.dtype[Any], *, nullable: bool
) -> Array:
    """Cast a 1-D array, masked where values are missing, of a `declared` column to `target`.

    Raises CastError.
    """
    if target.kind == "O" and values.dtype.kind in "UT":  # fixed and variable width strings
        values = values.astype(object)
    if values.dtype.kind not in (target.kind, "O") and is_blank(values):
        values = np.full(len(values), None, object)  # its dtype is what a reader gave it
    if values.dtype == object and not isinstance(values, np.ma.MaskedArray):
        values = _from_objects(values, declared, target)
    if target.kind == "O":
        return _to_string(values, nullable=nullable)
    return _to_number(values, declared, target, nullable=nullable)


def _to_number(
    values: Array, declared: np.dtype[Any], target: np.dtype[Any], *, nullable: bool
) -> Array:
    data = np.ma.getdata(values)
    mask = np.ma.getmask(values)  # a scalar where nothing is masked
    missing = mask if isinstance(mask, np.ndarray) and mask.any() else None
    if missing is not None and target.kind != "f":
        raise CastError(f"missing value in {{rows}}; {target} has none", missing)
    _check_kind(data, declared, target, missing)
    if target.kind != "f":
        return data.astype(target, copy=False)
    if data.dtype.kind != "f":
        data = data.astype(F8)
    if missing is not None:
        data = data.copy()
        data[missing] = np.nan
    return _to_float(data, target, nullable=nullable)


def is_blank(values: Array) -> bool:
    """Whether a column has rows, and each of them is missing."""
    if not len(values):
        return False
    if isinstance(values, np.ma.MaskedArray):
        return bool(np.ma.getmaskarray(values).all())
    if values.dtype.kind == "f":
        return bool(np.isnan(values).all())
    return values.dtype.kind in "mM" and bool(np.isnat(values).all())


def _to_float(values: Array, target: np.dtype[Any], *, nullable: bool) -> Array:
    with np.errstate(over="ignore"):
        out = values.astype(target, copy=False)
    beyond = np.isinf(out) & ~np.isinf(values)
    if beyond.any():
        raise CastError(f"value beyond the range of {target} in {{rows}}", beyond)
    bad = np.zeros(len(out), bool) if nullable else ~np.isfinite(out)
    if bad.any():
        found = "missing value (NaN)" if np.isnan(out[bad]).any() else "infinite value"
        raise CastError(f"{found} in {{rows}}; the model was not shown to accept it", bad)
    return out


def _check_kind(
    data: Array, declared: np.dtype[Any], target: np.dtype[Any], mask: Array | None
) -> None:
    kind = data.dtype.kind
    if kind == "b" and target.kind in "biuf":
        return
    if kind in "iu" and target.kind in "iuf":
        low, high, why = _bounds(declared, target)
        bad = (data > high) | (data < low)
        if mask is not None:
            bad &= ~mask
        if bad.any():
            raise CastError(f"integer {why} in {{rows}}", bad)
        return
    if kind == "f" and target.kind == "f":
        return
    found = _describe(data.dtype)
    advice = _advice(data.dtype, target)
    raise CastError(f"{found} where {_describe(target)} are expected{advice}")


def _describe(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "UTO":
        return "strings (string)"
    words = {"b": "booleans", "i": "integers", "u": "integers", "f": "floats"}
    return f"{words.get(dtype.kind, 'values')} ({dtype})"


def _advice(found: np.dtype[Any], target: np.dtype[Any]) -> str:
    if found.kind == "f" and target.kind in "iu":
        return "; a cast would truncate, so round and cast them yourself"
    if found.kind in "UTO" and target.kind in "iuf":
        return "; parse them first, for example with pandas.to_numeric"
    if found.kind == "M":
        return "; turn timestamps into numbers the way it was done in training"
    return ""


def _to_string(values: Array, *, nullable: bool) -> Array:
    if values.dtype.kind != "O":
        raise CastError(
            f"{_describe(values.dtype)} where strings are expected; a number is not turned into "
            "text"
        )
    items = np.ma.getdata(values).tolist()
    reserved = np.fromiter(
        (isinstance(item, str) and item == MISSING for item in items), bool, len(items)
    )
    if reserved.any():
        raise CastError(
            "U+FDD0 in {rows}, which stands for a missing string inside a graph; pass None",
            reserved,
        )
    mask = np.ma.getmaskarray(values)
    if mask.any():
        if not nullable:
            raise CastError("missing value in {rows}; the model was not shown to accept it", mask)
        values = np.ma.getdata(values).copy()
        values[mask] = MISSING
    return np.ma.getdata(values)


def _from_objects(values: Array, declared: np.dtype[Any], target: np.dtype[Any]) -> Array:
    """Python objects as an array of one kind, masked where some are missing.

    Raises CastError, which names the first value that does not fit.
    """
    items: Sequence[Any] = values.tolist()
    if target.kind == "O" and all(type(item) is str for item in items):
        return values
    missing = np.fromiter(map(is_missing, items), dtype=bool, count=len(items))
    accepted, expected = _accepted(target)
    low, high, why = _bounds(declared, target)
    for row, item in enumerate(items):
        if missing[row]:
            continue
        if not isinstance(item, accepted):
            raise CastError(_wrong_type(item, expected, target), _mask_at(row, len(items)))
        if isinstance(item, int | np.integer) and not low <= item <= high:
            raise CastError(f"integer {why} in {{rows}}", _mask_at(row, len(items)))
    data = values
    if target.kind != "O":
        filled = [0 if gone else item for gone, item in zip(missing, items, strict=True)]
        # A longdouble stays one, so that a value beyond the range of the target is seen.
        wide = np.longdouble in {*map(type, filled)}
        data = np.array(filled, np.longdouble if wide else _working_dtype(target))
    return np.ma.MaskedArray(data, mask=missing) if missing.any() else data


def _wrong_type(item: object, expected: str, target: np.dtype[Any]) -> str:
    text = repr(item)
    if len(text) > SHOWN_LETTERS:
        text = text[: SHOWN_LETTERS - 3] + "..."
    advice = "" if isinstance(item, bytes) else _advice(_dtype_like(item), target)
    return f"{text} in {{rows}} is of type {type(item).__name__}, {expected} is expected{advice}"


def _mask_at(row: int, rows: int) -> Array:
    """A mask of `rows` values that is true at one."""
    return np.asarray(np.arange(rows) == row)


def _working_dtype(target: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64) if target.kind == "f" else target


def _bounds(declared: np.dtype[Any], target: np.dtype[Any]) -> tuple[int, int, str]:
    """The least and the largest integer that a column takes, and the message for others."""
    if target.kind in "iu":
        info = np.iinfo(target)
        return int(info.min), int(info.max), f"beyond the range of {target}"
    bits = exact_bits(declared)
    return -(2**bits), 2**bits, f"beyond 2**{bits}, which a float cannot hold exactly,"


def _dtype_like(item: object) -> np.dtype[Any]:
    """The dtype that a Python value resembles, for the advice in a message."""
    if hasattr(item, "isoformat"):
        return np.dtype("M8[ns]")
    return np.dtype(object if isinstance(item, str) else type(item))


def _accepted(target: np.dtype[Any]) -> tuple[tuple[type, ...], str]:
    if target.kind == "O":
        return (str,), "a string"
    if target.kind == "b":
        return (bool, np.bool_), "a boolean"
    if target.kind == "f":
        return (bool, int, float, np.bool_, np.integer, np.floating), "a number"
    return (bool, int, np.bool_, np.integer), "an integer"
