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
from math import isfinite, nan, prod
from typing import Any

import numpy as np
from numpy import vdot

from modelkit._internal.arrays import Array
from modelkit.signature.rule import VDOT_ITEMS
from modelkit.signature.spec import MIXED, TIMES, TensorSpec, numpy_dtype
from modelkit.web.json import shown
from modelkit.web.replies import Refused

_DTYPES = "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64"
NAMES = {np.dtype(name): name.upper().replace("FLOAT", "FP") for name in _DTYPES.split()}
DATATYPES = {name: dtype for dtype, name in NAMES.items()}
BYTES = "BYTES"
# Lists are read by `array.array`, which refuses what is no number, and integers out of range.
CODES = {name: dtype.char for name, dtype in DATATYPES.items() if dtype.kind in "iu"}
CODES |= {"INT64": "q", "UINT64": "Q", "FP16": "d", "FP32": "f", "FP64": "d"}
EXACT = float(1 << 24)  # below it, each float holds every integer
# The types of values that JSON has for each datatype, and how a message calls them.
TAKEN: dict[str, tuple[set[type], str]] = {
    BYTES: ({str, type(None)}, "a string or null (BYTES)"),
    "BOOL": ({bool}, "a boolean (BOOL)"),
}
for _name, _dtype in DATATYPES.items():
    if _dtype.kind == "f":
        TAKEN[_name] = (
            {int, float, type(None)},
            f"a number of at most {float(np.finfo(_dtype).max):.6g} or null ({_name})",
        )
    elif _dtype.kind in "iu":
        _info = np.iinfo(_dtype)
        TAKEN[_name] = ({int}, f"an integer from {_info.min} to {_info.max} ({_name})")
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
    fix = "; numpy lacks this dtype: send FP32" if datatype == "BF16" else ""
    known = ", ".join([*DATATYPES, BYTES])
    raise Refused(f"input {name!r}: datatype {shown(datatype)} is not one of {known}{fix}")


def check_sizes(shape: object, name: str, limit: int) -> int:
    """The number of values of a shape. Raises Refused, 400, for one of other things than sizes.

    A tensor without values may still say how large it is in some dimension, of which a model may
    make as many numbers: `limit` is the most.
    """
    if type(shape) is not list or len(shape) > MOST_DIMS:
        raise Refused(f"input {name!r}: shape must be a list of at most {MOST_DIMS} sizes")
    for size in shape:
        if type(size) is not int or not 0 <= size <= MOST_SIZE:
            raise Refused(
                f"input {name!r}: shape holds {shown(size)}; sizes are integers of 0 or more"
            )
    count = prod(shape)
    if not count and prod(filter(None, shape)) > limit:
        raise Refused(f"input {name!r}: shape {shape} is too large for a tensor of no values")
    return count


def from_json(
    data: object, datatype: str, shape: list[int], count: int, name: str, *, truths: bool
) -> Array:
    """The tensor of a list in JSON, flat or nested as the shape says; null is a missing value.

    `truths` is whether the list may hold booleans. Raises Refused, 400.
    """
    if type(data) is not list:
        raise Refused(f"input {name!r}: data is {shown(data)}, and a list is expected")
    values = _array_of(data, datatype, truths=truths) if len(data) == count else None
    if values is None:
        flat = _flattened(data, shape, count, name)
        values = _array_of(flat, datatype, truths=truths)
        if values is None:
            place = _odd_place(flat, datatype)
            found, expected = shown(flat[place]), TAKEN[datatype][1]
            raise Refused(f"input {name!r}: value {place} is {found}, and {expected} is expected")
    return values.reshape(shape)


def _flattened(data: list[Any], shape: list[int], count: int, name: str) -> list[Any]:
    """The values of a list that is flat, or nested as the shape says. Raises Refused, 400."""
    values = data
    outer = 1
    for axis, size in enumerate(shape[1:]):
        if not values or type(values[0]) is not list:
            break
        outer *= shape[axis]
        fits = len(values) == outer and {*map(type, values)} == {list}
        if not fits or {*map(len, values)} != {size}:
            raise Refused(f"input {name!r}: the lists within data do not have shape {shape}")
        values = list(chain.from_iterable(values))
    if len(values) != count:
        raise Refused(f"input {name!r}: {len(values)} values do not fill shape {shape}")
    return values


