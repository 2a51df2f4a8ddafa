"""Refuse a vectorizer of n-grams whose lists do not fit each other: onnxruntime takes it for granted that they do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelkit.cast import Array
from modelkit.errors import GraphError

OPERATOR = "TfIdfVectorizer"
LISTS = ("ngram_counts", "ngram_indexes", "pool_int64s")
STRINGS = "pool_strings"
MOST = 1 << 24  # numbers of a row of the answer


def check_grams(lists: Mapping[str, Array]) -> None:
    """Raise GraphError unless each n-gram of its pool of words or numbers has a column of the answer.

    `ngram_counts` says where the pairs begin behind the single words, the triples behind the pairs,
    and so on; `ngram_indexes` the column of each n-gram.
    """
    empty = np.zeros(0, np.int64)
    starts, columns = (lists.get(name, empty).astype(np.int64) for name in LISTS[:2])
    pool = len(lists.get(LISTS[2], empty)) + len(lists.get(STRINGS, empty))
    sizes = np.diff(starts, append=pool)
    lengths = np.arange(1, len(sizes) + 1)
    if not len(starts) or starts[0] or (sizes < 0).any() or (sizes % lengths).any():
        raise GraphError(f"its ngram_counts {starts[:8].tolist()} do not divide a pool of {pool}")
    if (sizes // lengths).sum() != len(columns):
        raise GraphError(
            f"it has {(sizes // lengths).sum()} n-grams, and ngram_indexes for {len(columns)}"
        )
    if columns.size and (columns.min() < 0 or columns.max() >= MOST):
        raise GraphError("one of its ngram_indexes is negative, or beyond what a row may have")
