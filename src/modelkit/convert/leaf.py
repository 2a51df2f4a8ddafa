"""Estimators without a converter here: each is converted alone by skl2onnx, in the widest numbers that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from modelkit.convert.older import renewed
from modelkit.convert.tensors import (
    STRING,
    Answer,
    Columns,
    Var,
    cast,
    dtype_of,
    flat,
    inline,
    width,
)
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.proto import signature_of
from modelkit.spec import TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.table import Converting

SINGLE = ("xgboost", "catboost")  # libraries whose models compute in float32 themselves
BY_COLUMN = (
    "OneHotEncoder",
    "OrdinalEncoder",
    "TargetEncoder",
)  # whose graphs take the columns apart anyway
EXACT = (
    "OneHotEncoder",
    "OrdinalEncoder",
    "Binarizer",
    "CountVectorizer",
)  # whose results float32 holds as they are
WIDE, NARROW = np.float64, np.float32


def converted_alone(estimator: Any, columns: Columns, at: Converting) -> Answer:
    """What an estimator answers by the graph that skl2onnx makes of it. Raises ConversionError."""
    apart = type(estimator).__name__ in BY_COLUMN
    single = type(estimator).__module__.partition(".")[0] in SINGLE
    refusal: ConversionError | None = None
    for dtype in (NARROW,) if single else (WIDE, NARROW):
        given = Columns(
            tuple(part if dtype_of(part) == STRING else cast(part, dtype) for part in columns.parts)
        )
        inputs = list((given if apart else given.merged()).parts)
        try:
            outputs, inputs = _outputs(estimator, inputs, at)
        except ConversionError as error:
            refusal = refusal or error
            continue
        strings = all(dtype_of(part) == STRING for part in inputs)
        if (
            type(estimator).__name__ not in EXACT
            and (dtype == NARROW or _is_single(outputs))
            and not strings
        ):
            at.narrow = True
        return _answer(estimator, outputs, at)
    raise refusal or ConversionError(
        f"{type(estimator).__name__} cannot be converted", step=type(estimator).__name__
    )


def _outputs(estimator: Any, inputs: list[Var], at: Converting) -> tuple[list[Var], list[Var]]:
    """What the graph of an estimator gives, and what it reads.

    Raises ConversionError, whatever it is that skl2onnx, spox, onnx or onnxruntime refuse.
    """
    try:
        proto, read = _runnable(estimator, inputs, at)
        return inline(proto, read), read
    except (ConversionError, MissingExtraError):
        raise
    except Exception as error:
        name = type(estimator).__name__
        raise ConversionError(
            f"{name} cannot be converted to ONNX: {' '.join(str(error).split())[:300]}; replace "
            "it, or apply it before the model and save the rest",
            step=name,
        ) from error


def _is_single(outputs: list[Var]) -> bool:
    return any(dtype_of(output) == NARROW for output in outputs)


def _runnable(
    estimator: Any, inputs: list[Var], at: Converting
) -> tuple[onnx.ModelProto, list[Var]]:
    """The graph, after the runtime has taken it, and what it reads: of texts, the counts of their terms.

    Raises ConversionError, and GraphError where onnxruntime refuses the graph.
    """
    from modelkit.runtimes.onnx import OnnxModel

    specs = [
        TensorSpec(at.name_of(each) or f"a{i}", _named(dtype_of(each)), ("batch", width(each)))
        for i, each in enumerate(inputs)
    ]
    proto, vectorizers = at.leaf(estimator, specs)
    proto = renewed(proto)
    alone = onnx.ModelProto()
    alone.CopyFrom(proto)
    del alone.graph.output[:-1]  # labels have another shape than converters say, at times
    OnnxModel(alone.SerializeToString(), signature_of(alone)).close()
    return proto, at.counted(vectorizers.terms) if vectorizers.terms else inputs


def _named(dtype: np.dtype[Any]) -> str:
    return "string" if dtype == STRING else str(dtype)


def _answer(estimator: Any, outputs: list[Var], at: Converting) -> Answer:
    from sklearn.base import is_classifier, is_regressor

    name = type(estimator).__name__
    if is_classifier(estimator):
        place = at.place_of(flat(outputs[0]), np.asarray(estimator.classes_))
        likely = outputs[1] if len(outputs) > 1 and hasattr(estimator, "predict_proba") else None
        return Answer(place=place, probabilities=likely)
    if is_regressor(estimator):
        one = width(outputs[0]) == 1 if len(outputs[0].unwrap_tensor().shape or ()) == 2 else True
        return Answer(prediction=flat(outputs[0]) if one else outputs[0])
    if hasattr(estimator, "transform"):
        return Answer(
            table=Columns((outputs[-1] if hasattr(estimator, "predict") else outputs[0],))
        )
    raise ConversionError(
        f"{name} is neither a transformer, a classifier nor a regressor", step=name
    )
