"""Attack 30 of the table in docs/explanation/security.md, by trees: circles, nodes that are not there, and depth."""

import pytest
from helpers.forge import forest, with_graph
from onnx import TensorProto, helper


def beside(node):
    """A graph with one more operator, of whose answer nothing is made."""

    def change(proto):
        proto.opset_import.add(
            domain="ai.onnx.ml", version=5 if node.op_type == "TreeEnsemble" else 3
        )
        proto.ir_version = 10
        proto.graph.node.append(node)

    return change


OLD, NEW = ("TreeEnsembleRegressor", "TreeEnsembleClassifier"), ("TreeEnsemble",)
CIRCLE, ITSELF = [6, 5, 1, 0, 0, 0, 0], [6, 1, 4, 0, 0, 0, 0]
ABSENT, GAP = [9, 5, 4, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 7]


@pytest.mark.parametrize("operator", [*OLD, *NEW])
def test_30_trees_that_are_sound(toy, warden, folder, operator):
    path = folder / "sound.mk"
    path.write_bytes(with_graph(toy, beside(forest(operator))))
    assert warden.open(path, then="verify")["error"] is None


@pytest.mark.parametrize(
    ("operators", "changes", "words"),
    [
        (OLD, {"nodes_truenodeids": CIRCLE}, "2 of its nodes run in circles"),
        (
            OLD,
            {"nodes_truenodeids": CIRCLE, "nodes_modes": ["BRANCH_EQ"] * 3 + ["LEAF"] * 4},
            "run in circles",
        ),
        (OLD, {"nodes_truenodeids": ITSELF}, "run in circles"),
        (OLD, {"nodes_truenodeids": ABSENT}, "branches has a number"),
        (OLD, {"nodes_falsenodeids": [-1, 2, 3, 0, 0, 0, 0]}, "negative"),
        (OLD, {"nodes_treeids": [0] * 6 + [1]}, "a node that the tree does not have"),
        (OLD, {"nodes_nodeids": GAP}, "nodes has a number"),
        (OLD, {"nodes_nodeids": [0, 1, 2, 3, 4, 5, 5]}, "the same number in the same tree"),
        (OLD, {"nodes_truenodeids": [6, 5, 4]}, "several lengths"),
        (OLD, {"nodes_modes": ["BRANCH_LEQ"] * 3 + ["LEAF"] * 3 + ["BRANCH"]}, "several lengths"),
        (OLD, {"nodes_featureids": [0, -100_000_000, 0, 0, 0, 0, 0]}, "columns has a number"),
        (OLD[:1], {"target_ids": [0]}, "several lengths"),
        (OLD[1:], {"class_weights": [1.0]}, "several lengths"),
        (
            NEW,
            {"nodes_truenodeids": [3, 2, 0], "nodes_trueleafs": [1, 1, 0], "tree_roots": [0]},
            "lead to one node",
        ),
        (
            NEW,
            {"nodes_truenodeids": [3, 2, 2], "nodes_trueleafs": [1, 1, 0], "tree_roots": [0]},
            "lead to one node",
        ),
        (NEW, {"nodes_falsenodeids": [1, 1, 0]}, "lead to one node"),
        (NEW, {"nodes_falsenodeids": [1, 3, 0]}, "branches has a number"),
        (NEW, {"nodes_truenodeids": [4, 2, 1]}, "branches has a number"),
        (NEW, {"nodes_truenodeids": [1 << 40, 2, 1]}, "branches has a number"),
        (NEW, {"tree_roots": [3]}, "roots has a number"),
        (NEW, {"tree_roots": [0, 0]}, "lead to one node"),
        (NEW, {"nodes_trueleafs": [1, 1]}, "several lengths"),
    ],
)
def test_30_trees_that_are_none(toy, refused, operators, changes, words):
    for operator in operators:
        refused(
            with_graph(toy, beside(forest(operator, **changes))),
            "GraphError",
            words,
            operator,
            "'t'",
        )


def test_30_trees_in_circles_in_a_subgraph_or_a_function(toy, refused):
    endless = forest(nodes_truenodeids=CIRCLE)
    ml = helper.make_opsetid("ai.onnx.ml", 3)

    def branch(proto):
        taken = helper.make_graph(
            [endless], "b", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)]
        )
        proto.opset_import.append(ml)
        proto.graph.node.append(
            helper.make_node("If", ["x"], ["z"], then_branch=taken, else_branch=taken)
        )

    def function(proto):
        proto.functions.append(
            helper.make_function("ai.onnx.ml", "F", ["x"], ["t"], [endless], [ml])
        )

    refused(with_graph(toy, branch), "GraphError", "run in circles")
    refused(with_graph(toy, function), "GraphError", "functions of its own")


def test_30_trees_with_a_list_twice(toy, refused):
    node = forest(nodes_truenodeids=CIRCLE)
    node.attribute.append(helper.make_attribute("nodes_truenodeids", [6, 5, 4, 0, 0, 0, 0]))
    refused(
        with_graph(toy, beside(node)), "GraphError", "TreeEnsembleRegressor with an attribute twice"
    )


def test_30_a_tree_deeper_than_the_stack(toy, refused):
    """onnxruntime reads a tree by a function that calls itself: 30,000 levels would end the process."""
    deep = 30_000
    ids, zeros = list(range(deep + 2)), [0] * (deep + 2)
    changes = {
        "nodes_treeids": zeros, "nodes_nodeids": ids, "nodes_featureids": zeros, "nodes_values": [0.0] * len(ids),
        "nodes_modes": ["BRANCH_LEQ"] * deep + ["LEAF"] * 2, "nodes_falsenodeids": [*ids[1 : deep + 1], 0, 0],
        "nodes_truenodeids": [*[deep + 1] * deep, 0, 0],
    }  # fmt: skip
    refused(with_graph(toy, beside(forest(**changes))), "GraphError", "more than 2000 levels")
