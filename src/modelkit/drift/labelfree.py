"""The performance of a classifier without labels: confidence-based performance estimation (CBPE).

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

MOST_STEPS = 32  # of an isotonic fit that are kept: at most 64 knots
POINTS = 32  # where the bootstrapped fits are stored
FITS = 32


def fit_isotonic(
    scores: Array,
    labels: Array,
    weights: Array | None = None,
) -> Array:
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
    points, total, weight = _sums_by_score(scores, labels, weights)
    starts, value = _few_steps(*_pooled(total, weight))
    ends = np.append(starts[1:], len(points)) - 1
    at = np.unique(np.concatenate([starts, ends]))
    step = np.searchsorted(starts, at, side="right") - 1
    return np.stack([points[at], value[step]])


def _sums_by_score(
    scores: Array,
    labels: Array,
    weights: Array | None,
) -> tuple[Array, Array, Array]:
    """The distinct scores, ascending, with the sum of the labels and of the weights of each."""
    if weights is None:
        points, which = np.unique(scores, return_inverse=True)
        return points, np.bincount(which, labels), np.bincount(which)
    kept = weights > 0
    weights = weights[kept]
    points, which = np.unique(scores[kept], return_inverse=True)
    total = np.bincount(which, labels[kept] * weights)
    return points, total, np.bincount(which, weights)


def _pooled(
    total: Array,
    weight: Array,
) -> tuple[Array, Array, Array]:
    """Pool adjacent violators, every falling run at once: where steps start, sums and weights."""
    starts = np.arange(len(total))
    while True:
        value = total / weight
        rises = value[1:] > value[:-1]
        first = np.flatnonzero(np.concatenate([[True], rises]))
        if len(first) == len(value):
            return starts, total, weight
        total = np.add.reduceat(total, first)
        weight = np.add.reduceat(weight, first)
        starts = starts[first]


def _few_steps(
    starts: Array,
    total: Array,
    weight: Array,
) -> tuple[Array, Array]:
    """Join the neighbours that differ least until 32 steps are left: their starts and values."""
    value = total / weight
    while len(starts) > MOST_STEPS:
        lost = np.square(np.diff(value)) / (1 / weight[1:] + 1 / weight[:-1])
        join = int(np.argmin(lost))
        weight[join] += weight[join + 1]
        total[join] += total[join + 1]
        weight = np.delete(weight, join + 1)
        total = np.delete(total, join + 1)
        starts = np.delete(starts, join + 1)
        value = total / weight
    return starts, value


def calibrate(scores: Array, knots: Array) -> Array:
    """The share of positives at each score: linear between knots, constant beyond them."""
    p: Array = np.interp(scores, knots[0], knots[1])
    return p


def expected_auc(p: Array, scores: Array) -> float:
    """The expected area under the ROC curve of rows that are positive with probability p, (n,).

    `scores` (n,) only order the rows. NaN where one of the classes has no rows.
    """
    order, which = np.unique(-scores, return_inverse=True)
    hits = np.cumsum(np.bincount(which, p, len(order)))
    misses = np.cumsum(np.bincount(which, 1 - p, len(order)))
    area = np.trapezoid(
        np.concatenate([[0.0], hits]),
        np.concatenate([[0.0], misses]),
    )
    return _ratio(float(area), float(hits[-1] * misses[-1]))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True)
class Calibration:
    """The map from a classifier's scores to probabilities, and how well it is known.

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
    def of_arrays(
        cls,
        classes: Sequence[str],
        arrays: Mapping[str, Array],
    ) -> Calibration:
        """The inverse of `arrays`."""
        cuts = np.cumsum(arrays["sizes"])[:-1]
        knots = np.split(arrays["knots"], cuts, axis=1)
        return cls(
            tuple(classes),
            tuple(knots),
            arrays["points"],
            arrays["deviations"],
        )

    @classmethod
    def fit(
        cls,
        classes: tuple[str, ...],
        scores: Array,
        labels: Array,
        rng: np.random.Generator,
    ) -> Calibration:
        """Calibrate on held-out rows.

        Args:
            classes: the names of the classes.
            scores: (n,) for two classes, or (n, C).
            labels: (n,), class numbers from 0.
            rng: draws the bootstrapped rows.
        """
        columns = _score_columns(scores)
        width = columns.shape[1]
        positive = np.arange(width) if width > 1 else np.array([1])
        targets = labels[:, None] == positive
        knots = tuple(fit_isotonic(columns[:, k], targets[:, k]) for k in range(width))
        points = np.quantile(columns, np.linspace(0, 1, POINTS), axis=0).T
        deviations = np.empty((width, FITS, POINTS), np.float32)
        n = len(labels)
        for fit in range(FITS):
            weights = np.bincount(rng.integers(0, n, n), minlength=n)
            for k, at in enumerate(points):
                bootstrapped = fit_isotonic(columns[:, k], targets[:, k], weights)
                moved = calibrate(at, bootstrapped) - calibrate(at, knots[k])
                deviations[k, fit] = moved
        return cls(classes, knots, points, deviations)

    def probabilities(self, scores: Array) -> Array:
        """Calibrated probabilities of all classes: (n, 2) for two of them, (n, C) for more.

        Where every class was never right at its score, all are equally likely.
        """
        raw = self._raw(scores)
        if len(self.knots) == 1:
            return np.concatenate([1 - raw, raw], axis=1)
        total = raw.sum(axis=1, keepdims=True)
        whole = np.where(total > 0, total, 1)
        return np.where(total > 0, raw / whole, 1 / len(self.knots))

    def _raw(self, scores: Array) -> Array:
        columns = _score_columns(scores)
        shares = [calibrate(columns[:, k], knots) for k, knots in enumerate(self.knots)]
        return np.stack(shares, axis=1)

    def estimate(
        self,
        scores: Array,
        predicted: Array,
    ) -> Estimate:
        """The performance to be expected of rows with these scores and predicted class numbers."""
        columns = _score_columns(scores)
        p = self.probabilities(scores)
        classes = p.shape[1]
        right = p[np.arange(len(p)), predicted]
        low = np.array([knots[0, 0] for knots in self.knots])
        high = np.array([knots[0, -1] for knots in self.knots])
        outside = ((columns < low) | (columns > high)).any(axis=1)
        return Estimate(
            rows=len(p),
            hits=np.bincount(predicted, right, classes),
            predicted=np.bincount(predicted, minlength=classes),
            actual=p.sum(axis=0),
            variance=float((right * (1 - right)).sum()),
            pull=self._pull(columns, predicted, right),
            outside=int(outside.sum()),
        )

    def _pull(
        self,
        columns: Array,
        predicted: Array,
        right: Array,
    ) -> Array:
        """The derivative of the expected number of hits by the fits at the points, (C, points)."""
        if len(self.knots) == 1:
            slopes = np.where(predicted == 1, 1.0, -1.0)[:, None]
        else:
            total = self._raw(columns).sum(axis=1, keepdims=True)
            own = np.arange(len(self.knots)) == predicted[:, None]
            slopes = (own - right[:, None]) / np.where(total > 0, total, np.inf)
        parts = [
            _shared_out(columns[:, k], points, slopes[:, k]) for k, points in enumerate(self.points)
        ]
        return np.stack(parts)

    def deviation(self, estimate: Estimate) -> float:
        """The standard deviation of the realised accuracy about the estimate.

        The labels are random, and the fits are uncertain.
        """
        moved = np.einsum("kfp,kp->f", self.deviations, estimate.pull)
        variance = estimate.variance + np.square(moved).mean()
        return float(np.sqrt(variance)) / estimate.rows


