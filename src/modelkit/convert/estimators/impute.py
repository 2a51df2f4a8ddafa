"""Converters of SimpleImputer, MissingIndicator and IterativeImputer."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting, Fill
from modelkit.convert.estimators.lookup import column_name, single_columns
from modelkit.convert.estimators.origins import rounded_columns
from modelkit.convert.estimators.tensors import (
    STRING,
    Columns,
    Var,
    column_stack,
    constant,
    converts,
    refuse,
    upright,
    width,
)
from modelkit.signature.cast import MISSING, is_missing


@converts("SimpleImputer")
def filled(estimator: Any, columns: Columns, at: Converting) -> Columns:
    """SimpleImputer: the statistic of a column in its gaps; columns without one are dropped."""
    kept = _kept(estimator)
    statistics = np.asarray(estimator.statistics_, object)[kept]
    dtype = getattr(estimator, "_fill_dtype", estimator._fit_dtype)  # no public way; 1.8 has both
    values = statistics.astype(dtype)
    parts: list[Var] = []
    first = 0
    for part in _by_kind(columns.take(kept), at.float_dtype(columns)):
        own = values[first : first + width(part)]
        if part.dtype == STRING and not isinstance(own[0], str | None):
            refuse(
                estimator,
                f" puts {own[0]!r} into {column_name(estimator, kept[first])}, which holds strings; "
                "give it a fill_value that is a string",
            )
        parts.append(_filled(part, own, estimator.missing_values))
        first += len(own)
    return with_indicators(estimator, columns, parts, at)


def _kept(estimator: Any) -> list[int]:
    """The places of the columns that are not dropped."""
    every = estimator.keep_empty_features
    statistics = enumerate(estimator.statistics_.tolist())
    return [place for place, value in statistics if every or not _is_nan(value)]


@converts("MissingIndicator")
def indicators(estimator: Any, columns: Columns, at: Converting) -> Columns:
    """MissingIndicator: 1 where a value is missing, for the columns in which one was, or all."""
    chosen = columns.take(estimator.features_.tolist())
    found = [_gaps(part, estimator.missing_values) for part in _by_kind(chosen, np.float64)]
    return Columns((column_stack(found),) if found else ())


def with_indicators(imputer: Any, columns: Columns, parts: list[Var], at: Converting) -> Columns:
    """What an imputer made of columns, and behind it the indicators that it may add."""
    if imputer.add_indicator:
        added = indicators(imputer.indicator_, columns, at).parts
        parts = [*parts, *(each.astype(at.float_dtype(columns)) for each in added)]
    return Columns(tuple(parts))


def _gaps(part: Var, marker: Any) -> Var:
    """Where a matrix is missing; None is a value like others to what looks for NaN."""
    if _is_nan(marker) and part.marks_none:
        return ~(part == part)
    return gaps(part, marker)


def gaps(part: Var, marker: Any) -> Var:
    """Where a matrix is missing: where it equals a marker, or what a missing value arrives as."""
    texts = part.dtype == STRING
    if is_missing(marker):
        return part == MISSING if texts else np.isnan(part)
    if texts != isinstance(marker, str):  # a text among numbers, or the other way round
        return ~(part == part)
    return part == constant(marker, part.dtype)


def _by_kind(columns: Columns, dtype: Any) -> list[Var]:
    """Numbers in matrices, and each column of texts by itself, as encoders take them."""
    found: list[Var] = []
    cast_parts = [part if part.dtype == STRING else part.astype(dtype) for part in columns.parts]
    for kind, parts in groupby(cast_parts, lambda part: part.dtype):
        alike = list(parts)
        if kind == STRING:
            found += single_columns(Columns(tuple(alike)))
        else:
            found.append(column_stack(alike))
    return found


def _filled(part: Var, values: Array, marker: Any) -> Var:
    """A matrix with values in its gaps.

    A text in a column of numbers is as unknown to what follows as a gap is, which stays one.
    """
    if _is_nan(marker) and part.marks_none:
        return part
    gone = gaps(part, marker)
    if part.dtype != STRING:
        numbers = [np.nan if isinstance(value, str) else value for value in values]
        return np.where(gone, constant([numbers], part.dtype), part)
    (value,) = values.tolist()
    text = MISSING if value is None else value
    done: Var = np.where(gone, text, part)
    mark = MISSING if is_missing(marker) else marker
    if isinstance(mark, str):
        done.fill = Fill(part, mark, text)
    return done


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


@converts("IterativeImputer")
def filled_in_rounds(estimator: Any, columns: Columns, at: Converting) -> Columns:
    """IterativeImputer: the first values, then what the estimators of fit say, one by one."""
    if estimator.sample_posterior:
        refuse(
            estimator,
            "(sample_posterior=True) draws at random, and gives the same rows "
            "another answer each time; use sample_posterior=False",
        )
    first = at.answer(estimator.initial_imputer_, columns).required("table")
    table = single_columns(Columns((first.matrix(np.float64),)))
    missing = _missing(estimator, columns)
    for step in estimator.imputation_sequence_ if estimator.n_iter_ else ():
        place = int(step.feat_idx)
        if missing[place] is None:
            continue
        others = [table[int(other)] for other in step.neighbor_feat_idx]
        said = at.answer(step.estimator, Columns((column_stack(others),)))
        value = upright(said.required("prediction").astype(np.float64))
        table[place] = np.where(missing[place], _within(estimator, place, value), table[place])
    if not any(rounded_columns(columns)):
        for part, mask in zip(table, missing, strict=True):
            part.imputed = mask
    return with_indicators(estimator, columns, table, at)


def _missing(estimator: Any, columns: Columns) -> list[Any]:
    """Where each column that is kept is missing; None for those that fit had no value of."""
    empty = estimator._is_empty_feature.tolist()  # no public way
    found: list[Any] = []
    for place, column in enumerate(single_columns(columns)):
        if not empty[place]:
            found.append(gaps(column.astype(np.float64), estimator.missing_values))
        elif estimator.keep_empty_features:
            found.append(None)
    return found


def _within(estimator: Any, place: int, value: Var) -> Var:
    """A value within the limits of its column."""
    least = float(estimator._min_value[place])  # no public way
    most = float(estimator._max_value[place])
    if np.isfinite(least):
        value = np.maximum(value, least)
    if np.isfinite(most):
        value = np.minimum(value, most)
    return value
