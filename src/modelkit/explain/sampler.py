"""The sampler of an Explainer: passes over the background until the error is small, or until a budget is spent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from modelkit.cast import Array
from modelkit.errors import ExplainError
from modelkit.explain import sampling
from modelkit.explain.subject import CHUNK, Subject

LEAST_PAIRS = 10
MOST_PASSES = 32
SMALL = 0.03  # a standard error beside the values, both as root mean squares over a row
KEPT_BYTES = 16 << 20  # of the first passes: they are the same for all rows


class Found(NamedTuple):
    """Of one row: values and standard errors (players, outputs), base, model rows, and the errors beside the values."""

    values: Array
    errors: Array
    base: Array
    evaluations: int
    share: float


class Walks(NamedTuple):
    """A few pairs of walks: ranks and background row of each, and where their mixed rows come from."""

    ranks: Array
    rows: Array
    places: dict[str, Array]


class Sampler:
    """Walks from background rows to an explained one.

    Raises ExplainError for a budget of less than ten pairs of walks.
    """

    def __init__(self, subject: Subject, budget: int | None, seed: int) -> None:
        self._subject, self._seed, self._adaptive = subject, seed, budget is None
        self._players = len(subject.players)
        self._steps = max(2 * (self._players - 1), 1)
        self._pairs = MOST_PASSES * subject.count if budget is None else budget // self._steps
        if min(self._pairs, subject.count if budget is None else self._pairs) < LEAST_PAIRS:
            what = f"a budget of {budget} model rows gives {self._pairs}"
            if budget is None:
                what = f"one pass over a background of {subject.count} rows gives as many"
            raise ExplainError(
                f"{what} random orders of {self._players} columns; at "
                f"least {LEAST_PAIRS} are needed: budget={LEAST_PAIRS * self._steps}, or a larger "
                "background"
            )
        self._kept: dict[tuple[int, int], list[Walks]] = {}
        self.most_rows = self._steps * self._pairs + 1
        self.reason = f"the budget is {self._pairs} random orders"
        if self._adaptive:
            self.reason = (
                f"a pass over the background takes {self._steps * subject.count:,} model rows; up "
                f"to {MOST_PASSES} are "
                f"made, until the standard errors are {SMALL:.0%} of the values"
            )

    def explain(self, row: dict[str, Array], served: Array) -> Found:
        """Sample the values of one row, whose answer is `served`."""
        subject = self._subject
        source = subject.beside(row)
        # An answer may differ in its last digit from that in a batch; whether to go on must not
        # depend on the batch.
        alone = subject.ask({name: cells[None] for name, cells in row.items()})[0]
        tally = sampling.Tally(subject.count, self._players, len(served))
        number, left = 0, self._pairs
        while True:
            pairs = min(left, subject.count)
            for ranks, rows, places in self._walks(number, pairs):
                inner = subject.ask_mixed(source, places)
                tally.add(rows, sampling.gains(inner, ranks, subject.at_background[rows], alone))
            number, left = number + 1, left - pairs
            values, errors = tally.result()
            share = _share(errors, values)
            if not left or (self._adaptive and share <= SMALL):
                base = tally.times @ subject.at_background / tally.times.sum()
                values += (served - alone) / self._players
                return Found(values, errors, base, self._steps * (self._pairs - left) + 1, share)

    def warnings(self, worst: float) -> tuple[str, ...]:
        """What to say of rows of which the worst has errors of such a share of its values."""
        if self._pairs < self._subject.count:
            return (f"the budget reaches {self._pairs} of {self._subject.count} background rows",)
        if self._adaptive and worst > SMALL:
            return (
                (
                    f"after {MOST_PASSES} passes, the standard errors are still up to {worst:.1%} of "
                    "a row's values"
                ),
            )
        return ()

    def _walks(self, number: int, pairs: int) -> Iterable[Walks]:
        kept = self._kept.get((number, pairs))
        if kept is not None:
            return kept
        walks = self._make(number, pairs)
        if (number + 1) * pairs * self._steps * self._players * 8 > KEPT_BYTES:
            return walks
        return self._kept.setdefault((number, pairs), list(walks))

    def _make(self, number: int, pairs: int) -> Iterator[Walks]:
        ranks, rows = sampling.draw(self._players, self._subject.count, number, self._seed)
        step = max(1, CHUNK // self._steps)
        for start in range(0, pairs, step):
            some = slice(start, min(start + step, pairs))
            masks = sampling.coalitions(ranks[some])
            yield Walks(
                ranks[some],
                rows[some],
                self._subject.places(masks, np.repeat(rows[some], self._steps)),
            )


def _share(errors: Array, values: Array) -> float:
    error, size = np.sqrt((errors**2).mean()), np.sqrt((values**2).mean())
    return float(error / size) if error else 0.0
