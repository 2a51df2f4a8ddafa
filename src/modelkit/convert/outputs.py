"""The outputs of a fitted scikit-learn estimator, and the nodes that name and shape them."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array, is_a
from modelkit.convert.asking import asking
from modelkit.convert.boosting import gives_probabilities
from modelkit.convert.source import DECISION
from modelkit.convert.steps import found_by_search, last_step
from modelkit.errors import ConversionError
from modelkit.signature.frames import whole_array


@dataclass(frozen=True)
class Role:
    """One output: its name, and the estimator's verb for it.

    `part` picks one of the arrays of a verb that answers with a list of them. `tail` are the sizes
    after the rows. A graph may lack an output that is `optional`. The numbers of one that is
    `distances` are roots of differences, of which a row at a centre leaves nothing but rounding.
    `strings` is whether a transformer gives them.
    """

    name: str
    verb: str
    tail: tuple[int, ...]
    part: int | None = None
    optional: bool = False
    distances: bool = False
    strings: bool = False


TIMES = (date, timedelta, np.datetime64, np.timedelta64)
LABEL = Role("label", "predict", ())
CLASSIFYING = ("classes_", "predict_proba")
Classes = tuple[Any, ...]
# What labels become, by the kind of their dtype, and by the types of objects.
KEPT_KINDS = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64, "U": np.str_}
KEPT_TYPES = (((bool, np.bool_), np.bool_), ((str,), np.str_), ((int, np.integer), np.int64))


def read_roles(estimator: Any, rows: Any) -> tuple[tuple[Role, ...], Classes | None]:
    """The outputs of an estimator and its classes, found by asking it for `rows`.

    Raises ConversionError.
    """
    from sklearn.base import is_classifier, is_regressor

    # A class of somebody's own may not say that it is one.
    if is_classifier(estimator) or all(hasattr(estimator, name) for name in CLASSIFYING):
        return _classifier(estimator, rows)
    if is_regressor(estimator):
        name = "probability" if gives_probabilities(last_step(estimator)) else "prediction"
        return (Role(name, "predict", _tail(estimator, "predict", rows)),), None
    if hasattr(estimator, "predict"):
        return _grouping(estimator, rows), None
    if hasattr(estimator, "transform"):
        return (_transformed(estimator, rows),), None
    if hasattr(estimator, "score_samples"):
        return (Role("score_samples", "score_samples", ()),), None
    raise _nothing_to_serve(last_step(estimator))


def _refusal(estimator: Any, message: str) -> ConversionError:
    return ConversionError(message, step=type(last_step(estimator)).__name__)


def _transformed(estimator: Any, rows: Any) -> Role:
    """The output of a transformer: numbers or strings.

    Raises ConversionError for one that gives both.
    """
    array = np.asarray(ask(estimator, "transform", rows))
    if array.ndim != 2:
        name = type(estimator).__name__
        raise ConversionError(
            f"{name} gives an array of {array.ndim} dimensions instead of a column for each "
            "number: add reshape(-1, 1)",
            step=name,
        )
    if array.dtype.kind in "mM" or any(isinstance(value, TIMES) for value in array[:1].flat):
        raise _refusal(
            estimator,
            "a transformer that gives columns of times cannot be saved; take numbers of them, such as "
            "Series.dt.hour, or leave them out",
        )
    texts = [at for at in range(array.shape[1]) if _is_text(array[:, at])]
    if texts and len(texts) < array.shape[1]:
        raise _refusal(
            estimator,
            "a transformer that gives columns of numbers and of strings cannot be saved, for an "
            f"output holds one of both; encode its columns {texts[:5]}, or save one transformer for "
            "the numbers and one for the strings",
        )
    return Role("transformed", "transform", array.shape[1:], strings=bool(texts))


def _is_text(column: Array) -> bool:
    return column.dtype.kind == "U" or any(isinstance(value, str) for value in column.tolist())


def _nothing_to_serve(last: Any) -> ConversionError:
    """Why an estimator is refused that answers no new rows, and what to do."""
    name = type(last).__name__
    if getattr(last, "novelty", None) is False:
        fix = "fit it with novelty=True"
    elif hasattr(last, "kneighbors"):
        fix = "use KNeighborsTransformer, or a classifier or regressor of neighbours"
    elif hasattr(last, "fit_predict"):
        fix = (
            "it groups the rows it was fitted on alone; save a classifier that was trained on its "
            "labels_, or use one that groups new rows, such as KMeans"
        )
    elif hasattr(last, "fit_transform"):
        fix = "it places the rows it was fitted on alone; use one that transforms new rows, such as PCA"
    else:
        fix = "put it into a pipeline that ends in a step that has one of them"
    return _refusal(
        last,
        f"{name} has neither predict nor transform for new rows, so there is nothing to serve: {fix}",
    )


def _score_samples(estimator: Any) -> list[Role]:
    """The scores of rows, if an estimator has any beside `decision_function`."""
    if not hasattr(estimator, "score_samples"):
        return []
    return [Role("score_samples", "score_samples", (), optional=True)]


def _grouping(estimator: Any, rows: Any) -> tuple[Role, ...]:
    """The outputs of outlier detectors, clusters and mixtures."""
    from sklearn.base import is_outlier_detector

    if is_outlier_detector(estimator):
        scores = Role("scores", "decision_function", ())
        return LABEL, scores, *_score_samples(estimator)
    for verb, name in (("transform", "transformed"), ("predict_proba", "probabilities")):
        if hasattr(estimator, verb):
            tail = _tail(estimator, verb, rows)
            role = Role(name, verb, tail, distances=verb == "transform")
            return LABEL, role, *_score_samples(estimator)
    found = np.asarray(ask(estimator, "predict", rows))
    name = "prediction" if found.dtype.kind == "f" else "label"
    return (Role(name, "predict", found.shape[1:]),)


def _classifier(estimator: Any, rows: Any) -> tuple[tuple[Role, ...], Classes | None]:
    """The outputs of a classifier and its classes, which are None if it has several labels."""
    width = _tail(estimator, "predict", rows)
    last = last_step(found_by_search(estimator))
    if is_a(last, "lightgbm", "LGBMClassifier") and callable(last.objective_):
        raise _refusal(
            last,
            "LGBMClassifier with an objective of your own answers raw scores in place of labels and "
            "probabilities; save its booster_, whose prediction is this score, or fit it with "
            "objective='binary' or 'multiclass'",
        )
    scores = _answer(estimator, "decision_function", rows)
    likely = _answer(estimator, "predict_proba", rows)
    several = width not in ((), (1,)) or isinstance(estimator.classes_, list)
    label = Role("label", "predict", width) if several else LABEL
    labels = None if several else tuple(class_values(estimator.classes_).tolist())
    if likely is None and scores is None:
        return (label,), labels
    if likely is None:
        tail = np.shape(scores)[1:]
        return (label, Role("scores", "decision_function", tail, optional=True)), labels
    if isinstance(likely, list):
        parts = [
            Role(f"probabilities_{i}", "predict_proba", np.shape(part)[1:], part=i)
            for i, part in enumerate(likely)
        ]
        return (label, *parts), labels
    tail = likely.shape[1:]
    if labels is not None and tail != (len(labels),):
        raise _refusal(
            estimator,
            f"a classifier of {len(labels)} class{'es' if len(labels) > 1 else ''} gives {tail[-1]} "
            "probabilities a row, so they cannot be distinguished; fit it on rows of several classes",
        )
    return (label, Role("probabilities", "predict_proba", tail)), labels


def _answer(estimator: Any, verb: str, rows: Any) -> Any:
    """The answer by a verb, or None for an estimator that has none.

    Some have a verb that fails on all rows, such as GaussianProcessClassifier(multi_class="one_vs_one").
    """
    if hasattr(estimator, verb):
        with suppress(ConversionError):
            return ask(estimator, verb, rows)
    return None


def class_values(classes: Any) -> Array:
    """Classes, or labels, as an array of booleans, int64, float64 or strings.

    Raises ConversionError for those that are of other types, or of several.
    """
    values = np.asarray(classes)
    kept = _kept_as(values)
    if kept is not None:
        return values.astype(kept)
    shown = ", ".join(repr(value) for value in values.ravel()[:3].tolist())
    raise ConversionError(
        f"labels must be all integers, all booleans, all whole floats or all strings, and this classifier's "
        f"are {shown}; turn y into one of these before fit, such as y.astype(str)"
    )


def _kept_as(values: Array) -> Any:
    """The dtype of labels in a package; None where they cannot be in one."""
    if values.dtype.kind != "O":
        return KEPT_KINDS.get(values.dtype.kind)
    held = values.ravel().tolist()
    for types, kept in KEPT_TYPES:
        if all(isinstance(value, types) for value in held):
            return kept
    return None


def ask(estimator: Any, verb: str, rows: Any) -> Any:
    """The answer of one verb, dense; a list where the estimator answers with one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with asking(estimator, verb, rows):
            # With copy=False an estimator may write into its rows.
            answer = getattr(estimator, verb)(rows.copy())
    return whole_array(answer)


def _tail(estimator: Any, verb: str, rows: Any) -> tuple[int, ...]:
    return tuple(np.shape(ask(estimator, verb, rows))[1:])


def truth(estimator: Any, rows: Any, roles: tuple[Role, ...]) -> dict[str, Array]:
    """What the estimator answers, by output name, with the scores that a classifier decides by."""
    verbs = dict.fromkeys(role.verb for role in roles)
    answers = {verb: ask(estimator, verb, rows) for verb in verbs}
    found = {}
    for role in roles:
        answer = answers[role.verb]
        array = np.asarray(answer if role.part is None else answer[role.part])
        if array.shape[1:] == (1,) and role.tail == ():
            array = array[:, 0]
        found[role.name] = array
    if hasattr(last_step(estimator), "contamination"):  # rows lie on its offset: no ties by chance
        return found
    if "scores" in found:
        found[DECISION] = found["scores"]
    elif "label" in found:
        scores = _answer(estimator, "decision_function", rows)
        if scores is not None:
            found[DECISION] = np.asarray(scores)
    return found
