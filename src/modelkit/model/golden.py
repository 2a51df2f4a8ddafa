"""Golden rows: inputs and their outputs at save time, which `Model.verify` replays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.npz import pack_arrays, unpack_arrays
from modelkit.errors import BatchError, IntegrityError, ModelkitError, PackageError, SignatureError
from modelkit.model.call import PLAIN, Call
from modelkit.signature.cast import MISSING
from modelkit.signature.signature import Feeds, Signature, with_none
from modelkit.signature.spec import TensorSpec, check_dims, numpy_dtype

GOLDEN = "golden"  # of attachments, the names
BACKGROUND = "background"
WARM_BYTES = 2 << 30  # of the inputs of one run that warms up

Rows = tuple[Feeds, dict[str, Array]]  # inputs, and a model's answers to them


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


def rows_in(attachments: Mapping[str, memoryview], signature: Signature, model: object) -> Rows:
    """The golden rows among the attachments of a model. Raises PackageError where it has none."""
    data = attachments.get(GOLDEN)
    if data is None:
        raise PackageError(
            f"{type(model).__name__} lacks golden rows; they come with a saved package"
        )
    return decode_golden(data, signature)


def decode_golden(data: bytes | memoryview, signature: Signature) -> Rows:
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
    """Raise PackageError where a dimension has two sizes, and for rows that are empty."""
    try:
        sizes = check_dims(specs, arrays)
    except SignatureError as error:
        raise PackageError(
            f"the attachment {name!r} is of several sizes: {error}", member=name
        ) from error
    if signature.batch is not None and not sizes[signature.batch]:
        raise PackageError(f"the attachment {name!r} is empty", member=name)


def replayed(
    run: Callable[[Feeds, tuple[str, ...], Call], dict[str, Array]],
    feeds: Feeds,
    signature: Signature,
) -> dict[str, Array]:
    """What golden rows give here. Raises PackageError where they do not run."""
    try:
        return run(feeds, signature.output_names, PLAIN)
    except Exception as error:
        if isinstance(error, ModelkitError) and type(error) is not BatchError:
            raise
        raise PackageError(
            f"the golden rows, which ran at save time, do not run here: {error}"
        ) from error


def repeated(feeds: Feeds, sizes: Sequence[int], signature: Signature) -> Iterator[Feeds]:
    """Golden rows in batches of these sizes, over and over where they are fewer.

    Without sizes they come once, as they are.

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


def largest_difference(
    expected: Mapping[str, Array], got: Mapping[str, Array], tolerance: float
) -> float:
    """The largest relative difference between two answers to the same rows.

    It is relative to the expected number where that is above 1, and absolute below.

    Raises:
        IntegrityError: if the difference of an output is above `tolerance`.
    """
    largest = 0.0
    for name, array in expected.items():
        difference = _difference(array, got[name])
        if not difference <= tolerance:
            raise IntegrityError(
                f"output {name!r} of the golden rows differs by {difference:.2g} from what it was "
                "at save time; compare the versions in the manifest with `modelkit doctor`",
                output=name,
                difference=difference,
            )
        largest = max(largest, difference)
    return largest


def _difference(expected: Array, got: Array) -> float:
    """Infinity for another shape, and for anything but floats that is not equal."""
    if expected.shape != got.shape:
        return np.inf
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, got) else np.inf
    same = (expected == got) | (np.isnan(expected) & np.isnan(got))
    with np.errstate(invalid="ignore"):
        differences = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
    return float(np.where(same, 0, differences).max(initial=0))
