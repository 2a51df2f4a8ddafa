"""Columns of pandas in the dtypes that an estimator was fitted on, from coerced values."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError
from modelkit.signature.frames import blank_column

OBJECT = np.dtype(object)


def frame_of(like: Any, nones: Collection[str], columns: Mapping[str, Array], count: int) -> Any:
    """A frame of pandas from coerced columns by name, with the names and dtypes of another.

    Args:
        like: the other, without rows.
        nones: its columns of objects whose missing values are None rather than NaN.
        columns: `count` values each; those that are not given are blank.
        count: the number of rows.

    Raises:
        SignatureError: for a text that is not valid Unicode.
    """
    pd = sys.modules["pandas"]  # `like` is one of its frames
    kept = {}
    for at, (name, dtype) in enumerate(like.dtypes.items()):
        values = columns.get(str(name))
        if values is None:  # one that is not read
            kept[at] = blank_column(dtype, pd.RangeIndex(count))
            continue
        try:
            kept[at] = series_of(pd, values, dtype, none=str(name) in nones)
        except UnicodeEncodeError as error:
            raise SignatureError(
                f"a text of column {str(name)!r} is not valid Unicode: {error.reason} in "
                f"{error.object!r:.60}"
            ) from error
    frame = pd.DataFrame(kept)
    frame.columns = like.columns
    return frame


def series_of(pd: Any, values: Array, dtype: Any, *, none: bool) -> Any:
    """One column in the dtype it had, or in pandas' choice where its values do not fit it.

    Args:
        pd: pandas.
        values: numbers, times, or objects with None for missing ones.
        dtype: of the column in training.
        none: whether a column of objects marks a missing value with None, rather than NaN.
    """
    if values.dtype.kind in "mM" or _zone_of(dtype) is not None:
        return _times(pd, values, dtype)
    if isinstance(dtype, pd.SparseDtype):
        return _sparse(pd, values, dtype)
    if isinstance(dtype, pd.CategoricalDtype):
        return _categories(pd, values, dtype)
    if values.dtype != OBJECT:
        return _numbers(pd, values, dtype)
    if dtype == OBJECT and not none:
        values = np.where(_is_none(values), np.nan, values)
    return pd.Series(values, dtype=dtype, copy=True)


def _is_none(values: Array) -> Array:
    gone: Array = values == None  # noqa: E711 - for each element
    return gone


def _numbers(pd: Any, values: Array, dtype: Any) -> Any:
    """Numbers in their dtype, or as floats where one has a fraction, or a gap that the dtype lacks."""
    if dtype == OBJECT and set(np.unique(values[~np.isnan(values)])) <= {0.0, 1.0}:
        values = np.where(np.isnan(values), values, values.astype(bool).astype(object))
    plain = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(plain, np.dtype) and plain.kind in "iub":
        gaps = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        whole = as_fitted(values[~gaps], plain)
        if whole.dtype != plain or (gaps.any() and plain is dtype):
            dtype = values.dtype  # as pandas does
        elif plain is dtype:
            values = whole
    return pd.Series(values, dtype=dtype, copy=True)


def _categories(pd: Any, values: Array, dtype: Any) -> Any:
    """Categories; unknown ones come after its own."""
    known = dtype.categories
    if known.dtype == bool:
        return _truths(pd, values, dtype)
    gone = _is_none(values) if values.dtype == OBJECT else np.isnan(values)
    others = known[:0]
    if not gone.all():
        held = values[~gone]
        if isinstance(known.dtype, np.dtype):  # whole numbers stay what they are
            held = as_fitted(held, known.dtype)
        others = pd.Index(held).unique().difference(known)
    if len(others):
        dtype = pd.CategoricalDtype(known.append(others), dtype.ordered)
    return pd.Series(values, dtype=dtype, copy=True)


def _truths(pd: Any, values: Array, dtype: Any) -> Any:
    """Categories that are booleans, from 0, 1 and NaN; numbers where there are others."""
    numbers = values.astype(np.float64)
    gone = np.isnan(numbers)
    if not set(numbers[~gone].tolist()) <= {0.0, 1.0}:
        return pd.Series(numbers)
    known = dtype.categories.tolist()
    codes = [-1 if np.isnan(number) else known.index(bool(number)) for number in numbers]
    return pd.Series(pd.Categorical.from_codes(codes, dtype=dtype))


def _sparse(pd: Any, values: Array, dtype: Any) -> Any:
    """One sparse column in the dtype it had, or where its numbers are not whole, in their own."""
    kept = as_fitted(values, dtype.subtype)
    if kept.dtype != dtype.subtype:
        dtype = pd.SparseDtype(kept.dtype, dtype.fill_value)
    return pd.Series(pd.arrays.SparseArray(kept, dtype=dtype))


def _times(pd: Any, values: Array, dtype: Any) -> Any:
    """One column of times in the dtype and the time zone that it had."""
    zone = _zone_of(dtype)
    if zone is None:
        return pd.Series(values).astype(dtype)
    column = pd.Series(np.array(values.tolist()))
    return column.dt.tz_localize("UTC").dt.tz_convert(zone).astype(dtype)


def _zone_of(dtype: Any) -> Any:
    """The time zone of a dtype of pandas or Arrow; None for one without."""
    arrow = getattr(dtype, "pyarrow_dtype", None)
    return getattr(arrow, "tz", None) or getattr(dtype, "tz", None)


def as_fitted(values: Array, dtype: np.dtype[Any]) -> Array:
    """Floats as the whole numbers that the estimator was fitted on, if all of them are whole."""
    if values.dtype == dtype or dtype.kind not in "iub" or not np.isfinite(values).all():
        return values
    bounds = None if dtype.kind == "b" else np.iinfo(dtype)
    low, high = (bounds.min, bounds.max) if bounds else (0, 1)
    fits = (low <= values) & (values <= high) & (values == np.rint(values))
    return values.astype(dtype) if fits.all() else values
