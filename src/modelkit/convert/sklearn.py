"""Convert scikit-learn estimators and pipelines. The only module that imports skl2onnx."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelkit.cast import MISSING, Array, is_a
from modelkit.convert.graph import DECISION, DTYPES, Source, take
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.signature import Signature
from modelkit.spec import DTYPES as SIGNATURE_DTYPES
from modelkit.spec import Column, TensorSpec

# Opset 19 is the first whose Equal compares strings; onnxruntime has it since 1.17.
OPSETS = {"": 19, "ai.onnx.ml": 3}
# Estimators that compute in float32: trees because scikit-learn's do, networks because it costs no accuracy
# that parity would see and is twice as fast.
NARROW_MODULES = ("sklearn.tree", "sklearn.ensemble", "sklearn.neural_network")


def is_estimator(source: object) -> bool:
    """Whether `source` is a scikit-learn estimator, without importing scikit-learn."""
    return is_a(source, "sklearn.base", "BaseEstimator")


def number_dtypes(estimator: Any) -> tuple[str, str]:
    """The dtypes to try for numeric inputs: the family's own, then the other, since some operators have just one."""
    return ("float32", "float64") if _is_narrow(estimator) else ("float64", "float32")


def from_sklearn(estimator: Any, example: Any, numbers: str) -> Source:
    """Convert a fitted estimator to a graph whose numeric inputs have the dtype `numbers`.

    Raises ConversionError, naming the step that cannot be converted.
    """
    from sklearn.utils.validation import check_is_fitted

    if example is None:
        raise ConversionError("an estimator is proven against rows: pass example=X_train[:500], as fit was given")
    check_is_fitted(estimator)
    frame = is_a(example, "pandas", "DataFrame")
    if not frame and not (isinstance(example, np.ndarray) and example.ndim == 2 and example.dtype.kind in "biuf"):
        what = f"array of {example.dtype}" if isinstance(example, np.ndarray) else type(example).__name__
        raise ConversionError(f"example is the 2-D numeric array or the pandas frame that fit was given, not {what}")
    trained_on = list(getattr(estimator, "feature_names_in_", [])) or None
    if trained_on is not None and (not frame or list(example.columns) != trained_on):
        raise ConversionError(f"example must have the columns that fit was given, in their order: {trained_on}")
    if not len(example):
        raise ConversionError("example has no rows")
    columns = _columns(example, named=trained_on is not None)
    inputs = _inputs(columns, numbers)
    proto = _convert(estimator, inputs)
    outputs, classes = _finish(proto, estimator, example)
    signature = Signature(tuple(inputs), tuple(outputs), classes=classes)
    names = tuple(spec.name for spec in outputs)
    return Source(
        proto,
        signature,
        rows=example,
        against=f"scikit-learn {type(_last(estimator)).__name__}",
        truth=lambda rows: _truth(estimator, rows, names),
        categories=_closed_categories(estimator, [column.name for column in columns]),
    )


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _is_narrow(estimator: Any) -> bool:
    return type(estimator).__module__.startswith(NARROW_MODULES)


def _columns(example: Any, *, named: bool) -> list[Column]:
    if isinstance(example, np.ndarray):
        return [Column(f"x{i}", str(example.dtype)) for i in range(example.shape[1])]
    names = [str(name) for name in example.columns] if named else [f"x{i}" for i in range(example.shape[1])]
    return [Column(name, _column_dtype(name, dtype)) for name, dtype in zip(names, example.dtypes, strict=True)]


def _column_dtype(name: str, dtype: Any) -> str:
    text = str(dtype).lower()
    if text.removesuffix("[pyarrow]") in ("str", "string", "object", "category"):
        return "string"
    text = {"boolean": "bool", "double": "float64", "float": "float32"}.get(text.removesuffix("[pyarrow]"), text)
    if text not in SIGNATURE_DTYPES:
        raise ConversionError(f"column {name!r} has dtype {dtype}, which a graph cannot take; turn it into numbers")
    return text


def _inputs(columns: list[Column], numbers: str) -> list[TensorSpec]:
    """One tensor for columns of numbers alone; where there are strings among them, one tensor a column."""
    if all(column.dtype != "string" for column in columns):
        return [TensorSpec("X", numbers, ("batch", len(columns)), tuple(columns))]
    return [
        TensorSpec(column.name, "string" if column.dtype == "string" else numbers, ("batch", 1), (column,))
        for column in columns
    ]


