"""Read serialised protobuf messages strictly: every field is one that the schema has, in the form it has there.

A protobuf message is a sequence of (field, wire type, value); see protobuf.dev/programming-guides/encoding. Parsers
are lenient in ways of their own: they merge a message that stands twice, skip fields they do not know, and take a
number in more bytes than it needs. What two parsers could read as two things is refused here. The `onnx` library would
take 100 ms to import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelkit.errors import GraphError

MAX_FIELDS = 10_000_000  # of one message: some seconds of reading; packed numbers count as one
# The wire types a field may have. A list of numbers may come packed, as bytes, or with a tag before each number.
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
# The branch modes of a forest are its one long list that protobuf cannot pack: 270,000 strings in 200 deep trees.
# Read one by one they take 130 ms; as a run of well-formed texts, which nothing here asks for, 8 ms (45 without the
# possessive ++, which keeps no way back).
MODES_TAG = 9 << 3 | 2
MODES = re.compile(
    b"(?:"
    + b"|".join(
        b"J" + bytes([len(mode)]) + mode
        for mode in (b"LEAF", *(b"BRANCH_" + test for test in (b"LEQ", b"LT", b"GTE", b"GT", b"EQ", b"NEQ")))
    )
    + b")++"
)


Field = tuple[int, str, int]  # number, kind, and a bit of its own unless it may stand more than once
Tags = dict[int, Field]


def table(fields: dict[int, str]) -> Tags:
    """The fields of a message by tag. A kind that is not in WIRES is a message, several of them with a * behind."""
    return {
        number << 3 | wire: (number, kind.rstrip("*"), 0 if kind.endswith(("s", "*")) else 1 << number)
        for number, kind in fields.items()
        for wire in WIRES.get(kind, (2,))
    }


def read(data: bytes, at: int, end: int, tags: Tags) -> Iterator[tuple[int, str, int, int]]:
    """The fields of the message in data[at:end]: (number, kind, start, stop), or (number, kind, value, -1) of a varint.

    Raises GraphError.
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
        if wire != 2:
            start, at = at, at + (8 if wire == 1 else 4)
        elif tag == MODES_TAG and kind == "texts" and (run := MODES.match(data, at - 1, end)):
            at = run.end()
            continue
        else:
            size, start = _varint(data, at, end)
            at = start + size
        if at > end:
            raise _malformed("a field passes its end")
        yield number, kind, start, at
    raise _malformed(f"it has more than {MAX_FIELDS} fields in one message")


def integers(data: bytes, at: int, end: int) -> list[int]:
    """A packed list of int64."""
    values = []
    while at < end:
        value, at = _varint(data, at, end)
        values.append(signed(value))
    return values


def signed(value: int) -> int:
    """The int64 that a varint of 64 bits stands for."""
    return value - (1 << 64) if value >> 63 else value


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 128:  # one byte, as nearly all are
        return data[at], at + 1
    value = shift = 0
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
    return _malformed(f"it has a field {tag >> 3} of wire type {tag & 7}, which ONNX does not define there")


def _malformed(what: str) -> GraphError:
    return GraphError(f"the graph is not a well-formed ONNX model: {what}")
