"""Converters of single estimators where skl2onnx has none, or one that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.convert.nodes import Nodes, element_of

OperatorConverter = Callable[[Any, Any, Any], None]  # scope, operator, container of skl2onnx
SMALL = 10 * float(np.finfo(np.float64).eps)  # norms below count as 1 for scikit-learn


def converters() -> dict[type, OperatorConverter]:
    """Converters by estimator class."""
    from sklearn.mixture import GaussianMixture
    from sklearn.preprocessing import Binarizer, Normalizer

    return {
        Normalizer: _normalize,
        Binarizer: _binarize,
        GaussianMixture: _convert_plainly,
    }


class Container:
    """A converter's container in which numpy scalars become Python numbers, as onnx demands."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    @property
    def target_opset(self) -> int:
        """The version of the main operators: a dictionary where several domains are targeted."""
        return int(self._container.target_opset_any_domain(""))

    def add_node(
        self,
        op_type: str,
        *args: Any,
        **attributes: Any,
    ) -> None:
        """Add a node with plain attributes."""
        plain = {name: _plain(value) for name, value in attributes.items()}
        self._container.add_node(
            op_type,
            *args,
            **plain,
        )


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain_number(item) for item in value]
    return value


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool | np.bool_ | np.integer):
        return int(value)
    return float(value) if isinstance(value, np.floating) else value


def _registered(operator: Any) -> OperatorConverter:
    from skl2onnx.common._registration import get_converter

    converter: OperatorConverter = get_converter(operator.type)
    return converter


def _convert_plainly(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    _registered(operator)(
        scope,
        operator,
        Container(container),
    )


def _normalize(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    """Rows over their norms; a norm of next to nothing counts as 1, as it does for scikit-learn."""
    nodes = Nodes(scope, container)
    rows = _joined(scope, operator, container)
    element = element_of(operator.outputs[0].type)
    dtype = np.float64 if element == TensorProto.DOUBLE else np.float32
    if element_of(operator.inputs[0].type) != element:
        rows = nodes.add("Cast", rows, op_version=13, to=element)
    reduce = {"l1": "ReduceL1", "l2": "ReduceL2", "max": "ReduceMax"}[operator.raw_operator.norm]
    sizes = nodes.add("Abs", rows, op_version=13)
    norm = nodes.add(reduce, sizes, nodes.whole([1]), op_version=18, keepdims=1)
    divisor = _one_if_small(nodes, norm, dtype)
    nodes.give("Div", operator.outputs[0].full_name, rows, divisor, op_version=14)


def _one_if_small(
    nodes: Nodes,
    norm: str,
    dtype: Any,
) -> str:
    limit = nodes.constant(np.array([SMALL], dtype))
    one = nodes.constant(np.ones(1, dtype))
    small = nodes.add("Less", norm, limit, op_version=13)
    return nodes.add("Where", small, one, norm, op_version=9)


def _binarize(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    """1 above the threshold, and 0 where a value equals it."""
    nodes = Nodes(scope, container)
    rows = _joined(scope, operator, container)
    output = operator.outputs[0]
    threshold = nodes.new_name("threshold")
    kind = element_of(operator.inputs[0].type)
    container.add_initializer(
        threshold,
        kind,
        [1],
        [operator.raw_operator.threshold],
    )
    above = nodes.add("Greater", rows, threshold, op_version=13)
    nodes.give("Cast", output.full_name, above, op_version=13, to=element_of(output.type))


def _joined(
    scope: Any,
    operator: Any,
    container: Any,
) -> str:
    """The name of all inputs of an operator as one tensor."""
    from skl2onnx.common._apply_operation import apply_concat

    if len(operator.inputs) == 1:
        return str(operator.inputs[0].full_name)
    name = str(scope.get_unique_variable_name("columns"))
    parts = [variable.full_name for variable in operator.inputs]
    apply_concat(
        scope,
        parts,
        name,
        container,
        axis=1,
    )
    return name
