"""How good a classifier is now, without labels: confidence-based performance estimation (CBPE).

Scores are calibrated on held-out rows with labels: p is the share of positives at a score. Then a
prediction is right with probability p or 1 - p, and sums of these are the expected confusion counts
of rows whose labels are not known.

This is no guarantee. It holds where P(label | score) has stayed as it was: it sees that the rows
have moved to where the model is less sure, and is blind to a change in what the labels mean. Scores
that the reference never saw are counted as `outside`, since there is nothing to calibrate them by.

Nothing here estimates a regression. A number predicted says nothing about its own error; that takes
a second model, of the loss, trained where the first was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelkit.cast import Array
from modelkit.errors import importing

BLOCKS = 32  # of an isotonic fit that are kept: at most 64 knots
POINTS = 32  # where the bootstrapped fits are stored
FITS = 32


def fit_isotonic(scores: Array, labels: Array, weights: Array | None = None) -> Array:
    """The rising step function closest to the labels in weighted squares, as the ends of its steps.

    Args:
        scores: (n,), n > 0.
        labels: (n,) of 0 and 1, or any numbers.
        weights: (n,) of non-negative numbers, not all 0; rows of weight 0 are left out.

    Returns:
        Knots (2, k), k <= 64: scores ascending and values, between which `calibrate` interpolates.
        Where there are more than 32 steps, neighbours that differ least are joined, which keeps the
        mean of the labels.
    """
    if weights is not None:
        scores, labels, weights = scores[weights > 0], labels[weights > 0], weights[weights > 0]
    points, which = np.unique(scores, return_inverse=True)
    weight = np.bincount(which, weights)
    total = np.bincount(which, labels if weights is None else labels * weights)
    starts = np.arange(len(points))
    while True:  # pool adjacent violators, every falling run at once
        value = total / weight
        first = np.flatnonzero(np.concatenate([[True], value[1:] > value[:-1]]))
        if len(first) == len(value):
            break
        total, weight = np.add.reduceat(total, first), np.add.reduceat(weight, first)
        starts = starts[first]
    while len(starts) > BLOCKS:
        join = int(np.argmin(np.square(np.diff(value)) / (1 / weight[1:] + 1 / weight[:-1])))
        weight[join] += weight[join + 1]
        total[join] += total[join + 1]
        total, weight, starts = (np.delete(array, join + 1) for array in (total, weight, starts))
        value = total / weight
    ends = np.append(starts[1:], len(points)) - 1
    at = np.unique(np.concatenate([starts, ends]))
    return np.stack([points[at], value[np.searchsorted(starts, at, side="right") - 1]])


def calibrate(scores: Array, knots: Array) -> Array:
    """The share of positives at each score: linear between knots, constant beyond them."""
    p: Array = np.interp(scores, knots[0], knots[1])
    return p


def binary_performance(p: Array, predicted: Array, scores: Array) -> dict[str, float]:
    """The expected performance on rows that are positive with probability p; all arrays (n,), n > 0.

    `predicted` is 0 or 1. `scores` are the raw ones and only order the rows, for the area under the
    ROC curve. A quotient of 0 by 0 is NaN. "sd" is the deviation of the accuracy, were p exact:
    that of a Poisson-binomial count.
    """
    positive = np.asarray(predicted, bool)
    tp, fp = float(p[positive].sum()), float((1 - p)[positive].sum())
    fn, tn = float(p[~positive].sum()), float((1 - p)[~positive].sum())
    return {
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "accuracy": (tp + tn) / len(p),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "auc": _auc(p, scores),
        "sd": float(np.sqrt((p * (1 - p)).sum()) / len(p)),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _auc(p: Array, scores: Array) -> float:
    order, which = np.unique(-scores, return_inverse=True)
    hits, misses = (np.cumsum(np.bincount(which, part, len(order))) for part in (p, 1 - p))
    area = np.trapezoid(np.concatenate([[0.0], hits]), np.concatenate([[0.0], misses]))
    return _ratio(float(area), float(hits[-1] * misses[-1]))


@dataclass(frozen=True)
class Calibration:
    """What turns the scores of a classifier into probabilities, and how well that is known.

    A binary classifier has one score, that of the positive class, and C = 1; others have a score
    for each of C classes, which are calibrated one against the rest and scaled to sum to 1.

    Args:
        classes: their names, two for a binary classifier.
        knots: C arrays (2, k), of `fit_isotonic`.
        points: (C, 32), scores at even shares of the reference.
        deviations: float32 (C, 32 fits, 32 points), how far fits to bootstrapped rows are from the
            fit at the points.
    """

    classes: tuple[str, ...]
    knots: tuple[Array, ...]
    points: Array
    deviations: Array

    def arrays(self) -> dict[str, Array]:
        """All but the classes, as arrays that can be stored."""
        sizes = np.array([knots.shape[1] for knots in self.knots])
        return {
            "knots": np.concatenate(self.knots, axis=1),
            "sizes": sizes,
            "points": self.points,
            "deviations": self.deviations,
        }

    @classmethod
    def read(cls, classes: Sequence[str], arrays: Mapping[str, Array]) -> Calibration:
        """The inverse of `arrays`."""
        knots = np.split(arrays["knots"], np.cumsum(arrays["sizes"])[:-1], axis=1)
        return cls(tuple(classes), tuple(knots), arrays["points"], arrays["deviations"])

    @classmethod
    def fit(
        cls, classes: tuple[str, ...], scores: Array, labels: Array, rng: np.random.Generator
    ) -> Calibration:
        """Calibrate on held-out rows: scores (n,) or (n, C) and labels (n,) of class numbers from 0."""
        columns = _columns(scores)
        targets = labels[:, None] == (np.arange(columns.shape[1]) if columns.shape[1] > 1 else [1])
        knots = tuple(fit_isotonic(*pair) for pair in zip(columns.T, targets.T, strict=True))
        points = np.quantile(columns, np.linspace(0, 1, POINTS), axis=0).T
        deviations = np.empty((len(knots), FITS, POINTS), np.float32)
        for fit in range(FITS):
            weights = np.bincount(rng.integers(0, len(labels), len(labels)), minlength=len(labels))
            for k, at in enumerate(points):
                bootstrapped = fit_isotonic(columns[:, k], targets[:, k], weights)
                deviations[k, fit] = calibrate(at, bootstrapped) - calibrate(at, knots[k])
        return cls(classes, knots, points, deviations)

    def probabilities(self, scores: Array) -> Array:
        """Calibrated probabilities of all classes, (n, 2) for a binary classifier and (n, C) for others.

        Where every class was never right at its score, all are equally likely.
        """
        raw = self._raw(scores)
        if len(self.knots) == 1:
            return np.concatenate([1 - raw, raw], axis=1)
        total = raw.sum(axis=1, keepdims=True)
        return np.where(total > 0, raw / np.where(total > 0, total, 1), 1 / len(self.knots))

    def _raw(self, scores: Array) -> Array:
        pairs = zip(_columns(scores).T, self.knots, strict=True)
        return np.stack([calibrate(column, knots) for column, knots in pairs], axis=1)

    def estimate(self, scores: Array, predicted: Array) -> Estimate:
        """The performance to be expected on rows with these scores and predicted class numbers, (n,)."""
        columns, p = _columns(scores), self.probabilities(scores)
        rows, classes = np.arange(len(p)), p.shape[1]
        right = p[rows, predicted]
        low, high = (np.array([knots[0, end] for knots in self.knots]) for end in (0, -1))
        return Estimate(
            rows=len(p),
            hits=np.bincount(predicted, right, classes),
            predicted=np.bincount(predicted, minlength=classes),
            actual=p.sum(axis=0),
            variance=float((right * (1 - right)).sum()),
            pull=self._pull(columns, predicted, right),
            outside=int(((columns < low) | (columns > high)).any(axis=1).sum()),
        )

    def _pull(self, columns: Array, predicted: Array, right: Array) -> Array:
        """How the expected number of hits changes with the fits at the points, (C, points): its derivative."""
        if len(self.knots) == 1:
            slopes = np.where(predicted == 1, 1.0, -1.0)[:, None]
        else:
            total = self._raw(columns).sum(axis=1, keepdims=True)
            own = np.arange(len(self.knots)) == predicted[:, None]
            slopes = (own - right[:, None]) / np.where(total > 0, total, np.inf)
        return np.stack(
            [_spread(*triple) for triple in zip(columns.T, self.points, slopes.T, strict=True)]
        )

    def deviation(self, estimate: Estimate) -> float:
        """The standard deviation of the realised accuracy about the estimate: labels are random, the fits uncertain."""
        moved = np.einsum("kfp,kp->f", self.deviations, estimate.pull)
        return float(np.sqrt(estimate.variance + np.square(moved).mean())) / estimate.rows


def _columns(scores: Array) -> Array:
    return scores[:, None] if scores.ndim == 1 else scores


def _spread(scores: Array, points: Array, amounts: Array) -> Array:
    """Share each amount between the two points about its score, as linear interpolation weighs them."""
    at = np.clip(np.searchsorted(points, scores, side="right") - 1, 0, len(points) - 2)
    width = points[at + 1] - points[at]
    upper = np.clip((scores - points[at]) / np.where(width > 0, width, 1), 0, 1) * amounts
    shared: Array = np.bincount(at, amounts - upper, len(points)) + np.bincount(
        at + 1, upper, len(points)
    )
    return shared


@dataclass(frozen=True)
class Estimate:
    """Sums over rows without labels; those of two sets of rows add. C is 2 for a binary classifier.

    Args:
        rows: how many there were.
        hits: (C,), the expected number of right predictions of each class.
        predicted: (C,), how often each class was predicted.
        actual: (C,), the expected number of rows of each class.
        variance: of the number of right predictions, were the calibration exact.
        pull: how that number depends on the calibration.
        outside: rows with a score that the reference never saw.
    """

    rows: int
    hits: Array
    predicted: Array
    actual: Array
    variance: float
    pull: Array
    outside: int

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            *(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__)
        )

    @property
    def accuracy(self) -> float:
        """The expected share of right predictions; NaN without rows."""
        return _ratio(float(self.hits.sum()), self.rows)

    def precision(self, k: int = 1) -> float:
        """The expected share of right predictions among those of class k."""
        return _ratio(float(self.hits[k]), float(self.predicted[k]))

    def recall(self, k: int = 1) -> float:
        """The expected share of right predictions among the rows of class k."""
        return _ratio(float(self.hits[k]), float(self.actual[k]))

    def f1(self, k: int = 1) -> float:
        """The harmonic mean of precision and recall of class k."""
        return _ratio(2 * float(self.hits[k]), float(self.predicted[k] + self.actual[k]))

    def interval(self, calibration: Calibration, level: float = 0.95) -> tuple[float, float]:
        """Where the realised accuracy lies with a probability of about `level`, if P(label | score) has not changed."""
        with importing("scipy", "the interval of an estimated accuracy", "drift"):
            from scipy.special import ndtri

        reach = float(ndtri((1 + level) / 2)) * calibration.deviation(self)
        return max(self.accuracy - reach, 0.0), min(self.accuracy + reach, 1.0)
