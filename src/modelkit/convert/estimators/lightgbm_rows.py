"""What trees of LightGBM read: numbers, codes that have an order, and the sets of other codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.estimators.arithmetic import choose, greater, less
from modelkit.convert.estimators.categories import Beside, Sets
from modelkit.convert.estimators.lightgbm_trees import Dumped, codes_in, is_by_set, splits_of
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.tensors import STRING, Columns, Var, cast, dtype_of, op
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


def read_by(columns: Columns, nodes: list[list[Dumped]], estimator: Any, at: Converting) -> Beside:
    """What the trees read, in float64. Raises ConversionError."""
    found = Beside(np.float64)
    splits = splits_of(nodes)
    by_set = sorted({node["split_feature"] for node in splits if is_by_set(node)})
    names = _names(columns, estimator, at)
    if not by_set and not names:
        found.add_numbers(range(sum(columns.widths)), columns.matrix(np.float64))
        return found
    asked = sorted({node["split_feature"] for node in splits}.difference(by_set))
    numeric = [feature for feature in asked if feature not in names]
    if numeric:
        found.add_numbers(numeric, columns.take(numeric).matrix(np.float64))
    for feature in asked:
        if feature in names:
            found.add_numbers([feature], _order(columns, feature, names[feature], at))
    for feature in by_set:
        sets = _sets(feature, splits)
        codes = _codes(columns, feature, sets.codes, names.get(feature), at)
        found.add_sets(feature, sets, codes)
    return found


def _names(columns: Columns, estimator: Any, at: Converting) -> dict[int, list[Any]]:
    """The values of each column of pandas categories, in the order of their codes."""
    found = []
    for place in range(sum(columns.widths)):
        (part,) = columns.take([place]).parts
        if dtype_of(part) == STRING or at.categories_of(part):
            found.append(place)
    known = estimator.booster_.pandas_categorical or []
    if len(found) != len(known):
        raise ConversionError(
            f"{type(estimator).__name__} was fitted on {len(known)} columns of pandas categories, "
            f"and is given {len(found)}; pass an example with the dtypes that fit was given",
            step=type(estimator).__name__,
        )
    return dict(zip(found, known, strict=True))


def _sets(feature: int, splits: list[Dumped]) -> Sets:
    """The sets of codes that the splits of one feature ask for; each split is told the number."""
    asked = [node for node in splits if node["split_feature"] == feature]
    sets = Sets(1 + max(max(codes_in(node)) for node in asked))
    for node in asked:
        left = np.isin(np.arange(sets.codes), codes_in(node))
        node["set"] = sets.number(left, other_left=False)
    return sets


def _codes(
    columns: Columns, feature: int, codes: int, names: list[Any] | None, at: Converting
) -> Var:
    """(n, 1) codes of a column of categories; `codes` for all that is none of a set."""
    (part,) = columns.take([feature]).parts
    if names is None:
        return _whole(cast(part, np.float64), codes)
    places = np.minimum(np.arange(len(names)), codes)
    return looked_up(part, names, places, codes, at)


def _order(columns: Columns, feature: int, names: list[Any], at: Converting) -> Var:
    """(n, 1) codes of a column whose categories have an order, as numbers; others are missing."""
    (part,) = columns.take([feature]).parts
    places = np.arange(len(names), dtype=np.float64)
    return looked_up(part, names, places, np.nan, at)


def _whole(part: Var, codes: int) -> Var:
    """Codes as LightGBM reads them: cut off towards zero; below -1, missing and beyond is none."""
    held = choose(greater(part, -1.0), op.abs(part), codes)
    return op.cast(choose(less(held, codes), held, codes), to=np.int64)
