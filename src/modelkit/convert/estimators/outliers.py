"""Converters of outlier detectors: -1 for rows outside and 1 for those inside, by a score and its offset.

IsolationForest is in isolation.py.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.asking import allowed_to_fail
from modelkit.convert.estimators.neighbors import closest
from modelkit.convert.estimators.rounding import between_values
from modelkit.convert.estimators.support import dense, kernels
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, doubles, flat, op
from modelkit.convert.outputs import ask
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def detected(estimator: Any, columns: Columns, at: Converting, scores: Var) -> Answer:
    """What a detector answers by its scores, which are those of rows inside from its offset on.

    The offset is often the score of many rows of training.
    """
    offset = float(np.ravel(estimator.offset_)[0])
    apart = between_values(offset, _own_scores(estimator, columns.table()))
    return Answer(
        label=side(scores - apart, least=True), decision=scores - offset, score_samples=scores
    )


def _own_scores(estimator: Any, rows: Any) -> Array:
    """The scores of rows of the example by the detector itself; none where these are not known."""
    if rows is not None:
        with suppress(ConversionError), allowed_to_fail():
            return np.asarray(ask(estimator, "score_samples", rows), np.float64)
    return np.zeros(0)


def side(decision: Var, *, least: bool) -> Var:
    """1 for rows inside, whose decision is above 0, or at `least` that; -1 for those outside."""
    inside = (op.greater_or_equal if least else op.greater)(decision, doubles(0.0))
    return np.where(inside, constant(1, np.int64), constant(-1, np.int64))


def support_vectors(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OneClassSVM: a sum of kernels; a row at the very edge is outside."""
    found = kernels(estimator, columns.matrix(np.float64), dense(estimator.support_vectors_))
    weights = doubles(dense(estimator._dual_coef_).T)
    decision = flat(op.gemm(found, weights, doubles(estimator._intercept_)))
    offset = doubles(float(np.ravel(estimator.offset_)[0]))
    return Answer(
        label=side(decision, least=False), decision=decision, score_samples=decision + offset
    )


def linear(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """SGDOneClassSVM: a product with coefficients."""
    weights = np.atleast_2d(estimator.coef_).T
    offset = np.ravel(estimator.offset_)
    product = columns.matrix(np.float64) @ weights
    decision = flat(product - offset)
    return Answer(
        label=side(decision, least=True),
        decision=decision,
        score_samples=decision + float(offset[0]),
    )


def envelope(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """EllipticEnvelope: the distance from the middle by the covariance, with its sign turned."""
    apart = columns.matrix(np.float64) - estimator.location_[None]
    precision = doubles(estimator.get_precision())
    products = apart @ precision * apart
    squares = np.sum(products, axis=1)
    return detected(estimator, columns, at, -squares)


def local_factor(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """LocalOutlierFactor of new rows: how much denser it is around the neighbours than around the row."""
    if not estimator.novelty:
        raise ConversionError(
            "LocalOutlierFactor answers new rows with novelty=True alone; fit it so",
            step="LocalOutlierFactor",
        )
    count = estimator.n_neighbors_
    places, distances = closest(estimator, columns.matrix(np.float64), count)
    reach = estimator._distances_fit_X_[:, count - 1]
    reached = np.maximum(distances, op.gather(doubles(reach), places))
    around = op.gather(doubles(estimator._lrd), places)
    ratios = np.mean(around / _density(reached), axis=1)
    return detected(estimator, columns, at, -ratios)


def _density(reached: Var) -> Var:
    """(n, 1): one over the mean of distances, which the source keeps off 0."""
    mean = np.mean(reached, axis=1, keepdims=True)
    return 1.0 / (mean + 1e-10)


ESTIMATORS = {
    "sklearn.OneClassSVM": support_vectors,
    "sklearn.SGDOneClassSVM": linear,
    "sklearn.EllipticEnvelope": envelope,
    "sklearn.LocalOutlierFactor": local_factor,
}
