"""How much better a candidate is by one metric on the same rows, and how surely; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple, final

import numpy as np

from modelkit.cast import Array
from modelkit.evaluation.answered import Answered
from modelkit.evaluation.clusters import Clusters, clusters_of, refuse_few
from modelkit.evaluation.intervals import (
    Interval,
    Measured,
    special_functions,
)
from modelkit.evaluation.metrics import TaskMetric
from modelkit.evaluation.paired import (
    PairedDifference,
    bootstrap,
    difference_of,
    error_of,
    mcnemar,
    rows_needed,
    tango,
    tango_interval,
)
from modelkit.evaluation.sums import Undefined
from modelkit.gating.policy import AnyMetric, GateMetric

REPEATS = 1000  # of the bootstrap, whose standard error is then known to some 2 %
KNOWN_SHARE = 0.9  # of the draws that must have the figure
LEAST_DISTANCE = 1e-4  # in standard errors: less would take more than 1e8 times the rows
SHOWN_WITH = 0.8  # the probability that `rows_needed` is about
BY_COUNTS = (
    "(b - c) / n, with b rows that only the candidate got right and c that only the champion did; "
    "the score test of Tango, and at a margin of 0 the exact test of McNemar"
)
BY_PAIRS = "t = (d + margin) / se, with d the difference and se that of paired {units}"
BY_DELONG = "t = (d + margin) / se, with se that of DeLong: of paired placements of each row"
BY_BOOTSTRAP = "t = (d + margin) / se, with se that of {repeats:,} paired draws of {units}"


def distance_shown(error: float, alpha: float) -> float:
    """How far from a bound a figure has to be, to be shown by a test at alpha with a probability of .8."""
    ndtri = special_functions().ndtri
    return error * float(ndtri(1 - alpha) + ndtri(SHOWN_WITH))


@final
@dataclass(frozen=True, eq=False)
class JudgedAnswers:
    """What one model answered: as metrics take it, and by output for metrics of the caller."""

    answered: Answered
    truth: Array
    outputs: Mapping[str, Array]

    def at(self, rows: Array) -> JudgedAnswers:
        """Those of the rows that places (m,) choose."""
        chosen = {name: values[rows] for name, values in self.outputs.items()}
        return JudgedAnswers(self.answered.at(rows), self.truth[rows], chosen)


class RightCounts(NamedTuple):
    """Rows that only the candidate got right, those that only the champion did, and all."""

    better: int
    worse: int
    n: int


@final
@dataclass(frozen=True)
class Comparison:
    """By how much a candidate is better.

    Attributes:
        difference: above zero, the candidate is better.
        rows: the number of rows.
        formula: how it was computed.
        counts: of rows that one alone got right, where rows are right or wrong and independent.
        bounded: whether a row, or cluster, changes the figure by at most its share of all.
    """

    difference: PairedDifference
    rows: int
    formula: str
    counts: RightCounts | None = None
    bounded: bool = False

    def exchanged(self) -> Comparison:
        """The same with the roles of the two models exchanged."""
        counts = self.counts
        if counts is not None:
            counts = RightCounts(counts.worse, counts.better, counts.n)
        return replace(self, difference=self.difference.exchanged(), counts=counts)

    def p_above(self, bound: float) -> float:
        """The one-sided p-value of "the candidate is better by at most `bound`"."""
        counts = self._counted
        if counts is None:
            return self.difference.p_above(bound)
        if bound == 0:
            return mcnemar(counts.better, counts.worse)
        if abs(bound) >= 1:
            return 0.0 if bound < 0 else 1.0
        return float(special_functions().ndtr(-tango(*counts, bound)))

    def interval(self, level: float) -> Interval:
        """A two-sided interval of the difference."""
        counts = self._counted
        if counts is None:
            return self.difference.interval(level)
        return tango_interval(*counts, level)

    @property
    def _counted(self) -> RightCounts | None:
        """What is tested by counts: also rows, or clusters, of which none tells the two apart.

        That does not say that none ever will, and an error of 0 would.
        """
        alike = self.difference.error == 0 and self.difference.value == 0
        if self.counts is None and self.bounded and alike:
            return RightCounts(0, 0, int(self.difference.units))
        return self.counts

    @property
    def error(self) -> float | None:
        """The standard error of the difference, as it is where the two are equally good."""
        if self.counts is None:
            return self.difference.error
        return sqrt(max(self.counts.better + self.counts.worse, 1)) / self.counts.n

    def rows_to_show(
        self,
        margin: float,
        alpha: float,
    ) -> int | None:
        """How many rows would show that the candidate is no worse than its margin allows.

        It is taken to be as good as the champion. None where nothing tells, and for a margin so
        small that no rows would do, such as 0.
        """
        if not self.error or margin <= self.error * LEAST_DISTANCE:
            return None
        return rows_needed(self.error, self.rows, margin, alpha=alpha, power=SHOWN_WITH)

    def least_shown(
        self,
        bound: float,
        alpha: float,
    ) -> float | None:
        """The least difference that as many rows would show to be beyond a bound.

        They would with a probability of .8, by a test at alpha; None where nothing tells.
        """
        return None if not self.error else bound + distance_shown(self.error, alpha)


def compare_by(
    metric: AnyMetric,
    candidate: JudgedAnswers,
    champion: JudgedAnswers,
    *,
    seed: int,
) -> Comparison:
    """By how much the candidate is better by one metric. Raises Undefined where one has no figure."""
    if isinstance(metric, GateMetric):
        return _by_own(metric, candidate, champion, seed)
    ours = candidate.answered
    theirs = champion.answered
    clusters = clusters_of(ours)
    measured = (metric.measure(ours), metric.measure(theirs))
    refuse_few(min(each.units for each in measured), clusters)
    if not np.isfinite(measured[0].influence - measured[1].influence).all():
        return _by_weights(metric, ours, theirs, seed)
    higher = bool(metric.higher_is_better)
    found = difference_of(*measured, clusters, higher_is_better=higher)
    if metric.name == "rmse":
        found = _of_roots(found, measured, clusters)
    return Comparison(
        found,
        len(ours),
        _formula(metric, ours),
        _counts(metric, ours, theirs),
        bounded=metric.domain in ("share", "correlation"),
    )


def _of_roots(
    found: PairedDifference,
    measured: tuple[Measured, Measured],
    clusters: Clusters | None,
) -> PairedDifference:
    """A difference of two roots with the larger of two errors: as they are, and if they were equal.

    By its own root, a model that a few large errors happened to miss has a small error of its own,
    which the other's do not outweigh: 8 % to 20 % of equal candidates were better at 5 %. If the two
    are equal, sqrt(a) - sqrt(b) = (a - b) / (sqrt(a) + sqrt(b)), which is the t test of squares.
    """
    ours, theirs = measured
    both = ours.value + theirs.value
    if found.error is None or not both:
        return found
    squares = (ours.value * ours.influence - theirs.value * theirs.influence) * 2 / both
    return replace(found, error=max(found.error, error_of(squares, clusters) or 0.0))


def _formula(
    metric: TaskMetric,
    answered: Answered,
) -> str:
    if answered.clusters is None and metric.counts:
        return BY_COUNTS
    if answered.clusters is None and metric.name == "roc_auc":
        return BY_DELONG
    return BY_PAIRS.format(units=_units_word(answered))


def _units_word(answered: Answered) -> str:
    if answered.kind == "ranking":
        return "queries"
    return "rows" if answered.clusters is None else "clusters"


def _counts(
    metric: TaskMetric,
    ours: Answered,
    theirs: Answered,
) -> RightCounts | None:
    """How often one alone got a row right; None where that is not what the metric counts."""
    if not metric.counts or metric.by_row is None or ours.clusters is not None:
        return None
    right = metric.by_row(ours) > 0
    other = metric.by_row(theirs) > 0
    better = int(np.count_nonzero(right & ~other))
    return RightCounts(better, int(np.count_nonzero(other & ~right)), len(ours))


def _by_weights(
    metric: TaskMetric,
    ours: Answered,
    theirs: Answered,
    seed: int,
) -> Comparison:
    """The comparison by draws of weighted rows, where the influence of a row is not known."""
    sign = 1 if metric.higher_is_better else -1

    def drawn(times: Array) -> float:
        try:
            figures = [metric.measure(each.weighted(times)).value for each in (ours, theirs)]
        except Undefined:
            return np.nan
        return sign * (figures[0] - figures[1])

    return _by_draws(drawn, ours, seed)


def _by_own(
    metric: GateMetric,
    candidate: JudgedAnswers,
    champion: JudgedAnswers,
    seed: int,
) -> Comparison:
    sign = 1 if metric.higher_is_better else -1

    def figure(side: JudgedAnswers, rows: Array) -> float:
        chosen = {name: values[rows] for name, values in side.outputs.items()}
        return metric.figure(side.truth[rows], chosen)

    def drawn(times: Array) -> float:
        rows = np.repeat(np.arange(len(times)), times)
        return sign * (figure(candidate, rows) - figure(champion, rows))

    every = np.arange(len(candidate.truth))
    for who, side in (("candidate", candidate), ("champion", champion)):
        found = figure(side, every)
        if not np.isfinite(found):
            raise Undefined(f"the figure of the {who} is {found}")
    return _by_draws(drawn, candidate.answered, seed)


def _by_draws(
    drawn: Callable[[Array], float],
    answered: Answered,
    seed: int,
) -> Comparison:
    n = len(answered)
    clusters = clusters_of(answered)
    value = float(drawn(np.ones(n, np.int64)))
    if not np.isfinite(value):
        raise Undefined(f"the figure of these rows is {value}")
    rng = np.random.default_rng(seed)
    error = _spread(bootstrap(drawn, n, REPEATS, rng, answered.clusters))
    units = float(n) if clusters is None else clusters.alike
    formula = BY_BOOTSTRAP.format(repeats=REPEATS, units=_units_word(answered))
    return Comparison(PairedDifference(value, error, units), n, formula)


def _spread(draws: Array) -> float | None:
    """The standard deviation of draws; None where too many have no figure."""
    known = draws[np.isfinite(draws)]
    return float(known.std(ddof=1)) if len(known) >= KNOWN_SHARE * REPEATS else None
