"""Converters of Gaussian processes, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.arithmetic import product
from modelkit.convert.estimators.distances import squared
from modelkit.convert.estimators.error_function import error_function
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    complement,
    constant,
    doubles,
    flat,
    op,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

Kernel = float | Var  # a number where a kernel is the same for all rows
# How scikit-learn approximates a sigmoid by error functions (Williams and Barber, 1998).
SCALES = np.array([0.41, 0.4, 0.37, 0.44, 0.39])
SHARES = np.array([-1854.8214151, 3516.89893646, 221.29346712, 128.12323805, -2010.49422654])


def process(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """GaussianProcessRegressor: the mean at each row."""
    rows = columns.matrix(np.float64)
    weights = np.asarray(estimator.alpha_, np.float64)
    one = weights.ndim == 1 or weights.shape[1] == 1
    weights = weights.reshape(len(weights), -1)
    spread = np.broadcast_to(estimator._y_train_std, weights.shape[1])  # no public way
    middle = np.broadcast_to(estimator._y_train_mean, weights.shape[1])
    found = _whole(estimator, rows)
    means = product(found, weights * spread, middle)
    return Answer(prediction=flat(means) if one else means)


def process_of_classes(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """GaussianProcessClassifier: one process for two classes, and several for more."""
    return at.answer(estimator.base_estimator_, columns)


def process_of_two(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """The process of two classes: an average of sigmoids over what is likely at each row."""
    rows = columns.matrix(np.float64)
    found = _whole(estimator, rows)
    pull = np.asarray(estimator.y_train_ - estimator.pi_, np.float64)[:, None]
    mean = found @ pull
    solved = np.linalg.solve(estimator.L_, np.diag(estimator.W_sr_))
    known = op.reduce_sum_square(found @ solved.T, constant([1], np.int64), keepdims=1)
    variance = _as_tensor(_own(estimator.kernel_, rows)) - known
    above = mean > 0.0
    return Answer(
        place=flat(above.astype(np.int64)), probabilities=complement(_averaged(mean, variance))
    )


def _averaged(mean: Var, variance: Var) -> Var:
    """(n, 1): the mean of the sigmoid of a normal number, as a sum of error functions."""
    precision = 1.0 / (variance * 2.0)
    share = precision / (precision + SCALES[None] ** 2)
    places = mean * SCALES[None] * np.sqrt(share)
    halves = doubles(0.5 * SHARES[:, None])
    return op.gemm(error_function(places), halves, doubles(0.5 * SHARES.sum()))


def _whole(estimator: Any, rows: Var) -> Var:
    """(n, rows of training): the kernel of each row with each row of training."""
    known = np.asarray(estimator.X_train_, np.float64)
    found = _kernel(estimator.kernel_, rows, known)
    if isinstance(found, float):
        size = np.concatenate(
            [op.shape(rows, start=0, end=1), constant([len(known)], np.int64)], axis=0
        )
        return op.expand(doubles(found), size)
    return found


def _as_tensor(kernel: Kernel) -> Var:
    return doubles(kernel) if isinstance(kernel, float) else kernel


def _joined(one: Kernel, other: Kernel, kind: str) -> Kernel:
    """The sum or the product of two kernels."""
    if isinstance(one, float) and isinstance(other, float):
        return one + other if kind == "Sum" else one * other
    join = op.add if kind == "Sum" else op.mul
    return join(_as_tensor(one), _as_tensor(other))


def _to_the_power(kernel: Kernel, exponent: float) -> Kernel:
    if isinstance(kernel, float):
        return float(kernel**exponent)
    return kernel**exponent


def _kernel(kernel: Any, rows: Var, known: Array) -> Kernel:
    """(n, rows of training), or one number for all."""
    kind = type(kernel).__name__
    if kind in ("Sum", "Product"):
        first = _kernel(kernel.k1, rows, known)
        return _joined(first, _kernel(kernel.k2, rows, known), kind)
    if kind == "Exponentiation":
        return _to_the_power(_kernel(kernel.kernel, rows, known), float(kernel.exponent))
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
    return KERNELS[kind](kernel, rows, known)


def _own(kernel: Any, rows: Var) -> Kernel:
    """(n, 1), or one number for all: the kernel of each row with itself."""
    kind = type(kernel).__name__
    if kind in ("Sum", "Product"):
        first = _own(kernel.k1, rows)
        return _joined(first, _own(kernel.k2, rows), kind)
    if kind == "Exponentiation":
        return _to_the_power(_own(kernel.kernel, rows), float(kernel.exponent))
    if kind == "ConstantKernel":
        return float(kernel.constant_value)
    if kind == "WhiteKernel":
        return float(kernel.noise_level)
    if kind == "DotProduct":
        lengths = op.reduce_sum_square(rows, constant([1], np.int64), keepdims=1)
        return lengths + float(kernel.sigma_0) ** 2
    return 1.0


def _scaled_squares(kernel: Any, rows: Var, known: Array) -> Var:
    """Squared distances in units of the length scale, one for all columns or one for each."""
    lengths = np.ravel(np.asarray(kernel.length_scale, np.float64))
    return squared(rows / lengths[None], known / lengths)


def _radial(kernel: Any, rows: Var, known: Array) -> Var:
    return np.exp(_scaled_squares(kernel, rows, known) * -0.5)


def _matern(kernel: Any, rows: Var, known: Array) -> Var:
    squares = _scaled_squares(kernel, rows, known)
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


def _rational(kernel: Any, rows: Var, known: Array) -> Var:
    squares = squared(rows, known)
    divisor = 2 * kernel.alpha * kernel.length_scale**2
    base = squares / divisor + 1.0
    return base ** (-float(kernel.alpha))


def _periodic(kernel: Any, rows: Var, known: Array) -> Var:
    distances = np.sqrt(squared(rows, known))
    wave = op.sin(distances * (np.pi / kernel.periodicity))
    share = wave / float(kernel.length_scale)
    return np.exp(share * share * -2.0)


def _product(kernel: Any, rows: Var, known: Array) -> Var:
    products = rows @ known.T
    return products + float(kernel.sigma_0) ** 2


KERNELS: dict[str, Callable[[Any, Var, Array], Var]] = {
    "DotProduct": _product,
    "ExpSineSquared": _periodic,
    "Matern": _matern,
    "RBF": _radial,
    "RationalQuadratic": _rational,
}
ESTIMATORS = {
    "sklearn.GaussianProcessRegressor": process,
    "sklearn.GaussianProcessClassifier": process_of_classes,
    "sklearn._BinaryGaussianProcessClassifierLaplace": process_of_two,
}
