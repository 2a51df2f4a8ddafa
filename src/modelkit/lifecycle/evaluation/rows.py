"""The rows of one side, held out or trained on, with what the model answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.progress import counted_off
from modelkit.embedding.recipe import TEXT
from modelkit.embedding.verbs import embed, is_encoder
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.columns import (
    column_named,
    grouping_values,
    slice_columns,
    without_columns,
)
from modelkit.lifecycle.evaluation.digests import keys_of_feeds, keys_of_rows
from modelkit.lifecycle.evaluation.retrieval import of_one_label, relevant_of, search_gains
from modelkit.lifecycle.evaluation.task import (
    class_places,
    positive_place,
    read_groups,
    read_task,
    read_weights,
)
from modelkit.model.model import Model, Outputs, make_call
from modelkit.signature import frames
from modelkit.signature.signature import Feeds, Signature, primary_of

CHUNK = 8192  # rows that are asked at once
WANTED = ("label", "probabilities", "scores", "prediction", "embedding")
BACKGROUND_WORK = -1  # the priority of what may wait


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows and all that `evaluate` was told of them, as the caller has it."""

    X: Any
    y: Any
    sample_weight: Any = None
    slices: Any = None
    clusters: Any = None
    queries: Any = None
    corpus: Any = None
    roles: tuple[str | None, str | None] = (None, None)
    also: tuple[str, ...] = ()
    positive: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.slices, str):  # one name is one column, as for clusters and queries
            object.__setattr__(self, "slices", [self.slices])

    @property
    def named(self) -> list[str]:
        """The columns of X that the caller names, for these rows or for others."""
        slices = [] if self.slices is None or isinstance(self.slices, dict) else list(self.slices)
        columns = [*slices, self.clusters, self.queries, *self.also]
        return [name for name in columns if isinstance(name, str)]


class Side(NamedTuple):
    """The rows of one side; `feeds` are what the model took, or None for texts that search."""

    rows: LabelledRows
    answered: Answered
    slices: dict[str, Any]
    feeds: Feeds | None
    data_digest: str
    notes: tuple[str, ...] = ()

    @property
    def named_clusters(self) -> Any:
        """The clusters of the rows where a column of theirs holds them, or None."""
        name = self.rows.clusters
        return column_named(self.rows.X, name, "clusters") if isinstance(name, str) else None


def answered_side(
    model: Model, rows: LabelledRows, kind: TaskKind, *, progress: bool = False
) -> Side:
    """Rows and what a model answers to them. Raises UsageError and SignatureError."""
    signature = model.signature
    slices = slice_columns(rows.X, rows.slices)
    task = read_task(
        kind,
        signature.classes,
        rows.y,
        sample_weight=rows.sample_weight,
        clusters=grouping_values(rows.X, rows.clusters, "clusters"),
        queries=grouping_values(rows.X, rows.queries, "queries"),
        positive=rows.positive,
    )
    feeds = signature.coerce(without_columns(rows.X, rows.named, signature))
    outputs = answers_of(model, feeds, progress=progress)
    answered = with_answers(task, outputs, signature.primary)
    return Side(rows, answered, slices, feeds, keys_of_feeds(feeds, signature, task.truth).digest)


def searched_side(model: Model, rows: LabelledRows) -> Side:
    """Queries and what an encoder finds for them. Raises UsageError and SignatureError."""
    positive_place("retrieval", None, rows.positive)
    vectors = _vectors(model, rows.X, rows.roles[0])
    n = len(vectors)
    if len(rows.y) != n:
        raise UsageError(f"y has {len(rows.y):,} rows, and X {n:,}")
    corpus = None if rows.corpus is None else _vectors(model, rows.corpus, rows.roles[1])
    relevant = of_one_label(rows.y) if corpus is None else relevant_of(rows.y, len(corpus))
    counts = np.array([len(places) for places in relevant])
    asked = np.flatnonzero(counts)
    if not len(asked):
        raise UsageError("no label of y is there twice, so nothing is to be found")
    gains = search_gains(vectors, corpus, relevant)
    clusters = read_groups("clusters", grouping_values(rows.X, rows.clusters, "clusters"), n)
    weights = read_weights(rows.sample_weight, n, None)
    answered = Answered("retrieval", counts, weights=weights, clusters=clusters, gains=gains)
    slices = {
        name: np.asarray(values, object)[asked]
        for name, values in slice_columns(rows.X, rows.slices).items()
    }
    notes: tuple[str, ...] = ()
    if len(asked) < n:
        notes = (
            f"{n - len(asked):,} texts are the only ones of their label and are not searched for",
        )
    named = np.array([str(places.tolist()) for places in relevant], object)
    shared = None if corpus is None else {"corpus": corpus}
    digest = keys_of_rows({"relevant": named, "X": vectors}, shared).digest
    return Side(rows, answered.at(asked), slices, None, digest, notes)


def _vectors(model: Model, X: Any, role: str | None) -> Array:
    if is_encoder(model):
        table = isinstance(X, Mapping) or hasattr(X, "columns")
        texts = frames.as_column(column_named(X, TEXT, "X")).tolist() if table else X
        return embed(model.unobserved, texts, role=role, priority=-1)
    if role is not None:
        raise UsageError(f"only an encoder of texts has roles such as {role!r}")
    vectors = model.unobserved.predict(X, priority=-1)
    if vectors.ndim != 2:
        raise UsageError(f"vectors are (n, d); the model gives {vectors.shape}")
    return vectors


def training_rows(train: Any, rows: LabelledRows, kind: TaskKind) -> LabelledRows:
    """The rows the model was trained on, told as the others are. Raises UsageError."""
    if kind == "retrieval":
        raise UsageError("an encoder is evaluated by queries; it has no train=(X, y)")
    weighted = rows.sample_weight is not None
    if not isinstance(train, tuple | list) or len(train) != 2 + weighted:
        form = "(X, y, weights), since the other rows have weights" if weighted else "(X, y)"
        raise UsageError(f"train is a tuple {form}, not {type(train).__name__} of other parts")
    X, y, *weights = train
    if rows.queries is not None and not isinstance(rows.queries, str):
        raise UsageError("with train=, name the column of X that holds the queries")
    return replace(
        rows,
        X=X,
        y=y,
        sample_weight=weights[0] if weights else None,
        slices=None,
        also=tuple(rows.named),
        clusters=rows.clusters if isinstance(rows.clusters, str) else None,
    )


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
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


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
