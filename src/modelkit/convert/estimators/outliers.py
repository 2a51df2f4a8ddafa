"""Converters of outlier detectors: -1 for rows outside and 1 for those inside, by a score and its offset.

IsolationForest is in isolation.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import minus, over, plus, times
from modelkit.convert.estimators.neighbors import closest
from modelkit.convert.estimators.support import dense, kernels
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, doubles, flat, op
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def detected(scores: Var, offset: Any) -> Answer:
    """What a detector answers by its scores, which are those of rows inside from its offset on."""
    decision = minus(scores, float(np.ravel(offset)[0]))
    return Answer(
        label=_side(decision, least=True),
        decision=decision,
        score_samples=scores,
    )


def _side(decision: Var, *, least: bool) -> Var:
    """1 for rows inside, whose decision is above 0, or at `least` that; -1 for those outside."""
    inside = (op.greater_or_equal if least else op.greater)(
        decision,
        doubles(0.0),
    )
    return op.where(
        inside,
        constant(1, np.int64),
        constant(-1, np.int64),
    )


def support_vectors(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OneClassSVM: a sum of kernels; a row at the very edge is outside."""
    found = kernels(
        estimator,
        columns.matrix(np.float64),
        dense(estimator.support_vectors_),
    )
    weights = doubles(dense(estimator._dual_coef_).T)
    decision = flat(
        op.gemm(
            found,
            weights,
            doubles(estimator._intercept_),
        )
    )
    offset = doubles(float(np.ravel(estimator.offset_)[0]))
    return Answer(
        label=_side(decision, least=False),
        decision=decision,
        score_samples=plus(decision, offset),
    )


def linear(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """SGDOneClassSVM: a product with coefficients."""
    weights = np.atleast_2d(estimator.coef_).T
    offset = np.ravel(estimator.offset_)
    product = op.matmul(
        columns.matrix(np.float64),
        doubles(weights),
    )
    decision = flat(minus(product, offset))
    return Answer(
        label=_side(decision, least=True),
        decision=decision,
        score_samples=plus(decision, float(offset[0])),
    )


def envelope(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """EllipticEnvelope: the distance from the middle by the covariance, with its sign turned."""
    apart = minus(columns.matrix(np.float64), estimator.location_[None])
    precision = doubles(estimator.get_precision())
    products = times(op.matmul(apart, precision), apart)
    squares = op.reduce_sum(
        products,
        constant([1], np.int64),
        keepdims=0,
    )
    return detected(op.neg(squares), estimator.offset_)


def local_factor(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """LocalOutlierFactor of new rows: how much denser it is around the neighbours than around the row."""
    if not estimator.novelty:
        raise ConversionError(
            "LocalOutlierFactor answers new rows with novelty=True alone; fit it so",
            step="LocalOutlierFactor",
        )
    count = estimator.n_neighbors_
    places, distances = closest(
        estimator,
        columns.matrix(np.float64),
        count,
    )
    reach = estimator._distances_fit_X_[:, count - 1]
    reached = op.max(
        [
            distances,
            op.gather(
                doubles(reach),
                places,
            ),
        ]
    )
    around = op.gather(doubles(estimator._lrd), places)  # noqa: SLF001
    ratios = op.reduce_mean(
        over(around, _density(reached)),
        constant([1], np.int64),
        keepdims=0,
    )
    return detected(op.neg(ratios), estimator.offset_)


def _density(reached: Var) -> Var:
    """(n, 1): one over the mean of distances, which the source keeps off 0."""
    mean = op.reduce_mean(
        reached,
        constant([1], np.int64),
        keepdims=1,
    )
    return over(1.0, plus(mean, 1e-10))


ESTIMATORS = {
    "sklearn.OneClassSVM": support_vectors,
    "sklearn.SGDOneClassSVM": linear,
    "sklearn.EllipticEnvelope": envelope,
    "sklearn.LocalOutlierFactor": local_factor,
}
