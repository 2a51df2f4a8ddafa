"""Models of boosting libraries as estimators, and what skl2onnx has to know of them.

The only module that imports lightgbm.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto, helper

from modelkit.cast import is_a
from modelkit.convert import catboost, xgboost
from modelkit.convert.estimators import walk, where_parts
from modelkit.errors import ConversionError
from modelkit.spec import TensorSpec

LIBRARIES = ("xgboost", "lightgbm")
CLASSIFYING = (
    "binary",
    "multiclass",
    "multiclassova",
)  # objectives of LightGBM whose answers are probabilities
CODES = "X"  # the tensor of one number a column that a graph of these libraries starts from


def is_catboost(source: object) -> bool:
    """Whether `source` is a CatBoost model, without importing catboost."""
    return is_a(source, "catboost", "CatBoost")


def is_booster(source: object) -> bool:
    """Whether `source` is a Booster of XGBoost or LightGBM, without importing them."""
    return is_a(source, "xgboost", "Booster") or is_a(source, "lightgbm", "Booster")


def as_estimator(source: Any) -> Any:
    """A Booster inside a regressor that answers as it does; anything else as it is."""
    if is_a(source, "xgboost", "Booster"):
        return xgboost.estimator_of(source)
    return _lightgbm_regressor(source) if is_a(source, "lightgbm", "Booster") else source


def gives_probabilities(regressor: Any) -> bool:
    """Whether a regressor answers with probabilities, which its trees were trained for."""
    if is_a(regressor, "xgboost", "XGBRegressor"):
        return xgboost.objective_of(regressor) in xgboost.SHARES
    return (
        is_a(regressor, "lightgbm", "LGBMRegressor")
        and _objective(regressor.booster_) in CLASSIFYING
    )


def _objective(booster: Any) -> str:
    """The objective of a Booster of LightGBM; "custom" for one of its user's."""
    said = booster.dump_model(num_iteration=1).get(
        "objective",
        "",
    )
    return str((said.split() or ["custom"])[0])


def _lightgbm_regressor(booster: Any) -> Any:
    """The regressor that answers as a Booster: up to the best iteration, if there is one."""
    from lightgbm import Booster, LGBMRegressor

    if 0 < booster.best_iteration < booster.current_iteration():
        booster = Booster(model_str=booster.model_to_string(num_iteration=booster.best_iteration))
    return _lightgbm_estimator(LGBMRegressor, booster)


def _lightgbm_estimator(kind: Any, booster: Any) -> Any:
    """What fitting an estimator would have set; LightGBM has no public way.

    The gate shows whether it holds.
    """
    said = booster.dump_model(num_iteration=1)
    kind_of_boosting = "rf" if said.get("average_output", False) else "gbdt"
    options = {"boosting_type": kind_of_boosting, "n_jobs": 0}  # as many threads as a Booster takes
    if said["num_class"] > 1:
        options["num_class"] = said["num_class"]
    estimator = kind(**options)
    fitted = {"_Booster": booster, "_objective": _objective(booster), "fitted_": True}
    fitted |= dict.fromkeys(("_n_features", "_n_features_in"), booster.num_feature())
    estimator.__dict__.update(fitted)
    return estimator


def with_absent_zeros(estimator: Any, rows: Any, answer: Callable[[Any, Any], Any]) -> Any:
    """An estimator whose XGBoost takes zeros for missing values where it gets sparse rows.

    Args:
        estimator: fitted; one without XGBoost in it is returned as it is.
        rows: a few example rows.
        answer: how to ask about such rows: it takes a function of an estimator and rows, and the
            rows.
    """
    if not any(map(_is_xgboost, walk(estimator))):
        return estimator
    return answer(lambda _, given: _reading(estimator, given), rows)


def _is_xgboost(estimator: Any) -> bool:
    return is_a(estimator, "xgboost", "XGBModel")


