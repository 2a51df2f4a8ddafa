"""Converter of HistGradientBoosting: rows, thresholds and leaves of float64, categories as sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array, is_missing
from modelkit.convert.categories import HALF, Sets, with_sets
from modelkit.convert.forests import from_start
from modelkit.convert.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    column,
    dtype_of,
    flat,
    largest,
    ml,
    op,
)
from modelkit.convert.trees import Tree

if TYPE_CHECKING:
    from modelkit.convert.table import Converting


def histogram(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """HistGradientBoostingClassifier and HistGradientBoostingRegressor."""
    start = np.ravel(estimator._baseline_prediction)  # noqa: SLF001 - no public way to the trees
    coded: dict[int, tuple[Var, Sets]] = {}
    numeric = list(range(sum(columns.widths)))
    if estimator.is_categorical_ is not None:
        coded = _coded(estimator, columns)
        numeric = np.flatnonzero(~estimator.is_categorical_).tolist()
    sets = [found for _, found in coded.values()]
    seen: list[tuple[int, Tree, Array]] = []
    for stage in estimator._predictors:  # noqa: SLF001
        seen += [(k, _tree(each, sets), each.nodes["value"]) for k, each in enumerate(stage)]
    stages = [(k, _placed(tree, len(numeric), sets), values) for k, tree, values in seen]
    rows = with_sets(columns, coded, numeric) if coded else columns.matrix(np.float64)
    if not hasattr(estimator, "classes_"):
        raw = flat(from_start(rows, start, stages, 1))
        return Answer(prediction=op.exp(raw) if estimator.loss in ("poisson", "gamma") else raw)
    if len(start) > 1:
        raw = from_start(rows, start, stages, len(start))
        return Answer(place=largest(raw), probabilities=op.softmax(raw, axis=1), decision=raw)
    raw = from_start(
        rows, start, stages, 1, skip=1
    )  # beside zeros: the softmax of both is the sigmoid of one
    return Answer(
        place=largest(raw), probabilities=op.softmax(raw, axis=1), decision=column(raw, 1)
    )


def _coded(estimator: Any, columns: Columns) -> dict[int, tuple[Var, Sets]]:
    """For each column of categories, in the order in which trees see them, its codes and the sets of its splits."""
    encoder = estimator._preprocessor.named_transformers_["encoder"]  # noqa: SLF001
    found = {}
    for place, values in zip(
        np.flatnonzero(estimator.is_categorical_).tolist(), encoder.categories_, strict=True
    ):
        known = [value for value in values.tolist() if not is_missing(value)]
        (part,) = columns.take([place]).parts
        found[place] = (_codes(part, known), Sets(len(known)))
    return found


def _codes(part: Var, known: list[Any]) -> Var:
    """The place of each value among the known ones, and their number for all others."""
    places = np.arange(len(known), dtype=np.int64)
    if dtype_of(part) == STRING:
        keys = np.array([str(value) for value in known], np.str_)
        return ml.label_encoder(
            part, keys_tensor=keys, values_tensor=places, default_tensor=np.array([len(known)])
        )
    keys = np.array(known, np.float64)
    wide = op.cast(part, to=np.float64)
    other = np.array([float(len(known))])
    codes = ml.label_encoder(
        wide, keys_tensor=keys, values_tensor=places.astype(np.float64), default_tensor=other
    )
    return op.cast(codes, to=np.int64)


def _tree(predictor: Any, sets: list[Sets]) -> Tree:
    """A tree over the columns as it sees them: a split by a set is HALF, on the column -1 - (number of the set)."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    split, place = nodes["num_threshold"].astype(np.float64), nodes["feature_idx"].astype(np.int64)
    missing = nodes["missing_go_to_left"].astype(bool)
    for i in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf).tolist():
        among = sets[place[i]]
        bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][i]]
        left = np.array([bits[code // 32] >> (code % 32) & 1 for code in range(among.codes)], bool)
        split[i] = HALF
        place[i] = -1 - (place[i] << 32 | among.number(left, other_left=bool(missing[i])))
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    return Tree(place, split, missing, left, right)


def _placed(tree: Tree, numbers: int, sets: list[Sets]) -> Tree:
    """The same tree over the columns of numbers, and behind them those of the sets."""
    if not sets:
        return tree
    sizes = [len(each) for each in sets]
    starts = numbers + np.cumsum([0, *sizes])
    of_set = tree.column < 0
    key = -1 - tree.column[of_set]
    column: Array = tree.column - len(sets)
    column[of_set] = starts[key >> 32] + (key & 0xFFFFFFFF)
    column[tree.leaf] = 0
    return Tree(column, tree.threshold, tree.missing, tree.left, tree.right)
