"""Convert scikit-learn estimators and pipelines, and those of libraries with its interface."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import onnx

from modelkit.cast import is_a
from modelkit.convert import boosting
from modelkit.convert.estimators import (
    closed_categories,
    holds_trees,
    is_composed,
    is_narrow,
    is_ours_alone,
    last_step,
    prepared,
    text_columns,
    with_parts,
)
from modelkit.convert.example import read_example
from modelkit.convert.labels import label_by_scores
from modelkit.convert.operators import converters
from modelkit.convert.outputs import Role, finish, read_roles, truth
from modelkit.convert.rows import rows_of
from modelkit.convert.scores import score_converters
from modelkit.convert.source import Converter, Source
from modelkit.convert.texts import TextConverters, multiply_few
from modelkit.convert.vectorizers import prepared_for_terms
from modelkit.errors import ConversionError, MissingExtraError
from modelkit.signature import Signature
from modelkit.spec import Column, TensorSpec

# Opset 19 is the first whose Equal compares strings; onnxruntime has it since 1.17.
OPSETS = {"": 19, "ai.onnx.ml": 3}
LIBRARIES = {
    "sklearn": "scikit-learn",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "catboost": "CatBoost",
}
# Names of outputs, which no input can have.
TAKEN = (
    "label", "prediction", "probability", "probabilities", "scores", "score_samples", "transformed",
)  # fmt: skip


def is_estimator(source: object) -> bool:
    """Whether `source` has scikit-learn's interface, without importing a library to find out."""
    return is_a(source, "sklearn.base", "BaseEstimator") or boosting.is_catboost(source)


def number_dtypes(estimator: Any) -> tuple[str, ...]:
    """The dtypes to try for numeric inputs: the family's own, then the other.

    Rows that are compared with thresholds of float64 are never rounded.
    """
    if is_narrow(estimator):
        return ("float32", "float64")
    return ("float64",) if holds_trees(estimator) else ("float64", "float32")


def from_sklearn(
    estimator: Any,
    example: Any,
    numbers: str,
) -> Source:
    """Convert a fitted estimator to a graph whose numeric inputs have the dtype `numbers`.

    Raises ConversionError, naming the step that cannot be converted.
    """
    from sklearn.utils.validation import check_is_fitted

    # CatBoost has the interface, but not the attributes by which fitting shows.
    if not boosting.is_catboost(estimator):
        check_is_fitted(estimator)
    against = f"{library_of(estimator)} {type(last_step(estimator)).__name__}"
    estimator = getattr(estimator, "best_estimator_", estimator)  # which is what a search asks
    rows, columns, answer = read_example(estimator, example)
    inputs = _inputs(columns, numbers)
    coded = boosting.categories(estimator, rows)
    few = rows_of(rows).spread(2).raw
    roles, classes = answer(read_roles, few)
    reading = boosting.with_absent_zeros(estimator, few, answer)
    proto, outputs, rounds, vectorizers = _converted(reading, inputs, roles, coded)
    names = {spec.name for spec in outputs}
    roles = tuple(role for role in roles if role.name in names)  # a graph may lack some scores
    told = closed_categories(
        estimator,
        [column.name for column in columns],
    )
    return Source(
        proto,
        Signature(tuple(inputs), tuple(outputs), classes=classes),
        rows=rows,
        against=against,
        truth=lambda rows: answer(partial(truth, roles=roles), rows),
        categories=told | coded,
        rounds=rounds,
        texts=vectorizers.texts,
        terms=vectorizers.terms,
        distances=frozenset(role.name for role in roles if role.distances),
    )


def _ways(model: Any, example: Any) -> list[Callable[[], Source]]:
    estimator = boosting.as_estimator(model)
    return [
        partial(from_sklearn, estimator, example, numbers) for numbers in number_dtypes(estimator)
    ]


def _owned(library: str, model: object) -> bool:
    """Whether a model has scikit-learn's interface and its last step is a library's."""
    known = is_estimator(model) or boosting.is_booster(model)
    return known and package_of(model) == library


CONVERTERS = (
    Converter(
        owns=partial(_owned, "xgboost"),
        ways=_ways,
        trained_with=("scikit-learn", "skl2onnx", "xgboost", "xgboost-cpu"),
    ),
    Converter(
        owns=partial(_owned, "lightgbm"),
        ways=_ways,
        trained_with=("scikit-learn", "skl2onnx", "spox", "lightgbm"),
    ),
    Converter(
        owns=partial(_owned, "catboost"),
        ways=_ways,
        trained_with=("scikit-learn", "skl2onnx", "catboost"),
    ),
    Converter(
        owns=is_estimator,
        ways=_ways,
        trained_with=("scikit-learn", "skl2onnx", "spox"),
    ),
)


def _converted(
    estimator: Any,
    inputs: list[TensorSpec],
    roles: tuple[Role, ...],
    coded: dict[str, tuple[str, ...]],
) -> tuple[onnx.ModelProto, list[TensorSpec], bool | None, TextConverters]:
    """A graph, its outputs, whether it rounds where its source does not, and its vectorizers.

    None stands for rounding that is not known.
    """
    if is_composed(estimator):
        from modelkit.convert.compose import composed

        try:
            return composed(estimator, inputs, roles, _alone)
        except ConversionError:
            if is_ours_alone(estimator):
                raise
    vectorizers = TextConverters()
    if coded:
        width = sum(len(spec.columns) for spec in inputs)
        codes = TensorSpec(
            boosting.CODES,
            "float32",
            ("batch", width),
        )
        proto = _convert(estimator, [codes], vectorizers)
        boosting.encode(proto, inputs, coded)
    else:
        proto = _convert(estimator, inputs, vectorizers)
    if hasattr(estimator, "classes_"):
        label_by_scores(proto, last_step(estimator))
    outputs = finish(proto, tuple(role for role in roles if not role.optional))
    multiply_few(proto.graph)
    return proto, outputs, None, vectorizers


