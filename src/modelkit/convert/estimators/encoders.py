"""Converters of encoders: a number in place of a category, or a column of 0 and 1 for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting, OneHot
from modelkit.convert.estimators.lookup import Lookup, lookups
from modelkit.convert.estimators.tensors import (
    Columns,
    Var,
    column_stack,
    converts,
    gathered,
    width,
)

PRODUCT_COLUMNS = 24  # columns up to which a product is as fast as a look at each weight


@converts("OrdinalEncoder")
def codes(estimator: Any, columns: Columns, at: Converting) -> Var:
    """OrdinalEncoder: the place of each category, rare ones together behind the others."""
    given = 0 if estimator.unknown_value is None else estimator.unknown_value
    unknown = np.asarray(given).astype(estimator.dtype)
    parts = []
    for place, look in enumerate(lookups(estimator, columns, at)):
        values = _values(estimator, place).astype(estimator.dtype).astype(np.float64)
        parts.append(look(values, unknown))
    dtype = np.float32 if estimator.dtype == np.float32 else np.float64
    return column_stack(parts).astype(dtype)


def _values(estimator: Any, place: int) -> Array:
    """What stands for each category of a column."""
    found = np.arange(len(estimator.categories_[place]), dtype=np.float64)
    if estimator._infrequent_enabled:  # no public way
        groups = estimator._default_to_infrequent_mappings[place]
        if groups is not None:
            found[: len(groups)] = groups
    if place in estimator._missing_indices:
        found[estimator._missing_indices[place]] = estimator.encoded_missing_value
    return found


@converts("TargetEncoder")
def target_means(estimator: Any, columns: Columns, at: Converting) -> Var:
    """TargetEncoder: the mean of the target in each category; elsewhere, of all rows."""
    overall = np.atleast_1d(estimator.target_mean_)  # of each class, where there are several
    count = len(overall)
    parts = []
    for place, look in enumerate(lookups(estimator, columns, at)):
        means = np.stack(estimator.encodings_[place * count : (place + 1) * count], axis=1)
        if count == 1:
            parts.append(look(means[:, 0].astype(np.float64), overall[0]))
        else:
            number = look(np.arange(len(means)), len(means))
            parts.append(gathered(np.vstack([means, overall]), number).reshape(-1, count))
    return column_stack(parts)


@converts("OneHotEncoder")
def indicators(estimator: Any, columns: Columns, at: Converting) -> Var:
    """OneHotEncoder: every code of a column that is not dropped has a column of its own."""
    looks = lookups(estimator, columns, at)
    codes = [_codes(estimator, place, look) for place, look in enumerate(looks)]
    dtype = np.float32 if estimator.dtype == np.float32 else np.float64
    table = column_stack([each.places == [range(each.width)] for each in codes]).astype(dtype)
    if width(table) > PRODUCT_COLUMNS:
        table.one_hots = codes
    return table


def _codes(estimator: Any, place: int, look: Lookup) -> OneHot:
    """The column with the 1, counted within one feature; rare categories share the last."""
    codes = np.arange(len(estimator.categories_[place]))
    unknown = -1
    shared = estimator._infrequent_enabled  # no public way
    groups = estimator._default_to_infrequent_mappings[place] if shared else None
    if groups is not None:
        codes = groups
        if estimator.handle_unknown in ("infrequent_if_exist", "warn"):
            unknown = codes.max()
    dropped = estimator._drop_idx_after_grouping  # no public way
    kept = np.setdiff1d(codes, [] if dropped is None or dropped[place] is None else dropped[place])
    numbers = np.full(codes.max() + 2, len(kept))  # the last is that of no category
    numbers[kept] = np.arange(len(kept))
    return OneHot(look(numbers[codes], numbers[unknown]), len(kept))
