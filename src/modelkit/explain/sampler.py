"""The method "sampling": passes over the background until the error is small or a budget spent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ExplainError
from modelkit.explain import sampling
from modelkit.explain.method import Attribution, ExplainRequest, gap_between
from modelkit.explain.subject import ROWS_AT_ONCE, Subject, rows_at
from modelkit.signature.signature import Feeds

LEAST_PAIRS = 10
MOST_PASSES = 32
SMALL_ERROR = 0.03  # standard errors beside the values, both as root mean squares over a row
KEPT_BYTES = 16 << 20  # of the first passes: they are the same for all rows


class RowEstimate(NamedTuple):
    """The estimate for one row.

    `values` and `errors` are (players, k), `base` is (k,). `evaluations` counts model rows, and
    `relative_error` is the root mean square of the errors, divided by the root mean square of the
    values.
    """

    values: Array
    errors: Array
    base: Array
    evaluations: int
    relative_error: float


class Walks(NamedTuple):
    """Some pairs of walks from background rows to the explained row, forwards and backwards.

    `ranks` (pairs, players) and `rows` (pairs,) are the order and the background row of each, and
    `places` say where the cells of their mixed rows come from.
    """

    ranks: Array
    rows: Array
    places: dict[str, Array]


def make_sampler(request: ExplainRequest) -> Sampler:
    """The method. Raises ExplainError if the budget is too small."""
    return Sampler(request.subject, request.budget, request.seed)


class Sampler:
    """Walks from background rows to an explained one, changing one column at a time.

    Raises ExplainError if the budget, or the background, is too small for ten pairs of walks.
    """

    kind = "sampling"
    exact = False

    def __init__(self, subject: Subject, budget: int | None, seed: int) -> None:
        self.space = subject.space
        self.output_names = subject.names
        self._subject = subject
        self._seed = seed
        self._adaptive = budget is None
        self._players = len(subject.players)
        self._steps = max(2 * (self._players - 1), 1)
        self._pairs = MOST_PASSES * subject.count if budget is None else budget // self._steps
        self._check_budget(budget)
        self._kept: dict[tuple[int, int], list[Walks]] = {}
        self.rows_per_row = self._steps * self._pairs + 2
        self.reason = self._why()

    def _check_budget(self, budget: int | None) -> None:
        enough = self._subject.count if budget is None else self._pairs
        if enough >= LEAST_PAIRS:
            return
        given = f"a budget of {budget} model rows"
        if budget is None:
            given = f"one pass over a background of {enough} rows"
        raise ExplainError(
            f"{given} gives {enough} random orders of {self._players} columns; at least "
            f"{LEAST_PAIRS} are needed: budget={LEAST_PAIRS * self._steps}, or a larger background"
        )

    def _why(self) -> str:
        if not self._adaptive:
            return f"the budget is {self._pairs} random orders"
        return (
            f"a pass over the background takes {self._steps * self._subject.count:,} model rows; "
            f"up to {MOST_PASSES} are made, until the standard errors are {SMALL_ERROR:.0%} of the "
            "values"
        )

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """Estimate the values of one row after the other."""
        n, k = served.shape
        values, errors = np.zeros((2, n, self._players, k))
        base = np.zeros((n, k))
        evaluations = n
        worst = 0.0
        for i in rows:
            found = self._estimate(rows_at(feeds, i), served[i])
            values[i], errors[i], base[i], asked, relative_error = found
            evaluations += asked
            worst = max(worst, relative_error)
        gap = gap_between(values, base, served)
        return Attribution(values, base, gap, evaluations, errors, warnings=self._warnings(worst))

    def _estimate(self, row: dict[str, Array], served: Array) -> RowEstimate:
        """Sample the values of one row, whose answer is `served` (k,)."""
        subject = self._subject
        if self._players == 1:
            values, base = sampling.only_player(subject.at_background, served)
            return RowEstimate(values, np.zeros_like(values), base, 0, 0.0)
        source = subject.beside(row)
        # An answer may differ in its last digit from that in a batch; whether to go on must not
        # depend on the batch.
        only = {name: cells[None] for name, cells in row.items()}
        (alone,) = subject.ask(only)
        estimates = sampling.Estimates(subject.count, self._players, len(served))
        number = 0
        left = self._pairs
        while True:
            pairs = min(left, subject.count)
            for walks in self._walks(number, pairs):
                inner = subject.ask_mixed(source, walks.places)
                starts = subject.at_background[walks.rows]
                estimates.add(walks.rows, sampling.gains(inner, walks.ranks, starts, alone))
            number += 1
            left -= pairs
            values, errors = estimates.result()
            error = _relative_error(errors, values)
            if not left or (self._adaptive and error <= SMALL_ERROR):
                break
        base = estimates.times @ subject.at_background / estimates.times.sum()
        values += (served - alone) / self._players
        evaluations = self._steps * (self._pairs - left) + 1
        return RowEstimate(values, errors, base, evaluations, error)

    def _warnings(self, worst: float) -> tuple[str, ...]:
        """Warnings for an explanation whose worst row has this relative standard error."""
        if self._pairs < self._subject.count:
            return (f"the budget reaches {self._pairs} of {self._subject.count} background rows",)
        if self._adaptive and worst > SMALL_ERROR:
            warning = (
                f"after {MOST_PASSES} passes, the standard errors are still up to {worst:.1%} of a "
                "row's values"
            )
            return (warning,)
        return ()

    def _walks(self, number: int, pairs: int) -> Iterable[Walks]:
        """The walks of one pass, kept if they are few."""
        kept = self._kept.get((number, pairs))
        if kept is not None:
            return kept
        walks = self._make_walks(number, pairs)
        cells = pairs * self._steps * self._players
        if (number + 1) * cells * 8 > KEPT_BYTES:
            return walks
        return self._kept.setdefault((number, pairs), list(walks))

    def _make_walks(self, number: int, pairs: int) -> Iterator[Walks]:
        ranks, rows = sampling.draw_orders(self._players, self._subject.count, number, self._seed)
        step = max(1, ROWS_AT_ONCE // self._steps)
        for start in range(0, pairs, step):
            some = slice(start, min(start + step, pairs))
            masks = sampling.coalitions(ranks[some])
            places = self._subject.places(masks, np.repeat(rows[some], self._steps))
            yield Walks(ranks[some], rows[some], places)


def _relative_error(errors: Array, values: Array) -> float:
    error = np.sqrt((errors**2).mean())
    size = np.sqrt((values**2).mean())
    return float(error / size) if error else 0.0
