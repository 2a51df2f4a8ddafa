"""Converters of MLPClassifier, MLPRegressor and BernoulliRBM, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import product
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    complement,
    doubles,
    flat,
    largest,
    logistic,
    op,
)

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def network(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """MLPRegressor: layer after layer."""
    found = _layers(estimator, columns, at)
    return Answer(prediction=flat(found) if estimator.n_outputs_ == 1 else found)


def network_of_classes(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """MLPClassifier: the likeliest class; of two the second, and of several labels all, above 0.5."""
    likely = _layers(estimator, columns, at)
    if estimator.out_activation_ == "softmax":
        return Answer(place=largest(likely), probabilities=likely)
    above = (likely > 0.5).astype(np.int64)
    if estimator.n_outputs_ > 1:
        return Answer(label=above, probabilities=likely)
    return Answer(place=flat(above), probabilities=complement(likely))


def _layers(estimator: Any, columns: Columns, at: Converting) -> Var:
    first, *others = zip(estimator.coefs_, estimator.intercepts_, strict=True)
    found = at.product(columns, *first)
    for weights, shift in others:
        hidden = _activated(found, estimator.activation)
        found = product(hidden, weights, shift)
    return _activated(found, estimator.out_activation_)


def _activated(scores: Var, name: str) -> Var:
    if name == "relu":
        return op.relu(scores)
    if name == "tanh":
        return np.tanh(scores)
    if name == "logistic":
        return logistic(scores)
    if name == "softmax":
        return op.softmax(scores, axis=1)
    return np.exp(scores) if name == "exp" else scores


def hidden_units(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """BernoulliRBM: the probability of each hidden unit."""
    at.narrow |= estimator.components_.dtype == np.float32  # the source rounds rows of float32
    scores = op.gemm(
        columns.matrix(np.float64),
        doubles(estimator.components_.T),
        doubles(estimator.intercept_hidden_),
    )
    return Answer(table=Columns((logistic(scores),)))


ESTIMATORS = {
    "sklearn.BernoulliRBM": hidden_units,
    "sklearn.MLPClassifier": network_of_classes,
    "sklearn.MLPRegressor": network,
}
