"""What a report shows beside figures: who is mistaken for whom, curves, and residuals; no rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.calibrated import bin_places
from modelkit.lifecycle.evaluation.class_metrics import rows_held
from modelkit.stats.intervals import effective_rows, wilson
from modelkit.stats.ranks import midranks

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
            is their number where rows have no weights.
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
    with importing("scikit-learn", "a confusion matrix", "evaluate"):
        from sklearn.metrics import confusion_matrix

    size = len(answered.classes)
    counts = confusion_matrix(
        answered.truth, answered.predicted, labels=range(size), sample_weight=answered.weights
    )
    low = np.zeros((size, size))
    high = np.ones((size, size))
    for k in np.unique(answered.truth):
        own = answered.at(answered.truth == k)
        predicted = answered.predicted[answered.truth == k]
        for j in range(size):
            hit = (predicted == j).astype(np.float64)
            n = effective_rows(hit, own.weight, own.clusters, level)
            total = float(own.weight.sum()) or 1.0
            low[k, j], high[k, j] = wilson(float(own.weight @ hit) / total * n, n, level)
    labels = tuple(map(str, answered.classes))
    return Confusion(labels, _table(counts), _table(low), _table(high))


def _table(values: Array) -> ClassTable:
    return tuple(tuple(map(float, row)) for row in values)


def curves_of(answered: Answered) -> tuple[ScoreCurve, ...]:
    """The ROC and precision-recall curves of the first ten classes that have one."""
    scores = answered.scores
    if answered.kind not in ("binary", "multiclass", "multilabel") or scores is None:
        return ()
    if np.isnan(scores).any():
        return ()
    if answered.kind == "binary":
        label = str(answered.classes[answered.positive])
        return _both_curves(scores, answered.positives, answered, label)
    found: list[ScoreCurve] = []
    held = rows_held(answered)
    labels = answered.classes or range(scores.shape[1])
    for k, label in enumerate(labels[:MOST_CURVES]):
        found += _both_curves(scores[:, k], held[:, k], answered, str(label))
    return tuple(found)


def _both_curves(
    scores: Array, held: Array, answered: Answered, label: str
) -> tuple[ScoreCurve, ...]:
    counted = answered.weight > 0
    if not held[counted].any() or held[counted].all():
        return ()
    with importing("scikit-learn", "a ROC curve", "evaluate"):
        from sklearn.metrics import precision_recall_curve, roc_curve

    weights = answered.weights
    false, true, _ = roc_curve(held, scores, sample_weight=weights)
    precision, recall, _ = precision_recall_curve(
        held, scores, sample_weight=weights, drop_intermediate=True
    )
    return (
        ScoreCurve("roc", label, *_thinned(false, true)),
        ScoreCurve("precision_recall", label, *_thinned(recall[::-1], precision[::-1])),
    )


def _thinned(x: Array, y: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Points of about equal distance along a curve, the first and the last among them."""
    if len(x) > MOST_POINTS:
        steps = np.abs(np.diff(x)) + np.abs(np.diff(y))
        along = np.concatenate([[0.0], np.cumsum(steps)])
        wanted = np.linspace(0, along[-1], MOST_POINTS)
        places = np.unique(np.searchsorted(along, wanted, side="left").clip(0, len(x) - 1))
        x = x[places]
        y = y[places]
    return _rounded(x), _rounded(y)


def _rounded(values: Array) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)


def residual_bands(answered: Answered) -> tuple[ResidualBand, ...]:
    """The residuals of up to ten bands of predictions; none for a model of several outputs.

    A band has at least 20 rows; with fewer there is no band.
    """
    predicted = answered.predicted
    if answered.kind != "regression" or predicted is None or predicted.shape[1] != 1:
        return ()
    told = predicted[:, 0]
    if not np.isfinite(told).all():
        return ()
    bands = min(10, len(told) // LEAST_IN_BAND)
    if not bands:
        return ()
    weight = answered.weight
    residuals = answered.truth[:, 0] - told
    places = bin_places(told, weight, bands)
    found = []
    for place in np.unique(places):
        rows = (places == place) & (weight > 0)
        if np.count_nonzero(rows) < LEAST_IN_BAND:
            continue
        mean = float(np.average(told[rows], weights=weight[rows]))
        quantiles = weighted_quantiles(residuals[rows], weight[rows], RESIDUAL_SHARES)
        found.append(ResidualBand(int(rows.sum()), mean, quantiles))
    return tuple(found)


def weighted_quantiles(values: Array, weight: Array, shares: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of weighted values, (n,): linear between the middles of their weights."""
    order = np.argsort(values, kind="stable")
    mass = weight[order]
    middle = midranks(mass) / mass.sum()
    return tuple(np.interp(shares, middle, values[order]).tolist())
