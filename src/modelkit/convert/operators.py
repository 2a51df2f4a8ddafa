"""Converters of single estimators where skl2onnx has none, or one that is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.cast import MISSING, is_missing
from modelkit.convert.svc import breaks_ties, convert_labels
from modelkit.errors import ConversionError

Converter = Callable[[Any, Any, Any], None]


class Container:
    """A converter's container that mends what converters put into it.

    Numpy scalars in attributes become Python numbers, as onnx demands; `mend` may change the
    attributes of tree nodes.
    """

    def __init__(
        self, container: Any, mend: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self._container = container
        self._mend = mend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    @property
    def target_opset(self) -> int:
        """The version of the main operators: a dictionary where several domains are targeted."""
        return int(self._container.target_opset_any_domain(""))

    def add_node(self, op_type: str, *args: Any, **attributes: Any) -> None:
        """Add a node with plain attributes."""
        plain = {
            name: [_plain_number(item) for item in value] if isinstance(value, list) else value
            for name, value in attributes.items()
        }
        if self._mend is not None and op_type.startswith("TreeEnsemble"):
            self._mend(plain)
        self._container.add_node(op_type, *args, **plain)


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool | np.bool_ | np.integer):
        return int(value)
    return float(value) if isinstance(value, np.floating) else value


def converters() -> tuple[dict[type, Converter], dict[type, Callable[[Any], None]]]:
    """Converters and shape calculators by estimator class."""
    from sklearn.impute import SimpleImputer
    from sklearn.mixture import GaussianMixture
    from sklearn.preprocessing import Binarizer, Normalizer, OneHotEncoder, OrdinalEncoder
    from sklearn.svm import SVC, NuSVC

    return (
        {
            SimpleImputer: _impute,
            Normalizer: _normalize,
            Binarizer: _binarize,
            OneHotEncoder: _encode,
            OrdinalEncoder: _encode_ordinal,
            **dict.fromkeys((SVC, NuSVC), _convert_svc),
            GaussianMixture: _convert_plainly,
        },
        {SimpleImputer: _imputer_shape},
    )


def _registered(operator: Any) -> Converter:
    from skl2onnx.common._registration import get_converter

    converter: Converter = get_converter(operator.type)
    return converter


def _convert_plainly(scope: Any, operator: Any, container: Any) -> None:
    _registered(operator)(scope, operator, Container(container))


def _convert_svc(scope: Any, operator: Any, container: Any) -> None:
    name = type(operator.raw_operator).__name__
    if callable(operator.raw_operator.kernel):
        raise ConversionError(
            f"{name} with a kernel of your own cannot be converted; use format='joblib'", step=name
        )
    whole = (
        operator.type == "SklearnSVC"
    )  # and not a part of its graph, for which this converter is asked as well
    if whole and breaks_ties(operator.raw_operator):
        convert_labels(scope, operator, container, _registered(operator))
    else:
        _registered(operator)(scope, operator, container)


class WholeNumbers(Container):
    """The container of an encoder of numbers, which its converter truncates: what is not whole becomes unknown."""

    def __init__(self, container: Any, scope: Any, operator: Any, numbers: list[Any]) -> None:
        super().__init__(container)
        self._scope = scope
        held = [value for values in operator.raw_operator.categories_ for value in values.tolist()]
        known = [value for value in held if isinstance(value, int | float) and value == value]  # noqa: PLR0124 - NaN
        self._unknown = float(min(known, default=0)) - 1
        self._left = sum(
            variable.type.shape[1] for variable in numbers
        )  # casts; a last one may be of the result
        self._element = _element(numbers[0].type)

    def add_node(self, op_type: str, *args: Any, **attributes: Any) -> None:
        """Add a node, and before a cast to integers those that find what it would cut off."""
        if op_type == "Cast" and attributes["to"] == TensorProto.INT64 and self._left:
            self._left -= 1
            read, *rest = args
            (source,) = [read] if isinstance(read, str) else read
            whole, same, kept, unknown = (
                self._scope.get_unique_variable_name(f"{source}_whole") for _ in range(4)
            )
            self.add_initializer(unknown, self._element, [1], [self._unknown])
            name = self._scope.get_unique_operator_name
            super().add_node("Floor", [source], [whole], name=name("Floor"), op_version=13)
            super().add_node("Equal", [source, whole], [same], name=name("Equal"), op_version=13)
            super().add_node(
                "Where", [same, source, unknown], [kept], name=name("Where"), op_version=9
            )
            args = (kept, *rest)
        super().add_node(op_type, *args, **attributes)


def _encode(scope: Any, operator: Any, container: Any) -> None:
    """Columns of an OneHotEncoder: missing strings as they arrive, and numbers without cutting them off."""
    operator.raw_operator = _with_missing(operator.raw_operator)
    numbers = [variable for variable in operator.inputs if _element(variable.type)]
    if numbers:
        container = WholeNumbers(container, scope, operator, numbers)
    _registered(operator)(scope, operator, container)


def _encode_ordinal(scope: Any, operator: Any, container: Any) -> None:
    operator.raw_operator = _with_missing(operator.raw_operator)
    _registered(operator)(scope, operator, container)


def _with_missing(encoder: Any) -> Any:
    """An encoder of strings whose category for a missing one is what arrives for it, and not the word nan or None."""
    strings = [any(isinstance(value, str) for value in values) for values in encoder.categories_]
    if not any(strings):
        return encoder
    opened = copy.copy(encoder)
    opened.categories_ = [
        np.array([MISSING if is_missing(value) else value for value in values], object)
        if text
        else values
        for values, text in zip(encoder.categories_, strings, strict=True)
    ]
    return opened


def _element(kind: Any) -> int:
    """The element type of a tensor of floats; 0 for any other."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    return int(
        {FloatTensorType: TensorProto.FLOAT, DoubleTensorType: TensorProto.DOUBLE}.get(
            type(kind), 0
        )
    )


