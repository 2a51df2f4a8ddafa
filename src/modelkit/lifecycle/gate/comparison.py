"""How much better a candidate is by one metric on the same rows, and how surely; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite, sqrt
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered, clusters_of
from modelkit.lifecycle.evaluation.metrics import TaskMetric
from modelkit.lifecycle.gate.policy import AnyMetric, GateMetric
from modelkit.lifecycle.gate.unseen import (
    CLASSIFIERS,
    OwnFigure,
    is_steady,
    worst_of_own,
    worst_unit,
)
from modelkit.stats.influence import (
    Clusters,
    Measured,
    Undefined,
    added_by,
    refuse_few,
    standard_error,
)
from modelkit.stats.intervals import Interval, special_functions
from modelkit.stats.paired import PairedDifference, Unseen, difference_of, times_needed
from modelkit.stats.tests import bootstrap, mcnemar, rows_needed, tango, tango_interval

REPEATS = 1000  # of the bootstrap, whose standard error is then known to some 2 %
KNOWN_SHARE = 0.9  # of the draws that must have the figure
LEAST_DISTANCE = 1e-4  # in standard errors: less would take more than 1e8 times the rows
SHOWN_WITH = 0.8  # the probability that `rows_needed` is about
BY_COUNTS = (
    "(b - c) / n, with b rows that only the candidate got right and c that only the champion did; "
    "the score test of Tango, and at a margin of 0 the exact test of McNemar"
)
BY_PAIRS = (
    "Gaffke's test of what each of the {units} adds to d + margin, and of one more that is as bad as "
    "can be"
)
BY_DELONG = f"{BY_PAIRS}, with the paired placements of DeLong"
BY_BOOTSTRAP = f"{BY_PAIRS}, with the error and skewness of {{repeats:,}} paired draws"


def distance_shown(found: PairedDifference, alpha: float) -> float | None:
    """How far from a bound a figure has to be, to be shown by a test at alpha with a probability of .8.

    None where nothing tells.
    """
    reach = found.reach(alpha)
    if not found.error or not isfinite(reach):
        return None
    return reach + found.error * float(special_functions().ndtri(SHOWN_WITH))


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
        steady: whether the error is known well enough to say how many rows would do.
        clusters: how many clusters the rows are in; 0 where each row is independent.
    """

    difference: PairedDifference
    rows: int
    formula: str
    counts: RightCounts | None = None
    steady: bool = True
    clusters: int = 0

    def amount(self, rows: int) -> str:
        """So many rows in words, or as many clusters as they would be where rows come in these."""
        if not self.clusters:
            return f"{rows:,} rows"
        return f"{ceil(rows * self.clusters / self.rows):,} clusters"

    def exchanged(self) -> Comparison:
        """The same with the roles of the two models exchanged."""
        counts = self.counts
        if counts is not None:
            counts = RightCounts(counts.worse, counts.better, counts.n)
        return replace(self, difference=self.difference.exchanged(), counts=counts)

    def p_above(self, bound: float) -> float:
        """The one-sided p-value of "the candidate is better by at most `bound`"."""
        counts = self.counts
        if counts is None:
            return self.difference.p_above(bound)
        if bound == 0:
            return mcnemar(counts.better, counts.worse)
        if abs(bound) >= 1:
            return 0.0 if bound < 0 else 1.0
        return float(special_functions().ndtr(-tango(*counts, bound)))

    def interval(self, level: float) -> Interval:
        """A two-sided interval of the difference."""
        if self.counts is None:
            return self.difference.interval(level)
        return tango_interval(*self.counts, level)

    @property
    def error(self) -> float | None:
        """The standard error of the difference, as it is where the two are equally good."""
        if self.counts is None:
            return self.difference.error
        return sqrt(max(self.counts.better + self.counts.worse, 1)) / self.counts.n

    def rows_to_show(self, margin: float, alpha: float) -> int | None:
        """How many rows would show that the candidate is no worse than its margin allows.

        It is taken to be as good as the champion. None where nothing tells, and for a margin so
        small that no rows would do, such as 0.
        """
        if not self.error or margin <= self.error * LEAST_DISTANCE or not self.steady:
            return None
        if self.counts is not None:
            return rows_needed(self.error, self.rows, margin, alpha=alpha, power=SHOWN_WITH)
        times = times_needed(self.difference, margin, alpha=alpha, power=SHOWN_WITH)
        if times is None or (times < 1 and self.difference.tail < inf):
            return None  # the tail of fewer rows may be too short to be looked at
        return ceil(self.rows * times)

    def least_shown(self, bound: float, alpha: float) -> float | None:
        """The least difference that as many rows would show to be beyond a bound.

        They would with a probability of .8, by a test at alpha; None where nothing tells.
        """
        found = self.difference
        if self.counts is not None:
            found = PairedDifference(found.value, self.error, inf)
        distance = distance_shown(found, alpha)
        return None if distance is None else bound + distance


def compare_by(
    metric: AnyMetric, candidate: JudgedAnswers, champion: JudgedAnswers, *, seed: int
) -> Comparison:
    """By how much the candidate is better by one metric. Raises Undefined where one has no figure."""
    found = _compared(metric, candidate, champion, seed)
    answered = candidate.answered
    return found if answered.clusters is None else replace(found, clusters=answered.units)


