"""Vectors of fewer bits, and the nearest among them."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.fields import check_integer
from modelkit.embedding.pooling import unit
from modelkit.errors import UsageError

PRECISIONS = ("float32", "int8", "ubinary")
ROWS = 4096  # that are decoded at once, in the cache of a core
COSINES = 1 << 24  # that are held: 64 MiB


def quantize_embeddings(vectors: Array, precision: str) -> Array:
    """Vectors of fewer bits: a quarter of the size as int8, a thirty-second as bits.

        vectors = encoder.embed(["a text", "another one"])
        codes = mk.quantize_embeddings(vectors, "ubinary")

    Each vector is treated by itself, so that new ones fit those from before. Unlike the int8
    vectors of sentence-transformers, these need no ranges of a calibration.

    Args:
        vectors: float32, (n, d).
        precision: "int8", where the largest number of a vector becomes 127 or -127, the others in
            proportion; "ubinary", one bit a number, 1 where it is above 0; or "float32".

    Returns:
        int8 (n, d); uint8 (n, d / 8, rounded up), the first number in the highest bit, as
        `np.packbits` has them; or float32 (n, d).

    Raises:
        UsageError: for another precision, and for what is not vectors of numbers.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is one of {list(PRECISIONS)}, not {precision!r}")
    (given,) = _numbers(vectors)
    found = given.astype(np.float32, copy=False)
    if precision == "float32":
        return found
    if given.dtype == np.uint8 or not np.isfinite(found).all():
        raise UsageError("codes are made of finite numbers, not of uint8, which codes of bits are")
    if precision == "ubinary":
        return np.packbits(found > 0, axis=1)
    largest = np.abs(found).max(axis=1, keepdims=True, initial=0)
    return np.rint(found / np.where(largest > 0, largest, 1) * 127).astype(np.int8)


def semantic_search(
    queries: Array,
    vectors: Array,
    k: int = 10,
    *,
    rescore: Array | None = None,
    multiplier: int = 4,
) -> tuple[Array, Array]:
    """The `k` nearest vectors of each query by their cosine, by comparison with all of them.

        vectors = encoder.embed(["a text", "another one"])
        codes = mk.quantize_embeddings(vectors, "ubinary")
        queries = encoder.embed(["a question"], role="query")
        places, cosines = mk.semantic_search(queries, codes, k=1, rescore=vectors)

    A query of float32 is compared with codes as they are, which finds more than to make a code of
    the query too. Beyond some hundred thousand vectors, use an index.

    Args:
        queries: float32, (m, d).
        vectors: (n, d) or codes of `quantize_embeddings`; a memory map too, of which 4,096 rows
            are read at a time.
        k: how many to find.
        rescore: the same vectors in a higher precision, such as a memory map of float32 or int8:
            the nearest `multiplier` times `k` are put in order by these.
        multiplier: how many more are looked at where there is `rescore`.

    Returns:
        The places in `vectors`, int64, and the cosines, float32, both (m, k), the nearest first;
        fewer columns where there are fewer vectors. A vector of zeros has the cosine 0, and one with
        NaN has NaN and comes last.

    Raises:
        UsageError: for what is not vectors of numbers, shapes that do not fit, queries of uint8,
            and a `k` or `multiplier` below 1.
    """
    asked, rows, better = _numbers(queries, vectors, vectors if rescore is None else rescore)
    check_integer("k", k, 1)
    check_integer("multiplier", multiplier, 1)
    if asked.dtype == np.uint8 or len(rows) != len(better):
        raise UsageError(
            "queries are vectors, not uint8, which codes of bits are, and rescore has as many rows "
            f"as vectors; got {asked.dtype}, {len(better):,} and {len(rows):,}"
        )
    kept = min(len(rows), k if rescore is None else k * multiplier)
    if not kept:
        return np.empty((len(asked), 0), np.int64), np.empty((len(asked), 0), np.float32)
    asked = asked.astype(np.float32, copy=False)
    step = max(1, COSINES // len(rows))
    starts = range(0, max(1, len(asked)), step)
    parts = [_nearest(unit(asked[at : at + step]), rows, better, kept) for at in starts]
    places, cosines = map(np.concatenate, zip(*parts, strict=True))
    return places[:, :k], cosines[:, :k]


def _numbers(*given: Any) -> list[Array]:
    """Arrays of numbers, (n, d). Raises UsageError."""
    try:
        arrays = [np.asarray(each) for each in given]
    except ValueError as error:
        raise UsageError(f"vectors are numbers, (n, d): {error}") from error
    for array in arrays:
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise UsageError(f"vectors are numbers, (n, d), not {array.dtype} {array.shape}")
    return arrays


def _nearest(queries: Array, rows: Array, better: Array, kept: int) -> tuple[Array, Array]:
    """The places and cosines of the nearest `rows` of each query, in the order of the `better`."""
    starts = range(0, len(rows), ROWS)
    found = np.hstack([queries @ _decoded(rows[at : at + ROWS], queries).T for at in starts])
    places = np.argpartition(-found, kept - 1, axis=1)[:, :kept]
    cosines = np.take_along_axis(found, places, 1)
    for row, query, near in zip(cosines, queries, places, strict=True):
        row[:] = _decoded(better[near], queries) @ query
    order = np.lexsort((places, -cosines))
    return np.take_along_axis(places, order, 1), np.take_along_axis(cosines, order, 1)


def _decoded(rows: Array, queries: Array) -> Array:
    """Vectors of length 1, float32, as long as the queries. Raises UsageError."""
    numbers = queries.shape[1]
    if rows.dtype == np.uint8 and rows.shape[1] == -(-numbers // 8):
        rows = np.unpackbits(rows, axis=1, count=numbers) * np.float32(2) - 1
    if rows.shape[1] != numbers:
        raise UsageError(
            f"queries have {numbers:,} numbers, and {rows.dtype} vectors {rows.shape[1]:,}"
        )
    return unit(rows.astype(np.float32, copy=False))
