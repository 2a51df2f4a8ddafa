"""How well vectors find what belongs to them: recall, hits and reciprocal ranks of each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.embedding.recipe import TEXT
from modelkit.embedding.verbs import embed, is_encoder
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.columns import column_named
from modelkit.lifecycle.evaluation.digests import keys_of_rows
from modelkit.lifecycle.evaluation.figures import slice_texts
from modelkit.lifecycle.evaluation.metrics import METRICS, SEARCHED_AT
from modelkit.lifecycle.evaluation.rows import BACKGROUND_WORK, LabelledRows, Side
from modelkit.lifecycle.evaluation.task import positive_place, read_groups, read_weights
from modelkit.model.model import Model
from modelkit.signature import frames
from modelkit.stats.influence import ratio

AT_ONCE = 1 << 22  # cosines that are held


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
    answered = Answered(
        "retrieval",
        counts,
        weights=read_weights(rows.sample_weight, n, None),
        clusters=read_groups("clusters", rows.groups()["clusters"], n),
        gains=search_gains(vectors, corpus, relevant),
    )
    slices = {name: slice_texts(name, values, n)[asked] for name, values in rows.sliced().items()}
    alone = n - len(asked)
    words = f"{alone:,} texts are the only ones of their label and are not searched for"
    digest = _digest_of(vectors, corpus, relevant)
    return Side(rows, answered.at(asked), slices, None, digest, (words,) if alone else ())


def _digest_of(vectors: Array, corpus: Array | None, relevant: Sequence[Array]) -> str:
    named = np.array([str(places.tolist()) for places in relevant], object)
    shared = {} if corpus is None else {"corpus": corpus}
    return keys_of_rows({"relevant": named, "X": vectors}, shared).digest


def _vectors(model: Model, X: Any, role: str | None) -> Array:
    if is_encoder(model):
        table = isinstance(X, Mapping) or hasattr(X, "columns")
        texts = frames.as_column(column_named(X, TEXT, "X")).tolist() if table else X
        return embed(model.unobserved, texts, role=role, priority=BACKGROUND_WORK)
    if role is not None:
        raise UsageError(f"only an encoder of texts has roles such as {role!r}")
    vectors = model.unobserved.predict(X, priority=BACKGROUND_WORK)
    if vectors.ndim != 2:
        raise UsageError(f"vectors are (n, d); the model gives {vectors.shape}")
    return vectors


def relevant_of(y: Any, corpus_rows: int) -> list[Array]:
    """For each query, the places in the corpus of what is relevant. Raises UsageError.

    Args:
        y: for each query a place, or several.
        corpus_rows: the number of rows of the corpus.
    """
    found = []
    for row, places in enumerate(y):
        own = np.atleast_1d(np.asarray(places))
        whole = own.dtype.kind in "iu" and own.ndim == 1 and own.size > 0
        if not whole or own.min() < 0 or own.max() >= corpus_rows:
            raise UsageError(
                f"y[{row}] is {places!r:.60}; for a corpus of {corpus_rows:,} rows it is the place, "
                f"or the places, of what is relevant: integers from 0 to {corpus_rows - 1}"
            )
        found.append(np.unique(own))
    return found


def of_one_label(labels: Any) -> list[Array]:
    """For each row, the places of the others with its label."""
    codes = np.unique(frames.as_column(labels).astype(str), return_inverse=True)[1]
    ends = np.cumsum(np.bincount(codes))
    groups = np.split(np.argsort(codes, kind="stable"), ends[:-1])
    return [groups[code][groups[code] != row] for row, code in enumerate(codes)]


def search_gains(
    vectors: Array, corpus: Array | None, relevant: Sequence[Array]
) -> dict[str, Array]:
    """What each query found, by metric, (n,) each; by the cosine of the vectors.

    Args:
        vectors: of the queries, (n, d).
        corpus: of the rows to find, (m, d); None for the queries themselves, each without itself.
        relevant: for each query the places of what is relevant; a query without any gets NaN.
    """
    queries = _unit(vectors)
    rows = queries if corpus is None else _unit(corpus)
    found = np.full((len(queries), len(METRICS["retrieval"])), np.nan)
    step = max(1, AT_ONCE // len(rows))
    for start in range(0, len(queries), step):
        near = queries[start : start + step] @ rows.T
        for row, closeness in enumerate(near, start):
            if corpus is None:
                closeness[row] = -np.inf
            if len(relevant[row]):
                found[row] = _gains_of(closeness, relevant[row])
    return dict(zip(METRICS["retrieval"], found.T, strict=True))


def _gains_of(closeness: Array, relevant: Array) -> Array:
    """The figures of a query, in the order of the table."""
    own = closeness[relevant]
    # A relevant row comes after those that are closer, and after half of those as close.
    ordered = np.sort(closeness)
    upper = np.searchsorted(ordered, own, side="right")
    level = upper - np.searchsorted(ordered, own, side="left") - 1
    ranks = 1 + len(ordered) - upper + level / 2
    inside = np.less_equal(ranks, np.array(SEARCHED_AT)[:, None])
    return np.array([*inside.mean(axis=1), *inside.any(axis=1), 1 / ranks.min()])


def _unit(vectors: Array) -> Array:
    doubles = np.asarray(vectors, np.float64)
    return ratio(doubles, np.linalg.norm(doubles, axis=1, keepdims=True))
