"""What folds say of a training procedure: means with intervals, gaps, and a learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.figures import MetricFigure, class_of
from modelkit.lifecycle.evaluation.folds import FoldPoint
from modelkit.lifecycle.evaluation.gap import JUDGED_BY, TrainingGap
from modelkit.lifecycle.evaluation.metrics import METRICS, TaskMetric
from modelkit.stats.influence import Undefined
from modelkit.stats.intervals import Interval, corrected_error, student, student_in

POWERS = np.linspace(0.1, 1.0, 19)  # of the number of rows that a learning curve falls by
NO_SPREAD = "folds without a spread give no interval"


@final
@dataclass(frozen=True)
class LearningPoint:
    """How good fits on so many rows are.

    Attributes:
        rows: the mean number of training rows.
        value: the mean of the metric over folds, on held-out rows.
        low: the lower end of its interval; None for one fold.
        high: the upper end.
    """

    rows: float
    value: float
    low: float | None
    high: float | None

    def __post_init__(self) -> None:
        ends = [end for end in (self.value, self.low, self.high) if end is not None]
        if self.rows < 1 or not all(map(isfinite, (self.rows, *ends))):
            raise ValueError("a point has at least one row, and its numbers are finite")


@final
@dataclass(frozen=True)
class LearningCurve:
    """How a metric grows with training rows.

    Attributes:
        name: of the metric.
        points: by rising number of rows.
        doubling: what twice the rows would add, by a power law through the points; better is above
            zero. None where there are fewer than three points.
        low: the lower end of its interval.
        high: the upper end.
        power: c in a + b rows^-c.
    """

    name: str
    points: tuple[LearningPoint, ...]
    doubling: float | None = None
    low: float | None = None
    high: float | None = None
    power: float | None = None

    def __str__(self) -> str:
        if self.doubling is None or self.low is None or self.high is None:
            return f"{self.name}: too few points to say what more rows would add"
        interval = f"{self.doubling:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"
        about = f"twice the rows would change {self.name} by about {interval}"
        if self.low > 0:
            return f"{about}: more data helps"
        return f"{about}: it is not shown that more data helps"


def measured_by_fold(
    points: Sequence[FoldPoint], metric: TaskMetric, *, trained: bool = False
) -> Array:
    """A metric of each point, on its held-out rows or those it was trained on. Raises Undefined."""
    found = []
    for point in points:
        rows = point.trained if trained else point.tested
        if rows is None:
            continue
        try:
            found.append(metric.measure(rows).value)
        except Undefined as reason:
            raise Undefined(f"in fold {point.fold}: {reason}") from None
    return np.array(found)


def _interval(
    metric: TaskMetric, values: Array, error: float | None, level: float
) -> Interval | None:
    if error is None:
        return None
    return student_in(metric.domain, float(values.mean()), error, len(values), level)


def _sizes(points: Sequence[FoldPoint]) -> tuple[int, int]:
    """The mean numbers of tested and of trained rows."""
    tested = round(float(np.mean([len(point.tested) for point in points])))
    trained = round(float(np.mean([point.rows for point in points])))
    return max(tested, 1), max(trained, 1)


def fold_figures(points: Sequence[FoldPoint], level: float) -> tuple[MetricFigure, ...]:
    """Each metric's mean over folds, with the interval of Nadeau and Bengio."""
    whole = [point for point in points if point.share == 1]
    found = []
    for metric in METRICS[whole[0].tested.kind].values():
        higher = metric.higher_is_better
        of = class_of(metric.name, whole[0].tested)
        try:
            values = measured_by_fold(whole, metric)
        except Undefined as reason:
            found.append(MetricFigure(metric.name, None, None, None, higher, str(reason), of))
            continue
        mean = float(values.mean())
        interval = _interval(metric, values, corrected_error(values, *_sizes(whole)), level)
        if interval is None or not all(map(isfinite, interval)):
            found.append(MetricFigure(metric.name, mean, None, None, higher, NO_SPREAD, of))
            continue
        found.append(MetricFigure(metric.name, mean, *interval, higher, of=of))
    return tuple(found)


def fold_gaps(points: Sequence[FoldPoint], level: float) -> tuple[TrainingGap, ...]:
    """How much better the fits are on their own training rows, over folds."""
    whole = [point for point in points if point.share == 1]
    found = []
    for metric in METRICS[whole[0].tested.kind].values():
        if metric.higher_is_better is None:
            continue
        try:
            before = measured_by_fold(whole, metric, trained=True)
            after = measured_by_fold(whole, metric)
        except Undefined:
            continue
        gaps = (before - after) * (1 if metric.higher_is_better else -1)
        error = corrected_error(gaps, *_sizes(whole))
        mean = float(gaps.mean())
        low, high = (None, None) if error is None else student(mean, error, len(gaps), level)
        found.append(
            TrainingGap(metric.name, float(before.mean()), float(after.mean()), mean, low, high)
        )
    return tuple(found)


def learning_curve(points: Sequence[FoldPoint], level: float) -> LearningCurve | None:
    """The learning curve of the first metric that is defined on every fit, or None."""
    kind = points[0].tested.kind
    shares = sorted({point.share for point in points})
    folds = sum(point.share == 1 for point in points)
    by_share = []
    for share in shares:
        own = [point for point in points if point.share == share]
        if len(own) == folds:  # every fold has a fit of this share
            by_share.append(own)
    for name in JUDGED_BY[kind]:
        metric = METRICS[kind][name]
        try:
            values = np.array([measured_by_fold(own, metric) for own in by_share])
        except Undefined:
            continue
        rows = np.array([_sizes(own)[1] for own in by_share], np.float64)
        tested, _ = _sizes(by_share[-1])
        return _curve(metric, rows, values, tested, level)
    return None


def _curve(
    metric: TaskMetric, rows: Array, values: Array, tested: int, level: float
) -> LearningCurve:
    """The curve through values (points, folds) at so many rows (points,)."""
    points = []
    for size, own in zip(rows.tolist(), values, strict=True):
        error = corrected_error(own, tested, max(round(size), 1))
        interval = _interval(metric, own, error, level)
        known = interval is not None and all(map(isfinite, interval))
        low, high = interval if known and interval is not None else (None, None)
        points.append(LearningPoint(size, float(own.mean()), low, high))
    if len(rows) < 3 or values.shape[1] < 2:
        return LearningCurve(metric.name, tuple(points))
    power = min(POWERS, key=lambda c: _misfit(rows, values.mean(axis=1), c))
    slopes = np.array([_line(rows, own, power)[1] for own in values.T])
    sign = 1 if metric.higher_is_better else -1
    last = float(rows[-1])
    gains = sign * slopes * ((2 * last) ** -power - last**-power)
    spread = sqrt((1 / len(gains) + tested / last) * float(gains.var(ddof=1)))
    gain = float(gains.mean())
    low, high = student(gain, spread, len(gains), level)
    return LearningCurve(metric.name, tuple(points), gain, low, high, float(power))


def _line(rows: Array, values: Array, power: float) -> tuple[float, float]:
    """A and b of the least squares of a + b rows^-power; larger fits count for more."""
    weight = np.sqrt(rows)
    columns = np.column_stack([np.ones(len(rows)), rows**-power])
    (a, b), *_ = np.linalg.lstsq(columns * weight[:, None], values * weight)
    return float(a), float(b)


def _misfit(rows: Array, values: Array, power: float) -> float:
    a, b = _line(rows, values, power)
    return float(rows @ np.square(a + b * rows**-power - values))
