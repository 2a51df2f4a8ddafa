"""Converter of OneHotEncoder: a column of 0 and 1 for each category, or group of rare ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit.convert.estimators.converting import Converting, OneHot
from modelkit.convert.estimators.lookup import Lookup, lookups
from modelkit.convert.estimators.tensors import Answer, Columns, converts, joined, width

PRODUCT_COLUMNS = 24  # columns up to which a product is as fast as a look at each weight


@converts("OneHotEncoder")
def indicators(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OneHotEncoder: every code of a column that is not dropped has a column of its own."""
    looks = lookups(estimator, columns, at)
    codes = [_codes(estimator, place, look) for place, look in enumerate(looks)]
    dtype = np.float32 if estimator.dtype == np.float32 else np.float64
    table = joined([each.places == [range(each.width)] for each in codes]).astype(dtype)
    if width(table) > PRODUCT_COLUMNS:
        table.one_hots = codes
    return Answer(table=Columns((table,)))


def _codes(estimator: Any, place: int, look: Lookup) -> OneHot:
    """The column with the 1, among those of one feature; rare categories share the last one."""
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
