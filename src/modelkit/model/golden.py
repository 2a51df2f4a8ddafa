"""Golden rows: inputs and their outputs at save time, which `Model.verify` replays.

They are drawn at random within the range of each column, never copied from the example, but for
what is no row: a tensor without a dimension of rows that holds one value throughout, such as a
sampling rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.npz import pack_arrays, unpack_arrays
from modelkit.errors import PackageError, SignatureError
from modelkit.signature.cast import MISSING
from modelkit.signature.signature import Feeds, Signature, with_none
from modelkit.signature.spec import MIXED, TensorSpec, check_dims, numpy_dtype

GOLDEN = "golden"  # of attachments, the names
BACKGROUND = "background"
GOLDEN_ROWS = 16
FREE_SIZE = 4  # of named dimensions other than that of the rows
WARM_BYTES = 2 << 30  # of the inputs of one run that warms up
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
    known = check_dims(signature.inputs, example)
    for rows in dict.fromkeys((GOLDEN_ROWS, signature.count(example))):
        sizes = _limited(signature, rows, known, FREE_SIZE, most)
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
    known = spec.columns[0].categories if spec.columns else None
    values = list(known or ("a", "b"))
    if spec.columns and spec.columns[0].dtype == MIXED:
        values = list(known or ('"a"', "1"))
    if spec.columns and spec.columns[0].nullable:
        values.append(MISSING)
    places = rng.integers(0, len(values), shape)
    return np.array(values, dtype=object)[places]


def _range(example: Array, axis: int | None) -> tuple[Any, Any]:
    """The least and the most of an example at each place of its rows.

    They are those of all places where these are all the same, or where no axis counts rows.
    """
    if not example.size:
        return 0.0, 1.0
    if example.dtype.kind in "mM":
        known = example[~np.isnat(example)].view(np.int64)
        return (known.min(), known.max()) if known.size else (0.0, 1.0)
    with np.errstate(all="ignore"):
        finite = np.where(np.isfinite(example), example, 0)
    low = finite.min(axis=axis, keepdims=True)
    high = finite.max(axis=axis, keepdims=True)
    if axis is None or np.array_equal(low, high):
        return finite.min(), finite.max()
    return low, high


def encode_rows(feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> bytes:
    """Rows, and a model's answers to them, as an npz without pickled objects.

    A missing text, None in an answer, is written as it is in rows.
    """
    arrays = {f"in{at}": array for at, array in enumerate(feeds.values())}
    arrays |= {f"out{at}": _without_none(array) for at, array in enumerate(outputs.values())}
    return pack_arrays(arrays)


def _without_none(answer: Array) -> Array:
    if answer.dtype != object:
        return answer
    texts = answer.copy()
    texts[texts == np.array(None)] = MISSING
    return texts


def decode_golden(data: bytes | memoryview, signature: Signature) -> tuple[Feeds, dict[str, Array]]:
    """The inverse of `encode_rows`.

    Raises PackageError for anything but plain arrays that the signature describes.
    """
    arrays = _arrays(data, GOLDEN)
    feeds = _tensors(arrays, "in", signature.inputs, GOLDEN)
    outputs = _tensors(arrays, "out", signature.outputs, GOLDEN)
    _check_sizes(signature, (*signature.inputs, *signature.outputs), feeds | outputs, GOLDEN)
    texts = [name for name, answer in outputs.items() if answer.dtype == object]
    return feeds, outputs | {name: with_none(outputs[name]) for name in texts}


def decode_rows(data: bytes | memoryview, signature: Signature, name: str) -> Feeds:
    """Rows that were encoded without outputs, as feeds; `name` is the attachment they are from.

    Raises PackageError.
    """
    feeds = _tensors(_arrays(data, name), "in", signature.inputs, name)
    _check_sizes(signature, signature.inputs, feeds, name)
    return feeds


def _tensors(
    arrays: Mapping[str, Array], kind: str, specs: Sequence[TensorSpec], name: str
) -> dict[str, Array]:
    """Each tensor's array, which must have its dtype, its rank and its fixed sizes.

    Raises PackageError.
    """
    found: dict[str, Array] = {}
    for at, spec in enumerate(specs):
        array = arrays.get(f"{kind}{at}")
        if array is None:
            raise PackageError(
                f"the attachment {name!r} lacks the array '{kind}{at}' of {spec}", member=name
            )
        if array.dtype != numpy_dtype(spec.dtype) or not spec.fits(array.shape):
            raise PackageError(
                f"the attachment {name!r} has {array.dtype} of shape {array.shape} for {spec}",
                member=name,
            )
        found[spec.name] = array
    return found


def _check_sizes(
    signature: Signature, specs: Sequence[TensorSpec], arrays: Mapping[str, Array], name: str
) -> None:
    """Raise PackageError where a dimension has two sizes, and where there are no rows."""
    try:
        sizes = check_dims(specs, arrays)
    except SignatureError as error:
        raise PackageError(
            f"the attachment {name!r} is of several sizes: {error}", member=name
        ) from error
    if signature.batch is not None and not sizes[signature.batch]:
        raise PackageError(f"the attachment {name!r} has no rows", member=name)


def repeated(feeds: Feeds, sizes: Sequence[int], signature: Signature) -> Iterator[Feeds]:
    """Golden rows in batches of these sizes, over and over where they are fewer; as they are without.

    Raises PackageError where a batch would be too large.
    """
    rows = signature.count(feeds)
    for size in sizes or (rows,):
        check_warmth(feeds, rows, size)
        if size == rows:
            yield feeds
        else:
            yield signature.take(feeds, np.arange(size) % max(rows, 1))


def check_warmth(feeds: Feeds, rows: int, size: int) -> None:
    """Raise PackageError where golden rows, repeated to `size` rows, are too much for one run."""
    held = sum(feed.nbytes for feed in feeds.values())
    needed = held * size // max(rows, 1)
    if needed > WARM_BYTES:
        raise PackageError(
            f"a batch of {size} golden rows has {needed} bytes; {WARM_BYTES} are run at most",
            member=GOLDEN,
        )


def _arrays(data: bytes | memoryview, name: str) -> dict[str, Array]:
    try:
        arrays = unpack_arrays(data)
    except Exception as error:
        raise PackageError(
            f"the attachment {name!r} cannot be read: {error}", member=name
        ) from error
    for key, array in arrays.items():
        if array.dtype.kind == "U":
            arrays[key] = array.astype(object)
    return arrays
