"""Converter of HistGradientBoosting: rows, thresholds and leaves of float64, categories as sets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.categories import Sets, codes_of, read_by
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.gradient import by_scores
from modelkit.convert.estimators.origins import rounded_columns
from modelkit.convert.estimators.rounding import beyond_rounding
from modelkit.convert.estimators.tensors import Answer, Columns, converts, flat
from modelkit.convert.estimators.trees import Forest, sum_from
from modelkit.signature.cast import is_missing

EXPONENTIAL = ("poisson", "gamma")  # losses whose scores are logarithms
SIDES = ("left", "right")


@converts("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
def histogram(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """HistGradientBoostingClassifier and HistGradientBoostingRegressor."""
    start = np.ravel(estimator._baseline_prediction)  # no public way to the trees
    known = _known_categories(estimator)
    forest, sets = _forest(estimator)
    raised = _raised(estimator, columns, at)
    if not known:
        columns = _lowered(columns, raised)
    forest = _with_thresholds(forest, raised)
    rows, forest, _ = read_by(
        forest,
        sets,
        columns,
        lambda numbers: numbers.matrix(np.float64),
        lambda column, place, other: codes_of(column, known[place], other),
    )
    two = hasattr(estimator, "classes_") and len(start) == 1
    raw = sum_from(rows, start, forest, skip=int(two))
    if hasattr(estimator, "classes_"):
        return by_scores(raw, two=two)
    if estimator.loss in EXPONENTIAL:
        raw = np.exp(raw)
    return Answer(prediction=flat(raw))


def _known_categories(estimator: Any) -> dict[int, list[Any]]:
    """The categories of each column of categories, in the order of their codes."""
    if estimator.is_categorical_ is None:
        return {}
    encoder = estimator._preprocessor.named_transformers_["encoder"]  # no public way
    known = zip(_order(estimator).tolist(), encoder.categories_, strict=False)
    return {
        place: [value for value in values.tolist() if not is_missing(value)]
        for place, values in known
    }


def _forest(estimator: Any) -> tuple[Forest, Sets]:
    """The trees over columns, and the sets that they ask for."""
    order = _order(estimator)
    trees = [tree for stage in estimator._predictors for tree in stage]  # no public way
    nodes = np.concatenate([tree.nodes for tree in trees])
    column = order[nodes["feature_idx"]]
    threshold = nodes["num_threshold"].copy()
    missing = nodes["missing_go_to_left"]
    left, right = (np.where(nodes["is_leaf"], -1, nodes[side].astype(int)) for side in SIDES)
    words = np.concatenate([tree.raw_left_cat_bitsets for tree in trees])  # in the order of nodes
    members = words[:, :, None] >> np.arange(32, dtype=words.dtype) & 1
    sets = Sets()
    by_set = np.flatnonzero(nodes["is_categorical"] & (left >= 0)).tolist()
    for node, bits in zip(by_set, members, strict=True):
        codes = np.flatnonzero(bits).tolist()
        sets.ask(node, column, threshold, codes, left=True, other_left=missing[node])
    sizes = np.array([len(tree.nodes) for tree in trees])
    value = nodes["value"][:, None]
    return Forest(left, right, column, threshold, missing, value, sizes), sets


def _order(estimator: Any) -> Array:
    """The column that each feature of the trees is: columns of categories come first."""
    by_category = estimator.is_categorical_
    if by_category is None:
        return np.arange(estimator.n_features_in_)
    return np.argsort(~by_category, kind="stable")


def _raised(estimator: Any, columns: Columns, at: Converting) -> dict[int, dict[float, float]]:
    """Thresholds that are raised by the last bits of columns that are rounded otherwise, by column."""
    rounded = np.array(rounded_columns(columns), bool)
    if estimator.is_categorical_ is not None:
        rounded &= ~estimator.is_categorical_
    found = {}
    thresholds = estimator._bin_mapper.bin_thresholds_  # no public way
    for place, own in zip(_order(estimator).tolist(), thresholds, strict=True):
        if rounded[place] and len(own):
            known = np.asarray(own, np.float64)
            moved = beyond_rounding(known, at.values_of(columns, place), side=1)
            found[place] = dict(zip(known.tolist(), moved.tolist(), strict=True))
    return found


def _lowered(columns: Columns, raised: dict[int, dict[float, float]]) -> Columns:
    """Columns whose imputed values are lowered, in place of `raised` thresholds: the others are the source's."""
    parts = []
    for part, its in columns.spans:
        if part.imputed is not None:
            by = [_least_raise(raised.pop(place, {})) for place in range(its.start, its.stop)]
            parts.append(np.where(part.imputed, part - np.array([by]), part))
        else:
            parts.append(part)
    return replace(columns, parts=tuple(parts))


def _least_raise(raised: dict[float, float]) -> float:
    """The least by which thresholds are raised, but for those next to a value that is theirs but for rounding."""
    by = [new - old for old, new in raised.items() if np.isfinite(old)]
    return min((each for each in by if each >= max(by) / 4), default=0.0)


def _with_thresholds(forest: Forest, raised: dict[int, dict[float, float]]) -> Forest:
    """The same trees, with other thresholds for some features."""
    if not raised:
        return forest
    asked = zip(forest.column.tolist(), forest.threshold.tolist(), strict=True)
    moved = [raised.get(feature, {}).get(threshold, threshold) for feature, threshold in asked]
    return replace(forest, threshold=np.array(moved))
