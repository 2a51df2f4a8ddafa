"""ONNX graphs in one expression."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from helpers.forge import GRAPH, members_of
from modelkit.package import scan


def tensor(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes, inputs, outputs, constants=None, opset=17):
    """A model of nodes, each an operator, its inputs, its outputs and its attributes."""
    held = [
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in (constants or {}).items()
    ]
    made = helper.make_graph(
        [helper.make_node(*node, **more) for *node, more in nodes], "g", inputs, outputs, held
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


node = helper.make_node


def constant(name, value, dtype=None):
    return numpy_helper.from_array(np.array(value, dtype), name)


def beside(nodes, constants=(), domain=None):
    """A change that adds operators to the graph of the toy; the sum of their last output is added to its answer."""

    def change(proto):
        proto.graph.initializer.extend(constants)
        proto.graph.node[1].output[0] = "relu"
        proto.graph.node.extend(nodes)
        last = nodes[-1].output[0]
        proto.graph.node.append(node("Cast", [last], ["numbers"], to=TensorProto.FLOAT))
        proto.graph.node.append(node("ReduceSum", ["numbers"], ["all"], keepdims=0))
        proto.graph.node.append(node("Add", ["relu", "all"], ["y"]))
        if domain is not None:
            proto.opset_import.add(domain=domain, version=1)

    return change


def told(warden, data, **asked):
    path = warden.folder / "hostile.mk"
    path.write_bytes(data)
    return warden.open(path, **asked)


def folding(data):
    return scan.check_graph(members_of(data)[GRAPH], "model.onnx.data", 16384).folding
