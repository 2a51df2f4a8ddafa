"""Trees of LightGBM, from what `dump_model` tells: thresholds, sets of codes, and linear leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from modelkit.convert.estimators.arithmetic import choose, equal, greater, plus, times
from modelkit.convert.estimators.tensors import Var, constant, doubles, op
from modelkit.convert.estimators.trees import Tree, ensemble

ENDLESS = 1e300
Dumped = dict[str, Any]


def nodes_of(root: Dumped) -> list[Dumped]:
    """The nodes of a tree, parents first; `left` and `right` are the numbers of their children."""
    found = [root]
    for node in found:
        if "split_feature" in node:
            node["left"] = len(found)
            node["right"] = len(found) + 1
            found += [node["left_child"], node["right_child"]]
    return found


def splits_of(nodes: list[list[Dumped]]) -> list[Dumped]:
    """The nodes of all trees that are no leaves."""
    return [node for tree in nodes for node in tree if "split_feature" in node]


def is_by_set(node: Dumped) -> bool:
    """Whether a split asks for a set of categories."""
    return bool(node["decision_type"] == "==")


def codes_in(node: Dumped) -> list[int]:
    """The codes that go left at a split by a set."""
    return [int(code) for code in str(node["threshold"]).split("||")]


def missing_types(splits: list[Dumped]) -> dict[int, set[str]]:
    """What counts as missing in each column of numbers, by split."""
    kinds: dict[int, set[str]] = {}
    for node in splits:
        if not is_by_set(node):
            kinds.setdefault(node["split_feature"], set()).add(node["missing_type"])
    return kinds


def _threshold(node: Dumped) -> float:
    """The threshold of a split; an infinity is told as a very large number."""
    said = float(node["threshold"])
    return said if abs(said) < ENDLESS else float(np.copysign(np.inf, said))


def tree_of_nodes(nodes: list[Dumped]) -> Tree:
    """A tree over features, as `Beside.placed` takes it."""
    count = len(nodes)
    place = np.zeros(count, np.int64)
    split = np.zeros(count)
    missing = np.zeros(count, bool)
    for i, node in enumerate(nodes):
        if "split_feature" not in node:
            continue
        feature = node["split_feature"]
        if is_by_set(node):
            place[i] = -1 - feature
            split[i] = node["set"]
            continue
        place[i] = feature
        split[i] = _threshold(node)
        # A missing value is zero where the column had none in training.
        missing[i] = node["default_left"] if node["missing_type"] != "None" else split[i] >= 0
    left = np.array([node.get("left", -1) for node in nodes])
    right = np.array([node.get("right", -1) for node in nodes])
    return Tree(place, split, missing, left, right)


class LinearLeaves:
    """The leaves of all trees, each with a formula of some columns.

    Where one of these columns is missing, a leaf counts with its value.

    Args:
        trees: the nodes of each tree.
        home: the place of each feature among the columns that are read.
    """

    def __init__(self, trees: list[list[Dumped]], home: Mapping[int, int]) -> None:
        leaves = [node for tree in trees for node in tree if "split_feature" not in node]
        widest = max(len(leaf.get("leaf_coeff", ())) for leaf in leaves)
        self.places = np.zeros((len(leaves), widest), np.int64)
        self.slopes = np.zeros((len(leaves), widest))
        for number, leaf in enumerate(leaves):
            read = [home[feature] for feature in leaf.get("leaf_features", ())]
            self.places[number, : len(read)] = read
            self.slopes[number, : len(read)] = leaf.get("leaf_coeff", ())
        self.values = np.array([leaf["leaf_value"] for leaf in leaves])
        self.constants = np.array([leaf.get("leaf_const", leaf["leaf_value"]) for leaf in leaves])

    def sums(self, rows: Var, trees: list[Tree], outputs: int) -> Var:
        """(n, outputs): the sum of the trees in turn, of which every one belongs to an output."""
        number = op.cast(self._numbers(rows, trees), to=np.int64)  # (n, trees)
        value = op.gather(doubles(self.constants), number)
        if self.places.shape[1]:
            value = self._with_slopes(rows, number, value, len(trees))
        rounds = len(trees) // outputs
        by_output = op.reshape(value, constant([-1, rounds, outputs], np.int64))
        return op.reduce_sum(by_output, constant([1], np.int64), keepdims=0)

    def _numbers(self, rows: Var, trees: list[Tree]) -> Var:
        """(n, trees): the number of the leaf that each tree leads to, among all leaves."""
        first = 0
        numbers = []
        for tree in trees:
            count = int(tree.leaf.sum())
            found = np.zeros(len(tree.left))
            found[tree.leaf] = np.arange(first, first + count)
            numbers.append(found)
            first += count
        targets = [np.full(len(tree.left), at) for at, tree in enumerate(trees)]
        return ensemble(rows, trees, targets, numbers, len(trees))

    def _with_slopes(self, rows: Var, number: Var, value: Var, trees: int) -> Var:
        """(n, trees): constants and slopes of the leaves, or their values where a column is missing."""
        widest = self.places.shape[1]
        every = constant([-1, trees * widest], np.int64)
        place = op.reshape(op.gather(constant(self.places), number), every)
        read = op.gather_elements(rows, place, axis=1)
        given = op.reshape(read, constant([-1, trees, widest], np.int64))
        slope = op.gather(doubles(self.slopes), number)
        used = op.not_(equal(slope, 0.0))
        part = choose(used, times(given, slope), 0.0)
        last = constant([2], np.int64)
        sloped = plus(value, op.reduce_sum(part, last, keepdims=0))
        gone = op.cast(op.and_(used, op.isnan(given)), to=np.float64)
        held = op.gather(doubles(self.values), number)
        return choose(greater(op.reduce_sum(gone, last, keepdims=0), 0.0), held, sloped)


def has_linear_leaves(trees: list[list[Dumped]]) -> bool:
    """Whether any leaf has a formula."""
    return any("leaf_const" in node for tree in trees for node in tree)
