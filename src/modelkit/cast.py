"""One column of values -> a numpy array of the declared dtype, by rules that look at types, never at luck.

    into a float     floats (NaN only where nullable), integers that it holds exactly, booleans
    into an integer  integers within its range, booleans
    into a boolean   booleans
    into a string    strings, and missing values where nullable

Anything else is refused. A column of Python objects is judged element by element, by the same
rules. A missing string travels through a graph as `MISSING`, because ONNX has no null.
"""

from __future__ import annotations

import sys
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

# U+FDD0 is one of the noncharacters that Unicode reserves for use inside a program.
MISSING = "\ufdd0"

Array = np.ndarray[Any, np.dtype[Any]]

F4, F8, I8 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64)
STRINGS = {str}
BLOCK = 8192


class CastError(Exception):
    """Why a column cannot be cast; the caller turns all of them into one SignatureError.

    `what` may say `{rows}`, for the rows at which the mask `bad` is true.
    """

    def __init__(self, what: str, bad: Array | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.bad = bad

    def __str__(self) -> str:
        return self.in_rows_of(1)

    def in_rows_of(self, width: int) -> str:
        """The message, where every row holds `width` of the values that were cast."""
        if self.bad is None:
            return self.what
        return self.what.replace(
            "{rows}", rows_of(np.asarray(self.bad.reshape(-1, width).any(axis=1)))
        )


def rows_of(bad: Array) -> str:
    """Name the first rows at which a boolean mask is true: 'row 3', 'rows 0, 4, 7, ...

    (12 in all)'.
    """
    rows = np.flatnonzero(bad)
    shown = ", ".join(str(row) for row in rows[:5])
    if len(rows) == 1:
        return f"row {shown}"
    return f"rows {shown}" if len(rows) <= 5 else f"rows {shown}, ... ({len(rows)} in all)"


def is_missing(value: object) -> bool:
    """Whether a Python value stands for 'no value': None, NaN, pandas.NA, pandas.NaT."""
    if value is None:
        return True
    if isinstance(value, float | np.floating):
        return bool(value != value)  # noqa: PLR0124 - the definition of NaN
    return type(value).__name__ in ("NAType", "NaTType")


class Rule:
    """How one column becomes part of a tensor.

    `declared` is the dtype the source was trained on and bounds which integers are exact; `target`
    is the tensor's, and may be narrower (a tree compares in float32), which is then part of the
    signature. `bounds` holds, by the dtype of an array, the norm below which each of its values is
    cast exactly or by mere rounding: see `quick_cast`. `as_is` is the dtype that needs no look at
    all, if there is one.
    """

    __slots__ = (
        "as_is",
        "bounds",
        "categories",
        "closed",
        "declared",
        "kind",
        "known",
        "name",
        "nullable",
        "quick",
        "target",
        "text",
    )

    def __init__(
        self,
        name: str,
        target: np.dtype[Any],
        declared: np.dtype[Any],
        nullable: bool,  # noqa: FBT001
        categories: tuple[str | float, ...] | None = None,
    ) -> None:
        self.name = name
        self.target = target
        self.declared = declared
        self.nullable = nullable
        self.categories = categories
        self.kind = (target, declared, nullable, categories)
        self.text = target.kind == "O"
        self.closed = categories is not None
        self.quick: Any = (
            None if self.closed else target
        )  # no array has the dtype None: each value is looked at
        self.known = frozenset(categories or ())
        self.as_is = None
        if not self.closed and (target.kind in "iub" or (target.kind == "f" and nullable)):
            self.as_is = target
        self.bounds: dict[np.dtype[Any], float] = {}
        if target.kind == "f" and not self.closed:
            self.bounds = {
                F4: _largest(target),
                F8: _largest(target),
                I8: min(4.0 ** min(_exact_bits(declared), 52), _largest(target)),
            }


def _largest(target: np.dtype[Any]) -> float:
    return (
        min(float(np.finfo(target).max) ** 2 if target != F8 else np.inf, np.finfo(np.float64).max)
        / 4
    )


def _exact_bits(declared: np.dtype[Any]) -> int:
    """Up to which power of two a float column holds every integer."""
    return int(np.finfo(declared if declared.kind == "f" else np.float64).nmant) + 1


def quick_cast(values: Array, rule: Rule) -> Array | None:
    """Cast an array in the usual case, where it plainly fits; None where `cast_column` must look closer.

    The dot product of an array with itself is finite only if every element is, and bounds the
    largest: one pass at memory speed, without a temporary. On small arrays this is what a call
    costs over the bare runtime.
    """
    target, dtype = rule.quick, values.dtype
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
            return (
                values
                if {*map(type, values.flat)} <= STRINGS and not (values == MISSING).any()
                else None
            )
        return values if rule.as_is is target or isfinite(_square_norm(values)) else None
    if dtype is F4 and target is F8 and (rule.nullable or values.size <= BLOCK):
        # Exact. Of a few values the wider sum is looked at, for Python reads it faster; of many,
        # half the bytes are.
        values = values.astype(F8)
        return values if rule.nullable or isfinite(_square_norm(values)) else None
    bound = rule.bounds.get(dtype)
    if bound is None:
        return None
    if dtype.kind == "i":
        values = values.astype(F8)  # whose squares do not wrap around
    return values.astype(target) if _square_norm(values) < bound else None


def _square_norm(values: Array) -> Any:
    """The dot product of an array with itself.

    OpenBLAS calls its worker threads for more than 10,000 elements, and they spin for milliseconds
    afterwards, on the cores that the model's own threads are about to use. `einsum` has a loop of
    its own, which is as fast.
    """
    if values.size <= BLOCK:
        return np.vdot(values, values)
    flat = values.reshape(-1)
    return np.einsum("i,i->", flat, flat)


def cast_column(values: Array, rule: Rule) -> Array:
    """Cast a 1-D array, masked where values are missing. Raises CastError."""
    out = to_dtype(values, rule.declared, rule.target, nullable=rule.nullable)
    if rule.closed:  # as they are, and not as a narrower float rounds them
        _check_categories(
            out if rule.text else to_dtype(values, rule.declared, F8, nullable=rule.nullable), rule
        )
    return out


def _check_categories(values: Array, rule: Rule) -> None:
    items = values.tolist()
    known = rule.known
    if known.issuperset(items):
        return

    def is_strange(item: Any) -> bool:
        if item in known:
            return False
        missing = item == MISSING or item != item  # noqa: PLR0124 - NaN
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
    if values.dtype.kind == target.kind == "f" and not isinstance(values, np.ma.MaskedArray):
        return _to_float(values, target, nullable=nullable)
    masked = isinstance(values, np.ma.MaskedArray) and bool(np.ma.getmaskarray(values).any())
    if masked and target.kind != "f":
        raise CastError(f"missing value in {{rows}}; {target} has none", np.ma.getmaskarray(values))
    data = np.ma.getdata(values)
    _check_kind(data, declared, target, np.ma.getmaskarray(values) if masked else None)
    if not masked:
        if data.dtype.kind == "f":
            return _to_float(data, target, nullable=nullable)
        return (
            data.astype(target, copy=False)
            if target.kind != "f"
            else _to_float(data.astype(F8), target, nullable=nullable)
        )
    out = data.astype(np.float64)
    out[np.ma.getmaskarray(values)] = np.nan
    return _to_float(out, target, nullable=nullable)


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
    raise CastError(
        f"{_describe(data.dtype)} where {_describe(target)} are "
        f"expected{_advice(data.dtype, target)}"
    )


def _describe(dtype: np.dtype[Any]) -> str:
    words = {
        "b": "booleans",
        "i": "integers",
        "u": "integers",
        "f": "floats",
        "U": "strings",
        "T": "strings",
        "O": "strings",
    }
    return f"{words.get(dtype.kind, 'values')} ({'string' if dtype.kind in 'UTO' else dtype})"


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
    """Python objects -> a (masked) array of one kind; the first value that does not fit is named."""
    items: Sequence[Any] = values.tolist()
    if target.kind == "O" and all(type(item) is str for item in items):
        return values
    missing = np.fromiter(map(is_missing, items), dtype=bool, count=len(items))
    accepted, kind = _accepted(target)
    low, high, why = _bounds(declared, target)

    def at(row: int) -> Array:
        return np.asarray(np.arange(len(items)) == row)

    for row, item in enumerate(items):
        if missing[row]:
            continue
        if not isinstance(item, accepted):
            text = repr(item) if len(repr(item)) <= 40 else repr(item)[:37] + "..."
            advice = "" if isinstance(item, bytes) else _advice(_kind_of(item), target)
            raise CastError(
                f"{text} in {{rows}} is a {type(item).__name__}, {kind} is expected{advice}",
                at(row),
            )
        if isinstance(item, int | np.integer) and not low <= item <= high:
            raise CastError(f"integer {why} in {{rows}}", at(row))
    if target.kind == "O":
        data: Array = values
    else:
        data = np.array(
            [0 if gone else item for gone, item in zip(missing, items, strict=True)],
            _widest(target),
        )
    return np.ma.MaskedArray(data, mask=missing) if missing.any() else data


def _widest(target: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64) if target.kind == "f" else target


def _bounds(declared: np.dtype[Any], target: np.dtype[Any]) -> tuple[int, int, str]:
    """The integers that a column takes, and what to say of others."""
    if target.kind in "iu":
        info = np.iinfo(target)
        return int(info.min), int(info.max), f"beyond the range of {target}"
    bits = _exact_bits(declared)
    return -(2**bits), 2**bits, f"beyond 2**{bits}, which a float cannot hold exactly,"


def _kind_of(item: object) -> np.dtype[Any]:
    """A dtype that stands for a Python value, to say what to do about it."""
    return np.dtype(
        "M8[ns]" if hasattr(item, "isoformat") else object if isinstance(item, str) else type(item)
    )


def _accepted(target: np.dtype[Any]) -> tuple[tuple[type, ...], str]:
    if target.kind == "O":
        return (str,), "a string"
    if target.kind == "b":
        return (bool, np.bool_), "a boolean"
    if target.kind == "f":
        return (bool, int, float, np.bool_, np.integer, np.floating), "a number"
    return (bool, int, np.bool_, np.integer), "an integer"


def is_a(value: object, library: str, name: str) -> bool:
    """Whether `value` is an instance of a library's class, without importing the library."""
    kind = getattr(
        sys.modules.get(library), name, None
    )  # None too while another thread imports the library
    return kind is not None and isinstance(value, kind)
