"""Tensors of the Open Inference Protocol and arrays of numpy, in JSON and as bytes.

Each datatype is taken as it says: a number that it does not hold is refused, and neither cut off
nor wrapped around. Only a float takes the nearest one to a decimal number, as any reader of JSON
does. What a model then makes of the datatype is for its signature to say.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from itertools import chain
from math import isfinite, prod
from typing import Any

import numpy as np

from modelkit.cast import VDOT_ITEMS, Array
from modelkit.spec import MIXED, TIMES, TensorSpec, numpy_dtype
from modelkit.web.json import shown
from modelkit.web.reply import Refused

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
BYTES = "BYTES"
# Lists are read by `array.array`, which refuses what is no number, and integers out of range.
CODES = {name: dtype.char for name, dtype in DATATYPES.items() if dtype.kind in "iu"}
CODES |= {"INT64": "q", "UINT64": "Q", "FP16": "d", "FP32": "f", "FP64": "d"}
EXACT = float(1 << 24)  # below it, each float holds every integer
MOST_DIMS = 32
MOST_SIZE = (1 << 63) - 1
LENGTH = struct.Struct("<I")


def datatype_of(dtype: str) -> str:
    """The datatype that stands for a dtype of a signature.

    Points in time are texts in the form of ISO 8601, spans are seconds.
    """
    if dtype in TIMES:
        return BYTES if dtype.startswith("d") else "FP64"
    return BYTES if dtype in ("string", MIXED) else NAMES[np.dtype(dtype)]


def check_datatype(datatype: object, name: str) -> str:
    """Raise Refused, 400, unless it is a datatype that can be read."""
    if isinstance(datatype, str) and (datatype in DATATYPES or datatype == BYTES):
        return datatype
    fix = "; numpy has no such floats: send FP32" if datatype == "BF16" else ""
    known = ", ".join([*DATATYPES, BYTES])
    raise Refused(400, f"input {name!r}: datatype {shown(datatype)} is not one of {known}{fix}")


def check_sizes(shape: object, name: str, limit: int) -> int:
    """The number of values of a shape. Raises Refused, 400, for one of other things than sizes.

    A tensor without values may still say how large it is in some dimension, of which a model may
    make as many numbers: `limit` is the most.
    """
    if type(shape) is not list or len(shape) > MOST_DIMS:
        raise Refused(400, f"input {name!r}: shape must be a list of at most {MOST_DIMS} sizes")
    for size in shape:
        if type(size) is not int or not 0 <= size <= MOST_SIZE:
            raise Refused(
                400, f"input {name!r}: shape holds {shown(size)}; sizes are integers of 0 or more"
            )
    count = prod(shape)
    if not count and prod(filter(None, shape)) > limit:
        raise Refused(400, f"input {name!r}: shape {shape} is too large for a tensor of no values")
    return count


def from_json(
    data: object,
    datatype: str,
    shape: list[int],
    count: int,
    name: str,
    *,
    truths: bool,
) -> Array:
    """The tensor of a list in JSON, flat or nested as the shape says; null is a missing value.

    `truths` is whether the list may hold booleans. Raises Refused, 400.
    """
    if type(data) is not list:
        raise Refused(400, f"input {name!r}: data is {shown(data)}, and a list is expected")
    flat = _quickly(data, datatype, truths=truths)
    if flat is None:
        flat = _one_by_one(data, datatype, shape, name)
    if flat.size != count:
        raise Refused(400, f"input {name!r}: {flat.size} values do not fill shape {shape}")
    return flat.reshape(shape)


def _quickly(
    data: list[Any],
    datatype: str,
    *,
    truths: bool,
) -> Array | None:
    """A flat list that plainly fits; None where its values are to be looked at one by one."""
    code = CODES.get(datatype)
    if code is None or (truths and bool in {*map(type, data)}):
        return None
    try:
        flat = np.frombuffer(array(code, data), DATATYPES[datatype] if code != "d" else np.float64)
    except (TypeError, OverflowError):
        return None
    if datatype == "FP64" or code not in "df":
        return flat
    if datatype == "FP16":
        with np.errstate(over="ignore"):
            flat = flat.astype(np.float16)
    if flat.size <= VDOT_ITEMS and isfinite(flat.dot(flat)):
        return flat
    return flat if np.isfinite(flat).all() else None


def _one_by_one(
    data: list[Any],
    datatype: str,
    shape: list[int],
    name: str,
) -> Array:
    nested = _nested(data, name)
    if nested.ndim > 1 and list(nested.shape) != shape:
        raise Refused(
            400, f"input {name!r}: lists of shape {list(nested.shape)} where shape is {shape}"
        )
    flat = nested.reshape(-1)
    dtype = DATATYPES.get(datatype)
    wanted = _wanted(datatype)
    for place, item in enumerate(flat.tolist()):
        if not _fits(item, dtype):
            raise Refused(
                400, f"input {name!r}: value {place} is {shown(item)}, and {wanted} is expected"
            )
    return flat if dtype is None else flat.astype(dtype)


def _nested(data: list[Any], name: str) -> Array:
    """Lists as an array of objects, of as many levels as they have in common."""
    if not any(type(item) is list for item in data):
        flat = np.empty(len(data), object)
        flat[:] = data
        return flat
    try:
        return np.array(data, object)
    except ValueError as error:
        raise Refused(400, f"input {name!r}: data is no array: {error}") from None


def _wanted(datatype: str) -> str:
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        return "a string or null (BYTES)"
    if dtype.kind == "b":
        return "a boolean (BOOL)"
    if dtype.kind == "f":
        return f"a number of at most {np.finfo(dtype).max:.6g} or null ({datatype})"
    info = np.iinfo(dtype)
    return f"an integer from {info.min} to {info.max} ({datatype})"


def _fits(item: Any, dtype: np.dtype[Any] | None) -> bool:
    kind = type(item)
    if dtype is None:
        return kind is str or item is None
    if dtype.kind == "b":
        return kind is bool
    if dtype.kind == "f":
        if item is None:
            return True
        with np.errstate(over="ignore"):
            return kind in (int, float) and bool(np.isfinite(np.float64(item).astype(dtype)))
    info = np.iinfo(dtype)
    return kind is int and info.min <= item <= info.max


def from_bytes(
    part: memoryview,
    datatype: str,
    shape: Sequence[int],
    count: int,
    name: str,
) -> Array:
    """The tensor of a part of the body, as bytes. Raises Refused, 400."""
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        return _texts_of(part, count, name).reshape(shape)
    if len(part) != count * dtype.itemsize:
        raise Refused(
            400,
            f"input {name!r}: {len(part)} bytes do not hold {count} values of {datatype}, which "
            f"shape {list(shape)} needs",
        )
    if dtype.kind != "b":
        return np.frombuffer(part, dtype).reshape(shape)
    truths = np.frombuffer(part, np.uint8)
    if (truths > 1).any():
        raise Refused(400, f"input {name!r}: a BOOL is one byte, 0 or 1")
    return truths.view(np.bool_).reshape(shape)


def _texts_of(part: memoryview, count: int, name: str) -> Array:
    """The strings of a tensor, each behind its length."""
    if count * LENGTH.size > len(part):
        raise Refused(400, f"input {name!r}: {len(part)} bytes cannot hold {count} strings")
    texts = np.empty(count, object)
    at = 0
    for place in range(count):
        start = at + LENGTH.size
        if start <= len(part):
            at = start + LENGTH.unpack_from(part, at)[0]
        if not start <= at <= len(part):
            break
        texts[place] = text_of(part[start:at], f"input {name!r}: string {place}")
    if at != len(part) or None in texts[-1:]:
        raise Refused(
            400,
            f"input {name!r}: {len(part)} bytes are not {count} strings, each behind its length "
            "of 4 bytes",
        )
    return texts


def shape_of_whole(
    body: memoryview,
    spec: TensorSpec,
    datatype: str,
) -> list[int]:
    """The shape of a tensor from the number of its bytes. Raises Refused, 400."""
    free = [axis for axis, size in enumerate(spec.shape) if isinstance(size, str)]
    shape = [1 if isinstance(size, str) else size for size in spec.shape]
    count = prod(shape)
    if datatype == BYTES and count == 1:
        return shape
    if datatype == BYTES or not count or len(free) > 1:
        raise Refused(400, f"a body of bytes alone does not say its shape: the input is {spec}")
    if free:
        shape[free[0]] = len(body) // (DATATYPES[datatype].itemsize * count)
    return shape


def text_of(part: memoryview, what: str) -> str:
    """A text of UTF-8. Raises Refused, 400."""
    try:
        return str(part, "utf-8")
    except UnicodeDecodeError as error:
        raise Refused(400, f"{what} is not UTF-8: {error}") from None


def to_bytes(values: Array, datatype: str) -> bytes:
    """An array as bytes, strings each behind its length.

    Raises Refused, 406, for a missing string.
    """
    if datatype != BYTES:
        return values.tobytes()
    parts = []
    for item in values.reshape(-1).tolist():
        if item is None:
            raise Refused(406, "a missing string is not to be told by bytes; ask for JSON")
        raw = str(item).encode()
        parts.append(LENGTH.pack(len(raw)))
        parts.append(raw)
    return b"".join(parts)


def nested_array(values: list[Any], spec: TensorSpec) -> Array:
    """Lists within lists as an array for a tensor: of numbers, or else of objects.

    Numbers and texts in one list do not become texts, as they do in numpy.
    """
    if not values:
        sizes = [size if isinstance(size, int) else 0 for size in spec.shape[1:]]
        return np.empty([0, *sizes], numpy_dtype(spec.dtype))
    shape = [len(values)]
    flat = values
    for _ in spec.shape[1:]:
        sizes = [*{*map(len, flat)}] if {*map(type, flat)} == {list} else []
        if len(sizes) != 1:
            return np.array(values, object)
        shape += sizes
        flat = list(chain.from_iterable(flat))
    numbers = _numbers(flat)
    return np.array(values, object) if numbers is None else numbers.reshape(shape)


def _numbers(flat: list[Any]) -> Array | None:
    """A list of numbers of one kind, or of floats and integers that a float holds exactly."""
    kinds = {*map(type, flat)}
    if kinds == {bool}:
        return np.array(flat, np.bool_)
    try:
        if kinds == {int}:
            return np.array(flat, np.int64)
        if kinds <= {int, float}:
            numbers = np.array(flat, np.float64)
            return numbers if kinds == {float} or (np.abs(numbers) < EXACT).all() else None
    except OverflowError:
        pass
    return None
