"""Converters of MLPClassifier, MLPRegressor and BernoulliRBM, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.estimators.rows import note_single, of_doubles, sparse_affine
from modelkit.convert.estimators.tensors import (
    Answer,
    affine,
    beyond_bound,
    flat,
    likeliest,
    logistic,
    relu,
    softmax,
)


@of_doubles("MLPRegressor")
def network(estimator: Any, x: Any) -> Answer:
    """MLPRegressor: layer after layer."""
    found = _layers(estimator, x)
    return Answer(prediction=flat(found) if estimator.n_outputs_ == 1 else found)


@of_doubles("MLPClassifier")
def network_of_classes(estimator: Any, x: Any) -> Answer:
    """MLPClassifier: the likeliest class; of two the second, and of several labels all, above 0.5."""
    likely = _layers(estimator, x)
    if estimator.out_activation_ == "softmax":
        return likeliest(likely)
    return beyond_bound(likely > 0.5, likely, several=estimator.n_outputs_ > 1)


def _layers(estimator: Any, x: Any) -> Any:
    first, *others = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    found = sparse_affine(x, *first)
    for layer in others:
        found = affine(ACTIVATIONS[estimator.activation](found), *layer)
    return ACTIVATIONS[estimator.out_activation_](found)


ACTIVATIONS: dict[str, Any] = {
    "exp": np.exp,
    "identity": lambda x: x,
    "logistic": logistic,
    "relu": relu,
    "softmax": softmax,
    "tanh": np.tanh,
}


@of_doubles("BernoulliRBM")
def hidden_units(estimator: Any, x: Any) -> Any:
    """BernoulliRBM: the probability of each hidden unit."""
    note_single(x, estimator.components_)  # the source rounds rows of float32
    return logistic(affine(x, estimator.components_.T, estimator.intercept_hidden_))
