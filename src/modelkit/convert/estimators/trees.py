"""Trees of all libraries in one table, and the sums of their leaves as TreeEnsemble of ai.onnx.ml 5.

A branch compares in the dtype of the rows. What is not compared so (categories) is turned into a
column of zeros and ones first.

A leaf of the operator adds to one output. Leaves that add a vector are written in one of two ways.
Where each adds to one place of the vector (a tree whose leaves hold one class each), that place is
the output. Elsewhere each tree has an output of its own, the number of a row in a table, and the
rows are added up in the order of the trees: an operator for sums of a whole axis would add them in
another order, and the last bit decides ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.estimators.tensors import Var, constant, ml, op

SUM = 1
NUMBERS_AT_ONCE = 1024  # of a row, that are looked up in tables of leaves
LEAST_GROUP = 16  # trees that are looked up together, however many numbers each gives
LARGEST_EXACT = 1 << 24  # up to here a float32 holds every whole number


@dataclass(frozen=True)
class Forest:
    """Trees in one table of nodes, one tree behind the other, its root first.

    `x[column] <= threshold` (`<` in a `strict` forest) leads to `left`, as a missing x does where
    `missing` says so, and all else to `right`. Children are numbered within their tree, and a
    leaf's are below 0. `value`, (nodes, m), is what a row adds that ends in a node, and `sizes` are
    the numbers of nodes of the trees.
    """

    left: Array
    right: Array
    column: Array
    threshold: Array
    missing: Array
    value: Array
    sizes: Array
    strict: bool = False

    @property
    def is_leaf(self) -> Array:
        """Whether each node is a leaf."""
        return self.left < 0

    @property
    def leaves(self) -> Array:
        """(leaves, m): what the leaves add."""
        return self.value[self.is_leaf]

    @property
    def tree(self) -> Array:
        """The tree that each leaf is in."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)[self.is_leaf]


def joined_forests(forests: Sequence[Forest]) -> Forest:
    """All trees in one forest, which compares as the last one does."""
    names = [field.name for field in fields(Forest)[:-1]]
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in forests]) for name in names
    }
    return replace(forests[-1], **arrays)


def single_leaf(value: Any) -> Forest:
    """A tree of one leaf, which adds a vector."""
    none = np.zeros(0, np.int64)
    return of_branches(none, none, none, none, none, np.atleast_2d(value))


def of_branches(
    left: Array, right: Array, column: Array, threshold: Array, missing: Array, leaves: Array
) -> Forest:
    """A tree whose leaves, (leaves, m), are numbered behind its branches."""

    def padded(values: Array, end: int = 0) -> Array:
        return np.append(values, np.full(len(leaves), end, values.dtype))

    return Forest(
        padded(left, -1),
        padded(right, -1),
        padded(column),
        padded(threshold),
        padded(missing),
        np.pad(leaves, ((len(left), 0), (0, 0))),
        np.array([len(left) + len(leaves)]),
    )