def _reading(estimator: Any, rows: Any) -> Any:
    """A copy of an estimator in which each XGBoost that gets sparse rows is told so."""
    opened = copy.copy(estimator)
    if _is_xgboost(estimator):
        if hasattr(rows, "toarray"):
            opened.missing = 0.0
        return opened
    if hasattr(estimator, "steps"):
        *before, (name, last) = estimator.steps
        given = estimator[:-1].transform(rows) if before else rows
        opened.steps = [*before, (name, _reading(last, given))]
        return opened
    attribute = where_parts(estimator)
    if attribute is not None:
        setattr(opened, attribute, _parts_reading(estimator, attribute, rows))
    if hasattr(estimator, "final_estimator_"):
        given = estimator.transform(rows)
        opened.final_estimator_ = _reading(estimator.final_estimator_, given)
    return opened


def _parts_reading(estimator: Any, attribute: str, rows: Any) -> Any:
    """The parts of an estimator, told so too; those of a bagging may read some columns each."""
    from sklearn.utils import _safe_indexing

    parts = getattr(estimator, attribute)
    if not isinstance(parts, list | tuple):
        return _reading(parts, rows)
    if not hasattr(estimator, "estimators_features_"):
        return [_reading(part, rows) for part in parts]
    found = []
    for part, columns in zip(parts, estimator.estimators_features_, strict=True):
        given = _safe_indexing(rows, columns, axis=1)
        found.append(_reading(part, given))
    return found


def register() -> None:
    """Tell skl2onnx about the estimators of XGBoost and CatBoost, where these are in use.

    What a converter needs beyond skl2onnx it asks for when it converts, and so of nobody else.
    """
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    for kind, convert in _kinds():
        classifier = "Classifier" in kind.__name__
        update_registered_converter(
            kind,
            f"Modelkit{kind.__name__}",
            calculate_linear_classifier_output_shapes
            if classifier
            else calculate_linear_regressor_output_shapes,
            convert,
            parser=catboost.parse_classifier if kind.__name__ == "CatBoostClassifier" else None,
            options={"nocl": [True, False], "zipmap": [True, False, "columns"]}
            if classifier
            else None,
        )


def categories(model: Any, rows: Any) -> dict[str, tuple[str, ...]]:
    """The categories of columns that a model takes as pandas categories, by column."""
    if type(model).__module__.partition(".")[0] not in LIBRARIES or not is_a(
        rows, "pandas", "DataFrame"
    ):
        return {}
    found = {}
    for name, dtype in rows.dtypes.items():
        known = getattr(dtype, "categories", None)
        if known is None:
            continue
        if not all(isinstance(value, str) for value in known):
            raise ConversionError(
                f"the categories of column {name!r} must be strings, got {list(known)[:5]}"
            )
        found[str(name)] = tuple(known)
    return found


def encode(
    proto: onnx.ModelProto,
    inputs: list[TensorSpec],
    known: dict[str, tuple[str, ...]],
) -> None:
    """Put encoders of categories, one tensor a column, in front of a graph over codes."""
    graph = proto.graph
    element = graph.input[0].type.tensor_type.elem_type
    del graph.input[:]
    codes = []
    made = []
    for spec in inputs:
        text = spec.name in known
        kind = TensorProto.STRING if text else element
        graph.input.append(helper.make_tensor_value_info(spec.name, kind, ["batch", 1]))
        codes.append(f"{spec.name}_code" if text else spec.name)
        if text:
            made.append(_encoder(spec.name, codes[-1], known[spec.name]))
    made.append(helper.make_node("Concat", codes, [CODES], axis=1))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*made, *nodes])


def _encoder(
    name: str,
    code: str,
    values: tuple[str, ...],
) -> onnx.NodeProto:
    """The place of each text among the values, as a float; NaN for any other text."""
    return helper.make_node(
        "LabelEncoder",
        [name],
        [code],
        domain="ai.onnx.ml",
        keys_strings=values,
        values_floats=[float(i) for i in range(len(values))],
        default_float=float("nan"),
    )


def _kinds() -> list[tuple[Any, Any]]:
    """The estimators of the libraries in use, each with its converter."""
    found: list[tuple[Any, Any]] = []
    if sys.modules.get("xgboost") is not None:
        found += [(kind, xgboost.convert) for kind in xgboost.kinds()]
    if sys.modules.get("catboost") is not None:
        found += [(kind, catboost.convert) for kind in catboost.kinds()]
    return found
