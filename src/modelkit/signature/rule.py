"""How one column becomes part of a tensor, and why it cannot.

What is accepted depends on types and ranges, never on whether the values happen to convert:

    into a float     floats (NaN only where nullable), integers that it holds exactly, booleans
    into an integer  integers within its range, booleans
    into a boolean   booleans
    into a string    strings, and missing values where nullable
    into a time      times of its unit or a coarser one, and missing values where nullable

Anything else is refused. A column of Python objects is judged element by element, by the same
rules.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.cast import F4, F8, I8, MISSING, CastError, exact_bits, is_blank, is_missing
from modelkit.signature.times import to_times

# Images of floats take no integers, and planes of floats, which may be images, none of one byte.
UNFIT = {"images": ("i", "u"), "planes": ("u1",)}
ONLY_STRINGS = {str}
VDOT_ITEMS = 8192  # below the 10,000 from which OpenBLAS uses threads
SHOWN_LETTERS = 40  # of a value that a message shows
NOT_SHOWN = "in {rows}; the model was not shown to accept it"
EMPTY = "where an empty text is meant, pass '' (CSV has none: its empty cells are missing values)"
# The types of Python that fit the kind of a dtype, and how a message calls them.
TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "O": ((str,), "a string"),
    "b": ((bool, np.bool_), "a boolean"),
    "f": ((bool, int, float, np.bool_, np.integer, np.floating), "a number"),
    "i": ((bool, int, np.bool_, np.integer), "an integer"),
    "u": ((bool, int, np.bool_, np.integer), "an integer"),
}


@final
class Rule:
    """How one column becomes part of a tensor.

    `declared` is the dtype that the source was trained on; it bounds which integers are exact.
    `target` is the dtype of the tensor, and may be narrower: a tree compares in float32. `bounds`
    holds, for each dtype of an array, the sum of squares below which each value is cast exactly, or
    only rounded; see `quick_cast`. An array of the dtype `as_is` needs no look at its values.
    `form` says what else is known of the values: points in time that have a time zone are "zoned",
    values of any type that become JSON "mixed"; a column is "finite" where infinities are refused
    although missing values are not; "images" and "planes" take no integers that may be pixels.
    """

    __slots__ = (
        "as_is",
        "bounds",
        "closed",
        "declared",
        "finite",
        "form",
        "kind",
        "known",
        "name",
        "nullable",
        "quick",
        "target",
        "text",
        "timed",
    )

    def __init__(
        self,
        name: str,
        target: np.dtype[Any],
        declared: np.dtype[Any],
        nullable: bool,
        categories: tuple[str | float, ...] | None = None,
        *,
        form: str = "",
    ) -> None:
        self.name = name
        self.target = target
        self.declared = declared
        self.nullable = nullable
        self.form = form
        self.finite = form == "finite"
        self.kind = (target, declared, nullable, categories, form)
        self.text = target.kind == "O"
        self.closed = categories is not None
        self.known = frozenset(categories or ())
        self.timed = target.kind in "mM"
        looked_at = self.closed or self.timed or form == "mixed"
        # No array has the dtype None: then each value is looked at.
        self.quick: Any = None if looked_at else target
        takes_all = target.kind in "iub" or (target.kind == "f" and nullable and not self.finite)
        self.as_is = target if takes_all and not self.closed else None
        self.bounds: dict[np.dtype[Any], float] = {}
        if target.kind == "f" and not self.closed:
            most = _most_squares(target)
            self.bounds = {F4: most, F8: most}
            if form != "images":
                self.bounds[I8] = min(4.0 ** min(exact_bits(declared), 52), most)

    def opened(self) -> Rule:
        """The same without categories."""
        return Rule(self.name, self.target, self.declared, self.nullable, form=self.form)

    def quick_cast(self, values: Array) -> Array | None:
        """Cast an array that plainly fits; None where `cast` must look closer.

        The dot product of an array with itself is finite only if every element is, and bounds the
        largest: one pass at memory speed, without a temporary. On small arrays this is what a call
        costs over the bare runtime.
        """
        target = self.quick
        dtype = values.dtype
        if values.size == 1:  # one row: looking at its value is four times cheaper than a reduction
            item = values.item()
            if dtype is target:
                if self.text:
                    return values if type(item) is str and item != MISSING else None
                return values if isfinite(item) else None
            bound = self.bounds.get(dtype)
            return values.astype(target) if bound is not None and item * item < bound else None
        if dtype is target:
            if self.text:
                plain = {*map(type, values.flat)} <= ONLY_STRINGS and not (values == MISSING).any()
                return values if plain else None
            if self.as_is is target or (self.finite and not np.count_nonzero(np.isinf(values))):
                return values
            return values if isfinite(_square_norm(values)) else None
        if dtype is F4 and target is F8 and (self.as_is is target or values.size <= VDOT_ITEMS):
            values = values.astype(F8)  # exact; the sum of few wide values is read faster
            return values if self.as_is is target or isfinite(_square_norm(values)) else None
        bound = self.bounds.get(dtype)
        if bound is None:
            return None
        if dtype.kind == "i":
            values = values.astype(F8)  # whose squares do not wrap around
        return values.astype(target) if _square_norm(values) < bound else None

    def cast(self, values: Array) -> Array:
        """Cast a 1-D array, masked where values are missing. Raises CastError."""
        if type(values) is not np.ndarray:  # but a masked one
            return self._cast_each(values)
        if values.dtype is self.as_is:
            return values
        quick = self.quick_cast(values)
        return self._cast_each(values) if quick is None else quick

    def _cast_each(self, values: Array) -> Array:
        if self.form == "mixed":
            values = self._as_json(values)
        data, missing = np.ma.getdata(values), np.ma.getmaskarray(values)
        if self.text and data.dtype.kind in "UT":  # strings of a fixed or a variable width
            data = data.astype(object)
        alike = data.dtype.kind == "O" or (data.dtype.kind == self.target.kind and not self.timed)
        if not alike and is_blank(values):
            data = np.full(len(data), None, object)  # its dtype is what a reader gave it
        if data.dtype.kind == "O":
            missing = missing | np.fromiter(map(is_missing, data.tolist()), bool, len(data))
        if self.timed:
            return self._times(data, missing)
        if self.text:
            return self._texts(data, missing)
        out = self._numbers(data, missing, self.target)
        if self.finite and np.isinf(out).any():
            raise CastError(f"infinite value {NOT_SHOWN}", np.isinf(out))
        if self.closed:  # the numbers as they are, not as a narrower float rounds them
            self._check_categories(self._numbers(data, missing, F8))
        return out

    def check_pixels(self, dtype: np.dtype[Any]) -> None:
        """Raise CastError for images of integers where images of floats are expected."""
        if not {dtype.kind, dtype.str[1:]}.isdisjoint(UNFIT.get(self.form, ())):
            raise CastError(
                f"integers ({dtype}) where floats ({self.target}) are expected: pixels from 0 to "
                "255 mean nothing to a network that was trained on others. Save it with "
                "preprocess=mk.Preprocess(...), and it takes them; or scale and cast rows as in "
                "training"
            )

    def _as_json(self, values: Array) -> Array:
        """Values of any type as the JSON of each, but for None; NaN is another value where it may be."""
        mask = np.ma.getmaskarray(values)
        found = np.full(len(values), None, object)
        for row, item in enumerate(np.ma.getdata(values).tolist()):
            plain = item.item() if isinstance(item, np.generic) else item
            kept = self.nullable and isinstance(plain, float)
            if mask[row] or (is_missing(plain) and not kept):
                continue
            if not isinstance(plain, str | int | float):  # a boolean is an integer
                expected = "a string, a number or a boolean"
                raise CastError(_wrong_type(item, expected, F8), _mask_at(row, len(values)))
            found[row] = json.dumps(plain, ensure_ascii=False)
        return found

    def _times(self, data: Array, missing: Array) -> Array:
        out = to_times(data, missing, self.target, zoned=self.form == "zoned")
        gone = np.isnat(out)
        if gone.any() and not self.nullable:
            raise CastError(f"missing value {NOT_SHOWN}", gone)
        return out

    def _texts(self, data: Array, missing: Array) -> Array:
        if data.dtype.kind != "O":
            raise CastError(
                f"{_describe(data.dtype)} where strings are expected; a number is not turned into "
                "text"
            )
        self._judge(data.tolist(), missing, self.target)
        reserved = np.array([not gone and data[row] == MISSING for row, gone in enumerate(missing)])
        if reserved.any():
            raise CastError(
                "U+FDD0 in {rows}, which stands for a missing string inside a graph; pass None",
                reserved,
            )
        if missing.any():
            if not self.nullable:
                raise CastError(f"missing value {NOT_SHOWN}; {EMPTY}", missing)
            data = data.copy()
            data[missing] = MISSING
        if self.closed:
            self._check_categories(data)
        return data

    def _numbers(self, data: Array, missing: Array, target: np.dtype[Any]) -> Array:
        if data.dtype.kind == "O":
            items = data.tolist()
            self._judge(items, missing, target)
            filled = [0 if gone else item for gone, item in zip(missing, items, strict=True)]
            # A longdouble stays one, so that a value beyond the range of the target is seen.
            wide = np.longdouble in {*map(type, filled)}
            data = np.array(filled, np.longdouble if wide else F8 if target.kind == "f" else target)
        if target.kind != "f" and missing.any():
            raise CastError(f"missing value in {{rows}}; {target} has none", missing)
        self._check_kind(data, missing, target)
        if target.kind != "f":
            return data.astype(target, copy=False)
        if data.dtype.kind != "f":
            data = data.astype(F8)
        if missing.any():
            data = data.copy()
            data[missing] = np.nan
        return self._floats(data, target)

    def _floats(self, values: Array, target: np.dtype[Any]) -> Array:
        with np.errstate(over="ignore"):
            out = values.astype(target, copy=False)
        beyond = np.isinf(out) & ~np.isinf(values)
        if beyond.any():
            raise CastError(f"value beyond the range of {target} in {{rows}}", beyond)
        bad = np.zeros(len(out), bool) if self.nullable else ~np.isfinite(out)
        if bad.any():
            found = "missing value (NaN)" if np.isnan(out[bad]).any() else "infinite value"
            raise CastError(f"{found} {NOT_SHOWN}", bad)
        return out

    def _judge(self, items: list[Any], missing: Array, target: np.dtype[Any]) -> None:
        """Raise CastError, which names the first object of Python that does not fit."""
        accepted, expected = TYPES[target.kind]
        low, high, why = self._bounds_of(target)
        for row, item in enumerate(items):
            if missing[row]:
                continue
            if not isinstance(item, accepted):
                raise CastError(_wrong_type(item, expected, target), _mask_at(row, len(items)))
            if isinstance(item, int | np.integer) and not low <= item <= high:
                raise CastError(f"integer {why} in {{rows}}", _mask_at(row, len(items)))

    def _check_kind(self, data: Array, missing: Array, target: np.dtype[Any]) -> None:
        kind = data.dtype.kind
        if kind in "iu" and target.kind in "iuf":
            low, high, why = self._bounds_of(target)
            bad = ((data > high) | (data < low)) & ~missing
            if bad.any():
                raise CastError(f"integer {why} in {{rows}}", bad)
        elif kind != "b" and kind + target.kind != "ff":
            found, expected = _describe(data.dtype), _describe(target)
            raise CastError(f"{found} where {expected} are expected{_advice(data.dtype, target)}")

    def _bounds_of(self, target: np.dtype[Any]) -> tuple[int, int, str]:
        """The least and the largest integer that are taken, and the message for others."""
        if target.kind in "iu":
            info = np.iinfo(target)
            return int(info.min), int(info.max), f"beyond the range of {target}"
        bits = exact_bits(self.declared)
        return -(2**bits), 2**bits, f"beyond 2**{bits}, which a float cannot hold exactly,"

    def _check_categories(self, values: Array) -> None:
        items = values.tolist()
        if self.known.issuperset(items):
            return
        for unknown in items:
            missing = unknown == MISSING or unknown != unknown  # NaN
            if unknown in self.known or (self.nullable and missing):
                continue
            bad = np.fromiter((item == unknown for item in items), bool, len(items))
            shown = sorted(self.known, key=str if self.text else None)
            raise CastError(f"unknown category {unknown!r} in {{rows}}; known are {shown}", bad)


def _most_squares(target: np.dtype[Any]) -> float:
    """A bound on the sum of squares below which no value is beyond the range of `target`."""
    most = float(np.finfo(F8).max)
    if target != F8:
        most = min(most, float(np.finfo(target).max) ** 2)
    # Of numpy: a float of Python would be narrowed to the float32 that it is compared with.
    return np.float64(most / 4)


def _square_norm(values: Array) -> Any:
    """The dot product of an array with itself.

    For more than 10,000 elements OpenBLAS calls its threads, which then spin for milliseconds on the
    cores that the model is about to use. `einsum` has a loop as fast of its own.
    """
    if values.size <= VDOT_ITEMS:
        return np.vdot(values, values)
    flat = values.reshape(-1)
    return np.einsum("i,i->", flat, flat)


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


def _wrong_type(item: object, expected: str, target: np.dtype[Any]) -> str:
    text = repr(item)
    if len(text) > SHOWN_LETTERS:
        text = text[: SHOWN_LETTERS - 3] + "..."
    advice = "" if isinstance(item, bytes) else _advice(_dtype_like(item), target)
    return f"{text} in {{rows}} is of type {type(item).__name__}, {expected} is expected{advice}"


def _mask_at(row: int, rows: int) -> Array:
    """A mask of `rows` values that is true at one."""
    return np.asarray(np.arange(rows) == row)


def _dtype_like(item: object) -> np.dtype[Any]:
    """The dtype that a Python value resembles, for the advice in a message."""
    if hasattr(item, "isoformat"):
        return np.dtype("M8[ns]")
    return np.dtype(object if isinstance(item, str) else type(item))
