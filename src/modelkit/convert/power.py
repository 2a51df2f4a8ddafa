"""Converter of PowerTransformer, in float64: Yeo-Johnson and Box-Cox with the accuracy of scipy near 0.

ONNX has no log1p and no expm1. The forms here are Kahan's (W. Kahan, HP-15C Advanced Functions
Handbook, 1982): the rounding of 1 + x is divided out of the result again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.tensors import Answer, Columns, Var, doubles, op

if TYPE_CHECKING:
    from modelkit.cast import Array
    from modelkit.convert.converting import Converting

ALL_LOST = -36.0  # below this exponent, exp(x) - 1 rounds to -1
NEAR = 1.0  # below this size of x, exp(x) - 1 loses digits


def power(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """PowerTransformer: a power of each column, and its scaler."""
    rows = columns.matrix(np.float64)
    powers = np.asarray(estimator.lambdas_, np.float64)[None]
    transform = _box_cox if estimator.method == "box-cox" else _yeo_johnson
    table = transform(rows, powers)
    if estimator.standardize:
        centred = op.sub(table, doubles(estimator._scaler.mean_[None]))  # noqa: SLF001 - no public way
        table = op.div(centred, doubles(estimator._scaler.scale_[None]))  # noqa: SLF001
    return Answer(table=Columns((table,)))


def _yeo_johnson(rows: Var, powers: Array) -> Var:
    """Of a number below 0 the negative transform of its size, with the power 2 - lambda."""
    eps = np.finfo(np.float64).eps
    above = op.greater_or_equal(rows, doubles(0.0))
    logs = _log1p(op.abs(rows))
    upper = _of_logs(logs, powers, np.abs(powers) < eps)
    mirrored = 2 - powers
    lower = op.neg(_of_logs(logs, mirrored, np.abs(mirrored) <= eps))
    return op.where(above, upper, lower)


def _box_cox(rows: Var, powers: Array) -> Var:
    return _of_logs(op.log(rows), powers, powers == 0)


def _of_logs(logs: Var, powers: Array, vanishing: Array) -> Var:
    """(exp(power log) - 1) / power of each column; the log itself where the power is as good as 0."""
    divisors = np.where(vanishing, 1.0, powers)
    found = op.div(_expm1(op.mul(logs, doubles(divisors))), doubles(divisors))
    if vanishing.any():
        found = op.where(op.cast(doubles(vanishing), to=np.bool_), logs, found)
    return found


def _log1p(sizes: Var) -> Var:
    """log(1 + x) of numbers from 0 on."""
    shifted = op.add(sizes, doubles(1.0))
    kept = op.sub(shifted, doubles(1.0))
    tiny = op.equal(kept, doubles(0.0))
    infinite = op.isinf(sizes)
    mended = op.div(op.mul(op.log(shifted), sizes), kept)
    return op.where(op.or_(tiny, infinite), sizes, mended)


def _expm1(numbers: Var) -> Var:
    """exp(x) - 1."""
    grown = op.exp(numbers)
    kept = op.sub(grown, doubles(1.0))
    tiny = op.equal(kept, doubles(0.0))
    mended = op.div(op.mul(kept, numbers), op.log(grown))
    near = op.less(op.abs(numbers), doubles(NEAR))
    small = op.where(tiny, numbers, op.where(near, mended, kept))
    lost = op.less(numbers, doubles(ALL_LOST))
    return op.where(lost, doubles(-1.0), small)


ESTIMATORS = {
    "sklearn.PowerTransformer": power,
}
