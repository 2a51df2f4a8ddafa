"""Converters of estimators that let several others vote, or that add up what they say.

Sums are made in the order and the precision of the source, and of equal votes the winner is the one
it takes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.forests import forest_of, is_tree, leaves_of, mean
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    alike,
    beside,
    converts,
    flat,
    gathered,
    joined,
    largest,
    total,
    upright,
)
from modelkit.convert.estimators.trees import sum_of_leaves
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


@converts("VotingClassifier", "VotingRegressor")
def voting(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """VotingClassifier and VotingRegressor."""
    weights = estimator._weights_not_none  # those of estimators that were not dropped
    parts = estimator.estimators_
    if not hasattr(estimator, "voting"):
        said = [at.answer(each, columns).asked("prediction") for each in parts]
        return Answer(prediction=_average(said, weights))
    if estimator.voting == "soft":
        said = [at.answer(each, columns).asked("probabilities") for each in parts]
        likely = _average(said, weights)
        return Answer(place=largest(likely), probabilities=likely)
    return Answer(place=largest(_votes(estimator, columns, at)))


def _votes(estimator: Any, columns: Columns, at: Converting) -> Var:
    """(n, classes): the weights of the estimators that say each class."""
    weights = estimator._weights_not_none  # as above
    votes = []
    for number, each in enumerate(estimator.estimators_):
        place = at.place(each, columns, np.asarray(each.classes_))
        vote = (upright(place) == [range(len(estimator.classes_))]).astype(np.float64)
        votes.append(vote if weights is None else vote * float(weights[number]))
    return total(votes)


def _average(parts: list[Var], weights: Any) -> Var:
    """numpy.average over the parts: in float32 where all of them are and there are no weights."""
    same = alike(parts)
    if weights is None:
        return total(same) / float(len(same))
    given = np.asarray(weights)
    wide = [part.astype(np.result_type(part.dtype, given.dtype)) for part in same]
    dtype = wide[0].dtype
    weighed = [part * weight.astype(dtype) for part, weight in zip(wide, given, strict=True)]
    return total(weighed) / given.sum(dtype=dtype)


@converts("StackingClassifier", "StackingRegressor")
def stacking(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """StackingClassifier and StackingRegressor: the last estimator reads what the others say."""
    parts: list[Var] = []
    for each, method in zip(estimator.estimators_, estimator.stack_method_, strict=True):
        said = _said(each, method, at.answer(each, columns))
        two = method == "predict_proba" and len(estimator.classes_) == 2
        parts.append(said[:, [1]] if two else said)
    given = Columns(tuple(parts))
    if estimator.passthrough:
        given = beside([given, columns], sparse=columns.stored is not None)
    return at.answer(estimator.final_estimator_, given)


def _said(each: Any, method: str, answer: Answer) -> Var:
    """What one estimator says, as a matrix."""
    if method == "predict_proba":
        likely: Var = answer.asked("probabilities")
        return likely
    if method == "decision_function":
        said: Var = answer.asked("decision")
    elif answer.prediction is not None:
        said = answer.prediction
    else:
        classes = np.asarray(each.classes_)
        if classes.dtype.kind not in "biuf":
            raise ConversionError(
                "labels that are not numbers cannot be stacked; fit it with stack_method='predict_proba'"
            )
        said = gathered(classes.astype(np.float64), answer.asked("place"))
    return said if said.ndim == 2 else upright(said)


@converts(
    "BaggingClassifier",
    "BaggingRegressor",
    "imblearn.BalancedBaggingClassifier",
    "imblearn.EasyEnsembleClassifier",
)
def bagging(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """BaggingClassifier and BaggingRegressor: a mean of estimators over some columns each."""
    columns = replace(columns, ask=columns.array)
    parts = estimator.estimators_
    features = estimator.estimators_features_[: len(parts)]
    classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 0
    if all(map(is_tree, parts)) and parts[0].n_outputs_ == 1:
        added = _bagged_trees(estimator, columns, classes)
    else:
        said = []
        for each, chosen in zip(parts, features, strict=True):
            given = columns.take([int(place) for place in chosen])
            said.append(_bagged(each, given, classes, at))
        added = total(said)
    middle = mean(added.astype(np.float64), estimator.n_estimators)
    if classes:
        return Answer(
            place=largest(middle),
            probabilities=middle,
            decision=_mean_decision(estimator, columns, at),
        )
    return Answer(prediction=flat(middle) if middle.ndim == 2 else middle)


def _mean_decision(estimator: Any, columns: Columns, at: Converting) -> Var | None:
    """The mean of the decisions of estimators that have some and saw all classes."""
    parts = estimator.estimators_
    if not hasattr(parts[0], "decision_function"):
        return None
    said = []
    features = estimator.estimators_features_[: len(parts)]
    for each, chosen in zip(parts, features, strict=True):
        if len(each.classes_) < len(estimator.classes_):
            return None
        given = columns.take([int(place) for place in chosen])
        said.append(at.answer(each, given).asked("decision"))
    return mean(total(said).astype(np.float64), estimator.n_estimators)


def _bagged_trees(estimator: Any, columns: Columns, classes: int) -> Var:
    """The sum of what trees say, each of which may see some of the columns."""
    parts = estimator.estimators_
    values = [leaves_of(each) for each in parts]
    if classes:
        values = [
            _spread(leaves, np.asarray(each.classes_, np.int64), classes)
            for each, leaves in zip(parts, values, strict=True)
        ]
    forest = forest_of(parts, values, estimator.estimators_features_)
    return sum_of_leaves(columns.matrix(np.float32), forest)


def _spread(leaves: Array, own: Array, classes: int) -> Array:
    """Probabilities of the classes an estimator saw, among those of all."""
    whole = np.zeros((len(leaves), classes))
    whole[:, own] = leaves
    return whole


def _bagged(each: Any, columns: Columns, classes: int, at: Converting) -> Var:
    """What one estimator adds: its prediction, probabilities, or a vote where it has none."""
    answer = at.answer(each, columns)
    if not classes:
        prediction: Var = answer.asked("prediction")
        return prediction
    own = np.asarray(each.classes_, np.int64)
    if not hasattr(each, "predict_proba"):
        return _vote(answer, own, classes)
    likely: Var = answer.asked("probabilities")
    if len(own) == classes:
        return likely
    spread = _spread(np.eye(len(own)), own, classes)
    return likely.astype(np.float64) @ spread


def _vote(answer: Answer, own: Array, classes: int) -> Var:
    """(n, classes): 1 for the class that an estimator of its own classes says."""
    vote = gathered(own, answer.asked("place"))
    same = upright(vote) == [range(classes)]
    return same.astype(np.float64)


@converts("MultiOutputClassifier", "MultiOutputRegressor")
def several(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """MultiOutputClassifier and MultiOutputRegressor: an estimator for each target."""
    answers = [at.answer(each, columns) for each in estimator.estimators_]
    if answers[0].prediction is None:
        return Answer(several=tuple(answers))
    return Answer(prediction=joined([upright(answer.asked("prediction")) for answer in answers]))
