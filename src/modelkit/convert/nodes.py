"""Nodes and constants of a graph in the making, under names that nothing else has."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto


class Nodes:
    """Adds nodes and constants to what a converter of skl2onnx is given."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope, self._container = scope, container

    def add(self, operator: str, *inputs: str, version: int, **attributes: Any) -> str:
        """Add a node of one output and return the name of that."""
        output = str(self._scope.get_unique_variable_name(operator.lower()))
        self.name(operator, output, *inputs, version=version, **attributes)
        return output

    def name(
        self, operator: str, output: str, *inputs: str, version: int, **attributes: Any
    ) -> None:
        """Add a node whose output has a name already."""
        called = self._scope.get_unique_operator_name(operator)
        self._container.add_node(
            operator, list(inputs), [output], name=called, op_version=version, **attributes
        )

    def number(self, value: float) -> str:
        """A number as a constant."""
        return self._held(TensorProto.DOUBLE, [], [value])

    def numbers(self, values: Any) -> str:
        """A vector of doubles as a constant."""
        return self._held(TensorProto.DOUBLE, [len(values)], np.asarray(values, np.float64))

    def matrix(self, values: Any) -> str:
        """A matrix of doubles as a constant."""
        return self._held(
            TensorProto.DOUBLE, list(values.shape), np.asarray(values, np.float64).ravel()
        )

    def constant(self, kind: int, values: list[Any]) -> str:
        """A vector of any element type as a constant."""
        return self._held(kind, [len(values)], values)

    def _held(self, kind: int, shape: list[int], values: Any) -> str:
        name = str(self._scope.get_unique_variable_name("constant"))
        self._container.add_initializer(name, kind, shape, values)
        return name
