"""Converters of Gaussian processes, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.convert.estimators.distances import squared
from modelkit.convert.estimators.interpolation import smooth
from modelkit.convert.estimators.rows import of_doubles
from modelkit.convert.estimators.tensors import Answer, affine, complement, flat, repeated, squares
from modelkit.errors import ConversionError

# How scikit-learn approximates a sigmoid by error functions (Williams and Barber, 1998).
SCALES = np.array([0.41, 0.4, 0.37, 0.44, 0.39])
SHARES = np.array([-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654])
ERF_IS_ONE = 6.0  # from here on, in float64


@of_doubles("GaussianProcessRegressor")
def process(estimator: Any, x: Any) -> Answer:
    """GaussianProcessRegressor: the mean at each row."""
    weights = np.asarray(estimator.alpha_).reshape(len(estimator.alpha_), -1)
    shift = np.broadcast_to(estimator._y_train_mean, weights.shape[1])  # no public way
    means = affine(_to_training(estimator, x), weights * estimator._y_train_std, shift)
    return Answer(prediction=flat(means) if weights.shape[1] == 1 else means)


@of_doubles("_BinaryGaussianProcessClassifierLaplace")
def process_of_two(estimator: Any, x: Any) -> Answer:
    """The process of two classes: the mean of the sigmoid of a normal number, by error functions."""
    from scipy.special import erf

    found = _to_training(estimator, x)
    mean = found @ (estimator.y_train_ - estimator.pi_)[:, None]
    solved = np.linalg.solve(estimator.L_, np.diag(estimator.W_sr_))
    variance = _kernel(estimator.kernel_, x) - squares(found @ solved.T, keepdims=True)
    precision = 1.0 / (variance * 2.0)
    places = mean * SCALES * np.sqrt(precision / (precision + SCALES**2))
    inside = np.clip(places, -ERF_IS_ONE, ERF_IS_ONE)
    # Over the number, for all digits of small ones: far from the rows of fit they decide the label.
    errors = smooth(inside, lambda number: erf(number) / number, ERF_IS_ONE)
    likely = affine(inside * errors, 0.5 * SHARES[:, None], 0.5 * SHARES.sum())
    return Answer(place=flat((mean > 0.0).astype(np.int64)), probabilities=complement(likely))


def _to_training(estimator: Any, x: Any) -> Any:
    """(n, rows of training): the kernel of each row with each row of training."""
    known = np.asarray(estimator.X_train_, np.float64)
    found = _kernel(estimator.kernel_, x, known)
    return repeated(np.full(len(known), found), x) if isinstance(found, float) else found


def _kernel(kernel: Any, x: Any, known: Any = None) -> Any:
    """The kernel of each row with rows of training, or with itself, (n, 1); or one number for all."""
    kind = type(kernel).__name__
    if kind in COMBINED:
        return COMBINED[kind](_kernel(kernel.k1, x, known), _kernel(kernel.k2, x, known))
    if kind == "ConstantKernel":
        return float(kernel.constant_value)
    if kind == "WhiteKernel":  # noise is of a row with itself
        return float(kernel.noise_level) if known is None else 0.0
    if kind == "DotProduct":
        products = squares(x, keepdims=True) if known is None else x @ known.T
        return products + float(kernel.sigma_0) ** 2
    nu = np.inf if kind == "RBF" else getattr(kernel, "nu", None)
    if nu not in (0.5, np.inf, *MATERN):
        raise ConversionError(
            f"a Gaussian process with the kernel {kernel} cannot be converted; use sums and products of RBF, "
            "Matern(nu=0.5, 1.5 or 2.5), DotProduct, ConstantKernel and WhiteKernel, or format='joblib'",
            step=kind,
        )
    if known is None:
        return 1.0
    apart = squared(x / kernel.length_scale, known / kernel.length_scale)
    if nu == np.inf:
        return np.exp(apart * -0.5)
    if nu == 0.5:
        return np.exp(-np.sqrt(apart))
    far = np.sqrt(apart) * float(np.sqrt(2 * nu))
    return MATERN[nu](far) * np.exp(-far)


COMBINED: dict[str, Callable[[Any, Any], Any]] = {"Product": np.multiply, "Sum": np.add}
# The factor before exp(-far), by the smoothness.
MATERN: dict[float, Callable[[Any], Any]] = {
    1.5: lambda far: far + 1.0,
    2.5: lambda far: far + 1.0 + far * far / 3.0,
}
