"""What a report shows beside figures: who is mistaken for whom, curves, and residuals; no rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import Literal, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.figures import CLASSIFIED, positive_of
from modelkit.stats.calibration import bin_places
from modelkit.stats.intervals import share_interval
from modelkit.stats.ranks import thinned, weighted_quantiles

MOST_POINTS = 512  # of a curve
MOST_CLASSES = 50  # whose confusions are kept
MOST_CURVES = 10
LEAST_IN_BAND = 20  # rows, so that no quantile is a row's own value
RESIDUAL_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
ClassTable = tuple[tuple[float, ...], ...]


@final
@dataclass(frozen=True)
class Confusion:
    """How often rows of each class were given each class.

    Attributes:
        labels: the classes as text.
        counts: the weight of the rows of each true class (first) and predicted class (second); it
            is their number where rows lack weights.
        low: the lower end of Wilson's interval of the share that each count is of its true class.
        high: the upper end.
    """

    labels: tuple[str, ...]
    counts: ClassTable
    low: ClassTable
    high: ClassTable

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        size = len(self.labels)
        for table in (self.counts, self.low, self.high):
            if [len(row) for row in table] != [size] * size:
                raise ValueError(f"a confusion of {size} classes has {size} rows of {size} numbers")


@final
@dataclass(frozen=True)
class ScoreCurve:
    """A curve of at most 512 points.

    Attributes:
        name: "roc", of the false against the true positive rate; or "precision_recall", of recall
            against precision.
        label: the class as text that is compared with the rest.
        x: in rising order.
        y: as many.
    """

    name: Literal["roc", "precision_recall"]
    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        if not 0 < len(self.x) == len(self.y) <= MOST_POINTS:
            raise ValueError(f"a curve has 1 to {MOST_POINTS} points, as many x as y")


@final
@dataclass(frozen=True)
class ResidualBand:
    """The residuals, truth less prediction, of rows with about the same prediction.

    Attributes:
        rows: their number.
        predicted: their mean prediction.
        quantiles: of their residuals at 5, 25, 50, 75 and 95 %.
    """

    rows: int
    predicted: float
    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        known = len(self.quantiles) == len(RESIDUAL_SHARES)
        if not known or not all(map(isfinite, (self.predicted, *self.quantiles))):
            raise ValueError(f"a band has {len(RESIDUAL_SHARES)} quantiles, all finite")


def confusion_of(answered: Answered, level: float) -> Confusion | None:
    """The confusions of a classifier of at most 50 classes; else None."""
    few = 0 < len(answered.classes) <= MOST_CLASSES and answered.kind != "multilabel"
    if not few or answered.predicted is None:
        return None
    size = len(answered.classes)
    counts = np.zeros((size, size))
    np.add.at(counts, (answered.truth, answered.predicted), answered.weight)
    low = np.zeros((size, size))
    high = np.ones((size, size))
    for k in np.flatnonzero(counts.sum(axis=1)):
        own = answered.at(answered.truth == k)
        for j in range(size):
            hit = np.equal(own.answers("predicted"), j)
            _, low[k, j], high[k, j], _ = share_interval(hit, own.weight, own.clusters, level)
    return Confusion(tuple(map(str, answered.classes)), _table(counts), _table(low), _table(high))


def _table(values: Array) -> ClassTable:
    return tuple(tuple(map(float, row)) for row in values)


def curves_of(answered: Answered) -> tuple[ScoreCurve, ...]:
    """The ROC and precision-recall curves of the first ten classes that have one."""
    if answered.kind not in CLASSIFIED or answered.scores is None:
        return ()
    if np.isnan(answered.scores).any():
        return ()
    parts = (answered,) if answered.kind == "binary" else answered.by_class()
    return tuple(curve for part in islice(parts, MOST_CURVES) for curve in _both_curves(part))


def _both_curves(answered: Answered) -> tuple[ScoreCurve, ...]:
    """The curves of the positive class of a "binary" task; none where all rows are of one class."""
    held = answered.positives
    counted = held[answered.weight > 0]
    if not counted.any() or counted.all():
        return ()
    with importing("scikit-learn", "a ROC curve", "evaluate"):
        from sklearn.metrics import precision_recall_curve, roc_curve

    label = positive_of(answered)
    rows = (held, answered.scores)
    false, true, _ = roc_curve(*rows, sample_weight=answered.weights)
    precision, recall, _ = precision_recall_curve(
        *rows, sample_weight=answered.weights, drop_intermediate=True
    )
    return (
        ScoreCurve("roc", label, *_points(false, true)),
        ScoreCurve("precision_recall", label, *_points(recall[::-1], precision[::-1])),
    )


def _points(x: Array, y: Array) -> Iterator[tuple[float, ...]]:
    for values in thinned(x, y, MOST_POINTS):
        yield tuple(round(float(value), 6) for value in values)


def residual_bands(answered: Answered) -> tuple[ResidualBand, ...]:
    """The residuals of up to ten bands of predictions; none for a model of several outputs.

    A band has at least 20 rows.
    """
    predicted = answered.predicted
    if answered.kind != "regression" or predicted is None or predicted.shape[1] != 1:
        return ()
    values = predicted[:, 0]
    bands = min(10, len(values) // LEAST_IN_BAND)
    if not bands or not np.isfinite(values).all():
        return ()
    residuals = answered.truth[:, 0] - values
    places = bin_places(values, answered.weight, bands)
    found = []
    for place in np.unique(places):
        rows = (places == place) & (answered.weight > 0)
        count = int(rows.sum())
        if count < LEAST_IN_BAND:
            continue
        weight = answered.weight[rows]
        mean = float(np.average(values[rows], weights=weight))
        quantiles = weighted_quantiles(residuals[rows], weight, RESIDUAL_SHARES)
        found.append(ResidualBand(count, mean, quantiles))
    return tuple(found)
