"""Converters of transformers that are one product with a matrix, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.scaling import shifted
from modelkit.convert.estimators.tensors import Answer, affine, flat, refuse


@of_doubles("PCA", "IncrementalPCA")
def principal(estimator: Any, x: Any) -> Any:
    """PCA and IncrementalPCA: on the components, the mean off, each over its deviation if asked.

    What is made of the model alone is made in its own dtype, as in the source.
    """
    weights = estimator.components_.T
    shift = -(estimator.mean_ @ weights)
    if estimator.whiten:
        deviations = np.sqrt(estimator.explained_variance_)
        least = np.finfo(deviations.dtype).eps
        scale = np.maximum(deviations, least).astype(np.float64)
        return affine(x, weights / scale, shift / scale)
    return affine(x, weights, shift)


@of_doubles(
    "TruncatedSVD",
    "GaussianRandomProjection",
    "SparseRandomProjection",
    "NeighborhoodComponentsAnalysis",
)
def components(estimator: Any, x: Any) -> Any:
    """TruncatedSVD, random projections, neighbourhood components: on the components."""
    weights = estimator.components_
    return x @ (weights.toarray() if hasattr(weights, "toarray") else weights).T


@of_doubles("FastICA")
def independent(estimator: Any, x: Any) -> Any:
    """FastICA: on the components, the mean off where it whitens."""
    return shifted(x, estimator.mean_ if estimator.whiten else None, None) @ estimator.components_.T


@of_doubles("FactorAnalysis")
def factors(estimator: Any, x: Any) -> Any:
    """FactorAnalysis: the mean of the latent variables, given a row."""
    loadings = estimator.components_ / estimator.noise_variance_
    count = len(estimator.components_)
    covariance = np.linalg.inv(np.eye(count) + loadings @ estimator.components_.T)
    return (x - estimator.mean_) @ (loadings.T @ covariance)


def between_classes(estimator: Any, x: Any) -> Any:
    """LinearDiscriminantAnalysis as a transformer: rows on the axes between its classes."""
    axes = np.asarray(estimator.scalings_, np.float64)
    centre = estimator.xbar_ if estimator.solver == "svd" else None
    return shifted(x, centre, None) @ axes[:, : estimator._max_components]  # no public way


@of_doubles("PLSRegression", "PLSCanonical", "CCA")
def partial_squares(estimator: Any, x: Any) -> Any:
    """PLSRegression, PLSCanonical, CCA: the scores of the rows, and the prediction."""
    x = x - estimator._x_mean  # no public way
    found = affine(x, estimator.coef_.T, estimator.intercept_)
    return Answer(
        table=x @ (estimator.x_rotations_ / estimator._x_std[:, None]),
        prediction=flat(found) if estimator._predict_1d else found,
    )


@of_doubles("PLSSVD")
def covariant(estimator: Any, x: Any) -> Any:
    """PLSSVD: the scores of the rows."""
    return (x - estimator._x_mean) @ (estimator.x_weights_ / estimator._x_std[:, None])


@of_doubles("DictionaryLearning", "MiniBatchDictionaryLearning", "SparseCoder")
def sparse_code(estimator: Any, x: Any) -> Any:
    """DictionaryLearning and SparseCoder by threshold: products with the atoms, shrunk towards 0."""
    if estimator.transform_algorithm != "threshold":
        refuse(
            estimator,
            " cannot be converted, for it searches for the answer to each row; use "
            "transform_algorithm='threshold', PCA or KernelPCA, or format='joblib'",
        )
    atoms = getattr(estimator, "components_", None)
    products = x @ (estimator.dictionary if atoms is None else atoms).T
    least = estimator.transform_alpha
    if least is None:
        least = getattr(estimator, "alpha", 1.0)
    found = np.sign(products) * np.maximum(np.abs(products) - least, 0.0)
    if estimator.positive_code:
        found = np.maximum(found, 0.0)
    if estimator.split_sign:
        return np.concatenate([np.maximum(found, 0.0), -np.minimum(found, 0.0)], axis=1)
    return found


@of_doubles("FeatureAgglomeration")
def agglomerated(estimator: Any, x: Any) -> Any:
    """FeatureAgglomeration: the mean, largest, smallest or sum of the columns of each group."""
    labels = np.asarray(estimator.labels_)
    pooling = estimator.pooling_func
    if pooling is np.mean:
        member = labels[:, None] == np.unique(labels)
        return x @ member.astype(np.float64) / member.sum(axis=0)
    if pooling not in POOLINGS:
        name = getattr(pooling, "__name__", str(pooling))
        refuse(
            estimator,
            f"(pooling_func={name}) cannot be converted; use numpy.mean, "
            "numpy.max, numpy.min, numpy.sum or numpy.median, or format='joblib'",
        )
    groups = [np.flatnonzero(labels == group) for group in np.unique(labels)]
    pooled = [POOLINGS[pooling](np.take(x, group, axis=1), axis=1)[:, None] for group in groups]
    return np.concatenate(pooled, axis=1)


def _median(group: Any, axis: int) -> Any:
    """The middle number of each row, or the mean of the two in the middle."""
    ordered = np.sort(group, axis=axis)
    count = group.shape[1]
    upper = ordered[:, count // 2]
    return upper if count % 2 else (ordered[:, count // 2 - 1] + upper) / 2.0


POOLINGS: dict[Any, Any] = {np.max: np.max, np.min: np.min, np.sum: np.sum, np.median: _median}
