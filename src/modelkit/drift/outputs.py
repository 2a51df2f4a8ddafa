"""A model's answers as columns to monitor, and its loss on labelled rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift.columns import as_texts
from modelkit.errors import DriftError
from modelkit.signature import ROLES, Signature

NamedOutputs = Mapping[str, Array]


def watched_outputs(signature: Signature) -> tuple[str, ...]:
    """The outputs of a model that are monitored.

    They are its label, prediction or embedding, its primary output, and its probabilities.
    """
    names = [name for name in signature.output_names if name in ROLES or name == signature.primary]
    if signature.has_probabilities:
        names.append("probabilities")
    return tuple(names)


def name_outputs(scores: Any, known: Collection[str] = ()) -> dict[str, Array]:
    """Outputs by name, as `Model.run` would name them.

    Whether (n, k) numbers are probabilities or an embedding is told by the outputs that are
    `known`, and where these do not tell, by their sums. Raises DriftError if `scores` has none of
    these forms.
    """
    if isinstance(scores, Mapping):
        return {str(name): np.asarray(values) for name, values in scores.items()}
    array = np.asarray(scores)
    if array.ndim == 1:
        name = "prediction" if array.dtype.kind == "f" else "label"
    elif array.ndim == 2 and array.dtype.kind in "fiu":
        name = _matrix_name(array, known)
    else:
        raise DriftError(
            "scores are predictions or labels (n,), probabilities (n, classes), embeddings (n, "
            f"d), or a dict of outputs by name; got {array.dtype} {array.shape}"
        )
    return {name: array}


def _matrix_name(array: Array, known: Collection[str]) -> str:
    of_known = {"confidence", "embedding"} & set(known)
    if len(of_known) == 1:
        return "probabilities" if "confidence" in of_known else "embedding"
    several = array.shape[1] > 1 and array.min(initial=0) >= 0
    if several and np.allclose(array.sum(axis=1), 1, atol=1e-3):
        return "probabilities"
    return "embedding"


def output_columns(answers: NamedOutputs) -> dict[str, Array]:
    """The columns that outputs are monitored by: (n,) each, or (n, d) for an embedding.

    For probabilities it is the confidence, the largest of a row. Outputs of more dimensions are
    left out.
    """
    columns: dict[str, Array] = {}
    for name, array in answers.items():
        if name == "probabilities" and array.ndim == 2:
            empty = np.empty(0, np.float32)
            columns["confidence"] = array.max(axis=1) if array.size else empty
        elif name == "label" and array.ndim == 1:
            columns[name] = np.array(as_texts(array), object)
        elif array.ndim == 1 or (array.ndim == 2 and name == "embedding"):
            columns[name] = array
        elif array.ndim == 2:
            for i in range(array.shape[1]):
                columns[f"{name}[{i}]"] = array[:, i]
    return columns


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

    def joined(self, other: Baseline | None) -> Baseline:
        """The sums of both references. Raises DriftError where their scales differ."""
        if other is None or self.scale != other.scale:
            raise DriftError(
                "the profiles scale their losses differently; pass losses= instead of labels="
            )
        return Baseline(
            n=self.n + other.n,
            total=self.total + other.total,
            squares=self.squares + other.squares,
            binary=self.binary and other.binary,
            scale=self.scale,
        )


def losses_of(labels: Any, predicted: Any, scale: float = 1.0) -> Array:
    """The loss of each row, (n,): 0 or 1 for classes, for numbers the absolute error over `scale`.

    It is at most 1. Raises DriftError for arrays of different lengths, and for missing values.
    """
    truth = np.asarray(labels)
    guess = np.asarray(predicted)
    if truth.shape != guess.shape or truth.ndim != 1:
        raise DriftError(f"labels {truth.shape} and predictions {guess.shape} must both be (n,)")
    if guess.dtype.kind == "f":
        return _distances(truth, guess, scale)
    if _whole_numbers(truth) and _whole_numbers(guess):
        return np.asarray(truth != guess, np.float64)
    left = as_texts(truth)
    right = as_texts(guess)
    if None in left or None in right:
        raise DriftError("a label or a prediction is missing; leave such rows out")
    differ = [a != b for a, b in zip(left, right, strict=True)]
    return np.array(differ, np.float64)


def _distances(truth: Array, guess: Array, scale: float) -> Array:
    with np.errstate(invalid="ignore"):
        error = np.abs(as_doubles(truth, "labels") - guess.astype(np.float64)) / scale
    if np.isnan(error).any():
        raise DriftError("a label or a prediction is missing; leave such rows out")
    found: Array = np.minimum(error, 1.0)
    return found


def _whole_numbers(labels: Array) -> bool:
    """Whether labels are numbers, and none is missing."""
    return labels.dtype.kind in "biuf" and not np.isnan(labels.astype(np.float64)).any()


def check_losses(losses: Any) -> Array:
    """Losses as doubles (n,). Raises DriftError for any that is not between 0 and 1."""
    array = as_doubles(losses, "losses")
    if array.ndim != 1 or not ((array >= 0) & (array <= 1)).all():
        raise DriftError(
            "losses are (n,) numbers from 0 to 1: divide them by the largest that may occur"
        )
    return array


def as_doubles(values: Any, what: str) -> Array:
    """Numbers of any kind as doubles. Raises DriftError for values that are not numbers."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DriftError(f"{what} are not all numbers: {error}") from error


def predicted_of(answers: NamedOutputs, classes: tuple[Any, ...] | None) -> Array:
    """The model's decisions (n,): labels, predictions, or classes of the largest probability."""
    for name in ("label", "prediction"):
        if name in answers and answers[name].ndim == 1:
            return answers[name]
    if "probabilities" not in answers or classes is None:
        raise DriftError(
            f"labels need the model's label, prediction or probabilities; there are {list(answers)}"
        )
    names: Array = np.array([str(name) for name in classes], object)
    largest = answers["probabilities"].argmax(axis=1)
    return np.asarray(names[largest])


def classes_of(
    answers: NamedOutputs, labels: Any, classes: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """The classes that the columns of the probabilities stand for, or None without probabilities.

    Raises DriftError where only the labels can tell, and have another number of classes.
    """
    if "probabilities" not in answers:
        return None
    if None in as_texts(np.asarray(labels)):
        raise DriftError("a label is missing; leave such rows out")
    width = answers["probabilities"].shape[1]
    found = classes
    if found is None:
        found = tuple(np.unique(np.asarray(labels)).tolist())
    if len(found) != width:
        raise DriftError(
            f"the labels have {len(found)} classes and the probabilities {width} columns; pass "
            "model=, or labels with every class"
        )
    return found


def scores_of(probabilities: Array) -> Array:
    """The scores that are calibrated, as doubles.

    For two classes they are the probabilities of the second, (n,); for more those of all,
    (n, classes).
    """
    scores = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return scores.astype(np.float64)


def error_scale(labels: Any, predicted: Array) -> float:
    """The divisor of absolute errors: twice their 99th percentile."""
    errors = np.abs(as_doubles(labels, "labels") - predicted.astype(np.float64))
    scale = 2 * np.quantile(errors, 0.99)
    return float(f"{scale:.3g}") or 1.0
