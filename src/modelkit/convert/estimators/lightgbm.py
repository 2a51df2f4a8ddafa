"""Converter of LightGBM's estimators in float64, from the text that a Booster writes.

The library itself is not imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.categories import Sets, codes_of, read_by
from modelkit.convert.estimators.converting import Converting
from modelkit.convert.estimators.forests import mean
from modelkit.convert.estimators.lookup import looked_up
from modelkit.convert.estimators.scaling import within
from modelkit.convert.estimators.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    constant,
    converts,
    flat,
    gathered,
    key_of,
    likeliest,
    linked,
    op,
    refuse,
    sigmoid,
    softmax,
    width,
)
from modelkit.convert.estimators.trees import Forest, by_tree, joined_forests, of_branches, sum_from

FURTHEST = 1e300  # of a sum of linear leaves: the sigmoid of any number as large is 0 or 1

# Up to here a number counts as zero, and zero as missing where a column says so.
ZERO = float(np.float32(1e-35))
IDENTITY = (
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",
    "custom",
    "lambdarank",
    "rank_xendcg",
)
EXPONENTIAL = ("poisson", "gamma", "tweedie")
PROBABLE = ("binary", "cross_entropy", "multiclass", "multiclassova")


ENDLESS = 1e300
NO_GRAPH = " cannot be converted; use format='joblib'"
BY_SET = 1  # a bit of what kind a split is; the next one is whether a missing value goes left
ZERO_MISSING = 1  # what the bits behind say; 0 is for none
FLOATS = ("threshold", "leaf_value", "leaf_const", "leaf_coeff")
WHOLE = (
    "split_feature",
    "decision_type",
    "left_child",
    "right_child",
    "cat_boundaries",
    "cat_threshold",
    "num_features",
    "leaf_features",
)
Arrays = dict[str, Array]  # a tree by the names that the library writes


@converts("lightgbm.LGBMClassifier", "lightgbm.LGBMRegressor", "lightgbm.LGBMRanker")
def boosted(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """LGBMClassifier, LGBMRegressor and LGBMRanker."""
    said, trees = _model_and_trees(estimator.booster_)
    outputs = int(said["num_tree_per_iteration"])
    objective = said.get("objective", "custom").split()
    # Where two classes have one score, it stands beside zeros: their softmax is its sigmoid.
    pair = outputs == 1 and objective[0] in ("binary", "cross_entropy")
    added = _sum(trees, outputs, columns, estimator, at, pair=pair)
    averaged = mean(added, len(trees) // outputs) if "average_output" in said else added
    answer = _linked(averaged, objective, estimator, pair=pair)
    if not hasattr(estimator, "classes_"):
        answer = linked(answer[:, [1]], *answer.margin) if pair else answer
        return Answer(prediction=answer if outputs > 1 else flat(answer))
    if objective[0] not in PROBABLE:
        refuse(estimator, f" with objective={objective[0]!r} of a classifier{NO_GRAPH}")
    # Raw scores of a forest are not averaged in the source.
    decision = added[:, 1] if pair else added
    return likeliest(answer, decision)


def _linked(raw: Var, objective: list[str], estimator: Any, *, pair: bool) -> Var:
    """What an objective makes of the scores: (n, outputs) of what is predicted, (n, 2) of a pair."""
    kind, *words = objective
    options = dict(word.partition(":")[::2] for word in words)
    slope = float(options.get("sigmoid", 1.0))
    steep = raw if slope == 1.0 else raw * slope
    if pair:
        return softmax(steep)
    if kind == "multiclass":
        return softmax(raw)
    if kind == "multiclassova":
        return sigmoid(steep)
    if kind == "regression" and "sqrt" in options:
        return raw * raw * op.sign(raw)
    if kind in EXPONENTIAL:
        return np.exp(raw)
    if kind == "cross_entropy_lambda":
        return np.log1p(np.exp(raw))
    if kind not in IDENTITY:
        refuse(estimator, f" with objective={kind!r}{NO_GRAPH}")
    return raw


def _sum(
    trees: list[Arrays],
    outputs: int,
    columns: Columns,
    estimator: Any,
    at: Converting,
    *,
    pair: bool,
) -> Var:
    """The sum of the leaves for each output, beside zeros for a pair."""
    sets = Sets()
    forest = joined_forests([_forest_of(tree, sets) for tree in trees])
    rows, forest, place = _read(forest, sets, columns, estimator, at)
    rows = _without_zeros(rows, place, trees, estimator)
    if not _has_linear_leaves(trees):
        return sum_from(rows, np.zeros(outputs), forest, skip=int(pair))
    added = _linear_sums(rows, forest, trees, place, outputs)
    if not pair:
        return added
    bounded = within(added, -FURTHEST, FURTHEST)  # as an infinite row has a sigmoid too
    return np.concatenate([bounded - bounded, bounded], axis=1)


def _read(
    forest: Forest, sets: Sets, columns: Columns, estimator: Any, at: Converting
) -> tuple[Var, Forest, dict[int, int]]:
    """What `read_by` gives, for columns of numbers and of categories."""
    known = _known_categories(columns, estimator)

    def numbers(asked: Columns) -> Var:
        parts = []
        for part in asked.parts:
            values = known.get(key_of(part))
            order = np.arange(len(values or ()), dtype=np.float64)
            parts.append(looked_up(part, values, order, np.nan) if values else part)
        return Columns(tuple(parts)).matrix(np.float64)

    def codes(column: Columns, _: int, other: int) -> Var:
        values = known.get(key_of(column.parts[0]))
        return codes_of(column, values, other) if values else _whole(column, other)

    return read_by(forest, sets, columns, numbers, codes)


def _known_categories(columns: Columns, estimator: Any) -> dict[Any, list[Any]]:
    """The values of each column of pandas categories, in the order of their codes, by its key."""
    parts = [part for part in columns.parts if part.dtype == STRING or part.categories]
    known = estimator.booster_.pandas_categorical or []
    if len(parts) != len(known):
        refuse(
            estimator,
            f" was fitted on {len(known)} columns of pandas categories, "
            f"and is given {len(parts)}; pass an example with the dtypes that fit was given",
        )
    return dict(zip(map(key_of, parts), known, strict=True))


def _whole(column: Columns, other: int) -> Var:
    """Codes as LightGBM reads them: cut off towards zero; below -1, missing and beyond is none."""
    part = column.matrix(np.float64)
    held = np.where(part > -1.0, np.abs(part), float(other))
    return np.where(held < other, held, float(other)).astype(np.int64)


def _without_zeros(rows: Var, place: dict[int, int], trees: list[Arrays], estimator: Any) -> Var:
    """Rows whose zeros are missing in the columns for which LightGBM was told so.

    Raises ConversionError where only some trees say so.
    """
    feature, kind = (
        np.concatenate([tree[name] for tree in trees])
        for name in ("split_feature", "decision_type")
    )
    by_number = kind & BY_SET == 0
    is_zero = kind >> 2 == ZERO_MISSING
    zeros = np.unique(feature[by_number & is_zero])
    if not len(zeros):
        return rows
    if np.isin(feature[by_number & ~is_zero], zeros).any():
        refuse(estimator, f" with zero_as_missing in some of its trees{NO_GRAPH}")
    if _has_linear_leaves(trees):
        refuse(estimator, f" with linear_tree and zero_as_missing{NO_GRAPH}")
    bound = np.full((1, width(rows)), -1.0)
    bound[0, [place[each] for each in zeros.tolist()]] = ZERO
    return np.where(np.abs(rows) <= bound, np.nan, rows)


def _model_and_trees(booster: Any) -> tuple[dict[str, str], list[Arrays]]:
    """What a Booster writes of itself, and of each tree."""
    text = booster.model_to_string().partition("\nend of trees")[0]
    whole, *parts = (
        dict(line.partition("=")[::2] for line in part.split("\n"))
        for part in text.split("\nTree=")
    )
    dtypes = dict.fromkeys(FLOATS, float) | dict.fromkeys(WHOLE, int)
    trees = [
        {name: np.array(part.get(name, "").split(), dtype) for name, dtype in dtypes.items()}
        for part in parts
    ]
    return whole, trees


def _forest_of(tree: Arrays, sets: Sets) -> Forest:
    """A tree over features, as `read_by` takes it."""
    kind = tree["decision_type"]
    column = tree["split_feature"].copy()
    threshold = tree["threshold"].copy()
    huge = np.abs(threshold) >= ENDLESS  # which stands for an infinity
    threshold[huge] = np.copysign(np.inf, threshold[huge])
    # A missing value is zero where the column had none in training.
    missing = np.where(kind >> 2, kind & 2, threshold >= 0) * (kind & BY_SET == 0)
    words = tree["cat_threshold"][:, None] >> np.arange(32) & 1
    starts = tree["cat_boundaries"]
    for split in np.flatnonzero(kind & BY_SET).tolist():
        place = int(threshold[split])
        codes = np.flatnonzero(words[starts[place] : starts[place + 1]]).tolist()
        sets.ask(split, column, threshold, codes, left=True, other_left=False)
    left, right = (
        np.where(child < 0, len(column) + ~child, child)
        for child in (tree["left_child"], tree["right_child"])
    )
    leaves = tree["leaf_value"][:, None]
    return of_branches(left, right, column, threshold, missing > 0, leaves)


def _has_linear_leaves(trees: Sequence[Arrays]) -> bool:
    """Whether any leaf has a formula."""
    return any(len(tree["leaf_const"]) for tree in trees)


def _linear_sums(
    rows: Var, forest: Forest, trees: Sequence[Arrays], place: Mapping[int, int], outputs: int
) -> Var:
    """(n, outputs): the sum of the trees in turn, of which every one belongs to an output.

    Each leaf has a formula of some columns, of which `place` has the features. Where one of these
    columns is missing, a leaf counts with its value.
    """
    values, constants, places, slopes = _formulas(trees, place)
    widest = places.shape[1]
    number = by_tree(rows, forest, np.arange(len(values))).astype(np.int64)  # (n, trees)
    value = gathered(constants, number)
    if widest:
        read = op.gather(constant(places), number).reshape(-1, len(trees) * widest)
        given = np.take_along_axis(rows, read, axis=1).reshape(-1, len(trees), widest)
        slope = gathered(slopes, number)
        used = ~(slope == 0.0)
        sloped = value + np.sum(np.where(used, given * slope, 0.0), axis=2)
        gone = np.sum((used & np.isnan(given)).astype(np.float64), axis=2)
        value = np.where(gone > 0.0, gathered(values, number), sloped)
    return np.sum(value.reshape(-1, len(trees) // outputs, outputs), axis=1)


def _formulas(trees: Sequence[Arrays], place: Mapping[int, int]) -> tuple[Array, ...]:
    """Of all leaves the values, and the constants, the columns and the slopes of their formulas."""
    features, coefficients, values = (
        np.concatenate([tree[name] for tree in trees])
        for name in ("leaf_features", "leaf_coeff", "leaf_value")
    )
    # A tree of one leaf has no formulas.
    constants = [tree["leaf_const" if len(tree["leaf_const"]) else "leaf_value"] for tree in trees]
    counts = [
        np.resize(np.append(tree["num_features"], 0), len(tree["leaf_value"])) for tree in trees
    ]
    count = np.concatenate(counts)[:, None]
    used = np.arange(count.max()) < count
    places = np.zeros(used.shape, np.int64)
    slopes = np.zeros(used.shape)
    places[used] = [place[feature] for feature in features.tolist()]
    slopes[used] = coefficients
    return values, np.concatenate(constants), places, slopes
