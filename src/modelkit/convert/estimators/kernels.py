"""Converters of kernels with the rows of training, and of their approximations, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import product
from modelkit.convert.estimators.distances import METRICS, added_up
from modelkit.convert.estimators.scaling import centred_kernel, one_table, over_norm
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    constant,
    flat,
    joined,
    op,
    width,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit._internal.arrays import Array
    from modelkit.convert.estimators.converting import Converting

Options = dict[str, Any]


def nystroem(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """Nystroem: the kernels with some rows of training, made orthogonal."""
    options = estimator._get_kernel_params()  # no public way
    rows = columns.matrix(np.float64)
    found = kernel(estimator, rows, estimator.components_, options)
    return one_table(found @ estimator.normalization_.T)


def kernel_principal(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """KernelPCA: the kernels with the rows of training, centred, on the components."""
    options = {"gamma": estimator.gamma_, "degree": estimator.degree, "coef0": estimator.coef0}
    rows = columns.matrix(np.float64)
    found = kernel(estimator, rows, estimator.X_fit_, options)
    sizes = estimator.eigenvalues_
    known = np.flatnonzero(sizes)
    weights = np.zeros_like(estimator.eigenvectors_)
    weights[:, known] = estimator.eigenvectors_[:, known] / np.sqrt(sizes[known])
    centred = centred_kernel(estimator._centerer, found)  # no public way
    return one_table(centred @ weights)


def ridge_of_kernels(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """KernelRidge: the kernels with the rows of training, times weights."""
    options = {"gamma": estimator.gamma, "degree": estimator.degree, "coef0": estimator.coef0}
    rows = columns.matrix(np.float64)
    weights = np.asarray(estimator.dual_coef_, np.float64)
    found = kernel(estimator, rows, estimator.X_fit_, options)
    sums = found @ weights.reshape(len(weights), -1)
    return Answer(prediction=flat(sums) if weights.ndim == 1 else sums)


def kernel(estimator: Any, rows: Var, known: Any, options: Options) -> Var:
    """(n, rows of training): the kernel of each row with each row of training.

    Raises ConversionError for a kernel that is a function.
    """
    name = estimator.kernel
    if name == "precomputed":
        return rows
    step = type(estimator).__name__
    if callable(name):
        raise ConversionError(
            f"{step} with a kernel of your own cannot be converted; use one of "
            f"{', '.join(sorted(KERNELS))}, or format='joblib'",
            step=step,
        )
    if hasattr(known, "toarray"):
        known = known.toarray()
    known = np.asarray(known, np.float64)
    defaults = {"gamma": None, "degree": 3, "coef0": 1.0}
    given = defaults | {key: value for key, value in options.items() if value is not None}
    if given["gamma"] is None:
        given["gamma"] = 1.0 if name == "chi2" else 1.0 / known.shape[1]
    return KERNELS[name](rows, known, given)


def _linear(rows: Var, known: Array, options: Options) -> Var:
    return rows @ known.T


def _shifted(rows: Var, known: Array, options: Options) -> Var:
    scaled = rows @ known.T * options["gamma"]
    return scaled + options["coef0"]


def _polynomial(rows: Var, known: Array, options: Options) -> Var:
    return _shifted(rows, known, options) ** options["degree"]


def _sigmoid(rows: Var, known: Array, options: Options) -> Var:
    return np.tanh(_shifted(rows, known, options))


def _radial(rows: Var, known: Array, options: Options) -> Var:
    """Squared distances as the source adds them up, with what it rounds away."""
    lengths = op.reduce_sum_square(rows, constant([1], np.int64), keepdims=1)
    products = rows @ (-2.0 * known.T)
    squares = products + lengths + (known * known).sum(axis=1)
    positive = np.maximum(squares, 0.0)
    return np.exp(positive * -options["gamma"])


def _cosine(rows: Var, known: Array, options: Options) -> Var:
    from sklearn.preprocessing import normalize

    return over_norm(rows, "l2") @ normalize(known).T


def _laplacian(rows: Var, known: Array, options: Options) -> Var:
    sizes = METRICS["manhattan"](rows, known, options)
    return np.exp(sizes * -options["gamma"])


def _additive_chi2(rows: Var, known: Array, options: Options) -> Var:
    return -added_up(rows, known, _share_of_square)


def _share_of_square(own: Var, other: Var) -> Var:
    """The square of a difference over the sum; 0 where both are 0."""
    apart = own - other
    both = own + other
    share = apart * apart / both
    return np.where(both == 0.0, 0.0, share)


def _chi2(rows: Var, known: Array, options: Options) -> Var:
    return np.exp(_additive_chi2(rows, known, options) * options["gamma"])


def radial_waves(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """RBFSampler: the cosine of products with random directions."""
    factor = (2.0 / estimator.n_components) ** 0.5
    return one_table(_waves(estimator, columns.matrix(np.float64), factor))


def skewed_waves(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """SkewedChi2Sampler: the cosine of products of logarithms with random directions."""
    rows = np.log(columns.matrix(np.float64) + estimator.skewedness)
    factor = np.sqrt(2.0) / np.sqrt(estimator.n_components)
    return one_table(_waves(estimator, rows, factor))


def _waves(estimator: Any, rows: Var, factor: float) -> Var:
    angles = product(rows, estimator.random_weights_, estimator.random_offset_)
    return op.cos(angles) * factor


def additive_waves(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """AdditiveChi2Sampler: waves of the logarithm of each number; a 0 stays 0."""
    rows = columns.matrix(np.float64)
    apart = estimator.sample_interval
    if apart is None:
        apart = {1: 0.8, 2: 0.5, 3: 0.4}[estimator.sample_steps]
    nothing = rows == 0.0
    parts = [np.sqrt(rows * apart)]
    angle = apart * np.log(rows)
    size = rows * (2 * apart)
    for step in range(1, estimator.sample_steps):
        factor = np.sqrt(size / np.cosh(np.pi * step * apart))
        turned = angle * step
        for wave in (op.cos, op.sin):
            each = factor * wave(turned)
            parts.append(np.where(nothing, 0.0, each))
    return one_table(joined(parts))


def sketched(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """PolynomialCountSketch: the circular convolution of several sketches of each row.

    The sketches are multiplied as their Fourier transforms, which are products with matrices; those
    of real numbers are told by their first half.
    """
    rows = columns.matrix(np.float64) * np.sqrt(estimator.gamma)
    size = estimator.n_components
    half = size // 2 + 1
    turns = np.outer(np.arange(size), np.arange(half)) % size
    waves = np.exp(-2j * np.pi * turns / size)
    transforms = []
    for places, signs in zip(estimator.indexHash_, estimator.bitHash_, strict=True):
        transforms.append(_sketch(estimator, rows, signs[:, None] * waves[places]))
    real, imaginary = transforms[0]
    for across, along in transforms[1:]:
        turned = real * across - imaginary * along
        imaginary = real * along + imaginary * across
        real = turned
    counts = np.full(half, 2.0)
    counts[0] = 1.0
    if size % 2 == 0:
        counts[-1] = 1.0
    back = counts[:, None] * waves.conj().T / size
    pair = joined([real, imaginary])
    return one_table(pair @ np.concatenate([back.real, -back.imag]))


def _sketch(estimator: Any, rows: Var, weights: Array) -> tuple[Var, Var]:
    """The transform of a sketch; the last weight is that of a constant column, if there is one."""
    inputs = width(rows)
    found = []
    for part in (weights.real, weights.imag):
        shift = None
        if len(part) > inputs:
            shift = np.sqrt(estimator.coef0) * part[inputs]
        found.append(product(rows, part[:inputs], shift))
    return found[0], found[1]


Kernel = Callable[[Var, "Array", Options], Var]
KERNELS: dict[str, Kernel] = {
    "additive_chi2": _additive_chi2,
    "chi2": _chi2,
    "cosine": _cosine,
    "laplacian": _laplacian,
    "linear": _linear,
    "poly": _polynomial,
    "polynomial": _polynomial,
    "rbf": _radial,
    "sigmoid": _sigmoid,
}
ESTIMATORS = {
    "sklearn.KernelRidge": ridge_of_kernels,
    "sklearn.Nystroem": nystroem,
    "sklearn.KernelPCA": kernel_principal,
    "sklearn.RBFSampler": radial_waves,
    "sklearn.SkewedChi2Sampler": skewed_waves,
    "sklearn.AdditiveChi2Sampler": additive_waves,
    "sklearn.PolynomialCountSketch": sketched,
}
