"""Converters of linear models in float64: products with coefficients, and what follows.

The score of two classes stands beside zeros: their softmax is the sigmoid of the score, in one
operator less, and smaller probabilities than a sigmoid keeps; the larger of both is the label.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.projections import between_classes
from modelkit.convert.estimators.rows import of_doubles, sparse_affine
from modelkit.convert.estimators.tensors import (
    Answer,
    complement,
    flat,
    largest,
    logistic,
    refuse,
    shares,
    softmax,
)

# Options by which each class is scored against all others.
AGAINST_REST = (("loss", "log_loss"), ("multi_class", "ovr"), ("solver", "liblinear"))


def _scores(estimator: Any, x: Any) -> Any:
    weights = _coefficients(estimator)
    return sparse_affine(x, weights.T, np.broadcast_to(estimator.intercept_, len(weights)))


def _regressed(estimator: Any, x: Any) -> Any:
    scores = _scores(estimator, x)
    return flat(scores) if np.ndim(estimator.coef_) == 1 else scores


@of_doubles(
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "Lasso",
    "LassoCV",
    "ElasticNet",
    "ElasticNetCV",
    "MultiTaskLasso",
    "MultiTaskLassoCV",
    "MultiTaskElasticNet",
    "MultiTaskElasticNetCV",
    "Lars",
    "LarsCV",
    "LassoLars",
    "LassoLarsCV",
    "LassoLarsIC",
    "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV",
    "BayesianRidge",
    "ARDRegression",
    "HuberRegressor",
    "TheilSenRegressor",
    "QuantileRegressor",
    "PassiveAggressiveRegressor",
    "LinearSVR",
    "SGDRegressor",
)
def regressor(estimator: Any, x: Any) -> Answer:
    """Linear regression of any kind whose prediction is the score itself."""
    return Answer(prediction=_regressed(estimator, x))


@of_doubles("PoissonRegressor", "GammaRegressor", "TweedieRegressor")
def generalized(estimator: Any, x: Any) -> Answer:
    """Generalized linear regression: the inverse of its link, which is a logarithm or nothing."""
    link = type(estimator._base_loss.link).__name__  # "auto" as what it became
    if link not in LINKS:
        refuse(estimator, f" with a {link} cannot be converted; use link='log' or link='identity'")
    return Answer(prediction=LINKS[link](_regressed(estimator, x)))


LINKS: dict[str, Any] = {"IdentityLink": lambda scores: scores, "LogLink": np.exp}


@of_doubles(
    "LogisticRegression",
    "LogisticRegressionCV",
    "SGDClassifier",
    "Perceptron",
    "PassiveAggressiveClassifier",
    "LinearSVC",
)
def classifier(estimator: Any, x: Any) -> Answer:
    """The largest score; of two classes the second above 0."""
    weights = _coefficients(estimator)
    shift = np.atleast_1d(estimator.intercept_)
    two = len(estimator.classes_) == 2
    if two and getattr(estimator, "multi_class", "") == "multinomial":
        # The scores are those of both classes.
        weights = 2 * weights
        shift = 2 * shift
    if two:
        weights = np.concatenate([0 * weights, weights])
        shift = np.append(0.0, shift)
    scores = sparse_affine(x, weights.T, np.broadcast_to(shift, len(weights)))
    return Answer(
        place=largest(scores),
        probabilities=_likely(estimator, scores, two=two),
        decision=scores[:, 1] if two else scores,
    )


@of_doubles("RidgeClassifier", "RidgeClassifierCV")
def ridge(estimator: Any, x: Any) -> Answer:
    """RidgeClassifier: of several labels, each is there where its score is above 0."""
    binarizer = estimator._label_binarizer  # which its own predict asks
    if not binarizer.y_type_.startswith("multilabel"):
        return classifier(estimator, x)
    scores = _scores(estimator, x)
    return Answer(label=(scores > 0.0).astype(np.int64), decision=scores)


@of_doubles("LinearDiscriminantAnalysis")
def discriminant(estimator: Any, x: Any) -> Answer:
    """LinearDiscriminantAnalysis: a linear classifier, and the directions that part its classes."""
    answer = classifier(estimator, x)
    if estimator.solver == "lsqr":
        return answer
    return replace(answer, table=between_classes(estimator, x))


def _coefficients(estimator: Any) -> Array:
    """(scores, columns): the coefficients, dense where `sparsify` made them sparse."""
    held = estimator.coef_
    return np.atleast_2d(held.toarray() if hasattr(held, "toarray") else held)


def _likely(estimator: Any, scores: Any, *, two: bool) -> Any:
    if not hasattr(estimator, "predict_proba"):
        return None
    if getattr(estimator, "loss", "") == "modified_huber":
        return _by_distance(scores, two=two)
    against_rest = any(getattr(estimator, option, "") == value for option, value in AGAINST_REST)
    return softmax(scores) if two or not against_rest else shares(logistic(scores))


def _by_distance(scores: Any, *, two: bool) -> Any:
    """Scores from -1 to 1 as probabilities from 0 to 1."""
    share = (np.clip(scores, -1.0, 1.0) + 1.0) / 2.0
    return complement(share[:, [1]]) if two else shares(share)
