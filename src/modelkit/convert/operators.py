"""Converters of single estimators where skl2onnx has none, or one that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from modelkit.cast import MISSING
from modelkit.convert.source import Splits
from modelkit.errors import ConversionError

Converter = Callable[[Any, Any, Any], None]


class Container:
    """A converter's container that mends what converters put into it.

    Numpy scalars in attributes become Python numbers, as onnx demands; `mend` may change the attributes of tree nodes.
    """

    def __init__(self, container: Any, mend: Callable[[dict[str, Any]], None] | None = None) -> None:
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
    from sklearn import ensemble, tree
    from sklearn.impute import SimpleImputer
    from sklearn.mixture import GaussianMixture

    plain = (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor, GaussianMixture)
    forests = (
        tree.DecisionTreeClassifier, tree.DecisionTreeRegressor, tree.ExtraTreeClassifier, tree.ExtraTreeRegressor,
        ensemble.RandomForestClassifier, ensemble.RandomForestRegressor,
        ensemble.ExtraTreesClassifier, ensemble.ExtraTreesRegressor,
    )  # fmt: skip
    return (
        {
            SimpleImputer: _impute,
            **dict.fromkeys(plain, _convert_plainly),
            **dict.fromkeys(forests, _convert_forest),
        },
        {SimpleImputer: _imputer_shape},
    )


def _registered(operator: Any) -> Converter:
    from skl2onnx.common._registration import get_converter

    converter: Converter = get_converter(operator.type)
    return converter


def _convert_plainly(scope: Any, operator: Any, container: Any) -> None:
    _registered(operator)(scope, operator, Container(container))


def _convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """Say for each split where missing values go, which the converter leaves out."""
    trees = getattr(operator.raw_operator, "estimators_", [operator.raw_operator])
    routes = [np.asarray(tree.tree_.missing_go_to_left, bool) & (tree.tree_.children_left >= 0) for tree in trees]
    features = [tree.tree_.feature for tree in trees]

    def mend(attributes: dict[str, Any]) -> None:
        if not any(route.any() for route in routes):
            return
        places = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"], strict=True))
        splits = zip(places, attributes["nodes_modes"], attributes["nodes_featureids"], strict=True)
        if any(mode != "LEAF" and features[t][n] != feature for (t, n), mode, feature in splits):
            return  # several outputs: the converter numbers the nodes anew, and the gate finds out what follows
        attributes["nodes_missing_value_tracks_true"] = [int(routes[t][n]) for t, n in places]

    _registered(operator)(scope, operator, Container(container, mend))


def histogram_thresholds(model: Any) -> Splits | None:
    """The splits of a histogram gradient boosting model, whose thresholds are doubles; None for any other model."""
    if not type(model).__name__.startswith("HistGradientBoosting"):
        return None
    trees = [tree.nodes for stage in model._predictors for tree in stage]  # noqa: SLF001 - no public way
    nodes = np.concatenate(trees)
    nodes = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
    return nodes["feature_idx"].astype(np.int64), nodes["num_threshold"].astype(np.float64)


def _imputer_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    imputer = operator.raw_operator
    if imputer.add_indicator:
        raise ConversionError(
            "SimpleImputer(add_indicator=True) cannot be converted; add the indicators before the model"
        )
    kind = operator.inputs[0].type
    if isinstance(kind, Int64TensorType):
        raise ConversionError("SimpleImputer on integers cannot be converted; integers have no missing value")
    statistics = imputer.statistics_
    if not isinstance(kind, StringTensorType) and np.isnan(statistics.astype(float)).any():
        raise ConversionError("SimpleImputer drops a column that held no value in training; drop it before")
    operator.outputs[0].type = type(kind)([kind.shape[0], len(statistics)])


def _impute(scope: Any, operator: Any, container: Any) -> None:
    """Where(missing, statistics, x), for strings as for numbers: a missing string arrives as `MISSING`."""
    from skl2onnx.common._apply_operation import apply_concat
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    imputer = operator.raw_operator
    name = operator.inputs[0].full_name
    if len(operator.inputs) > 1:
        name = scope.get_unique_variable_name("columns")
        apply_concat(scope, [v.full_name for v in operator.inputs], name, container, axis=1)
    kind = operator.inputs[0].type
    strings = isinstance(kind, StringTensorType)
    missing = imputer.missing_values
    marker = MISSING if strings and not isinstance(missing, str) else missing
    element = (
        TensorProto.STRING if strings else TensorProto.FLOAT if type(kind) is FloatTensorType else TensorProto.DOUBLE
    )
    values = [str(v).encode() for v in imputer.statistics_] if strings else imputer.statistics_.astype(float).tolist()
    fill, gone = scope.get_unique_variable_name("fill"), scope.get_unique_variable_name("missing")
    container.add_initializer(fill, element, [1, len(values)], values)
    if isinstance(marker, float) and np.isnan(marker):
        container.add_node("IsNaN", [name], [gone], name=scope.get_unique_operator_name("IsNaN"), op_version=13)
    else:
        against = scope.get_unique_variable_name("marker")
        container.add_initializer(against, element, [1], [marker.encode() if strings else float(marker)])
        container.add_node(
            "Equal", [name, against], [gone], name=scope.get_unique_operator_name("Equal"), op_version=19
        )
    container.add_node(
        "Where", [gone, fill, name], [operator.outputs[0].full_name],
        name=scope.get_unique_operator_name("Where"), op_version=9,
    )  # fmt: skip
