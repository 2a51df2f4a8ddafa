"""Converter of LightGBM's estimators in float64, from what `dump_model` tells.

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
    from modelkit.convert.converting import Converting

# Up to here a number counts as zero, and zero as missing where a column says so.
ZERO = float(np.float32(1e-35))
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


def boosted(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """LGBMClassifier and LGBMRegressor."""
    said = estimator.booster_.dump_model()
    outputs = said["num_tree_per_iteration"]
    nodes = [_nodes(tree["tree_structure"], estimator) for tree in said["tree_info"]]
    rows, trees = _rows(columns, nodes, estimator)
    link = Link(
        said.get("objective", "custom").split(),
        outputs,
    )
    added = _sum(
        rows,
        trees,
        nodes,
        outputs,
        link,
    )
    averaged = added
    if said.get("average_output"):
        averaged = mean(added, len(trees) // outputs)
    answer = link.after(averaged, estimator)
    if not hasattr(estimator, "classes_"):
        return Answer(prediction=answer if outputs > 1 else flat(answer))
    if link.kind not in PROBABLE:
        raise _refused(f"objective={link.kind!r} of a classifier", estimator)
    # Raw scores of a forest are not averaged in the source.
    decision = column(added, 1) if link.pair else added
    return Answer(
        place=largest(answer),
        probabilities=answer,
        decision=decision,
    )


def _sum(
    rows: Var,
    trees: list[Tree],
    nodes: list[list[dict[str, Any]]],
    outputs: int,
    link: Link,
) -> Var:
    """The sum of the leaves for each output, beside zeros where the link has a pair."""
    targets = []
    weights = []
    for number, each in enumerate(nodes):
        targets.append(np.full(len(each), number % outputs + link.pair))
        weights.append(np.array([node.get("leaf_value", 0.0) for node in each]))
    return ensemble(
        rows,
        trees,
        targets,
        weights,
        outputs + link.pair,
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
        if self.pair:
            likely = op.softmax(self._steep(raw), axis=1)
            return likely if hasattr(estimator, "classes_") else one_column(likely, 1)
        if self.kind == "multiclass":
            return op.softmax(raw, axis=1)
        if self.kind == "multiclassova":
            return op.sigmoid(self._steep(raw))
        if self.kind == "regression" and "sqrt" in self.options:
            return op.mul(op.mul(raw, raw), op.sign(raw))
        if self.kind in EXPONENTIAL:
            return op.exp(raw)
        if self.kind not in IDENTITY:
            raise _refused(f"objective={self.kind!r}", estimator)
        return raw

    def _steep(self, raw: Var) -> Var:
        """The scores times the slope of the sigmoid."""
        slope = float(self.options.get("sigmoid", 1.0))
        return raw if slope == 1.0 else op.mul(raw, doubles(slope))


def _refused(what: str, estimator: Any) -> ConversionError:
    name = type(estimator).__name__
    return ConversionError(
        f"{name} with {what} cannot be converted; use format='joblib'", step=name
    )


def _nodes(root: dict[str, Any], estimator: Any) -> list[dict[str, Any]]:
    """The nodes of a tree, parents first; `left` and `right` are the numbers of their children."""
    found = [root]
    for node in found:
        if "leaf_const" in node or "leaf_coeff" in node:
            raise _refused("linear_tree=True", estimator)
        if "split_feature" in node:
            node["left"] = len(found)
            node["right"] = len(found) + 1
            found += [node["left_child"], node["right_child"]]
    return found


def _rows(
    columns: Columns,
    nodes: list[list[dict[str, Any]]],
    estimator: Any,
) -> tuple[Var, list[Tree]]:
    """What the trees read, and the trees over it."""
    splits = _splits(nodes)
    by_set = sorted({node["split_feature"] for node in splits if _is_by_set(node)})
    every = list(range(sum(columns.widths)))
    numeric = every
    coded: dict[int, tuple[Var, Sets]] = {}
    if by_set or any(dtype_of(part) == STRING for part in columns.parts):
        numeric = sorted({node["split_feature"] for node in splits} - set(by_set))
        coded = _coded(columns, by_set, splits, estimator)
    _number_sets(splits, coded)
    home = {feature: place for place, feature in enumerate(numeric)}
    starts = _starts(len(numeric), coded)
    placed = [_tree(tree, home, starts) for tree in nodes]
    plain = not coded and len(numeric) == len(every)
    read = columns.matrix(np.float64) if plain else with_sets(columns, coded, numeric)
    return _without_zeros(read, splits, home, estimator), placed


def _number_sets(splits: list[dict[str, Any]], coded: dict[int, tuple[Var, Sets]]) -> None:
    """Give each split by a set of categories the number of this set."""
    for node in splits:
        if _is_by_set(node):
            _, sets = coded[node["split_feature"]]
            left = np.isin(
                np.arange(sets.codes),
                _codes_of(node),
            )
            node["set"] = sets.number(
                left,
                other_left=False,
            )


def _starts(numbers: int, coded: dict[int, tuple[Var, Sets]]) -> dict[int, int]:
    """The place of the first set of each column, behind the columns of numbers."""
    found = {}
    for feature, (_, sets) in coded.items():
        found[feature] = numbers
        numbers += len(sets)
    return found


def _splits(nodes: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The nodes of all trees that are no leaves."""
    return [node for tree in nodes for node in tree if "split_feature" in node]