def _alone(estimator: Any, inputs: list[TensorSpec]) -> tuple[onnx.ModelProto, TextConverters]:
    """The graph of one estimator by itself, and the vectorizers that it holds."""
    vectorizers = TextConverters()
    return _convert(estimator, inputs, vectorizers), vectorizers


def library_of(estimator: Any) -> str:
    """The library that trained an estimator, as people write it."""
    package = package_of(estimator)
    return LIBRARIES.get(package, package)


def package_of(estimator: Any) -> str:
    """The package that the class of an estimator, or of its last step, is defined in."""
    return type(last_step(estimator)).__module__.partition(".")[0]


def _inputs(columns: list[Column], numbers: str) -> list[TensorSpec]:
    """One tensor for columns of numbers alone; one tensor a column if there are strings.

    Such a tensor is called as its column is, where a graph may call it so.
    """
    if all(column.dtype != "string" for column in columns):
        return [TensorSpec("X", numbers, ("batch", len(columns)), tuple(columns))]
    specs: list[TensorSpec] = []
    for column in columns:
        usual = column.name.isidentifier() and column.name not in TAKEN
        name = column.name if usual else f"x{len(specs)}"
        taken = {spec.name for spec in specs}
        taken |= {other.name for other in columns if other is not column}
        while name in taken:
            name += "_"
        kind = "string" if column.dtype == "string" else numbers
        specs.append(TensorSpec(name, kind, ("batch", 1), (column,)))
    return specs


def _convert(
    estimator: Any,
    inputs: list[TensorSpec],
    vectorizers: TextConverters,
) -> onnx.ModelProto:
    """The graph that skl2onnx makes of an estimator, with converters of our own in it."""
    try:
        import skl2onnx
    except ImportError:
        raise MissingExtraError("saving a scikit-learn model", "skl2onnx", "sklearn") from None

    boosting.register()
    own, shapes = converters()
    counting, counted = vectorizers.table()
    model = prepared(prepared_for_terms(estimator))
    convert = partial(
        skl2onnx.convert_sklearn,
        model,
        name="model",
        initial_types=_initial_types(estimator, inputs),
        target_opset=OPSETS,
        custom_conversion_functions=own | counting | score_converters(),
        custom_shape_calculators=shapes | counted,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = _with_flat_probabilities(convert, model, estimator, vectorizers)
    except (ConversionError, MissingExtraError):
        raise
    except Exception as error:
        step = _step_of(error, estimator)
        said = " ".join(str(error).split())[:300]
        raise ConversionError(
            f"{step} cannot be converted to ONNX: {said}; replace it, or apply it before the model "
            "and save the rest",
            step=step,
        ) from error
    vectorizers.connect(proto, inputs)
    _mend(proto)
    onnx.checker.check_model(proto)
    return proto


def _with_flat_probabilities(
    convert: Callable[..., onnx.ModelProto],
    model: Any,
    estimator: Any,
    vectorizers: TextConverters,
) -> onnx.ModelProto:
    """Convert with probabilities as a tensor rather than a list of dicts.

    That is no option of a classifier without probabilities, which raises NameError.
    """
    options: dict[int, Any] = {id(model): {"zipmap": False}} if is_classifier(estimator) else {}
    try:
        return convert(options=options)
    except NameError:
        vectorizers.restart()
        return convert(options={id(last_step(model)): {}})


def _initial_types(estimator: Any, inputs: list[TensorSpec]) -> list[tuple[str, Any]]:
    """The inputs as skl2onnx is told of them.

    It derives the types of all that follows from them, and what becomes of a text are doubles: so
    texts that only vectorizers read are told as doubles.
    """
    from skl2onnx.common import data_types as types

    kinds = {
        "float32": types.FloatTensorType,
        "float64": types.DoubleTensorType,
        "string": types.StringTensorType,
    }
    texts: set[int] = set()
    if any(spec.dtype == "string" for spec in inputs):
        texts = text_columns(
            estimator,
            list(range(len(inputs))),
        )
    found = []
    for at, spec in enumerate(inputs):
        kind = kinds["float64" if at in texts else spec.dtype]
        found.append((spec.name, kind([None, spec.shape[1]])))
    return found


def _mend(proto: onnx.ModelProto) -> None:
    """Make columns of vectors: a product with a vector takes 40 times as long.

    The converter lists domains in the order of a set, which differs from process to process.
    """
    domains = sorted(
        proto.opset_import,
        key=lambda entry: entry.domain,
    )
    del proto.opset_import[:]
    proto.opset_import.extend(domains)
    used = [name for node in proto.graph.node for name in node.input]
    vectors = {
        t.name: t for t in proto.graph.initializer if len(t.dims) == 1 and used.count(t.name) == 1
    }
    for node in proto.graph.node:
        if node.op_type == "MatMul" and node.input[1] in vectors:
            vectors[node.input[1]].dims[:] = [*vectors[node.input[1]].dims[:1], 1]


def is_classifier(estimator: Any) -> bool:
    """As scikit-learn says."""
    from sklearn.base import is_classifier

    return bool(is_classifier(estimator))


def _step_of(error: Exception, estimator: Any) -> str:
    """The innermost estimator whose class the converter's message names, else the whole."""
    names = [type(step).__name__ for step in with_parts(estimator)]
    return next(
        (name for name in reversed(names) if name in str(error)),
        type(estimator).__name__,
    )
