"""Converters of mixtures of Gaussians: the logarithm of the density of each component, in float64.

What was fitted on float32 is rounded where the source rounds it: rows and all they touch are not.
"""

from __future__ import annotations

from math import log, pi
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.rows import note_single, of_doubles
from modelkit.convert.estimators.tensors import Answer, affine, flat, largest, log_sum_exp, squares


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
