"""Trees of XGBoost, from the JSON that it writes, as attributes of an ensemble in ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from modelkit.cast import Array
from modelkit.errors import ConversionError

LEAF = "LEAF"
LESS = "BRANCH_LT"
EQUAL = "BRANCH_EQ"
CATEGORICAL = 1  # the type of a split by a set of categories


class _Node(NamedTuple):
    """A node of a tree in ONNX: the fields are its attributes, after `nodes_`."""

    nodeids: int
    featureids: int
    modes: str
    values: float
    truenodeids: int
    falsenodeids: int
    missing_value_tracks_true: int


class Ensemble:
    """The attributes of an ensemble, filled tree by tree, and the columns split by categories."""

    def __init__(self) -> None:
        self.categorical: set[int] = set()
        self.lists: dict[str, list[Any]] = {
            f"nodes_{name}": [] for name in ("treeids", *_Node._fields)
        }
        self.lists |= {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
        self._count = 0

    def add(
        self,
        tree: dict[str, Any],
        output: int,
        weight: np.float32,
    ) -> None:
        """Add a tree; a leaf of several numbers has one for each output."""
        size = int(tree["tree_param"]["size_leaf_vector"])
        if size > 1 and "leaf_weights" not in tree:
            raise ConversionError(
                "trees with several outputs each are converted from XGBoost 3.2 on"
            )
        for node in _nodes(tree):
            self.lists["nodes_treeids"].append(self._count)
            for name, value in node._asdict().items():
                self.lists[f"nodes_{name}"].append(value)
            if node.modes == LEAF:
                self._weigh(
                    node.nodeids,
                    _weights(tree, node.nodeids, size) * weight,
                    output,
                )
            elif node.modes == EQUAL:
                self.categorical.add(node.featureids)
        self._count += 1

    def _weigh(
        self,
        leaf: int,
        weights: Array,
        output: int,
    ) -> None:
        outputs = [output] if len(weights) == 1 else range(len(weights))
        for number, weight in zip(outputs, weights.tolist(), strict=True):
            self.lists["target_treeids"].append(self._count)
            self.lists["target_nodeids"].append(leaf)
            self.lists["target_ids"].append(number)
            self.lists["target_weights"].append(weight)


def _nodes(tree: dict[str, Any]) -> Iterator[_Node]:
    """The nodes of a tree from its root on; nothing leads to those that were pruned."""
    left = tree["left_children"]
    right = tree["right_children"]
    sets = _categories(tree)
    free = len(left)  # the next number that no node has
    todo = [0]
    while todo:
        at = todo.pop()
        if left[at] < 0:
            yield _Node(at, 0, LEAF, 0.0, 0, 0, 0)
            continue
        todo += [left[at], right[at]]
        if tree["split_type"][at] == CATEGORICAL:
            codes = sets[at]
            yield from _equalities(tree, at, codes, free)
            free += len(codes) - 1
            continue
        yield _comparison(tree, at)


def _comparison(tree: dict[str, Any], at: int) -> _Node:
    """A split of numbers, of which smaller ones go left."""
    return _Node(
        nodeids=at,
        featureids=tree["split_indices"][at],
        modes=LESS,
        values=tree["split_conditions"][at],
        truenodeids=tree["left_children"][at],
        falsenodeids=tree["right_children"][at],
        missing_value_tracks_true=int(tree["default_left"][at]),
    )


def _equalities(
    tree: dict[str, Any],
    at: int,
    codes: list[int],
    free: int,
) -> Iterator[_Node]:
    """A split by a set of categories, which go right, as a chain of equalities.

    All but the first get numbers from `free` on.
    """
    right = tree["right_children"][at]
    column = tree["split_indices"][at]
    missing_right = 1 - int(tree["default_left"][at])
    places = [at, *range(free, free + len(codes) - 1), tree["left_children"][at]]
    for code, place, otherwise in zip(codes, places[:-1], places[1:], strict=True):
        yield _Node(place, column, EQUAL, float(code), right, otherwise, missing_right)


def _categories(tree: dict[str, Any]) -> dict[int, list[int]]:
    """The categories that go right at each node that asks for some; all else goes left there."""
    starts = tree["categories_segments"]
    sizes = tree["categories_sizes"]
    return {
        node: tree["categories"][start : start + size]
        for node, start, size in zip(tree["categories_nodes"], starts, sizes, strict=True)
    }


def _weights(
    tree: dict[str, Any],
    leaf: int,
    size: int,
) -> Array:
    """What a leaf adds: one number, or one for each output."""
    if size == 1:
        return np.array(
            [tree["split_conditions"][leaf]],
            np.float32,
        )
    place = tree["right_children"][leaf] * size
    return np.array(
        tree["leaf_weights"][place : place + size],
        np.float32,
    )
