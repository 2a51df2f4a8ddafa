"""Converters of outlier detectors: -1 for rows outside and 1 for those inside, by a score and its offset.

IsolationForest is in forests.py.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.asking import allowed_to_fail
from modelkit.convert.estimators.neighbors import closest
from modelkit.convert.estimators.rounding import between_values
from modelkit.convert.estimators.rows import of_doubles, shown
from modelkit.convert.estimators.support import dense, kernels
from modelkit.convert.estimators.tensors import Answer, affine, flat, gathered, refuse
from modelkit.convert.outputs import ask
from modelkit.errors import ConversionError


def detected(estimator: Any, rows: Any, scores: Any) -> Answer:
    """What a detector answers by its scores: rows with a score from its offset on are inside.

    The offset is often the score of many rows of training.
    """
    offset = float(np.ravel(estimator.offset_)[0])
    apart = between_values(offset, _own_scores(estimator, rows))
    return Answer(label=side(scores - apart >= 0.0), decision=scores - offset, score_samples=scores)


def _own_scores(estimator: Any, rows: Any) -> Array:
    """The scores of rows of the example by the detector itself; none where these are not known."""
    if rows is not None:
        with suppress(ConversionError), allowed_to_fail():
            return np.asarray(ask(estimator, "score_samples", rows), np.float64)
    return np.zeros(0)


def side(inside: Any) -> Any:
    """1 for rows inside, and -1 for those outside."""
    return np.where(inside, 1, -1)


@of_doubles("OneClassSVM")
def support_vectors(estimator: Any, x: Any) -> Answer:
    """OneClassSVM: a sum of kernels; a row at the very edge is outside."""
    found = kernels(estimator, x, dense(estimator.support_vectors_))
    decision = flat(affine(found, dense(estimator._dual_coef_).T, estimator._intercept_))
    return Answer(
        label=side(decision > 0.0),
        decision=decision,
        score_samples=decision + float(np.ravel(estimator.offset_)[0]),
    )


@of_doubles("SGDOneClassSVM")
def linear(estimator: Any, x: Any) -> Answer:
    """SGDOneClassSVM: a product with coefficients."""
    offset = np.ravel(estimator.offset_)
    decision = flat(x @ np.atleast_2d(estimator.coef_).T - offset)
    return Answer(
        label=side(decision >= 0.0), decision=decision, score_samples=decision + float(offset[0])
    )


@of_doubles("EllipticEnvelope")
def envelope(estimator: Any, x: Any) -> Answer:
    """EllipticEnvelope: the distance from the middle by the covariance, with its sign turned."""
    apart = x - estimator.location_
    squares = np.sum(apart @ estimator.get_precision() * apart, axis=1)
    return detected(estimator, shown(x), -squares)


@of_doubles("LocalOutlierFactor")
def local_factor(estimator: Any, x: Any) -> Answer:
    """LocalOutlierFactor of new rows: how much denser it is around the neighbours than around the row."""
    if not estimator.novelty:
        refuse(estimator, " answers new rows with novelty=True alone; fit it so")
    count = estimator.n_neighbors_
    places, distances = closest(estimator, x, count)
    reach = estimator._distances_fit_X_[:, count - 1]
    reached = np.maximum(distances, gathered(reach, places))
    # The source keeps the mean of distances off 0.
    density = 1.0 / (np.mean(reached, axis=1, keepdims=True) + 1e-10)
    ratios = np.mean(gathered(estimator._lrd, places) / density, axis=1)
    return detected(estimator, shown(x), -ratios)
