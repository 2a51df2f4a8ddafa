"""Converters of densities of classes and components: naive Bayes, discriminants and mixtures, in float64.

The differences from all means stand in one tensor, (classes, n, columns). What was fitted on float32
is rounded where the source rounds it: rows and all they touch are not.
"""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.lookup import single_columns
from modelkit.convert.estimators.rows import note_single, of_doubles, sparse_affine
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    affine,
    converts,
    flat,
    gathered,
    largest,
    log_sum_exp,
    softmax,
    squares,
)


@of_doubles("BernoulliNB")
def bernoulli(estimator: Any, x: Any) -> Answer:
    """BernoulliNB: rows of 0 and 1, after its own threshold where it has one."""
    if estimator.binarize is not None:
        x = (x > float(estimator.binarize)).astype(np.float64)
    present = estimator.feature_log_prob_
    absent = np.log(1 - np.exp(present))
    shift = estimator.class_log_prior_ + absent.sum(axis=1)
    return _answer(affine(x, (present - absent).T, shift))


@of_doubles("MultinomialNB")
def multinomial(estimator: Any, x: Any) -> Answer:
    """MultinomialNB: counts times the log probabilities of the columns."""
    return _answer(sparse_affine(x, estimator.feature_log_prob_.T, estimator.class_log_prior_))


@of_doubles("ComplementNB")
def complement_of(estimator: Any, x: Any) -> Answer:
    """ComplementNB: counts times the weights of all other classes."""
    shift = np.zeros(len(estimator.classes_))
    if len(shift) == 1:
        shift = estimator.class_log_prior_
    return _answer(sparse_affine(x, estimator.feature_log_prob_.T, shift))


@converts("CategoricalNB")
def categorical(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """CategoricalNB: the log probabilities of the code in each column, one table below the other."""
    codes = columns.matrix(np.float64).astype(np.int64)  # cut off, as the source does
    counts = estimator.n_categories_.tolist()
    closed = [
        at.is_closed(column, range(count))
        for column, count in zip(single_columns(columns), counts, strict=True)
    ]
    if not all(closed):
        unknown = (codes < 0) | (codes >= [counts])
        at.refuse(unknown, "CategoricalNB does not know a code of this row")
        codes = np.where(unknown, 0, codes)
    places = codes + np.cumsum([0, *counts[:-1]])
    table = np.concatenate([known.T for known in estimator.feature_log_prob_])
    return _answer(np.sum(gathered(table, places), axis=1) + estimator.class_log_prior_)


@of_doubles("GaussianNB")
def gaussian(estimator: Any, x: Any) -> Answer:
    """GaussianNB: a normal distribution of each column in each class.

    Squared distances from the mean of each class over the variances, and priors.
    """
    apart = differences(x, estimator.theta_)
    squares = apart * apart / np.asarray(estimator.var_, np.float64)[:, None]
    # Of variances in float32 the source adds up their logarithms in float32, and no more than that.
    sizes = -0.5 * np.log(2 * np.pi * estimator.var_).sum(axis=1)
    shift = np.log(estimator.class_prior_).astype(np.float64) + sizes.astype(np.float64)
    scores = (np.sum(squares, axis=2) * -0.5 + shift[:, None]).T
    return Answer(place=largest(scores), probabilities=np.exp(scores - _log_of_sum(scores)))


def _log_of_sum(likelihoods: Any) -> Any:
    """(n, 1): the logarithm of the sum of exponentials, rounded as in the source.

    What the rounding makes of probabilities next to 1 decides where they are calibrated. Kahan's
    form of log(1 + x) divides out how 1 + x was rounded.
    """
    descending = np.sort(likelihoods, axis=1)[:, ::-1]
    most = descending[:, [0]]
    others = descending[:, 1:]
    rest = np.sum(np.exp(others - most), axis=1, keepdims=True)
    whole = rest + 1.0
    lost = (whole - 1.0 - rest) / whole
    return np.log(whole) - lost + most


def _answer(likelihoods: Any) -> Answer:
    """Labels and probabilities from log likelihoods, (n, classes)."""
    return Answer(place=largest(likelihoods), probabilities=softmax(likelihoods))


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


@of_doubles("GaussianMixture", "BayesianGaussianMixture")
def mixture(estimator: Any, x: Any) -> Answer:
    """GaussianMixture and BayesianGaussianMixture: the share of each component, and the log-likelihood of a row."""
    note_single(x, estimator.means_)  # the source rounds rows that were float32 before
    scores = APART[estimator.covariance_type](estimator, x) * -0.5 + _constants(estimator)
    whole = log_sum_exp(scores)
    return Answer(
        label=largest(scores), probabilities=np.exp(scores - whole), score_samples=flat(whole)
    )


def _constants(estimator: Any) -> Array:
    """(components,): what is added to the distances, of the source's own making: its answer at the means is that."""
    from sklearn.mixture._gaussian_mixture import _compute_log_det_cholesky

    features = estimator.means_.shape[1]
    kind = estimator.covariance_type
    determinants = _compute_log_det_cholesky(estimator.precisions_cholesky_, kind, features)
    wide = np.asarray(determinants, np.float64)
    added = wide - 0.5 * features * log(2 * pi)
    if hasattr(estimator, "degrees_of_freedom_"):
        added = added + _of_freedom(estimator, features)
    found: Array = added + estimator._estimate_log_weights()  # no public way
    return found


def _of_freedom(estimator: Any, features: int) -> Array:
    """What a Bayesian mixture adds, since it knows its precisions but roughly."""
    from scipy.special import digamma

    freedom = estimator.degrees_of_freedom_
    halves = 0.5 * (freedom - np.arange(features)[:, None])
    spread = features * log(2.0) + digamma(halves).sum(axis=0)
    found: Array = 0.5 * (
        spread - features / estimator.mean_precision_ - features * np.log(freedom)
    )
    return found


def _full(estimator: Any, x: Any) -> Any:
    """(n, components): squared distances, each component by its own precisions."""
    roots = estimator.precisions_cholesky_
    count, features, _ = roots.shape
    weights = roots.transpose(1, 0, 2).reshape(features, -1)
    shift = [mean @ root for mean, root in zip(estimator.means_, roots, strict=True)]
    moved = affine(x, weights, -np.concatenate(shift))
    return squares(moved.reshape(-1, count, features), 2)


def _tied(estimator: Any, x: Any) -> Any:
    """(n, components): squared distances by the precisions that all components share."""
    root = estimator.precisions_cholesky_
    # Mean by mean, as the source does, which rounds those of float32.
    shift = np.stack([mean @ root for mean in estimator.means_])
    return squares((x @ root)[:, None] - shift, 2)


def _diagonal(estimator: Any, x: Any) -> Any:
    """(n, components): squared distances by a precision for each component and column."""
    precisions = estimator.precisions_cholesky_**2
    means = estimator.means_
    own = (means**2 * precisions).sum(axis=1)
    return affine(x, -2.0 * (means * precisions).T, own) + x * x @ precisions.T


def _spherical(estimator: Any, x: Any) -> Any:
    """(n, components): squared distances by one precision for each component."""
    precisions = estimator.precisions_cholesky_**2
    means = estimator.means_
    own = (means**2).sum(axis=1) * precisions
    products = x @ (-2.0 * means.T) * precisions
    return products + own + squares(x, keepdims=True) * precisions


APART = {"full": _full, "tied": _tied, "diag": _diagonal, "spherical": _spherical}
