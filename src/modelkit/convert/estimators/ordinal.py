"""Converters of encoders that put a number in place of a category."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.lookup import (
    check_one_missing,
    looked_up,
    refuse_unknown,
    single_columns,
)
from modelkit.convert.estimators.tensors import Answer, Columns, Var, converts, gathered, joined

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


@converts("OrdinalEncoder")
def codes(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OrdinalEncoder: the place of each category, rare ones together behind the others."""
    check_one_missing(estimator, columns, at)
    single = estimator.dtype == np.float32
    refuse_unknown(estimator, columns, at)
    given = 0 if estimator.unknown_value is None else estimator.unknown_value
    unknown = np.asarray(given).astype(estimator.dtype)
    parts = []
    for place, column in enumerate(single_columns(columns)):
        values = _codes(estimator, place).astype(estimator.dtype).astype(np.float64)
        known = estimator.categories_[place].tolist()
        parts.append(looked_up(column, known, values, unknown, at))
    return Answer(table=Columns((joined(parts).astype(np.float32 if single else np.float64),)))


def _codes(estimator: Any, place: int) -> Array:
    """What stands for each category of a column."""
    count = len(estimator.categories_[place])
    found = np.arange(count, dtype=np.float64)
    gap = estimator._missing_indices.get(place)  # no public way
    if estimator._infrequent_enabled:
        groups = estimator._default_to_infrequent_mappings[place]
        if groups is not None:
            found[: len(groups)] = groups
    if gap is not None:
        found[gap] = estimator.encoded_missing_value
    return found


@converts("TargetEncoder")
def target_means(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """TargetEncoder: the mean of the target in each category, and that of all rows elsewhere."""
    check_one_missing(estimator, columns, at)
    if estimator.target_type_ == "multiclass":
        return Answer(table=Columns((_means_by_class(estimator, columns, at),)))
    parts = []
    for place, column in enumerate(single_columns(columns)):
        means = np.asarray(estimator.encodings_[place], np.float64)
        known = estimator.categories_[place].tolist()
        parts.append(looked_up(column, known, means, estimator.target_mean_, at))
    return Answer(table=Columns((joined(parts),)))


def _means_by_class(estimator: Any, columns: Columns, at: Converting) -> Var:
    """A row of means for each category, and one for all else, of one column after the other."""
    rows = []
    tables: list[Array] = []
    first = 0
    for place, column in enumerate(single_columns(columns)):
        table = _table_of_means(estimator, place)
        after = first + len(table)
        known = estimator.categories_[place].tolist()
        numbers = np.arange(first, after - 1)
        rows.append(looked_up(column, known, numbers, after - 1, at))
        tables.append(table)
        first = after
    found = gathered(np.concatenate(tables), joined(rows))
    count = len(rows) * len(estimator.classes_)
    return found.reshape(-1, count)


def _table_of_means(estimator: Any, place: int) -> Array:
    """(categories + 1, classes): a row for each category of a column, and one for all else."""
    classes = len(estimator.classes_)
    first = place * classes
    means = np.stack(estimator.encodings_[first : first + classes], axis=1)
    return np.vstack([means, estimator.target_mean_])
