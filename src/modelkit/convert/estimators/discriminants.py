"""Converters of classifiers by distance from the mean of each class, in float64.

The differences from all means stand in one tensor, (classes, n, columns).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.tensors import Answer, largest, softmax, squares


@of_doubles("QuadraticDiscriminantAnalysis")
def quadratic(estimator: Any, x: Any) -> Answer:
    """QuadraticDiscriminantAnalysis: distances along the axes of each class."""
    axes = [
        turned * scale**-0.5
        for turned, scale in zip(estimator.rotations_, estimator.scalings_, strict=True)
    ]
    along = differences(x, estimator.means_) @ _as_wide_as_each_other(axes)
    sizes = [0.5 * np.log(scale).sum() for scale in estimator.scalings_]
    shift = np.log(estimator.priors_) - sizes
    return _discriminated(squares(along, 2) * -0.5 + shift[:, None])


def differences(x: Any, means: Any) -> Any:
    """(classes, n, columns): how far each row is from each mean."""
    return x - np.asarray(means, np.float64)[:, None]


def _as_wide_as_each_other(axes: list[Array]) -> Array:
    """Matrices of different widths as one array, filled up with zeros."""
    most = max(matrix.shape[1] for matrix in axes)
    return np.stack([np.pad(matrix, ((0, 0), (0, most - matrix.shape[1]))) for matrix in axes])


def _discriminated(by_class: Any) -> Answer:
    """Label, probabilities and decision from scores, (classes, n)."""
    scores = by_class.T
    two = scores.shape[1] == 2
    return Answer(
        place=largest(scores),
        probabilities=softmax(scores),
        decision=scores[:, 1] - scores[:, 0] if two else scores,
    )


@of_doubles("NearestCentroid")
def nearest_centroid(estimator: Any, x: Any) -> Answer:
    """NearestCentroid: the class with the nearest centroid, or the largest score where priors differ."""
    centroids = np.asarray(estimator.centroids_, np.float64)
    priors = getattr(estimator, "class_prior_", np.full(len(centroids), 1 / len(centroids)))
    scored = _discriminated(_scores_of_centroids(estimator, x, centroids, priors))
    place = scored.place
    if np.isclose(priors, 1 / len(priors)).all():
        place = np.argmin(_sizes(estimator, differences(x, centroids)), axis=0)
    if not hasattr(estimator, "predict_proba"):
        return Answer(place=place)
    return Answer(place=place, probabilities=scored.probabilities, decision=scored.decision)


def _scores_of_centroids(estimator: Any, x: Any, centroids: Array, priors: Array) -> Any:
    """(classes, n): minus squared distances in units of the spread of each column, and log priors."""
    spread = np.asarray(estimator.within_class_std_dev_, np.float64)
    spread = np.where(spread == 0, 1.0, spread)
    sizes = _sizes(estimator, differences(x / spread, centroids / spread))
    if estimator.metric != "euclidean":
        sizes = sizes * sizes
    with np.errstate(divide="ignore"):
        shift = 2.0 * np.log(priors)
    return shift[:, None] - sizes


def _sizes(estimator: Any, apart: Any) -> Any:
    """(classes, n): squared distances where they are Euclidean, and sums of sizes where not."""
    return squares(apart, 2) if estimator.metric == "euclidean" else np.sum(np.abs(apart), axis=2)
