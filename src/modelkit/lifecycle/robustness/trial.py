"""What the values of rows may become, what a model answers to the changed rows, and the greedy attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError, UsageError
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.class_metrics import rows_right
from modelkit.lifecycle.evaluation.robustness import Constraints
from modelkit.lifecycle.evaluation.rows import CHUNK, answers_of, with_answers
from modelkit.model.model import Model
from modelkit.report.html import some
from modelkit.signature.signature import Signature
from modelkit.signature.spec import MIXED, TIMES, Column

CANDIDATES = 32  # values of the rows that a column is tried with
Rows = dict[str, Array]  # a column (n,) by name


@final
@dataclass(frozen=True, eq=False)
class Cells:
    """One column of the rows, and what its values may become.

    Attributes:
        column: its Column in the signature.
        known: up to 32 values, sorted: quantiles of the rows, or categories. Of numbers, the first and
            the last are the ends of the range that attacks keep to.
        spread: the mean distance of its numbers from their median; 0 for a constant, for texts and for
            columns of 0 and 1.
    """

    column: Column
    known: Array
    spread: float

    @property
    def name(self) -> str:
        """The name of the column."""
        return self.column.name

    def fitted(self, numbers: Array, old: Array) -> Array:
        """Numbers as the column holds them; where one does not fit, the old value."""
        whole = not self.column.dtype.startswith("float")
        limits: Any = np.iinfo(self.column.dtype) if whole else np.finfo(old.dtype)
        numbers = np.rint(numbers) if whole else numbers
        fits = (numbers >= limits.min) & (numbers < limits.max)
        found = old.copy()
        found[fits] = numbers[fits]
        return found

    def candidates(self, values: Array, step: float) -> tuple[Array, Array]:
        """The c values that an attack tries in place of each of n, and which of them it may use; both (n, c).

        It tries the known values, and of numbers the ends of the step too. It may use what is within
        the step. A missing value stays missing.
        """
        old = values[:, None]
        tried = np.tile(self.known, (len(values), 1))
        usable = present(old)
        if self.spread:
            reach = step * self.spread
            low, high = np.clip([old - reach, old + reach], self.known[0], self.known[-1])
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
    return values != np.array(None) if values.dtype == object else np.isfinite(values)


def read_cells(signature: Signature, rows: Rows, constraints: Constraints) -> list[Cells]:
    """The columns whose values may change. Raises UsageError where the constraints do not fit them."""
    found = [
        _read(column, rows[column.name], constraints)
        for spec in signature.inputs
        for column in spec.columns
        if column.dtype not in (MIXED, *TIMES)
    ]
    numbers = [cells.name for cells in found if cells.spread]
    odd = {*constraints.immutable} - {*rows} | {*constraints.ranges} - {*numbers}
    if odd or not found:
        raise UsageError(
            f"the constraints name {some([*odd]) or 'nothing'}; the columns are {some([*rows])}, and "
            f"those that may have a range {some(numbers) or 'none'}"
        )
    return found


def _read(column: Column, values: Array, constraints: Constraints) -> Cells:
    values = values[present(values)]
    known = np.unique(values)
    spread = 0.0
    if column.categories is not None:
        known = np.array(column.categories, values.dtype)
    elif values.dtype != object and not {*known.tolist()} <= {0, 1}:
        spread = float(np.abs(values - np.median(values)).mean(dtype=float))
        low, high = constraints.ranges.get(column.name, known[[0, -1]].tolist())
        if not low <= known[0] <= known[-1] <= high:
            raise UsageError(
                f"the rows have {column.name!r} from {known[0]:g} to {known[-1]:g}, outside its range, "
                f"{low:g} to {high:g}: widen it, or leave these rows out"
            )
        if not column.dtype.startswith("float"):
            limits = np.iinfo(column.dtype)
            low, high = ceil(max(low, limits.min)), floor(min(high, limits.max))
        known[[0, -1]] = low, high
    places = np.linspace(0, len(known) - 1, min(len(known), CANDIDATES)).astype(int)
    return Cells(column, known[places], spread)


def take(rows: Rows, places: Array) -> Rows:
    """A copy of the rows at some places."""
    return {name: values[places] for name, values in rows.items()}


@final
@dataclass(frozen=True, eq=False)
class Trial:
    """A model, n rows, and its answers to them before any change.

    Attributes:
        model: the Model under attack.
        rows: the rows, as columns (n,) by name.
        before: their truth, and the answers of the model.
        tolerance: how far each output of a regressor may move without a flip, (outputs,).
        cells: the columns whose values may change.
        constraints: what attacks keep to.
        level: the level of the intervals.
        groups: by the name of a slice, which rows are in it, bool (n,).
    """

    model: Model
    rows: Rows
    before: Answered
    tolerance: Array
    cells: Sequence[Cells]
    constraints: Constraints
    level: float
    groups: Mapping[str, Array]

    @property
    def right(self) -> Array:
        """The places of the rows that the model decided rightly; for a regressor, of all rows."""
        if self.before.kind == "regression":
            return np.arange(len(self.before))
        return np.flatnonzero(rows_right(self.before))

    def decide(self, rows: Rows, places: Array) -> tuple[Answered, Array, Array]:
        """Ask the model for m changed rows, which were those at `places` (m,) before the change.

        Gives the answers to the rows that it did not refuse; which rows flipped, bool (m,); and the margin
        of each, (m,): how far its scores are from a flip, infinite where the model refused the row.
        """
        signature = self.model.signature
        feeds = signature.coerce(rows)
        taken = np.arange(len(places))
        while True:
            try:
                outputs = answers_of(self.model, signature.take(feeds, taken))
                break
            except SignatureError as error:
                if not error.rows:
                    raise
                taken = np.delete(taken, error.rows)
        was = self.before.at(places[taken])
        now = with_answers(was, outputs, signature.primary)
        flipped = np.zeros(len(places), bool)
        margin = np.full(len(places), np.inf)
        flipped[taken], margin[taken] = self._compared(was.answers("predicted"), now)
        return now, flipped, margin

    def _compared(self, old: Array, now: Answered) -> tuple[Array, Array]:
        """Which decisions differ from the old ones, and the margin of each; both (m,)."""
        new = now.answers("predicted")
        if now.kind == "regression":
            margin = (self.tolerance - np.abs(new - old)).min(axis=1)
            return ~(margin >= 0), margin
        scores = np.zeros(old.shape) if now.scores is None else now.scores
        if scores.ndim == old.ndim:  # one score, of the positive class or label
            margin = np.where(old == now.positive, scores, 1 - scores)
        else:
            margin = scores[np.arange(len(old)), old]
        labels = tuple(range(1, old.ndim))
        return (old != new).any(axis=labels), margin.min(axis=labels)


# Of a trial, the places (m,) of the rows to attack, and a seed: these rows after the attack, and how many rows
# it asked the model for.
Attack = Callable[[Trial, Array, int], tuple[Rows, int]]


def greedy(trial: Trial, places: Array, _: int) -> tuple[Rows, int]:
    """Changes one column after the other, each time to the value that comes nearest to another decision.

    Among changes that flip the decision, it takes the one that moves a number the least. With one column
    it tries all candidates.
    """
    rows = take(trial.rows, places)
    mutable = [cells.name not in trial.constraints.immutable for cells in trial.cells]
    free = np.tile(mutable, (len(places), 1))
    queries = 0
    blocks = free.size * CANDIDATES // CHUNK + 1
    for block in np.array_split(np.arange(len(places)), blocks):
        left = block
        for _ in range(trial.constraints.most_columns):
            asked, left = _change_one(trial, places, rows, free, left)
            queries += asked
    return rows, queries


def _change_one(
    trial: Trial, places: Array, rows: Rows, free: Array, left: Array
) -> tuple[int, Array]:
    """Change one column of each of the rows at `left`, in place; `free` says which columns may change.

    Gives how many rows it asked the model for, and which of `left` did not flip.
    """
    changed, row, column, moved = _every_change(trial, rows, free, left)
    if not len(row):
        return 0, left
    _, flipped, margin = trial.decide(changed, places[row])
    # The first of each row: one that flips, and of these the one that moves the least.
    order = np.lexsort((moved, np.where(flipped, -np.inf, margin), row))
    first = order[np.unique(row[order], return_index=True)[1]]
    first = first[margin[first] < np.inf]
    for name, values in rows.items():
        values[row[first]] = changed[name][first]
    free[row[first], column[first]] = False
    return len(row), np.setdiff1d(left, row[first[flipped[first]]])


def _every_change(
    trial: Trial, rows: Rows, free: Array, left: Array
) -> tuple[Rows, Array, Array, Array]:
    """The rows at `left`, once for each change of a free column: these, their places, columns, and how far it moved."""
    new, parts = [], []
    for at, cells in enumerate(trial.cells):
        own = left[free[left, at]]
        old = rows[cells.name][own]
        tried, usable = cells.candidates(old, trial.constraints.step)
        i, j = np.nonzero(usable)
        new.append(tried[i, j])
        parts.append((own[i], np.full(len(i), at), cells.moved(old[i], tried[i, j])))
    row, column, moved = map(np.concatenate, zip(*parts, strict=True))
    changed = take(rows, row)
    for at, cells in enumerate(trial.cells):
        changed[cells.name][column == at] = new[at]
    return changed, row, column, moved
