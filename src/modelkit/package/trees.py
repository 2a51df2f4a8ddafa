"""Refuse an ensemble whose nodes form no trees, before onnxruntime follows them.

What its releases 1.24 and 1.32 do with such nodes was tried. A branch that leads back is followed
for ever, within one operator, where no deadline stops it. A tree is read by a function that calls
itself once a level and takes 780 bytes of
stack: with 8 MiB, level 10,700 ends the process. Release 1.24 also ends where a branch of a
TreeEnsemble leads nowhere or lists have other lengths, copies a node once for every way that leads
to it, and reads what lies in front of a row where a column is negative.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelkit.cast import Array
from modelkit.errors import GraphError

# Of branches: 1.6 MB of stack, which every thread has but those of macOS, with 512 KiB. LightGBM
# over a column of a thousand categories makes 950 levels, as a set of categories is written as one
# branch for each.
MAX_LEVELS = 2000
MOST = (1 << 31) - 1  # onnxruntime keeps 32 bits of a number
LEAF = 4  # letters; every other mode has more
NONE = -1
BLOCK = 1 << 13  # branches at once, for new memory costs more than all that is done in it
# The attributes of each operator, in groups of lists of the same length.
BRANCHES = ("nodes_truenodeids", "nodes_falsenodeids", "nodes_featureids")
ADDRESSED = ("nodes_treeids", "nodes_nodeids", "nodes_modes", *BRANCHES)
INDEXED = ("nodes_trueleafs", "nodes_falseleafs", *BRANCHES)
GROUPS = {
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
COUNTED = {
    name for groups in GROUPS.values() for name in groups[-1]
}  # for no more than their length
OPTIONAL = {"target_weights", "class_weights"}  # these may be a tensor instead


def check_trees(operator: str, lists: Mapping[str, Array]) -> None:
    """Raise GraphError unless the nodes of an ensemble form trees, or share branches and lead to an end all the same.

    Args:
        operator: a key of GROUPS.
        lists: those of its attributes that GROUPS names. `nodes_modes` has the number of letters of
            each mode.
    """
    for group in GROUPS[operator]:
        sizes = {name: len(lists.get(name, ())) for name in group}
        sizes = {name: size for name, size in sizes.items() if size or name not in OPTIONAL}
        if len(set(sizes.values())) > 1 or not all(sizes.values()):
            raise GraphError(f"its lists are empty or of several lengths: {sizes}")
    if operator != "TreeEnsemble" and _in_order(lists):
        return
    children = (_indexed if operator == "TreeEnsemble" else _addressed)(lists)
    if children.size:
        _check_levels(children)


def _in_order(lists: Mapping[str, Array]) -> bool:
    """Whether each tree numbers its nodes from 0, parents before children, and has few branches.

    This is how converters write, and can be told without following a branch, in a third of the
    time.
    """
    tree, node = lists["nodes_treeids"], lists["nodes_nodeids"]
    first = np.flatnonzero(node == 0)
    if (
        not len(first)
        or first[0]
        or tree[0] < 0
        or tree[-1] >= MOST
        or (tree[first[1:]] <= tree[first[:-1]]).any()
    ):
        return False
    sizes = np.diff(first, append=len(node)).astype(np.int32)
    number = np.arange(len(node), dtype=np.int32) - np.repeat(first.astype(np.int32), sizes)
    if not ((node == number).all() and ((tree[1:] != tree[:-1]) == (number[1:] == 0)).all()):
        return False
    leaf, limit = lists["nodes_modes"] == LEAF, np.repeat(sizes, sizes)
    columns = lists["nodes_featureids"]
    sound = leaf | ((columns >= 0) & (columns < MOST))
    for child in (lists["nodes_truenodeids"], lists["nodes_falsenodeids"]):
        sound &= leaf | ((child > number) & (child < limit))
    branches = np.add.reduceat(
        ~leaf, first, dtype=np.int32
    )  # of each tree, which has no more levels than these
    return bool(sound.all() and branches.max() <= MAX_LEVELS)


def _indexed(lists: Mapping[str, Array]) -> Array:
    """Where the true and the false branch of each node lead, by number; NONE for a leaf."""
    count, leaves = len(lists["nodes_featureids"]), len(lists["leaf_targetids"])
    child = np.stack([lists["nodes_truenodeids"], lists["nodes_falsenodeids"]]).astype(np.int64)
    ends = np.stack([lists["nodes_trueleafs"], lists["nodes_falseleafs"]])
    _check_range("columns", lists["nodes_featureids"])
    _check_range("marks of leaves", ends, 2)
    _check_range("branches", child, np.where(ends, leaves, count))
    _check_range("roots", lists["tree_roots"], count)
    children = np.where(ends, NONE, child)
    if np.bincount(np.append(_nodes(children), lists["tree_roots"])).max() > 1:
        raise GraphError(
            "two of its branches or roots lead to one node, which is then in two trees"
        )
    return children


def _addressed(lists: Mapping[str, Array]) -> Array:
    """Where the true and the false branch of each node that is no leaf lead, by number among these; NONE for a leaf.

    Nodes are addressed by the number of their tree and their own in it.
    """
    tree, node = lists["nodes_treeids"], lists["nodes_nodeids"]
    count = len(node)
    _check_range("trees", tree)
    _check_range("nodes", node, count)
    keys = tree.astype(np.int64) * count + node
    if not (keys[1:] > keys[:-1]).all():
        order = np.argsort(keys)
        if not np.diff(keys[order]).all():
            raise GraphError("two of its nodes have the same number in the same tree")
        return _addressed({name: lists[name][order] for name in ADDRESSED})
    at = np.flatnonzero(lists["nodes_modes"] != LEAF)
    _check_range("columns", lists["nodes_featureids"][at])
    number = np.full(count, NONE, np.int32)
    number[at] = np.arange(len(at), dtype=np.int32)
    children = np.empty((2, len(at)), np.int32)
    for start in range(0, len(at), BLOCK):
        part = at[start : start + BLOCK]
        child = np.stack(
            [lists["nodes_truenodeids"][part], lists["nodes_falsenodeids"][part]]
        ).astype(np.int64)
        _check_range("branches", child, count)
        children[:, start : start + BLOCK] = number[_find(keys, part, child - node[part])]
    return children


def _find(keys: Array, at: Array, further: Array) -> Array:
    """Where the keys are that are so much larger than those `at` some places.

    In a tree whose nodes are numbered without a gap, that is so many places further.
    """
    asked = keys[at] + further
    place: Array = np.clip(at + further, 0, len(keys) - 1)
    missed = keys[place] != asked
    if missed.any():
        place[missed] = np.searchsorted(keys[:-1], asked[missed])
        if (keys[place] != asked).any():
            raise GraphError("one of its branches leads to a node that the tree does not have")
    return place


def _check_range(what: str, numbers: Array, limit: Array | int = MOST) -> None:
    if numbers.size and (numbers.min() < 0 or (numbers >= limit).any()):
        raise GraphError(f"one of its {what} has a number that is negative or beyond the last")


def _nodes(children: Array) -> Array:
    """Those children that are no leaves.

    A mask that no processor foresees would take five times as long.
    """
    flat = children.ravel()
    nodes: Array = flat[np.flatnonzero(flat >= 0)]
    return nodes


def _check_levels(children: Array) -> None:
    """Take away the nodes that no branch leads to, again and again: what is left at last runs in circles."""
    parents = np.bincount(_nodes(children), minlength=children.shape[1])
    level, left = np.flatnonzero(parents == 0), children.shape[1]
    shared = parents.max() > 1  # as LightGBM's sets of categories are written
    for _ in range(MAX_LEVELS):
        left -= len(level)
        level = _nodes(children[:, level])
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
