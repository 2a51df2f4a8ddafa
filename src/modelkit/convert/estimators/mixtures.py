"""Converters of mixtures of Gaussians: the logarithm of the density of each component, in float64.

What was fitted on float32 is rounded where the source rounds it: rows and all they touch are not.
"""

from __future__ import annotations

from math import log, pi
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, doubles, largest, op

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def mixture(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """GaussianMixture and BayesianGaussianMixture: the share of each component, and the log-likelihood of a row."""
    # The source rounds rows that were float32 before.
    at.narrow |= estimator.means_.dtype == np.float32
    apart = APART[estimator.covariance_type](estimator, columns.matrix(np.float64))
    half = apart * -0.5
    scores = half + _constants(estimator)[None]
    whole = op.reduce_log_sum_exp(scores, constant([1], np.int64), keepdims=1)
    return Answer(
        label=largest(scores), probabilities=np.exp(scores - whole), score_samples=whole.reshape(-1)
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


def _full(estimator: Any, rows: Var) -> Var:
    """(n, components): squared distances, each component by its own precisions."""
    roots = estimator.precisions_cholesky_
    count, features, _ = roots.shape
    weights = roots.transpose(1, 0, 2).reshape(features, -1)
    shift = np.concatenate(
        [mean @ root for mean, root in zip(estimator.means_, roots, strict=True)]
    )
    moved = op.gemm(rows, doubles(weights), doubles(-shift))
    by_component = moved.reshape(-1, count, features)
    return op.reduce_sum_square(by_component, constant([2], np.int64), keepdims=0)


def _tied(estimator: Any, rows: Var) -> Var:
    """(n, components): squared distances by the precisions that all components share."""
    root = estimator.precisions_cholesky_
    moved = (rows @ root)[:, None]
    # Mean by mean, as the source does, which rounds those of float32.
    shift = np.stack([mean @ root for mean in estimator.means_])
    apart = moved - shift
    return op.reduce_sum_square(apart, constant([2], np.int64), keepdims=0)


def _diagonal(estimator: Any, rows: Var) -> Var:
    """(n, components): squared distances by a precision for each component and column."""
    precisions = estimator.precisions_cholesky_**2
    means = estimator.means_
    own = (means**2 * precisions).sum(axis=1)
    moved = op.gemm(rows, doubles(-2.0 * (means * precisions).T), doubles(own))
    return moved + rows * rows @ precisions.T


def _spherical(estimator: Any, rows: Var) -> Var:
    """(n, components): squared distances by one precision for each component."""
    precisions = estimator.precisions_cholesky_**2
    means = estimator.means_
    own = (means**2).sum(axis=1) * precisions
    products = rows @ (-2.0 * means.T) * precisions[None]
    squares = op.reduce_sum_square(rows, constant([1], np.int64), keepdims=1)
    scaled = squares * precisions[None]
    return products + own[None] + scaled


APART = {"full": _full, "tied": _tied, "diag": _diagonal, "spherical": _spherical}
ESTIMATORS = {"sklearn.GaussianMixture": mixture, "sklearn.BayesianGaussianMixture": mixture}
