"""Graphs over ensembles of trees that are made by hand, node by node."""

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ELEMENTS = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE, np.int64: TensorProto.INT64,
            str: TensorProto.STRING}  # fmt: skip
MODES = (
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_GTE",
    "BRANCH_GT",
    "BRANCH_EQ",
    "BRANCH_NEQ",
    "BRANCH_MEMBER",
)


def new_node(trees, targets, dtype, tracks, **options):
    """A TreeEnsemble of ai.onnx.ml 5."""
    nodes, leaves, roots, members = [], [], [], []

    def put(tree, target):
        if not isinstance(tree, tuple):
            leaves.append((target, tree))
            return len(leaves) - 1, 1
        mode, column, split, among, missing, true, false = tree
        at = len(nodes)
        nodes.append(None)
        if mode == "BRANCH_MEMBER":
            members.extend([*among, np.nan])
        found = [put(child, target) for child in (true, false)]
        nodes[at] = (MODES.index(mode), column, split, missing, *found[0], *found[1])
        return at, 0

    for i, tree in enumerate(trees):
        at, leaf = put(tree, i % targets)
        if leaf:  # a tree of one leaf is a node whose branches both end there
            nodes.append((0, 0, 0.0, False, at, 1, at, 1))
            at = len(nodes) - 1
        roots.append(at)
    mode, column, split, missing, true, true_leaf, false, false_leaf = zip(*nodes, strict=True)
    given = {
        "tree_roots": roots, "n_targets": targets, "nodes_featureids": column,
        "nodes_splits": numpy_helper.from_array(np.array(split, dtype)),
        "nodes_modes": numpy_helper.from_array(np.array(mode, np.uint8)),
        "nodes_truenodeids": true, "nodes_trueleafs": true_leaf, "nodes_falsenodeids": false,
        "nodes_falseleafs": false_leaf, "leaf_targetids": [target for target, _ in leaves],
        "leaf_weights": numpy_helper.from_array(np.array([weight for _, weight in leaves], dtype)),
    } | options  # fmt: skip
    if members:
        given["membership_values"] = numpy_helper.from_array(np.array(members, dtype))
    if tracks:
        given["nodes_missing_value_tracks_true"] = [int(m) for m in missing]
    return helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", **given)


def old_node(
    trees,
    targets,
    dtype,
    tracks,
    *,
    op="TreeEnsembleRegressor",
    inputs="x",
    outputs=("y",),
    **options,
):
    """A TreeEnsembleRegressor, or Classifier, of ai.onnx.ml 3, with attributes of doubles where asked for."""
    kind = "target" if op == "TreeEnsembleRegressor" else "class"
    nodes, weights = [], []
    for number, tree in enumerate(trees):
        todo, count = [(tree, 0)], 1
        while todo:
            node, at = todo.pop(0)
            if not isinstance(node, tuple):
                nodes.append((number, at, "LEAF", 0, 0.0, 0, 0, 0))
                weights.append((number, at, number % targets, node))
                continue
            mode, column, split, _, missing, true, false = node
            nodes.append((number, at, mode, column, split, int(missing), count, count + 1))
            todo += [(true, count), (false, count + 1)]
            count += 2
    tree_ids, ids, modes, columns, splits, missing, true, false = zip(*nodes, strict=True)
    of_tree, of_node, of_target, weight = zip(*weights, strict=True)
    given = {
        "nodes_treeids": tree_ids, "nodes_nodeids": ids, "nodes_modes": modes, "nodes_featureids": columns,
        "nodes_truenodeids": true, "nodes_falsenodeids": false,
        f"{kind}_treeids": of_tree, f"{kind}_nodeids": of_node, f"{kind}_ids": of_target,
    }  # fmt: skip
    numbers = {"nodes_values": splits, f"{kind}_weights": weight}
    if "base_values" in options:
        numbers["base_values"] = options.pop("base_values")
    for name, values in numbers.items():
        if dtype == np.float64:
            given[f"{name}_as_tensor"] = numpy_helper.from_array(np.array(values, dtype))
        else:
            given[name] = [float(v) for v in values]
    if kind == "target":
        given["n_targets"] = targets
    if tracks:
        given["nodes_missing_value_tracks_true"] = missing
    return helper.make_node(op, [inputs], list(outputs), domain="ai.onnx.ml", **given | options)


def graph(nodes, *, inputs, outputs, constants=None):
    """A model of nodes: inputs and outputs are {name: (type, width)}."""
    infos = [
        [
            helper.make_tensor_value_info(name, ELEMENTS[kind], ["batch", width])
            for name, (kind, width) in side.items()
        ]
        for side in (inputs, outputs)
    ]
    stored = [
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in (constants or {}).items()
    ]
    made = helper.make_graph(nodes, "g", *infos, stored)
    # The version that has TreeEnsemble drops the older operators.
    newest = any(node.op_type == "TreeEnsemble" for node in nodes)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5 if newest else 3)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def answers(proto, rows, name="y"):
    """What onnxruntime answers."""
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([name], {"x": rows})[0]


def tree_of(column=0, split=0.0, low=0.25, high=0.75, mode="BRANCH_LEQ"):
    """A tree of one split, in the form that `old_node` and `new_node` take."""
    return (mode, column, split, (split,), False, low, high)
