"""The metrics by name: what each is on some answered rows, and what every row adds to it; pure.

Their values are those of scikit-learn's functions, which the tests compare. They are computed here
because an interval, and a paired test, need what each row adds as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind, any_clusters
from modelkit.lifecycle.evaluation.class_metrics import (
    Measure,
    OfMasks,
    at_worst,
    brier_losses,
    calibration_error,
    calibration_line,
    class_share,
    f1_of,
    f1_of_all_labels,
    labels_wrong,
    log_losses,
    masks_by_class,
    matthews,
    of_class_scores,
    of_positive_class,
    over_classes,
    precision_of,
    predictions_told,
    recall_of,
    rows_right,
    scores_told,
)
from modelkit.lifecycle.evaluation.grouped import GROUPINGS, grouping_of
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
from modelkit.stats.ranks import (
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
WITHIN = ("share", "correlation")  # domains with two bounds
NO_INTERVAL = "fewer than two independent rows, or one row of a kind, give no interval"
NO_ERROR = "every row has the same error, so how much errors differ is unknown"
FEW = (
    "it rests on {units:.3g} independent rows, such as those of the rarest class; an interval takes "
    "{least}"
)
CLASS_SHARES: dict[str, OfMasks] = {"precision": precision_of, "recall": recall_of, "f1": f1_of}
SEARCHED_AT = (1, 5, 10)  # how many of the found are looked at
ByRow = Callable[[Answered], Array]
Shares = Callable[[Answered, float], list[ShareInterval]]


@final
@dataclass(frozen=True)
class TaskMetric:
    """A metric of one kind of task.

    Attributes:
        name: such as "accuracy".
        higher_is_better: whether a high figure is a good one; None where the best is in between,
            and two models cannot be compared by it.
        domain: what the figure can be; see `intervals`.
        measure: the figure, with the influence of each row. Raises Undefined.
        by_row: where the figure is a weighted mean over rows, the value of each row, (n,).
        counts: whether these values are 0 or 1, as of the accuracy.
        shares: those of classes that it is the average of, where it is one. Raises Undefined.
        least: the units that an interval takes (see `Measured`).
        bounded: whether the model's answers tell how large the value of a row could have been.
        root: whether it is the root of a mean.
    """

    name: str
    higher_is_better: bool | None
    domain: Domain
    measure: Measure
    by_row: ByRow | None = None
    counts: bool = False
    shares: Shares | None = None
    least: int = 0
    bounded: bool = False
    root: bool = False

    def interval(
        self, found: Measured, answered: Answered, level: float = LEVEL_95
    ) -> Interval | None:
        """The interval of a figure of these rows, or None where nothing tells one."""
        try:
            return self.ends(found, answered, level)
        except Undefined:
            return None

    def ends(self, found: Measured, answered: Answered, level: float = LEVEL_95) -> Interval:
        """The interval of a figure of these rows. Raises Undefined with the reason where there is none."""
        clusters = answered.clusters
        if self.counts and self.by_row is not None:
            n = effective_rows(self.by_row(answered), answered.weight, clusters, level)
            return wilson(found.value * n, n, level)
        sums = _sums_of(found, answered)
        error = standard_error(sums)
        if error is None:
            raise Undefined(NO_INTERVAL)
        if self.shares is not None:
            return average_ends(self.shares(answered, level), error, level)
        self._refuse_few(found)
        units = min(units_told(answered), found.units)
        ends_of = self._bounded_ends if self.domain in WITHIN else self._skew_ends
        # Of the value as it is, and less what chance makes of it.
        both = [
            ends_of(replace(found, value=middle), answered, sums, units, level)
            for middle in (found.value, found.value - found.bias)
        ]
        return min(low for low, _ in both), max(high for _, high in both)

    def _refuse_few(self, found: Measured) -> None:
        """Raise Undefined where the rows of the rarer kind are too few for an interval that holds."""
        units = min(found.units, found.fewest)
        if units < self.least:
            raise Undefined(FEW.format(units=units, least=self.least))

    def _bounded_ends(
        self, found: Measured, answered: Answered, sums: Array, units: float, level: float
    ) -> Interval:
        error = standard_error(sums) or 0.0
        return student_in(self.domain, found.value, error, min(units, 1 + freedom_of(sums)), level)

    def _skew_ends(
        self, found: Measured, answered: Answered, sums: Array, units: float, level: float
    ) -> Interval:
        """The interval of a figure whose rows have no bound, within what the figure can be."""
        value = found.value
        worst = 0.0
        if self.root:  # of the mean square, whose rows are skew but not its root's
            sums = 2 * value * sums
            value = value**2
        elif self.bounded and self.by_row is not None:
            largest = float(self.by_row(at_worst(answered)).max())
            worst = (largest - value) / units_told(answered)
        if not worst and not sums.any():
            raise Undefined(NO_ERROR)
        low, high = skew_ends(value, sums, units, level, worst)
        if self.domain == "size":
            low = max(low, 0.0)
        elif self.domain == "explained":
            high = min(high, 1.0)
        return (sqrt(low), sqrt(high)) if self.root else (low, high)


def units_told(answered: Answered) -> float:
    """How many independent rows the rows are: clusters of one size, or rows that weigh as much (Kish)."""
    rows = alike_of(answered.weight)
    clusters = any_clusters(answered)
    return rows if clusters is None else min(rows, clusters.alike)


def _sums_of(found: Measured, answered: Answered) -> Array:
    """What each row, (n,), or each cluster, (G,), adds to a figure."""
    clusters = any_clusters(answered)
    return found.influence if clusters is None else clusters.sums(found.influence)


def absolute_errors(answered: Answered) -> Array:
    """The absolute error of each row, (n,), the mean over outputs. Raises Undefined."""
    missed = np.abs(predictions_told(answered) - answered.truth)
    found: Array = missed.mean(axis=1)
    return found


def signed_errors(answered: Answered) -> Array:
    """The prediction of each row less the truth, (n,), the mean over outputs. Raises Undefined."""
    missed: Array = (predictions_told(answered) - answered.truth).mean(axis=1)
    return missed


def root_mean_square(answered: Answered) -> Measured:
    """The square root of the mean squared error, averaged over outputs. Raises Undefined."""
    squares = np.square(predictions_told(answered) - answered.truth)
    return average_of([root_of(mean_of(column, answered.weight)) for column in squares.T])


def r2_over_outputs(answered: Answered) -> Measured:
    """R2, averaged over outputs. Raises Undefined."""
    predicted = predictions_told(answered)
    pairs = zip(answered.truth.T, predicted.T, strict=True)
    return average_of([r2_of(truth, told, answered.weight) for truth, told in pairs])


def ndcg(answered: Answered) -> Measured:
    """The mean over queries of the gain of the first ten rows. Raises Undefined."""
    queries = _queries_of(answered)
    rows = ranked(scores_told(answered), answered.truth, queries)
    return mean_of_queries(ndcg_by_query(rows, NDCG_AT), queries, answered.weight)


def mean_average_precision(answered: Answered) -> Measured:
    """The mean over queries of their average precision. Raises Undefined."""
    queries = _queries_of(answered)
    rows = ranked(scores_told(answered), answered.truth, queries)
    return mean_of_queries(precision_by_query(rows), queries, answered.weight)


def _queries_of(answered: Answered) -> Array:
    if answered.queries is None:
        raise Undefined("nothing says which rows belong to one query")
    return answered.queries


def _of_positive(name: str) -> Shares:
    """The share of the positive class of a "binary" task."""

    def shares(answered: Answered, level: float) -> list[ShareInterval]:
        masks = list(masks_by_class(answered))[answered.positive]
        return [class_share(name, *masks, answered, level)]

    return shares


def _of_classes(name: str) -> Shares:
    """The share of each class or label. Raises Undefined where one has no row."""

    def shares(answered: Answered, level: float) -> list[ShareInterval]:
        found = []
        for k, (held, told) in enumerate(masks_by_class(answered)):
            if not (held * answered.weight).any():
                label = answered.classes[k] if answered.classes else k
                raise Undefined(f"no row has the class {label!r}, which belongs to the average")
            found.append(class_share(name, held, told, answered, level))
        return found

    return shares


def _mean(
    name: str, by_row: ByRow, *, domain: Domain, higher: bool | None = False, **more: Any
) -> TaskMetric:
    def measure(answered: Answered) -> Measured:
        return mean_of(by_row(answered), answered.weight)

    return TaskMetric(name, higher, domain, measure, by_row, **more)


def share_metric(name: str, measure: Measure, **more: Any) -> TaskMetric:
    """A metric from 0 to 1, of which more is better."""
    return TaskMetric(name, higher_is_better=True, domain="share", measure=measure, **more)


def _other(
    name: str, measure: Measure, domain: Domain, *, higher: bool | None = True, **more: Any
) -> TaskMetric:
    return TaskMetric(name, higher, domain, measure, **more)


def _gain(name: str, *, counts: bool = False) -> TaskMetric:
    def by_row(answered: Answered) -> Array:
        if answered.gains is None or name not in answered.gains:
            raise Undefined("the rows were not searched for")
        return answered.gains[name]

    return _mean(name, by_row, domain="share", higher=True, counts=counts)


def _grouping(name: str) -> TaskMetric:
    def measure(answered: Answered) -> Measured:
        if answered.weights is not None:
            raise Undefined("clusterings are compared by pairs of rows, which have no weights")
        return grouping_of(name, answered.truth, predictions_told(answered))

    domain: Domain = "correlation" if name == "adjusted_rand" else "share"
    return TaskMetric(name, higher_is_better=True, domain=domain, measure=measure)


_ACCURACY = _mean("accuracy", rows_right, domain="share", higher=True, counts=True)


_PROBABLE = (
    _mean("log_loss", log_losses, domain="size", bounded=True),
    _mean("brier", brier_losses, domain="size", bounded=True),
)


_CALIBRATED = (
    _other("calibration_error", calibration_error, "number", higher=False),
    *(
        _other(name, calibration_line(which), "number", higher=None, least=LEAST_OF_KIND)
        for name, which in (("calibration_slope", 1), ("calibration_intercept", 0))
    ),
)


_RANKED = (
    share_metric("roc_auc", of_class_scores(area_of), least=LEAST_OF_KIND),
    share_metric("average_precision", of_class_scores(average_precision_of), least=LEAST_OF_KIND),
)


_CLASSES = (
    _ACCURACY,
    share_metric("balanced_accuracy", over_classes(recall_of), shares=_of_classes("recall")),
)


_F1_MACRO = share_metric("f1_macro", over_classes(f1_of), shares=_of_classes("f1"))


_PROBABLE_CLASSES = (
    _other("matthews", matthews, "correlation", least=LEAST_OF_CORRELATION),
    *_RANKED,
    *_PROBABLE,
    *_CALIBRATED,
)


_BY_KIND: dict[TaskKind, tuple[TaskMetric, ...]] = {
    "binary": (
        *_CLASSES,
        *(
            share_metric(name, of_positive_class(part), shares=_of_positive(name))
            for name, part in CLASS_SHARES.items()
        ),
        *_PROBABLE_CLASSES,
    ),
    "multiclass": (*_CLASSES, _F1_MACRO, *_PROBABLE_CLASSES),
    "multilabel": (
        _ACCURACY,
        _mean("hamming_loss", labels_wrong, domain="share"),
        _F1_MACRO,
        share_metric("f1_micro", f1_of_all_labels),
        *_RANKED,
        *_PROBABLE,
    ),
    "regression": (
        _mean("mae", absolute_errors, domain="size"),
        _other("rmse", root_mean_square, "size", higher=False, root=True),
        _other("r2", r2_over_outputs, "explained"),
        _mean("mean_error", signed_errors, domain="number", higher=None),
    ),
    "ranking": (
        share_metric(f"ndcg@{NDCG_AT}", ndcg),
        share_metric("mean_average_precision", mean_average_precision),
    ),
    "clustering": tuple(_grouping(name) for name in GROUPINGS),
    "retrieval": (
        *(_gain(f"recall@{k}") for k in SEARCHED_AT),
        *(_gain(f"hit@{k}", counts=True) for k in SEARCHED_AT),
        _gain("mean_reciprocal_rank"),
    ),
}


METRICS: dict[TaskKind, dict[str, TaskMetric]] = {}


for _kind, _known in _BY_KIND.items():
    METRICS[_kind] = {each.name: each for each in _known}
