"""Converter of PowerTransformer, in float64: Yeo-Johnson and Box-Cox with the accuracy of scipy near 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.rows import of_doubles


@of_doubles("PowerTransformer")
def power(estimator: Any, x: Any) -> Any:
    """PowerTransformer: a power of each column, and its scaler."""
    transform = _box_cox if estimator.method == "box-cox" else _yeo_johnson
    table = transform(x, np.asarray(estimator.lambdas_))
    if estimator.standardize:
        table = (table - estimator._scaler.mean_) / estimator._scaler.scale_  # no public way
    return table


def _yeo_johnson(x: Any, powers: Array) -> Any:
    """Of a number below 0 the negative transform of its size, with the power 2 - lambda."""
    eps = np.finfo(np.float64).eps
    logs = np.log1p(np.abs(x))
    mirrored = 2 - powers  # rounded as the source rounds it, where its powers are of float32
    upper = _of_logs(logs, powers, np.abs(powers) < eps)
    return np.where(x >= 0.0, upper, -_of_logs(logs, mirrored, np.abs(mirrored) <= eps))


def _box_cox(x: Any, powers: Array) -> Any:
    return _of_logs(np.log(x), powers, powers == 0)


def _of_logs(logs: Any, powers: Array, vanishing: Array) -> Any:
    """(exp(power log) - 1) / power of each column; the log itself where the power is as good as 0."""
    divisors = np.where(vanishing, 1.0, powers).astype(np.float64)
    found = np.expm1(logs * divisors) / divisors
    return np.where(vanishing, logs, found) if vanishing.any() else found
