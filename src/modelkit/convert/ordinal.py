"""Converters of encoders that put a number in place of a category."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array
from modelkit.convert.lookup import check_one_missing, looked_up, single_columns
from modelkit.convert.tensors import Answer, Columns, Var, cast, constant, doubles, joined, op

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting


def codes(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """OrdinalEncoder: the place of each category, rare ones together behind the others."""
    check_one_missing(estimator)
    single = estimator.dtype == np.float32
    known = estimator.handle_unknown == "error"
    unknown = 0 if known else np.asarray(estimator.unknown_value).astype(estimator.dtype)
    parts = []
    for place, column in enumerate(single_columns(columns)):
        values = _codes(estimator, place).astype(estimator.dtype).astype(np.float64)
        parts.append(looked_up(column, estimator.categories_[place].tolist(), values, unknown))
    return Answer(table=Columns((cast(joined(parts), np.float32 if single else np.float64),)))


def _codes(estimator: Any, place: int) -> Array:
    """What stands for each category of a column."""
    count = len(estimator.categories_[place])
    found = np.arange(count, dtype=np.float64)
    gap = estimator._missing_indices.get(place)  # noqa: SLF001 - no public way
    if estimator._infrequent_enabled:  # noqa: SLF001
        groups = estimator._default_to_infrequent_mappings[place]  # noqa: SLF001
        if groups is not None:
            found[: len(groups)] = groups
    if gap is not None:
        found[gap] = estimator.encoded_missing_value
    return found


def target_means(estimator: Any, columns: Columns, _: Converting) -> Answer:
    """TargetEncoder: the mean of the target in each category, and that of all rows elsewhere."""
    check_one_missing(estimator)
    if estimator.target_type_ == "multiclass":
        return Answer(table=Columns((_means_by_class(estimator, columns),)))
    parts = []
    for place, column in enumerate(single_columns(columns)):
        means = np.asarray(estimator.encodings_[place], np.float64)
        known = estimator.categories_[place].tolist()
        parts.append(looked_up(column, known, means, estimator.target_mean_))
    return Answer(table=Columns((joined(parts),)))


def _means_by_class(estimator: Any, columns: Columns) -> Var:
    """A row of means for each category, and one for all else, of one column after the other."""
    classes = len(estimator.classes_)
    rows = []
    tables: list[Array] = []
    first = 0
    for place, column in enumerate(single_columns(columns)):
        known = estimator.categories_[place].tolist()
        means = np.stack(estimator.encodings_[place * classes : (place + 1) * classes], axis=1)
        numbers = np.arange(first, first + len(known))
        first += len(known) + 1
        rows.append(looked_up(column, known, numbers, first - 1))
        tables += [means, np.atleast_2d(estimator.target_mean_)]
    found = op.gather(doubles(np.concatenate(tables)), joined(rows))
    return op.reshape(found, constant([-1, len(rows) * classes], np.int64))


ESTIMATORS = {
    "sklearn.OrdinalEncoder": codes,
    "sklearn.TargetEncoder": target_means,
}
