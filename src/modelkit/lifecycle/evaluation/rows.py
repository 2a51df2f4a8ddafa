"""The rows of one side, held out or trained on, with what the model answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.progress import counted_off
from modelkit.errors import SignatureError, UsageError
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.columns import column_named, without_columns
from modelkit.lifecycle.evaluation.digests import keys_of_feeds
from modelkit.lifecycle.evaluation.task import class_places, read_task
from modelkit.model.model import Model, Outputs, make_call
from modelkit.signature.refusing import moved
from modelkit.signature.signature import Feeds, Signature, primary_of

CHUNK = 8192  # rows that are asked at once
WANTED = ("label", "probabilities", "scores", "prediction", "embedding")
BACKGROUND_WORK = -1  # the priority of what may wait


@dataclass(frozen=True, eq=False)
class LabelledRows:
    """Rows, their truth and what else belongs to them, as the caller of `evaluate` or `gate` has it.

    `also` are columns of X that are named for other rows, and that the model does not take either.
    """

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
        slices = () if isinstance(self.slices, Mapping) else self.slices or ()
        columns = [*slices, self.clusters, self.queries, *self.also]
        return [name for name in columns if isinstance(name, str)]

    def groups(self) -> dict[str, Any]:
        """The values of clusters and queries, (n,) or None. Raises UsageError."""
        groups = {"clusters": self.clusters, "queries": self.queries}
        return {
            what: column_named(self.X, values, what) if isinstance(values, str) else values
            for what, values in groups.items()
        }

    def sliced(self) -> dict[str, Any]:
        """The values (n,) of each column to slice by, by its name. Raises UsageError."""
        slices = self.slices
        if isinstance(slices, Mapping):
            return {str(name): values for name, values in slices.items()}
        names = slices or ()
        if not all(isinstance(name, str) for name in names):
            raise UsageError(
                f"slices is a list of names of columns, or a dict of values by name, not {slices!r:.80}"
            )
        return {name: column_named(self.X, name, "slices") for name in names}

    def task(self, kind: TaskKind, classes: tuple[Any, ...] | None) -> Answered:
        """The rows with their truth, before a model has answered them. Raises UsageError."""
        weight = self.sample_weight
        return read_task(
            kind, classes, self.y, sample_weight=weight, positive=self.positive, **self.groups()
        )

    def feeds(self, signature: Signature) -> Feeds:
        """The rows as a model takes them, without columns that are only named here."""
        return signature.coerce(without_columns(self.X, self.named, signature))


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
        return self.rows.groups()["clusters"] if isinstance(self.rows.clusters, str) else None


def answered_side(model: Model, rows: LabelledRows, kind: TaskKind) -> Side:
    """Rows and what a model answers to them. Raises UsageError and SignatureError."""
    signature = model.signature
    slices = rows.sliced()
    task = rows.task(kind, signature.classes)
    feeds = rows.feeds(signature)
    answered = with_answers(task, answers_of(model, feeds), signature.primary)
    return Side(rows, answered, slices, feeds, keys_of_feeds(feeds, signature, task.truth).digest)


def training_rows(train: Any, rows: LabelledRows, kind: TaskKind) -> LabelledRows:
    """The rows the model was trained on, described as the others are. Raises UsageError."""
    if kind == "retrieval":
        raise UsageError("an encoder is evaluated by queries; leave out train=(X, y)")
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


def answers_of(model: Model, feeds: Feeds) -> Outputs:
    """The outputs that metrics are made of, for rows that the model's signature has coerced.

    A Monitor or a Meter around the model does not see the rows.
    """
    model._check_access("predict")
    signature = model.signature
    names = wanted_outputs(signature)
    run = partial(model.unobserved._run, outputs=names, call=make_call(None, BACKGROUND_WORK, None))
    n = signature.count(feeds)
    if signature.batch is None or n <= CHUNK:
        return run(feeds)
    parts = []
    for start in counted_off(range(0, n, CHUNK), "evaluate", "batch"):
        places = np.arange(start, min(start + CHUNK, n))
        try:
            parts.append(run(signature.take(feeds, places)))
        except SignatureError as error:  # its rows are those of all
            raise moved(error, start) from None
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
    n = len(task)
    for name, values in outputs.items():
        if len(values) != n:
            raise UsageError(f"y has {n:,} rows, and the model gave {len(values):,} of {name!r}")
    if task.kind in ("binary", "multiclass"):
        return _classes(task, outputs)
    if task.kind == "multilabel":
        return _labels(task, outputs)
    wanted = "label" if task.kind == "clustering" else "prediction"
    found = outputs.get(wanted, outputs.get(primary or wanted))
    if found is None:
        raise UsageError(f"the model lacks the output {wanted!r}; it gives {list(outputs)}")
    if task.kind == "clustering":
        return replace(task, predicted=found)
    doubles = np.asarray(found, np.float64).reshape(n, -1)
    if task.kind == "ranking":
        if doubles.shape[1] != 1:
            raise UsageError(f"a ranking goes by one score a row, not by {found.shape}")
        return replace(task, scores=doubles[:, 0])
    if doubles.shape != task.truth.shape:
        raise UsageError(f"y has the shape {task.truth.shape}, and the predictions {doubles.shape}")
    return replace(task, predicted=doubles)


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
    pairs = [outputs.get(f"probabilities_{at}") for at in range(predicted.shape[1])]
    probabilities = _doubles(outputs.get("probabilities"))
    if probabilities is None and all(
        pair is not None and pair.shape[1] in (1, 2) for pair in pairs
    ):
        # A label of which the training rows had one value has one column, of 1 for this value.
        columns = [
            label if pair is None or pair.shape[1] == 1 else pair[:, 1]
            for label, pair in zip(predicted.T, pairs, strict=True)
        ]
        probabilities = np.asarray(np.column_stack(columns), np.float64)
    scores = _doubles(outputs.get("scores")) if probabilities is None else probabilities
    return replace(task, predicted=predicted, probabilities=probabilities, scores=scores)


def _doubles(values: Any) -> Array | None:
    return None if values is None else np.asarray(values, np.float64)
