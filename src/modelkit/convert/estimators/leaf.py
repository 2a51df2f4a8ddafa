"""Estimators without a converter here: skl2onnx converts each alone, in the widest numbers it takes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from modelkit.convert.estimators.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    cast,
    dtype_of,
    flat,
    inline,
    rank,
    width,
)
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.runtimes.proto import signature_of
from modelkit.signature.spec import TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.estimators.converting import Converting

# Opset 19 is the first whose Equal compares strings; onnxruntime has it since 1.17.
OPSETS = {"": 19, "ai.onnx.ml": 3}
ML_VERSION = 5  # that of all other nodes; what skl2onnx writes here means the same in it
WIDE = np.float64
NARROW = np.float32
GRADIENT = "HistGradientBoosting"
TARGET = "TargetEncoder"
# Other libraries, and by their classes what of scikit-learn stands in for them.
OTHER_LIBRARIES = {
    "category_encoders": {
        "BinaryEncoder": "OneHotEncoder",
        "CatBoostEncoder": TARGET,
        "GLMMEncoder": TARGET,
        "JamesSteinEncoder": TARGET,
        "LeaveOneOutEncoder": TARGET,
        "MEstimateEncoder": TARGET,
        "OneHotEncoder": "OneHotEncoder",
        "OrdinalEncoder": "OrdinalEncoder",
        "TargetEncoder": TARGET,
        "WOEEncoder": TARGET,
    },
    "feature_engine": {
        "AddMissingIndicator": "SimpleImputer(add_indicator=True)",
        "ArbitraryNumberImputer": "SimpleImputer(strategy='constant')",
        "CategoricalImputer": "SimpleImputer(strategy='most_frequent')",
        "DropConstantFeatures": "VarianceThreshold",
        "DropFeatures": "ColumnTransformer",
        "EqualFrequencyDiscretiser": "KBinsDiscretizer(strategy='quantile')",
        "EqualWidthDiscretiser": "KBinsDiscretizer(strategy='uniform')",
        "LogTransformer": "FunctionTransformer(np.log)",
        "MeanEncoder": TARGET,
        "MeanMedianImputer": "SimpleImputer",
        "OneHotEncoder": "OneHotEncoder",
        "OrdinalEncoder": "OrdinalEncoder",
        "RareLabelEncoder": "OneHotEncoder(min_frequency=...)",
        "SklearnTransformerWrapper": "ColumnTransformer",
        "YeoJohnsonTransformer": "PowerTransformer",
    },
    "interpret": {
        "ExplainableBoostingClassifier": f"{GRADIENT}Classifier(interaction_cst='pairwise')",
        "ExplainableBoostingRegressor": f"{GRADIENT}Regressor(interaction_cst='pairwise')",
    },
    "ngboost": {
        "NGBClassifier": f"{GRADIENT}Classifier",
        "NGBRegressor": f"{GRADIENT}Regressor(loss='quantile')",
    },
    "skrub": {
        "GapEncoder": "TfidfVectorizer(analyzer='char')",
        "MinHashEncoder": "HashingVectorizer(analyzer='char')",
        "StringEncoder": "TfidfVectorizer and TruncatedSVD",
        "TableVectorizer": "ColumnTransformer with OneHotEncoder",
    },
}
LIBRARIES = ("sklearn", "xgboost", "lightgbm", "catboost")


def converted_alone(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """What an estimator answers by the graph that skl2onnx makes of it. Raises ConversionError."""
    refusal: Exception | None = None
    for dtype in (WIDE, NARROW):
        given = _in_dtype(columns, dtype).merged()
        inputs = list(given.parts)
        try:
            outputs = inline(_runnable(estimator, inputs), inputs)
        except MissingExtraError:
            raise
        except Exception as error:  # whatever skl2onnx, onnx or onnxruntime refuse
            refusal = refusal or error
            continue
        numbers = any(dtype_of(part) != STRING for part in inputs)
        rounds = dtype == NARROW or any(dtype_of(output) == NARROW for output in outputs)
        if rounds and numbers:
            at.narrow = True
        return _answer(estimator, outputs, at)
    raise without_converter(estimator) from refusal


def without_converter(estimator: Any) -> ConversionError:
    """Why an estimator is refused that nothing converts, and what to do."""
    kind = type(estimator)
    name = kind.__name__
    library = kind.__module__.partition(".")[0]
    known = next((base for base in kind.__mro__[1:] if _is_of_library(base)), None)
    other = OTHER_LIBRARIES.get(library)
    fixes = []
    if library in LIBRARIES:
        why = f"{name} has no converter that takes it as it was fitted"
    elif known is not None:
        why = f"{name} is a class derived from {known.__name__}, and may answer otherwise"
        fixes.append(f"fit {known.__name__} itself")
    elif other is not None:
        why = f"{name} of {library} has no converter"
        if name in other:
            fixes.append(f"use scikit-learn's {other[name]}")
    else:
        why = f"{name} is a class of your own, and has no converter"
    if library not in LIBRARIES:
        fixes.append(f"say what it computes with save(..., converters={{{name}: ...}})")
    if hasattr(estimator, "transform") and not hasattr(estimator, "predict"):
        if other is None:
            fixes.append("make it a FunctionTransformer of numpy functions")
        fixes += ["apply the steps up to it in front of the model and save those behind it"]
    advice = ", or ".join([*fixes, "save the model with format='joblib'"])
    return ConversionError(f"{why}: {advice}", step=name)


def _is_of_library(base: type) -> bool:
    library = base.__module__.partition(".")[0]
    mixin = base.__name__.endswith("Mixin") or base.__name__.startswith(("Base", "_"))
    return library in LIBRARIES and not mixin


def _in_dtype(columns: Columns, dtype: Any) -> Columns:
    """The columns with all numbers in one dtype; texts stay what they are."""
    parts = (part if dtype_of(part) == STRING else cast(part, dtype) for part in columns.parts)
    return Columns(tuple(parts))


def _runnable(estimator: Any, inputs: list[Var]) -> onnx.ModelProto:
    """A graph that the runtime has taken.

    Raises ConversionError, and GraphError where onnxruntime refuses the graph.
    """
    from modelkit.runtimes.onnx import OnnxModel

    specs = [
        TensorSpec(f"a{i}", _named(dtype_of(each)), ("batch", width(each)))
        for i, each in enumerate(inputs)
    ]
    proto = _convert(estimator, specs)
    for entry in proto.opset_import:
        if entry.domain == "ai.onnx.ml":
            entry.version = ML_VERSION
    alone = onnx.ModelProto()
    alone.CopyFrom(proto)
    del alone.graph.output[:-1]  # labels have another shape than converters say, at times
    OnnxModel(alone.SerializeToString(), signature_of(alone)).close()
    return proto


def _convert(estimator: Any, inputs: list[TensorSpec]) -> onnx.ModelProto:
    """The graph that skl2onnx makes of an estimator."""
    try:
        import skl2onnx
    except ImportError:
        raise MissingExtraError("saving a scikit-learn model", "skl2onnx", "sklearn") from None

    arguments: dict[str, Any] = {
        "name": "model",
        "initial_types": _initial_types(inputs),
        "target_opset": OPSETS,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # Probabilities as a tensor rather than a list of dicts.
            options = {id(estimator): {"zipmap": False}}
            proto = skl2onnx.convert_sklearn(estimator, options=options, **arguments)
        except NameError:  # it has no such option: it is no classifier, or has no probabilities
            proto = skl2onnx.convert_sklearn(estimator, **arguments)
    assert isinstance(proto, onnx.ModelProto)  # for the type checker
    return proto


def _initial_types(inputs: list[TensorSpec]) -> list[tuple[str, Any]]:
    """The inputs as skl2onnx is told of them."""
    from skl2onnx.common import data_types as types

    kinds = {
        "float32": types.FloatTensorType,
        "float64": types.DoubleTensorType,
        "string": types.StringTensorType,
    }
    return [(spec.name, kinds[spec.dtype]([None, spec.shape[1]])) for spec in inputs]


def _named(dtype: np.dtype[Any]) -> str:
    return "string" if dtype == STRING else str(dtype)


def _answer(estimator: Any, outputs: list[Var], at: Converting) -> Answer:
    """What the outputs of an estimator's graph mean."""
    from sklearn.base import is_classifier, is_outlier_detector, is_regressor

    first = outputs[0]
    if is_classifier(estimator):
        place = at.place_of(flat(first), np.asarray(estimator.classes_))
        probable = len(outputs) > 1 and hasattr(estimator, "predict_proba")
        return Answer(place=place, probabilities=outputs[1] if probable else None)
    if is_regressor(estimator):
        several = rank(first) == 2 and width(first) > 1
        return Answer(prediction=first if several else flat(first))
    if is_outlier_detector(estimator):
        return Answer(label=flat(first), decision=flat(outputs[1]))
    if hasattr(estimator, "predict_proba"):
        return Answer(label=flat(first), probabilities=outputs[1])
    if hasattr(estimator, "predict"):
        # Clusters give their labels first.
        return Answer(
            label=flat(first),
            table=Columns((outputs[-1],)) if hasattr(estimator, "transform") else None,
        )
    if hasattr(estimator, "transform"):
        return Answer(table=Columns((first,)))
    raise without_converter(estimator)
