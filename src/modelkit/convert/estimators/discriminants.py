"""Converters of classifiers by distance from the mean of each class, in float64.

The differences from all means stand in one tensor, (classes, n, columns).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, largest, op

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

LAST = [2]  # the axis of columns among (classes, n, columns)


def quadratic(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """QuadraticDiscriminantAnalysis: distances along the axes of each class."""
    means = np.asarray(estimator.means_, np.float64)
    axes = [
        turned * scale**-0.5
        for turned, scale in zip(estimator.rotations_, estimator.scalings_, strict=True)
    ]
    apart = differences(columns, means)
    along = apart @ _as_wide_as_each_other(axes)
    squares = op.reduce_sum_square(along, constant(LAST, np.int64), keepdims=0)
    sizes = [0.5 * np.log(scale).sum() for scale in estimator.scalings_]
    shift = np.log(estimator.priors_) - sizes
    halved = squares * -0.5
    return _discriminated(halved + shift[:, None], len(means))


def differences(columns: Columns, means: Array) -> Var:
    """(classes, n, columns): how far each row is from each mean."""
    return columns.matrix(np.float64) - means[:, None]


def _as_wide_as_each_other(axes: list[Array]) -> Array:
    """Matrices of different widths as one array, filled up with zeros."""
    most = max(matrix.shape[1] for matrix in axes)
    whole = np.zeros((len(axes), len(axes[0]), most))
    for place, matrix in enumerate(axes):
        whole[place, :, : matrix.shape[1]] = matrix
    return whole


def _discriminated(by_class: Var, classes: int) -> Answer:
    """Label, probabilities and decision from scores, (classes, n)."""
    scores = by_class.T
    return Answer(
        place=largest(scores),
        probabilities=op.softmax(scores, axis=1),
        decision=scores[:, 1] - scores[:, 0] if classes == 2 else scores,
    )


def nearest_centroid(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """NearestCentroid: the class with the nearest centroid, or the largest score where priors differ."""
    centroids = np.asarray(estimator.centroids_, np.float64)
    priors = getattr(estimator, "class_prior_", np.full(len(centroids), 1 / len(centroids)))
    scores = _scores_of_centroids(estimator, columns, centroids, priors)
    scored = _discriminated(scores, len(centroids))
    place = scored.asked("place")
    if np.isclose(priors, 1 / len(priors)).all():
        apart = _sizes(estimator, differences(columns, centroids))
        place = np.argmin(apart, axis=0)
    if not hasattr(estimator, "predict_proba"):
        return Answer(place=place)
    return Answer(place=place, probabilities=scored.probabilities, decision=scored.decision)


def _scores_of_centroids(estimator: Any, columns: Columns, centroids: Array, priors: Array) -> Var:
    """(classes, n): minus squared distances in units of the spread of each column, and log priors."""
    spread = np.asarray(estimator.within_class_std_dev_, np.float64)
    spread = np.where(spread == 0, 1.0, spread)
    scaled = columns.matrix(np.float64) / spread[None]
    apart = scaled - (centroids / spread)[:, None]
    sizes = _sizes(estimator, apart)
    if estimator.metric != "euclidean":
        sizes = sizes * sizes
    with np.errstate(divide="ignore"):
        shift = 2.0 * np.log(priors)
    return shift[:, None] - sizes


def _sizes(estimator: Any, apart: Var) -> Var:
    """(classes, n): squared distances where they are Euclidean, and sums of sizes where not."""
    axis = constant(LAST, np.int64)
    if estimator.metric == "euclidean":
        return op.reduce_sum_square(apart, axis, keepdims=0)
    return op.reduce_l1(apart, axis, keepdims=0)


ESTIMATORS = {
    "sklearn.QuadraticDiscriminantAnalysis": quadratic,
    "sklearn.NearestCentroid": nearest_centroid,
}
