"""Converters of kernels with the rows of training, and of their approximations, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.distances import METRICS
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.scaling import centred, over_norm
from modelkit.convert.estimators.tensors import Answer, affine, cos, flat, refuse, squares

Options = dict[str, Any]


@of_doubles("Nystroem")
def nystroem(estimator: Any, x: Any) -> Any:
    """Nystroem: the kernels with some rows of training, made orthogonal."""
    options = estimator._get_kernel_params()  # no public way
    return kernel(estimator, x, estimator.components_, options) @ estimator.normalization_.T


@of_doubles("KernelPCA")
def kernel_principal(estimator: Any, x: Any) -> Any:
    """KernelPCA: the kernels with the rows of training, centred, on the components."""
    options = {"gamma": estimator.gamma_, "degree": estimator.degree, "coef0": estimator.coef0}
    found = kernel(estimator, x, estimator.X_fit_, options)
    sizes = estimator.eigenvalues_
    known = np.flatnonzero(sizes)
    weights = np.zeros_like(estimator.eigenvectors_)
    weights[:, known] = estimator.eigenvectors_[:, known] / np.sqrt(sizes[known])
    return centred(estimator._centerer, found) @ weights  # no public way


@of_doubles("KernelRidge")
def ridge_of_kernels(estimator: Any, x: Any) -> Answer:
    """KernelRidge: the kernels with the rows of training, times weights."""
    options = {"gamma": estimator.gamma, "degree": estimator.degree, "coef0": estimator.coef0}
    weights = np.asarray(estimator.dual_coef_, np.float64)
    found = kernel(estimator, x, estimator.X_fit_, options)
    sums = found @ weights.reshape(len(weights), -1)
    return Answer(prediction=flat(sums) if weights.ndim == 1 else sums)


def kernel(estimator: Any, x: Any, known: Any, options: Options) -> Any:
    """(n, rows of training): the kernel of each row with each row of training.

    Raises ConversionError for a kernel that is a function.
    """
    name = estimator.kernel
    if name == "precomputed":
        return x
    if name not in KERNELS:
        named = "of your own" if callable(name) else repr(name)
        refuse(
            estimator,
            f" with a kernel {named} cannot be converted; use one of {', '.join(KERNELS)}, or "
            "format='joblib'",
        )
    if hasattr(known, "toarray"):
        known = known.toarray()
    known = np.asarray(known, np.float64)
    defaults = {"gamma": None, "degree": 3, "coef0": 1.0}
    given = defaults | {key: value for key, value in options.items() if value is not None}
    if given["gamma"] is None:
        given["gamma"] = 1.0 / known.shape[1]
    return KERNELS[name](x, known, given)


def _shifted(x: Any, known: Array, options: Options) -> Any:
    return x @ known.T * options["gamma"] + options["coef0"]


def _polynomial(x: Any, known: Array, options: Options) -> Any:
    return _shifted(x, known, options) ** options["degree"]


def _radial(x: Any, known: Array, options: Options) -> Any:
    """Squared distances as the source adds them up, with what it rounds away."""
    apart = x @ (-2.0 * known.T) + squares(x, keepdims=True) + (known * known).sum(axis=1)
    return np.exp(np.maximum(apart, 0.0) * -options["gamma"])


def _cosine(x: Any, known: Array, options: Options) -> Any:
    from sklearn.preprocessing import normalize

    return over_norm(x, "l2") @ normalize(known).T


@of_doubles("RBFSampler")
def radial_waves(estimator: Any, x: Any) -> Any:
    """RBFSampler: the cosine of products with random directions."""
    waves = cos(affine(x, estimator.random_weights_, estimator.random_offset_))
    return waves * (2.0 / estimator.n_components) ** 0.5


KERNELS: dict[str, Callable[[Any, Array, Options], Any]] = {
    "cosine": _cosine,
    "laplacian": lambda x, known, options: np.exp(
        METRICS["manhattan"](x, known, options) * -options["gamma"]
    ),
    "linear": lambda x, known, _: x @ known.T,
    "poly": _polynomial,
    "polynomial": _polynomial,
    "rbf": _radial,
    "sigmoid": lambda *given: np.tanh(_shifted(*given)),
}
