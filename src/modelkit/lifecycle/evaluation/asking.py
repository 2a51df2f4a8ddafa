"""What a model answers to rows, as the metrics take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.progress import counted_off
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.task import class_places
from modelkit.model.model import Model, Outputs, make_call
from modelkit.signature.signature import Feeds, Signature, primary_of

CHUNK = 8192  # rows that are asked at once
WANTED = ("label", "probabilities", "scores", "prediction", "embedding")
BACKGROUND_WORK = -1  # the priority of what may wait


def answers_of(model: Model, feeds: Feeds, *, progress: bool = False) -> Outputs:
    """The outputs that metrics are made of, for rows that the model's signature has coerced.

    A Monitor or a Meter around the model does not see the rows.
    """
    signature = model.signature
    names = wanted_outputs(signature)
    call = make_call(None, BACKGROUND_WORK, None)
    n = signature.count(feeds)
    source = model.unobserved
    if signature.batch is None or n <= CHUNK:
        return source._run(feeds, names, call)
    starts = range(0, n, CHUNK)
    parts = []
    turns = counted_off(len(starts), "evaluate", "batch") if progress else range(len(starts))
    for turn in turns:
        places = np.arange(starts[turn], min(starts[turn] + CHUNK, n))
        parts.append(source._run(signature.take(feeds, places), names, call))
    return joined_outputs(parts)


def joined_outputs(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of all parts, one after another."""
    joined = {}
    for name in parts[0]:
        joined[name] = np.concatenate([part[name] for part in parts])
    return joined


def wanted_outputs(signature: Signature) -> tuple[str, ...]:
    """The outputs of a model that metrics are made of."""
    primary = signature.primary
    several = tuple(f"probabilities_{at}" for at in range(len(signature.output_names)))
    wanted = {*WANTED, *several, primary}
    names = tuple(name for name in signature.output_names if name in wanted)
    return names or (primary_of(signature),)


def with_answers(task: Answered, outputs: Mapping[str, Array], primary: str | None) -> Answered:
    """The rows of a task with what a model answered.

    Args:
        task: the rows, as `read_task` gives them.
        outputs: of the model, as `answers_of` gives them.
        primary: the output that holds predictions, where none is called label or prediction.

    Raises:
        UsageError: if the answers do not fit the truth.
    """
    _check_length(task, outputs)
    if task.kind in ("binary", "multiclass"):
        return _classes(task, outputs)
    if task.kind == "multilabel":
        return _labels(task, outputs)
    if task.kind == "clustering":
        return replace(task, predicted=_named(outputs, "label", primary))
    told = np.asarray(_named(outputs, "prediction", primary), np.float64)
    if task.kind == "ranking":
        return replace(task, scores=_flat(told))
    told = told.reshape(len(task), -1)
    if told.shape != task.truth.shape:
        raise UsageError(f"y has the shape {task.truth.shape}, and the predictions {told.shape}")
    return replace(task, predicted=told)


def _check_length(task: Answered, outputs: Mapping[str, Array]) -> None:
    for name, values in outputs.items():
        if len(values) != len(task):
            raise UsageError(
                f"y has {len(task):,} rows, and the model gave {len(values):,} of {name!r}"
            )


def _named(outputs: Mapping[str, Array], name: str, primary: str | None) -> Array:
    if name in outputs:
        return outputs[name]
    if primary is not None and primary in outputs:
        return outputs[primary]
    raise UsageError(f"the model gives no {name!r}; it gives {list(outputs)}")


def _flat(values: Array) -> Array:
    if values.size != len(values):
        raise UsageError(f"a ranking goes by one score a row, not by {values.shape}")
    return values.reshape(-1)


def _classes(task: Answered, outputs: Mapping[str, Array]) -> Answered:
    probabilities = _doubles(outputs.get("probabilities"))
    scores = _doubles(outputs.get("scores")) if probabilities is None else probabilities
    if "label" in outputs:
        predicted = class_places(outputs["label"], task.classes)
    elif probabilities is not None:
        predicted = probabilities.argmax(axis=1)
    else:
        raise UsageError(f"the model gives neither labels nor probabilities: {list(outputs)}")
    if task.kind == "binary" and scores is not None:
        if scores.ndim == 2:
            scores = scores[:, task.positive]
        elif not task.positive:  # they speak for the second class
            scores = -scores
    return replace(task, predicted=predicted, probabilities=probabilities, scores=scores)


def _labels(task: Answered, outputs: Mapping[str, Array]) -> Answered:
    predicted = _doubles(outputs.get("label"))
    if predicted is None or predicted.shape != task.truth.shape:
        shape = None if predicted is None else predicted.shape
        raise UsageError(f"y has the shape {task.truth.shape}, and the labels {shape}")
    told = _doubles(outputs.get("probabilities"))
    if told is None:
        told = _of_each_label(outputs, predicted)
    scores = _doubles(outputs.get("scores")) if told is None else told
    return replace(task, predicted=predicted, probabilities=told, scores=scores)


def _of_each_label(outputs: Mapping[str, Array], predicted: Array) -> Array | None:
    """The probability of each label, (n, L), where every label has an output of its own.

    One of which the training rows had a single value has a single column, of 1 for that value.
    """
    columns: list[Array] = []
    for at, label in enumerate(predicted.T):
        pair = outputs.get(f"probabilities_{at}")
        if pair is None or pair.shape[1] not in (1, 2):
            return None
        columns.append(label if pair.shape[1] == 1 else pair[:, 1])
    return np.asarray(np.column_stack(columns), np.float64)


def _doubles(values: Any) -> Array | None:
    return None if values is None else np.asarray(values, np.float64)
