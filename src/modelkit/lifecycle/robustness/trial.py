"""Rows on trial: what a model answers once they changed, whose decision flipped, and the greedy attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.robustness import Constraints
from modelkit.lifecycle.evaluation.rows import CHUNK, answers_of, with_answers
from modelkit.lifecycle.robustness.cells import CANDIDATES, Cells
from modelkit.model.model import Model

Rows = dict[str, Array]  # a column (n,) by name


def take(rows: Rows, places: Array) -> Rows:
    """A copy of the rows at some places."""
    return {name: values[places] for name, values in rows.items()}


@final
@dataclass(frozen=True, eq=False)
class Trial:
    """A model, rows, and what it answered to them.

    Attributes:
        model: that is asked.
        rows: n of them, as the model takes them.
        before: the same with their truth, and its answers.
        tolerance: how far each output of a regressor may move, (outputs,), and be the same decision.
        cells: the columns whose values may change.
        constraints: on attacks.
        level: of intervals.
        groups: the rows of each slice, a mask (n,) by name.
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
        """The places of the rows that were decided rightly; of a regressor, of all."""
        same = np.asarray(self.before.predicted == self.before.truth).reshape(len(self.before), -1)
        return np.flatnonzero(same.all(axis=1) | (self.before.kind == "regression"))

    def decide(self, rows: Rows, places: Array) -> tuple[Answered, Array, Array]:
        """What became of rows that changed; they were those at `places` (m,).

        Gives the rows that were answered; and of all of them, (m,), which flipped, and how far each is
        from that, in units of the scores: infinitely where the model refused a row, although each
        column allows it.
        """
        signature = self.model.signature
        feeds = signature.coerce(rows)
        refused = np.zeros(len(places), bool)
        while True:
            left = np.flatnonzero(~refused)
            try:
                outputs = answers_of(self.model, signature.take(feeds, left))
                break
            except SignatureError as error:
                if not error.rows:
                    raise
                refused[left[[*error.rows]]] = True
        was = self.before.at(places[left])
        now = with_answers(was, outputs, signature.primary)
        flipped = np.zeros(len(places), bool)
        margin = np.full(len(places), np.inf)
        flipped[left], margin[left] = self._compared(was.answers("predicted"), now)
        return now, flipped, margin

    def _compared(self, old: Array, now: Answered) -> tuple[Array, Array]:
        n = len(old)
        new = now.answers("predicted")
        if now.kind == "regression":
            left = (self.tolerance - np.abs(new - old)).min(axis=1)
            return ~(left >= 0), left
        scores = np.zeros(old.shape) if now.scores is None else now.scores
        own = np.where(old == now.positive, scores, 1 - scores) if scores.ndim == old.ndim else None
        margin = scores[np.arange(n), old] if own is None else own
        return (old != new).reshape(n, -1).any(axis=1), margin.reshape(n, -1).min(axis=1)


# Rows of a trial at some places, (m,), and a seed, become other rows; with how many the model was asked for.
Attack = Callable[[Trial, Array, int], tuple[Rows, int]]


def greedy(trial: Trial, places: Array, _: int) -> tuple[Rows, int]:
    """One column after the other is changed, by what is nearest to another decision.

    Of the changes that flip a decision, the one that moves a number the least is taken. With one column
    the search over the candidates is exhaustive. Gives the rows and how many the model was asked for.
    """
    rows = take(trial.rows, places)
    free = np.tile([cells.mutable for cells in trial.cells], (len(places), 1))
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
    """Change one column of each row that is left, in place.

    Gives the number of rows asked for, and the rows whose decision did not flip.
    """
    step = trial.constraints.step
    parts = []
    for at, cells in enumerate(trial.cells):
        own = left[free[left, at]]
        tried, usable = cells.candidates(rows[cells.name][own], step)
        row, which = np.nonzero(usable)
        parts.append((own[row], tried[row, which]))
    row = np.concatenate([own for own, _ in parts])
    if not len(row):
        return 0, left
    column = np.repeat(np.arange(len(parts)), [len(own) for own, _ in parts])
    changed = take(rows, row)
    moved = np.zeros(len(row))
    for at, (cells, (_, values)) in enumerate(zip(trial.cells, parts, strict=True)):
        mask = column == at
        moved[mask] = cells.moved(changed[cells.name][mask], values)
        changed[cells.name][mask] = values
    _, flipped, margin = trial.decide(changed, places[row])
    # The first of each row: one that flips, and of these the one that moves the least.
    order = np.lexsort((moved, np.where(flipped, -np.inf, margin), row))
    first = order[np.unique(row[order], return_index=True)[1]]
    first = first[margin[first] < np.inf]
    for name, values in rows.items():
        values[row[first]] = changed[name][first]
    free[row[first], column[first]] = False
    return len(row), np.setdiff1d(left, row[first[flipped[first]]])
