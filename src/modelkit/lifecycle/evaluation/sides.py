"""The rows of one side, held out or trained on, with what the model answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.embedding.recipe import TEXT
from modelkit.embedding.verbs import embed, is_encoder
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered, TaskKind
from modelkit.lifecycle.evaluation.asking import answers_of, with_answers
from modelkit.lifecycle.evaluation.columns import (
    column_named,
    grouping_values,
    slice_columns,
    without_columns,
)
from modelkit.lifecycle.evaluation.digests import keys_of_feeds, keys_of_rows
from modelkit.lifecycle.evaluation.retrieval import of_one_label, relevant_of, search_gains
from modelkit.lifecycle.evaluation.task import positive_place, read_groups, read_task, read_weights
from modelkit.model.model import Model
from modelkit.signature import frames
from modelkit.signature.signature import Feeds


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
