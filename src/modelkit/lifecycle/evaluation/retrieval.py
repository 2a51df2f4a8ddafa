"""How well vectors find what belongs to them: recall, hits and reciprocal ranks of each query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.metrics import METRICS, SEARCHED_AT
from modelkit.signature import frames
from modelkit.stats.influence import ratio

AT_ONCE = 1 << 22  # cosines that are held


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
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    found: list[Array] = [np.empty(0, np.int64)] * len(codes)
    for group in groups:
        for row in group.tolist():
            found[row] = group[group != row]
    return found


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
    n = len(queries)
    gains = {name: np.full(n, np.nan) for name in METRICS["retrieval"]}
    step = max(1, AT_ONCE // len(rows))
    for start in range(0, n, step):
        places = range(start, min(start + step, n))
        near = queries[start : places[-1] + 1] @ rows.T
        for row, closeness in zip(places, near, strict=True):
            if corpus is None:
                closeness[row] = -np.inf
            if len(relevant[row]):
                _note(gains, row, closeness, relevant[row])
    return gains


def _note(gains: dict[str, Array], row: int, closeness: Array, relevant: Array) -> None:
    own = closeness[relevant]
    # A relevant row comes after those that are closer, and after half of those as close.
    ordered = np.sort(closeness)
    upper = np.searchsorted(ordered, own, side="right")
    level = upper - np.searchsorted(ordered, own, side="left") - 1
    ranks = 1 + len(ordered) - upper + level / 2
    for k in SEARCHED_AT:
        inside = ranks <= k
        gains[f"recall@{k}"][row] = inside.mean()
        gains[f"hit@{k}"][row] = inside.any()
    gains["mean_reciprocal_rank"][row] = 1 / ranks.min()


def _unit(vectors: Array) -> Array:
    doubles = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(doubles, axis=1, keepdims=True)
    return ratio(doubles, lengths)
