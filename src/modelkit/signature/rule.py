"""How one column becomes part of a tensor, and why it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array

# U+FDD0 is one of the noncharacters that Unicode reserves for use inside a program.
MISSING = "\ufdd0"

F4 = np.dtype(np.float32)
F8 = np.dtype(np.float64)
I8 = np.dtype(np.int64)
# Images of floats take no integers, and planes of floats, which may be images, none of one byte.
UNFIT = {"images": ("i", "u"), "planes": ("u1",)}
MOST_ROWS = 5  # that a message names


class CastError(Exception):
    """Why a column cannot be cast; the errors of all columns become one SignatureError.

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
        bad = np.asarray(self.bad.reshape(-1, width).any(axis=1))
        return self.what.replace("{rows}", name_rows(bad))


def name_rows(bad: Array) -> str:
    """Name the first rows at which a mask is true: 'row 3', or 'rows 0, 4, 7, ... (12 in all)'."""
    rows = np.flatnonzero(bad)
    shown = ", ".join(str(row) for row in rows[:MOST_ROWS])
    if len(rows) == 1:
        return f"row {shown}"
    if len(rows) <= MOST_ROWS:
        return f"rows {shown}"
    return f"rows {shown}, ... ({len(rows)} in all)"


class Rule:
    """How one column becomes part of a tensor.

    `declared` is the dtype that the source was trained on; it bounds which integers are exact.
    `target` is the dtype of the tensor, and may be narrower: a tree compares in float32. `bounds`
    holds, for each dtype of an array, the sum of squares below which each value is cast exactly, or
    only rounded; see `quick_cast`. An array of the dtype `as_is` needs no look at its values. `zoned`
    is whether points in time have a time zone, and `mixed` whether values of any type become JSON.
    `unfit` are the integers that are refused where images are floats, as numpy writes them. `finite`
    is whether infinities are refused although missing values are not.
    """

    __slots__ = (
        "as_is",
        "bounds",
        "categories",
        "closed",
        "declared",
        "finite",
        "form",
        "kind",
        "known",
        "mixed",
        "name",
        "nullable",
        "quick",
        "target",
        "text",
        "unfit",
        "zoned",
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
        self.categories = categories
        self.form = form
        self.finite = form == "finite"
        self.zoned = form == "zoned"
        self.mixed = form == "mixed"
        self.unfit = UNFIT.get(form, ())
        self.kind = (target, declared, nullable, categories, form)
        self.text = target.kind == "O"
        looked_at = self.mixed or target.kind in "mM"
        self.closed = categories is not None
        # No array has the dtype None: then each value is looked at.
        self.quick: Any = None if self.closed or looked_at else target
        self.known = frozenset(categories or ())
        takes_all = target.kind in "iub" or (target.kind == "f" and nullable and not self.finite)
        self.as_is = target if takes_all and not self.closed else None
        self.bounds: dict[np.dtype[Any], float] = {}
        if target.kind == "f" and not self.closed:
            self.bounds = {
                F4: _largest(target),
                F8: _largest(target),
                I8: min(4.0 ** min(exact_bits(declared), 52), _largest(target)),
            }
            if "i" in self.unfit:
                del self.bounds[I8]

    def opened(self) -> Rule:
        """The same without categories."""
        return Rule(self.name, self.target, self.declared, self.nullable, form=self.form)

    def check_finite(self, values: Array) -> None:
        """Raise CastError for infinities in a column that takes none, though values may be missing."""
        infinite = np.isinf(values) if self.finite else None
        if infinite is not None and infinite.any():
            raise CastError(
                "infinite value in {rows}; the model was not shown to accept it", infinite
            )

    def check_pixels(self, dtype: np.dtype[Any]) -> None:
        """Raise CastError for images of integers where those of floats are expected."""
        if dtype.kind in self.unfit or dtype.str[1:] in self.unfit:
            raise CastError(
                f"integers ({dtype}) where floats ({self.target}) are expected: pixels from 0 to "
                "255 mean nothing to a network that was trained on others. Save it with "
                "preprocess=mk.Preprocess(...), and it takes them; or scale and cast rows as in "
                "training"
            )


def _largest(target: np.dtype[Any]) -> float:
    """A bound on the sum of squares below which no value is beyond the range of `target`."""
    most = float(np.finfo(F8).max)
    if target != F8:
        most = min(most, float(np.finfo(target).max) ** 2)
    # Of numpy: a float of Python would be narrowed to the float32 that it is compared with.
    return np.float64(most / 4)


def exact_bits(declared: np.dtype[Any]) -> int:
    """The exponent of the power of two up to which a float column holds every integer."""
    return int(np.finfo(declared if declared.kind == "f" else np.float64).nmant) + 1
