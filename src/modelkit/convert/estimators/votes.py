"""Converters of estimators that let several others vote, or that add up what they say.

Sums are made in the order and the precision of the source, and of equal votes the winner is the one
it takes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.forests import forest_of, is_tree, leaves_of, mean
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    alike,
    column_stack,
    converts,
    flat,
    gathered,
    hstack,
    largest,
    likeliest,
    total,
    upright,
)
from modelkit.convert.estimators.trees import sum_of_leaves
from modelkit.errors import ConversionError


@converts("VotingClassifier", "VotingRegressor")
def voting(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """VotingClassifier and VotingRegressor."""
    weights = estimator._weights_not_none  # those of estimators that were not dropped
    parts = estimator.estimators_
    answers = [at.answer(each, columns) for each in parts]
    if not hasattr(estimator, "voting"):
        return Answer(
            prediction=_average([each.required("prediction") for each in answers], weights)
        )
    if estimator.voting == "soft":
        likely = _average([each.required("probabilities") for each in answers], weights)
        return likeliest(likely)
    votes = [_vote(each, answer, estimator) for each, answer in zip(parts, answers, strict=True)]
    if weights is not None:
        votes = [vote * float(weight) for vote, weight in zip(votes, weights, strict=True)]
    return Answer(place=largest(total(votes)))


def _vote(each: Any, answer: Answer, whole: Any) -> Var:
    """(n, classes): 1 for the class of the whole that an estimator of its own classes says."""
    place = gathered(np.asarray(each.classes_, np.int64), answer.required("place"))
    return (upright(place) == [range(len(whole.classes_))]).astype(np.float64)


def _average(parts: list[Var], weights: Any) -> Var:
    """numpy.average over the parts: in float32 where all of them are and all count alike."""
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
        given = hstack([given, columns], sparse=columns.stored is not None)
    return at.answer(estimator.final_estimator_, given)


def _said(each: Any, method: str, answer: Answer) -> Var:
    """What one estimator says, as a matrix."""
    if method != "predict":
        found = answer.required("probabilities" if method == "predict_proba" else "decision")
    elif answer.prediction is not None:
        found = answer.prediction
    else:
        classes = np.asarray(each.classes_)
        if classes.dtype.kind not in "biuf":
            raise ConversionError(
                "labels that are not numbers cannot be stacked; fit it with stack_method='predict_proba'"
            )
        found = gathered(classes.astype(np.float64), answer.required("place"))
    return column_stack([found])


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
    count = estimator.n_estimators
    classes = len(getattr(estimator, "classes_", ()))
    decision = None
    if all(map(is_tree, parts)) and parts[0].n_outputs_ == 1:
        added = _bagged_trees(estimator, columns, classes)
    else:
        chosen = estimator.estimators_features_[: len(parts)]
        answers = [
            at.answer(each, columns.take(list(map(int, places))))
            for each, places in zip(parts, chosen, strict=True)
        ]
        added = total([_bagged(*pair, estimator) for pair in zip(parts, answers, strict=True)])
        every = classes and all(len(each.classes_) == classes for each in parts)
        if every and hasattr(parts[0], "decision_function"):
            said = total([each.required("decision") for each in answers])
            decision = mean(said.astype(np.float64), count)
    middle = mean(added.astype(np.float64), count)
    if classes:
        return likeliest(middle, decision)
    return Answer(prediction=flat(middle) if middle.ndim == 2 else middle)


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
    """The probabilities of the classes an estimator saw, in a table of all classes."""
    whole = np.zeros((len(leaves), classes))
    whole[:, own] = leaves
    return whole


def _bagged(each: Any, answer: Answer, whole: Any) -> Var:
    """What one estimator adds: its prediction, probabilities, or a vote where it has none."""
    if answer.prediction is not None:
        return answer.prediction
    if not hasattr(each, "predict_proba"):
        return _vote(each, answer, whole)
    likely: Var = answer.required("probabilities")
    classes = len(whole.classes_)
    if len(each.classes_) == classes:
        return likely
    own = np.asarray(each.classes_, np.int64)
    return likely.astype(np.float64) @ _spread(np.eye(len(own)), own, classes)


@converts("MultiOutputClassifier", "MultiOutputRegressor")
def several(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """MultiOutputClassifier and MultiOutputRegressor: an estimator for each target."""
    answers = [at.answer(each, columns) for each in estimator.estimators_]
    if answers[0].prediction is None:
        return Answer(several=tuple(answers))
    return Answer(prediction=column_stack([answer.required("prediction") for answer in answers]))
