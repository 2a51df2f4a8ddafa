"""Each pipeline by skl2onnx alone and by skops, in a process without modelkit.

skl2onnx has the converters that onnxmltools adds for XGBoost and LightGBM, and its best known options: double or
float inputs, plain probabilities, and both ways to write a missing word. The best of all that run counts.
"""

import logging
import signal
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from importlib import metadata
from itertools import product
from typing import Any

import numpy as np
import onnxruntime as ort
import skops.io
from benchmarks.conversion.answers import compared, ties, truth, truth_of, variants
from benchmarks.conversion.everyday import Everyday
from benchmarks.conversion.kept import VERSIONS, collect, fitted
from benchmarks.conversion.pipelines import PIPELINES
from pandas.api.types import is_integer_dtype, is_numeric_dtype
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)
from sklearn.base import is_classifier, is_outlier_detector, is_regressor

LIBRARIES = ("skl2onnx", "onnxmltools", "onnx", "protobuf", "skops")
OPSET = {"": 18, "ai.onnx.ml": 3}
GAPS = ("nan", "")
PATIENCE = 15  # seconds of processor time for one way of converting
NEAR = 1e-9  # relative: near enough to try no other options
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


def inputs_of(X: Any, tensor: Any, whole: Any) -> list[tuple[str, Any]]:
    """One input for a table of numbers or a list of texts, else one a column, whole numbers as `whole`."""
    if isinstance(X, list):
        return [("X", StringTensorType([None, 1]))]
    if not hasattr(X, "dtypes") or all(map(is_numeric_dtype, X.dtypes)):
        return [("X", tensor([None, X.shape[1]]))]
    return [(name, typed(dtype, tensor, whole)([None, 1])) for name, dtype in X.dtypes.items()]


def typed(dtype: Any, tensor: Any, whole: Any) -> Any:
    if is_integer_dtype(dtype):
        return whole
    return tensor if is_numeric_dtype(dtype) else StringTensorType


def feeds_of(X: Any, inputs: list[tuple[str, Any]], gap: str) -> list[np.ndarray]:
    """Rows as the inputs take them, in their order; a missing word is written as `gap`."""
    if isinstance(X, list):
        return [np.array(X, object).reshape(-1, 1)]
    kinds = {DoubleTensorType: np.float64, FloatTensorType: np.float32, Int64TensorType: np.int64}
    if not hasattr(X, "dtypes") or len(inputs) == 1:
        return [np.asarray(X, kinds[type(inputs[0][1])])]
    feeds = []
    for name, kind in inputs:
        if isinstance(kind, StringTensorType):
            column = X[name].astype(object)
            values = column.where(column.notna(), gap).astype(str).to_numpy(object)
        else:
            values = X[name].astype("Float64").to_numpy(kinds[type(kind)], na_value=np.nan)
        feeds.append(values.reshape(-1, 1))
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


def attempts(seen: Any) -> Iterator[tuple[list[tuple[str, Any]], str]]:
    """Inputs of a graph, and how a missing word is written: what is best known first."""
    both = (DoubleTensorType, FloatTensorType)
    for tensor, whole, gap in product(both, (None, Int64TensorType), GAPS):
        yield inputs_of(seen, tensor, whole or tensor), gap


def by_skl2onnx(pipeline: Everyday) -> Found:
    model, seen, fresh = fitted(pipeline)
    best: Found | None = None
    message = ""
    sessions: dict[str, Any] = {}
    for inputs, gap in attempts(seen):
        known = str([(name, type(kind), kind.shape) for name, kind in inputs])
        signal.setitimer(signal.ITIMER_PROF, PATIENCE)
        try:
            if known not in sessions:
                sessions[known] = None
                sessions[known] = session_of(model, inputs)
            if sessions[known] is None:
                continue
            found = tried(
                model, (seen, fresh), sessions[known], partial(feeds_of, inputs=inputs, gap=gap)
            )
        except Exception as error:  # a refusal is what is counted
            message = message or f"{type(error).__name__}: {error}"
            continue
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if best is None or rank(found) < rank(best):
            best = found
        if rank(best) < (1, NEAR):
            break
    return best or {"state": "refused", "message": message[:500]}


def stop(*_: object) -> None:
    """Ends a conversion that does not end by itself."""
    raise TimeoutError(f"it took more than {PATIENCE} s of processor time")


def session_of(model: Any, inputs: list[tuple[str, Any]]) -> ort.InferenceSession:
    options = {id(model): {"zipmap": False}} if is_classifier(model) else None
    proto = to_onnx(model, initial_types=inputs, options=options, target_opset=OPSET)
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


def rank(found: Found) -> tuple[int, float]:
    differences = found["rows"]["fresh"]
    return differences[1], differences[0]


def tried(model: Any, data: tuple[Any, Any], session: Any, feeds: Any) -> Found:
    """How far a graph's answers are from the source's; raises where it does not run on fresh rows."""
    seen, fresh = data
    outputs = outputs_of(model)
    found = {}
    for name, rows, widened in variants(fresh, seen):
        expected = truth_of(model, widened, outputs)
        if expected is None:
            continue
        try:
            names = [given.name for given in session.get_inputs()]
            answers = session.run(None, dict(zip(names, feeds(rows), strict=True)))
            got = dict(zip(expected, answers, strict=False))
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
    except Exception as error:  # a refusal is what is counted
        return {"state": "refused", "message": f"{type(error).__name__}: {error}"[:500]}
    found = compared(expected, got, lambda: np.zeros(len(fresh), bool))
    return {"state": "converted", "rows": {"fresh": list(vars(found).values())}}


def main() -> None:
    only = sys.argv[1]
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    ort.set_default_logger_severity(4)
    signal.signal(signal.SIGPROF, stop)
    register()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    VERSIONS.write_text(versions, encoding="utf-8")
    chosen = [pipeline for pipeline in PIPELINES if only.lower() in pipeline.name.lower()]
    collect("skl2onnx", chosen, by_skl2onnx)
    collect("skops", chosen, by_skops)


if __name__ == "__main__":
    main()