def _compared(
    metric: AnyMetric, candidate: JudgedAnswers, champion: JudgedAnswers, seed: int
) -> Comparison:
    if isinstance(metric, GateMetric):
        return _by_own(metric, candidate, champion, seed)
    ours = candidate.answered
    theirs = champion.answered
    clusters = clusters_of(ours)
    measured = (metric.measure(ours), metric.measure(theirs))
    refuse_few(min(each.units for each in measured), clusters)
    if not np.isfinite(measured[0].influence - measured[1].influence).all():
        if ours.kind in CLASSIFIERS:
            raise Undefined("a class has a single row, which does not say how much it varies")
        return _by_weights(metric, ours, theirs, seed)
    if metric.name == "rmse":
        measured = _of_roots(measured, clusters)
    higher = bool(metric.higher_is_better)
    found = difference_of(*measured, clusters, higher_is_better=higher)
    counts = _counts(metric, ours, theirs)
    if counts is not None:
        return Comparison(found, len(ours), BY_COUNTS, counts)
    added = added_by(measured[0].influence - measured[1].influence, clusters)
    found = replace(found, **worst_unit(metric, ours, theirs, added)._asdict())
    return Comparison(found, len(ours), _formula(metric, ours), steady=is_steady(added, found.tail))


def _of_roots(
    measured: tuple[Measured, Measured], clusters: Clusters | None
) -> tuple[Measured, Measured]:
    """Two roots with the larger of two kinds of influence: as they are, and if they were equal.

    By its own root, a model that a few large errors happened to miss has a small error of its own,
    which the other's do not outweigh: 8 % to 20 % of equal candidates were better at 5 %. If the two
    are equal, sqrt(a) - sqrt(b) = (a - b) / (sqrt(a) + sqrt(b)), which compares the squares.
    """
    ours, theirs = measured
    half = (ours.value + theirs.value) / 2
    if not half:
        return measured
    equal = tuple(replace(each, influence=each.influence * each.value / half) for each in measured)
    own = standard_error(ours.influence - theirs.influence, clusters) or 0.0
    paired = standard_error(equal[0].influence - equal[1].influence, clusters) or 0.0
    return (equal[0], equal[1]) if paired > own else measured


def _formula(metric: TaskMetric, answered: Answered) -> str:
    formula = BY_DELONG if metric.name == "roc_auc" and answered.clusters is None else BY_PAIRS
    return formula.format(units=_units_word(answered))


def _units_word(answered: Answered) -> str:
    if answered.kind == "ranking":
        return "queries"
    return "rows" if answered.clusters is None else "clusters"


def _counts(metric: TaskMetric, ours: Answered, theirs: Answered) -> RightCounts | None:
    """How often one alone got a row right; None where that is not what the metric counts."""
    if not metric.counts or ours.clusters is not None:
        return None
    right = metric.figure(ours) > 0
    other = metric.figure(theirs) > 0
    better = int(np.count_nonzero(right & ~other))
    return RightCounts(better, int(np.count_nonzero(other & ~right)), len(ours))


def _by_weights(metric: TaskMetric, ours: Answered, theirs: Answered, seed: int) -> Comparison:
    """The comparison by draws of weighted rows, where the influence of a row is not known."""
    sign = 1 if metric.higher_is_better else -1

    def drawn(times: Array) -> float:
        try:
            figures = [metric.measure(each.weighted(times)).value for each in (ours, theirs)]
        except Undefined:
            return np.nan
        return sign * (figures[0] - figures[1])

    return _by_draws(drawn, ours, seed, lambda: worst_unit(metric, ours, theirs, np.empty(0)))


def _by_own(
    metric: GateMetric, candidate: JudgedAnswers, champion: JudgedAnswers, seed: int
) -> Comparison:
    sign = 1 if metric.higher_is_better else -1

    def figure(side: JudgedAnswers, rows: Array, truth: Array) -> float:
        chosen = {name: values[rows] for name, values in side.outputs.items()}
        return sign * metric.figure(truth, chosen)

    def drawn(times: Array) -> float:
        rows = np.repeat(np.arange(len(times)), times)
        truth = candidate.truth[rows]
        return figure(candidate, rows, truth) - figure(champion, rows, truth)

    def with_copy(ours: int, theirs: int, true: int) -> float:
        truth = candidate.truth[np.append(every, true)]
        return figure(candidate, np.append(every, ours), truth) - figure(
            champion, np.append(every, theirs), truth
        )

    every = np.arange(len(candidate.truth))
    for who, side in (("candidate", candidate), ("champion", champion)):
        found = figure(side, every, side.truth)
        if not np.isfinite(found):
            raise Undefined(f"the figure of the {who} is {sign * found}")
    own = OwnFigure(drawn, with_copy, metric.span)
    sides = candidate.answered, champion.answered
    return _by_draws(drawn, sides[0], seed, lambda: worst_of_own(own, *sides, seed))


def _by_draws(
    drawn: Callable[[Array], float], answered: Answered, seed: int, unseen: Callable[[], Unseen]
) -> Comparison:
    n = len(answered)
    clusters = clusters_of(answered)
    value = float(drawn(np.ones(n, np.int64)))
    if not np.isfinite(value):
        raise Undefined(f"the figure of these rows is {value}")
    rng = np.random.default_rng(seed)
    draws = bootstrap(drawn, n, REPEATS, rng, answered.clusters)
    known = draws[np.isfinite(draws)]
    units = float(n) if clusters is None else clusters.alike
    formula = BY_BOOTSTRAP.format(repeats=REPEATS, units=_units_word(answered))
    if len(known) < KNOWN_SHARE * REPEATS:
        return Comparison(PairedDifference(value, None, units), n, formula)
    third = float(np.mean((known - known.mean()) ** 3))
    found = PairedDifference(value, float(known.std(ddof=1)), units, third, *unseen())
    return Comparison(found, n, formula)
