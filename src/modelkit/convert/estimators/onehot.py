"""Converter of OneHotEncoder: a column of 0 and 1 for each category, or group of rare ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.converting import Converting, OneHot
from modelkit.convert.estimators.lookup import (
    check_one_missing,
    looked_up,
    refuse_unknown,
    single_columns,
)
from modelkit.convert.estimators.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    converts,
    joined,
    width,
)
from modelkit.signature.cast import is_missing

PRODUCT_COLUMNS = 24  # columns up to which a product is as fast as a look at each weight
NO_CODE = -1  # of values that are no category: their columns are all 0


@converts("OneHotEncoder")
def indicators(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OneHotEncoder: every code of a column that is not dropped has a column of its own."""
    check_one_missing(estimator, columns, at)
    refuse_unknown(estimator, columns, at)
    dtype = np.float32 if estimator.dtype == np.float32 else np.float64
    each = list(enumerate(single_columns(columns)))
    if _compares_values(estimator, columns):
        same = _equal_values(estimator, columns)
    else:
        same = joined([_equal_codes(estimator, place, column, at) for place, column in each])
    table = same.astype(dtype)
    if width(table) > PRODUCT_COLUMNS:
        at.note_one_hot(table, [_codes(estimator, place, column, at) for place, column in each])
    return Answer(table=Columns((table,)))


def _compares_values(estimator: Any, columns: Columns) -> bool:
    """Whether all columns are numbers of which each stands for itself."""
    for place, categories in enumerate(estimator.categories_):
        if _grouped(estimator, place) is not None or any(map(is_missing, categories.tolist())):
            return False
    return all(part.dtype != STRING for part in columns.parts)


def _equal_values(estimator: Any, columns: Columns) -> Var:
    """Numbers beside their categories: two operators for all columns."""
    places: list[int] = []
    values: list[float] = []
    for place, categories in enumerate(estimator.categories_):
        kept = categories[_kept_codes(estimator, place)].astype(np.float64)
        places += [place] * len(kept)
        values += kept.tolist()
    repeated = np.take(columns.matrix(np.float64), places, axis=1)
    return repeated == [values]


def _equal_codes(estimator: Any, place: int, column: Var, at: Converting) -> Var:
    """Codes beside those that have a column."""
    codes, unknown = _all_codes(estimator, place)
    known = estimator.categories_[place].tolist()
    found = looked_up(column, known, codes.astype(np.float64), unknown, at)
    return found == [_kept_codes(estimator, place)]


def _codes(estimator: Any, place: int, column: Var, at: Converting) -> OneHot:
    """The column of each category, among those of its own."""
    codes, unknown = _all_codes(estimator, place)
    kept = _kept_codes(estimator, place)
    of_code = {code: number for number, code in enumerate(kept)}
    numbers = [of_code.get(code, len(kept)) for code in codes.tolist()]
    otherwise = of_code.get(unknown, len(kept))
    known = estimator.categories_[place].tolist()
    places = looked_up(column, known, np.array(numbers, np.int64), otherwise, at)
    return OneHot(places, len(kept))


def _all_codes(estimator: Any, place: int) -> tuple[Array, int]:
    """The code of each category of a column, and that of all else."""
    groups = _grouped(estimator, place)
    if groups is None:
        return np.arange(len(estimator.categories_[place])), NO_CODE
    shares = estimator.handle_unknown in ("infrequent_if_exist", "warn")
    return groups, int(groups.max()) if shares else NO_CODE


def _grouped(estimator: Any, place: int) -> Array | None:
    """The code of each category of a column where rare ones share the last; None where none do."""
    if not estimator._infrequent_enabled:  # no public way
        return None
    groups: Array | None = estimator._default_to_infrequent_mappings[place]
    return groups


def _kept_codes(estimator: Any, place: int) -> list[int]:
    """The codes of a column that have a column of their own."""
    groups = _grouped(estimator, place)
    count = len(estimator.categories_[place]) if groups is None else int(groups.max()) + 1
    codes = list(range(count))
    dropped = estimator._drop_idx_after_grouping  # no public way
    if dropped is not None and dropped[place] is not None:
        codes.remove(int(dropped[place]))
    return codes
