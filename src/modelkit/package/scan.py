"""Walk a serialised ONNX model and refuse what a package may not contain, before any runtime parses it.

A protobuf message is a sequence of (field, wire type, value); this reads just the fields it must (encoding:
protobuf.dev/programming-guides/encoding; field numbers: onnx.proto). The `onnx` library would take 100 ms to import.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from modelkit.errors import GraphError

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
MAX_DEPTH = 32
# The branch modes of a forest are its one long list that protobuf cannot pack: 270,000 strings in 200 deep trees.
# Walked one by one they take 130 ms; as a run of well-formed fields of number 9, which nothing here asks for, 8 ms
# (45 without the possessive ++, which keeps no way back).
MODES_TAG = 9 << 3 | 2
MODES = re.compile(
    b"(?:"
    + b"|".join(
        b"J" + bytes([len(mode)]) + mode
        for mode in (b"LEAF", *(b"BRANCH_" + test for test in (b"LEQ", b"LT", b"GTE", b"GT", b"EQ", b"NEQ")))
    )
    + b")++"
)
INITIALIZER_DEPTH = 2  # model > graph > tensor: runtimes resolve external data elsewhere by other rules

# Fields that lead to tensors and operator domains: {message: {field: (kind, message or None)}}.
CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}


@dataclass
class Scan:
    """What a walk found: operator domains, and (location, offset, length) of each external tensor."""

    domains: set[str] = field(default_factory=set)
    external: list[tuple[str, int, int]] = field(default_factory=list)
    metadata: set[str] = field(default_factory=set)


def fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of one message: bytes for length-delimited ones, integers otherwise. Raises GraphError."""
    at, end = 0, len(data)
    try:
        while at < end:
            tag = data[at]
            if tag == MODES_TAG and (run := MODES.match(data, at)):
                at = run.end()
                continue
            at += 1
            if tag >= 128:
                tag, at = _varint(data, at - 1)
            kind = tag & 7
            if kind == 2:
                size, at = _varint(data, at)
                if size > end - at:
                    raise GraphError("the graph is not a well-formed protobuf message: a field passes its end")
                yield tag >> 3, data[at : at + size]
                at += size
            elif kind == 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
                if at > end:
                    raise IndexError
            else:
                raise GraphError(f"the graph is not a well-formed protobuf message: wire type {kind}")
    except IndexError:
        raise GraphError("the graph is not a well-formed protobuf message: it is cut short") from None


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = data[at]
    if value < 128:  # one byte, as nearly all are
        return value, at + 1
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise GraphError("the graph is not a well-formed protobuf message: a varint of more than ten bytes")


def scan(graph: bytes | memoryview) -> Scan:
    """Walk every graph, subgraph, function and tensor of a serialised ModelProto. Raises GraphError."""
    found = Scan()
    _walk(memoryview(graph), "model", found, 0)
    return found


def _walk(data: memoryview, message: str, found: Scan, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise GraphError(f"the graph nests deeper than {MAX_DEPTH} levels")
    children = CHILDREN[message]
    external: dict[str, str] = {}
    for number, value in fields(data):
        child = children.get(number)
        if child == "external":
            key, text = _key_value(value)
            external[key] = text
        elif child is not None and isinstance(value, memoryview):
            _walk(value, child, found, depth + 1)
        elif (message == "node" and number == 7) or (message == "function" and number == 10):
            found.domains.add(_text(value))
        elif message == "model" and number == 8:
            found.domains.add(next((_text(v) for n, v in fields(_bytes(value)) if n == 1), ""))
        elif message == "model" and number == 14:
            found.metadata.add(_key_value(value)[0])
    if external:
        if depth != INITIALIZER_DEPTH:
            raise GraphError(f"a tensor inside an operator reads {external.get('location')!r}; only initializers may")
        found.external.append(_external(external))


def _bytes(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        raise GraphError("the graph is not a well-formed ONNX model: a number where a message belongs")
    return value


def _text(value: memoryview | int) -> str:
    return bytes(_bytes(value)).decode("utf-8", "replace")


def _key_value(value: memoryview | int) -> tuple[str, str]:
    entry = {number: _text(text) for number, text in fields(_bytes(value))}
    return entry.get(1, ""), entry.get(2, "")


def _external(entry: dict[str, str]) -> tuple[str, int, int]:
    if set(entry) - {"location", "offset", "length", "checksum"} or not {"location", "offset", "length"} <= set(entry):
        raise GraphError(f"a tensor refers to external data by the keys {sorted(entry)}")
    if not (entry["offset"].isdecimal() and entry["length"].isdecimal()):
        raise GraphError(f"a tensor refers to external data at {entry['offset']!r}, length {entry['length']!r}")
    return entry["location"], int(entry["offset"]), int(entry["length"])


def check(graph: bytes | memoryview, weights: str, weights_size: int | None, *, domains: Collection[str] = ()) -> None:
    """Raise GraphError unless the graph stays within its operators and the weights member `weights`.

    Args:
        graph: a serialised ModelProto.
        weights: the only location external tensors may name.
        weights_size: its size in bytes, None if there is none.
        domains: of operators, which the caller accepts beyond the default ones.
    """
    found = scan(graph)
    if "ort_config" in found.metadata:
        raise GraphError("the graph carries session options (metadata ort_config), which a package may not")
    strange = sorted(found.domains - DOMAINS - set(domains))
    if strange:
        raise GraphError(f"the graph uses operators of {strange}; packages may use {sorted(DOMAINS)}")
    for location, offset, length in found.external:
        if location != weights or weights_size is None:
            raise GraphError(f"a tensor reads {location!r}, which is not a member of the package", location=location)
        if offset + length > weights_size:
            raise GraphError(f"a tensor reads bytes {offset} to {offset + length} of {weights_size}", location=location)
