"""Trees of XGBoost, from the JSON that it writes: they compare and add in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.categories import Sets
from modelkit.convert.estimators.trees import LESS, Tree
from modelkit.errors import ConversionError


class Codes:
    """The sets of codes that trees ask for, by the column of categories.

    Codes are followed by a number for all others, which go left everywhere, and one for a missing
    value.
    """

    def __init__(self, written: list[dict[str, Any]]) -> None:
        largest: dict[int, int] = {}
        for tree in written:
            for node, codes in sets_of(tree).items():
                column = tree["split_indices"][node]
                largest[column] = max([largest.get(column, 0), *codes])
        self.sets = {column: Sets(most + 2) for column, most in sorted(largest.items())}

    def number(self, column: int, codes: list[int], *, missing_left: bool) -> int:
        """The number of a set of codes, which go right."""
        among = self.sets[column]
        left = np.ones(among.codes, bool)
        left[codes] = False
        return among.number(left, other_left=missing_left)


def sets_of(tree: dict[str, Any]) -> dict[int, list[int]]:
    """The codes that go right at each node that asks for some; all else goes left there."""
    starts = tree["categories_segments"]
    sizes = tree["categories_sizes"]
    return {
        node: tree["categories"][start : start + size]
        for node, start, size in zip(tree["categories_nodes"], starts, sizes, strict=True)
    }


def tree_and_leaves(tree: dict[str, Any], codes: Codes) -> tuple[Tree, Array]:
    """A tree as `Beside.placed` takes it, and what its leaves add, (nodes, outputs)."""
    left = np.array(tree["left_children"])
    right = np.array(tree["right_children"])
    used = _reached(left, right)
    number = np.zeros(len(left), np.int64)
    number[used] = np.arange(len(used))
    column = np.array(tree["split_indices"], np.int64)
    split = np.array(tree["split_conditions"], np.float32)
    missing = np.array(tree["default_left"], bool)
    leaves = _leaves(tree, right, split)
    for node, chosen in sets_of(tree).items():
        split[node] = codes.number(column[node], chosen, missing_left=bool(missing[node]))
        column[node] = -1 - column[node]
    ends = left[used] < 0
    read = Tree(
        column=np.where(ends, 0, column[used]),
        threshold=split[used],
        missing=missing[used],
        left=np.where(ends, -1, number[left[used]]),
        right=np.where(ends, -1, number[right[used]]),
        mode=np.full(len(used), LESS, np.uint8),
    )
    return read, leaves[used]


def _reached(left: Array, right: Array) -> Array:
    """The nodes from the root on, level by level; nothing leads to those that were pruned."""
    level = np.zeros(1, np.int64)
    found = []
    while len(level):
        found.append(level)
        inner = level[left[level] >= 0]
        level = np.concatenate([left[inner], right[inner]])
    return np.concatenate(found)


def _leaves(tree: dict[str, Any], right: Array, split: Array) -> Array:
    """(nodes, outputs): what each leaf adds."""
    size = int(tree["tree_param"]["size_leaf_vector"])
    if size <= 1:
        return split.copy()[:, None]
    if "leaf_weights" not in tree:
        raise ConversionError(
            "trees with several outputs each are converted from XGBoost 3.2 on; train it with that, or save "
            "the model with format='joblib'"
        )
    weights = np.array(tree["leaf_weights"], np.float32).reshape(-1, size)
    found = np.zeros((len(right), size), np.float32)
    ends = np.array(tree["left_children"]) < 0
    found[ends] = weights[right[ends]]
    return found
