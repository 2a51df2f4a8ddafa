"""Converters of scalers in the dtype of their rows: a column less a number, over another, and rows over their norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelkit.convert.estimators.rows import Rows, is_sparse, of_doubles, of_floats, shown
from modelkit.convert.estimators.tensors import flat, norms, row_sums, total

SMALL_NORM = 10 * float(np.finfo(np.float64).eps)  # norms below count as 1 for scikit-learn
MOST_ADDED = 32  # columns whose squares are added up one by one
SMALLEST = float(np.nextafter(0, 1))  # of a sparse table none but 0


@of_floats("StandardScaler")
def standard(estimator: Any, x: Any) -> Any:
    """StandardScaler: the mean off, over the standard deviation."""
    mean = estimator.mean_.astype(x.dtype) if estimator.with_mean else None
    if is_sparse(x) or not estimator.with_std:
        return shifted(x, mean, estimator.scale_)
    return shifted(x, mean, estimator.scale_.astype(x.dtype))


@of_floats("RobustScaler")
def robust(estimator: Any, x: Any) -> Any:
    """RobustScaler: the median off, over the range between two quantiles."""
    centre = estimator.center_ if estimator.with_centering else None
    return shifted(x, centre, estimator.scale_ if estimator.with_scaling else None)


def shifted(x: Any, centre: Any, scale: Any) -> Any:
    """Each column less its centre, over its scale, as numpy computes in place; None leaves a step out.

    A sparse matrix is multiplied by the inverse of its scale.
    """
    dtype = x.dtype
    sparse = is_sparse(x)
    if centre is not None:
        x = (x - centre).astype(dtype)
    if scale is None:
        return x
    return (x * (1 / scale) if sparse else x / scale).astype(dtype)


@of_floats("MinMaxScaler")
def minmax(estimator: Any, x: Any) -> Any:
    """MinMaxScaler: times a scale, plus what takes the smallest to the lower end of the range."""
    scaled = (x * estimator.scale_).astype(x.dtype)
    scaled = (scaled + estimator.min_).astype(x.dtype)
    return within(scaled, *estimator.feature_range) if estimator.clip else scaled


@of_floats("MaxAbsScaler")
def maxabs(estimator: Any, x: Any) -> Any:
    """MaxAbsScaler: over the largest size."""
    scaled = shifted(x, None, estimator.scale_)
    return within(scaled, -1.0, 1.0) if getattr(estimator, "clip", False) else scaled


def within(x: Any, low: Any, high: Any) -> Any:
    """Numbers inside a range; a missing one stays missing, which Clip does not promise."""
    return np.minimum(np.maximum(x, low), high)


@of_floats("Normalizer")
def normalized(estimator: Any, x: Any) -> Any:
    """Normalizer: each row over its norm, which where thresholds follow is its own to the last bit."""
    small = SMALLEST if is_sparse(x) else 10 * float(np.finfo(x.dtype).eps)
    jumps = isinstance(x, Rows) and x.at.jumps
    known = shown(x) if jumps else None
    if estimator.norm != "max":  # sums of float32 have other last digits
        x = x.astype(np.float64)
    norm = None
    if jumps and estimator.norm == "l1":
        norm = row_sums(np.abs(x))
    if jumps and estimator.norm == "l2":
        norm = _length(x, known)
    return over_norm(x, estimator.norm, norm, small)


def _length(x: Any, rows: Any) -> Any:
    """(n, 1): the length of each row, its squares added in the order in which numpy does it here.

    That is one after the other, or in two lanes, as rows lie in memory; None where it is neither.
    """
    count = x.shape[1]
    if rows is None or count > MOST_ADDED:
        return None
    known = np.asarray(rows, np.float64)
    sums = np.einsum("ij,ij->i", known, known)
    for orders in (lanes(count), [range(count)]):
        if np.array_equal(flat(added_in(known * known, orders)), sums):
            return np.sqrt(added_in(x * x, orders))
    return None


def lanes(count: int) -> list[list[int]]:
    """The order in which numpy.einsum adds up columns: in two lanes, and of eight the last two first."""
    whole = count // 8 * 8
    pairs = [start + place for start in range(0, whole, 8) for place in (6, 4, 2, 0)]
    both = ([*(place + lane for place in pairs), *range(whole + lane, count, 2)] for lane in (0, 1))
    return [lane for lane in both if lane]


def added_in(x: Any, orders: Sequence[Sequence[int]]) -> Any:
    """(n, 1): the sum of each row, by one order of columns and then the others, and these together."""
    return total([total([x[:, [place]] for place in order]) for order in orders])


def over_norm(x: Any, name: str, norm: Any = None, small: float = SMALL_NORM) -> Any:
    """Each row over its norm; one that is smaller than `small` counts as 1."""
    norm = norms(x, name) if norm is None else norm
    return x / np.where(norm < small, 1.0, norm)


@of_floats("Binarizer")
def binarized(estimator: Any, x: Any) -> Any:
    """Binarizer: 1 above the threshold, and 0 where a value equals it."""
    return (x > float(estimator.threshold)).astype(x.dtype)


@of_doubles("KernelCenterer")
def centred(centerer: Any, x: Any) -> Any:
    """KernelCenterer: kernels with the rows of training, as if their features had no mean."""
    mean = np.sum(x, axis=1, keepdims=True) / len(centerer.K_fit_rows_)
    return x - centerer.K_fit_rows_ - mean + centerer.K_fit_all_
