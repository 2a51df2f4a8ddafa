"""Read the nodes of a tree ensemble of an ONNX graph into arrays.

Operators: TreeEnsembleRegressor and TreeEnsembleClassifier (ai.onnx.ml 1 to 3) and TreeEnsemble
(ai.onnx.ml 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.explain.graph import option
from modelkit.model.structure import Link

with importing("onnx", "explaining a model", "explain"):
    import onnx
    from onnx import numpy_helper

TREE_OPERATORS = ("TreeEnsembleRegressor", "TreeEnsembleClassifier", "TreeEnsemble")
NO_BRANCH = -1  # the mode of a leaf
MOST_SET_MEMBERS = 30  # beyond, onnxruntime refuses a set or takes fractions for its members
NUMBERS_AT_ONCE = 1 << 14  # of an attribute
POST_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
LINK_OF: dict[str, Link] = {"NONE": "identity", "LOGISTIC": "logistic", "SOFTMAX": "softmax"}

# Whether trees are averaged, by what they are aggregated to; others than these are not decoded.
IS_AVERAGE = {b"AVERAGE": True, b"SUM": False, 0: True, 1: False}
Given = dict[str, Any]  # the attributes of an ensemble by name, long ones as arrays


class Branch(IntEnum):
    """How a node compares, by the numbers of TreeEnsemble (5)."""

    LEQ = 0
    LT = 1
    GTE = 2
    GT = 3
    EQ = 4
    NEQ = 5
    MEMBER = 6


class NotDecodableError(Exception):
    """An ensemble that is not a sum of leaves over plain conditions; its text says why."""


@dataclass(frozen=True)
class TreeNodes:
    """All nodes of an ensemble; nodes that branch come before leaves, or among them.

    `child` is (2, nodes): where the true and the false branch go. `leaf` is the row of a leaf in
    `values` (leaves, outputs), and -1 for other nodes. `members` has the set of each MEMBER node.
    `mode`, `column`, `value` and `missing` (whether a missing value takes the true branch) are of
    the nodes that branch. `roots` has the first node of each tree.
    """

    mode: Array
    column: Array
    value: Array
    child: Array
    missing: Array
    members: dict[int, tuple[float, ...]]
    leaf: Array
    values: Array
    roots: Array


@dataclass(frozen=True)
class Ensemble:
    """The nodes of an ensemble, the bases (outputs,), and whether trees are averaged."""

    nodes: TreeNodes
    base: Array
    is_average: bool


def read_ensemble(node: onnx.NodeProto, table: Array | None) -> Ensemble:
    """The nodes of an ensemble, or of the sum of the rows of a table that its trees number.

    Raises NotDecodableError if it is not a sum.
    """
    given = {}
    for attribute in node.attribute:
        given[attribute.name.removesuffix("_as_tensor")] = _attribute_value(attribute)
    new = node.op_type == "TreeEnsemble"
    nodes = _read_new(given, table) if new else _read_old(given, node.op_type)
    is_average = IS_AVERAGE.get(given.get("aggregate_function", b"SUM"))
    if is_average is None:
        raise NotDecodableError("the trees are not summed but their least or largest is taken")
    return Ensemble(nodes, _bases(given, nodes.values.shape[1]), is_average)


def _attribute_value(attribute: onnx.AttributeProto) -> Any:
    if attribute.HasField("t"):
        return numpy_helper.to_array(attribute.t)
    # In slices: a list of a hundred thousand at once would keep other threads waiting for 5 ms and
    # more.
    for many in (attribute.ints, attribute.floats, attribute.strings):
        if len(many):
            starts = range(0, len(many), NUMBERS_AT_ONCE)
            return np.concatenate([many[start : start + NUMBERS_AT_ONCE] for start in starts])
    return onnx.helper.get_attribute_value(attribute)


def link_of(node: onnx.NodeProto) -> Link:
    """The link that an operator applies itself. Raises NotDecodableError for an unusual one."""
    transform = option(node, "post_transform", b"NONE")
    name = POST_TRANSFORMS[transform] if isinstance(transform, int) else transform.decode()
    if name not in LINK_OF:
        raise NotDecodableError(f"the graph ends in {name}")
    return LINK_OF[name]


def _bases(given: Given, outputs: int) -> Array:
    """The base values (outputs,), zero if the ensemble has none."""
    given_bases = given.get("base_values", ())
    if not len(given_bases):
        return np.zeros(outputs)
    if len(given_bases) != outputs:
        raise NotDecodableError(
            f"the trees have {outputs} outputs and {len(given_bases)} base values"
        )
    base = np.asarray(given_bases, np.float64)
    if outputs == 1:
        return base
    for i in np.flatnonzero(base).tolist():
        if not _always_added(given, i):
            raise NotDecodableError("onnxruntime leaves a base value out where no leaf adds to it")
    return base


def _always_added(given: Given, output: int) -> bool:
    """Whether one tree has a weight of this output in every leaf."""
    kind = "target" if "target_ids" in given else "class"
    trees = given["nodes_treeids"]
    is_leaf = _modes(given) == NO_BRANCH
    weighed = _keys(given, kind)[given[f"{kind}_ids"] == output]
    has_weight = np.isin(_keys(given, "nodes"), weighed)
    without = trees[is_leaf & ~has_weight]
    return len(np.setdiff1d(trees, without)) > 0


def _keys(given: Given, kind: str, nodes: str = "nodeids") -> Array:
    """One number for each pair of a tree and a node, by which the older operators name a node."""
    most = given["nodes_nodeids"].max() + 1
    return np.asarray(given[f"{kind}_treeids"] * most + given[f"{kind}_{nodes}"])


def _modes(given: Given) -> Array:
    """The Branch of each node as a number, NO_BRANCH for a leaf."""
    names = np.asarray(given["nodes_modes"])
    found = np.full(len(names), NO_BRANCH, np.int8)
    for branch in Branch:
        found[names == f"BRANCH_{branch.name}".encode()] = branch
    return found


def _read_old(given: Given, op: str) -> TreeNodes:
    """Nodes of the operators that name them by (tree, node)."""
    mode = _modes(given)
    inside = mode != NO_BRANCH
    number = np.cumsum(~inside) - 1
    leaf = np.where(inside, -1, number)
    kind = "target" if op == "TreeEnsembleRegressor" else "class"
    weighed = leaf[_numbers_of(given, _keys(given, kind))]
    child = _old_children(given, inside)
    return TreeNodes(
        mode,
        given["nodes_featureids"],
        given["nodes_values"],
        child,
        np.asarray(given.get("nodes_missing_value_tracks_true", np.zeros(len(mode))), bool),
        {},
        leaf,
        _old_values(given, kind, weighed, int((~inside).sum())),
        _roots(child[:, inside], len(mode)),
    )


def _roots(children: Array, count: int) -> Array:
    """The numbers of the nodes that are not children, of `count` in all."""
    is_root = np.ones(count, bool)
    is_root[children] = False
    return np.flatnonzero(is_root)


def _numbers_of(given: Given, keys: Array) -> Array:
    """The numbers of the nodes that have these keys."""
    own = _keys(given, "nodes")
    order = np.argsort(own, kind="stable")
    return order[np.searchsorted(own[order], keys)]


def _old_children(given: Given, inside: Array) -> Array:
    """Where the true and the false branch of each node go, (2, nodes); -1 for leaves."""
    child = np.full((2, len(inside)), -1)
    for branch, which in enumerate(("true", "false")):
        child[branch, inside] = _numbers_of(given, _keys(given, "nodes", f"{which}nodeids")[inside])
    return child


def _old_values(given: Given, kind: str, weighed: Array, leaves: int) -> Array:
    """The values (leaves, outputs), from weights that each belong to a leaf in `weighed`."""
    if (weighed < 0).any():
        raise NotDecodableError("a node that is not a leaf has a weight")
    ids = given[f"{kind}_ids"]
    outputs = int(given.get("n_targets", 1))
    if kind == "class":
        numbers = given.get("classlabels_int64s", ())
        outputs = len(numbers) or len(given.get("classlabels_strings", ()))
        if outputs == 2 and (ids == ids[0]).all():  # one column of raw scores for two classes
            outputs = 1
            ids = np.zeros_like(ids)
    weights = np.asarray(given[f"{kind}_weights"], np.float64)
    return np.bincount(weighed * outputs + ids, weights, leaves * outputs).reshape(leaves, outputs)


def _read_new(given: Given, table: Array | None) -> TreeNodes:
    """Nodes of TreeEnsemble (5), which keeps leaves apart: they follow the others here."""
    count = len(given["nodes_featureids"])
    leaves = len(given["leaf_weights"])
    mode = np.asarray(given["nodes_modes"], np.int8)
    return TreeNodes(
        mode,
        given["nodes_featureids"],
        given["nodes_splits"],
        np.stack([_children(given, "true"), _children(given, "false")]),
        np.asarray(given.get("nodes_missing_value_tracks_true", np.zeros(count)), bool),
        _set_members(given, mode),
        np.concatenate([np.full(count, -1), np.arange(leaves)]),
        _new_values(given, table),
        np.asarray(given["tree_roots"]),
    )


def _children(given: Given, which: str) -> Array:
    """Where the true or the false branches go, with leaves numbered after the other nodes."""
    count = len(given["nodes_featureids"])
    to_leaf = np.asarray(given[f"nodes_{which}leafs"], bool)
    number = np.asarray(given[f"nodes_{which}nodeids"])
    return np.where(to_leaf, number + count, number)


def _new_values(given: Given, table: Array | None) -> Array:
    """The values (leaves, outputs): the weights, or the rows of the table that they number."""
    weights = given["leaf_weights"]
    outputs = int(given.get("n_targets", 1))
    if table is None:
        values = np.zeros((len(weights), outputs))
        values[np.arange(len(weights)), given["leaf_targetids"]] = weights
        return values
    if outputs != len(given["tree_roots"]):
        raise NotDecodableError("not every tree has an output of its own, a row of the table")
    rows = np.asarray(weights).astype(np.intp)
    known = table.ndim == 2 and table.dtype.kind == "f" and rows.min() >= 0
    if not known or rows.max() >= len(table):
        raise NotDecodableError(
            "the trees do not number rows of the table that is said to be theirs"
        )
    return np.asarray(table[rows], np.float64)


def _set_members(given: Given, mode: Array) -> dict[int, tuple[float, ...]]:
    """The set of each MEMBER node; NaN ends a set in the attribute."""
    sets: list[tuple[float, ...]] = [()]
    for value in given.get("membership_values", ()):
        if np.isnan(value):
            sets.append(())
        else:
            sets[-1] = (*sets[-1], float(value))
    numbers = np.flatnonzero(mode == Branch.MEMBER).tolist()
    sets += [()] * len(numbers)
    members = dict(zip(numbers, sets, strict=False))
    if not all(_is_read_rightly(among) for among in members.values()):
        raise NotDecodableError(
            f"a set of a branch holds other than 1 to {MOST_SET_MEMBERS}, which onnxruntime "
            "misreads"
        )
    return members


def _is_read_rightly(among: tuple[float, ...]) -> bool:
    """Whether onnxruntime reads a set as it is written."""
    whole = all(0 < value <= MOST_SET_MEMBERS and value == int(value) for value in among)
    return bool(among) and whole
