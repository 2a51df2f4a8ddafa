"""Refuse a vectorizer of n-grams whose lists do not fit each other; onnxruntime does not look."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import GraphError

OPERATOR = "TfIdfVectorizer"
COUNTS = "ngram_counts"
INDEXES = "ngram_indexes"
POOL_INTEGERS = "pool_int64s"
POOL_STRINGS = "pool_strings"
INTEGER_LISTS = (COUNTS, INDEXES, POOL_INTEGERS)
MAX_COLUMNS = 1 << 24  # numbers of a row of the answer


def check_grams(lists: Mapping[str, Array]) -> None:
    """Raise GraphError unless each n-gram of the pool of words or numbers has a column.

    `ngram_counts` says where the pairs begin behind the single words, the triples behind the pairs,
    and so on; `ngram_indexes` the column of each n-gram in the answer.
    """
    starts = _integers(lists, COUNTS)
    columns = _integers(lists, INDEXES)
    pool = len(lists.get(POOL_INTEGERS, ())) + len(lists.get(POOL_STRINGS, ()))
    grams = _count_grams(starts, pool)
    if grams != len(columns):
        raise GraphError(f"it has {grams} n-grams, and ngram_indexes for {len(columns)}")
    if columns.size and (columns.min() < 0 or columns.max() >= MAX_COLUMNS):
        raise GraphError("one of its ngram_indexes is negative, or beyond what a row may have")


def _integers(lists: Mapping[str, Array], name: str) -> Array:
    return np.asarray(lists.get(name, ()), np.int64)


def _count_grams(starts: Array, pool: int) -> int:
    """How many n-grams a pool has; those of each length begin at `starts`. Raises GraphError."""
    sizes = np.diff(starts, append=pool)
    lengths = np.arange(1, len(sizes) + 1)
    divided = len(starts) and not starts[0] and (sizes >= 0).all()
    if not divided or (sizes % lengths).any():
        raise GraphError(f"its ngram_counts {starts[:8].tolist()} do not divide a pool of {pool}")
    return int((sizes // lengths).sum())
