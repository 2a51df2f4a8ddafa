"""Each pipeline by skl2onnx alone and by skops, in a process without modelkit.

skl2onnx has the converters that onnxmltools adds for XGBoost and LightGBM, and its best known options: double or
float inputs, plain probabilities, and both ways to write a missing word. The best of all that run counts.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import onnxruntime as ort
import skops.io
from benchmarks.conversion.answers import compared, ties, truth, truth_of, variants
from benchmarks.conversion.everyday import Everyday
from benchmarks.conversion.kept import collect, fitted
from benchmarks.conversion.pipelines import PIPELINES
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.base import is_classifier, is_outlier_detector, is_regressor

OPSET = {"": 18, "ai.onnx.ml": 3}
GAPS = ("nan", "")
Found = dict[str, Any]


def register() -> None:
    """Teach skl2onnx the models of XGBoost and LightGBM, as its documentation says."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes as classes,
    )
    from skl2onnx.common.shape_calculator import calculate_linear_regressor_output_shapes as numbers
    from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier

    options = {
        "zipmap": [True, False, "columns"],
        "nocl": [True, False],
        "raw_scores": [True, False],
    }
    for kind, convert in (
        (XGBClassifier, convert_xgboost),
        (XGBRFClassifier, convert_xgboost),
        (LGBMClassifier, convert_lightgbm),
    ):
        update_registered_converter(kind, kind.__name__, classes, convert, options=options)
    update_registered_converter(XGBRegressor, "XGBRegressor", numbers, convert_xgboost)
    update_registered_converter(
        LGBMRegressor, "LGBMRegressor", numbers, convert_lightgbm, options={"split": None}
    )


def inputs_of(X: Any, tensor: Any) -> list[tuple[str, Any]]:
    """One input for a table of numbers or a list of texts, else one a column."""
    if isinstance(X, list):
        return [("X", StringTensorType([None, 1]))]
    if not hasattr(X, "dtypes") or not mixed(X):
        return [("X", tensor([None, X.shape[1]]))]
    return [(name, typed(dtype, tensor)) for name, dtype in X.dtypes.items()]


def mixed(X: Any) -> bool:
    return any(str(dtype) not in ("float64", "float32", "int64", "bool") for dtype in X.dtypes)


def typed(dtype: Any, tensor: Any) -> Any:
    if str(dtype) == "int64":
        return Int64TensorType([None, 1])
    return tensor([None, 1]) if "loat" in str(dtype) else StringTensorType([None, 1])


def feeds_of(X: Any, inputs: list[tuple[str, Any]], gap: str) -> dict[str, np.ndarray]:
    """Rows as the inputs take them; a missing word is written as `gap`."""
    if isinstance(X, list):
        return {"X": np.array(X, object).reshape(-1, 1)}
    kinds = {DoubleTensorType: np.float64, FloatTensorType: np.float32, Int64TensorType: np.int64}
    if len(inputs) == 1 and inputs[0][0] == "X":
        return {"X": np.asarray(X).astype(kinds[type(inputs[0][1])])}
    feeds = {}
    for name, kind in inputs:
        if isinstance(kind, StringTensorType):
            column = X[name].astype(object)
            values = column.where(column.notna(), gap).astype(str).to_numpy(object)
        else:
            values = X[name].to_numpy(kinds[type(kind)])
        feeds[name] = values.reshape(-1, 1)
    return feeds


def outputs_of(model: Any) -> tuple[str, ...]:
    """What is compared, in the order of the graph's outputs."""
    if is_classifier(model):
        return ("label", "probabilities") if hasattr(model, "predict_proba") else ("label",)
    if is_regressor(model):
        return ("prediction",)
    if is_outlier_detector(model):
        return "label", "scores"
    return ("label",) if hasattr(model, "predict") else ("transformed",)


def attempts(model: Any, seen: Any) -> Iterator[tuple[Any, Any, str]]:
    for tensor, gap in product((DoubleTensorType, FloatTensorType), GAPS):
        inputs = inputs_of(seen, tensor)
        yield inputs, {"zipmap": False} if is_classifier(model) else None, gap


def by_skl2onnx(pipeline: Everyday) -> Found:
    model, seen, fresh = fitted(pipeline)
    best: Found | None = None
    message = ""
    known: dict[str, Any] = {}
    for inputs, options, gap in attempts(model, seen):
        key = str(inputs)
        try:
            if key not in known:
                known[key] = None
                given = None if options is None else {id(model): options}
                proto = to_onnx(model, initial_types=inputs, options=given, target_opset=OPSET)
                known[key] = ort.InferenceSession(
                    proto.SerializeToString(), providers=["CPUExecutionProvider"]
                )
            if known[key] is None:
                continue
            found = tried(model, fresh, known[key], partial(feeds_of, inputs=inputs, gap=gap))
        except Exception as error:  # noqa: BLE001 - a refusal is what is counted
            message = message or f"{type(error).__name__}: {error}"
            continue
        if best is None or rank(found) < rank(best):
            best = found
    return best or {"state": "refused", "message": message[:500]}


def rank(found: Found) -> tuple[int, float]:
    differences = found["rows"]["fresh"]
    return differences[1], differences[0]


def tried(model: Any, fresh: Any, session: Any, feeds: Any) -> Found:
    """How far a graph's answers are from the source's; raises where it does not run on fresh rows."""
    outputs = outputs_of(model)
    found = {}
    for name, given, widened in variants(fresh):
        expected = truth_of(model, widened, outputs)
        if expected is None:
            continue
        try:
            got = dict(zip(expected, session.run(None, feeds(given)), strict=False))
            found[name] = list(
                vars(compared(expected, got, partial(ties, model, widened))).values()
            )
        except Exception as error:
            if name == "fresh":
                raise
            found[name] = f"{type(error).__name__}: {error}"[:200]
    return {"state": "converted", "rows": found}


def by_skops(pipeline: Everyday) -> Found:
    model, _, fresh = fitted(pipeline)
    try:
        data = skops.io.dumps(model)
        copy = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
        verb = "predict" if hasattr(model, "predict") else "transform"
        expected = truth(model, fresh, (verb,))
        got = truth(copy, fresh, (verb,))
    except Exception as error:  # noqa: BLE001 - a refusal is what is counted
        return {"state": "refused", "message": f"{type(error).__name__}: {error}"[:500]}
    found = compared(expected, got, lambda: np.zeros(len(fresh), bool))
    return {"state": "converted", "rows": {"fresh": list(vars(found).values())}}


def main() -> None:
    only = sys.argv[1]
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    ort.set_default_logger_severity(4)
    register()
    chosen = [pipeline for pipeline in PIPELINES if only.lower() in pipeline.name.lower()]
    collect("skl2onnx", chosen, by_skl2onnx)
    collect("skops", chosen, by_skops)


if __name__ == "__main__":
    main()
