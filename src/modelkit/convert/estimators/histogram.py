"""Converter of HistGradientBoosting: rows, thresholds and leaves of float64, categories as sets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.arithmetic import choose, minus
from modelkit.convert.estimators.categories import Beside, Sets
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.rounding import beyond_rounding, rounded_columns
from modelkit.convert.estimators.stages import Stage, by_scores, from_start
from modelkit.convert.estimators.tensors import Answer, Columns, flat, op, width
from modelkit.convert.estimators.trees import Tree
from modelkit.signature.cast import is_missing

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


EXPONENTIAL = ("poisson", "gamma")  # losses whose scores are logarithms


def histogram(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """HistGradientBoostingClassifier and HistGradientBoostingRegressor."""
    start = np.ravel(estimator._baseline_prediction)  # no public way to the trees
    known = _known_categories(estimator)
    sets = [Sets(len(values)) for values in known]
    told = _stages(estimator, sets)
    raised = _raised(estimator, columns, at)
    if not known:
        columns = _lowered(columns, raised, at)
    read = _read(estimator, columns, known, sets, at)
    stages = []
    for output, tree, leaves in told:
        stages.append((output, read.placed(_with_thresholds(tree, raised)), leaves))
    two = hasattr(estimator, "classes_") and len(start) == 1
    raw = from_start(read.rows, start, stages, len(start), skip=int(two))
    if hasattr(estimator, "classes_"):
        return by_scores(raw, two=two)
    if estimator.loss in EXPONENTIAL:
        raw = op.exp(raw)
    return Answer(prediction=flat(raw))


def _known_categories(estimator: Any) -> list[list[Any]]:
    """The categories of each column of categories, in the order of their codes."""
    if estimator.is_categorical_ is None:
        return []
    encoder = estimator._preprocessor.named_transformers_["encoder"]  # no public way
    return [_present(values.tolist()) for values in encoder.categories_]


def _present(values: list[Any]) -> list[Any]:
    return [value for value in values if not is_missing(value)]


def _read(
    estimator: Any, columns: Columns, known: list[list[Any]], sets: list[Sets], at: Converting
) -> Beside:
    """What the trees read: for them, columns of categories come before those of numbers."""
    found = Beside(np.float64)
    if not known:
        found.add_numbers(range(sum(columns.widths)), columns.matrix(np.float64))
        return found
    numeric = np.flatnonzero(~estimator.is_categorical_).tolist()
    if numeric:
        features = range(len(known), len(known) + len(numeric))
        found.add_numbers(features, columns.take(numeric).matrix(np.float64))
    for feature, place in enumerate(np.flatnonzero(estimator.is_categorical_).tolist()):
        if len(sets[feature]):
            (part,) = columns.take([place]).parts
            places = np.arange(len(known[feature]))
            codes = looked_up(part, known[feature], places, len(places), at)
            found.add_sets(feature, sets[feature], codes)
    return found


def _stages(estimator: Any, sets: list[Sets]) -> list[Stage]:
    """Output, tree and leaves of each stage; trees are placed after all have told their sets."""
    found: list[Stage] = []
    for stage in estimator._predictors:  # no public way
        for output, each in enumerate(stage):
            found.append((output, _tree(each, sets), each.nodes["value"]))
    return found


def _raised(estimator: Any, columns: Columns, at: Converting) -> dict[int, dict[float, float]]:
    """Thresholds that are raised by the last bits of columns that are rounded otherwise, by feature."""
    rounded = np.array(rounded_columns(columns), bool)
    by_category = np.zeros(len(rounded), bool)
    if estimator.is_categorical_ is not None:
        by_category = estimator.is_categorical_
    categories = int(by_category.sum())
    found = {}
    thresholds = estimator._bin_mapper.bin_thresholds_  # no public way
    for feature, place in enumerate(np.flatnonzero(~by_category).tolist(), categories):
        known = np.asarray(thresholds[feature], np.float64)
        if rounded[place] and len(known):
            moved = beyond_rounding(known, at.values_of(columns, place), side=1)
            found[feature] = dict(zip(known.tolist(), moved.tolist(), strict=True))
    return found


def _lowered(columns: Columns, raised: dict[int, dict[float, float]], at: Converting) -> Columns:
    """Columns whose imputed values are lowered, in place of `raised` thresholds: the others are the source's."""
    parts = []
    first = 0
    for part in columns.parts:
        places = range(first, first + width(part))
        first += width(part)
        missing = next((mask for made, mask in at.imputed if made is part), None)
        if missing is not None:
            by = [_least_raise(raised.pop(place, {})) for place in places]
            parts.append(choose(missing, minus(part, np.array([by])), part))
        else:
            parts.append(part)
    return replace(columns, parts=tuple(parts))


def _least_raise(raised: dict[float, float]) -> float:
    """The least by which thresholds are raised, but for those next to a value that is theirs but for rounding."""
    by = [new - old for old, new in raised.items() if np.isfinite(old)]
    return min((each for each in by if each >= max(by) / 4), default=0.0)


def _with_thresholds(tree: Tree, raised: dict[int, dict[float, float]]) -> Tree:
    """The same tree, with other thresholds for some features."""
    if not raised:
        return tree
    threshold = tree.threshold.copy()
    for node in np.flatnonzero(~tree.leaf).tolist():
        of_feature = raised.get(int(tree.column[node]), {})
        old = float(threshold[node])
        threshold[node] = of_feature.get(old, old)
    return replace(tree, threshold=threshold)


def _tree(predictor: Any, sets: list[Sets]) -> Tree:
    """A tree over features, as `Beside.placed` takes it."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    split = nodes["num_threshold"].astype(np.float64)
    feature = nodes["feature_idx"].astype(np.int64)
    missing = nodes["missing_go_to_left"].astype(bool)
    by_set = nodes["is_categorical"].astype(bool) & ~leaf
    for node in np.flatnonzero(by_set).tolist():
        among = sets[feature[node]]
        bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        split[node] = among.number(_members(bits, among.codes), other_left=bool(missing[node]))
        feature[node] = -1 - feature[node]
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    return Tree(feature, split, missing, left, right)


def _members(bits: Array, codes: int) -> Array:
    """(codes,) whether each code is in a set, which is written as bits of words of 32."""
    return np.array([bits[code // 32] >> (code % 32) & 1 for code in range(codes)], bool)


ESTIMATORS = {
    "sklearn.HistGradientBoostingClassifier": histogram,
    "sklearn.HistGradientBoostingRegressor": histogram,
}
