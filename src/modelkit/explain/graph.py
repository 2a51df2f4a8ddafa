"""A graph by the names of its tensors: what makes each, and which are constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelkit._internal.arrays import Array
from modelkit.errors import importing

with importing("onnx", "explaining a model", "explain"):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

CUT = "modelkit/cut"  # the output of a graph that was cut


class GraphIndex:
    """The nodes and constants of a graph by name. `proto` is the whole model."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        graph = proto.graph
        self.proto = proto
        self.constants = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].HasField("t"):
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._makers = {name: node for node in graph.node for name in node.output}

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes a tensor; None for an input and an initializer."""
        return self._makers.get(name)

    def constant(self, name: str) -> Array | None:
        """The value of a constant; None for any other tensor."""
        return self.constants.get(name)


def option(node: onnx.NodeProto, name: str, otherwise: Any = None) -> Any:
    """The value of an attribute of a node, or `otherwise` if it has none of this name."""
    for attribute in node.attribute:
        if attribute.name == name:
            return helper.get_attribute_value(attribute)
    return otherwise


def whole_proto(graph: bytes | memoryview, weights: memoryview | None) -> onnx.ModelProto:
    """A graph with its external weights put back in."""
    proto = onnx.load_from_string(bytes(graph))
    for tensor in proto.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL and weights is not None:
            at = {entry.key: entry.value for entry in tensor.external_data}
            start = int(at["offset"])
            stop = start + int(at["length"])
            tensor.raw_data = bytes(weights[start:stop])
            del tensor.external_data[:]
            tensor.data_location = TensorProto.DEFAULT
    return proto


def cut(proto: onnx.ModelProto, tensor: str, dtype: str) -> onnx.ModelProto:
    """The part of a graph that makes one tensor; its output CUT has a row each of the given dtype.

    The operator that makes it lacks a link of its own there.
    """
    whole = proto.graph
    # Put together anew, since a copy of the whole would take the ensemble along.
    part = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    part.graph.MergeFrom(
        onnx.GraphProto(
            name=whole.name,
            input=whole.input,
            initializer=whole.initializer,
            value_info=whole.value_info,
        )
    )
    for number in _needed_for(tensor, whole.node):
        part.graph.node.append(whole.node[number])
    last = part.graph.node[-1].attribute
    kept = [attribute for attribute in last if attribute.name != "post_transform"]
    del last[:]
    last.extend(kept)
    element = TensorProto.DOUBLE if dtype == "float64" else TensorProto.FLOAT
    part.graph.node.append(helper.make_node("Flatten", [tensor], [CUT]))
    part.graph.output.append(helper.make_tensor_value_info(CUT, element, ["batch", None]))
    return part


def _needed_for(tensor: str, nodes: Sequence[onnx.NodeProto]) -> list[int]:
    """The numbers, ascending, of the nodes that a tensor is made by."""
    numbers = {name: number for number, node in enumerate(nodes) for name in node.output}
    needed: set[int] = set()
    names = [tensor]
    while names:
        number = numbers.get(names.pop())
        if number is not None and number not in needed:
            needed.add(number)
            names += nodes[number].input
    return sorted(needed)
