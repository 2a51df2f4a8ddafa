"""Read from a graph what makes exact explanations possible: what a sum is made of, and its link.

Two things are looked for, each a proof by the operators on the way and no guess from data:

- a tree ensemble whose every input column depends on one raw column, and which only a link follows;
- a value that is a sum of functions of one raw column each (an additive model: linear models behind
  imputers, scalers and encoders are such), which only a link follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.explain.depends import Depends, trace
from modelkit.explain.ending import before_factor, before_link, summed_rows
from modelkit.explain.ensemble import Leaves, decode_ensemble
from modelkit.explain.graph import GraphIndex, option
from modelkit.explain.links import OutputLink
from modelkit.explain.nodes import TREE_OPERATORS, NotDecodableError, compared_dtype
from modelkit.signature.signature import Signature

with importing("onnx", "explaining a model", "explain"):
    import onnx
    from onnx import TensorProto, helper

# Their outputs are of single precision. A constant stands beside a tensor of the same type.
KNOWN_TYPE = ("Scaler", "OneHotEncoder", "LinearRegressor", "LabelEncoder", "Constant")


@dataclass(frozen=True)
class Structure:
    """What an exact method explains.

    `tensor` is where the graph is cut: for "trees" the matrix they read, for "additive" the value
    that is a sum. `link` turns that value, or the sum of leaves, into the served output; after a
    softmax of two classes or a logistic there are two columns. For trees, `leaves` holds the
    ensemble, and `groups` the player of each column it reads.
    """

    kind: str
    tensor: str
    proto: onnx.ModelProto
    link: OutputLink
    leaves: Leaves | None = None
    groups: Array | None = None


class NoStructureError(Exception):
    """A graph that is neither a sum of trees nor additive; its text says why, for the plan."""


def read_structure(proto: onnx.ModelProto, signature: Signature, output: str) -> Structure:
    """The structure of one output of a graph. Raises NoStructureError if it has none."""
    graph = GraphIndex(proto)
    known = trace(proto, signature, graph.constants)
    name, link = before_link(graph, output)
    name, table, factor = _before_table(graph, name, link)
    node = graph.maker(name)
    if node is None:
        raise NoStructureError("the output is an input or a constant")
    is_trees = node.op_type in TREE_OPERATORS
    is_classifier = node.op_type == "LinearClassifier"
    if (is_trees or is_classifier) and name != node.output[-1]:
        raise NoStructureError("the output is a label")
    if is_trees:
        leaves = _leaves(proto, node, table, factor)
        return _tree_structure(proto, node, known, leaves, link)
    if is_classifier:
        return _linear_classifier(proto, node, known, link)
    value = known.get(name)
    if value is None or not value.additive:
        raise NoStructureError(
            f"its value before the link, made by {node.op_type}, is not a sum over single columns"
        )
    return Structure("additive", name, proto, link)


def _before_table(
    graph: GraphIndex, name: str, link: OutputLink
) -> tuple[str, Array | None, float]:
    """The tensor before a table of leaves, or before a factor of trees in a link, and these two."""
    summed = summed_rows(graph, name)
    if summed is not None:
        return *summed, 1.0
    if link.name == "identity":
        return name, None, 1.0
    before, factor = before_factor(graph, name)
    return before, None, factor


def _leaves(
    proto: onnx.ModelProto, node: onnx.NodeProto, table: Array | None, factor: float
) -> Leaves:
    """The leaves of an ensemble, or the rows of a table that they number, times a factor."""
    otherwise = np.float32
    if node.op_type != "TreeEnsemble":
        otherwise = _number_type(proto, node.input[0])
    try:
        leaves = decode_ensemble(node, compared_dtype(node, otherwise), table)
    except NotDecodableError as error:
        raise NoStructureError(str(error)) from None
    if factor == 1.0:
        return leaves
    return replace(leaves, values=leaves.values * factor, base=leaves.base * factor)


def _tree_structure(
    proto: onnx.ModelProto,
    node: onnx.NodeProto,
    known: dict[str, Depends],
    leaves: Leaves,
    link: OutputLink,
) -> Structure:
    inputs = known.get(node.input[0])
    if inputs is None or not inputs.single or inputs.block is not None:
        raise NoStructureError("the trees read columns that depend on several raw columns each")
    joined = _joined_link(leaves.link, link, f"a {leaves.link}")
    players = [next(iter(columns), 0) for columns in inputs.columns]
    groups = np.array(players, np.intp)
    return Structure("trees", node.input[0], proto, joined, leaves, groups)


def _joined_link(own: str, link: OutputLink, what: str) -> OutputLink:
    """The link of an operator, or the one after it; both at once are not understood."""
    if own == "identity":
        return link
    if link.name != "identity":
        raise NoStructureError(f"{what} is followed by {link.name}")
    return replace(link, name=own)


def _linear_classifier(
    proto: onnx.ModelProto, node: onnx.NodeProto, known: dict[str, Depends], link: OutputLink
) -> Structure:
    """A LinearClassifier without its own link: the scores before it are additive."""
    inputs = known.get(node.input[0])
    if inputs is None or not inputs.additive:
        raise NoStructureError(
            "the linear classifier reads columns that are not sums over single columns"
        )
    own = option(node, "post_transform", b"NONE").decode()
    links = {"NONE": "identity", "LOGISTIC": "logistic", "SOFTMAX": "softmax"}
    if own not in links:
        raise NoStructureError(f"a linear classifier with {own} is followed by {link.name}")
    joined = _joined_link(links[own], link, f"a linear classifier with {own}")
    return Structure("additive", node.output[1], _without_link(proto, node), joined)


def _without_link(proto: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """A copy of a graph in which a linear classifier has no link of its own."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    none = helper.make_attribute("post_transform", "NONE")
    for other in bare.graph.node:
        if other.output[:] == node.output[:]:
            kept = [each for each in other.attribute if each.name != "post_transform"]
            del other.attribute[:]
            other.attribute.extend([*kept, none])
    return bare


def _declared_types(graph: onnx.GraphProto) -> dict[str, int]:
    """The types of tensors that a graph says, as numbers of ONNX."""
    kinds = {}
    for value in [*graph.input, *graph.value_info]:
        kinds[value.name] = value.type.tensor_type.elem_type
    for tensor in graph.initializer:
        kinds[tensor.name] = tensor.data_type
    return kinds


def _number_type(proto: onnx.ModelProto, name: str) -> Any:
    """The numpy type of a tensor: float64 or float32.

    Doubles come from an input of the graph, a cast, or a table of labels.
    """
    kinds = _declared_types(proto.graph)
    for node in proto.graph.node:
        if not node.output or node.output[0] in kinds:
            continue
        if node.op_type == "Cast":
            kinds[node.output[0]] = option(node, "to")
            continue
        reads_doubles = any(kinds.get(given) == TensorProto.DOUBLE for given in node.input)
        if reads_doubles and node.op_type not in KNOWN_TYPE:
            kinds[node.output[0]] = TensorProto.DOUBLE
    return np.float64 if kinds.get(name) == TensorProto.DOUBLE else np.float32
