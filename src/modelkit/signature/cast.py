"""What values are before they are cast: missing or not, exact or not, and at fault in which rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array

# A missing string in a graph, because ONNX has no null: U+FDD0 is one of the noncharacters that
# Unicode reserves for use inside a program.
MISSING = "\ufdd0"

F4 = np.dtype(np.float32)
F8 = np.dtype(np.float64)
I8 = np.dtype(np.int64)
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


def is_missing(value: object) -> bool:
    """Whether a Python value stands for 'no value': None, NaN, pandas.NA, pandas.NaT."""
    if value is None:
        return True
    if isinstance(value, float | np.floating | np.datetime64 | np.timedelta64):
        return bool(value != value)  # the definition of NaN and NaT
    return type(value).__name__ in ("NAType", "NaTType")


def is_blank(values: Array) -> bool:
    """Whether a column has rows, and each of them is missing."""
    if not len(values):
        return False
    if isinstance(values, np.ma.MaskedArray):
        return bool(np.ma.getmaskarray(values).all())
    if values.dtype.kind == "f":
        return bool(np.isnan(values).all())
    return values.dtype.kind in "mM" and bool(np.isnat(values).all())


def exact_bits(declared: np.dtype[Any]) -> int:
    """The exponent of the power of two up to which a float column holds every integer."""
    return int(np.finfo(declared if declared.kind == "f" else np.float64).nmant) + 1