def _array_of(items: list[Any], datatype: str, *, truths: bool) -> Array | None:
    """Values of a datatype as a flat array; None where one of them is not of it."""
    code = CODES.get(datatype)
    if code is None:
        if not {*map(type, items)} <= TAKEN[datatype][0]:
            return None
        objects = np.empty(len(items), DATATYPES.get(datatype, object))
        objects[:] = items
        return objects
    if truths and bool in {*map(type, items)}:
        return None
    try:
        flat = np.frombuffer(array(code, items), DATATYPES[datatype] if code != "d" else np.float64)
    except (TypeError, OverflowError):
        if code not in "df" or None not in items:
            return None
        there = [nan if item is None else item for item in items]
        return _array_of(there, datatype, truths=truths)
    if datatype == "FP64" or code not in "df":
        return flat
    if datatype == "FP16":
        with np.errstate(over="ignore"):
            flat = flat.astype(np.float16)
    if flat.size <= VDOT_ITEMS and isfinite(vdot(flat, flat)):
        return flat
    return None if np.isinf(flat).any() else flat


def _odd_place(items: list[Any], datatype: str) -> int:
    """The place of the first value that is of another type than a datatype takes, or beyond its range."""
    low = 0
    high = len(items)
    while high - low > 1:
        middle = (low + high) // 2
        if _array_of(items[low:middle], datatype, truths=True) is None:
            high = middle
        else:
            low = middle
    return low


def from_bytes(
    part: memoryview, datatype: str, shape: Sequence[int], count: int, name: str
) -> Array:
    """The tensor of a part of the body, as bytes. Raises Refused, 400."""
    dtype = DATATYPES.get(datatype)
    if dtype is None:
        return _texts_of(part, count, name).reshape(shape)
    if len(part) != count * dtype.itemsize:
        raise Refused(
            f"input {name!r}: {len(part)} bytes do not hold {count} values of {datatype}, which "
            f"shape {list(shape)} needs"
        )
    if dtype.kind != "b":
        return np.frombuffer(part, dtype).reshape(shape)
    truths = np.frombuffer(part, np.uint8)
    if (truths > 1).any():
        raise Refused(f"input {name!r}: a BOOL is one byte, 0 or 1")
    return truths.view(np.bool_).reshape(shape)


def _texts_of(part: memoryview, count: int, name: str) -> Array:
    """The strings of a tensor, each behind its length."""
    if count * LENGTH.size > len(part):
        raise Refused(f"input {name!r}: {len(part)} bytes cannot hold {count} strings")
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
            f"input {name!r}: {len(part)} bytes are not {count} strings, each behind its length "
            "of 4 bytes"
        )
    return texts


def shape_of_whole(body: memoryview, spec: TensorSpec, datatype: str) -> list[int]:
    """The shape of a tensor from the number of its bytes. Raises Refused, 400."""
    free = [axis for axis, size in enumerate(spec.shape) if isinstance(size, str)]
    shape = [1 if isinstance(size, str) else size for size in spec.shape]
    count = prod(shape)
    if datatype == BYTES and count == 1:
        return shape
    if datatype == BYTES or not count or len(free) > 1:
        raise Refused(f"a body of bytes alone does not say its shape: the input is {spec}")
    if free:
        shape[free[0]] = len(body) // (DATATYPES[datatype].itemsize * count)
    return shape


def text_of(part: memoryview, what: str) -> str:
    """A text of UTF-8. Raises Refused, 400."""
    try:
        return str(part, "utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"{what} is not UTF-8: {error}") from None


def to_bytes(values: Array, datatype: str) -> bytes:
    """An array as bytes, strings each behind its length.

    Raises Refused, 406, for a missing string.
    """
    if datatype != BYTES:
        return values.tobytes()
    parts = []
    for item in values.reshape(-1).tolist():
        if item is None:
            raise Refused("bytes cannot say that a string is missing; ask for JSON", 406)
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
