"""Ensembles of trees as TreeEnsemble of ai.onnx.ml 5, in the precision of their source.

A branch compares `x <= threshold` in the dtype of the rows. What is not compared so (categories) is
turned into a column of zeros and ones first.

A leaf of the operator adds to one output. Leaves that add a vector are written in one of two ways.
Where each adds to one place of the vector (a tree whose leaves hold one class each), that place is
the output. Elsewhere each tree has an output of its own, the number of a row in a table, and the
rows are added up in the order of the trees: an operator for sums of a whole axis would add them in
another order, and the last bit decides ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import Var, cast, constant, dtype_of, joined, ml, op

LEQ = 0
LESS = 1
SUM = 1
NUMBERS_AT_ONCE = 1024  # of a row, that are looked up in tables of leaves
LEAST_GROUP = 16  # trees that are looked up together, however many numbers each gives
LARGEST_EXACT = 1 << 24  # up to here a float32 holds every whole number


@dataclass(frozen=True)
class Tree:
    """A binary tree by node, its root first.

    `x[column] <= threshold` leads to `left`; a leaf has -1 in `left` and `right`.

    `missing` is whether a missing value goes left. `mode` is how each branch compares, where not
    all do so.
    """

    column: Array
    threshold: Array
    missing: Array
    left: Array
    right: Array
    mode: Array | None = None

    @property
    def modes(self) -> Array:
        """How each branch compares, as the operator numbers it."""
        return np.full(len(self.left), LEQ, np.uint8) if self.mode is None else self.mode

    @property
    def leaf(self) -> Array:
        """Whether each node is a leaf."""
        return self.left < 0


def stump(mode: int = LEQ) -> Tree:
    """A tree of one leaf, with the mode of those beside it: the runtime is faster if all are one."""
    none = np.array([-1])
    return Tree(
        np.zeros(1, np.int64),
        np.zeros(1),
        np.zeros(1, bool),
        none,
        none,
        np.full(1, mode, np.uint8),
    )


def halves(bounds: Array) -> Tree:
    """A balanced tree whose leaves hold, as their thresholds, how many bounds are below a value."""
    leaf = (0.0, -1, -1)
    nodes: list[tuple[float, int, int]] = [leaf]
    todo = [(0, 0, len(bounds))]
    while todo:
        node, low, high = todo.pop()
        if low == high:
            nodes[node] = (float(low), -1, -1)
            continue
        middle = (low + high) // 2
        left = len(nodes)
        right = left + 1
        nodes[node] = (float(bounds[middle]), left, right)
        todo += [(left, low, middle), (right, middle + 1, high)]
        nodes += [leaf, leaf]
    threshold, left_of, right_of = (np.array(values) for values in zip(*nodes, strict=True))
    none = np.zeros(len(nodes), np.int64)
    return Tree(none, threshold, none.astype(bool), left_of, right_of)


def rounded_down(thresholds: Array) -> Array:
    """The largest float32 up to each threshold: `x <= t` holds for the same rows of float32."""
    with np.errstate(over="ignore"):
        near = np.asarray(thresholds, np.float64).astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def ensemble(
    rows: Var,
    trees: Sequence[Tree],
    targets: Sequence[Array],
    weights: Sequence[Array],
    outputs: int,
) -> Var:
    """(n, outputs) sums over the trees, added in their order, in the dtype of `rows`.

    Args:
        rows: (n, columns) of float32 or float64.
        trees: at least one.
        targets: for each tree the output that each of its nodes adds to; those of branches do not
            count.
        weights: what each node adds.
        outputs: the number of outputs.
    """
    dtype = dtype_of(rows).type
    lists: dict[str, Any] = dict(lists_of(trees, targets))
    splits = [at_branches(tree, tree.threshold) for tree in trees]
    modes = [tree.modes if len(tree.left) == 1 else tree.modes[~tree.leaf] for tree in trees]
    ending = [weight[tree.leaf] for tree, weight in zip(trees, weights, strict=True)]
    return ml.tree_ensemble(
        rows,
        aggregate_function=SUM,
        n_targets=outputs,
        nodes_splits=np.concatenate(splits).astype(dtype),
        nodes_modes=np.concatenate(modes).astype(np.uint8),
        leaf_weights=np.concatenate(ending).astype(dtype),
        **lists,
    )


def at_branches(tree: Tree, values: Array) -> Array:
    """The values of the branches of a tree; a single leaf counts as a branch with 0."""
    return values[~tree.leaf] if len(values) > 1 else np.zeros(1, values.dtype)


def lists_of(trees: Sequence[Tree], targets: Sequence[Array]) -> dict[str, list[int]]:
    """The attributes of the operator that are lists of whole numbers."""
    branches = 0
    leaves = 0
    roots: list[int] = []
    parts: dict[str, list[Array]] = {}
    for tree, target in zip(trees, targets, strict=True):
        roots.append(branches)
        for name, values in _attributes(tree, target, branches, leaves).items():
            parts.setdefault(name, []).append(values)
        ends = int(tree.leaf.sum())
        branches += max(len(tree.left) - ends, 1)
        leaves += ends
    lists = {name: _whole_numbers(arrays) for name, arrays in parts.items()}
    return {"tree_roots": roots} | lists


def _whole_numbers(arrays: list[Array]) -> list[int]:
    found: list[int] = np.concatenate(arrays).astype(np.int64).tolist()
    return found


def _attributes(tree: Tree, target: Array, branches: int, leaves: int) -> dict[str, Array]:
    """The attributes of one tree, after trees that have `branches` and `leaves` in all."""
    inner = np.flatnonzero(~tree.leaf)
    number = _numbers(tree, branches, leaves)
    found = {
        "nodes_featureids": at_branches(tree, tree.column),
        "leaf_targetids": target[tree.leaf],
        "nodes_missing_value_tracks_true": at_branches(tree, tree.missing),
    }
    for side, child in (("true", tree.left), ("false", tree.right)):
        to = child[inner] if len(inner) else np.zeros(1, np.int64)
        found[f"nodes_{side}nodeids"] = number[to]
        found[f"nodes_{side}leafs"] = tree.leaf[to]
    return found


def _numbers(tree: Tree, branches: int, leaves: int) -> Array:
    """The number of each node among all branches, or among all leaves."""
    number = np.empty(len(tree.left), np.int64)
    for chosen, first in ((~tree.leaf, branches), (tree.leaf, leaves)):
        number[chosen] = first + np.arange(int(chosen.sum()))
    return number


def sum_of_leaves(rows: Var, trees: Sequence[Tree], values: Sequence[Array]) -> Var:
    """(n, m) of float64: the sum of what each tree's leaf holds, added in the order of the trees.

    Args:
        rows: (n, columns) of float32 or float64; thresholds are those of its dtype.
        trees: at least one.
        values: for each tree (nodes, m), of which those of leaves count.
    """
    wide = values[0].shape[1]
    held = _held_by_leaves(values, trees)
    if ((held != 0).sum(axis=1) > 1).any():
        return sum_of_vectors(rows, trees, values)
    # Sums of small whole numbers are exact in float32.
    exact = rows if _small_whole(held) else cast(rows, np.float64)
    targets = [value.astype(bool).argmax(axis=1) for value in values]
    weights = []
    for value, target in zip(values, targets, strict=True):
        weights.append(value[np.arange(len(value)), target])
    return cast(ensemble(exact, trees, targets, weights, wide), np.float64)


def _held_by_leaves(values: Sequence[Array], trees: Sequence[Tree]) -> Array:
    """(leaves, m): what the leaves of all trees hold."""
    return np.concatenate([value[tree.leaf] for value, tree in zip(values, trees, strict=True)])


def _small_whole(held: Array) -> bool:
    whole = held == np.rint(held)
    return bool(whole.all() and np.abs(held).max(initial=0) <= 1)


def sum_of_vectors(
    rows: Var, trees: Sequence[Tree], values: Sequence[Array], dtype: Any = np.float64
) -> Var:
    """The sum of leaves that hold vectors: each tree gives the number of a row in a table.

    The rows of the table are added in the order of the trees, in a dtype of floats.
    """
    held = _held_by_leaves(values, trees)
    table, place = np.unique(held, axis=0, return_inverse=True)
    ends = np.cumsum([int(tree.leaf.sum()) for tree in trees])
    numbers = np.split(place, ends[:-1])
    weights = [_at_leaves(tree, values) for tree, values in zip(trees, numbers, strict=True)]
    exact = rows if len(table) <= LARGEST_EXACT else cast(rows, np.float64)
    targets = [np.full(len(tree.left), number) for number, tree in enumerate(trees)]
    found = ensemble(exact, trees, targets, weights, len(trees))
    return _added_up(
        constant(table, dtype),
        op.cast(found, to=np.int32),
        len(trees),
        max(LEAST_GROUP, NUMBERS_AT_ONCE // table.shape[1]),
    )


def _added_up(table: Var, numbers: Var, trees: int, group: int) -> Var:
    """(n, m): the sum of the rows of a table that are numbered, (n, trees), in their order.

    They are looked up for a group of trees at a time, and added to the sum of those before: for all
    at once they would take gigabytes. explain/ending.py reads both forms.
    """
    if trees == 1:
        return op.gather(op.gather(table, numbers), constant(-1, np.int64), axis=1)
    if trees <= group:
        sums = op.cumsum(op.gather(table, numbers), constant(1, np.int64))
        return op.gather(sums, constant(-1, np.int64), axis=1)
    # Of the two things that are joined, onnxruntime makes the second first. So that stands the sum
    # of those before, and trees are added from the last to the first; the other way round, the
    # runtime would hold all groups at once.
    backwards = op.gather(numbers, constant(range(trees)[::-1], np.int64), axis=1)
    groups = op.split(backwards, num_outputs=-(-trees // group), axis=1)
    added: list[Var] = []
    for each in reversed(groups):
        parts = joined([op.gather(table, each), *added])  # (n, trees of the group, m)
        sums = op.cumsum(parts, constant(1, np.int64), reverse=1)
        first = 0 if each is groups[0] else [0]  # which leaves a place for further groups
        added = [op.gather(sums, constant(first, np.int64), axis=1)]
    return added[0]


def _at_leaves(tree: Tree, values: Array) -> Array:
    """Values of the leaves by node; those of branches are 0."""
    found = np.zeros(len(tree.left))
    found[tree.leaf] = values
    return found
