"""The columns of a model's rows, and what their values may become so that the signature takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.robustness import Constraints
from modelkit.report.html import some
from modelkit.signature.signature import Signature
from modelkit.signature.spec import MIXED, TIMES, Column, numpy_dtype

CANDIDATES = 32  # values of the rows that a column is tried with


@final
@dataclass(frozen=True, eq=False)
class Cells:
    """One column of the rows, and what its values may become.

    Attributes:
        name: of the column.
        dtype: that the source was trained on.
        nullable: whether values may be missing.
        mutable: whether an attack may change it.
        free: whether it takes any text.
        known: up to 32 values, sorted, evenly taken from those of the rows or from the categories.
        spread: of the numbers, see `Constraints`; 0 for what is not a number, or always the same.
        low: the least number that an attack may put here.
        high: the greatest.
    """

    name: str
    dtype: np.dtype[Any]
    nullable: bool
    mutable: bool
    free: bool
    known: Array
    spread: float
    low: float
    high: float

    def fitted(self, numbers: Array, old: Array) -> Array:
        """Numbers as the column holds them; where one does not fit, the old value."""
        whole = self.dtype.kind != "f"
        limits: Any = np.iinfo(self.dtype) if whole else np.finfo(old.dtype)
        numbers = np.rint(numbers) if whole else numbers
        fits = (numbers >= limits.min) & (numbers < limits.max)
        found = old.copy()
        found[fits] = numbers[fits]
        return found

    def candidates(self, values: Array, step: float) -> tuple[Array, Array]:
        """What an attack tries in place of values (n,), and which of these it may; both (n, c).

        That is the known values, and of numbers those within the step, and its ends. Missing ones stay.
        """
        old = values[:, None]
        tried = np.tile(self.known, (len(values), 1))
        usable = present(old)
        if self.spread:
            reach = step * self.spread
            low, high = np.clip([old - reach, old + reach], self.low, self.high)
            tried = np.hstack([tried, low, high])
            tried = self.fitted(tried, np.broadcast_to(old, tried.shape))
            usable = usable & (tried >= low) & (tried <= high)
        return tried, usable & (tried != old)

    def moved(self, old: Array, new: Array) -> Array:
        """How far numbers have moved, in spreads, (n,); 0 for what is not a number."""
        if not self.spread:
            return np.zeros(len(old))
        return np.asarray(np.nan_to_num(np.abs(new - old.astype(float)) / self.spread))


def present(values: Array) -> Array:
    """Which values of a column are neither missing nor infinite."""
    return np.asarray(values != np.array(None) if values.dtype == object else np.isfinite(values))


def read_cells(
    signature: Signature, columns: dict[str, Array], constraints: Constraints
) -> list[Cells]:
    """The columns whose values may change. Raises UsageError where the constraints do not fit them."""
    named = [column for spec in signature.inputs for column in spec.columns]
    found = [
        _read(column, columns[column.name], constraints)
        for column in named
        if column.dtype not in (MIXED, *TIMES)
    ]
    numbers = [cells.name for cells in found if cells.spread]
    odd = {*constraints.immutable} - {*columns} | {*constraints.ranges} - {*numbers}
    if odd or not found:
        raise UsageError(
            f"the constraints name {some([*odd]) or 'nothing'}; the columns are {some([*columns])}, and "
            f"those that may have a range {some(numbers) or 'none'}"
        )
    return found


def _read(column: Column, values: Array, constraints: Constraints) -> Cells:
    text = values.dtype == object
    nullable = column.nullable and values.dtype.kind in "fO"
    values = values[present(values)]
    known = np.unique(values)
    spread = low = high = 0.0
    if column.categories is not None:
        known = np.array(column.categories, values.dtype)
    elif not text and not {*known.tolist()} <= {0, 1}:
        spread = float(np.abs(values - np.median(values)).mean())
        low, high = constraints.ranges.get(column.name, (known[0], known[-1]))
        if not low <= known[0] <= known[-1] <= high:
            raise UsageError(
                f"the rows have a {column.name!r} from {known[0]:g} to {known[-1]:g}, outside its range, "
                f"{low:g} to {high:g}: widen it, or leave these rows out"
            )
    places = np.linspace(0, len(known) - 1, min(len(known), CANDIDATES)).astype(int)
    return Cells(
        column.name,
        numpy_dtype(column.dtype),
        nullable,
        column.name not in constraints.immutable,
        text and column.categories is None,
        known[places],
        spread,
        low,
        high,
    )
