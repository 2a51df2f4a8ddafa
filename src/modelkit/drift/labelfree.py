"""The performance of a classifier without labels: confidence-based performance estimation (CBPE).

Scores are calibrated on held-out rows with labels: p is the share of positives at a score. Then a
prediction is right with probability p or 1 - p, and sums of these are the expected confusion counts
of rows whose labels are not known.

This is not a guarantee. It holds where P(label | score) has stayed as it was: it sees that the rows
have moved to where the model is less sure, and is blind to a change in what the labels mean. Scores
that the reference never saw are counted as `outside`, since there is nothing to calibrate them by.

Nothing here estimates a regression. A number predicted says nothing about its own error; that takes
a second model, of the loss, trained where the first was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.outputs import class_numbers, scores_of
from modelkit.errors import UsageError
from modelkit.stats.influence import ratio
from modelkit.stats.intervals import LEVEL_95, special_functions
from modelkit.stats.isotonic import calibrate, fit_isotonic

RECENT_ESTIMATED = 1024  # rows after which a new estimate begins


@dataclass(frozen=True)
class Calibration:
    """The map from a classifier's scores to probabilities, and how well it is known.

    A binary classifier has one score, for the positive class, and C = 1; others have a score for
    each of C classes, which are calibrated one against the rest and scaled to sum to 1.

    Args:
        classes: their names, two for a binary classifier.
        steps: C arrays (4, k), of `fit_isotonic`.
        gap: the expected accuracy of the reference less the real one. Fits are closer to their own
            rows than to others, and rows that go to the likeliest of many classes are those whose
            fit is too high.
        variance: of the accuracy of the reference.
        positive: the place of the class that precision, recall and F1 are estimated of.
    """

    classes: tuple[str, ...]
    steps: tuple[Array, ...]
    gap: float
    variance: float
    positive: int = 1

    @classmethod
    def fit(
        cls, classes: tuple[str, ...], scores: Array, labels: Array, predicted: Array | None = None
    ) -> Calibration:
        """Calibrate on held-out rows.

        Args:
            classes: the names of the classes.
            scores: (n,) for two classes, or (n, C).
            labels: (n,), class numbers from 0.
            predicted: (n,), the predicted class numbers; None for the classes of largest score.
        """
        columns = _score_columns(scores)
        n, width = columns.shape
        chosen = predicted
        if chosen is None:
            chosen = columns.argmax(axis=1) if width > 1 else (scores > 0.5).astype(np.int64)
        numbers = range(width) if width > 1 else [1]
        pairs = zip(columns.T, numbers, strict=True)
        steps = tuple(fit_isotonic(own, labels == number) for own, number in pairs)
        expected = _shares(columns, steps)[np.arange(n), chosen].mean()
        accuracy = float((chosen == labels).mean())
        return cls(classes, steps, float(expected) - accuracy, accuracy * (1 - accuracy) / n)

    @property
    def whole(self) -> bool:
        """Whether the arrays fit each other, in a calibration that was read from bytes."""
        width = len(self.classes) if len(self.classes) > 2 else 1
        shapes = [(4, max(own.size // 4, 1)) for own in self.steps]
        fits = len(self.steps) == width and self.positive in (0, 1)
        fits = fits and [own.shape for own in self.steps] == shapes
        numbers = [self.gap, self.variance, *(own.sum() for own in self.steps)]
        return fits and bool(np.isfinite(numbers).all())

    def probabilities(self, scores: Array) -> Array:
        """Calibrated probabilities of all classes: (n, 2) for two of them, (n, C) for more.

        Where every class was never right at its score, all are equally likely.
        """
        return _shares(_score_columns(scores), self.steps)

    def estimate(self, scores: Array, predicted: Array) -> Estimate:
        """The performance to be expected of rows with these scores and predicted class numbers."""
        columns = _score_columns(scores)
        p = _shares(columns, self.steps)
        classes = p.shape[1]
        right = p[np.arange(len(p)), predicted]
        low, high = np.array([(own[0, 0], own[1, -1]) for own in self.steps]).T
        outside = ((columns < low) | (columns > high)).any(axis=1)
        return Estimate(
            rows=len(p),
            hits=np.bincount(predicted, right, classes),
            predicted=np.bincount(predicted, minlength=classes),
            actual=p.sum(axis=0),
            variance=float((right * (1 - right)).sum()),
            leaning=self._leaning(columns, predicted, right),
            outside=int(outside.sum()),
        )

    def _leaning(self, columns: Array, predicted: Array, right: Array) -> Array:
        """The derivative of the expected number of hits by the value of each step, (k,).

        A score between two steps leans on the lower one.
        """
        if len(self.steps) == 1:
            slopes = 2 * predicted[None] - 1
        else:
            total = _raw(columns, self.steps).sum(axis=1)
            own = predicted == np.arange(len(self.steps))[:, None]
            slopes = (own - right) / np.where(total > 0, total, np.inf)
        sums = []
        for scores, slope, steps in zip(columns.T, slopes, self.steps, strict=True):
            at = np.searchsorted(steps[0, 1:], scores, side="right")
            sums.append(np.bincount(at, slope, steps.shape[1]))
        return np.concatenate(sums)

    def interval(self, estimate: Estimate) -> tuple[float, float, float]:
        """The accuracy to be expected, with an interval for the realised one: low and high end.

        The gap that the calibration has on the reference is taken off. The labels are random, and
        the steps of the fits uncertain: most where they have few rows. Where nothing has changed,
        the estimate is about the accuracy of the reference, and not known better than that. The
        interval holds the realised one with a probability of about 0.95 where P(label | score) has
        not changed.
        """
        variances = np.concatenate(self.steps, axis=1)[3]
        of_fits = np.square(estimate.leaning / estimate.rows) @ variances
        of_labels = estimate.variance / estimate.rows**2
        deviation = sqrt(of_labels + max(of_fits, self.variance))
        reach = float(special_functions().ndtri((1 + LEVEL_95) / 2)) * deviation
        value = min(max(estimate.accuracy - self.gap, 0.0), 1.0)
        return value, max(value - reach, 0.0), min(value + reach, 1.0)


def with_positive(calibration: Calibration | None, positive: object) -> Calibration:
    """A calibration that estimates precision, recall and F1 of this class. Raises UsageError."""
    names = () if calibration is None else calibration.classes
    if calibration is None or len(names) != 2 or str(positive) not in names:
        raise UsageError(
            f"positive={positive!r:.80} is not one of two classes whose probabilities the model "
            f"gives; there are {list(names)!r:.200}"
        )
    return replace(calibration, positive=names.index(str(positive)))


def _raw(columns: Array, steps: Sequence[Array]) -> Array:
    """Calibrated scores (n, C), of each class by its steps."""
    pairs = zip(columns.T, steps, strict=True)
    return np.stack([calibrate(scores, own) for scores, own in pairs], axis=1)


def _shares(columns: Array, steps: Sequence[Array]) -> Array:
    raw = _raw(columns, steps)
    if len(steps) == 1:
        return np.concatenate([1 - raw, raw], axis=1)
    total = raw.sum(axis=1, keepdims=True)
    whole = np.where(total > 0, total, 1)
    return np.where(total > 0, raw / whole, 1 / len(steps))


def _score_columns(scores: Array) -> Array:
    return scores[:, None] if scores.ndim == 1 else scores


def _share(part: Array, whole: Array | int) -> float:
    return float(ratio(part, whole, np.nan))


@dataclass(frozen=True)
class Estimate:
    """Sums over rows without labels; they add. C is 2 for a binary classifier.

    Args:
        rows: their number.
        hits: (C,), the expected number of right predictions of each class.
        predicted: (C,), the number of predictions of each class.
        actual: (C,), the expected number of rows of each class.
        variance: of the number of right predictions, were the calibration exact.
        leaning: (k,), the derivative of that number by the values of the steps of the calibration,
            of one class after the other.
        outside: the number of rows with a score that the reference never saw.
    """

    rows: int
    hits: Array
    predicted: Array
    actual: Array
    variance: float
    leaning: Array
    outside: int

    def __add__(self, other: Estimate) -> Estimate:
        names = self.__dataclass_fields__
        return Estimate(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def accuracy(self) -> float:
        """The expected share of right predictions; NaN without rows."""
        return _share(self.hits.sum(), self.rows)

    def rates(self, k: int = 1) -> dict[str, float]:
        """The expected precision, recall and F1 of class k; NaN where one is not defined."""
        hits, predicted, actual = self.hits[k], self.predicted[k], self.actual[k]
        return {
            "precision": _share(hits, predicted),
            "recall": _share(hits, actual),
            "f1": _share(2 * hits, predicted + actual),
        }


def estimate_of(calibration: Calibration | None, answers: Mapping[str, Array]) -> Estimate | None:
    """The performance that probabilities let one expect, if they can be calibrated.

    Raises UsageError for another number of classes. Rows with NaN are left out.
    """
    shares = answers.get("probabilities")
    if calibration is None or shares is None or not len(shares):
        return None
    classes = calibration.classes
    if shares.shape[1:] != (len(classes),):
        raise UsageError(
            f"probabilities have shape {shares.shape}; the profile has {len(classes)} classes"
        )
    whole = np.isfinite(shares).all(axis=1)  # one NaN would make every later estimate NaN
    if not whole.all():
        return estimate_of(calibration, {name: array[whole] for name, array in answers.items()})
    predicted = class_numbers(answers.get("label"), classes)
    if predicted is None:
        predicted = shares.argmax(axis=1)
    return calibration.estimate(scores_of(shares), predicted)


def with_rows(recent: Sequence[Estimate], new: Estimate | None) -> list[Estimate]:
    """The estimates of a stream with new rows; at most two are of 1,024 rows or more."""
    if new is None:
        return [*recent]
    if not recent or recent[-1].rows >= RECENT_ESTIMATED:
        return [*recent[-1:], new]
    return [*recent[:-1], recent[-1] + new]
