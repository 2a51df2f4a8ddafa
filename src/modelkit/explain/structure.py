"""Read from a graph what makes exact explanations possible: which columns a tensor depends on, and how it ends.

Two things are looked for, each a proof by the operators on the way and no guess from data:

- a tree ensemble whose every input column depends on one raw column, and which only a link follows;
- a value that is a sum of functions of one raw column each (an additive model: linear models behind
  imputers, scalers and encoders are such), which only a link follows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.errors import importing
from modelkit.explain.depends import Depends, trace
from modelkit.explain.ensemble import TREES, Leaves, NotDecodableError, decode, dtype_of
from modelkit.explain.summed import before_factor, summed_rows
from modelkit.signature import Signature

with importing("onnx", "explaining a model", "explain"):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

TAIL = frozenset(["Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"])


@dataclass(frozen=True)
class Player:
    """One column that a caller passes: its name, its tensor, and its place there."""

    name: str
    tensor: str
    column: int


def players_of(signature: Signature) -> tuple[Player, ...] | None:
    """The raw columns in the order of the inputs; None where an input is no matrix of fixed width."""
    found = []
    for spec in signature.inputs:
        if len(spec.shape) != 2 or not isinstance(spec.shape[1], int):
            return None
        names = [c.name for c in spec.columns] or [
            f"{spec.name}[{i}]" for i in range(spec.shape[1])
        ]
        found += [Player(name, spec.name, i) for i, name in enumerate(names)]
    return tuple(found)


@dataclass(frozen=True)
class Exact:
    """What an exact method explains.

    `tensor` is the tensor that the graph is cut at: for trees the matrix they read, else the
    additive value. `link` is what turns that value, or the sum of leaves, into the served output:
    identity, logistic, softmax, exp, or share for a sigmoid's share of the sum of all classes;
    `scale` and `shift` come after it, and after a softmax of two classes or a logistic there are
    two columns.
    """

    kind: str
    tensor: str
    proto: onnx.ModelProto
    link: str
    leaves: Leaves | None = None
    groups: Array | None = None
    scale: float = 1.0
    shift: float = 0.0


class NoStructureError(Exception):
    """A graph that is neither; its text says why, for the plan."""


def whole_proto(graph: bytes | memoryview, weights: memoryview | None) -> onnx.ModelProto:
    """A graph with its external weights put back in."""
    proto = onnx.load_from_string(bytes(graph))
    for tensor in proto.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL and weights is not None:
            at = {entry.key: entry.value for entry in tensor.external_data}
            start = int(at["offset"])
            tensor.raw_data = bytes(weights[start : start + int(at["length"])])
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
    return proto


def read(proto: onnx.ModelProto, signature: Signature, output: str) -> Exact:
    """The structure of the output `output`. Raises NoStructureError."""
    graph = proto.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    maker = {name: node for node in graph.node for name in node.output}
    known = trace(proto, signature, constants)
    name, link, scale, shift = _before_link(output, maker, constants)
    table = summed_rows(maker.get(name), maker, constants)
    if table is not None:
        name = table[0]
    name, factor = (
        before_factor(name, maker, constants)
        if link != "identity" and table is None
        else (name, 1.0)
    )
    node = maker.get(name)
    if node is None:
        raise NoStructureError("the output is an input or a constant")
    if node.op_type in (*TREES, "LinearClassifier") and name != node.output[-1]:
        raise NoStructureError("the output is a label")
    if node.op_type in TREES:
        leaves = _leaves(proto, node, None if table is None else table[1], factor)
        return _trees(proto, node, known, leaves, (link, scale, shift))
    if node.op_type == "LinearClassifier":
        return _linear_classifier(proto, node, known, link, scale, shift)
    value = known.get(name)
    if value is None or not value.additive:
        raise NoStructureError(
            f"its value before the link, made by {node.op_type}, is no sum over single columns"
        )
    return Exact("additive", name, proto, link, scale=scale, shift=shift)


def _leaves(
    proto: onnx.ModelProto, node: onnx.NodeProto, table: Array | None, factor: float
) -> Leaves:
    """The leaves of an ensemble, or the rows of a table that they are the numbers of, times a factor."""
    kind = node.input[0] if node.op_type != "TreeEnsemble" else ""
    dtype = dtype_of(node, _number_type(proto, kind) if kind else np.float32)
    try:
        leaves = decode(node, dtype, table)
    except NotDecodableError as error:
        raise NoStructureError(str(error)) from None
    if factor == 1.0:
        return leaves
    return replace(leaves, values=leaves.values * factor, base=leaves.base * factor)


def _trees(
    proto: onnx.ModelProto,
    node: onnx.NodeProto,
    known: dict[str, Depends],
    leaves: Leaves,
    after: tuple[str, float, float],
) -> Exact:
    link, scale, shift = after
    inputs = known.get(node.input[0])
    if inputs is None or not inputs.single or inputs.block is not None:
        raise NoStructureError("the trees read columns that depend on several raw columns each")
    if leaves.link != "identity" and link != "identity":
        raise NoStructureError(f"a {leaves.link} is followed by {link}")
    groups = np.array([next(iter(columns), 0) for columns in inputs.columns], np.intp)
    joined = leaves.link if link == "identity" else link
    return Exact("trees", node.input[0], proto, joined, leaves, groups, scale, shift)


def _number_type(proto: onnx.ModelProto, name: str) -> Any:
    """float32 unless the trees read doubles, which come from an input of the graph, a cast, or a table of labels."""
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in [*proto.graph.input, *proto.graph.value_info]
    }
    kinds |= {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if not node.output or node.output[0] in kinds:
            continue
        if node.op_type == "Cast":
            kinds[node.output[0]] = next(a.i for a in node.attribute if a.name == "to")
        elif node.op_type in (
            "Scaler",
            "OneHotEncoder",
            "LinearRegressor",
            "LabelEncoder",
            "Constant",
        ):
            continue  # of single precision, but for a constant, beside which there is a tensor of the same type
        elif any(kinds.get(given) == TensorProto.DOUBLE for given in node.input):
            kinds[node.output[0]] = TensorProto.DOUBLE
    return np.float64 if kinds.get(name) == TensorProto.DOUBLE else np.float32


def _linear_classifier(
    proto: onnx.ModelProto,
    node: onnx.NodeProto,
    known: dict[str, Depends],
    link: str,
    scale: float,
    shift: float,
) -> Exact:
    """A LinearClassifier ends in a link of its own: it is taken off, and the scores before it are additive."""
    inputs = known.get(node.input[0])
    if inputs is None or not inputs.additive:
        raise NoStructureError(
            "the linear classifier reads columns that are no sums over single columns"
        )
    own = next((a.s.decode() for a in node.attribute if a.name == "post_transform"), "NONE")
    links = {"NONE": "identity", "LOGISTIC": "logistic", "SOFTMAX": "softmax"}
    if own not in links or (own != "NONE" and link != "identity"):
        raise NoStructureError(f"a linear classifier with {own} is followed by {link}")
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    for other in bare.graph.node:
        if other.output[:] == node.output[:]:
            kept = [a for a in other.attribute if a.name != "post_transform"]
            del other.attribute[:]
            other.attribute.extend([*kept, helper.make_attribute("post_transform", "NONE")])
    joined = links[own] if link == "identity" else link
    return Exact("additive", node.output[1], bare, joined, scale=scale, shift=shift)


def _before_link(
    name: str, maker: dict[str, onnx.NodeProto], constants: dict[str, Array]
) -> tuple[str, str, float, float]:
    """Walk back from an output through reshapes, one link and scalings; the name before them, and what they are."""
    link, scale, shift = "identity", 1.0, 0.0
    while name in maker:
        node = maker[name]
        numbers = [constants[i] for i in node.input if i in constants]
        if node.op_type in TAIL or _is_second(node, maker, constants):
            name = node.input[0]
        elif _is_complement(node, maker, constants):
            name = node.input[1]
        elif (
            node.op_type in ("Softmax", "Sigmoid", "Exp")
            and link == "identity"
            and shift == 0.0
            and (scale == 1.0 or node.op_type == "Exp")
        ):
            name, link = (
                node.input[0],
                {"Softmax": "softmax", "Sigmoid": "logistic", "Exp": "exp"}[node.op_type],
            )
        elif (
            node.op_type in ("Mul", "Div")
            and len(numbers) == 1
            and numbers[0].size == 1
            and link == "identity"
        ):
            factor = float(numbers[0].reshape(-1)[0])
            if node.op_type == "Div" and node.input[0] in constants:
                break
            scale *= factor if node.op_type == "Mul" else 1 / factor
            name = next(i for i in node.input if i not in constants)
        elif node.op_type == "Normalizer" and _is_softmax(node, maker):  # its sum is one already
            name = node.input[0]
        elif _is_share(node, maker) and (link, scale) == ("identity", 1.0):
            name, link = maker[node.input[0]].input[0], "share"
        else:
            break
    return name, link, scale, shift


def _is_complement(
    node: onnx.NodeProto, maker: dict[str, onnx.NodeProto], constants: dict[str, Array]
) -> bool:
    """Whether a node puts 1 - p beside p, the probabilities of two classes."""
    if node.op_type != "Concat" or len(node.input) != 2 or node.input[0] not in maker:
        return False
    rest = maker[node.input[0]]
    if rest.op_type != "Sub" or rest.input[1] != node.input[1]:
        return False
    one = constants.get(rest.input[0])
    return one is not None and one.size == 1 and float(one.reshape(-1)[0]) == 1.0


def _is_second(
    node: onnx.NodeProto, maker: dict[str, onnx.NodeProto], constants: dict[str, Array]
) -> bool:
    """Whether a node takes the second of two probabilities; the additivity check sees where there were others."""
    column = constants.get(node.input[1]) if node.op_type == "Gather" else None
    above = maker.get(node.input[0])
    if column is None or above is None or above.op_type not in (*TREES, "Softmax", "Concat"):
        return False
    return bool(column.reshape(-1).tolist() == [1])


def _is_softmax(node: onnx.NodeProto, maker: dict[str, onnx.NodeProto]) -> bool:
    """Whether a node divides the probabilities of a softmax by their sum."""
    norm = next((a.s for a in node.attribute if a.name == "norm"), b"MAX")
    above = maker.get(node.input[0])
    own = (
        b"NONE"
        if above is None
        else next((a.s for a in above.attribute if a.name == "post_transform"), b"NONE")
    )
    return (
        norm == b"L1"
        and above is not None
        and above.op_type == "LinearClassifier"
        and own == b"SOFTMAX"
    )


def _is_share(node: onnx.NodeProto, maker: dict[str, onnx.NodeProto]) -> bool:
    """Whether a node divides sigmoids by their sum, as one-against-rest classifiers do."""
    if node.op_type != "Div" or any(name not in maker for name in node.input):
        return False
    above, below = (maker[name] for name in node.input)
    if above.op_type != "Sigmoid" or below.op_type != "ReduceSum" or below.input[0] not in maker:
        return False
    summed = maker[below.input[0]]
    return node.input[0] in (below.input[0], *(summed.input if summed.op_type == "Abs" else ()))


def cut(proto: onnx.ModelProto, tensor: str, element: int) -> onnx.ModelProto:
    """The part of a graph that makes one tensor, which becomes its output."""
    maker = {name: node for node in proto.graph.node for name in node.output}
    needed, todo = set(), [tensor]
    while todo:
        node = maker.get(todo.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            todo += list(node.input)
    # Put together anew, since a copy of the whole would take the ensemble along.
    part = onnx.ModelProto(
        ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions
    )
    whole = proto.graph
    part.graph.MergeFrom(
        onnx.GraphProto(
            name=whole.name,
            input=whole.input,
            initializer=whole.initializer,
            sparse_initializer=whole.sparse_initializer,
            value_info=whole.value_info,
        )
    )
    part.graph.node.extend(node for node in whole.node if id(node) in needed)
    part.graph.output.append(helper.make_tensor_value_info(tensor, element, ["batch", None]))
    return part
