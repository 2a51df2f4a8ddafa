"""Converter of LightGBM's estimators, read from the model that `dump_model` tells: all of it in float64.

The library itself is not imported.
"""

from __future__ import annotations

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
    one_column,
    op,
    width,
)
from modelkit.convert.trees import Tree, ensemble
from modelkit.errors import ConversionError

if TYPE_CHECKING:
    from modelkit.convert.table import Converting

ZERO = float(
    np.float32(1e-35)
)  # up to here a number counts as zero, and zero as missing where a column says so
ENDLESS = 1e300
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


def boosted(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """LGBMClassifier and LGBMRegressor."""
    said = estimator.booster_.dump_model()
    count, outputs = len(said["tree_info"]), said["num_tree_per_iteration"]
    nodes = [_nodes(tree["tree_structure"], estimator) for tree in said["tree_info"]]
    rows, trees = _rows(columns, nodes, estimator)
    link = Link(said.get("objective", "custom").split(), outputs)
    targets = [
        np.full(len(tree.left), number % outputs + link.pair) for number, tree in enumerate(trees)
    ]
    weights = [np.array([node.get("leaf_value", 0.0) for node in each]) for each in nodes]
    added = ensemble(rows, trees, targets, weights, outputs + link.pair)
    answer = link.after(
        mean(added, count // outputs) if said.get("average_output") else added, estimator
    )
    if not hasattr(estimator, "classes_"):
        return Answer(prediction=answer if outputs > 1 else flat(answer))
    if link.kind not in PROBABLE:
        raise _refused(f"objective={link.kind!r} of a classifier", estimator)
    # Raw scores of a forest are not averaged in the source.
    return Answer(
        place=largest(answer),
        probabilities=answer,
        decision=column(added, 1) if link.pair else added,
    )


class Link:
    """What an objective makes of the scores.

    Where two classes have one score, it stands beside zeros (`pair`): the softmax of both is its
    sigmoid.
    """

    def __init__(self, objective: list[str], outputs: int) -> None:
        self.kind = objective[0]
        self.options = dict(word.partition(":")[::2] for word in objective[1:])
        self.pair = outputs == 1 and self.kind in ("binary", "cross_entropy")

    def after(self, raw: Var, estimator: Any) -> Var:
        """(n, outputs) of what is predicted; for a classifier of two classes, (n, 2)."""
        slope = float(self.options.get("sigmoid", 1.0))
        steep = raw if slope == 1.0 else op.mul(raw, doubles(slope))
        if self.pair:
            likely = op.softmax(steep, axis=1)
            return likely if hasattr(estimator, "classes_") else one_column(likely, 1)
        if self.kind == "multiclass":
            return op.softmax(raw, axis=1)
        if self.kind == "multiclassova":
            return op.sigmoid(steep)
        if self.kind == "regression" and "sqrt" in self.options:
            return op.mul(op.mul(raw, raw), op.sign(raw))
        if self.kind in EXPONENTIAL:
            return op.exp(raw)
        if self.kind not in IDENTITY:
            raise _refused(f"objective={self.kind!r}", estimator)
        return raw


def _refused(what: str, estimator: Any) -> ConversionError:
    name = type(estimator).__name__
    return ConversionError(
        f"{name} with {what} cannot be converted; use format='joblib'", step=name
    )


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


def _rows(
    columns: Columns, nodes: list[list[dict[str, Any]]], estimator: Any
) -> tuple[Var, list[Tree]]:
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
    sizes = [len(sets) for _, sets in coded.values()]
    starts = dict(zip(coded, (len(numeric) + np.cumsum([0, *sizes])).tolist(), strict=False))
    home = {feature: place for place, feature in enumerate(numeric)}
    placed = [_tree(tree, home, starts) for tree in nodes]
    plain = not coded and len(numeric) == sum(columns.widths)
    read = columns.matrix(np.float64) if plain else with_sets(columns, coded, numeric)
    return _without_zeros(read, splits, home, estimator), placed


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
        asked = [
            code for node in splits if node["split_feature"] == feature for code in _codes_of(node)
        ]
        sets = Sets(max(asked) + 1)
        if dtype_of(part) == STRING:
            names = [str(name) for name in known[strings.index(feature)]][: sets.codes]
            other = np.array([sets.codes])
            keys, places = np.array(names, np.str_), np.arange(len(names), dtype=np.int64)
            codes = ml.label_encoder(
                part, keys_tensor=keys, values_tensor=places, default_tensor=other
            )
        else:
            codes = _whole(cast(part, np.float64), sets.codes)
        found[feature] = (codes, sets)
    return found


def _each(columns: Columns) -> list[Var]:
    return [
        part
        for part, count in zip(columns.parts, columns.widths, strict=True)
        for _ in range(count)
    ]


def _whole(part: Var, codes: int) -> Var:
    """Codes as LightGBM reads them: cut off towards zero, so that -0.5 is 0; below, missing and beyond is no code."""
    held = op.where(op.greater(part, doubles(-1.0)), op.abs(part), doubles(codes))
    return op.cast(op.where(op.less(held, doubles(codes)), held, doubles(codes)), to=np.int64)


def _without_zeros(
    rows: Var, splits: list[dict[str, Any]], home: dict[int, int], estimator: Any
) -> Var:
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
    bound = np.full((1, width(rows)), -1.0)
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
        if abs(split[i]) >= ENDLESS:  # as an infinity is told
            split[i] = np.copysign(np.inf, split[i])
        # A missing value is zero where the column had none in training.
        missing[i] = node["default_left"] if node["missing_type"] != "None" else split[i] >= 0
    left, right = (np.array([node.get(side, -1) for node in nodes]) for side in ("left", "right"))
    return Tree(place, split, missing, left, right)
