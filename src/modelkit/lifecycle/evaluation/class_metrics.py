"""The figures of classifiers, as the table of metrics has them; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered, rests_on
from modelkit.lifecycle.evaluation.calibrated import calibration_error_of, calibration_line_of
from modelkit.stats.influence import Measured, Undefined, average_of, matthews_of, ratio_of
from modelkit.stats.intervals import ShareInterval, share_interval

EVEN = 0.5
CLIP = 1e-6  # probabilities are held this far from 0 and 1 before their logarithm is taken
OfMasks = Callable[[Array, Array, Array], Measured]
Measure = Callable[[Answered], Measured]


def predictions_told(answered: Answered) -> Array:
    """The predictions. Raises Undefined where the model gave none."""
    if answered.predicted is None:
        raise Undefined("the model gives no such predictions")
    return answered.predicted


def probabilities_told(answered: Answered) -> Array:
    """The probabilities, (n, C) or (n, L). Raises Undefined where the model gave none."""
    if answered.probabilities is None:
        raise Undefined("the model gives no probabilities")
    return answered.probabilities


def scores_told(answered: Answered) -> Array:
    """What rows are ranked by. Raises Undefined where the model gave nothing for it."""
    if answered.scores is None:
        raise Undefined("the model gives neither scores nor probabilities")
    return answered.scores


def rows_right(answered: Answered) -> Array:
    """1 for each row whose class, or whose labels, are all right; else 0."""
    right = answered.truth == predictions_told(answered)
    if right.ndim == 2:
        right = right.all(axis=1)
    found: Array = right.astype(np.float64)
    return found


def labels_wrong(answered: Answered) -> Array:
    """The share of wrong ones among the labels of each row, (n,). Raises Undefined."""
    wrong: Array = (answered.truth != predictions_told(answered)).mean(axis=1)
    return wrong


def matthews(answered: Answered) -> Measured:
    """See `matthews_of`. Raises Undefined."""
    return matthews_of(answered.truth, predictions_told(answered), answered.weight)


def log_losses(answered: Answered) -> Array:
    """The log loss of each row, (n,); of several labels their mean. Raises Undefined."""
    chosen = np.clip(probabilities_told(answered), CLIP, 1 - CLIP)
    if answered.kind == "multilabel":
        losses = -np.where(answered.truth == 1, np.log(chosen), np.log1p(-chosen))
        found: Array = losses.mean(axis=1)
        return found
    own: Array = -np.log(chosen[np.arange(len(answered)), answered.truth])
    return own


def brier_losses(answered: Answered) -> Array:
    """The squared error of each row's probabilities, (n,); of several labels the mean.

    As scikit-learn has it, that of two classes is half the sum over both. Raises Undefined.
    """
    probabilities = probabilities_told(answered)
    if answered.kind == "multilabel":
        found: Array = np.square(probabilities - answered.truth).mean(axis=1)
        return found
    missed = np.square(probabilities - np.eye(probabilities.shape[1])[answered.truth])
    if answered.kind == "binary":
        return missed[:, 1]
    return np.asarray(missed.sum(axis=1))


def at_worst(answered: Answered) -> Answered:
    """The same rows, had what the model held to be least likely come true. Raises Undefined."""
    probabilities = probabilities_told(answered)
    if answered.kind == "multilabel":
        return replace(answered, truth=(probabilities < EVEN).astype(np.float64))
    return replace(answered, truth=probabilities.argmin(axis=1))


def masks_by_class(answered: Answered) -> Iterator[tuple[Array, Array]]:
    """For each class or label: 1 for rows that have it, and 1 for rows predicted to, (n,)."""
    predicted = predictions_told(answered)
    if answered.kind == "multilabel":
        for k in range(answered.truth.shape[1]):
            yield answered.truth[:, k], predicted[:, k]
        return
    for k in range(len(answered.classes)):
        yield (answered.truth == k).astype(np.float64), (predicted == k).astype(np.float64)


def precision_of(held: Array, told: Array, weight: Array) -> Measured:
    """The share of right rows among those predicted to have a class. Raises Undefined."""
    return ratio_of(held * told, told, weight, "no row is predicted to have the class")


def recall_of(held: Array, told: Array, weight: Array) -> Measured:
    """The share of right rows among those that have a class. Raises Undefined."""
    return ratio_of(held * told, held, weight, "no row has the class")


def f1_of(held: Array, told: Array, weight: Array) -> Measured:
    """The harmonic mean of precision and recall. Raises Undefined."""
    empty = "no row has the class or is predicted to"
    return ratio_of(2 * held * told, held + told, weight, empty)


def class_share(
    name: str, held: Array, told: Array, answered: Answered, level: float
) -> ShareInterval:
    """The "precision", "recall" or "f1" of a class of which there are rows.

    F1 is 2 J / (1 + J), with J the share of right rows among those that have the class or are
    predicted to.

    Args:
        name: of the share.
        held: 1 for rows that have the class, (n,).
        told: 1 for rows that are predicted to, (n,).
        answered: the rows.
        level: of the interval.
    """
    among = {"precision": told, "recall": held, "f1": np.maximum(held, told)}[name] > 0
    rows = answered.at(among)
    share = share_interval((held * told)[among], rows.weight, rows.clusters, level)
    if name != "f1":
        return share
    value, low, high = (2 * end / (1 + end) for end in share[:3])
    return ShareInterval(value, low, high, share.error * (2 / (1 + share.value) ** 2))


def of_positive_class(part: OfMasks) -> Measure:
    """A figure of the positive class of a "binary" task."""

    def measure(answered: Answered) -> Measured:
        masks = list(masks_by_class(answered))[answered.positive]
        return rests_on(part(*masks, answered.weight), answered, masks[0])

    return measure


def over_classes(part: OfMasks) -> Measure:
    """The average over the classes that have the figure."""

    def measure(answered: Answered) -> Measured:
        found = []
        for held, told in masks_by_class(answered):
            try:
                found.append(rests_on(part(held, told, answered.weight), answered, held))
            except Undefined:
                continue
        if not found:
            raise Undefined("no class has the figure")
        return average_of(found)

    return measure


def f1_of_all_labels(answered: Answered) -> Measured:
    """F1 of all labels of all rows together, as if each were a row. Raises Undefined."""
    held = answered.truth
    told = predictions_told(answered)
    empty = "no row has a label or is predicted to"
    above = 2 * (held * told).sum(axis=1)
    return ratio_of(above, (held + told).sum(axis=1), answered.weight, empty)


def rows_held(answered: Answered) -> Array:
    """Whether each row has each class, bool (n, C), or each label, (n, L)."""
    if answered.truth.ndim == 2:
        return np.asarray(answered.truth == 1)
    return np.equal.outer(answered.truth, np.arange(len(answered.classes)))


def _scored(answered: Answered) -> Sequence[int]:
    """The places of the classes over which scores are averaged: of labels those that vary."""
    held = rows_held(answered)[answered.weight > 0]
    if answered.kind != "multilabel":
        return range(held.shape[1])
    varying: list[int] = np.flatnonzero(held.any(axis=0) & ~held.all(axis=0)).tolist()
    if not varying:
        raise Undefined("no label has rows that have it and rows that have not")
    return varying


def of_class_scores(part: OfMasks) -> Measure:
    """Of the scores of a "binary" task; else the average over classes, each against the rest.

    A label that all rows have, or none has, is left out.
    """

    def measure(answered: Answered) -> Measured:
        def of_class(scores: Array, held: Array) -> Measured:
            return rests_on(part(scores, held, answered.weight), answered, held, ~held)

        scores = scores_told(answered)
        if scores.ndim == 1:
            return of_class(scores, answered.positives)
        held = rows_held(answered)
        found = []
        for k in _scored(answered):
            try:
                found.append(of_class(scores[:, k], held[:, k]))
            except Undefined as reason:
                label = answered.classes[k] if answered.classes else k
                raise Undefined(f"of {label!r} {reason}") from None
        return average_of(found)

    return measure


def confidences_of(answered: Answered) -> tuple[Array, Array]:
    """What calibration compares: a probability and whether it came true, 0 or 1; (n,) each.

    Of a "binary" task it is that of the positive class, of a "multiclass" one that of the likeliest.
    Raises Undefined.
    """
    probabilities = probabilities_told(answered)
    if answered.kind == "binary":
        return probabilities[:, answered.positive], answered.positives.astype(np.float64)
    likeliest = probabilities.argmax(axis=1)
    told = probabilities[np.arange(len(answered)), likeliest]
    return told, (answered.truth == likeliest).astype(np.float64)


def calibration_error(answered: Answered) -> Measured:
    """See `calibration_error_of`. Raises Undefined."""
    return calibration_error_of(*confidences_of(answered), answered.weight, answered.clusters)


def calibration_line(which: int) -> Measure:
    """The intercept (0) or the slope (1) of `calibration_line_of`."""

    def measure(answered: Answered) -> Measured:
        told, came = confidences_of(answered)
        return calibration_line_of(np.clip(told, CLIP, 1 - CLIP), came, answered.weight)[which]

    return measure
