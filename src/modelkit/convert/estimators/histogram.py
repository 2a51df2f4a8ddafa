"""Converter of HistGradientBoosting: rows, thresholds and leaves of float64, categories as sets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.cast import Array, is_missing
from modelkit.convert.estimators.categories import HALF, Sets, codes_of, with_sets
from modelkit.convert.estimators.forests import from_start
from modelkit.convert.estimators.rounding import rounded_columns
from modelkit.convert.estimators.tensors import (
    Answer,
    Columns,
    Var,
    column,
    flat,
    largest,
    op,
)
from modelkit.convert.estimators.trees import Tree

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting


EXPONENTIAL = ("poisson", "gamma")  # losses whose scores are logarithms
LAST_BITS = 2.0**-49  # of a column's largest threshold: by how much sums may be rounded otherwise


def histogram(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """HistGradientBoostingClassifier and HistGradientBoostingRegressor."""
    start = np.ravel(estimator._baseline_prediction)  # noqa: SLF001 - no public way to the trees
    coded: dict[int, tuple[Var, Sets]] = {}
    numeric = list(range(sum(columns.widths)))
    if estimator.is_categorical_ is not None:
        coded = _coded(estimator, columns)
        numeric = np.flatnonzero(~estimator.is_categorical_).tolist()
    stages = _stages(
        estimator,
        len(numeric),
        [sets for _, sets in coded.values()],
    )
    raised = _raised(estimator, len(coded), np.array(rounded_columns(columns), bool)[numeric])
    stages = [(k, _with_thresholds(tree, raised), values) for k, tree, values in stages]
    rows = with_sets(columns, coded, numeric) if coded else columns.matrix(np.float64)
    return _linked(estimator, rows, start, stages)


def _linked(
    estimator: Any,
    rows: Var,
    start: Array,
    stages: list[tuple[int, Tree, Array]],
) -> Answer:
    """What the estimator answers, from its trees over some rows."""
    if not hasattr(estimator, "classes_"):
        raw = flat(from_start(rows, start, stages, 1))
        return Answer(prediction=op.exp(raw) if estimator.loss in EXPONENTIAL else raw)
    if len(start) > 1:
        raw = from_start(
            rows,
            start,
            stages,
            len(start),
        )
        return Answer(
            place=largest(raw),
            probabilities=op.softmax(raw, axis=1),
            decision=raw,
        )
    return _of_two(from_start(rows, start, stages, 1, skip=1))


def _of_two(raw: Var) -> Answer:
    """Of two classes, whose one score stands beside zeros: the softmax of both is its sigmoid."""
    return Answer(
        place=largest(raw),
        probabilities=op.softmax(raw, axis=1),
        decision=column(raw, 1),
    )


def _stages(
    estimator: Any,
    numbers: int,
    sets: list[Sets],
) -> list[tuple[int, Tree, Array]]:
    """Output, tree and leaves of each stage; trees are placed after all have told their sets."""
    seen: list[tuple[int, Tree, Array]] = []
    for stage in estimator._predictors:  # noqa: SLF001 - no public way
        seen += [(k, _tree(each, sets), each.nodes["value"]) for k, each in enumerate(stage)]
    return [(k, _placed(tree, numbers, sets), values) for k, tree, values in seen]


def _raised(
    estimator: Any,
    categories: int,
    rounded: Array,
) -> dict[int, dict[float, float]]:
    """Thresholds that are raised by the last bits, by column of numbers.

    Most thresholds are values of the training rows. Where a column is a sum, the same row may get a
    value one bit above its own threshold from the graph, and would go the other way.
    """
    found = {}
    thresholds = estimator._bin_mapper.bin_thresholds_  # noqa: SLF001 - no public way
    for place in np.flatnonzero(rounded).tolist():
        known = np.asarray(thresholds[categories + place], np.float64)
        if not len(known):
            continue
        far = np.append(np.diff(known), np.inf) / 4
        step = np.minimum(far, np.abs(known).max() * LAST_BITS)
        found[place] = dict(zip(known.tolist(), (known + step).tolist(), strict=True))
    return found


def _with_thresholds(tree: Tree, raised: dict[int, dict[float, float]]) -> Tree:
    """The same tree, with other thresholds in some columns."""
    if not raised:
        return tree
    threshold = tree.threshold.copy()
    for node in np.flatnonzero(~tree.leaf).tolist():
        of_column = raised.get(int(tree.column[node]), {})
        old = float(threshold[node])
        threshold[node] = of_column.get(old, old)
    return replace(tree, threshold=threshold)


def _coded(estimator: Any, columns: Columns) -> dict[int, tuple[Var, Sets]]:
    """The codes of each column of categories, in the order of the trees, and its sets."""
    encoder = estimator._preprocessor.named_transformers_["encoder"]  # noqa: SLF001
    found = {}
    for place, values in zip(
        np.flatnonzero(estimator.is_categorical_).tolist(), encoder.categories_, strict=True
    ):
        known = [value for value in values.tolist() if not is_missing(value)]
        (part,) = columns.take([place]).parts
        codes = codes_of(part, known, np.arange(len(known)), len(known))
        found[place] = (codes, Sets(len(known)))
    return found


def _tree(predictor: Any, sets: list[Sets]) -> Tree:
    """A tree over its own columns; a split by a set is HALF, on column -1 - its number."""
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    split = nodes["num_threshold"].astype(np.float64)
    place = nodes["feature_idx"].astype(np.int64)
    missing = nodes["missing_go_to_left"].astype(bool)
    by_set = nodes["is_categorical"].astype(bool) & ~leaf
    for i in np.flatnonzero(by_set).tolist():
        among = sets[place[i]]
        bits = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][i]]
        left = _members(bits, among.codes)
        number = among.number(
            left,
            other_left=bool(missing[i]),
        )
        split[i] = HALF
        place[i] = -1 - (place[i] << 32 | number)
    left, right = (np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right"))
    return Tree(place, split, missing, left, right)


def _members(bits: Array, codes: int) -> Array:
    """(codes,) whether each code is in a set, which is written as bits of words of 32."""
    return np.array(
        [bits[code // 32] >> (code % 32) & 1 for code in range(codes)],
        bool,
    )


def _placed(
    tree: Tree,
    numbers: int,
    sets: list[Sets],
) -> Tree:
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
    return Tree(
        column,
        tree.threshold,
        tree.missing,
        tree.left,
        tree.right,
    )


ESTIMATORS = {
    "sklearn.HistGradientBoostingClassifier": histogram,
    "sklearn.HistGradientBoostingRegressor": histogram,
}
