"""Convert XGBoost and LightGBM models, alone or inside a scikit-learn pipeline, and CatBoost models.

The only module that imports onnxmltools, xgboost, lightgbm and catboost.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from modelkit.cast import is_a
from modelkit.convert.operators import Container
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.spec import TensorSpec

LIBRARIES = ("xgboost", "lightgbm")
CODES = "X"  # the tensor of one number a column that a graph of these libraries starts from


def is_catboost(source: object) -> bool:
    """Whether `source` is a CatBoost model, without importing catboost."""
    return is_a(source, "catboost", "CatBoost")


def as_estimator(source: Any) -> Any:
    """A Booster of XGBoost or LightGBM inside the estimator of its objective; anything else as it is."""
    if is_a(source, "xgboost", "Booster"):
        return _xgboost_estimator(source)
    return _lightgbm_estimator(source) if is_a(source, "lightgbm", "Booster") else source


def _xgboost_estimator(booster: Any) -> Any:
    import json

    from xgboost import XGBClassifier, XGBRegressor

    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    estimator = XGBClassifier() if objective.startswith(("binary:logistic", "multi:")) else XGBRegressor()
    estimator.load_model(bytearray(booster.save_raw("ubj")))
    return estimator


def _lightgbm_estimator(booster: Any) -> Any:
    """What fitting an estimator would have set; LightGBM has no public way. The gate shows whether it holds."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from sklearn.preprocessing import LabelEncoder

    said = booster.dump_model(num_iteration=1)
    objective = said["objective"].split()[0]
    classifier = objective in ("binary", "multiclass", "multiclassova")
    averages = said.get("average_output", False)
    estimator = (LGBMClassifier if classifier else LGBMRegressor)(boosting_type="rf" if averages else "gbdt")
    fitted = {"_Booster": booster, "_objective": objective, "fitted_": True}
    fitted |= dict.fromkeys(("_n_features", "_n_features_in"), booster.num_feature())
    if classifier:
        encoder = LabelEncoder().fit(range(max(2, said["num_class"])))
        fitted |= {"_le": encoder, "_classes": encoder.classes_, "_n_classes": len(encoder.classes_)}
    estimator.__dict__.update(fitted)
    return estimator


def register() -> None:
    """Tell skl2onnx about the estimators of XGBoost and LightGBM, where they are in use.

    Raises MissingExtraError if a library is in use and onnxmltools is not installed.
    """
    used = [library for library in ("xgboost",) if library in sys.modules]  # LightGBM has a converter of its own
    if not used:
        return
    try:
        import onnxmltools  # noqa: F401
    except ImportError:
        raise MissingExtraError(f"saving a model of {used[0]}", "onnxmltools", "boosting") from None
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    for kind, convert in _kinds(used):
        classifier = "Classifier" in kind.__name__
        update_registered_converter(
            kind,
            f"Modelkit{kind.__name__}",
            calculate_linear_classifier_output_shapes if classifier else calculate_linear_regressor_output_shapes,
            convert,
            options={"nocl": [True, False], "zipmap": [True, False, "columns"]} if classifier else None,
        )


def categories(model: Any, rows: Any) -> dict[str, tuple[str, ...]]:
    """The categories of the columns that a model of these libraries takes as pandas categories, by column."""
    if type(model).__module__.partition(".")[0] not in LIBRARIES or not is_a(rows, "pandas", "DataFrame"):
        return {}
    found = {}
    for name, dtype in rows.dtypes.items():
        known = getattr(dtype, "categories", None)
        if known is None:
            continue
        if not all(isinstance(value, str) for value in known):
            raise ConversionError(f"the categories of column {name!r} must be strings, got {list(known)[:5]}")
        found[str(name)] = tuple(known)
    return found


def encode(proto: onnx.ModelProto, inputs: list[TensorSpec], known: dict[str, tuple[str, ...]]) -> None:
    """Put in front of a graph over codes what makes them of one tensor a column: the place of a category, or NaN."""
    graph = proto.graph
    element = graph.input[0].type.tensor_type.elem_type
    del graph.input[:]
    codes = []
    for spec in inputs:
        text = spec.name in known
        graph.input.append(
            helper.make_tensor_value_info(spec.name, TensorProto.STRING if text else element, ["batch", 1])
        )
        codes.append(f"{spec.name}_code" if text else spec.name)
        if text:
            values = known[spec.name]
            graph.node.append(
                helper.make_node(
                    "LabelEncoder", [spec.name], [codes[-1]], domain="ai.onnx.ml", keys_strings=values,
                    values_floats=[float(i) for i in range(len(values))], default_float=float("nan"),
                )
            )  # fmt: skip
    graph.node.append(helper.make_node("Concat", codes, [CODES], axis=1))
    encoders = len(known) + 1
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes[-encoders:], *nodes[:-encoders]])


def _kinds(used: list[str]) -> list[tuple[Any, Any]]:
    kinds: list[tuple[Any, Any]] = []
    if "xgboost" in used:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

        kinds += [
            (kind, _of_xgboost(convert_xgboost))
            for kind in (XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor)
        ]
    return kinds


def _of_xgboost(converter: Any) -> Any:
    """An XGBoost converter for boosters that know the names of their columns, and for forests of several classes.

    The original takes no names but such as f3, and counts the classes of parallel trees one by one.
    """

    def convert(scope: Any, operator: Any, container: Any) -> None:
        kind = operator.raw_operator.booster or "gbtree"
        if kind != "gbtree":
            raise ConversionError(f"XGBoost with booster={kind!r} cannot be converted; train with booster='gbtree'")
        unnamed = copy.copy(operator)
        unnamed.raw_operator = copy.copy(operator.raw_operator)
        booster = operator.raw_operator.get_booster().copy()
        booster.feature_names = None
        unnamed.raw_operator._Booster = booster  # noqa: SLF001 - what get_booster returns
        parallel = int(operator.raw_operator.get_xgb_params().get("num_parallel_tree") or 1)
        classes = getattr(operator.raw_operator, "n_classes_", 0)

        def mend(attributes: dict[str, Any]) -> None:
            if parallel > 1 and classes > 2:
                attributes["class_ids"] = [tree // parallel % classes for tree in attributes["class_treeids"]]

        converter(scope, unnamed, Container(container, mend))

    return convert


def catboost_proto(model: Any, name: str) -> onnx.ModelProto:
    """The graph that CatBoost exports, its input called `name`, without the dictionaries it packs probabilities into.

    Raises ConversionError for models it cannot export.
    """
    if model.get_cat_feature_indices() or model.get_text_feature_indices():
        raise ConversionError(
            "CatBoost cannot export a model with categorical or text features; encode them before the model",
            step=type(model).__name__,
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            model.save_model(str(path), format="onnx")
        except Exception as error:
            raise ConversionError(f"CatBoost cannot export this model: {error}", step=type(model).__name__) from error
        proto: onnx.ModelProto = onnx.load(path)
    nodes = [node for node in proto.graph.node if node.op_type != "ZipMap"]
    zipped = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "ZipMap"}
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    for value in proto.graph.output:
        if value.name in zipped:
            value.CopyFrom(helper.make_tensor_value_info(zipped[value.name], TensorProto.FLOAT, ["batch", None]))
    before = proto.graph.input[0].name
    proto.graph.input[0].name = name
    for node in proto.graph.node:
        node.input[:] = [name if used == before else used for used in node.input]
    proto.ir_version = max(proto.ir_version, 8)
    proto.opset_import.append(helper.make_opsetid("", 19))
    return proto