def _normalize(scope: Any, operator: Any, container: Any) -> None:
    """Rows over their norms; a norm of next to nothing counts as 1, as it does for scikit-learn."""
    name, element = _joined(scope, operator, container), _element(operator.outputs[0].type)
    if _element(operator.inputs[0].type) != element:
        read, name = name, scope.get_unique_variable_name("floats")
        container.add_node(
            "Cast",
            [read],
            [name],
            name=scope.get_unique_operator_name("Cast"),
            op_version=13,
            to=element,
        )
    norm, small, axes, one, few, divisor = (
        scope.get_unique_variable_name(f"norm_{i}") for i in range(6)
    )
    absolute = scope.get_unique_variable_name("norm_of")
    container.add_initializer(axes, TensorProto.INT64, [1], [1])
    container.add_initializer(one, element, [1], [1.0])
    container.add_initializer(few, element, [1], [10 * float(np.finfo(np.float64).eps)])
    reduce = {"l1": "ReduceL1", "l2": "ReduceL2", "max": "ReduceMax"}[operator.raw_operator.norm]
    called = scope.get_unique_operator_name
    container.add_node("Abs", [name], [absolute], name=called("Abs"), op_version=13)
    container.add_node(
        reduce, [absolute, axes], [norm], name=called(reduce), op_version=18, keepdims=1
    )
    container.add_node("Less", [norm, few], [small], name=called("Less"), op_version=13)
    container.add_node("Where", [small, one, norm], [divisor], name=called("Where"), op_version=9)
    container.add_node(
        "Div", [name, divisor], [operator.outputs[0].full_name], name=called("Div"), op_version=14
    )  # fmt: skip


def _binarize(scope: Any, operator: Any, container: Any) -> None:
    """1 above the threshold, and 0 where a value equals it."""
    name, element = _joined(scope, operator, container), _element(operator.outputs[0].type)
    threshold, above = (
        scope.get_unique_variable_name("threshold"),
        scope.get_unique_variable_name("above"),
    )
    kind = _element(operator.inputs[0].type) or TensorProto.INT64
    container.add_initializer(threshold, kind, [1], [operator.raw_operator.threshold])
    called = scope.get_unique_operator_name
    container.add_node("Greater", [name, threshold], [above], name=called("Greater"), op_version=13)
    out = operator.outputs[0].full_name
    container.add_node(
        "Cast", [above], [out], name=called("Cast"), op_version=13, to=element or TensorProto.INT64
    )


def _joined(scope: Any, operator: Any, container: Any) -> str:
    """The name of all inputs of an operator as one tensor."""
    from skl2onnx.common._apply_operation import apply_concat

    if len(operator.inputs) == 1:
        return str(operator.inputs[0].full_name)
    name = str(scope.get_unique_variable_name("columns"))
    apply_concat(scope, [v.full_name for v in operator.inputs], name, container, axis=1)
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


def _impute(scope: Any, operator: Any, container: Any) -> None:
    """Where(missing, statistics, x), for strings as for numbers: a missing string arrives as `MISSING`."""
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    imputer = operator.raw_operator
    name = _joined(scope, operator, container)
    kind = operator.inputs[0].type
    strings = isinstance(kind, StringTensorType)
    missing = imputer.missing_values
    marker = MISSING if strings and not isinstance(missing, str) else missing
    element = (
        TensorProto.STRING
        if strings
        else TensorProto.FLOAT
        if type(kind) is FloatTensorType
        else TensorProto.DOUBLE
    )
    values = (
        [str(v).encode() for v in imputer.statistics_]
        if strings
        else imputer.statistics_.astype(float).tolist()
    )
    fill, gone = scope.get_unique_variable_name("fill"), scope.get_unique_variable_name("missing")
    container.add_initializer(fill, element, [1, len(values)], values)
    if isinstance(marker, float) and np.isnan(marker):
        container.add_node(
            "IsNaN", [name], [gone], name=scope.get_unique_operator_name("IsNaN"), op_version=13
        )
    else:
        against = scope.get_unique_variable_name("marker")
        container.add_initializer(
            against, element, [1], [marker.encode() if strings else float(marker)]
        )
        container.add_node(
            "Equal",
            [name, against],
            [gone],
            name=scope.get_unique_operator_name("Equal"),
            op_version=19,
        )
    container.add_node(
        "Where", [gone, fill, name], [operator.outputs[0].full_name],
        name=scope.get_unique_operator_name("Where"), op_version=9,
    )  # fmt: skip
