"""The outputs of a fitted scikit-learn estimator, and the nodes that name and shape them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from modelkit.cast import Array
from modelkit.convert.boosting import gives_probabilities
from modelkit.convert.estimators import last_step
from modelkit.convert.source import DECISION
from modelkit.errors import ConversionError
from modelkit.frames import whole_array
from modelkit.proto import ELEMENT_DTYPES
from modelkit.spec import TensorSpec


@dataclass(frozen=True)
class Role:
    """One output: its name, the estimator's verb for it, and the graph's output that holds it.

    `part` picks one of the arrays of a verb that answers with a list of them. `tail` are the sizes
    after the rows. A graph may lack an output that is `optional`. The numbers of one that is
    `distances` are roots of differences, of which a row at a centre leaves nothing but rounding.
    `strings` is whether a transformer gives them.
    """

    name: str
    verb: str
    at: int
    tail: tuple[int, ...]
    part: int | None = None
    boolean: bool = False
    optional: bool = False
    distances: bool = False
    strings: bool = False


LABEL = Role("label", "predict", 0, ())
Classes = tuple[Any, ...]


def read_roles(estimator: Any, rows: Any) -> tuple[tuple[Role, ...], Classes | None]:
    """The outputs of an estimator and its classes, found by asking it for `rows`.

    Raises ConversionError.
    """
    from sklearn.base import is_classifier, is_outlier_detector, is_regressor

    if is_classifier(estimator):
        return _classifier(estimator, rows)
    if is_regressor(estimator):
        name = "probability" if gives_probabilities(last_step(estimator)) else "prediction"
        return (Role(name, "predict", 0, _tail(estimator, "predict", rows)),), None
    if is_outlier_detector(estimator) and hasattr(estimator, "predict"):
        scores = Role("scores", "decision_function", 1, ())
        return (LABEL, scores, *_score_samples(estimator)), None
    if hasattr(estimator, "predict"):
        return _grouping(estimator, rows), None
    if hasattr(estimator, "transform"):
        return (_transformed(estimator, rows),), None
    if hasattr(estimator, "score_samples"):
        return (Role("score_samples", "score_samples", 0, ()),), None
    raise _nothing_to_serve(last_step(estimator))


def _transformed(estimator: Any, rows: Any) -> Role:
    """The output of a transformer: numbers or strings.

    Raises ConversionError for one that gives both.
    """
    array = np.asarray(ask(estimator, "transform", rows))
    texts = [at for at in range(array.shape[1]) if _is_text(array[:, at])]
    if texts and len(texts) < array.shape[1]:
        raise ConversionError(
            "a transformer that gives columns of numbers and of strings cannot be saved, for an "
            f"output holds one of both; encode its columns {texts[:5]}, or save one transformer for "
            "the numbers and one for the strings",
            step=type(last_step(estimator)).__name__,
        )
    return Role("transformed", "transform", 0, array.shape[1:], strings=bool(texts))


def _is_text(column: Array) -> bool:
    return column.dtype.kind == "U" or any(isinstance(value, str) for value in column.tolist())


def _nothing_to_serve(last: Any) -> ConversionError:
    """Why an estimator is refused that answers no new rows, and what to do."""
    name = type(last).__name__
    if getattr(last, "novelty", None) is False:
        fix = "fit it with novelty=True"
    elif hasattr(last, "fit_predict"):
        fix = (
            "it groups the rows it was fitted on alone; save a classifier that was trained on its "
            "labels_, or use one that groups new rows, such as KMeans"
        )
    else:
        fix = "put it into a pipeline that ends in a step that has one of them"
    return ConversionError(
        f"{name} has neither predict nor transform for new rows, so there is nothing to serve: {fix}",
        step=name,
    )


def _score_samples(estimator: Any) -> list[Role]:
    """The scores of rows, if an estimator has any beside those of `decision_function`."""
    if not hasattr(estimator, "score_samples"):
        return []
    return [Role("score_samples", "score_samples", 2, (), optional=True)]


def _grouping(estimator: Any, rows: Any) -> tuple[Role, ...]:
    """The outputs of clusters and mixtures."""
    for verb, name in (("transform", "transformed"), ("predict_proba", "probabilities")):
        if hasattr(estimator, verb):
            tail = _tail(estimator, verb, rows)
            role = Role(name, verb, 1, tail, distances=verb == "transform")
            return LABEL, role, *_score_samples(estimator)
    floats = np.asarray(ask(estimator, "predict", rows)).dtype.kind == "f"
    name = "prediction" if floats else "label"
    return (Role(name, "predict", 0, _tail(estimator, "predict", rows)),)


def _classifier(estimator: Any, rows: Any) -> tuple[tuple[Role, ...], Classes | None]:
    """The outputs of a classifier and its classes, which are None if it has several labels."""
    width = _tail(estimator, "predict", rows)
    scores = _scores(estimator, rows)
    if width not in ((), (1,)) or isinstance(estimator.classes_, list):
        probabilities = scores
        if hasattr(estimator, "predict_proba"):
            probabilities = _by_target(ask(estimator, "predict_proba", rows))
        return (Role("label", "predict", 0, width), *probabilities), None
    labels = tuple(class_values(estimator.classes_).tolist())
    label = Role(
        "label",
        "predict",
        0,
        (),
        boolean=type(labels[0]) is bool,
    )
    if not hasattr(estimator, "predict_proba"):
        return (label, *scores), labels
    return (label, Role("probabilities", "predict_proba", 1, (len(labels),))), labels


def class_values(classes: Any) -> Array:
    """Classes, or labels, as an array of booleans, int64, float64 or strings.

    Raises ConversionError for those that are of other types, or of several.
    """
    values = np.asarray(classes)
    kinds = {"b": np.bool_, "i": np.int64, "u": np.int64, "f": np.float64, "U": np.str_}
    if values.dtype.kind in kinds:
        return values.astype(kinds[values.dtype.kind])
    if values.dtype.kind == "O":
        held = values.ravel().tolist()
        for types, kept in (
            ((bool, np.bool_), np.bool_),
            (str, np.str_),
            ((int, np.integer), np.int64),
        ):
            if all(isinstance(value, types) for value in held):
                return values.astype(kept)
    shown = ", ".join(repr(value) for value in values.ravel()[:3].tolist())
    raise ConversionError(
        f"labels must be all integers, all booleans, all whole floats or all strings, and this classifier's "
        f"are {shown}; turn y into one of these before fit, such as y.astype(str)"
    )


def _scores(estimator: Any, rows: Any) -> list[Role]:
    """What a classifier decides by."""
    if not hasattr(estimator, "decision_function"):
        return []
    tail = _tail(estimator, "decision_function", rows)
    return [Role("scores", "decision_function", 1, tail, optional=True)]


def _by_target(probabilities: Any) -> list[Role]:
    """The probabilities of a classifier with several labels a row: one output a target, or one."""
    if not isinstance(probabilities, list):
        return [Role("probabilities", "predict_proba", 1, probabilities.shape[1:])]
    return [
        Role(f"probabilities_{i}", "predict_proba", 1, np.shape(part)[1:], part=i)
        for i, part in enumerate(probabilities)
    ]


def ask(
    estimator: Any,
    verb: str,
    rows: Any,
) -> Any:
    """The answer of one verb, dense; a list where the estimator answers with one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = getattr(estimator, verb)(rows.copy())  # one with copy=False writes into its rows
    return whole_array(answer)


