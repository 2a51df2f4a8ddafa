"""The metrics by name: what each is on some answered rows, and what every row adds to it; pure.

Their values equal scikit-learn's, which the tests compare. They are computed here because an
interval, and a paired test, need what each row adds as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation import class_metrics as classes
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind, any_clusters
from modelkit.stats.influence import (
    Measured,
    Undefined,
    alike_of,
    average_of,
    mean_of,
    r2_of,
    root_of,
    standard_error,
)
from modelkit.stats.intervals import (
    ENDS,
    LEVEL_95,
    Domain,
    Interval,
    ShareInterval,
    average_ends,
    effective_rows,
    freedom_of,
    skew_ends,
    student_in,
    wilson,
)
from modelkit.stats.partitions import AGREEMENTS, agreement_of
from modelkit.stats.ranks import (
    Ranked,
    area_of,
    average_precision_of,
    mean_of_queries,
    ndcg_by_query,
    precision_by_query,
    ranked,
)

NDCG_AT = 10
LEAST_OF_KIND = 10  # rows of each kind, or class, from which intervals of ranks and slopes hold
LEAST_OF_CORRELATION = 15  # rows of the rarer class, and rows that are predicted to have it
NO_INTERVAL = "fewer than two independent rows, or one row of a kind, are too few for an interval"
NO_ERROR = "every row has the same error, so how much errors differ is unknown"
FEW = (
    "it rests on {units:.3g} independent rows, such as those of the rarest class; an interval takes "
    "{least}"
)
SEARCHED_AT = (1, 5, 10)  # how many of the found are looked at
Shares = Callable[[Answered, float], list[ShareInterval]]


@final
@dataclass(frozen=True)
class TaskMetric:
    """A metric of one kind of task.

    Attributes:
        name: such as "accuracy".
        figure: of some rows, Measured with the influence of each; or the value of each row, (n,),
            where the figure is their weighted mean. Raises Undefined.
        higher_is_better: whether a high figure is a good one; None where the best is in between,
            and two models cannot be compared by it.
        domain: what the figure can be; see `intervals`.
        counts: whether the values of rows are 0 or 1, as of the accuracy.
        shares: the shares of classes that it is the average of, where it is one. Raises Undefined.
        least: the units that an interval takes (see `Measured`).
        bounded: whether the model's answers show how large the value of a row could have been.
        root: whether it is the root of a mean.
    """

    name: str
    figure: Callable[[Answered], Any]
    higher_is_better: bool | None = True
    domain: Domain = "share"
    counts: bool = False
    shares: Shares | None = None
    least: int = 0
    bounded: bool = False
    root: bool = False

    def measure(self, answered: Answered) -> Measured:
        """The figure of these rows, with the influence of each. Raises Undefined."""
        found = self.figure(answered)
        return found if isinstance(found, Measured) else mean_of(found, answered.weight)

    def interval(self, found: Measured, answered: Answered, level: float = LEVEL_95) -> Interval:
        """The interval of a figure of these rows. Raises Undefined with the reason where there is none."""
        if self.counts:
            n = effective_rows(self.figure(answered), answered.weight, answered.clusters, level)
            return wilson(found.value * n, n, level)
        clusters = any_clusters(answered)
        sums = found.influence if clusters is None else clusters.sums(found.influence)
        error = standard_error(sums)
        if error is None:
            raise Undefined(NO_INTERVAL)
        if self.shares is not None:
            return average_ends(self.shares(answered, level), error, level)
        rarest = min(found.units, found.fewest)
        if rarest < self.least:
            raise Undefined(FEW.format(units=rarest, least=self.least))
        units = min(units_of(answered), found.units)
        ends_of: Callable[[float], Interval]
        if self.domain in ("share", "correlation"):
            units = min(units, 1 + freedom_of(sums))
            ends_of = partial(student_in, self.domain, error=error, units=units, level=level)
        else:
            ends_of = partial(self._skew_ends, answered, sums, units, level)
        # Of the value as it is, and less what chance makes of it.
        lows, highs = zip(*map(ends_of, (found.value, found.value - found.bias)), strict=True)
        return min(lows), max(highs)

    def _skew_ends(
        self, answered: Answered, sums: Array, units: float, level: float, value: float
    ) -> Interval:
        """The interval of a figure whose rows lack a bound, within what the figure can be."""
        worst = 0.0
        if self.root:  # of the mean square, whose rows are skew but not its root's
            sums = 2 * value * sums
            value = value**2
        elif self.bounded:
            largest = float(self.figure(classes.at_worst(answered)).max())
            worst = (largest - value) / units_of(answered)
        if not worst and not sums.any():
            raise Undefined(NO_ERROR)
        low, high = skew_ends(value, sums, units, level, worst)
        least, most = ENDS[self.domain]
        low = max(low, least)
        high = min(high, most)
        return (sqrt(low), sqrt(high)) if self.root else (low, high)


def units_of(answered: Answered) -> float:
    """How many independent rows the rows are: clusters of one size, or rows that weigh as much (Kish)."""
    rows = alike_of(answered.weight)
    clusters = any_clusters(answered)
    return rows if clusters is None else min(rows, clusters.alike)


def _errors(answered: Answered) -> Array:
    """The predictions less the truth, (n, outputs). Raises Undefined."""
    return answered.answers("predicted") - answered.truth


def absolute_errors(answered: Answered) -> Array:
    """The absolute error of each row, (n,), the mean over outputs. Raises Undefined."""
    return np.asarray(np.abs(_errors(answered)).mean(axis=1))


def signed_errors(answered: Answered) -> Array:
    """The prediction of each row less the truth, (n,), the mean over outputs. Raises Undefined."""
    return np.asarray(_errors(answered).mean(axis=1))


def root_mean_square(answered: Answered) -> Measured:
    """The square root of the mean squared error, averaged over outputs. Raises Undefined."""
    squares = np.square(_errors(answered))
    return average_of([root_of(mean_of(column, answered.weight)) for column in squares.T])


def r2_over_outputs(answered: Answered) -> Measured:
    """R2, averaged over outputs. Raises Undefined."""
    pairs = zip(answered.truth.T, answered.answers("predicted").T, strict=True)
    return average_of([r2_of(truth, predicted, answered.weight) for truth, predicted in pairs])


def over_queries(by_query: Callable[[Ranked], Array], answered: Answered) -> Measured:
    """The mean over queries of a figure of their ranked rows. Raises Undefined."""
    queries = answered.queries
    if queries is None:
        raise Undefined("nothing says which rows belong to one query")
    rows = ranked(answered.answers("scores"), answered.truth, queries)
    return mean_of_queries(by_query(rows), queries, answered.weight)


def agreement(name: str, answered: Answered) -> Measured:
    """How far a clustering agrees with the true groups. Raises Undefined."""
    if answered.weights is not None:
        raise Undefined("clusterings are compared by pairs of rows, which cannot be weighted")
    return agreement_of(name, answered.truth, answered.answers("predicted"))


def gain(name: str, answered: Answered) -> Array:
    """A ready figure of each row, (n,)."""
    return answered.gains[name]


def _average(name: str, share: str) -> TaskMetric:
    """The average of a share over the classes."""
    whole = partial(classes.average_share, share)
    return TaskMetric(name, whole, shares=partial(classes.average_intervals, share))


def _positive(name: str) -> TaskMetric:
    """A share of the positive class."""
    whole = partial(classes.positive_share, name)
    return TaskMetric(name, whole, shares=partial(classes.positive_intervals, name))


_lower = partial(TaskMetric, higher_is_better=False)
_between = partial(TaskMetric, higher_is_better=None, domain="number")
_ACCURACY = TaskMetric("accuracy", classes.rows_right, counts=True)
_BALANCED = _average("balanced_accuracy", "recall")
_F1_MACRO = _average("f1_macro", "f1")
_SCORES = tuple(
    TaskMetric(name, partial(classes.of_scores, part), least=LEAST_OF_KIND)
    for name, part in (("roc_auc", area_of), ("average_precision", average_precision_of))
)
_PROBABILITIES = (
    _lower("log_loss", classes.log_losses, domain="size", bounded=True),
    _lower("brier", classes.brier_losses, domain="size", bounded=True),
)
_OF_CLASSES = (
    TaskMetric("matthews", classes.matthews, domain="correlation", least=LEAST_OF_CORRELATION),
    *_SCORES,
    *_PROBABILITIES,
    _lower("calibration_error", classes.calibration_error, domain="number"),
    _between("calibration_slope", partial(classes.calibration_line, 1), least=LEAST_OF_KIND),
    _between("calibration_intercept", partial(classes.calibration_line, 0), least=LEAST_OF_KIND),
)
_BY_KIND: dict[TaskKind, Sequence[TaskMetric]] = {
    "binary": (_ACCURACY, _BALANCED, *map(_positive, classes.EMPTY), *_OF_CLASSES),
    "multiclass": (_ACCURACY, _BALANCED, _F1_MACRO, *_OF_CLASSES),
    "multilabel": (
        _ACCURACY,
        _lower("hamming_loss", classes.labels_wrong),
        _F1_MACRO,
        TaskMetric("f1_micro", classes.f1_of_all_labels),
        *_SCORES,
        *_PROBABILITIES,
    ),
    "regression": (
        _lower("mae", absolute_errors, domain="size"),
        _lower("rmse", root_mean_square, domain="size", root=True),
        TaskMetric("r2", r2_over_outputs, domain="explained"),
        _between("mean_error", signed_errors),
    ),
    "ranking": (
        TaskMetric(f"ndcg@{NDCG_AT}", partial(over_queries, partial(ndcg_by_query, k=NDCG_AT))),
        TaskMetric("mean_average_precision", partial(over_queries, precision_by_query)),
    ),
    "clustering": [
        TaskMetric(name, partial(agreement, name), domain=domain)
        for name, domain in AGREEMENTS.items()
    ],
    "retrieval": (
        *(TaskMetric(f"recall@{k}", partial(gain, f"recall@{k}")) for k in SEARCHED_AT),
        *(TaskMetric(f"hit@{k}", partial(gain, f"hit@{k}"), counts=True) for k in SEARCHED_AT),
        TaskMetric("mean_reciprocal_rank", partial(gain, "mean_reciprocal_rank")),
    ),
}
METRICS = {kind: {each.name: each for each in known} for kind, known in _BY_KIND.items()}
