"""Converters of scalers in the dtype of their rows: a column less a number, over another, and rows over their norms."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import minus, over, plus, row_sums, times
from modelkit.convert.estimators.tensors import Answer, Columns, Var, constant, op, total, width

if TYPE_CHECKING:
    from modelkit._internal.arrays import Array
    from modelkit.convert.estimators.converting import Converting

SMALL_NORM = 10 * float(np.finfo(np.float64).eps)  # norms below count as 1 for scikit-learn
MOST_ADDED = 32  # columns whose squares are added up one by one
SMALLEST = float(np.nextafter(0, 1))  # of a sparse table none but 0
NORMS = {"l1": op.reduce_l1, "l2": op.reduce_l2, "max": op.reduce_max}


def one_table(numbers: Var) -> Answer:
    """What a transformer answers that gives one matrix."""
    return Answer(table=Columns((numbers,)))


def standard(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """StandardScaler: the mean off, over the standard deviation."""
    rows = at.floats(columns)
    dtype = rows.dtype
    mean = estimator.mean_.astype(dtype) if estimator.with_mean else None
    scale = estimator.scale_.astype(dtype) if estimator.with_std else None
    if columns.stored is not None:
        return _of_sparse(rows, estimator.scale_ if estimator.with_std else None)
    return one_table(shifted(rows, mean, scale))


def robust(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """RobustScaler: the median off, over the range between two quantiles."""
    centre = estimator.center_ if estimator.with_centering else None
    scale = estimator.scale_ if estimator.with_scaling else None
    rows = at.floats(columns)
    if columns.stored is not None:
        return _of_sparse(rows, scale)
    return one_table(shifted(rows, centre, scale))


def _of_sparse(rows: Var, scale: Array | None) -> Answer:
    """Rows of a sparse table over a scale: the source multiplies these by its inverse."""
    return one_table(rows if scale is None else in_place(times, rows, 1 / scale))


def shifted(rows: Var, centre: Array | None, scale: Array | None) -> Var:
    """Each column less its centre, over its scale; None leaves a step out."""
    if centre is not None:
        rows = in_place(minus, rows, centre)
    if scale is not None:
        rows = in_place(over, rows, scale)
    return rows


def in_place(compute: Callable[[Var, Var], Var], rows: Var, numbers: Array) -> Var:
    """As numpy computes in place: in the wider dtype, then rounded to the dtype of the rows."""
    wide = np.result_type(rows.dtype, numbers)
    return compute(rows.astype(wide), constant(numbers, wide)).astype(rows.dtype)


def minmax(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """MinMaxScaler: times a scale, plus what takes the smallest to the lower end of the range."""
    rows = at.floats(columns)
    scaled = in_place(plus, in_place(times, rows, estimator.scale_), estimator.min_)
    if estimator.clip:
        scaled = within(scaled, *estimator.feature_range)
    return one_table(scaled)


def maxabs(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """MaxAbsScaler: over the largest size."""
    rows = at.floats(columns)
    if columns.stored is None:
        scaled = in_place(over, rows, estimator.scale_)
    else:
        scaled = in_place(times, rows, 1 / estimator.scale_)
    if getattr(estimator, "clip", False):
        scaled = within(scaled, -1.0, 1.0)
    return one_table(scaled)


def within(numbers: Var, low: Any, high: Any) -> Var:
    """Numbers inside a range; a missing one stays missing, which Clip does not promise."""
    raised = np.maximum(numbers, constant(low, numbers.dtype))
    return np.minimum(raised, constant(high, numbers.dtype))


def normalized(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """Normalizer: each row over its norm, which where thresholds follow is its own to the last bit."""
    largest = estimator.norm == "max"  # sums of float32 have other last digits
    rows = at.floats(columns) if largest else columns.matrix(np.float64)
    small = 10 * float(np.finfo(at.float_dtype(columns)).eps)
    small = small if columns.stored is None else SMALLEST
    norm = None
    if at.jumps and estimator.norm == "l1":
        norm = row_sums(np.abs(rows))
    if at.jumps and estimator.norm == "l2":
        norm = _length(rows, columns.table())
    return one_table(over_norm(rows, estimator.norm, norm, small))


def _length(rows: Var, shown: Any) -> Var | None:
    """(n, 1): the length of each row, its squares added in the order in which numpy does it here.

    That is one after the other, or in two lanes, as rows lie in memory; None where it is neither.
    """
    count = width(rows)
    if shown is None or count > MOST_ADDED:
        return None
    known = np.asarray(shown, np.float64)
    squares = list((known * known).T)
    whole = count // 8 * 8
    blocks = [start + place for start in range(0, whole, 8) for place in (6, 4, 2, 0)]
    lanes = [
        [*(place + lane for place in blocks), *range(whole + lane, count, 2)] for lane in (0, 1)
    ]
    for order in (lanes[: min(count, 2)], [range(count)]):
        sums = [reduce(np.add, [squares[place] for place in lane]) for lane in order]
        if np.array_equal(reduce(np.add, sums), np.einsum("ij,ij->i", known, known)):
            own = rows * rows
            parts = [total([own[:, [place]] for place in lane]) for lane in order]
            return np.sqrt(total(parts))
    return None


def over_norm(rows: Var, name: str, norm: Var | None = None, small: float = SMALL_NORM) -> Var:
    """Each row over its norm; one that is smaller than `small` counts as 1."""
    if norm is None:
        sizes = np.abs(rows) if name == "max" else rows
        norm = NORMS[name](sizes, constant([1], np.int64), keepdims=1)
    dtype = rows.dtype
    divisor = np.where(norm < constant(small, dtype), constant(1.0, dtype), norm)
    return rows / divisor


def binarized(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """Binarizer: 1 above the threshold, and 0 where a value equals it."""
    rows = at.floats(columns)
    above = rows > constant(estimator.threshold, rows.dtype)
    return one_table(above.astype(rows.dtype))


def centred(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """KernelCenterer: kernels with the rows of training, as if their features had no mean."""
    return one_table(centred_kernel(estimator, columns.matrix(np.float64)))


def centred_kernel(centerer: Any, kernel: Var) -> Var:
    """A kernel less its means over the rows of training, (n, rows of training)."""
    added = np.sum(kernel, axis=1, keepdims=True)
    mean = added / len(centerer.K_fit_rows_)
    shifted = kernel - centerer.K_fit_rows_ - mean
    return shifted + centerer.K_fit_all_


ESTIMATORS = {
    "sklearn.StandardScaler": standard,
    "sklearn.RobustScaler": robust,
    "sklearn.MinMaxScaler": minmax,
    "sklearn.MaxAbsScaler": maxabs,
    "sklearn.Normalizer": normalized,
    "sklearn.Binarizer": binarized,
    "sklearn.KernelCenterer": centred,
}
