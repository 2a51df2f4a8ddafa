"""How much better a candidate is by one metric on the same rows, and how surely; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, isfinite
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered, clusters_of
from modelkit.lifecycle.evaluation.figures import CLASSIFIED
from modelkit.lifecycle.evaluation.metrics import TaskMetric
from modelkit.lifecycle.gate.policy import AnyMetric, GateMetric
from modelkit.lifecycle.gate.unseen import OwnFigure, is_steady, worst_of_own, worst_unit
from modelkit.stats.influence import (
    Clusters,
    Measured,
    Undefined,
    added_by,
    refuse_few,
    standard_error,
)
from modelkit.stats.paired import (
    PairedDifference,
    RightCounts,
    difference_of,
    distance_shown,
    times_needed,
)
from modelkit.stats.tests import bootstrap

REPEATS = 1000  # of the bootstrap, whose standard error is then known to some 2 %
KNOWN_SHARE = 0.9  # of the draws that must have the figure
SHOWN_WITH = 0.8  # the probability that `rows_needed` is about
SINGLE = "a class has a single row, which does not say how much it varies"
BY_COUNTS = (
    "(b - c) / n, with b rows that only the candidate got right and c that only the champion did; "
    "the score test of Tango, and at a margin of 0 the exact test of McNemar"
)
BY_PAIRS = (
    "Gaffke's test of what each of the {units} adds to d + margin, and of one more that is as bad as "
    "can be"
)
BY_DELONG = f"{BY_PAIRS}, with the paired placements of DeLong"
BY_BOOTSTRAP = f"{BY_PAIRS}, with the error and skewness of {REPEATS:,} paired draws"


@final
@dataclass(frozen=True, eq=False)
class JudgedAnswers:
    """What one model answered: as metrics take it, and by output for metrics of the caller."""

    answered: Answered
    truth: Array
    outputs: Mapping[str, Array]

    def at(self, rows: Array) -> JudgedAnswers:
        """The rows that places (m,) choose."""
        chosen = {name: values[rows] for name, values in self.outputs.items()}
        return JudgedAnswers(self.answered.at(rows), self.truth[rows], chosen)


@final
@dataclass(frozen=True)
class Comparison:
    """By how much a candidate is better.

    Attributes:
        difference: above zero, the candidate is better.
        rows: the number of rows.
        formula: how it was computed.
        steady: whether the error is known well enough to say how many rows would do.
        clusters: how many clusters the rows are in; 0 where each row is independent.
    """

    difference: PairedDifference | RightCounts
    rows: int
    formula: str
    steady: bool = True
    clusters: int = 0

    def amount(self, rows: int) -> str:
        """So many rows in words, or as many clusters as they would be where rows come in these."""
        if not self.clusters:
            return f"{rows:,} rows"
        return f"{ceil(rows * self.clusters / self.rows):,} clusters"

    def rows_to_show(self, margin: float, alpha: float) -> int | None:
        """How many rows would show that the candidate is no worse than its margin allows.

        It is taken to be as good as the champion. None where nothing shows this, and for a margin
        so small that no rows would do, such as 0.
        """
        if not self.steady:
            return None
        times = times_needed(self.difference, margin, alpha=alpha, power=SHOWN_WITH)
        return None if times is None else ceil(self.rows * times)

    def least_shown(self, bound: float, alpha: float) -> float | None:
        """The least difference that as many rows would show to be beyond a bound.

        They would with a probability of .8, by a test at alpha; None where nothing shows this.
        """
        distance = distance_shown(self.difference, alpha=alpha, power=SHOWN_WITH)
        return None if distance is None else bound + distance


def compare_by(
    metric: AnyMetric, candidate: JudgedAnswers, champion: JudgedAnswers, *, seed: int
) -> Comparison:
    """By how much the candidate is better by one metric. Raises Undefined where one lacks a figure."""
    answered = candidate.answered
    if isinstance(metric, GateMetric):
        found = _by_own(metric, candidate, champion, seed)
    else:
        found = _by_metric(metric, answered, champion.answered)
    return found if answered.clusters is None else replace(found, clusters=answered.units)


def _by_metric(metric: TaskMetric, ours: Answered, theirs: Answered) -> Comparison:
    rows = len(ours)
    clusters = clusters_of(ours)
    if metric.counts and clusters is None:
        right, other = (np.asarray(metric.figure(each) > 0) for each in (ours, theirs))
        better = int(np.count_nonzero(right & ~other))
        worse = int(np.count_nonzero(other & ~right))
        return Comparison(RightCounts(better, worse, rows), rows, BY_COUNTS)
    measured = (metric.measure(ours), metric.measure(theirs))
    refuse_few(min(each.units for each in measured), clusters)
    if metric.root:
        measured = _of_roots(*measured, clusters)
    added = added_by(measured[0].influence - measured[1].influence, clusters)
    if not np.isfinite(added).all():
        raise Undefined(SINGLE if ours.kind in CLASSIFIED else "errors are too large to be squared")
    found = difference_of(*measured, clusters, higher_is_better=bool(metric.higher_is_better))
    worst, tail = worst_unit(metric, ours, theirs, added)
    found = replace(found, worst=worst, tail=tail)
    formula = BY_DELONG if metric.name == "roc_auc" and clusters is None else BY_PAIRS
    return Comparison(found, rows, _of_units(formula, ours), steady=is_steady(added, tail))


def _of_roots(
    ours: Measured, theirs: Measured, clusters: Clusters | None
) -> tuple[Measured, Measured]:
    """Two roots with the larger of two kinds of influence: as they are, and if they were equal.

    By its own root, a model that a few large errors happened to miss has a small error of its own,
    which the other's do not outweigh: 8 % to 20 % of equal candidates were better at 5 %. If the two
    are equal, sqrt(a) - sqrt(b) = (a - b) / (sqrt(a) + sqrt(b)), which compares the squares.
    """
    half = (ours.value + theirs.value) / 2
    if not half:
        return ours, theirs
    one, other = (
        replace(each, influence=each.influence * each.value / half) for each in (ours, theirs)
    )
    own = standard_error(ours.influence - theirs.influence, clusters) or 0.0
    paired = standard_error(one.influence - other.influence, clusters) or 0.0
    return (one, other) if paired > own else (ours, theirs)


def _of_units(formula: str, answered: Answered) -> str:
    """A formula with the name of what is independent."""
    units = "rows" if answered.clusters is None else "clusters"
    return formula.format(units="queries" if answered.kind == "ranking" else units)


def _by_own(
    metric: GateMetric, candidate: JudgedAnswers, champion: JudgedAnswers, seed: int
) -> Comparison:
    """The comparison by a metric of the caller, from draws of rows."""
    for who, side in (("candidate", candidate), ("champion", champion)):
        figure = metric.figure(side.truth, side.outputs)
        if not isfinite(figure):
            raise Undefined(f"the figure of the {who} is {figure}")
    answered = candidate.answered
    rows = len(answered)
    clusters = clusters_of(answered)
    own = OwnFigure(metric, candidate.truth, candidate.outputs, champion.outputs)
    draws = bootstrap(own.drawn, rows, REPEATS, np.random.default_rng(seed), answered.clusters)
    known = draws[np.isfinite(draws)]
    units = float(rows) if clusters is None else clusters.alike
    found = PairedDifference(own.drawn(np.ones(rows, np.int64)), None, units)
    if len(known) >= KNOWN_SHARE * REPEATS:
        worst, tail = worst_of_own(own, answered, champion.answered, seed)
        third = float(np.mean((known - known.mean()) ** 3))
        error = float(known.std(ddof=1))
        found = replace(found, error=error, third=third, worst=worst, tail=tail)
    return Comparison(found, rows, _of_units(BY_BOOTSTRAP, answered))
