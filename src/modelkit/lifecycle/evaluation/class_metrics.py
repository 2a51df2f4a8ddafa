"""The figures of classifiers, as the table of metrics has them; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered, rests_on
from modelkit.stats.calibration import calibration_error_of, calibration_line_of
from modelkit.stats.influence import Measured, Undefined, average_of, matthews_of, ratio_of
from modelkit.stats.intervals import ShareInterval, share_interval

EVEN = 0.5
CLIP = 1e-6  # probabilities are held this far from 0 and 1 before their logarithm is taken
EMPTY = {
    "precision": "no row is predicted to have the class",
    "recall": "no row has the class",
    "f1": "no row has the class or is predicted to",
}
OfScores = Callable[[Array, Array, Array], Measured]


def rows_right(answered: Answered) -> Array:
    """1 for each row whose class, or whose labels, are all right; else 0."""
    right = (answered.truth == answered.answers("predicted")).reshape(len(answered), -1)
    return np.asarray(right.all(axis=1), np.float64)


def labels_wrong(answered: Answered) -> Array:
    """The share of wrong ones among the labels of each row, (n,). Raises Undefined."""
    wrong: Array = (answered.truth != answered.answers("predicted")).mean(axis=1)
    return wrong


def matthews(answered: Answered) -> Measured:
    """See `matthews_of`. Raises Undefined."""
    return matthews_of(answered.truth, answered.answers("predicted"), answered.weight)


def log_losses(answered: Answered) -> Array:
    """The log loss of each row, (n,); of several labels their mean. Raises Undefined."""
    chosen = np.clip(answered.answers("probabilities"), CLIP, 1 - CLIP)
    if answered.kind == "multilabel":
        losses = -np.where(answered.truth == 1, np.log(chosen), np.log1p(-chosen))
        return np.asarray(losses.mean(axis=1))
    own: Array = -np.log(chosen[np.arange(len(answered)), answered.truth])
    return own


def brier_losses(answered: Answered) -> Array:
    """The squared error of each row's probabilities, (n,); of several labels the mean.

    As in scikit-learn, two classes count half the sum over both. Raises Undefined.
    """
    probabilities = answered.answers("probabilities")
    if answered.kind == "multilabel":
        return np.asarray(np.square(probabilities - answered.truth).mean(axis=1))
    missed = np.square(probabilities - np.eye(probabilities.shape[1])[answered.truth])
    return missed[:, 1] if answered.kind == "binary" else np.asarray(missed.sum(axis=1))


def at_worst(answered: Answered) -> Answered:
    """The same rows, had what the model held to be least likely come true. Raises Undefined."""
    probabilities = answered.answers("probabilities")
    if answered.kind == "multilabel":
        return replace(answered, truth=(probabilities < EVEN).astype(np.float64))
    return replace(answered, truth=probabilities.argmin(axis=1))


def _masks(answered: Answered) -> tuple[Array, Array]:
    """Of a "binary" task: 1 for rows that are positive, and 1 for rows predicted to be, (n,)."""
    predicted = answered.answers("predicted") == answered.positive
    return answered.positives.astype(np.float64), predicted.astype(np.float64)


def positive_share(name: str, answered: Answered) -> Measured:
    """The "precision", "recall" or "f1" of the positive class of a "binary" task. Raises Undefined."""
    held, predicted = _masks(answered)
    hit = held * predicted
    shares = {
        "precision": (hit, predicted),
        "recall": (hit, held),
        "f1": (2 * hit, held + predicted),
    }
    return rests_on(ratio_of(*shares[name], answered.weight, EMPTY[name]), answered, held)


def positive_interval(name: str, answered: Answered, level: float) -> ShareInterval:
    """The same with its interval, where there are rows of the class.

    F1 is 2 J / (1 + J), with J the share of right rows among those that have the class or are
    predicted to.
    """
    held, predicted = _masks(answered)
    among = {"precision": predicted, "recall": held, "f1": np.maximum(held, predicted)}[name] > 0
    rows = answered.at(among)
    share = share_interval((held * predicted)[among], rows.weight, rows.clusters, level)
    if name != "f1":
        return share
    value, low, high = (2 * end / (1 + end) for end in share[:3])
    return ShareInterval(value, low, high, share.error * (2 / (1 + share.value) ** 2))


def positive_intervals(name: str, answered: Answered, level: float) -> list[ShareInterval]:
    """The share of which a figure of the positive class is made."""
    return [positive_interval(name, answered, level)]


def average_share(name: str, answered: Answered) -> Measured:
    """The average of a share over the classes, or labels, that have it. Raises Undefined."""
    answered.answers("predicted")
    found = []
    for part in answered.by_class():
        with suppress(Undefined):
            found.append(positive_share(name, part))
    if not found:
        raise Undefined("no class has the figure")
    return average_of(found)


def average_intervals(name: str, answered: Answered, level: float) -> list[ShareInterval]:
    """The shares of which such an average is made. Raises Undefined where a class lacks rows."""
    found = []
    for part in answered.by_class():
        if not part.weight[part.positives].any():
            raise Undefined(
                f"no row has the class {part.positive_class!r}, which belongs to the average"
            )
        found.append(positive_interval(name, part, level))
    return found


def f1_of_all_labels(answered: Answered) -> Measured:
    """F1 of all labels of all rows together, as if each were a row. Raises Undefined."""
    held = answered.truth
    predicted = answered.answers("predicted")
    empty = "no row has a label or is predicted to"
    above = 2 * (held * predicted).sum(axis=1)
    return ratio_of(above, (held + predicted).sum(axis=1), answered.weight, empty)


def of_scores(part: OfScores, answered: Answered) -> Measured:
    """A figure of the scores of a "binary" task; else its average over classes against the rest.

    A label that all rows have, or none has, is left out. Raises Undefined.
    """
    scores = answered.answers("scores")
    if answered.kind == "binary":
        held = answered.positives
        return rests_on(part(scores, held, answered.weight), answered, held, ~held)
    parts = answered.by_class()
    found = []
    for each in _varying(parts) if answered.kind == "multilabel" else parts:
        try:
            found.append(of_scores(part, each))
        except Undefined as reason:
            raise Undefined(f"of {each.positive_class!r} {reason}") from None
    if not found:
        raise Undefined("no label has rows that have it and rows that have not")
    return average_of(found)


def _varying(parts: Iterable[Answered]) -> Iterable[Answered]:
    """The labels that some rows have and some have not."""
    for part in parts:
        held = part.positives[part.weight > 0]
        if held.any() and not held.all():
            yield part


def confidences_of(answered: Answered) -> tuple[Array, Array]:
    """What calibration compares: a probability and whether it came true, 0 or 1; (n,) each.

    A "binary" task has the probability of the positive class, a "multiclass" one of the likeliest.
    Raises Undefined.
    """
    probabilities = answered.answers("probabilities")
    if answered.kind == "binary":
        return probabilities[:, answered.positive], answered.positives.astype(np.float64)
    likeliest = probabilities.argmax(axis=1)
    return probabilities.max(axis=1), (answered.truth == likeliest).astype(np.float64)


def calibration_error(answered: Answered) -> Measured:
    """See `calibration_error_of`. Raises Undefined."""
    return calibration_error_of(*confidences_of(answered), answered.weight, answered.clusters)


def calibration_line(part: int, answered: Answered) -> Measured:
    """The intercept, part 0, or the slope, part 1; see `calibration_line_of`. Raises Undefined."""
    predicted, observed = confidences_of(answered)
    clipped = np.clip(predicted, CLIP, 1 - CLIP)
    return calibration_line_of(clipped, observed, answered.weight)[part]