def _tail(
    estimator: Any,
    verb: str,
    rows: Any,
) -> tuple[int, ...]:
    return tuple(np.shape(ask(estimator, verb, rows))[1:])


def truth(
    estimator: Any,
    rows: Any,
    roles: tuple[Role, ...],
) -> dict[str, Array]:
    """What the estimator answers, by output name, with the scores that a classifier decides by."""
    answers: dict[str, Any] = {}
    found = {}
    for role in roles:
        if role.verb not in answers:
            answers[role.verb] = ask(
                estimator,
                role.verb,
                rows,
            )
        answer = answers[role.verb]
        array = np.asarray(answer if role.part is None else answer[role.part])
        if array.shape[1:] == (1,) and role.tail == ():
            array = array[:, 0]
        found[role.name] = array
    if "scores" in found:
        found[DECISION] = found["scores"]
    elif "label" in found and hasattr(estimator, "decision_function"):
        found[DECISION] = np.asarray(ask(estimator, "decision_function", rows))
    return found


def finish(proto: onnx.ModelProto, roles: tuple[Role, ...]) -> list[TensorSpec]:
    """Replace the graph's outputs by those of `roles`, in their final shapes."""
    graph = proto.graph
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    raw = list(graph.output)
    if any(role.at >= len(raw) for role in roles):
        raise ConversionError(
            f"the converter gives {[value.name for value in raw]}, and not "
            f"{[r.name for r in roles]}"
        )
    del graph.output[:]
    taken = {role.name for role in roles}
    for node in graph.node:  # a name may be taken, for the converter calls its own outputs so
        node.output[:] = [f"{name}_raw" if name in taken else name for name in node.output]
        node.input[:] = [f"{name}_raw" if name in taken else name for name in node.input]
    return [_output(graph, raw[role.at], role, taken) for role in roles]


