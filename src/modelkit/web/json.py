"""JSON of requests and answers, strictly: the one place that knows orjson.

orjson takes what this library must not: a key that stands twice, of which the last one wins, and
integers beyond 64 bits, which it makes floats. Both are found by counting bytes, and named by the
parser of the standard library, which is slower.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.json import parse_json, to_plain
from modelkit.errors import importing
from modelkit.web.replies import Refused
from modelkit.web.request import Turns

LONG = 1 << 14  # numbers that are encoded at a time: about a millisecond
LONG_BODY = 1 << 16  # bytes from which a body is better read in a thread
SHORT = 4096  # bytes that Python searches as fast as numpy; of more, numpy is six times as fast
COLON = ord(":")
LAST_OF_BOTH = ord("e")  # of true and false
LONG_INTEGER = b"0" * 19  # the digits of the least integer that 64 bits may not hold
DIGITS = bytes.maketrans(b"123456789", b"000000000")
SIGNED = -(1 << 63)
UNSIGNED = (1 << 64) - 1


@cache
def library() -> Any:
    """The orjson module. Raises MissingExtraError where it is not installed."""
    with importing("orjson", "the web edge", "web"):
        import orjson
    return orjson


def _parse_long(data: bytes) -> Any:
    """Without running for garbage meanwhile, which takes four times as long as a million lists do."""
    collects = gc.isenabled()
    gc.disable()
    try:
        return library().loads(data)
    finally:
        if collects:
            gc.enable()


def parse_object(data: bytes) -> dict[str, Any]:
    """The fields of a JSON object. Raises Refused, 400."""
    try:
        value = library().loads(data) if len(data) < LONG_BODY else _parse_long(data)
    except ValueError as error:
        raise Refused(f"the body is not JSON: {_why(data, error)}") from None
    if type(value) is not dict:
        raise Refused(
            f"the body is {shown(value)}, and a JSON object is expected: /openapi.json has examples"
        )
    return value


def _why(data: bytes, error: ValueError) -> str:
    """What orjson says, and what to do about the usual causes."""
    if "allocate" in str(error):
        return "it has too many lists and objects within each other"
    if b"NaN" in data or b"Infinity" in data:
        return (
            f"{error}. JSON lacks NaN and infinity: write null for a missing value, or send "
            "the tensor as bytes"
        )
    return str(error)


def check_keys(data: bytes, count: int) -> None:
    """Raise Refused, 400, for a key that stands twice; `count` is the number of keys parsed.

    Each key is followed by a colon, so that as many colons as keys leave none for another.
    """
    short = len(data) < SHORT
    colons = data.count(b":") if short else np.count_nonzero(np.frombuffer(data, np.uint8) == COLON)
    if colons == count:
        return
    try:
        parse_json(data.decode())
    except (ValueError, RecursionError) as error:
        raise _unreadable(error) from None


def may_hold_booleans(data: bytes) -> bool:
    """Whether a JSON text may hold true or false; where it says no, it holds none."""
    if len(data) < SHORT:
        # Few requests have these letters, and one letter is found ten times as fast as a word.
        return (b"r" in data and b"true" in data) or (b"l" in data and b"false" in data)
    letters = np.frombuffer(data, np.uint8)
    before = letters[:-1]
    ends = letters[1:] == LAST_OF_BOTH
    return bool((ends & ((before == ord("u")) | (before == ord("s")))).any())


def holds_boolean(values: list[Any]) -> bool:
    """Whether lists within lists hold true or false."""
    while values:
        kinds = {*map(type, values)}
        if bool in kinds:
            return True
        values = [*chain.from_iterable(each for each in values if type(each) is list)]
    return False


def check_integers(data: bytes) -> None:
    """Raise Refused, 400, for an integer beyond 64 bits."""
    if LONG_INTEGER not in data.translate(DIGITS):
        return
    integers: list[str] = []
    try:
        json.loads(data, parse_int=integers.append)  # in C: no frame of Python for each
        for text in integers:
            if len(text) >= len(LONG_INTEGER):
                _check_integer(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(error) from None


def _unreadable(error: Exception) -> Refused:
    return Refused(f"the body is not JSON that can be read exactly: {error!s:.300}")


def _check_integer(text: str) -> None:
    if len(text) > len(LONG_INTEGER) + 2 or not SIGNED <= int(text) <= UNSIGNED:
        raise ValueError(f"the integer {text:.40} is beyond 64 bits; write a float, such as 1e20")


def shown(value: Any) -> str:
    """A value as a message shows it: its beginning, and what it is in JSON."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    if value is None:
        return "null"
    if isinstance(value, dict | list):
        return kinds[type(value)]
    return f"{library().dumps(value).decode():.40} ({kinds.get(type(value), 'a number')})"


def quoted(name: str) -> str:
    """A name as a message shows it: its beginning, in quotes."""
    return f"{library().dumps(name).decode():.40}"


def dump(value: Any) -> bytes:
    """A value of plain objects and contiguous arrays of numbers as JSON; NaN is null."""
    orjson = library()
    encoded: bytes = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return encoded


def dump_finite(value: Any, names: Iterable[str], answers: Mapping[str, Array]) -> bytes:
    """A value that holds these outputs, as JSON. Raises Refused, 406, for an infinity in one of them."""
    data = dump(value)
    # NaN and the infinities become null; to look for that in a long text takes longer than the arrays.
    if len(data) > LONG_BODY or b"null" in data:
        for name in names:
            values = answers[name]
            if values.dtype.kind == "f" and np.isinf(values).any():
                raise Refused(
                    f"the output {name!r} holds an infinity, which JSON cannot write: ask for "
                    "the output as bytes (/v2/models/.../infer, with binary_data among its "
                    "parameters)",
                    406,
                )
    return data


def plain_array(values: Array) -> Array:
    """An output without times: points in time as texts of ISO 8601, spans as seconds."""
    if values.dtype.kind == "m":
        return np.asarray(values / np.timedelta64(1, "s"))
    if values.dtype.kind != "M":
        return values
    texts = np.empty(values.size, object)
    texts[:] = to_plain(values.reshape(-1))
    return texts.reshape(values.shape)


def encode(values: Array) -> Turns[Any]:
    """An output as `dump` takes it; a long one is encoded in turns of a millisecond.

    The bytes are the same as if the array were encoded at once.
    """
    values = plain_array(values)
    if values.size <= LONG:
        return dumpable(values)
    width = values[:1].size
    if width <= LONG:
        return (
            yield from encode_rows(lambda rows: dumpable(values[rows]), len(values), LONG // width)
        )
    rows = []
    for row in values:
        rows += [(yield from encode(row))]
    return rows


def encode_rows(objects: Callable[[slice], Any], rows: int, step: int) -> Turns[Any]:
    """A list of what `objects` gives for all rows as `dump` takes it, `step` rows at a time."""
    if rows <= step:
        return objects(slice(rows))
    parts: list[bytes] = []
    for start in range(0, rows, step):
        parts.append(dump(objects(slice(start, start + step)))[1:-1])
        yield
    return library().Fragment(b"[" + b",".join(parts) + b"]")


def dumpable(values: Array) -> Any:
    """An array as `dump` takes it: one of strings, or of no dimension, as plain objects."""
    if values.dtype == object or not values.ndim:
        return values.tolist()
    return values if values.flags.c_contiguous else np.ascontiguousarray(values)
