"""Rows drawn at random, which are stored as golden rows and which a graph is tried on.

They are within the range of each column, never copied from the example, except for what is not a row: a
tensor without a dimension of rows that holds one value throughout, such as a sampling rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.cast import MISSING
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import MIXED, TensorSpec, check_dims, numpy_dtype

GOLDEN_ROWS = 16
FREE_SIZE = 4  # of named dimensions other than that of the rows
DRAWN_BYTES = 64 << 20  # of an input whose sizes are tried: several may be free
MAX_INPUT_BYTES = 1 << 20  # of an input, unless one row has more
# Rows, and the size of other open dimensions, that are tried where no example tells them. Images
# halve their sizes five times on their way through a graph; where nothing is named, what must be
# equal is so when all sizes are.
SIZES = (
    (GOLDEN_ROWS, FREE_SIZE),
    (1, FREE_SIZE),
    (64, 64),
    (1, 64),
    (320, 320),
    (1, 320),
    (1, 640),
)
MOST_CODES = 64  # values of a column that are taken for codes
LONGEST_TERM = 64  # letters of a term that texts are drawn from


def draws(
    signature: Signature, example: Feeds | None, most: int = MAX_INPUT_BYTES
) -> Iterator[Feeds]:
    """Random rows that the signature accepts, in one size after another until one suits the graph.

    The seed is fixed, so that equal packages have equal bytes. With an example, open dimensions
    have its sizes, and there are 16 rows, or as many as it has. There are fewer where an input
    would have more than `most` bytes.
    """
    if example is None:
        for rows, size in SIZES:
            sizes = _limited(signature, rows, {}, size, most)
            largest = max(_byte_size(spec, sizes, size) for spec in signature.inputs)
            if size > FREE_SIZE and largest > DRAWN_BYTES:
                continue
            yield _draw_all(signature, None, sizes, size)
        return
    example_sizes = check_dims(signature.inputs, example)
    for rows in dict.fromkeys((GOLDEN_ROWS, signature.count(example))):
        sizes = _limited(signature, rows, example_sizes, FREE_SIZE, most)
        yield _draw_all(signature, example, sizes, FREE_SIZE)


def _limited(
    signature: Signature, rows: int, sizes: Mapping[str, int], free: int, most: int
) -> dict[str, int]:
    """The sizes with a number of rows that is at most `rows`."""
    row_dim = signature.row_dim or ""  # which no dimension is called
    one = {**sizes, row_dim: 1}
    counted = [spec for spec in signature.inputs if row_dim in spec.shape]
    largest = max((_byte_size(spec, one, free) for spec in counted), default=1)
    fitting = most // max(largest, 1)
    return {**sizes, row_dim: max(1, min(rows, fitting))}


def _draw_all(
    signature: Signature, example: Feeds | None, sizes: dict[str, int], free: int
) -> Feeds:
    """One draw; open dimensions without a size in `sizes` have the size `free`."""
    rng = np.random.default_rng(0)
    feeds: Feeds = {}
    for spec in signature.inputs:
        shape = _sized(spec, sizes, free)
        if example is None:
            feeds[spec.name] = _draw(spec, shape, None, rng)
            continue
        counts = signature.row_dim in spec.shape
        axis = spec.shape.index(signature.row_dim) if counts else None
        between = _range(example[spec.name], axis) if spec.dtype != "string" else None
        feeds[spec.name] = _draw(spec, shape, between, rng)
        if signature.refusals and spec.columns and spec.dtype != "string":
            _draw_codes(feeds[spec.name], example[spec.name], rng)
    return feeds


def _draw_codes(drawn: Array, example: Array, rng: np.random.Generator) -> None:
    """Draw each column of an example of few values again: a step may refuse all others."""
    for at, column in enumerate(example.T):
        values = np.unique(column[np.isfinite(column)])
        if 0 < len(values) <= min(MOST_CODES, len(column) // 2):
            drawn[:, at] = rng.choice(values, len(drawn))


def draw_texts(vocabulary: Sequence[str], rows: int) -> Array:
    """A column of texts, (rows, 1), each of up to 12 terms that a model knows, drawn at random."""
    rng = np.random.default_rng(0)
    short = [term for term in vocabulary if len(term) <= LONGEST_TERM] or [""]
    texts = np.empty((rows, 1), object)
    for row, size in enumerate(rng.integers(0, 13, rows)):
        chosen = [short[at] for at in rng.integers(0, len(short), size)]
        texts[row, 0] = " ".join(chosen).rstrip("\0")  # which numpy takes for the end of a string
    return texts


def _sized(spec: TensorSpec, sizes: Mapping[str, int], free: int) -> tuple[int, ...]:
    return tuple(sizes.get(dim, free) if isinstance(dim, str) else dim for dim in spec.shape)


def _byte_size(spec: TensorSpec, sizes: Mapping[str, int], free: int) -> int:
    return numpy_dtype(spec.dtype).itemsize * prod(_sized(spec, sizes, free))


def _draw(
    spec: TensorSpec,
    shape: tuple[int, ...],
    between: tuple[Any, Any] | None,
    rng: np.random.Generator,
) -> Array:
    """Random values of a tensor; numbers lie `between` the ends, by default around 0."""
    dtype = numpy_dtype(spec.dtype)
    if dtype.kind == "O":
        return _draw_strings(spec, shape, rng)
    if dtype.kind in "mM":
        whole = TensorSpec(spec.name, "int64", spec.shape)
        return _draw(whole, shape, between, rng).view(dtype)
    if between is None:
        between = (-1.0 if dtype.kind == "f" else 0.0, 1.0)
    low, high = between
    drawn = low + (np.asarray(high, np.float64) - low) * rng.random(shape)
    for at, column in enumerate(spec.columns):
        if column.categories:
            codes = np.asarray(column.categories, np.float64)
            drawn[:, at] = codes[rng.integers(0, len(codes), len(drawn))]
    if dtype.kind != "f":
        drawn = np.rint(drawn)
    return np.asarray(drawn).astype(dtype)


def _draw_strings(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    categories = spec.columns[0].categories if spec.columns else None
    values = list(categories or ("a", "b"))
    if spec.columns and spec.columns[0].dtype == MIXED:
        values = list(categories or ('"a"', "1"))
    if spec.columns and spec.columns[0].nullable:
        values.append(MISSING)
    places = rng.integers(0, len(values), shape)
    return np.array(values, dtype=object)[places]


def _range(example: Array, axis: int | None) -> tuple[Any, Any]:
    """The least and the most of an example at each place of its rows.

    One range counts for all places where all have the same, or where no axis counts rows.
    """
    if not example.size:
        return 0.0, 1.0
    if example.dtype.kind in "mM":
        times = example[~np.isnat(example)].view(np.int64)
        return (times.min(), times.max()) if times.size else (0.0, 1.0)
    with np.errstate(all="ignore"):
        finite = np.where(np.isfinite(example), example, 0)
    low = finite.min(axis=axis, keepdims=True)
    high = finite.max(axis=axis, keepdims=True)
    if axis is None or np.array_equal(low, high):
        return finite.min(), finite.max()
    return low, high
