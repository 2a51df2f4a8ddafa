"""Labels of the reference: the losses of a model, and the labels as a feature of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import nan
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, UNKNOWN_CATEGORY, Feature, fit_feature
from modelkit.drift.columns import (
    ColumnsByName,
    FeatureKind,
    as_labels,
    as_texts,
    check_same_forms,
    fifth,
    label_names,
)
from modelkit.drift.labelfree import Calibration, with_positive
from modelkit.drift.limits import FOR_THE_REFERENCE, Limits
from modelkit.drift.order import every, rows_apart
from modelkit.drift.outputs import class_numbers, classes_of, predicted_of, scores_of
from modelkit.drift.ranks import Gain, Ranked
from modelkit.drift.sides import Options
from modelkit.errors import UsageError
from modelkit.stats.betting import ConfidenceSequence, log_staked
from modelkit.stats.intervals import mean_bound

TARGET = "target"  # the name of the labels as a feature
SHOWN_ERROR = 0.05  # one less the confidence of the intervals that are shown
LOSS_TOLERANCE = 0.02  # the growth of the mean loss that is not material
GROWTH = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4])  # of the mean loss that a bet is best for
LOSS_WEIGHTS = np.full(len(GROWTH), 1 / len(GROWTH))


@final
@dataclass(frozen=True)
class Baseline:
    """The losses of the reference: their number, sum and sum of squares.

    `binary` is whether each is 0 or 1. For predictions of numbers a loss is the absolute error over
    `scale`, at most 1.
    """

    n: int
    total: float
    squares: float
    binary: bool
    scale: float = 1.0

    @staticmethod
    def of(losses: Array, scale: float = 1.0) -> Baseline:
        """The sums of losses between 0 and 1, (n,)."""
        return Baseline(
            n=len(losses),
            total=float(losses.sum()),
            squares=float((losses * losses).sum()),
            binary=bool(np.isin(losses, (0, 1)).all()),
            scale=scale,
        )

    def bound(self, delta: float) -> float:
        """An upper bound on the mean loss, which is too low with a probability of at most delta."""
        return mean_bound(self.n, self.total, self.squares, delta, binary=self.binary)

    def interval(self) -> tuple[float, float, float]:
        """The mean loss with its 95 % interval."""
        n, total = self.n, self.total
        squares = n - 2 * total + self.squares
        mirrored = Baseline(n, n - total, squares, self.binary)  # of one less each loss
        low = 1 - mirrored.bound(SHOWN_ERROR / 2)
        return total / n, low, self.bound(SHOWN_ERROR / 2)


def losses_of(labels: Any, predicted: Any, scale: float = 1.0) -> Array:
    """The loss of each row, (n,): 0 or 1 for classes, for numbers the absolute error over `scale`.

    It is at most 1. Raises UsageError for arrays of different lengths, and for missing values.
    """
    truth = as_labels(labels)
    guess = as_labels(predicted, "predictions")
    if truth.shape != guess.shape or truth.ndim != 1:
        raise UsageError(f"labels {truth.shape} and predictions {guess.shape} must both be (n,)")
    if guess.dtype.kind == "f":
        return _distances(truth, guess, scale)
    if _whole_numbers(truth) and _whole_numbers(guess):
        return np.asarray(truth != guess, np.float64)
    left = as_texts(truth)
    right = as_texts(guess)
    if None in left or None in right:
        raise UsageError("a label or a prediction is missing; leave such rows out")
    _check_forms(truth, guess)
    check_same_forms(zip(left, right, strict=True), "pass both as the model gives its classes")
    differ = [a != b for a, b in zip(left, right, strict=True)]
    return np.array(differ, np.float64)


def _check_forms(truth: Array, guess: Array) -> None:
    """Raise UsageError for numbers beside names, which are never equal: all answers would be wrong."""
    numbers = [side.dtype.kind in "iuf" for side in (truth, guess)]
    if len(truth) and any(numbers) and not any(map(_is_number, guess if numbers[0] else truth)):
        raise UsageError(
            f"labels such as {truth.tolist()[0]!r} are never equal to predictions such as "
            f"{guess.tolist()[0]!r}: pass both as the model gives its classes"
        )


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _distances(truth: Array, guess: Array, scale: float) -> Array:
    with np.errstate(invalid="ignore"):
        error = np.abs(as_doubles(truth, "labels") - guess.astype(np.float64)) / scale
    if np.isnan(error).any():
        raise UsageError("a label or a prediction is missing; leave such rows out")
    found: Array = np.minimum(error, 1.0)
    return found


def _whole_numbers(labels: Array) -> bool:
    """Whether labels are numbers, and none is missing."""
    return labels.dtype.kind in "biuf" and not np.isnan(labels.astype(np.float64)).any()


def check_losses(losses: Any) -> Array:
    """Losses as doubles (n,). Raises UsageError for any that is not between 0 and 1."""
    array = as_doubles(losses, "losses")
    if array.ndim != 1 or not ((array >= 0) & (array <= 1)).all():
        raise UsageError(
            "losses are (n,) numbers from 0 to 1: divide them by the largest that may occur"
        )
    return array


def as_doubles(values: Any, what: str) -> Array:
    """Numbers of any kind as doubles, NaN where one is masked.

    Raises UsageError for values that are not numbers.
    """
    labels = as_labels(values, what)
    if labels.dtype.kind in "OU" and any(isinstance(item, str) for item in labels.flat):
        raise UsageError(f"{what} are not all numbers: some are texts; convert them")
    try:
        return labels.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} are not all numbers: {error}") from error


def error_scale(labels: Any, predicted: Array) -> float:
    """The divisor of absolute errors: twice their 99th percentile."""
    errors = np.abs(as_doubles(labels, "labels") - predicted.astype(np.float64))
    scale = 2 * np.quantile(errors, 0.99)
    return float(f"{scale:.3g}") or 1.0


# A stream of losses.


def loss_bets(u: float) -> Array:
    """The slopes of six bets against a mean of at most u > 0; each keeps a tenth of its stake at least."""
    return np.minimum(GROWTH / max(u * (1 - u), 1e-12), 0.9 / u)


def loss_increments(losses: Array, u: float) -> Array:
    """The logarithm of each bet's gain from losses in [0, 1], (6,).

    Against losses of which each, given those before it, has a mean of at most u, bets gain nothing
    (Podkopaev and Ramdas, arXiv:2110.06177).
    """
    increments: Array = log_staked(losses, u, loss_bets(u)).sum(axis=0)
    return increments


@final
class Losses(Limits):
    """D3: losses against a bound on the losses of the reference; and all losses that came.

    `limits` (1, 1) is how large the mean loss may be.

    Args:
        baseline: the losses of the reference.
        level: their share of alpha, of which a third is for the error of their bound.
    """

    changing = (*Limits.changing, "rows", "total", "mean")
    spared = FOR_THE_REFERENCE
    weights = LOSS_WEIGHTS

    def __init__(self, baseline: Baseline, level: float) -> None:
        bound = baseline.bound(level * self.spared)
        super().__init__(np.array([[min(bound + LOSS_TOLERANCE, 1.0)]]))
        self._binary = baseline.binary
        self.rows = 0
        self.total = 0.0
        self.mean = ConfidenceSequence(SHOWN_ERROR)

    def count(self, losses: Array) -> None:
        """Take losses (n,), whether or not they fill a block."""
        self.rows += len(losses)
        self.total += float(losses.sum())
        self.mean.update(losses)

    def interval(self) -> tuple[float, float, float] | None:
        """The mean loss with its 95 % confidence sequence.

        None without losses, and where no one mean fits them. While the sequence is on its way
        there, the mean of all losses lies beyond it, and the ends are NaN.
        """
        limits = self.mean.interval()
        if limits is None or not self.rows:
            return None
        mean = self.total / self.rows
        low, high = limits
        if not low <= mean <= high:
            return mean, nan, nan
        return mean, low, high

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain]:
        """What bets gain on each block."""
        for losses, values in zip(ranked.kept, ranked.values, strict=True):
            logs = loss_increments(losses[0], float(self.limits[0, 0]))[None]
            yield logs, np.exp(logs), values

    def shown(self, j: int, recent: Array) -> Array:
        """A bound on the losses (blocks, 10) since the change began; more is another alarm."""
        losses = recent.ravel()
        total, squares = float(losses.sum()), float(losses @ losses)
        bound = mean_bound(len(losses), total, squares, SHOWN_ERROR, binary=self._binary)
        limit: Array = np.maximum(self.first[j], min(bound + LOSS_TOLERANCE, 1.0))
        return limit

    def nearer(self, which: Array, recent: Array) -> Array:
        """The first bound, where such losses are within it."""
        return self.first if recent.mean() <= self.first[0] else self.limits


# The labels as a column of their own: whether what the model predicts has itself moved.


@final
@dataclass(frozen=True, eq=False)
class TargetLabels:
    """The labels of the reference: their cells, and the number of labels in each, int64 (67,).

    The weight of `feature` is the share of alpha that labels have; all others divide the rest.
    """

    feature: Feature
    counts: Array

    @staticmethod
    def fit(labels: Any, *, classes: bool, ordered: bool, share: float, seed: int) -> TargetLabels:
        """The cells from a fifth of the labels (n,) of the reference, the counts from the others.

        `classes` says whether labels are names, and not numbers to be compared by size.
        """
        kind: FeatureKind = "category" if classes else "number"
        values = label_values(Feature(TARGET, kind), labels)
        mine, others = fifth(len(values), ordered=ordered, seed=seed)
        feature = fit_feature(TARGET, kind, values[mine])
        cells = feature.cells(values[others])
        stride = rows_apart(cells) if ordered else 1
        kept = cells[every(stride, len(cells), np.random.default_rng([seed, len(cells)]))]
        counts = np.bincount(kept, minlength=CELLS)
        return TargetLabels(replace(feature, stride=stride, weight=share), counts)

    def cells(self, labels: Any) -> Array:
        """The cell of each label, uint8 (n, 1).

        Raises UsageError for labels in another form than the reference has.
        """
        values = label_values(self.feature, labels)
        found = self.feature.cells(values)
        if self.feature.kind == "category":
            unknown = set(values[found == UNKNOWN_CATEGORY].tolist())
            check_same_forms(
                product(unknown, self.feature.categories), "pass labels as Profile.fit got them"
            )
        return found.astype(np.uint8)[:, None]


def fit_labels(served: ColumnsByName, rows: int, share: float, options: Options) -> dict[str, Any]:
    """What the labels or the losses (rows,) of a reference say, by the names of a Profile's fields.

    Args:
        served: the model's answers, by output.
        rows: of the reference.
        share: of alpha that labels have.
        options: the arguments of Profile.fit.
    """
    if options.labels is None:
        if options.losses is None:
            return {}
        losses = check_losses(options.losses)
        _check_labels(losses, rows)
        return {"baseline": Baseline.of(losses)}
    truth = as_labels(options.labels)
    _check_labels(truth, rows)
    known = None if options.model is None else options.model.signature.classes
    classes = classes_of(served, truth, known)
    predicted = predicted_of(served, classes)
    named = predicted.dtype.kind != "f"
    calibration = None
    if named and classes is not None:
        calibration = _calibration(served, options.labels, classes)
    if options.positive is not None:
        calibration = with_positive(calibration, options.positive)
    return {
        "baseline": _baseline(truth, predicted, options),
        "calibration": calibration,
        "target": TargetLabels.fit(
            options.labels, classes=named, ordered=options.ordered, share=share, seed=options.seed
        ),
    }


def _baseline(truth: Array, predicted: Array, options: Options) -> Baseline:
    """The losses of the reference by its labels."""
    if predicted.dtype.kind != "f":
        return Baseline.of(losses_of(truth, predicted))
    # The scale is part of the loss: other rows bound the mean of it.
    mine, others = fifth(len(truth), ordered=options.ordered, seed=options.seed)
    scale = error_scale(truth[mine], predicted[mine])
    return Baseline.of(losses_of(truth[others], predicted[others], scale), scale)


def _check_labels(found: Array, rows: int) -> None:
    if found.shape != (rows,):
        raise UsageError(f"there are {rows} reference rows and {len(found)} labels or losses")


def _calibration(served: ColumnsByName, labels: Any, classes: tuple[Any, ...]) -> Calibration:
    """The calibration of the probabilities by the reference's labels."""
    numbers = {str(name): i for i, name in enumerate(classes)}
    names = [str(label) for label in np.asarray(labels).tolist()]
    strange = sorted(set(names) - set(numbers))
    if strange:
        raise UsageError(
            f"the labels {strange[:5]} are not classes of the model; it has {list(numbers)}"
        )
    return Calibration.fit(
        tuple(numbers),
        scores_of(served["probabilities"]),
        np.array([numbers[name] for name in names], np.int64),
        class_numbers(served.get("label"), tuple(numbers)),
    )


def label_values(feature: Feature, labels: Any) -> Array:
    """Labels (n,) as the column that is made into cells: numbers, or names.

    A number has one name, whether it comes as an integer, a boolean or a float.
    """
    given = as_labels(labels)
    if given.ndim != 1:
        raise UsageError(f"labels must be (n,); got {given.shape}")
    if feature.kind != "category":
        return as_doubles(given, "labels")
    names = label_names(given, feature.categories)
    named = np.empty(len(names), object)
    named[:] = names
    return named
