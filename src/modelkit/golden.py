"""Golden rows: inputs and the outputs they gave at save time, kept in the package and replayed by `Model.verify`.

They are drawn at random within the range of each column, never copied from the example.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np

from modelkit.cast import MISSING, Array
from modelkit.errors import PackageError, SignatureError
from modelkit.signature import Feeds, Signature
from modelkit.spec import TensorSpec, check_dims, numpy_dtype

NAME = "golden"
MEDIA_TYPE = "application/x-npz"
ROWS = 16
FREE_SIZE = 4  # of named dimensions other than the batch
MAX_BYTES = 1 << 20
WARM_BYTES = 2 << 30  # of the inputs of one run


def draw(signature: Signature, example: Feeds | None) -> Feeds:
    """Up to 16 random rows that the signature accepts; a fixed seed, so that equal packages have equal bytes."""
    rng = np.random.default_rng(0)
    return {spec.name: _draw(spec, None if example is None else example[spec.name], rng) for spec in signature.inputs}


def _draw(spec: TensorSpec, example: Array | None, rng: np.random.Generator) -> Array:
    dtype = numpy_dtype(spec.dtype)
    named = [ROWS if axis == 0 else FREE_SIZE for axis in range(len(spec.shape))]
    shape = tuple(named[axis] if isinstance(dim, str) else dim for axis, dim in enumerate(spec.shape))
    if dtype.kind != "O" and spec.shape and spec.shape[0] != shape[0]:
        row = dtype.itemsize * int(np.prod(shape[1:], initial=1))
        shape = (max(1, min(shape[0], MAX_BYTES // max(row, 1))), *shape[1:])
    if dtype.kind == "O":
        known = spec.columns[0].categories if spec.columns else None
        values = list(known or ("a", "b")) + ([MISSING] if spec.columns and spec.columns[0].nullable else [])
        return np.array(values, dtype=object)[rng.integers(0, len(values), shape)]
    if example is not None and example.ndim == len(shape) and example.shape[1:] == shape[1:]:
        with np.errstate(all="ignore"):
            finite = np.where(np.isfinite(example), example, 0)
        low, high = finite.min(axis=0), finite.max(axis=0)
    else:
        low, high = np.asarray(-1 if dtype.kind == "f" else 0), np.asarray(1)
    drawn = low + (np.asarray(high, np.float64) - low) * rng.random(shape)
    for at, column in enumerate(spec.columns):
        if column.categories:
            drawn[:, at] = np.asarray(column.categories, np.float64)[
                rng.integers(0, len(column.categories), len(drawn))
            ]
    return np.asarray(drawn if dtype.kind == "f" else np.rint(drawn)).astype(dtype)


def encode(feeds: Mapping[str, Array], outputs: Mapping[str, Array]) -> bytes:
    """An npz without pickled objects: strings become fixed-width unicode."""
    arrays = {f"in{i}": a for i, a in enumerate(feeds.values())} | {
        f"out{i}": a for i, a in enumerate(outputs.values())
    }
    file = io.BytesIO()
    np.savez(file, **{name: a.astype(str) if a.dtype == object else a for name, a in arrays.items()})  # type: ignore[arg-type]
    return file.getvalue()


def decode(data: bytes | memoryview, signature: Signature) -> tuple[Feeds, dict[str, Array]]:
    """The inverse of `encode`. Raises PackageError for anything but plain arrays that the signature describes."""
    arrays = _read(data, NAME)
    feeds = _named(arrays, "in", signature.inputs, NAME)
    outputs = _named(arrays, "out", signature.outputs, NAME)
    _check_sizes(signature, (*signature.inputs, *signature.outputs), feeds | outputs, NAME)
    return feeds, outputs


def decode_rows(data: bytes | memoryview, signature: Signature, name: str) -> Feeds:
    """Rows that were encoded without outputs, as feeds; `name` is the attachment they are from. Raises PackageError."""
    feeds = _named(_read(data, name), "in", signature.inputs, name)
    _check_sizes(signature, signature.inputs, feeds, name)
    return feeds


def _named(arrays: Mapping[str, Array], kind: str, specs: Sequence[TensorSpec], name: str) -> dict[str, Array]:
    """Each tensor's array, which must have its dtype, its rank and its fixed sizes. Raises PackageError."""
    found: dict[str, Array] = {}
    for at, spec in enumerate(specs):
        array = arrays.get(f"{kind}{at}")
        if array is None:
            raise PackageError(f"the attachment {name!r} lacks the array '{kind}{at}' of {spec}", member=name)
        if array.dtype != numpy_dtype(spec.dtype) or not spec.fits(array.shape):
            raise PackageError(
                f"the attachment {name!r} has {array.dtype} of shape {array.shape} for {spec}", member=name
            )
        found[spec.name] = array
    return found


def _check_sizes(signature: Signature, specs: Sequence[TensorSpec], arrays: Mapping[str, Array], name: str) -> None:
    """Raise PackageError where a dimension has two sizes, and where there are no rows."""
    try:
        sizes = check_dims(specs, arrays)
    except SignatureError as error:
        raise PackageError(f"the attachment {name!r} is of several sizes: {error}", member=name) from error
    if signature.batch is not None and not sizes[signature.batch]:
        raise PackageError(f"the attachment {name!r} has no rows", member=name)


def check_warmth(feeds: Feeds, rows: int) -> None:
    """Raise PackageError where golden rows, repeated to so many, are more than a run is given to warm up."""
    size = sum(feed.nbytes // max(len(feed), 1) for feed in feeds.values() if feed.ndim) * rows
    if size > WARM_BYTES:
        raise PackageError(f"a batch of {rows} golden rows has {size} bytes; {WARM_BYTES} are run at most", member=NAME)


def _read(data: bytes | memoryview, name: str) -> dict[str, Array]:
    try:
        return {key: a.astype(object) if a.dtype.kind == "U" else a for key, a in read_npz(data).items()}
    except Exception as error:
        raise PackageError(f"the attachment {name!r} cannot be read: {error}", member=name) from error


def read_npz(data: bytes | memoryview) -> dict[str, Array]:
    """The arrays of an npz as `numpy.savez` writes it. Raises whatever is wrong with it; ValueError for a bomb."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        members = file.zip.infolist()
        if any(member.compress_type for member in members) or sum(m.file_size for m in members) > len(data):
            raise ValueError("its arrays are larger than the bytes they lie in")
        return dict(file)
