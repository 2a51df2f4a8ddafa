"""The metrics by name: what each is on some answered rows, and what every row adds to it; pure.

Their values are those of scikit-learn's functions, which the tests compare. They are computed here
because an interval, and a paired test, need what each row adds as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from modelkit.cast import Array
from modelkit.evaluation.answered import Answered, TaskKind
from modelkit.evaluation.class_metrics import (
    Measure,
    brier_losses,
    calibration_error,
    calibration_line,
    f1_of,
    f1_of_all_labels,
    labels_wrong,
    log_losses,
    matthews,
    of_class_scores,
    of_positive_class,
    over_classes,
    precision_of,
    predictions_told,
    recall_of,
    rows_right,
)
from modelkit.evaluation.grouped import GROUPINGS, grouping_of
from modelkit.evaluation.intervals import (
    LEVEL_95,
    Domain,
    Interval,
    Measured,
    effective_rows,
    standard_error,
    student_in,
    units_of,
    wilson,
)
from modelkit.evaluation.ranks import area_of, average_precision_of
from modelkit.evaluation.sums import Undefined, mean_of
from modelkit.evaluation.value_metrics import (
    NDCG_AT,
    absolute_errors,
    mean_average_precision,
    ndcg,
    r2_over_outputs,
    root_mean_square,
    signed_errors,
)

SEARCHED_AT = (1, 5, 10)  # how many of the found are looked at
ByRow = Callable[[Answered], Array]


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
    """

    name: str
    higher_is_better: bool | None
    domain: Domain
    measure: Measure
    by_row: ByRow | None = None
    counts: bool = False

    def interval(
        self,
        found: Measured,
        answered: Answered,
        level: float = LEVEL_95,
    ) -> Interval | None:
        """The interval of a figure of these rows, or None where nothing tells one."""
        clusters = answered.clusters
        if self.counts and self.by_row is not None:
            n = effective_rows(self.by_row(answered), answered.weights, clusters, level)
            return wilson(found.value * n, n, level)
        error = standard_error(found.influence, clusters)
        if error is None:
            return None
        units = min(units_told(answered), found.units)
        return student_in(self.domain, found.value, error, units, level)


def units_told(answered: Answered) -> float:
    """How many independent rows the rows are: clusters, or rows that weigh as much (Kish)."""
    weight = answered.weight
    rows = float(weight.sum()) ** 2 / (float(weight @ weight) or 1.0)
    return min(rows, units_of(len(answered), answered.clusters))


def _mean(
    name: str,
    by_row: ByRow,
    *,
    domain: Domain,
    higher: bool | None = False,
    counts: bool = False,
) -> TaskMetric:
    def measure(answered: Answered) -> Measured:
        return mean_of(by_row(answered), answered.weight)

    return TaskMetric(name, higher, domain, measure, by_row, counts)


def share_metric(
    name: str,
    measure: Measure,
) -> TaskMetric:
    """A metric from 0 to 1, of which more is better."""
    return TaskMetric(name, higher_is_better=True, domain="share", measure=measure)


def _other(
    name: str,
    measure: Measure,
    domain: Domain,
    *,
    higher: bool | None = True,
) -> TaskMetric:
    return TaskMetric(name, higher, domain, measure)


def _gain(
    name: str,
    *,
    counts: bool = False,
) -> TaskMetric:
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
    _mean("log_loss", log_losses, domain="size"),
    _mean("brier", brier_losses, domain="size"),
)
_CALIBRATED = (
    _other("calibration_error", calibration_error, "number", higher=False),
    _other("calibration_slope", calibration_line(1), "number", higher=None),
    _other("calibration_intercept", calibration_line(0), "number", higher=None),
)
_RANKED = (
    share_metric("roc_auc", of_class_scores(area_of)),
    share_metric("average_precision", of_class_scores(average_precision_of)),
)
_CLASSES = (
    _ACCURACY,
    share_metric("balanced_accuracy", over_classes(recall_of)),
)
_PROBABLE_CLASSES = (
    _other("matthews", matthews, "correlation"),
    *_RANKED,
    *_PROBABLE,
    *_CALIBRATED,
)
_BY_KIND: dict[TaskKind, tuple[TaskMetric, ...]] = {
    "binary": (
        *_CLASSES,
        share_metric("precision", of_positive_class(precision_of)),
        share_metric("recall", of_positive_class(recall_of)),
        share_metric("f1", of_positive_class(f1_of)),
        *_PROBABLE_CLASSES,
    ),
    "multiclass": (
        *_CLASSES,
        share_metric("f1_macro", over_classes(f1_of)),
        *_PROBABLE_CLASSES,
    ),
    "multilabel": (
        _ACCURACY,
        _mean("hamming_loss", labels_wrong, domain="share"),
        share_metric("f1_macro", over_classes(f1_of)),
        share_metric("f1_micro", f1_of_all_labels),
        *_RANKED,
        *_PROBABLE,
    ),
    "regression": (
        _mean("mae", absolute_errors, domain="size"),
        TaskMetric("rmse", higher_is_better=False, domain="size", measure=root_mean_square),
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
