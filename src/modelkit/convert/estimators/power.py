"""Converter of PowerTransformer, in float64: Yeo-Johnson and Box-Cox with the accuracy of scipy near 0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.elementary import expm1, log1p
from modelkit.convert.estimators.tensors import Answer, Columns, Var, doubles

if TYPE_CHECKING:
    from modelkit._internal.arrays import Array
    from modelkit.convert.estimators.converting import Converting


def power(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """PowerTransformer: a power of each column, and its scaler."""
    rows = columns.matrix(np.float64)
    powers = np.asarray(estimator.lambdas_)[None]
    transform = _box_cox if estimator.method == "box-cox" else _yeo_johnson
    table = transform(rows, powers)
    if estimator.standardize:
        centred = table - estimator._scaler.mean_[None]  # no public way
        table = centred / estimator._scaler.scale_[None]
    return Answer(table=Columns((table,)))


def _yeo_johnson(rows: Var, powers: Array) -> Var:
    """Of a number below 0 the negative transform of its size, with the power 2 - lambda."""
    eps = np.finfo(np.float64).eps
    above = rows >= 0.0
    logs = log1p(np.abs(rows))
    upper = _of_logs(logs, powers, np.abs(powers) < eps)
    mirrored = 2 - powers  # rounded as the source rounds it, where its powers are of float32
    lower = -_of_logs(logs, mirrored, np.abs(mirrored) <= eps)
    return np.where(above, upper, lower)


def _box_cox(rows: Var, powers: Array) -> Var:
    return _of_logs(np.log(rows), powers, powers == 0)


def _of_logs(logs: Var, powers: Array, vanishing: Array) -> Var:
    """(exp(power log) - 1) / power of each column; the log itself where the power is as good as 0."""
    divisors = np.where(vanishing, 1.0, powers).astype(np.float64)
    found = expm1(logs * divisors) / divisors
    if vanishing.any():
        found = np.where(doubles(vanishing).astype(np.bool_), logs, found)
    return found


ESTIMATORS = {"sklearn.PowerTransformer": power}
