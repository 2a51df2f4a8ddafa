"""Read serialised protobuf messages strictly: every field must be one of the schema, in its form.

A protobuf message is a sequence of (field, wire type, value); see
protobuf.dev/programming-guides/encoding. Parsers are lenient in ways of their own: they merge a
message that stands twice, skip fields they do not know, and take a number in more bytes than it
needs. What two parsers could read as two things is refused here. The `onnx` library would take 100
ms to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import GraphError

MAX_FIELDS = 10_000_000  # of one message: some seconds of reading; packed numbers count as one
# The wire types a field may have. A list of numbers may come packed, as bytes, or with a tag before
# each number.
WIRES = {
    "int": (0,),
    "ints": (0, 2),
    "float": (5,),
    "floats": (5, 2),
    "doubles": (1, 2),
    "text": (2,),
    "texts": (2,),
    "blob": (2,),
}
# The branch modes of a forest are its one long list that protobuf cannot pack: 270,000 strings in
# 200 deep trees. Read one by one they take 130 ms; as one run of well-formed texts, 8 ms (45
# without the possessive ++, which keeps no way back).
MODES_TAG = 9 << 3 | 2
RUN = "modes"  # the kind that such a run is told as, in place of each of its texts
BRANCH_MODES = (
    b"LEAF",
    b"BRANCH_LEQ",
    b"BRANCH_LT",
    b"BRANCH_GTE",
    b"BRANCH_GT",
    b"BRANCH_EQ",
    b"BRANCH_NEQ",
)
MODE_FIELDS = [b"J" + bytes([len(mode)]) + mode for mode in BRANCH_MODES]
MODES_RUN = re.compile(b"(?:" + b"|".join(MODE_FIELDS) + b")++")

# Number, kind, and a bit of its own unless it may stand more than once.
Field = tuple[int, str, int]
Tags = dict[int, Field]


def tags_of(fields: dict[int, str]) -> Tags:
    """The fields of a message by tag.

    A kind that is not in WIRES is a message; a * behind it says that there may be several.
    """
    tags = {}
    for number, kind in fields.items():
        several = kind.endswith(("s", "*"))
        field = (number, kind.rstrip("*"), 0 if several else 1 << number)
        for wire in WIRES.get(kind, (2,)):
            tags[number << 3 | wire] = field
    return tags


def read_message(data: bytes, at: int, end: int, tags: Tags) -> Iterator[tuple[int, str, int, int]]:
    """The fields of the message in data[at:end], as (number, kind, start, stop).

    A varint is (number, kind, value, -1). A run of branch modes comes as one field of the kind RUN,
    with its tags. Raises GraphError.
    """
    seen = 0
    for _ in range(MAX_FIELDS):
        if at >= end:
            return
        tag = data[at]
        at += 1
        if tag > 127:
            tag, at = _varint(data, at - 1, end)
        if tag not in tags:
            raise _strange(tag, tags)
        number, kind, bit = tags[tag]
        if bit & seen:
            raise _malformed(f"field {number} stands there twice")
        seen |= bit
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at, end)
            yield number, kind, value, -1
            continue
        start = at
        if wire != 2:
            at += 8 if wire == 1 else 4
        elif tag == MODES_TAG and kind == "texts" and (run := MODES_RUN.match(data, at - 1, end)):
            start -= 1
            at = run.end()
            kind = RUN
        else:
            size, start = _varint(data, at, end)
            at = start + size
        if at > end:
            raise _malformed("a field passes its end")
        yield number, kind, start, at
    raise _malformed(f"it has more than {MAX_FIELDS} fields in one message")


def integers(data: bytes | memoryview, at: int, end: int, most: int) -> list[int]:
    """The first `most` numbers of a packed list of int64."""
    values: list[int] = []
    while at < end and len(values) < most:
        value, at = _varint(data, at, end)
        values.append(signed(value))
    return values


def signed(value: int) -> int:
    """The int64 that a varint of 64 bits stands for."""
    return value - (1 << 64) if value >> 63 else value


def array(pieces: Sequence[memoryview | int]) -> Array:
    """A list of int64 of any length, from its one packed piece or from its varints.

    The result has a narrower unsigned type where all numbers fit it. Raises GraphError.
    """
    if len(pieces) == 1 and isinstance(pieces[0], memoryview):
        values = _varints(np.frombuffer(pieces[0], np.uint8))
    elif all(isinstance(piece, int) for piece in pieces):
        values = np.array(pieces, np.uint64)
    else:
        raise _malformed("a list of numbers in several pieces")
    return values.view(np.int64) if values.itemsize == 8 else values


def _varints(raw: Array) -> Array:
    """The numbers of a packed list, as unsigned integers of the narrowest type that holds them."""
    ends = np.flatnonzero(raw < 128)
    if len(ends) == len(raw):  # one byte each
        return raw
    cut_short = not len(ends) or ends[-1] < len(raw) - 1
    ends_in_nothing = (raw[1:] == 0) & (raw[:-1] > 127)
    if cut_short or ends_in_nothing.any():
        raise _malformed("a list is cut short, or has a number in more bytes than it needs")
    longest = _longest(raw)
    if longest > 10:
        raise _malformed("a number of more than ten bytes")
    values = raw[ends].astype(_narrowest(longest))  # the highest bits
    more = np.ones(len(ends), np.uint8)
    for behind in range(1, longest):
        # Before the first number that is the end of the list, which is below 128.
        byte = raw[ends - behind]
        more &= byte >> 7
        if behind == 9 and ((raw[ends] > 1) & (more == 1)).any():
            raise _malformed("a number of more than 64 bits")
        values = np.left_shift(values, more * np.uint8(7)) | (byte & 127) * more
    return values


def _longest(raw: Array) -> int:
    """The bytes of the longest number, at most 11."""
    longest = 1
    longer = raw > 127
    while longest < 11 and longer.any():
        longest += 1
        longer = longer[1:] & (raw[: 1 - longest] > 127)
    return longest


def _narrowest(size: int) -> type[np.unsignedinteger[Any]]:
    """The unsigned type that holds every number of this many bytes."""
    if size < 3:
        return np.uint16
    return np.uint32 if size < 5 else np.uint64


def amount(pieces: Sequence[memoryview | int]) -> int:
    """The number of varints of such a list."""
    total = 0
    for piece in pieces:
        if isinstance(piece, int):
            total += 1
        else:
            total += int(np.count_nonzero(np.frombuffer(piece, np.uint8) < 128))
    return total


def text_sizes(runs: Sequence[memoryview]) -> Array:
    """The size of each text in runs of branch modes."""
    joined = runs[0] if len(runs) == 1 else b"".join(runs)
    raw = np.frombuffer(joined, np.uint8)
    # No letter of a mode, nor the tag, is below 32.
    return raw[np.flatnonzero(raw < 32)]


def _varint(data: bytes | memoryview, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 128:  # one byte, as nearly all are
        return data[at], at + 1
    value = 0
    shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if (shift and not byte) or value >> 64:
                raise _malformed("a number in more bytes than it needs")
            return value, at
        shift += 7
        if shift > 63:
            raise _malformed("a number of more than ten bytes")
    raise _malformed("it is cut short")


def _strange(tag: int, tags: Tags) -> GraphError:
    known = any(number == tag >> 3 for number, _, _ in tags.values())
    if known:
        return _malformed(f"field {tag >> 3} has wire type {tag & 7}")
    return _malformed(
        f"it has a field {tag >> 3} of wire type {tag & 7}, which ONNX does not define there"
    )


def _malformed(what: str) -> GraphError:
    return GraphError(f"the graph is not a well-formed ONNX model: {what}")