def _score_columns(scores: Array) -> Array:
    return scores[:, None] if scores.ndim == 1 else scores


def _shared_out(
    scores: Array,
    points: Array,
    amounts: Array,
) -> Array:
    """Share each amount between the two points about its score, as interpolation weighs them."""
    last = len(points) - 2
    at = np.clip(np.searchsorted(points, scores, side="right") - 1, 0, last)
    width = points[at + 1] - points[at]
    share = (scores - points[at]) / np.where(width > 0, width, 1)
    upper = np.clip(share, 0, 1) * amounts
    below = np.bincount(at, amounts - upper, len(points))
    shared: Array = below + np.bincount(at + 1, upper, len(points))
    return shared


@dataclass(frozen=True)
class Estimate:
    """Sums over rows without labels; those of two sets of rows add. C is 2 for a binary classifier.

    Args:
        rows: their number.
        hits: (C,), the expected number of right predictions of each class.
        predicted: (C,), the number of predictions of each class.
        actual: (C,), the expected number of rows of each class.
        variance: of the number of right predictions, were the calibration exact.
        pull: the derivative of that number by the calibration.
        outside: the number of rows with a score that the reference never saw.
    """

    rows: int
    hits: Array
    predicted: Array
    actual: Array
    variance: float
    pull: Array
    outside: int

    def __add__(self, other: Estimate) -> Estimate:
        names = self.__dataclass_fields__
        return Estimate(*(getattr(self, name) + getattr(other, name) for name in names))

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
        both = float(self.predicted[k] + self.actual[k])
        return _ratio(2 * float(self.hits[k]), both)

    def interval(
        self,
        calibration: Calibration,
        level: float = 0.95,
    ) -> tuple[float, float]:
        """Low and high end of an interval for the realised accuracy.

        It holds it with a probability of about `level` where P(label | score) has not changed.
        """
        with importing("scipy", "the interval of an estimated accuracy", "drift"):
            from scipy.special import ndtri

        reach = float(ndtri((1 + level) / 2)) * calibration.deviation(self)
        low = max(self.accuracy - reach, 0.0)
        high = min(self.accuracy + reach, 1.0)
        return low, high