def bisection(bounds: Array, column: int) -> Forest:
    """A balanced tree whose leaves show how many of the sorted bounds are below a value."""
    spans = [(0, len(bounds))]
    left = []
    for low, high in spans:
        left.append(len(spans) if low < high else -2)
        middle = (low + high) // 2
        spans += [(low, middle), (middle + 1, high)] * (low < high)
    low, high = np.array(spans).T
    asked = np.append(bounds, 0.0)[(low + high) // 2]
    same = np.full(len(left), column)
    children = np.array(left)
    sizes = np.array([len(left)])
    return Forest(children, children + 1, same, asked, same < 0, low[:, None], sizes)


def ensemble(rows: Var, forest: Forest, weight: Array, target: Array, outputs: int) -> Var:
    """(n, outputs) sums over the trees, added in their order, in the dtype of `rows`.

    Each leaf adds its weight to the output that is its target. The operator numbers branches apart
    from leaves. A tree of one leaf is a branch with that leaf on both sides.
    """
    lists, threshold = _branches(forest)
    lists["leaf_targetids"] = target
    sums = ml.tree_ensemble(
        rows,
        aggregate_function=SUM,
        n_targets=outputs,
        nodes_splits=threshold.astype(rows.dtype),
        nodes_modes=np.full(len(threshold), forest.strict, np.uint8),
        leaf_weights=weight.astype(rows.dtype),
        **{name: each.astype(int).tolist() for name, each in lists.items()},
    )
    sums.trees = (rows, 1.0, sums)
    return sums


def _branches(forest: Forest) -> tuple[dict[str, Array], Array]:
    """The branches of all trees as the operator's lists of whole numbers, and their thresholds."""
    first = np.cumsum(forest.sizes) - forest.sizes
    root = np.repeat(first, forest.sizes)
    leaf = forest.is_leaf
    branch = ~leaf
    branch[first] = True
    number = np.where(leaf, np.cumsum(leaf), np.cumsum(branch)) - 1
    at = np.flatnonzero(branch)
    column, threshold, missing = (
        np.where(leaf[at], 0, each[at])
        for each in (forest.column, forest.threshold, forest.missing)
    )
    lists = {
        "tree_roots": np.cumsum(branch)[first] - 1,
        "nodes_featureids": column,
        "nodes_missing_value_tracks_true": missing,
    }
    for side, child in (("true", forest.left), ("false", forest.right)):
        to = root[at] + np.where(leaf[at], 0, child[at])
        lists[f"nodes_{side}nodeids"] = number[to]
        lists[f"nodes_{side}leafs"] = leaf[to]
    return lists, threshold


def by_tree(rows: Var, forest: Forest, weight: Array) -> Var:
    """(n, trees): the weight of the leaf that each tree leads to."""
    return ensemble(rows, forest, weight, forest.tree, len(forest.sizes))


def sum_from(
    rows: Var, start: Array, forest: Forest, skip: int = 0, output: Array | None = None
) -> Var:
    """(n, skip + outputs): the first value of each output, and its trees in their order.

    `output` is the one that each tree adds to; trees take turns where it is not given. The first
    value is a tree of one leaf: it comes first in the sum, as it does in the source.
    """
    if output is None:
        output = np.arange(len(forest.sizes)) % len(start)
    begun = np.flatnonzero(start)
    whole = joined_forests([*map(single_leaf, start[begun]), forest])
    target = np.concatenate([begun, output])[whole.tree] + skip
    return ensemble(rows, whole, whole.leaves[:, 0], target, skip + len(start))


def sum_of_leaves(rows: Var, forest: Forest) -> Var:
    """(n, m) of float64: the sum of what each tree's leaf holds, added in the order of the trees."""
    value = forest.leaves
    if (np.count_nonzero(value, axis=1) > 1).any():
        return sum_of_vectors(rows, forest)
    # Sums of small whole numbers are exact in float32.
    small = (value == np.rint(value)) & (np.abs(value) <= 1)
    exact = rows if small.all() else rows.astype(np.float64)
    target = (value != 0).argmax(axis=1)
    weight = value[np.arange(len(value)), target]
    return ensemble(exact, forest, weight, target, value.shape[1]).astype(np.float64)


def sum_of_vectors(rows: Var, forest: Forest, dtype: Any = np.float64) -> Var:
    """The sum of leaves that hold vectors: each tree gives the number of a row in a table.

    The rows of the table are added in the order of the trees, in a dtype of floats.
    """
    table, place = np.unique(forest.leaves, axis=0, return_inverse=True)
    exact = rows if len(table) <= LARGEST_EXACT else rows.astype(np.float64)
    held = constant(table, dtype)
    number = by_tree(exact, forest, place)
    group = max(LEAST_GROUP, NUMBERS_AT_ONCE // table.shape[1])
    sums = _added_up(held, number.astype(np.int32), len(forest.sizes), group)
    sums.trees = (exact, 1.0, number, held)
    return sums


def _added_up(table: Var, numbers: Var, trees: int, group: int) -> Var:
    """(n, m): the sum of the rows of a table that are numbered, (n, trees), in their order.

    They are looked up for a group of trees at a time, and added to the sum of those before: for all
    at once they would take gigabytes.
    """
    if trees == 1:
        return np.take(op.gather(table, numbers), -1, axis=1)
    if trees <= group:
        sums = op.cumsum(op.gather(table, numbers), constant(1, np.int64))
        return np.take(sums, -1, axis=1)
    # Of the two things that are joined, onnxruntime makes the second first. So that stands the sum
    # of those before, and trees are added from the last to the first; the other way round, the
    # runtime would hold all groups at once.
    backwards = np.take(numbers, range(trees)[::-1], axis=1)
    groups = op.split(backwards, num_outputs=-(-trees // group), axis=1)
    added: list[Var] = []
    for each in reversed(groups):
        parts = np.concatenate(
            [op.gather(table, each), *added], axis=1
        )  # (n, trees of the group, m)
        sums = op.cumsum(parts, constant(1, np.int64), reverse=1)
        first = 0 if each is groups[0] else [0]  # which leaves a place for further groups
        added = [np.take(sums, first, axis=1)]
    return added[0]
