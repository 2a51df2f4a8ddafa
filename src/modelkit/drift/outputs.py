"""What a model answers, as columns to monitor, and its loss on labelled rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift.cells import as_texts
from modelkit.errors import DriftError
from modelkit.signature import ROLES, Signature

Answers = Mapping[str, Array]


def watched_outputs(signature: Signature) -> tuple[str, ...]:
    """The outputs of a model that are monitored: its label, prediction or embedding, its primary one, probabilities."""
    names = [name for name in signature.output_names if name in ROLES or name == signature.primary]
    return (*names, "probabilities") if signature.has_probabilities else tuple(names)


def name_outputs(scores: Any, known: Collection[str] = ()) -> dict[str, Array]:
    """Outputs by name, as `Model.run` would name them. Raises DriftError for what is none.

    Whether (n, k) numbers are probabilities or an embedding is told by the outputs that are
    `known`, and where these do not tell, by their sums.
    """
    if isinstance(scores, Mapping):
        return {str(name): np.asarray(values) for name, values in scores.items()}
    array = np.asarray(scores)
    if array.ndim == 1:
        return {"prediction" if array.dtype.kind == "f" else "label": array}
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DriftError(
            "scores are predictions or labels (n,), probabilities (n, classes), embeddings (n, "
            "d), or a dict of "
            f"outputs by name; got {array.dtype} {array.shape}"
        )
    if len({"confidence", "embedding"} & set(known)) == 1:
        return {"probabilities" if "confidence" in known else "embedding": array}
    shares = (
        array.shape[1] > 1
        and array.min(initial=0) >= 0
        and np.allclose(array.sum(axis=1), 1, atol=1e-3)
    )
    return {"probabilities" if shares else "embedding": array}


def output_columns(answers: Answers) -> dict[str, Array]:
    """The columns that outputs are monitored by: (n,) each, or (n, d) for an embedding.

    Of probabilities it is the confidence, the largest of a row. Outputs of more dimensions are left
    out.
    """
    columns: dict[str, Array] = {}
    for name, array in answers.items():
        if name == "probabilities" and array.ndim == 2:
            columns["confidence"] = array.max(axis=1) if array.size else np.empty(0, np.float32)
        elif name == "label" and array.ndim == 1:
            columns[name] = np.array(as_texts(array), object)
        elif array.ndim == 1 or (array.ndim == 2 and name == "embedding"):
            columns[name] = array
        elif array.ndim == 2:
            columns |= {f"{name}[{i}]": array[:, i] for i in range(array.shape[1])}
    return columns


@final
@dataclass(frozen=True)
class Baseline:
    """The losses of the reference: how many, their sum and sum of squares; `binary` where each is 0 or 1.

    For predictions of numbers a loss is the absolute error over `scale`, at most 1.
    """

    n: int
    total: float
    squares: float
    binary: bool
    scale: float = 1.0

    @staticmethod
    def of(losses: Array, scale: float = 1.0) -> Baseline:
        """From losses between 0 and 1, (n,)."""
        binary = bool(np.isin(losses, (0, 1)).all())
        return Baseline(
            len(losses), float(losses.sum()), float((losses * losses).sum()), binary, scale
        )

    def joined(self, other: Baseline | None) -> Baseline:
        """That of both references."""
        if other is None or self.scale != other.scale:
            raise DriftError(
                "the profiles scale their losses differently; pass losses= instead of labels="
            )
        sums = (self.n + other.n, self.total + other.total, self.squares + other.squares)
        return Baseline(*sums, self.binary and other.binary, self.scale)


def losses_of(labels: Any, predicted: Any, scale: float = 1.0) -> Array:
    """The loss of each row: 0 or 1 for classes, the absolute error over `scale` for numbers, at most 1.

    Raises DriftError for arrays of different lengths, and for missing values.
    """
    truth, guess = np.asarray(labels), np.asarray(predicted)
    if truth.shape != guess.shape or truth.ndim != 1:
        raise DriftError(f"labels {truth.shape} and predictions {guess.shape} must both be (n,)")
    if guess.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            error = np.abs(doubles(truth, "labels") - guess.astype(np.float64)) / scale
        if np.isnan(error).any():
            raise DriftError("a label or a prediction is missing; leave such rows out")
        found: Array = np.minimum(error, 1.0)
        return found
    if (
        truth.dtype.kind in "biuf"
        and guess.dtype.kind in "biuf"
        and not np.isnan(truth.astype(np.float64)).any()
    ):
        return np.asarray(truth != guess, np.float64)
    left, right = as_texts(truth), as_texts(guess)
    if None in left or None in right:
        raise DriftError("a label or a prediction is missing; leave such rows out")
    return np.array([a != b for a, b in zip(left, right, strict=True)], np.float64)


def check_losses(losses: Any) -> Array:
    """Losses as doubles (n,). Raises DriftError for any that is not between 0 and 1."""
    array = doubles(losses, "losses")
    if array.ndim != 1 or not ((array >= 0) & (array <= 1)).all():
        raise DriftError(
            "losses are (n,) numbers from 0 to 1: divide them by the largest that may occur"
        )
    return array


def doubles(values: Any, what: str) -> Array:
    """Numbers of any kind as doubles. Raises DriftError."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise DriftError(f"{what} are not all numbers: {error}") from error


def predicted_of(answers: Answers, classes: tuple[Any, ...] | None) -> Array:
    """What the model decided: its label or prediction, or the class of the largest probability."""
    for name in ("label", "prediction"):
        if name in answers and answers[name].ndim == 1:
            return answers[name]
    if "probabilities" not in answers or classes is None:
        raise DriftError(
            f"labels need the model's label, prediction or probabilities; there are {list(answers)}"
        )
    names: Array = np.array([str(name) for name in classes], object)
    return np.asarray(names[answers["probabilities"].argmax(axis=1)])


def classes_of(
    answers: Answers, labels: Any, classes: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """The classes that the columns of the probabilities stand for, or None without probabilities.

    Raises DriftError where only the labels can tell, and do not have as many.
    """
    if "probabilities" not in answers:
        return None
    if None in as_texts(np.asarray(labels)):
        raise DriftError("a label is missing; leave such rows out")
    width = answers["probabilities"].shape[1]
    found = tuple(np.unique(np.asarray(labels)).tolist()) if classes is None else classes
    if len(found) != width:
        raise DriftError(
            f"the labels have {len(found)} classes and the probabilities {width} columns; pass "
            "model=, or labels with "
            f"every class"
        )
    return found


def scores_of(probabilities: Array) -> Array:
    """What is calibrated: the probability of the second of two classes (n,), or those of all, (n, classes)."""
    return (probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities).astype(
        np.float64
    )


def error_scale(labels: Any, predicted: Array) -> float:
    """What absolute errors are divided by: twice their 99th percentile."""
    errors = np.abs(doubles(labels, "labels") - predicted.astype(np.float64))
    return float(f"{2 * np.quantile(errors, 0.99):.3g}") or 1.0
