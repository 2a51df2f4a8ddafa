"""Methods whose values add up, before the link, to what the model served."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import AdditivityError
from modelkit.explain.links import serve
from modelkit.explain.method import Attribution, check_gap
from modelkit.explain.subject import RNG, Subject, coalitions, mixed, rows_at
from modelkit.signature.signature import Feeds

PROBED = 16  # one of so many explained rows, which is drawn, is mixed at random
PROBES = 1024  # columns of rows that are mixed more when a method is made

RunParts = Callable[
    [Feeds], tuple[Array, Array]
]  # values (n, players, k) and base (k,) of all rows


@dataclass(frozen=True)
class Sum:
    """How a method comes to its parts: its name, its run, the link after it, and its cost."""

    kind: str
    run: RunParts
    link: str
    rows_per_row: int
    reason: str


class SumMethod:
    """A Sum for one subject, checked against everything that is served.

    Args:
        subject: what is explained.
        found: where the parts come from.
        exact: whether they are Shapley values over the background.
    """

    def __init__(self, subject: Subject, found: Sum, *, exact: bool) -> None:
        self.kind = found.kind
        self.exact = exact
        self.rows_per_row = found.rows_per_row
        self.reason = found.reason
        self._run = found.run
        self._link = found.link
        self._subject = subject
        self.space, self.output_names = subject.space, subject.names
        if found.link != "identity":  # before it, one of two classes is explained by the other
            _, base = found.run(subject.head(1))
            self.space, self.output_names = "raw_score", subject.names[-len(base) :]

    def explain(self, feeds: Feeds, served: Array, rows: Iterable[int]) -> Attribution:
        """Explain all rows at once."""
        if not len(served):
            return self._no_rows()
        found = self._parts(feeds, served)
        check_gap(found.gap, served)
        self._prove_mixtures(feeds, RNG.binomial(len(served), 1 / PROBED))
        return found

    def misses(self, most: int) -> AdditivityError | None:
        """The error of the first `most` background rows, if their values do not add up."""
        rows, served = self._subject.head(most), self._subject.at_background[:most]
        try:
            check_gap(self._parts(rows, served).gap, served)
            self._prove_mixtures(rows, len(served) + PROBES // len(self._subject.players))
        except AdditivityError as error:
            return error
        return None

    def _prove_mixtures(self, feeds: Feeds, count: int) -> None:
        """Raises AdditivityError if exact values of `count` rows mixed with the background miss.

        Values that add up on rows alone may still be shared out wrongly, by a graph that lies about
        what it is. Shapley values are means over mixed rows, so a lie that matters shows there.
        The mixtures run apart, so that equal calls have equal answers.
        """
        if not (self.exact and count):
            return
        subject = self._subject
        # Every other one with the first row, against which a sum over columns is read.
        places = RNG.integers(subject.count, size=count) * RNG.integers(2, size=count)
        others = rows_at(subject.background, places)
        own = {name: feed[np.arange(count) % len(feed)] for name, feed in feeds.items()}
        mixtures = mixed(own, others, coalitions(count, len(subject.players)))
        served = subject.ask(mixtures)
        check_gap(self._parts(mixtures, served).gap, served)

    def _parts(self, feeds: Feeds, served: Array) -> Attribution:
        outputs = served.shape[1]
        values, base = self._run(feeds)
        if self._link == "identity" and (values.shape[2], outputs) == (1, 2):
            # Two probabilities of which one column holds the second.
            values = np.concatenate([-values, values], axis=2)
            base = np.concatenate([1 - base, base])
        margin = base + values.sum(axis=1)
        gap = _gap(margin, serve(self._link, margin, outputs), served)
        base = np.broadcast_to(base, margin.shape).copy()
        return Attribution(values, base, gap, self.rows_per_row * len(served))

    def _no_rows(self) -> Attribution:
        """The answer for a batch without rows: its shapes are the same as for one row."""
        found = self._parts(self._subject.head(1), self._subject.at_background[:1])
        return Attribution(found.values[:0], found.base[:0], found.gap[:0], 0)


def _gap(margin: Array, after: Array, served: Array) -> Array:
    """The distance of a raw score (n, k) from what was served, measured after the link."""
    if after.shape != served.shape or margin.shape[1] not in (1, served.shape[1]):
        return np.full(margin.shape, np.inf)  # another output than the one that is served
    gap = np.abs(after - served)
    if margin.shape[1] == 1:
        gap = gap.max(axis=1, keepdims=True, initial=0)
    return np.asarray(gap)
