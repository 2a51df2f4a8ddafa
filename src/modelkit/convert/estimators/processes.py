"""Converters of Gaussian processes, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.distances import squared
from modelkit.convert.estimators.error_function import error_function
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    affine,
    complement,
    converts,
    flat,
    repeated,
    sin,
    squares,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

# How scikit-learn approximates a sigmoid by error functions (Williams and Barber, 1998).
SCALES = np.array([0.41, 0.4, 0.37, 0.44, 0.39])
SHARES = np.array([-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654])


@of_doubles("GaussianProcessRegressor")
def process(estimator: Any, x: Any) -> Answer:
    """GaussianProcessRegressor: the mean at each row."""
    weights = np.asarray(estimator.alpha_, np.float64)
    one = weights.ndim == 1 or weights.shape[1] == 1
    weights = weights.reshape(len(weights), -1)
    spread = np.broadcast_to(estimator._y_train_std, weights.shape[1])  # no public way
    middle = np.broadcast_to(estimator._y_train_mean, weights.shape[1])
    means = affine(_whole(estimator, x), weights * spread, middle)
    return Answer(prediction=flat(means) if one else means)


@converts("GaussianProcessClassifier")
def process_of_classes(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """GaussianProcessClassifier: one process for two classes, and several for more."""
    return at.answer(estimator.base_estimator_, columns)


@of_doubles("_BinaryGaussianProcessClassifierLaplace")
def process_of_two(estimator: Any, x: Any) -> Answer:
    """The process of two classes: an average of sigmoids over what is likely at each row."""
    found = _whole(estimator, x)
    pull = np.asarray(estimator.y_train_ - estimator.pi_, np.float64)[:, None]
    mean = found @ pull
    solved = np.linalg.solve(estimator.L_, np.diag(estimator.W_sr_))
    variance = _own(estimator.kernel_, x) - squares(found @ solved.T, keepdims=True)
    return Answer(
        place=flat((mean > 0.0).astype(np.int64)),
        probabilities=complement(_averaged(mean, variance)),
    )


def _averaged(mean: Any, variance: Any) -> Any:
    """(n, 1): the mean of the sigmoid of a normal number, as a sum of error functions."""
    precision = 1.0 / (variance * 2.0)
    share = precision / (precision + SCALES**2)
    places = mean * SCALES * np.sqrt(share)
    return affine(error_function(places), 0.5 * SHARES[:, None], 0.5 * SHARES.sum())


def _whole(estimator: Any, x: Any) -> Any:
    """(n, rows of training): the kernel of each row with each row of training."""
    known = np.asarray(estimator.X_train_, np.float64)
    found = _kernel(estimator.kernel_, x, known)
    return repeated(np.full(len(known), found), x) if isinstance(found, float) else found


def _kernel(kernel: Any, x: Any, known: Array) -> Any:
    """(n, rows of training), or one number for all."""
    kind = type(kernel).__name__
    if kind in COMBINED:
        return COMBINED[kind](kernel, lambda part: _kernel(part, x, known))
    if kind == "ConstantKernel":
        return float(kernel.constant_value)
    if kind == "WhiteKernel":
        return 0.0  # noise is of a row with itself
    if kind not in KERNELS or not type(kernel).__module__.startswith("sklearn."):
        raise ConversionError(
            f"a Gaussian process with the kernel {kind} cannot be converted; use kernels of "
            f"{', '.join(sorted(KERNELS))}, ConstantKernel and WhiteKernel, or format='joblib'",
            step=kind,
        )
    return KERNELS[kind](kernel, x, known)


COMBINED: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "Exponentiation": lambda kernel, of: of(kernel.kernel) ** float(kernel.exponent),
    "Product": lambda kernel, of: of(kernel.k1) * of(kernel.k2),
    "Sum": lambda kernel, of: of(kernel.k1) + of(kernel.k2),
}


def _own(kernel: Any, x: Any) -> Any:
    """(n, 1), or one number for all: the kernel of each row with itself."""
    kind = type(kernel).__name__
    if kind in COMBINED:
        return COMBINED[kind](kernel, lambda part: _own(part, x))
    if kind == "ConstantKernel":
        return float(kernel.constant_value)
    if kind == "WhiteKernel":
        return float(kernel.noise_level)
    if kind == "DotProduct":
        return squares(x, keepdims=True) + float(kernel.sigma_0) ** 2
    return 1.0


def _scaled_squares(kernel: Any, x: Any, known: Array) -> Any:
    """Squared distances in units of the length scale, one for all columns or one for each."""
    lengths = np.ravel(np.asarray(kernel.length_scale, np.float64))
    return squared(x / lengths, known / lengths)


def _radial(kernel: Any, x: Any, known: Array) -> Any:
    return np.exp(_scaled_squares(kernel, x, known) * -0.5)


def _matern(kernel: Any, x: Any, known: Array) -> Any:
    squares = _scaled_squares(kernel, x, known)
    if kernel.nu == np.inf:
        return np.exp(squares * -0.5)
    if kernel.nu not in (0.5, 1.5, 2.5):
        raise ConversionError(
            f"a Gaussian process with Matern(nu={kernel.nu}) cannot be converted; use nu=0.5, 1.5, "
            "2.5 or inf, or format='joblib'",
            step="Matern",
        )
    far = np.sqrt(squares) * float(np.sqrt(2 * kernel.nu))
    near = np.exp(-far)
    if kernel.nu == 0.5:
        return near
    factor = far + 1.0
    if kernel.nu == 2.5:
        factor = factor + far * far / 3.0
    return factor * near


def _rational(kernel: Any, x: Any, known: Array) -> Any:
    squares = squared(x, known)
    divisor = 2 * kernel.alpha * kernel.length_scale**2
    base = squares / divisor + 1.0
    return base ** (-float(kernel.alpha))


def _periodic(kernel: Any, x: Any, known: Array) -> Any:
    distances = np.sqrt(squared(x, known))
    wave = sin(distances * (np.pi / kernel.periodicity))
    share = wave / float(kernel.length_scale)
    return np.exp(share * share * -2.0)


def _product(kernel: Any, x: Any, known: Array) -> Any:
    products = x @ known.T
    return products + float(kernel.sigma_0) ** 2


KERNELS: dict[str, Callable[[Any, Any, Array], Any]] = {
    "DotProduct": _product,
    "ExpSineSquared": _periodic,
    "Matern": _matern,
    "RBF": _radial,
    "RationalQuadratic": _rational,
}
