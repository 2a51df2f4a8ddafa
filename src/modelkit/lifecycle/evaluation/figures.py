"""Figures as values: a metric of some rows with its interval, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.columns import texts_of
from modelkit.lifecycle.evaluation.metrics import METRICS, NO_INTERVAL, TaskMetric
from modelkit.stats.influence import Undefined

# The figures of a "binary" task that are of its positive class.
OF_POSITIVE = ("precision", "recall", "f1", "roc_auc", "average_precision", "calibration_intercept")
OF_CLASS = ("precision", "recall", "f1", "roc_auc")  # the figures of each class
CLASSIFIED = ("binary", "multiclass", "multilabel")
MOST_VALUES = 50  # of a column that rows are sliced by


@final
@dataclass(frozen=True)
class MetricFigure:
    """One metric of some rows.

    Attributes:
        name: of the metric.
        value: the figure; None where it is not defined.
        low: the lower end of its interval; None without an interval.
        high: the upper end.
        higher_is_better: None where the best is in between.
        why: why the value or the interval is missing; empty where there are both.
        of: the class as text of which it is the precision, recall, F1 or an area; else empty.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    higher_is_better: bool | None
    why: str = ""
    of: str = ""

    @property
    def title(self) -> str:
        """Its name, with its class, such as "recall of late"."""
        return f"{self.name} of {self.of}" if self.of else self.name

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.title} undefined: {self.why}"
        if self.why:
            return f"{self.title} {figure_text(self)}, no interval: {self.why}"
        return f"{self.title} {figure_text(self)}"


@final
@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class, or of one label.

    Attributes:
        label: the class as text; of several labels their name, or number, from 0.
        rows: how many rows have it.
        figures: precision, recall, F1, and the area under its ROC curve against the rest.
    """

    label: str
    rows: int
    figures: tuple[MetricFigure, ...]

    __repr__ = fields.brief


def positive_of(answered: Answered) -> str:
    """The positive class of a "binary" task as text; else empty."""
    return str(answered.positive_class) if answered.kind == "binary" else ""


def class_of(name: str, answered: Answered) -> str:
    """The class as text that a metric is of; empty for a metric that is of none."""
    return positive_of(answered) if name in OF_POSITIVE else ""


def figure_text(figure: MetricFigure) -> str:
    """A figure and its interval in a few characters."""
    if figure.value is None:
        return "undefined"
    return interval_text(figure.value, figure.low, figure.high)


def interval_text(value: float, low: float | None, high: float | None) -> str:
    """A number and its interval, if there is one, in a few characters."""
    if low is None or high is None:
        return f"{value:.3g}"
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def figures_of(answered: Answered, level: float) -> tuple[MetricFigure, ...]:
    """Every metric of the task, of these rows."""
    return tuple(figure_of(metric, answered, level) for metric in METRICS[answered.kind].values())


def figure_of(metric: TaskMetric, answered: Answered, level: float) -> MetricFigure:
    """One metric of these rows, with an interval at this level."""
    of = class_of(metric.name, answered)
    figure = MetricFigure(metric.name, None, None, None, metric.higher_is_better, of=of)
    try:
        found = metric.measure(answered)
        figure = replace(figure, value=found.value)
        low, high = metric.interval(found, answered, level)
    except Undefined as reason:
        return replace(figure, why=str(reason))
    if not (isfinite(low) and isfinite(high)):
        return replace(figure, why=NO_INTERVAL)
    return replace(figure, low=low, high=high)


def class_figures(answered: Answered, level: float) -> tuple[ClassFigures, ...]:
    """The figures of each class of a classifier, or of each label; else none."""
    if answered.kind not in CLASSIFIED or answered.predicted is None:
        return ()
    found = []
    for part in answered.by_class():
        figures = tuple(figure_of(METRICS["binary"][name], part, level) for name in OF_CLASS)
        found.append(ClassFigures(positive_of(part), int(part.positives.sum()), figures))
    return tuple(found)


@final
@dataclass(frozen=True)
class SliceFigures:
    """The figures of the rows that have one value in one column.

    Attributes:
        column: the name of the column.
        value: the value as text.
        rows: how many rows have it.
        independent: how many independent ones: clusters, where there are some.
        figures: of these rows.
    """

    column: str
    value: str
    rows: int
    independent: int
    figures: tuple[MetricFigure, ...]

    def _cells(self) -> dict[str, str]:
        first = self.figures[0]
        about = {"column": self.column, "value": self.value, "rows": f"{self.rows:,}"}
        return {**about, first.title: figure_text(first)}


def slice_figures(
    answered: Answered, columns: Mapping[str, Any], level: float
) -> tuple[SliceFigures, ...]:
    """The figures of every value of each column, (n,). Raises UsageError."""
    found = []
    for name, value, mask in slice_masks(columns, len(answered)):
        own = answered.at(np.flatnonzero(mask))
        found.append(SliceFigures(name, value, len(own), own.units, figures_of(own, level)))
    return tuple(found)


def slice_masks(columns: Mapping[str, Any], n: int) -> Iterator[tuple[str, str, Array]]:
    """Each column, each of its values, and which of n rows have it, bool (n,). Raises UsageError."""
    for name, values in columns.items():
        texts = slice_texts(name, values, n)
        for value in sorted({*texts.tolist()}):
            yield name, value, texts == value


def slice_texts(name: str, values: Any, n: int) -> Array:
    """What n rows are sliced by, as texts (n,). Raises UsageError for too many of them."""
    texts = texts_of(f"slices: {name!r}", values)
    if len(texts) != n:
        raise UsageError(f"slices: {name!r} has {len(texts):,} values, and there are {n:,} rows")
    known = len(set(texts.tolist()))
    if known > MOST_VALUES:
        raise UsageError(
            f"slices: {name!r} has {known:,} different values; group them into at most {MOST_VALUES}"
        )
    return texts
