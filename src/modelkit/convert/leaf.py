"""Estimators that skl2onnx converts, each alone, in the widest numbers that it takes."""

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
    rank,
    width,
)
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.proto import signature_of
from modelkit.spec import TensorSpec

if TYPE_CHECKING:
    from modelkit.convert.converting import Converting

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
WIDE = np.float64
NARROW = np.float32


def converted_alone(
    estimator: Any,
    columns: Columns,
    at: Converting,
) -> Answer:
    """What an estimator answers by the graph that skl2onnx makes of it. Raises ConversionError."""
    name = type(estimator).__name__
    refusal: ConversionError | None = None
    for dtype in (WIDE, NARROW):
        given = _in_dtype(columns, dtype)
        if name not in BY_COLUMN:
            given = given.merged()
        try:
            outputs, inputs = _outputs(
                estimator,
                list(given.parts),
                at,
            )
        except ConversionError as error:
            refusal = refusal or error
            continue
        numbers = any(dtype_of(part) != STRING for part in inputs)
        rounds = dtype == NARROW or any(dtype_of(output) == NARROW for output in outputs)
        if name not in EXACT and rounds and numbers:
            at.narrow = True
        return _answer(estimator, outputs, at)
    raise refusal or ConversionError(f"{name} cannot be converted", step=name)


def _outputs(
    estimator: Any,
    inputs: list[Var],
    at: Converting,
) -> tuple[list[Var], list[Var]]:
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


def _in_dtype(columns: Columns, dtype: Any) -> Columns:
    """The columns with all numbers in one dtype; texts stay what they are."""
    parts = (part if dtype_of(part) == STRING else cast(part, dtype) for part in columns.parts)
    return Columns(tuple(parts))


def _runnable(
    estimator: Any,
    inputs: list[Var],
    at: Converting,
) -> tuple[onnx.ModelProto, list[Var]]:
    """A graph that the runtime has taken, and its inputs: of texts, the counts of terms.

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


def _answer(
    estimator: Any,
    outputs: list[Var],
    at: Converting,
) -> Answer:
    """What the outputs of an estimator's graph mean."""
    from sklearn.base import is_classifier, is_regressor

    first = outputs[0]
    if is_classifier(estimator):
        place = at.place_of(
            flat(first),
            np.asarray(estimator.classes_),
        )
        probable = len(outputs) > 1 and hasattr(estimator, "predict_proba")
        return Answer(
            place=place,
            probabilities=outputs[1] if probable else None,
        )
    if is_regressor(estimator):
        several = rank(first) == 2 and width(first) > 1
        return Answer(prediction=first if several else flat(first))
    if hasattr(estimator, "transform"):
        # Clusters give their labels first.
        table = outputs[-1] if hasattr(estimator, "predict") else first
        return Answer(table=Columns((table,)))
    raise ConversionError(
        f"{type(estimator).__name__} is neither a transformer, a classifier nor a regressor",
        step=type(estimator).__name__,
    )
