"""Converters of linear models in float64: products with coefficients, and what follows.

The score of two classes stands beside zeros: their softmax is the sigmoid of the score, in one
operator less, and smaller probabilities than a sigmoid keeps; the larger of both is the label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.tensors import (
    Answer,
    Columns,
    Var,
    column,
    constant,
    doubles,
    flat,
    largest,
    op,
)

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting


def regressor(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """Linear regression of any kind whose prediction is the score itself."""
    scores = _scores(
        columns,
        np.atleast_2d(estimator.coef_),
        np.atleast_1d(estimator.intercept_),
    )
    return Answer(prediction=flat(scores) if np.ndim(estimator.coef_) == 1 else scores)


def classifier(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """Linear classification: the largest score; of two classes the second above 0."""
    weights = np.atleast_2d(estimator.coef_)
    shift = np.atleast_1d(estimator.intercept_)
    two = len(estimator.classes_) == 2
    if two and getattr(estimator, "multi_class", "") == "multinomial":
        # The scores are those of both classes.
        weights = 2 * weights
        shift = 2 * shift
    if two:
        weights = np.concatenate([0 * weights, weights])
        shift = np.append(0.0, shift)
    scores = _scores(
        columns,
        weights,
        np.broadcast_to(shift, len(weights)),
    )
    likely = _likely(estimator, scores, two=two)
    decision = column(scores, 1) if two else scores
    return Answer(
        place=largest(scores),
        probabilities=likely,
        decision=decision,
    )


def _scores(
    columns: Columns,
    weights: Array,
    shift: Array,
) -> Var:
    return op.gemm(columns.matrix(np.float64), doubles(weights.T), doubles(shift))


def _likely(
    estimator: Any,
    scores: Var,
    *,
    two: bool,
) -> Var | None:
    if not hasattr(estimator, "predict_proba"):
        return None
    stochastic = type(estimator).__name__ == "SGDClassifier"
    if stochastic and estimator.loss != "log_loss":
        return None
    against_rest = stochastic or "ovr" in (
        getattr(estimator, "multi_class", ""),
        _rule_of(estimator),
    )
    if two or not against_rest:
        return op.softmax(scores, axis=1)
    single = op.sigmoid(scores)
    return op.div(single, op.reduce_sum(single, constant([1], np.int64), keepdims=1))


def _rule_of(estimator: Any) -> str:
    return "ovr" if getattr(estimator, "solver", "") == "liblinear" else ""


ESTIMATORS = {
    "sklearn.LogisticRegression": classifier,
    "sklearn.LogisticRegressionCV": classifier,
    "sklearn.RidgeClassifier": classifier,
    "sklearn.RidgeClassifierCV": classifier,
    "sklearn.SGDClassifier": classifier,
    "sklearn.Perceptron": classifier,
    "sklearn.LinearSVC": classifier,
    "sklearn.LinearRegression": regressor,
    "sklearn.Ridge": regressor,
    "sklearn.RidgeCV": regressor,
    "sklearn.Lasso": regressor,
    "sklearn.LassoCV": regressor,
    "sklearn.ElasticNet": regressor,
    "sklearn.ElasticNetCV": regressor,
    "sklearn.BayesianRidge": regressor,
    "sklearn.HuberRegressor": regressor,
    "sklearn.LinearSVR": regressor,
    "sklearn.SGDRegressor": regressor,
}
