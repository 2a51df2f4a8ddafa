"""ONNX graphs in one expression."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


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
