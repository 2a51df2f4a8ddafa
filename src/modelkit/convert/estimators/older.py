"""Ensembles of trees of ai.onnx.ml 3 as those of 5: a graph has one version of operators.

Converters of other libraries write the older operator, which 5 does not have any more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from modelkit.cast import Array
from modelkit.convert.estimators.trees import Tree, at_branches, lists_of
from modelkit.errors import ConversionError

OLD = "TreeEnsembleRegressor"
MODES = (b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT", b"BRANCH_EQ", b"BRANCH_NEQ")
AGGREGATES = (b"AVERAGE", b"SUM", b"MIN", b"MAX")


def renewed(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its older ensembles written anew.

    Raises ConversionError for what the newer cannot say.
    """
    graph = proto.graph
    if any(node.op_type == "TreeEnsembleClassifier" for node in graph.node):
        raise ConversionError(
            "an ensemble of trees that gives labels itself cannot stand among others"
        )
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type == OLD:
            graph.node.extend(_renewed(node, graph))
        else:
            graph.node.append(node)
    for entry in proto.opset_import:
        if entry.domain == "ai.onnx.ml":
            entry.version = 5
    return proto


def _renewed(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    given = {a.name.removesuffix("_as_tensor"): _value(a) for a in node.attribute}
    if given.get("post_transform", b"NONE") != b"NONE":
        raise ConversionError(
            "an ensemble of trees with a link of its own cannot stand among others"
        )
    base = np.asarray(
        given.get("base_values", ()),
        np.float32,
    )
    output = node.output[0]
    added = f"{output}_sum" if len(base) else output
    attributes = _attributes(given)
    made = helper.make_node("TreeEnsemble", node.input, [added], domain="ai.onnx.ml", **attributes)
    if not len(base):
        return [made]
    graph.initializer.append(numpy_helper.from_array(base[None], f"{output}_base"))
    return [made, helper.make_node("Add", [added, f"{output}_base"], [output])]


def _attributes(given: dict[str, Any]) -> dict[str, Any]:
    """The attributes of the newer operator from those of the older."""
    trees, targets, weights = _trees(given)
    splits = np.concatenate([at_branches(tree, tree.threshold) for tree in trees])
    modes = np.concatenate([at_branches(tree, tree.modes) for tree in trees])
    leaves = np.concatenate(weights)
    attributes: dict[str, Any] = {
        "n_targets": int(given.get("n_targets", 1)),
        "aggregate_function": AGGREGATES.index(given.get("aggregate_function", b"SUM")),
        "nodes_splits": numpy_helper.from_array(splits.astype(np.float32)),
        "nodes_modes": numpy_helper.from_array(modes.astype(np.uint8)),
        "leaf_weights": numpy_helper.from_array(leaves.astype(np.float32)),
    }
    return attributes | lists_of(trees, targets)


def _value(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.array(value) if isinstance(value, list) else value


def _trees(given: dict[str, Any]) -> tuple[list[Tree], list[Array], list[Array]]:
    """The trees, the output that each node adds to, and the weights of the leaves.

    There is one tree for each output of several: a leaf of the newer operator adds to one output.
    """
    trees = []
    targets = []
    weights = []
    for number in np.unique(given["nodes_treeids"]):
        tree, own = _tree(
            given,
            given["nodes_treeids"] == number,
        )
        chosen = given["target_treeids"] == number
        place = np.searchsorted(
            own,
            given["target_nodeids"][chosen],
        )
        ids = given["target_ids"][chosen]
        held = np.asarray(given["target_weights"])[chosen]
        for kept in _by_output(ids, place):
            target = np.zeros(
                len(own),
                np.int64,
            )
            weight = np.zeros(
                len(own),
                np.float64,
            )
            target[place[kept]] = ids[kept]
            weight[place[kept]] = held[kept]
            trees.append(tree)
            targets.append(target)
            weights.append(weight[tree.leaf])
    return trees, targets, weights


def _by_output(ids: Array, place: Array) -> list[Array]:
    """Which weights go into one tree: all of them, or those of one output if a leaf has several."""
    if len(np.unique(place)) == len(place):
        return [np.ones(len(ids), bool)]
    return [ids == output for output in np.unique(ids)]


def _tree(given: dict[str, Any], chosen: Array) -> tuple[Tree, Array]:
    """A tree whose nodes are in the order of their numbers, and these numbers."""
    own = given["nodes_nodeids"][chosen]
    order = np.argsort(own, kind="stable")
    own = own[order]

    def ordered(values: Any) -> Array:
        found: Array = np.asarray(values)[chosen][order]
        return found

    modes = ordered(given["nodes_modes"])
    leaf = modes == b"LEAF"
    left, right = (
        np.where(leaf, -1, np.searchsorted(own, ordered(given[f"nodes_{side}nodeids"])))
        for side in ("true", "false")
    )
    led_to = np.concatenate([left[~leaf], right[~leaf]])
    if len(np.unique(led_to)) < len(led_to) or (led_to == 0).any():
        raise ConversionError("an ensemble of trees that share branches cannot stand among others")
    missing = given.get(
        "nodes_missing_value_tracks_true",
        np.zeros(len(chosen)),
    )
    numbers = [0 if mode == b"LEAF" else MODES.index(mode) for mode in modes.tolist()]
    tree = Tree(
        column=ordered(given["nodes_featureids"]),
        threshold=ordered(given["nodes_values"]),
        missing=ordered(missing).astype(bool),
        left=left,
        right=right,
        mode=np.array(numbers, np.uint8),
    )
    return tree, own
