"""Refuse an ensemble whose nodes form no trees, before onnxruntime follows them.

What its releases 1.24 and 1.32 do with such nodes was tried. A branch that leads back is followed
for ever, within one operator, where no deadline stops it. A tree is read by a function that calls
itself once a level and takes 780 bytes of stack: with 8 MiB, level 10,700 ends the process. Release
1.24 also ends where a branch of a TreeEnsemble leads nowhere or lists have other lengths, copies a
node once for every way that leads to it, and reads memory in front of a row where a column is
negative.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import GraphError

# Of branches: 1.6 MB of stack, which every thread has but those of macOS, with 512 KiB. LightGBM
# over a column of a thousand categories makes 950 levels, as a set of categories is written as one
# branch for each.
MAX_LEVELS = 2000
MAX_NUMBER = (1 << 31) - 1  # onnxruntime keeps 32 bits of a number
MODES = frozenset(b"LEAF BRANCH_LEQ BRANCH_LT BRANCH_GTE BRANCH_GT BRANCH_EQ BRANCH_NEQ".split())
LEAF_LETTERS = 4  # of the mode of a leaf; every other mode has more
NONE = -1
BRANCHES_AT_ONCE = 1 << 13  # new memory costs more than all that is done in it
# The attributes of each operator, in groups of lists of the same length.
BRANCHES = ("nodes_truenodeids", "nodes_falsenodeids", "nodes_featureids")
ADDRESSED = ("nodes_treeids", "nodes_nodeids", "nodes_modes", *BRANCHES)
INDEXED = ("nodes_trueleafs", "nodes_falseleafs", *BRANCHES)
LIST_GROUPS = {
    "TreeEnsembleRegressor": (
        ADDRESSED,
        ("target_ids", "target_treeids", "target_nodeids", "target_weights"),
    ),
    "TreeEnsembleClassifier": (
        ADDRESSED,
        ("class_ids", "class_treeids", "class_nodeids", "class_weights"),
    ),
    "TreeEnsemble": (INDEXED, ("tree_roots",), ("leaf_targetids",)),
}
LENGTHS_ONLY = {name for groups in LIST_GROUPS.values() for name in groups[-1]}
OPTIONAL = {"target_weights", "class_weights"}  # these may be a tensor instead


def check_trees(operator: str, lists: Mapping[str, Array]) -> None:
    """Raise GraphError unless the nodes of an ensemble form trees.

    Trees may share branches, as long as all of them lead to an end.

    Args:
        operator: a key of LIST_GROUPS.
        lists: the attributes of it that LIST_GROUPS names. `nodes_modes` has the number of letters
            of each mode.
    """
    for group in LIST_GROUPS[operator]:
        _check_lengths(group, lists)
    children = _indexed(lists) if operator == "TreeEnsemble" else _addressed(lists)
    if children.size:
        _check_levels(children)


def _check_lengths(group: tuple[str, ...], lists: Mapping[str, Array]) -> None:
    sizes = {}
    for name in group:
        size = len(lists.get(name, ()))
        if size or name not in OPTIONAL:
            sizes[name] = size
    if len(set(sizes.values())) > 1 or not all(sizes.values()):
        raise GraphError(f"its lists are empty or of several lengths: {sizes}")


def _indexed(lists: Mapping[str, Array]) -> Array:
    """The children of each node by number, (2, nodes); NONE for a leaf."""
    count = len(lists["nodes_featureids"])
    leaves = len(lists["leaf_targetids"])
    pairs = [lists["nodes_truenodeids"], lists["nodes_falsenodeids"]]
    child = np.stack(pairs)
    ends = np.stack([lists["nodes_trueleafs"], lists["nodes_falseleafs"]])
    _check_range("columns", lists["nodes_featureids"])
    _check_range("marks of leaves", ends, 2)
    _check_range("branches", child, np.where(ends, leaves, count))
    _check_range("roots", lists["tree_roots"], count)
    children = np.where(ends, NONE, child)
    targets = np.append(_inner_nodes(children), lists["tree_roots"])
    if np.bincount(targets).max() > 1:
        raise GraphError(
            "two of its branches or roots lead to one node, which is then in two trees"
        )
    return children


def _addressed(lists: Mapping[str, Array]) -> Array:
    """The children of each node that is not a leaf, (2, such nodes), by number among these.

    A child that is a leaf is NONE. Nodes are addressed by the number of their tree and their own.
    """
    tree = lists["nodes_treeids"]
    node = lists["nodes_nodeids"]
    count = len(node)
    _check_range("trees", tree)
    _check_range("nodes", node, count)
    keys = tree * count + node
    if not (keys[1:] > keys[:-1]).all():
        order = np.argsort(keys)
        if not np.diff(keys[order]).all():
            raise GraphError("two of its nodes have the same number in the same tree")
        return _addressed({name: lists[name][order] for name in ADDRESSED})
    at = np.flatnonzero(lists["nodes_modes"] != LEAF_LETTERS)
    _check_range("columns", lists["nodes_featureids"][at])
    number = np.full(count, NONE, np.int32)
    number[at] = np.arange(len(at), dtype=np.int32)
    children = np.empty((2, len(at)), np.int32)
    for start in range(0, len(at), BRANCHES_AT_ONCE):
        part = at[start : start + BRANCHES_AT_ONCE]
        pairs = [lists["nodes_truenodeids"][part], lists["nodes_falsenodeids"][part]]
        child = np.stack(pairs)
        _check_range("branches", child, count)
        places = _find(keys, part, child - node[part])
        children[:, start : start + BRANCHES_AT_ONCE] = number[places]
    return children


def _find(keys: Array, at: Array, further: Array) -> Array:
    """Positions of `keys[at] + further` in the sorted `keys`.

    In a tree whose nodes are numbered without a gap they are `at + further`.
    """
    asked = keys[at] + further
    place: Array = np.clip(at + further, 0, len(keys) - 1)
    missed = keys[place] != asked
    if missed.any():
        place[missed] = np.searchsorted(keys[:-1], asked[missed])
        if (keys[place] != asked).any():
            raise GraphError("one of its branches leads to a node that the tree does not have")
    return place


def _check_range(what: str, numbers: Array, limit: Array | int = MAX_NUMBER) -> None:
    if numbers.size and (numbers.min() < 0 or (numbers >= limit).any()):
        raise GraphError(f"one of its {what} has a number that is negative or beyond the last")


def _inner_nodes(children: Array) -> Array:
    """Those children that are not leaves.

    A mask that no processor foresees would take five times as long.
    """
    flat = children.ravel()
    nodes: Array = flat[np.flatnonzero(flat >= 0)]
    return nodes


def _check_levels(children: Array) -> None:
    """Take away the nodes without a parent, level by level; a remainder runs in circles."""
    parents = np.bincount(_inner_nodes(children), minlength=children.shape[1])
    level = np.flatnonzero(parents == 0)
    left = children.shape[1]
    shared = parents.max(initial=0) > 1  # as LightGBM's sets of categories are written
    for _ in range(MAX_LEVELS):
        left -= len(level)
        level = _inner_nodes(children[:, level])
        if shared:
            np.subtract.at(parents, level, 1)
            level = np.unique(level[parents[level] == 0])
        if not len(level):
            break
    if len(level):
        raise GraphError(
            f"one of its trees has more than {MAX_LEVELS} levels, which the stack may not hold"
        )
    if left:
        raise GraphError(
            f"{left} of its nodes run in circles or follow on such, and a row might never leave "
            "them"
        )