def _convert(estimator: Any, inputs: list[TensorSpec]) -> onnx.ModelProto:
    try:
        import skl2onnx
        from skl2onnx.common import data_types as types
    except ImportError:
        raise MissingExtraError("saving a scikit-learn model", "skl2onnx", "sklearn") from None
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.impute import SimpleImputer

    histogram = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
    kinds = {"float32": types.FloatTensorType, "float64": types.DoubleTensorType, "string": types.StringTensorType}
    convert = partial(
        skl2onnx.convert_sklearn,
        _with_casts(estimator),
        name="model",
        initial_types=[(spec.name, kinds[spec.dtype]([None, spec.shape[1]])) for spec in inputs],
        target_opset=OPSETS,
        custom_conversion_functions={
            SimpleImputer: _convert_imputer,
            **dict.fromkeys(histogram, _convert_histogram),
        },
        custom_shape_calculators={SimpleImputer: _imputer_shape},
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                # Probabilities as a tensor rather than a list of dicts ...
                proto: onnx.ModelProto = convert(options={"zipmap": False} if is_classifier(estimator) else None)
            except NameError:  # ... which is no option of a classifier without probabilities
                proto = convert()
    except ConversionError:
        raise
    except Exception as error:
        step = _step_of(error, estimator)
        raise ConversionError(
            f"{step} cannot be converted to ONNX: {' '.join(str(error).split())[:300]}; replace it, or apply it "
            f"before the model and save the rest",
            step=step,
        ) from error
    onnx.checker.check_model(proto)
    return proto


def is_classifier(estimator: Any) -> bool:
    """As scikit-learn says."""
    from sklearn.base import is_classifier

    return bool(is_classifier(estimator))


class _PlainNumbers:
    """A converter's container that turns numpy scalars in attributes into Python numbers, as onnx demands."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *args: Any, **attributes: Any) -> None:
        plain = {
            name: [_plain_number(item) for item in value] if isinstance(value, list) else value
            for name, value in attributes.items()
        }
        self._container.add_node(*args, **plain)


def _plain_number(value: Any) -> Any:
    if isinstance(value, bool | np.bool_ | np.integer):
        return int(value)
    return float(value) if isinstance(value, np.floating) else value


def _convert_histogram(scope: Any, operator: Any, container: Any) -> None:
    from skl2onnx.common._registration import get_converter

    get_converter(operator.type)(scope, operator, _PlainNumbers(container))


def _step_of(error: Exception, estimator: Any) -> str:
    """The innermost estimator whose class the converter's message names, else the whole."""
    names = [type(step).__name__ for step in _walk(estimator)]
    return next((name for name in reversed(names) if name in str(error)), type(estimator).__name__)


def _walk(estimator: Any) -> list[Any]:
    """An estimator and everything inside it, depth first."""
    inner = [step for _, step in getattr(estimator, "steps", [])]
    inner += [entry[1] for entry in getattr(estimator, "transformers_", [])]
    inner += [entry[1] for entry in getattr(estimator, "transformer_list", [])]
    return [estimator, *(deep for step in inner if hasattr(step, "get_params") for deep in _walk(step))]


def _with_casts(estimator: Any) -> Any:
    """A pipeline that ends in a float32 estimator gets a cast before it, since its preprocessing runs in float64."""
    if not hasattr(estimator, "steps") or not _is_narrow(_last(estimator)):
        return estimator
    from skl2onnx.sklapi import CastTransformer

    narrowed = copy.copy(estimator)
    *before, last = estimator.steps
    narrowed.steps = [*before, ("modelkit_cast", CastTransformer(dtype=np.float32)), last]
    return narrowed


def _imputer_shape(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    imputer = operator.raw_operator
    if imputer.add_indicator:
        raise ConversionError("SimpleImputer(add_indicator=True) cannot be converted; use MissingIndicator apart")
    kind = operator.inputs[0].type
    if isinstance(kind, Int64TensorType):
        raise ConversionError("SimpleImputer on integers cannot be converted; integers have no missing value")
    statistics = imputer.statistics_
    if not isinstance(kind, StringTensorType) and np.isnan(statistics.astype(float)).any():
        raise ConversionError("SimpleImputer drops a column that held no value in training; drop it before")
    operator.outputs[0].type = type(kind)([kind.shape[0], len(statistics)])


def _convert_imputer(scope: Any, operator: Any, container: Any) -> None:
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


def _finish(proto: onnx.ModelProto, estimator: Any, example: Any) -> tuple[list[TensorSpec], tuple[Any, ...] | None]:
    """Name the outputs by role, give them their final shapes, and drop the rest."""
    from sklearn.base import is_regressor

    graph = proto.graph
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    raw = {value.name: value.type.tensor_type.elem_type for value in graph.output}
    found = list(raw)
    del graph.output[:]
    if is_classifier(estimator):
        classes = estimator.classes_
        if isinstance(classes, list) or np.asarray(classes).dtype.kind not in "biuUO":
            raise ConversionError("a classifier's labels must be one column of integers, booleans or strings")
        labels = tuple(np.asarray(classes).tolist())
        if not all(type(label) in (int, bool, str) for label in labels):
            raise ConversionError(f"labels must be integers, booleans or strings, got {labels[:5]}")
        specs = [_output(graph, found[0], raw[found[0]], "label", boolean=type(labels[0]) is bool)]
        if hasattr(estimator, "predict_proba"):
            specs.append(_output(graph, found[1], raw[found[1]], "probabilities", width=len(labels)))
        return specs, labels
    if is_regressor(estimator):
        shape = _truth(estimator, take(example, 2), ("prediction",))["prediction"].shape
        width = shape[1] if len(shape) > 1 else None
        return [_output(graph, found[0], raw[found[0]], "prediction", width=width)], None
    if hasattr(estimator, "transform"):
        width = _truth(estimator, take(example, 2), ("transformed",))["transformed"].shape[1]
        return [_output(graph, found[0], raw[found[0]], "transformed", width=width)], None
    raise ConversionError(f"{type(estimator).__name__} is neither a classifier, a regressor nor a transformer")


def _output(
    graph: onnx.GraphProto, name: str, element: int, role: str, *, width: int | None = None, boolean: bool = False
) -> TensorSpec:
    shape: tuple[int | str, ...] = ("batch",) if width is None else ("batch", width)
    if boolean:
        graph.node.append(helper.make_node("Cast", [name], [f"{role}_bool"], to=TensorProto.BOOL))
        name, element = f"{role}_bool", TensorProto.BOOL
    size = helper.make_tensor(f"{role}_shape", TensorProto.INT64, [len(shape)], [-1] if width is None else [-1, width])
    graph.initializer.append(size)
    for node in graph.node:  # the name may be taken, for the converter calls its own outputs so
        node.output[:] = [f"{role}_raw" if out == role else out for out in node.output]
        node.input[:] = [f"{role}_raw" if used == role else used for used in node.input]
    graph.node.append(helper.make_node("Reshape", [f"{role}_raw" if name == role else name, size.name], [role]))
    graph.output.append(helper.make_tensor_value_info(role, element, shape))
    return TensorSpec(role, DTYPES[element], shape)


def _truth(estimator: Any, rows: Any, names: tuple[str, ...]) -> dict[str, Array]:
    verbs = {"label": "predict", "prediction": "predict", "probabilities": "predict_proba", "transformed": "transform"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answers = {name: getattr(estimator, verbs[name])(rows) for name in names}
        if "label" in names and hasattr(estimator, "decision_function"):
            answers[DECISION] = estimator.decision_function(rows)
    return {name: np.asarray(a.toarray() if hasattr(a, "toarray") else a) for name, a in answers.items()}


def _closed_categories(estimator: Any, names: list[str]) -> dict[str, tuple[str, ...]]:
    """The categories of encoders that refuse unknown ones, by column, where a column transformer tells."""
    found: dict[str, tuple[str, ...]] = {}
    for transformer in (step for step in _walk(estimator) if hasattr(step, "transformers_")):
        for _, steps, chosen in transformer.transformers_:
            columns = [str(c) if isinstance(c, str) else names[c] for c in chosen] if isinstance(chosen, list) else []
            for encoder in _walk(steps) if columns else []:
                categories = getattr(encoder, "categories_", [])
                if len(categories) == len(columns) and getattr(encoder, "handle_unknown", "") == "error":
                    known = (tuple(c for c in values.tolist() if isinstance(c, str)) for values in categories)
                    found.update(zip(columns, known, strict=True))
    return found
