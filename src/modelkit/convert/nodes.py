"""Nodes and constants of a graph that skl2onnx makes, under names that nothing else has."""

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


class Nodes:
    """Adds nodes and constants to the container that a converter of skl2onnx is given.

    Attributes of nodes are passed on; `op_version` is the version of the operator, which is the
    newest that the graph may have unless it is given.
    """

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope = scope
        self._container = container

    def add(
        self,
        kind: str,
        *inputs: str,
        **attributes: Any,
    ) -> str:
        """Add a node with one output, and return the output's name."""
        name = self.new_name(kind.lower())
        self.give(
            kind,
            name,
            *inputs,
            **attributes,
        )
        return name

    def give(
        self,
        kind: str,
        output: str,
        *inputs: str,
        **attributes: Any,
    ) -> None:
        """Add a node whose output has a name already."""
        called = self._scope.get_unique_operator_name(kind)
        self._container.add_node(
            kind,
            list(inputs),
            [output],
            name=called,
            **attributes,
        )

    def new_name(self, like: str) -> str:
        """A name for a tensor that no other has."""
        return str(self._scope.get_unique_variable_name(like))

    def constant(self, values: Array) -> str:
        """Add a constant, and return its name. Strings are an array of objects."""
        name = self.new_name("constant")
        element = helper.np_dtype_to_tensor_dtype(values.dtype)
        flat = values.ravel().tolist()
        if element == TensorProto.STRING:
            flat = [text.encode() for text in flat]
        self._container.add_initializer(
            name,
            element,
            list(values.shape),
            flat,
        )
        return name

    def doubles(self, values: Any) -> str:
        """Add a constant of float64, and return its name."""
        return self.constant(np.asarray(values, np.float64))

    def whole(self, values: Any) -> str:
        """Add a constant of int64, and return its name."""
        return self.constant(np.asarray(values, np.int64))

    def put(self, name: str, variable: Any) -> None:
        """Make a tensor an output of the operator, in the type that it was declared with."""
        self.give(
            "Cast",
            str(variable.full_name),
            name,
            to=element_of(variable.type),
        )


def element_of(kind: Any) -> int:
    """The element type of a type of skl2onnx: int64 if it is neither of floats nor of strings."""
    return int(ELEMENTS.get(type(kind).__name__, TensorProto.INT64))


def labels_of(classes: Any) -> Array:
    """The classes of a classifier as a graph holds them: strings or integers."""
    found = np.asarray(classes)
    return found.astype(object) if found.dtype.kind in "UO" else found.astype(np.int64)
