"""A model's answers: as columns to monitor, as decisions, and as scores to calibrate."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.columns import as_texts, refuse_bytes
from modelkit.errors import UsageError
from modelkit.signature.signature import ROLES, Signature

NamedOutputs = Mapping[str, Array]

MOST_CLASSES = 20  # whose probabilities are monitored one by one
OF_CLASSES = "probabilities"
PER_CLASS = f"{OF_CLASSES}["  # the start of the name of such a column


def watched_outputs(signature: Signature) -> tuple[str, ...]:
    """The outputs of a model that are monitored.

    They are its label, prediction or embedding, its primary output, and its probabilities.
    """
    names = [name for name in signature.output_names if name in ROLES or name == signature.primary]
    if signature.has_probabilities and signature.classes is not None:
        names.append("probabilities")
    return tuple(names)


def class_names(signature: Signature) -> tuple[str, ...]:
    """The names of the classes of a model's probabilities, in their order.

    There are none without these, and where two classes, such as 1 and "1", have one name.
    """
    if signature.classes is None or not signature.has_probabilities:
        return ()
    names = tuple(map(str, signature.classes))
    return names if len(set(names)) == len(names) else ()


def name_outputs(
    scores: Any, known: Collection[str] = (), classes: Sequence[str] = ()
) -> dict[str, Array]:
    """Outputs by name, as `Model.run` would name them.

    Whether (n, k) numbers are probabilities or an embedding is known from the outputs that are
    `known`, and where these do not say, by their sums. A frame has a column for each of the
    `classes`, in any order. Raises UsageError if `scores` has none of these forms.
    """
    if isinstance(scores, Mapping):
        served = {}
        for name, values in scores.items():
            own = classes if name == OF_CLASSES else ()
            served[str(name)] = _array_of(values, own)
        return served
    array = _array_of(scores, classes)
    if array.ndim == 1:
        name = "prediction" if array.dtype.kind == "f" else "label"
    elif array.ndim == 2 and array.dtype.kind in "fiu":
        name = _matrix_name(array, known)
    else:
        raise UsageError(
            "scores are predictions or labels (n,), probabilities (n, classes), embeddings (n, "
            f"d), or a dict of outputs by name; got {array.dtype} {array.shape}"
        )
    return {name: array}


def _array_of(values: Any, classes: Sequence[str]) -> Array:
    """Scores as an array; the columns of a frame in the order of the classes that they are named by."""
    columns = getattr(values, "column_names", getattr(values, "columns", None))
    array = _unmasked(values)
    refuse_bytes(array, "scores")
    if columns is None:
        return array
    found = [str(column).removeprefix(f"{OF_CLASSES}_") for column in columns]
    if not classes or sorted(found) != sorted(classes):
        why = "the profile does not know the names of classes, as one does that has model="
        if classes:
            why = f"the classes of the profile are {list(classes)}"
        raise UsageError(
            f"scores are a frame with the columns {found[:8]}, and {why}: pass an array, with its "
            "columns in the order of the model's"
        )
    return array[:, [found.index(name) for name in classes]]


def _unmasked(values: Any) -> Array:
    """Values as an array, with NaN in place of numbers that are masked, and None of labels."""
    if not np.ma.is_masked(values):
        return np.asarray(values)
    if values.dtype.kind == "f" or values.ndim > 1:
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.array(values.tolist(), object)


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

    For probabilities they are the confidence, the largest of a row, and the probability of each
    class, where there are at most 20; of two classes the second is enough. Outputs of more
    dimensions are left out.
    """
    columns: dict[str, Array] = {}
    for name, array in answers.items():
        if name == "probabilities" and array.ndim == 2:
            empty = np.empty(0, np.float32)
            columns["confidence"] = array.max(axis=1) if array.size else empty
            columns |= _of_classes(array)
        elif name == "label" and array.ndim == 1:
            columns[name] = np.array(as_texts(array), object)
        elif array.ndim == 1 or (array.ndim == 2 and name == "embedding"):
            columns[name] = array
        elif array.ndim == 2:
            for i in range(array.shape[1]):
                columns[f"{name}[{i}]"] = array[:, i]
    return columns


def _of_classes(probabilities: Array) -> dict[str, Array]:
    """The probability of each class, (n,) each, by the number of its column."""
    classes = probabilities.shape[1]
    if classes > MOST_CLASSES:
        return {}
    first = 1 if classes == 2 else 0
    return {f"{PER_CLASS}{i}]": probabilities[:, i] for i in range(first, classes)}


def check_classes(columns: Collection[str], known: Collection[str]) -> None:
    """Raise UsageError for columns of another number of classes than a profile knows."""
    mine = {name for name in known if name.startswith(PER_CLASS)}
    theirs = {name for name in columns if name.startswith(PER_CLASS)}
    if {"confidence"} <= {*known} & {*columns} and mine != theirs:
        classes = max(len(mine), 2) if mine else f"more than {MOST_CLASSES}"
        raise UsageError(f"the profile has {classes} classes; the probabilities are of others")


def predicted_of(answers: NamedOutputs, classes: tuple[Any, ...] | None) -> Array:
    """The model's decisions (n,): labels, predictions, or classes of the largest probability."""
    for name in ("label", "prediction"):
        if name in answers and answers[name].ndim == 1:
            return answers[name]
    if "probabilities" not in answers or classes is None:
        raise UsageError(
            "labels are compared with predictions: pass model=, or scores= with a label, prediction or "
            f"probabilities; there are {list(answers)}"
        )
    names: Array = np.array([str(name) for name in classes], object)
    largest = answers["probabilities"].argmax(axis=1)
    return np.asarray(names[largest])


def classes_of(
    answers: NamedOutputs, labels: Any, classes: tuple[Any, ...] | None
) -> tuple[Any, ...] | None:
    """The classes that the columns of the probabilities stand for, or None without probabilities.

    Raises UsageError where only the labels can tell, and have another number of classes.
    """
    if "probabilities" not in answers:
        return None
    if None in as_texts(np.asarray(labels)):
        raise UsageError("a label is missing; leave such rows out")
    width = answers["probabilities"].shape[1]
    found = classes
    if found is None:
        found = tuple(np.unique(np.asarray(labels)).tolist())
    if len(found) != width:
        raise UsageError(
            f"the labels have {len(found)} classes and the probabilities {width} columns; pass "
            "model=, or labels with every class"
        )
    return found


def scores_of(probabilities: Array) -> Array:
    """The scores that are calibrated, as doubles.

    For two classes they are the probabilities of the second, (n,); for more they are the
    probabilities of all, (n, classes).
    """
    scores = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    return scores.astype(np.float64)


def class_numbers(label: Array | None, classes: tuple[str, ...]) -> Array | None:
    """The number of each row's label among the classes; None where one is not among them."""
    if label is None:
        return None
    at = {name: i for i, name in enumerate(classes)}
    known = [at.get(str(name), -1) for name in as_texts(label)]
    return None if min(known) < 0 else np.array(known)
