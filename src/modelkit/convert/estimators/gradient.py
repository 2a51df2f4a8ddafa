"""Converters of GradientBoosting: a first value or a first model, and trees added to it in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.forests import forest_of
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    converts,
    flat,
    largest,
    op,
    refuse,
    softmax,
    upright,
)
from modelkit.convert.estimators.trees import sum_from

LEAST = float(np.finfo(np.float64).eps)  # from what probability on a logarithm is taken


@converts("GradientBoostingClassifier", "GradientBoostingRegressor")
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
        answer = replace(answer, probabilities=softmax(raw * 2.0))
    # A score of 0 is the second class.
    place = op.arg_max(raw, axis=1, keepdims=0, select_last_index=1)
    return replace(answer, place=place)


def _boosted(estimator: Any, columns: Columns, at: Converting, skip: int) -> Var:
    """(n, skip + outputs): the raw scores, after as many zeros as `skip` says."""
    outputs = estimator.n_trees_per_iteration_
    trees = estimator.estimators_.ravel()  # of each round one for each output
    leaves = [estimator.learning_rate * each.tree_.value[:, 0] for each in trees]
    forest = forest_of(trees, leaves)
    rows = columns.matrix(np.float32).astype(np.float64)
    model = estimator.init_
    if isinstance(model, str) or type(model).__name__.startswith("Dummy"):
        row = np.zeros((1, estimator.n_features_in_), np.float32)
        return sum_from(rows, estimator._raw_predict_init(row)[0], forest, skip)  # no public way
    first = _own_start(estimator, columns, at)
    if skip:
        first = first * [[0.0, 1.0]]
    return first + sum_from(rows, np.zeros(outputs), forest, skip)


def _own_start(estimator: Any, columns: Columns, at: Converting) -> Var:
    """(n, 1) or (n, classes): what the model at the start gives, as scores. It reads rounded rows.

    Raises ConversionError for a model that computes in float32 since it was fitted on such rows.
    """
    first = estimator.init_
    row = np.zeros((1, estimator.n_features_in_), np.float32)
    ask = first.predict_proba if hasattr(estimator, "classes_") else first.predict
    if np.asarray(ask(row)).dtype != np.float64:
        refuse(
            estimator,
            f"(init={type(first).__name__}) cannot be converted, since the first model computes in "
            "float32, which a graph does not repeat; leave init out, give a tree, a forest or a "
            "support vector machine, or use format='joblib'",
        )
    rounded = columns.matrix(np.float32).astype(np.float64)
    answer = at.answer(first, Columns((rounded,)))
    if not hasattr(estimator, "classes_"):
        said = answer.required("prediction").astype(np.float64)
        return said if said.ndim == 2 else upright(said)
    likely = np.clip(answer.required("probabilities").astype(np.float64), LEAST, 1 - LEAST)
    if estimator.n_trees_per_iteration_ > 1:
        logs = np.log(likely)
        return logs - np.mean(logs, axis=1, keepdims=True)
    second = likely[:, [1]]
    score = np.log(second / (1.0 - second))
    return score * 0.5 if estimator.loss == "exponential" else score


def by_scores(raw: Var, *, two: bool) -> Answer:
    """Label, probabilities and decision from the scores of classes.

    The one score of `two` classes stands beside zeros: the softmax of both is its sigmoid.
    """
    return Answer(
        place=largest(raw), probabilities=softmax(raw), decision=raw[:, 1] if two else raw
    )
