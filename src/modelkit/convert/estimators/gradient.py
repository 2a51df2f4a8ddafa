"""Converters of GradientBoosting: a first value or a first model, and trees added to it in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.arithmetic import minus, over, plus, times
from modelkit.convert.estimators.forests import forest_of
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    cast,
    column,
    constant,
    doubles,
    flat,
    largest,
    one_column,
    op,
    rank,
    upright,
)
from modelkit.convert.estimators.trees import Forest, sum_from
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

LEAST = float(np.finfo(np.float64).eps)  # from what probability on a logarithm is taken


def boosting(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """GradientBoosting: a first value, and on it each tree times the learning rate."""
    outputs = estimator.n_trees_per_iteration_
    two = hasattr(estimator, "classes_") and outputs == 1
    raw = _boosted(estimator, columns, at, skip=int(two))
    if not hasattr(estimator, "classes_"):
        return Answer(prediction=flat(raw))
    answer = by_scores(raw, two=two)
    if not two:
        return answer
    if estimator.loss == "exponential":
        answer = replace(answer, probabilities=op.softmax(times(raw, 2.0), axis=1))
    # A score of 0 is the second class.
    place = op.arg_max(raw, axis=1, keepdims=0, select_last_index=1)
    return replace(answer, place=place)


def _boosted(estimator: Any, columns: Columns, at: Converting, skip: int) -> Var:
    """(n, skip + outputs): the raw scores, after as many zeros as `skip` says."""
    outputs = estimator.n_trees_per_iteration_
    forest = _boosting_forest(estimator)
    rows = cast(columns.matrix(np.float32), np.float64)
    if not _has_own_start(estimator):
        return sum_from(rows, _first_values(estimator), forest, skip)
    first = _own_start(estimator, columns, at)
    if skip:
        first = times(first, [[0.0, 1.0]])
    return plus(first, sum_from(rows, np.zeros(outputs), forest, skip))


def _boosting_forest(estimator: Any) -> Forest:
    """The trees of all stages, each of which has one for each output."""
    trees = estimator.estimators_.ravel()
    return forest_of(trees, [estimator.learning_rate * each.tree_.value[:, 0] for each in trees])


def _first_values(estimator: Any) -> Array:
    row = np.zeros((1, estimator.n_features_in_), np.float32)
    values: Array = estimator._raw_predict_init(row)[0]  # no public way
    return values


def _has_own_start(estimator: Any) -> bool:
    """Whether a model stands at the start."""
    first = estimator.init_
    return not isinstance(first, str) and not type(first).__name__.startswith("Dummy")


def _own_start(estimator: Any, columns: Columns, at: Converting) -> Var:
    """(n, 1) or (n, classes): what the model at the start gives, as scores. It reads rounded rows.

    Raises ConversionError for a model that computes in float32 since it was fitted on such rows.
    """
    _check_computes_in_float64(estimator)
    rounded = cast(columns.matrix(np.float32), np.float64)
    answer = at.answer(estimator.init_, Columns((rounded,)))
    if not hasattr(estimator, "classes_"):
        said = cast(answer.asked("prediction"), np.float64)
        return said if rank(said) == 2 else upright(said)
    likely = _inside(cast(answer.asked("probabilities"), np.float64))
    if estimator.n_trees_per_iteration_ > 1:
        logs = op.log(likely)
        return minus(logs, op.reduce_mean(logs, constant([1], np.int64), keepdims=1))
    second = one_column(likely, 1)
    score = op.log(over(second, minus(1.0, second)))
    return times(score, 0.5) if estimator.loss == "exponential" else score


def _check_computes_in_float64(estimator: Any) -> None:
    first = estimator.init_
    row = np.zeros((1, estimator.n_features_in_), np.float32)
    ask = first.predict_proba if hasattr(estimator, "classes_") else first.predict
    if np.asarray(ask(row)).dtype == np.float64:
        return
    name = type(estimator).__name__
    raise ConversionError(
        f"{name}(init={type(first).__name__}) cannot be converted, since the first model computes in "
        "float32, which a graph does not repeat; leave init out, give a tree, a forest or a "
        "support vector machine, or use format='joblib'",
        step=name,
    )


def _inside(likely: Var) -> Var:
    return op.clip(likely, doubles(LEAST), doubles(1 - LEAST))


def by_scores(raw: Var, *, two: bool) -> Answer:
    """Label, probabilities and decision from the scores of classes.

    The one score of `two` classes stands beside zeros: the softmax of both is its sigmoid.
    """
    return Answer(
        place=largest(raw),
        probabilities=op.softmax(raw, axis=1),
        decision=column(raw, 1) if two else raw,
    )


ESTIMATORS = {
    "sklearn.GradientBoostingClassifier": boosting,
    "sklearn.GradientBoostingRegressor": boosting,
}
