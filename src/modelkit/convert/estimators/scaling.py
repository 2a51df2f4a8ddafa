"""Converters of scalers in float64: a column less a number, over another, and rows over their norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import choose, greater, less, minus, over, plus, times
from modelkit.convert.estimators.tensors import Answer, Columns, Var, cast, constant, doubles, op

if TYPE_CHECKING:
    from modelkit.cast import Array
    from modelkit.convert.estimators.converting import Converting

SMALL_NORM = 10 * float(np.finfo(np.float64).eps)  # norms below count as 1 for scikit-learn
SMALLEST = float(np.nextafter(0, 1))  # of a sparse table none but 0
NORMS = {"l1": op.reduce_l1, "l2": op.reduce_l2, "max": op.reduce_max}


def one_table(numbers: Var) -> Answer:
    """What a transformer answers that gives one matrix."""
    return Answer(table=Columns((numbers,)))


def standard(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """StandardScaler: the mean off, over the standard deviation."""
    mean = estimator.mean_ if estimator.with_mean else None
    scale = estimator.scale_ if estimator.with_std else None
    if columns.stored is not None:
        return _of_sparse(columns, scale)
    return one_table(shifted(columns.matrix(np.float64), mean, scale))


def robust(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """RobustScaler: the median off, over the range between two quantiles."""
    centre = estimator.center_ if estimator.with_centering else None
    scale = estimator.scale_ if estimator.with_scaling else None
    if columns.stored is not None:
        return _of_sparse(columns, scale)
    return one_table(shifted(columns.matrix(np.float64), centre, scale))


def _of_sparse(columns: Columns, scale: Array | None) -> Answer:
    """Columns of a sparse table over their scale: the source multiplies these by its inverse."""
    rows = columns.matrix(np.float64)
    return one_table(rows if scale is None else times(rows, 1 / scale))


def shifted(
    rows: Var,
    centre: Array | None,
    scale: Array | None,
) -> Var:
    """Each column less its centre, over its scale; None leaves a step out."""
    if centre is not None:
        rows = minus(rows, centre)
    if scale is not None:
        rows = over(rows, scale)
    return rows


def minmax(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """MinMaxScaler: times a scale, plus what takes the smallest to the lower end of the range."""
    rows = columns.matrix(np.float64)
    scaled = plus(times(rows, estimator.scale_), estimator.min_)
    if estimator.clip:
        scaled = within(scaled, *estimator.feature_range)
    return one_table(scaled)


def maxabs(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """MaxAbsScaler: over the largest size."""
    if columns.stored is None:
        scaled = over(columns.matrix(np.float64), estimator.scale_)
    else:
        scaled = times(columns.matrix(np.float64), 1 / estimator.scale_)
    if getattr(estimator, "clip", False):
        scaled = within(scaled, -1.0, 1.0)
    return one_table(scaled)


def within(
    numbers: Var,
    low: Any,
    high: Any,
) -> Var:
    """Numbers inside a range; a missing one stays missing, which Clip does not promise."""
    raised = op.max([numbers, doubles(low)])
    return op.min([raised, doubles(high)])


def normalized(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """Normalizer: each row over its norm."""
    smallest = SMALL_NORM if columns.stored is None else SMALLEST
    return one_table(over_norm(columns.matrix(np.float64), estimator.norm, smallest))


def over_norm(rows: Var, name: str, smallest: float = SMALL_NORM) -> Var:
    """Each row over its norm, which counts as 1 where it is below the smallest."""
    sizes = op.abs(rows) if name == "max" else rows
    norm = NORMS[name](sizes, constant([1], np.int64), keepdims=1)
    divisor = choose(less(norm, smallest), 1.0, norm)
    return over(rows, divisor)


def binarized(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """Binarizer: 1 above the threshold, and 0 where a value equals it."""
    above = greater(columns.matrix(np.float64), estimator.threshold)
    return one_table(cast(above, np.float64))


def centred(
    estimator: Any,
    columns: Columns,
    _: Converting,
) -> Answer:
    """KernelCenterer: kernels with the rows of training, as if their features had no mean."""
    return one_table(centred_kernel(estimator, columns.matrix(np.float64)))


def centred_kernel(centerer: Any, kernel: Var) -> Var:
    """A kernel less its means over the rows of training, (n, rows of training)."""
    added = op.reduce_sum(kernel, constant([1], np.int64), keepdims=1)
    mean = over(added, len(centerer.K_fit_rows_))
    shifted = minus(minus(kernel, centerer.K_fit_rows_), mean)
    return plus(shifted, centerer.K_fit_all_)


ESTIMATORS = {
    "sklearn.StandardScaler": standard,
    "sklearn.RobustScaler": robust,
    "sklearn.MinMaxScaler": minmax,
    "sklearn.MaxAbsScaler": maxabs,
    "sklearn.Normalizer": normalized,
    "sklearn.Binarizer": binarized,
    "sklearn.KernelCenterer": centred,
}
