"""The outputs of a fitted scikit-learn estimator, and the nodes that name and shape them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.boosting import gives_probabilities
from modelkit.convert.estimators import last_step
from modelkit.convert.source import DECISION
from modelkit.errors import ConversionError


@dataclass(frozen=True)
class Role:
    """One output: its name, and the estimator's verb for it.

    `part` picks one of the arrays of a verb that answers with a list of them. `tail` are the sizes
    after the rows.
    """

    name: str
    verb: str
    tail: tuple[int, ...]
    part: int | None = None


LABEL = Role("label", "predict", ())
Classes = tuple[Any, ...]


def read_roles(estimator: Any, rows: Any) -> tuple[tuple[Role, ...], Classes | None]:
    """The outputs of an estimator and its classes, found by asking it for `rows`.

    Raises ConversionError.
    """
    from sklearn.base import is_classifier, is_outlier_detector, is_regressor

    if is_classifier(estimator):
        return _classifier(estimator, rows)
    if is_regressor(estimator):
        name = "probability" if gives_probabilities(last_step(estimator)) else "prediction"
        return (Role(name, "predict", _tail(estimator, "predict", rows)),), None
    if is_outlier_detector(estimator):
        return (LABEL, Role("scores", "decision_function", ())), None
    if hasattr(estimator, "predict"):
        return _grouping(estimator, rows), None
    if hasattr(estimator, "transform"):
        return (Role("transformed", "transform", _tail(estimator, "transform", rows)),), None
    raise ConversionError(
        f"{type(estimator).__name__} has neither predict nor transform for new rows, so there is "
        "nothing to serve",
        step=type(estimator).__name__,
    )


def _grouping(estimator: Any, rows: Any) -> tuple[Role, ...]:
    """The outputs of clusters and mixtures."""
    for verb, name in (("transform", "transformed"), ("predict_proba", "probabilities")):
        if hasattr(estimator, verb):
            return LABEL, Role(name, verb, _tail(estimator, verb, rows))
    floats = np.asarray(ask(estimator, "predict", rows)).dtype.kind == "f"
    name = "prediction" if floats else "label"
    return (Role(name, "predict", _tail(estimator, "predict", rows)),)


def _classifier(estimator: Any, rows: Any) -> tuple[tuple[Role, ...], Classes | None]:
    """The outputs of a classifier and its classes, which are None if it has several labels."""
    probabilities = None
    if hasattr(estimator, "predict_proba"):
        probabilities = ask(estimator, "predict_proba", rows)
    width = _tail(estimator, "predict", rows)
    if width not in ((), (1,)):
        return (Role("label", "predict", width), *_by_target(probabilities)), None
    if np.asarray(estimator.classes_).dtype.kind not in "biuUO":
        raise ConversionError(
            "a classifier's labels must be one column of integers, booleans or strings"
        )
    labels = tuple(np.asarray(estimator.classes_).tolist())
    if not all(type(label) in (int, bool, str) for label in labels):
        raise ConversionError(f"labels must be integers, booleans or strings, got {labels[:5]}")
    if probabilities is None:
        return (LABEL,), labels
    return (LABEL, Role("probabilities", "predict_proba", (len(labels),))), labels


def _by_target(probabilities: Any) -> list[Role]:
    """The probabilities of a classifier with several labels a row: one output a target, or one."""
    if probabilities is None:
        return []
    if not isinstance(probabilities, list):
        return [Role("probabilities", "predict_proba", probabilities.shape[1:])]
    return [
        Role(f"probabilities_{i}", "predict_proba", np.shape(part)[1:], part=i)
        for i, part in enumerate(probabilities)
    ]


def ask(
    estimator: Any,
    verb: str,
    rows: Any,
) -> Any:
    """The answer of one verb, dense; a list where the estimator answers with one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = getattr(estimator, verb)(rows.copy())  # one with copy=False writes into its rows
    return answer.toarray() if hasattr(answer, "toarray") else answer


def _tail(
    estimator: Any,
    verb: str,
    rows: Any,
) -> tuple[int, ...]:
    return tuple(np.shape(ask(estimator, verb, rows))[1:])


def truth(
    estimator: Any,
    rows: Any,
    roles: tuple[Role, ...],
) -> dict[str, Array]:
    """What the estimator answers, by output name, with the scores that a classifier decides by."""
    answers: dict[str, Any] = {}
    found = {}
    for role in roles:
        if role.verb not in answers:
            answers[role.verb] = ask(
                estimator,
                role.verb,
                rows,
            )
        answer = answers[role.verb]
        array = np.asarray(answer if role.part is None else answer[role.part])
        if array.shape[1:] == (1,) and role.tail == ():
            array = array[:, 0]
        found[role.name] = array
    if "label" in found and hasattr(estimator, "decision_function"):
        found[DECISION] = np.asarray(ask(estimator, "decision_function", rows))
    return found
