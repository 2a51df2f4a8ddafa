"""Converters of linear models, in float64: a product with the coefficients, and what a label or probability makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.tensors import Answer, Columns, Var, complement, constant, doubles, flat, largest, op

if TYPE_CHECKING:
    from modelkit.convert.table import Converting


def _scores(estimator: Any, columns: Columns) -> Var:
    weights = np.atleast_2d(estimator.coef_).T
    products = op.matmul(columns.matrix(np.float64), doubles(weights))
    return op.add(products, doubles(np.atleast_1d(estimator.intercept_)))


def regressor(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """Linear regression of any kind whose prediction is the score itself."""
    scores = _scores(estimator, columns)
    return Answer(prediction=flat(scores) if np.ndim(estimator.coef_) == 1 else scores)


def classifier(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """Linear classification: of two classes the second where the score is above 0, of more the largest score."""
    scores = _scores(estimator, columns)
    if len(estimator.classes_) > 2:
        return Answer(place=largest(scores), probabilities=_several(estimator, scores), decision=scores)
    decision = flat(scores)
    place = op.cast(op.greater(decision, constant(0.0)), to=np.int64)
    return Answer(place=place, probabilities=_pair(estimator, scores), decision=decision)


def _pair(estimator: Any, scores: Var) -> Var | None:
    """Probabilities of two classes; a multinomial regression of two is the logistic one of twice the score."""
    if not hasattr(estimator, "predict_proba"):
        return None
    if type(estimator).__name__ == "SGDClassifier":
        return complement(op.sigmoid(scores)) if estimator.loss == "log_loss" else None
    return complement(op.sigmoid(scores))


def _several(estimator: Any, scores: Var) -> Var | None:
    """Probabilities of several classes: a softmax, or the share of each sigmoid where classes stood against the rest."""
    if not hasattr(estimator, "predict_proba"):
        return None
    name = type(estimator).__name__
    if name == "SGDClassifier" or getattr(estimator, "solver", "") == "liblinear" or getattr(estimator, "multi_class", "") == "ovr":
        if name == "SGDClassifier" and estimator.loss != "log_loss":
            return None
        single = op.sigmoid(scores)
        return op.div(single, op.reduce_sum(single, constant([1], np.int64), keepdims=1))
    return op.softmax(scores, axis=1)
