"""Write nodes into the graph of skl2onnx, one call a node."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from modelkit.cast import Array

ELEMENTS = {
    "FloatTensorType": TensorProto.FLOAT,
    "DoubleTensorType": TensorProto.DOUBLE,
    "StringTensorType": TensorProto.STRING,
}


class Writer:
    """Where a converter puts its nodes; names are made up, and are what each call returns."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope = scope
        self._container = container

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = str(self._scope.get_unique_variable_name(kind.lower()))
        self._node(kind, list(inputs), name, **attributes)
        return name

    def constant(self, values: Array) -> str:
        """Add a constant, and return its name."""
        name = str(self._scope.get_unique_variable_name("constant"))
        element = helper.np_dtype_to_tensor_dtype(values.dtype)
        flat = values.ravel().tolist()
        if element == TensorProto.STRING:
            flat = [text.encode() for text in flat]
        self._container.add_initializer(name, element, list(values.shape), flat)
        return name

    def as_float(self, variable: Any) -> str:
        """The name of an input of an operator as a tensor of float32.

        It is cast whatever its declared type: behind an encoder of categories the converter calls
        numbers float32 that are float64, and the runtime drops a cast that changes nothing.
        """
        return self.add("Cast", str(variable.full_name), to=TensorProto.FLOAT)

    def put(self, name: str, variable: Any) -> None:
        """Make a tensor an output of the operator, in the type that it was declared with."""
        self._node("Cast", [name], str(variable.full_name), to=element_of(variable))

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        called = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, inputs, [output], name=called, **attributes)


def element_of(variable: Any) -> int:
    """The element type of a variable: integers where it holds neither floats nor strings."""
    return int(ELEMENTS.get(type(variable.type).__name__, TensorProto.INT64))


def labels_of(classes: Any) -> Array:
    """The classes of a classifier as a graph holds them: strings or integers."""
    found = np.asarray(classes)
    return found.astype(object) if found.dtype.kind in "UO" else found.astype(np.int64)
