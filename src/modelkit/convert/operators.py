"""Converters of single estimators where skl2onnx has none, or one that is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.cast import MISSING, is_missing
from modelkit.convert.nodes import Nodes, element_of
from modelkit.errors import ConversionError

OperatorConverter = Callable[[Any, Any, Any], None]  # scope, operator, container of skl2onnx
SMALL = 10 * float(np.finfo(np.float64).eps)  # norms below count as 1 for scikit-learn


def converters() -> tuple[dict[type, OperatorConverter], dict[type, Callable[[Any], None]]]:
    """Converters and shape calculators by estimator class."""
    from sklearn.impute import SimpleImputer
    from sklearn.mixture import GaussianMixture
    from sklearn.preprocessing import Binarizer, Normalizer, OneHotEncoder, OrdinalEncoder

    return (
        {
            SimpleImputer: _impute,
            Normalizer: _normalize,
            Binarizer: _binarize,
            OneHotEncoder: _encode,
            OrdinalEncoder: _encode_ordinal,
            GaussianMixture: _convert_plainly,
        },
        {SimpleImputer: _imputer_shape},
    )


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


class WholeNumbers(Container):
    """The container of an encoder of numbers, which its converter cuts off to integers.

    Here what is not whole becomes unknown instead.
    """

    def __init__(
        self,
        container: Any,
        scope: Any,
        operator: Any,
        numbers: list[Any],
    ) -> None:
        super().__init__(container)
        self._nodes = Nodes(scope, container)
        self._unknown = _smallest_number(operator.raw_operator.categories_) - 1
        # The number of casts that are left; a last one may be of the result.
        self._left = sum(variable.type.shape[1] for variable in numbers)
        wide = element_of(numbers[0].type) == TensorProto.DOUBLE
        self._dtype = np.float64 if wide else np.float32

    def add_node(
        self,
        op_type: str,
        *args: Any,
        **attributes: Any,
    ) -> None:
        """Add a node, and before a cast to integers those that find what it would cut off."""
        if op_type == "Cast" and attributes["to"] == TensorProto.INT64 and self._left:
            self._left -= 1
            given, *rest = args
            source = given if isinstance(given, str) else given[0]
            args = (self._kept(source), *rest)
        super().add_node(
            op_type,
            *args,
            **attributes,
        )

    def _kept(self, source: str) -> str:
        """A tensor with an unknown number in place of those that are not whole."""
        nodes = self._nodes
        unknown = nodes.constant(np.array([self._unknown], self._dtype))
        whole = nodes.add("Floor", source, op_version=13)
        same = nodes.add("Equal", source, whole, op_version=13)
        return nodes.add("Where", same, source, unknown, op_version=9)


def _smallest_number(categories: list[Any]) -> float:
    """The smallest number among the categories; 0 if there is none."""
    held = [value for values in categories for value in values.tolist()]
    numbers = [value for value in held if isinstance(value, int | float)]
    return float(min((value for value in numbers if not np.isnan(value)), default=0))


def _encode(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    """Columns of an OneHotEncoder: missing strings as they arrive, and numbers not cut off."""
    operator.raw_operator = _with_missing(operator.raw_operator)
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE)
    numbers = [variable for variable in operator.inputs if element_of(variable.type) in floats]
    if numbers:
        container = WholeNumbers(container, scope, operator, numbers)
    _registered(operator)(scope, operator, container)


def _encode_ordinal(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    operator.raw_operator = _with_missing(operator.raw_operator)
    _registered(operator)(scope, operator, container)


def _with_missing(encoder: Any) -> Any:
    """An encoder of strings whose category for a missing one is what arrives for it.

    It is not the word nan or None.
    """
    categories = [_arriving(values) for values in encoder.categories_]
    opened = copy.copy(encoder)
    opened.categories_ = categories
    return opened


def _arriving(values: Any) -> Any:
    """The categories of a column as they arrive at the graph."""
    if not any(isinstance(value, str) for value in values):
        return values
    return np.array(
        [MISSING if is_missing(value) else value for value in values],
        object,
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


def _imputer_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    imputer = operator.raw_operator
    if imputer.add_indicator:
        raise ConversionError(
            "SimpleImputer(add_indicator=True) cannot be converted; add the indicators before the "
            "model"
        )
    kind = operator.inputs[0].type
    if isinstance(kind, Int64TensorType):
        raise ConversionError(
            "SimpleImputer on integers cannot be converted; integers have no missing value"
        )
    statistics = imputer.statistics_
    if not isinstance(kind, StringTensorType) and np.isnan(statistics.astype(float)).any():
        raise ConversionError(
            "SimpleImputer drops a column that held no value in training; drop it before"
        )
    operator.outputs[0].type = type(kind)([kind.shape[0], len(statistics)])


def _impute(
    scope: Any,
    operator: Any,
    container: Any,
) -> None:
    """Where(missing, statistics, x), for strings as for numbers.

    A missing string arrives as `MISSING`.
    """
    nodes = Nodes(scope, container)
    imputer = operator.raw_operator
    rows = _joined(scope, operator, container)
    marker = imputer.missing_values
    element = element_of(operator.inputs[0].type)
    if element == TensorProto.STRING:
        marker = marker if isinstance(marker, str) else MISSING
        values = np.array(
            [str(value) for value in imputer.statistics_],
            object,
        )
    else:
        values = imputer.statistics_.astype(
            np.float32 if element == TensorProto.FLOAT else np.float64
        )
    fill = nodes.constant(values[None])
    if isinstance(marker, float) and np.isnan(marker):
        gone = nodes.add("IsNaN", rows, op_version=13)
    else:
        against = nodes.constant(np.array([marker], values.dtype))
        gone = nodes.add("Equal", rows, against, op_version=19)
    nodes.give("Where", operator.outputs[0].full_name, gone, fill, rows, op_version=9)
