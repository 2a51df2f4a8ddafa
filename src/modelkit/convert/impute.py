"""Converters of imputers that put one value into a column, and of indicators of what was missing."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import MISSING, Array, is_missing
from modelkit.convert.lookup import column_name, single_columns
from modelkit.convert.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    cast,
    constant,
    doubles,
    dtype_of,
    joined,
    op,
    width,
)
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting


def filled(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """SimpleImputer: the statistic of a column in its gaps; columns without one are dropped."""
    statistics = np.asarray(estimator.statistics_, object)
    kept = list(range(len(statistics)))
    if not estimator.keep_empty_features:
        kept = [place for place in kept if not _is_nan(statistics[place])]
    values = statistics[kept].astype(estimator._fill_dtype)  # noqa: SLF001 - no public way
    parts: list[Var] = []
    first = 0
    for part in _by_kind(columns.take(kept)):
        after = first + width(part)
        if dtype_of(part) == STRING:
            _check_texts(estimator, kept[first], values[first])
        fill = _as_fill(part, values[first:after])
        parts.append(op.where(gaps(part, estimator.missing_values), fill, part))
        first = after
    return Answer(table=with_indicators(estimator, columns, parts))


def indicators(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """MissingIndicator: 1 where a value is missing, for the columns in which one was, or all."""
    places = estimator.features_.tolist()
    return Answer(table=Columns((_indicators(columns, places, estimator.missing_values),)))


def with_indicators(
    imputer: Any,
    columns: Columns,
    parts: list[Var],
) -> Columns:
    """What an imputer made of columns, and behind it the indicators that it may add."""
    places = imputer.indicator_.features_.tolist() if imputer.add_indicator else []
    if places:
        parts = [*parts, _indicators(columns, places, imputer.missing_values)]
    return Columns(tuple(parts))


def _indicators(
    columns: Columns,
    places: list[int],
    marker: Any,
) -> Var:
    found = [gaps(part, marker) for part in columns.take(places).merged().parts]
    return cast(joined(found), np.float64)


def gaps(part: Var, marker: Any) -> Var:
    """Where a matrix is missing: where it equals a marker, or what a missing value arrives as."""
    texts = dtype_of(part) == STRING
    if is_missing(marker):
        return op.equal(part, constant(MISSING)) if texts else op.isnan(part)
    if texts != isinstance(marker, str):  # a text among numbers, or the other way round
        return op.not_(op.equal(part, part))
    return op.equal(part, constant(marker, dtype_of(part)))


def _by_kind(columns: Columns) -> list[Var]:
    """Numbers in matrices, and each column of texts by itself, as encoders take them."""
    found: list[Var] = []
    wide = [part if dtype_of(part) == STRING else cast(part, np.float64) for part in columns.parts]
    for dtype, parts in groupby(wide, dtype_of):
        alike = list(parts)
        if dtype == STRING:
            found += single_columns(Columns(tuple(alike)))
        else:
            found.append(joined(alike))
    return found


def _as_fill(part: Var, values: Array) -> Var:
    """What is put into the gaps of a matrix.

    A text in a column of numbers is as unknown to what follows as a gap is, which stays one.
    """
    if dtype_of(part) != STRING:
        return doubles([[np.nan if isinstance(value, str) else value for value in values]])
    (value,) = values.tolist()
    return constant(MISSING if value is None else value)


def _check_texts(estimator: Any, place: int, value: Any) -> None:
    """Raise ConversionError where a column of texts is filled with a number."""
    if value is None or isinstance(value, str):
        return
    raise ConversionError(
        f"SimpleImputer puts {value!r} into {column_name(estimator, place)}, which holds strings; "
        "give it a fill_value that is a string",
        step="SimpleImputer",
    )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


ESTIMATORS = {
    "sklearn.SimpleImputer": filled,
    "sklearn.MissingIndicator": indicators,
}
