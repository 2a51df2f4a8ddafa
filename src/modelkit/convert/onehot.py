"""Converter of OneHotEncoder: a column of 0 and 1 for each category, or group of rare ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array, is_missing
from modelkit.convert.lookup import check_one_missing, looked_up, single_columns
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
)

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting

NO_CODE = -1  # of values that are no category: their columns are all 0


def indicators(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """OneHotEncoder: every code of a column that is not dropped has a column of its own."""
    check_one_missing(estimator, columns, at)
    dtype = np.float32 if estimator.dtype == np.float32 else np.float64
    if _compares_values(estimator, columns):
        same = _equal_values(estimator, columns)
    else:
        each = enumerate(single_columns(columns))
        same = joined([_equal_codes(estimator, place, column, at) for place, column in each])
    return Answer(table=Columns((cast(same, dtype),)))


def _compares_values(estimator: Any, columns: Columns) -> bool:
    """Whether all columns are numbers of which each stands for itself."""
    for place, categories in enumerate(estimator.categories_):
        if _grouped(estimator, place) is not None or any(map(is_missing, categories.tolist())):
            return False
    return all(dtype_of(part) != STRING for part in columns.parts)


def _equal_values(estimator: Any, columns: Columns) -> Var:
    """Numbers beside their categories: two operators for all columns."""
    places: list[int] = []
    values: list[float] = []
    for place, categories in enumerate(estimator.categories_):
        kept = categories[_kept_codes(estimator, place)].astype(np.float64)
        places += [place] * len(kept)
        values += kept.tolist()
    repeated = op.gather(columns.matrix(np.float64), constant(places, np.int64), axis=1)
    return op.equal(repeated, doubles([values]))


def _equal_codes(
    estimator: Any,
    place: int,
    column: Var,
    at: Converting,
) -> Var:
    categories = estimator.categories_[place].tolist()
    groups = _grouped(estimator, place)
    codes = np.arange(len(categories)) if groups is None else groups
    rare = estimator.handle_unknown in ("infrequent_if_exist", "warn") and groups is not None
    unknown = codes.max() if rare else NO_CODE
    found = looked_up(column, categories, codes.astype(np.float64), unknown, at)
    return op.equal(found, doubles([_kept_codes(estimator, place)]))


def _grouped(estimator: Any, place: int) -> Array | None:
    """The code of each category of a column where rare ones share the last; None where none do."""
    if not estimator._infrequent_enabled:  # noqa: SLF001 - no public way
        return None
    groups: Array | None = estimator._default_to_infrequent_mappings[place]  # noqa: SLF001
    return groups


def _kept_codes(estimator: Any, place: int) -> list[int]:
    """The codes of a column that have a column of their own."""
    groups = _grouped(estimator, place)
    count = len(estimator.categories_[place]) if groups is None else int(groups.max()) + 1
    codes = list(range(count))
    dropped = estimator._drop_idx_after_grouping  # noqa: SLF001 - no public way
    if dropped is not None and dropped[place] is not None:
        codes.remove(int(dropped[place]))
    return codes


ESTIMATORS = {
    "sklearn.OneHotEncoder": indicators,
}
