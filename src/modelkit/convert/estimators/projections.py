"""Converters of transformers that are one product with a matrix, in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import product
from modelkit.convert.estimators.scaling import one_table, shifted
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    constant,
    flat,
    joined,
    op,
    upright,
    width,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def principal(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """PCA and IncrementalPCA: on the components, the mean off, each over its deviation if asked.

    What is made of the model alone is made in its own dtype, as in the source.
    """
    weights = estimator.components_.T
    shift = -(estimator.mean_ @ weights)
    if estimator.whiten:
        deviations = np.sqrt(estimator.explained_variance_)
        least = np.finfo(deviations.dtype).eps
        scale = np.maximum(deviations, least).astype(np.float64)
        weights = weights / scale
        shift = shift / scale
    return one_table(product(columns.matrix(np.float64), weights, shift))


def components(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """TruncatedSVD, random projections, neighbourhood components: on the components."""
    weights = estimator.components_
    if hasattr(weights, "toarray"):
        weights = weights.toarray()
    return one_table(columns.matrix(np.float64) @ weights.T)


def independent(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """FastICA: on the components, the mean off where it whitens."""
    mean = estimator.mean_ if estimator.whiten else None
    rows = shifted(columns.matrix(np.float64), mean, None)
    return one_table(rows @ estimator.components_.T)


def factors(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """FactorAnalysis: the mean of the latent variables, given a row."""
    rows = shifted(columns.matrix(np.float64), estimator.mean_, None)
    loadings = estimator.components_ / estimator.noise_variance_
    count = len(estimator.components_)
    covariance = np.linalg.inv(np.eye(count) + loadings @ estimator.components_.T)
    return one_table(rows @ (loadings.T @ covariance))


def between_classes(estimator: Any, rows: Var) -> Var:
    """LinearDiscriminantAnalysis as a transformer: rows on the axes between its classes."""
    axes = np.asarray(estimator.scalings_, np.float64)
    axes = axes[:, : estimator._max_components]  # no public way
    centre = estimator.xbar_ if estimator.solver == "svd" else None
    return shifted(rows, centre, None) @ axes


def partial_squares(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """PLSRegression, PLSCanonical, CCA: the scores of the rows, and the prediction."""
    given = columns.matrix(np.float64)
    rows = given - estimator._x_mean  # no public way
    deviations = estimator._x_std[:, None]
    scores = rows @ (estimator.x_rotations_ / deviations)
    found = product(rows, estimator.coef_.T, estimator.intercept_)
    one = estimator._predict_1d
    return Answer(table=Columns((scores,)), prediction=flat(found) if one else found)


def covariant(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """PLSSVD: the scores of the rows."""
    rows = columns.matrix(np.float64) - estimator._x_mean
    deviations = estimator._x_std[:, None]
    return one_table(rows @ (estimator.x_weights_ / deviations))


def agglomerated(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """FeatureAgglomeration: the mean, largest, smallest or sum of the columns of each group."""
    rows = columns.matrix(np.float64)
    labels = np.asarray(estimator.labels_)
    pooling = estimator.pooling_func
    if pooling is np.mean:
        member = labels[:, None] == np.unique(labels)
        added = rows @ member.astype(np.float64)
        return one_table(added / member.sum(axis=0))
    if pooling not in POOLINGS:
        name = getattr(pooling, "__name__", str(pooling))
        raise ConversionError(
            f"FeatureAgglomeration(pooling_func={name}) cannot be converted; use numpy.mean, "
            "numpy.max, numpy.min, numpy.sum or numpy.median, or format='joblib'",
            step="FeatureAgglomeration",
        )
    parts = []
    for group in np.unique(labels):
        own = np.take(rows, np.flatnonzero(labels == group), axis=1)
        parts.append(POOLINGS[pooling](own))
    return one_table(joined(parts))


def _largest(group: Var) -> Var:
    return np.max(group, axis=1, keepdims=True)


def _smallest(group: Var) -> Var:
    return np.min(group, axis=1, keepdims=True)


def _sum(group: Var) -> Var:
    return np.sum(group, axis=1, keepdims=True)


def _median(group: Var) -> Var:
    """(n, 1): the middle number of each row, or the mean of the two in the middle."""
    count = width(group)
    ordered, _ = op.top_k(group, constant([count // 2 + 1], np.int64), axis=1, largest=0)
    upper = ordered[:, count // 2]
    if count % 2 == 0:
        both = ordered[:, count // 2 - 1] + upper
        upper = both / 2.0
    return upright(upper)


POOLINGS = {np.max: _largest, np.min: _smallest, np.sum: _sum, np.median: _median}
ESTIMATORS = {
    "sklearn.PCA": principal,
    "sklearn.IncrementalPCA": principal,
    "sklearn.TruncatedSVD": components,
    "sklearn.GaussianRandomProjection": components,
    "sklearn.SparseRandomProjection": components,
    "sklearn.NeighborhoodComponentsAnalysis": components,
    "sklearn.FastICA": independent,
    "sklearn.FactorAnalysis": factors,
    "sklearn.PLSRegression": partial_squares,
    "sklearn.PLSCanonical": partial_squares,
    "sklearn.CCA": partial_squares,
    "sklearn.PLSSVD": covariant,
    "sklearn.FeatureAgglomeration": agglomerated,
}
