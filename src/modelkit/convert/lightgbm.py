"""Converter of LightGBM's estimators, read from the model that `dump_model` tells: all of it in float64.

The library itself is not imported.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from modelkit.convert.categories import HALF, Sets, with_sets
from modelkit.convert.forests import mean
from modelkit.convert.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    cast,
    column,
    doubles,
    dtype_of,
    flat,
    largest,
    ml,
    op,
)
from modelkit.convert.trees import Tree, ensemble
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.table import Converting

ZERO = float(np.float32(1e-35))  # up to here a number counts as zero, and zero as missing where a column says so
IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "custom", "lambdarank", "rank_xendcg")
EXPONENTIAL = ("poisson", "gamma", "tweedie")


def boosted(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """LGBMClassifier and LGBMRegressor."""
    said = estimator.booster_.dump_model()
    trees = said["tree_info"]
    outputs = said["num_tree_per_iteration"]
    nodes = [_nodes(tree["tree_structure"], estimator) for tree in trees]
    rows, placed = _rows(columns, nodes, estimator)
    pair = hasattr(estimator, "classes_") and outputs == 1
    targets = [np.full(len(tree.left), number % outputs + pair) for number, tree in enumerate(placed)]
    weights = [np.array([node.get("leaf_value", 0.0) for node in each]) for each in nodes]
    raw = ensemble(rows, placed, targets, weights, outputs + pair)
    averaged = mean(raw, len(trees) // outputs) if said.get("average_output") else raw
    answer = _linked(said.get("objective", "custom").split(), averaged, estimator)
    return replace(answer, decision=column(raw, 1) if pair else raw)  # which is not averaged in the source


def _linked(objective: list[str], raw: Var, estimator: Any) -> Answer:
    """What the objective makes of the scores; those of two classes stand beside zeros."""
    kind, options = objective[0], dict(word.partition(":")[::2] for word in objective[1:])
    slope = float(options.get("sigmoid", 1.0))
    steep = raw if slope == 1.0 else op.mul(raw, doubles(slope))
    if not hasattr(estimator, "classes_"):
        return Answer(prediction=flat(_predicted(kind, options, raw, estimator)))
    if kind in ("binary", "cross_entropy"):
        likely = op.softmax(steep, axis=1)
    elif kind == "multiclass":
        likely = op.softmax(raw, axis=1)
    elif kind == "multiclassova":
        likely = op.sigmoid(steep)
    else:
        raise _refused(f"objective={kind!r} of a classifier", estimator)
    return Answer(place=largest(likely), probabilities=likely)


def _predicted(kind: str, options: dict[str, str], raw: Var, estimator: Any) -> Var:
    if kind == "regression" and "sqrt" in options:
        return op.mul(op.mul(raw, raw), op.sign(raw))
    if kind in IDENTITY:
        return raw
    if kind in EXPONENTIAL:
        return op.exp(raw)
    if kind == "cross_entropy":
        return op.sigmoid(raw)
    raise _refused(f"objective={kind!r}", estimator)


def _refused(what: str, estimator: Any) -> ConversionError:
    name = type(estimator).__name__
    return ConversionError(f"{name} with {what} cannot be converted; use format='joblib'", step=name)


def _nodes(root: dict[str, Any], estimator: Any) -> list[dict[str, Any]]:
    """The nodes of a tree, the root first and each before its children, which get `left` and `right`: their numbers."""
    found = [root]
    for node in found:
        if "leaf_const" in node or "leaf_coeff" in node:
            raise _refused("linear_tree=True", estimator)
        if "split_feature" in node:
            node["left"], node["right"] = len(found), len(found) + 1
            found += [node["left_child"], node["right_child"]]
    return found


def _rows(columns: Columns, nodes: list[list[dict[str, Any]]], estimator: Any) -> tuple[Var, list[Tree]]:
    """What the trees read, and the trees over it."""
    splits = [node for tree in nodes for node in tree if "split_feature" in node]
    by_set = sorted({node["split_feature"] for node in splits if node["decision_type"] == "=="})
    numeric = list(range(sum(columns.widths)))
    coded: dict[int, tuple[Var, Sets]] = {}
    if by_set or any(dtype_of(part) == STRING for part in columns.parts):
        numeric = sorted({node["split_feature"] for node in splits} - set(by_set))
        coded = _coded(columns, by_set, splits, estimator)
    for node in splits:
        if node["decision_type"] == "==":
            sets = coded[node["split_feature"]][1]
            left = np.isin(np.arange(sets.codes), _codes_of(node))
            node["set"] = sets.number(left, other_left=False)
    sizes = [sets.table().shape[1] for _, sets in coded.values()]
    starts = dict(zip(coded, (len(numeric) + np.cumsum([0, *sizes])).tolist(), strict=False))
    home = {feature: place for place, feature in enumerate(numeric)}
    placed = [_tree(tree, home, starts) for tree in nodes]
    rows = _without_zeros(
        with_sets(columns, coded, numeric)
        if coded or numeric != list(range(sum(columns.widths)))
        else columns.matrix(np.float64),
        splits,
        home,
        estimator,
    )
    return rows, placed


def _codes_of(node: dict[str, Any]) -> list[int]:
    return [int(code) for code in str(node["threshold"]).split("||")]


def _coded(
    columns: Columns, by_set: list[int], splits: list[dict[str, Any]], estimator: Any
) -> dict[int, tuple[Var, Sets]]:
    strings = [place for place, part in enumerate(_each(columns)) if dtype_of(part) == STRING]
    known = estimator.booster_.pandas_categorical or []
    found = {}
    for feature in by_set:
        (part,) = columns.take([feature]).parts
        asked = [code for node in splits if node["split_feature"] == feature for code in _codes_of(node)]
        sets = Sets(max(asked) + 1)
        if dtype_of(part) == STRING:
            names = [str(name) for name in known[strings.index(feature)]][: sets.codes]
            keys, places = np.array(names, np.str_), np.arange(len(names), dtype=np.int64)
            codes = ml.label_encoder(
                part, keys_tensor=keys, values_tensor=places, default_tensor=np.array([sets.codes])
            )
        else:
            codes = _whole(cast(part, np.float64), sets.codes)
        found[feature] = (codes, sets)
    return found


def _each(columns: Columns) -> list[Var]:
    return [part for part, count in zip(columns.parts, columns.widths, strict=True) for _ in range(count)]


def _whole(part: Var, codes: int) -> Var:
    """Codes as LightGBM reads them: cut off towards zero, so that -0.5 is 0; below, missing and beyond is no code."""
    held = op.where(op.greater(part, doubles(-1.0)), op.abs(part), doubles(codes))
    return op.cast(op.where(op.less(held, doubles(codes)), held, doubles(codes)), to=np.int64)


def _without_zeros(rows: Var, splits: list[dict[str, Any]], home: dict[int, int], estimator: Any) -> Var:
    """Rows whose zeros are missing in the columns for which LightGBM was told so."""
    kinds: dict[int, set[str]] = {}
    for node in splits:
        if node["decision_type"] != "==":
            kinds.setdefault(node["split_feature"], set()).add(node["missing_type"])
    zeros = [feature for feature, kind in kinds.items() if "Zero" in kind]
    if any(len(kinds[feature]) > 1 for feature in zeros):
        raise _refused("zero_as_missing in some of its trees", estimator)
    if not zeros:
        return rows
    wide = rows.unwrap_tensor().shape
    bound = np.full((1, wide[1] if wide else len(home)), -1.0)
    bound[0, [home[feature] for feature in zeros]] = ZERO
    return op.where(op.less_or_equal(op.abs(rows), doubles(bound)), doubles(np.nan), rows)


def _tree(nodes: list[dict[str, Any]], home: dict[int, int], starts: dict[int, int]) -> Tree:
    count = len(nodes)
    place, split, missing = np.zeros(count, np.int64), np.zeros(count), np.zeros(count, bool)
    for i, node in enumerate(nodes):
        if "split_feature" not in node:
            continue
        if node["decision_type"] == "==":
            place[i], split[i] = starts[node["split_feature"]] + node["set"], HALF
            continue
        place[i], split[i] = home[node["split_feature"]], node["threshold"]
        # A missing value is zero where the column had none in training.
        missing[i] = node["default_left"] if node["missing_type"] != "None" else split[i] >= 0
    left, right = (np.array([node.get(side, -1) for node in nodes]) for side in ("left", "right"))
    return Tree(place, split, missing, left, right)
