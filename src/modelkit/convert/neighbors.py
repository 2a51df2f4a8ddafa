"""Converters of k nearest neighbours, in float64.

A product of matrices finds a few more candidates than neighbours; the differences themselves, which
a product rounds away near 0, decide among the candidates and give the distances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.leaf import converted_alone
from modelkit.convert.tensors import (
    Answer,
    Columns,
    Var,
    constant,
    doubles,
    flat,
    largest,
    op,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting

SPARE = 8  # candidates more than neighbours: rounding of the product may swap close ones


def classifier(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """KNeighborsClassifier: the share of each class in the weights of the neighbours."""
    if estimator.outputs_2d_:
        raise ConversionError(
            "KNeighborsClassifier cannot be converted with several targets; put "
            "MultiOutputClassifier around one with a single target",
            step="KNeighborsClassifier",
        )
    if not is_known(estimator):
        return converted_alone(estimator, columns, at)
    places, weights = _neighbors(estimator, columns.matrix(np.float64))
    members = np.eye(len(estimator.classes_))[estimator._y.astype(np.int64)]  # noqa: SLF001 - no public way
    votes = _weighted(places, weights, members)
    total = op.reduce_sum(votes, constant([1], np.int64), keepdims=1)
    return Answer(place=largest(votes), probabilities=op.div(votes, total))


def regressor(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """KNeighborsRegressor: the weighted mean of the neighbours' targets."""
    if not is_known(estimator):
        return converted_alone(estimator, columns, at)
    places, weights = _neighbors(estimator, columns.matrix(np.float64))
    targets = np.asarray(estimator._y, np.float64)  # noqa: SLF001 - no public way
    several = targets.ndim == 2
    sums = _weighted(places, weights, targets if several else targets[:, None])
    total = op.reduce_sum(weights, constant([1], np.int64), keepdims=1)
    means = op.div(sums, total)
    return Answer(prediction=means if several else flat(means))


def is_known(estimator: Any) -> bool:
    """Whether distances are Euclidean, rows dense, and weights those of scikit-learn."""
    weights = getattr(estimator, "weights", None)
    named = weights is None or isinstance(weights, str)
    metric = estimator.effective_metric_
    euclidean = metric == "euclidean" and not (estimator.effective_metric_params_ or {}).get("w")
    return named and euclidean and isinstance(estimator._fit_X, np.ndarray)  # noqa: SLF001


def _neighbors(estimator: Any, rows: Var) -> tuple[Var, Var]:
    """The places of the neighbours among the rows of fit, and their weights, (n, k) each."""
    places, squares = nearest(estimator, rows, estimator.n_neighbors)
    if estimator.weights == "distance":
        return places, _inverse(op.sqrt(squares))
    equal = op.greater_or_equal(squares, doubles(0.0))  # of an infinite distance as well
    return places, op.cast(equal, to=np.float64)


def nearest(estimator: Any, rows: Var, count: int) -> tuple[Var, Var]:
    """The places of neighbours among the rows of fit, the nearest first, and their squared distances."""
    known = np.asarray(estimator._fit_X, np.float64)  # noqa: SLF001 - no public way
    candidates = _candidates(rows, known, min(len(known), count + SPARE))
    asked = op.unsqueeze(rows, constant([1], np.int64))
    apart = op.sub(asked, op.gather(doubles(known), candidates))
    squares = op.reduce_sum(op.mul(apart, apart), constant([2], np.int64), keepdims=0)
    smallest, order = op.top_k(squares, constant([count], np.int64), axis=1, largest=0)
    return op.gather_elements(candidates, order, axis=1), smallest


def _candidates(rows: Var, known: Any, count: int) -> Var:
    """The places of the rows of fit that are nearest but for rounding, lower places first."""
    middle = known.mean(axis=0)
    centred = known - middle
    shifted = op.sub(rows, doubles(middle[None]))
    lengths = doubles((centred * centred).sum(axis=1))
    distances = op.gemm(shifted, doubles(-2 * centred.T), lengths)
    _, found = op.top_k(distances, constant([count], np.int64), axis=1, largest=0)
    ordered, _ = op.top_k(found, constant([count], np.int64), axis=1, largest=0)
    return ordered


def _inverse(distances: Var) -> Var:
    """One over each distance; where one is 0, neighbours at 0 weigh 1 and the others nothing."""
    inverse = op.div(doubles(1.0), distances)
    hits = op.cast(op.isinf(inverse), to=np.float64)
    hit = op.reduce_max(hits, constant([1], np.int64), keepdims=1)
    return op.where(op.greater(hit, doubles(0.0)), hits, inverse)


def _weighted(places: Var, weights: Var, values: Any) -> Var:
    """The sum of the values of the neighbours, (n, columns), each times its weight."""
    found = op.gather(doubles(values), places)
    products = op.mul(op.unsqueeze(weights, constant([2], np.int64)), found)
    return op.reduce_sum(products, constant([1], np.int64), keepdims=0)


ESTIMATORS = {
    "sklearn.KNeighborsClassifier": classifier,
    "sklearn.KNeighborsRegressor": regressor,
}