def _output(
    graph: onnx.GraphProto,
    value: onnx.ValueInfoProto,
    role: Role,
    taken: set[str],
) -> TensorSpec:
    """Add an output to the graph, and say what it is."""
    name = f"{value.name}_raw" if value.name in taken else value.name
    kind = value.type
    element = kind.tensor_type.elem_type or kind.sequence_type.elem_type.tensor_type.elem_type
    if role.part is not None:
        name = _part(
            graph,
            name,
            role,
            is_sequence=kind.HasField("sequence_type"),
        )
    if role.boolean:
        element = TensorProto.BOOL
        graph.node.append(helper.make_node("Cast", [name], [f"{role.name}_bool"], to=element))
        name = f"{role.name}_bool"
    size = f"{role.name}_shape"
    _add_whole(
        graph,
        size,
        [1 + len(role.tail)],
        [-1, *role.tail],
    )
    graph.node.append(helper.make_node("Reshape", [name, size], [role.name]))
    shape: tuple[int | str, ...] = ("batch", *role.tail)
    graph.output.append(helper.make_tensor_value_info(role.name, element, shape))
    return TensorSpec(
        role.name,
        ELEMENT_DTYPES[element],
        shape,
    )


def _add_whole(
    graph: onnx.GraphProto,
    name: str,
    shape: list[int],
    values: Sequence[int],
) -> None:
    """Add a constant of whole numbers to the graph."""
    graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, shape, values))


def _part(
    graph: onnx.GraphProto,
    name: str,
    role: Role,
    *,
    is_sequence: bool,
) -> str:
    """One array of an output of several: a sequence, or a tensor as wide as its widest part."""
    at = f"{role.name}_at"
    out = f"{role.name}_part"
    _add_whole(
        graph,
        at,
        [],
        [role.part or 0],
    )
    if is_sequence:
        graph.node.append(helper.make_node("SequenceAt", [name, at], [out]))
        return out
    columns = f"{role.name}_columns"
    narrow = f"{role.name}_narrow"
    width = role.tail[0]
    graph.node.append(helper.make_node("Gather", [name, at], [out], axis=0))
    _add_whole(
        graph,
        columns,
        [width],
        range(width),
    )
    graph.node.append(helper.make_node("Gather", [out, columns], [narrow], axis=1))
    return narrow