def _is_by_set(node: dict[str, Any]) -> bool:
    return bool(node["decision_type"] == "==")


def _codes_of(node: dict[str, Any]) -> list[int]:
    return [int(code) for code in str(node["threshold"]).split("||")]


def _coded(
    columns: Columns,
    by_set: list[int],
    splits: list[dict[str, Any]],
    estimator: Any,
) -> dict[int, tuple[Var, Sets]]:
    """For each column of categories its codes, and the sets of its splits."""
    strings = [place for place, part in enumerate(_each(columns)) if dtype_of(part) == STRING]
    known = estimator.booster_.pandas_categorical or []
    found = {}
    for feature in by_set:
        (part,) = columns.take([feature]).parts
        asked = [node for node in splits if node["split_feature"] == feature]
        sets = Sets(1 + max(max(_codes_of(node)) for node in asked))
        if dtype_of(part) == STRING:
            names = known[strings.index(feature)][: sets.codes]
            codes = _named_codes(
                part,
                [str(name) for name in names],
                sets.codes,
            )
        else:
            codes = _whole(
                cast(part, np.float64),
                sets.codes,
            )
        found[feature] = (codes, sets)
    return found


def _named_codes(
    part: Var,
    names: list[str],
    other: int,
) -> Var:
    """The place of each text among the names, and another number for all others."""
    return ml.label_encoder(
        part,
        keys_tensor=np.array(names, np.str_),
        values_tensor=np.arange(len(names), dtype=np.int64),
        default_tensor=np.array([other]),
    )


def _each(columns: Columns) -> list[Var]:
    """The part that each column belongs to."""
    found: list[Var] = []
    for part, count in zip(columns.parts, columns.widths, strict=True):
        found += [part] * count
    return found


def _whole(part: Var, codes: int) -> Var:
    """Codes as LightGBM reads them: cut off towards zero; below -1, missing and beyond is none."""
    held = op.where(op.greater(part, doubles(-1.0)), op.abs(part), doubles(codes))
    return op.cast(op.where(op.less(held, doubles(codes)), held, doubles(codes)), to=np.int64)


def _missing_types(splits: list[dict[str, Any]]) -> dict[int, set[str]]:
    """What counts as missing in each column of numbers, by split."""
    kinds: dict[int, set[str]] = {}
    for node in splits:
        if not _is_by_set(node):
            kinds.setdefault(node["split_feature"], set()).add(node["missing_type"])
    return kinds


def _without_zeros(
    rows: Var,
    splits: list[dict[str, Any]],
    home: dict[int, int],
    estimator: Any,
) -> Var:
    """Rows whose zeros are missing in the columns for which LightGBM was told so."""
    kinds = _missing_types(splits)
    zeros = [feature for feature, kind in kinds.items() if "Zero" in kind]
    if any(len(kinds[feature]) > 1 for feature in zeros):
        raise _refused("zero_as_missing in some of its trees", estimator)
    if not zeros:
        return rows
    bound = np.full(
        (1, width(rows)),
        -1.0,
    )
    bound[0, [home[feature] for feature in zeros]] = ZERO
    small = op.less_or_equal(op.abs(rows), doubles(bound))
    return op.where(small, doubles(np.nan), rows)


def _threshold(node: dict[str, Any]) -> float:
    """The threshold of a split; an infinity is told as a very large number."""
    said = float(node["threshold"])
    return said if abs(said) < ENDLESS else float(np.copysign(np.inf, said))


def _tree(
    nodes: list[dict[str, Any]],
    home: dict[int, int],
    starts: dict[int, int],
) -> Tree:
    """A tree over the columns of numbers, by `home`, and those of the sets, from `starts` on."""
    count = len(nodes)
    place = np.zeros(count, np.int64)
    split = np.zeros(count)
    missing = np.zeros(count, bool)
    for i, node in enumerate(nodes):
        if "split_feature" not in node:
            continue
        feature = node["split_feature"]
        if _is_by_set(node):
            place[i] = starts[feature] + node["set"]
            split[i] = HALF
            continue
        place[i] = home[feature]
        split[i] = _threshold(node)
        # A missing value is zero where the column had none in training.
        missing[i] = node["default_left"] if node["missing_type"] != "None" else split[i] >= 0
    left = np.array([node.get("left", -1) for node in nodes])
    right = np.array([node.get("right", -1) for node in nodes])
    return Tree(place, split, missing, left, right)


ESTIMATORS = {
    "lightgbm.LGBMClassifier": boosted,
    "lightgbm.LGBMRegressor": boosted,
    "lightgbm.LGBMRanker": boosted,
}
