"""Walk a serialised ONNX model, message by message, and keep the fields that are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from struct import calcsize, unpack_from
from typing import Any

from modelkit.errors import GraphError
from modelkit.package.sizes import FEW_NUMBERS
from modelkit.package.wire import RUN, integers, read_message, signed, tags_of

MAX_DEPTH = 32  # of messages: eight subgraphs within each other
# onnx.proto, the release of IR version 13. What is called texts or text and is a message there
# holds no tensor, no operator and no graph, so it is passed over.
ONNX_FIELDS = {
    "model": {
        1: "int",
        2: "text",
        3: "text",
        4: "text",
        5: "int",
        6: "text",
        7: "graph",
        8: "opset*",
        14: "property*",
        20: "training*",
        25: "function*",
        26: "texts",
    },
    "training": {1: "graph", 2: "graph", 3: "texts", 4: "texts"},
    "graph": {
        1: "node*",
        2: "text",
        5: "tensor*",
        10: "text",
        11: "input*",
        12: "texts",
        13: "texts",
        14: "texts",
        15: "sparse*",
        16: "texts",
    },
    "function": {
        1: "text",
        4: "texts",
        5: "texts",
        6: "texts",
        7: "node*",
        8: "text",
        9: "opset*",
        10: "text",
        11: "attribute*",
        12: "texts",
        13: "text",
        14: "texts",
    },
    "node": {
        1: "texts",
        2: "texts",
        3: "text",
        4: "text",
        5: "attribute*",
        6: "text",
        7: "text",
        8: "text",
        9: "texts",
        10: "texts",
    },
    "attribute": {
        1: "text",
        2: "float",
        3: "int",
        4: "text",
        5: "tensor",
        6: "graph",
        7: "floats",
        8: "ints",
        9: "texts",
        10: "tensor*",
        11: "graph*",
        13: "text",
        14: "text",
        15: "texts",
        20: "int",
        21: "text",
        22: "sparse",
        23: "sparse*",
    },
    "tensor": {
        1: "ints",
        2: "int",
        3: "text",
        4: "floats",
        5: "ints",
        6: "texts",
        7: "ints",
        8: "text",
        9: "blob",
        10: "doubles",
        11: "ints",
        12: "text",
        13: "external*",
        14: "int",
        16: "texts",
    },
    "sparse": {1: "tensor", 2: "tensor", 3: "ints"},
    "input": {1: "text", 2: "type", 3: "text", 4: "texts"},
    "value": {1: "text", 2: "type", 3: "text", 4: "texts"},
    "type": {1: "typed", 4: "text", 5: "text", 6: "text", 7: "text", 8: "text", 9: "text"},
    "typed": {1: "int", 2: "shape"},
    "shape": {1: "dim*"},
    "dim": {1: "int", 2: "text", 3: "text"},
    "opset": {1: "text", 2: "int"},
    "property": {1: "text", 2: "text"},
    "external": {1: "text", 2: "text"},
}
TABLES = {name: tags_of(fields) for name, fields in ONNX_FIELDS.items()}
# How a field is kept: as it is, as it is where it holds few numbers, as a view of data of any length
# that is not copied, and by its number alone.
WHOLE = "whole"
FEW = "few"
VIEW = "view"
COUNT = "count"
# Of an attribute of an operator in a function, which then has the value of an argument.
REFERENCE = 21
FIELDS_KEPT = {  # of each kind of message, and how: those that are checked
    "function": dict.fromkeys((1, 10, 13), WHOLE),
    "node": dict.fromkeys((1, 2, 4, 7, 8), WHOLE),
    "attribute": {
        **dict.fromkeys((1, 2, 3, 4, REFERENCE), WHOLE),
        **dict.fromkeys((7, 8), VIEW),
        9: COUNT,
    },
    "graph": {13: VIEW},
    "tensor": {**dict.fromkeys((1, 2, 8, 14), WHOLE), **dict.fromkeys((4, 5, 7, 9, 10), FEW)},
    "sparse": {3: WHOLE},
    "input": {1: WHOLE},
    "value": {1: WHOLE},
    "typed": {1: WHOLE},
    "dim": {1: WHOLE},
    "property": {1: WHOLE},
    "external": dict.fromkeys((1, 2), WHOLE),
}
FEW_BYTES = 10 * FEW_NUMBERS


class Message:
    """A message that was read.

    Attributes:
        size: in bytes.
        depth: the number of messages around it.
        first: the number of operators that had been found before it.
        kept: the fields that are checked, by number.
        told: what its own messages told.
        counted: the number of texts in its list of texts.
    """

    __slots__ = ("counted", "depth", "first", "kept", "size", "told")

    def __init__(self, size: int, depth: int, first: int) -> None:
        self.size = size
        self.depth = depth
        self.first = first
        self.kept: dict[int, list[Any]] = {}
        self.told: list[Any] = []
        self.counted = 0

    def text(self, number: int) -> bytes:
        """A text, empty where it is absent."""
        found: bytes = self.kept[number][0] if number in self.kept else b""
        return found

    def integer(self, number: int) -> int:
        """An int32 or an enum, 0 where it is absent; like every parser, without bits above 32."""
        found: int = self.kept[number][0] & 0xFFFFFFFF if number in self.kept else 0
        return found

    def integers(self, number: int) -> list[int]:
        """A list of int64, packed or not; of a long one the beginning, more than FEW_NUMBERS."""
        values: list[int] = []
        for value in self.kept.get(number, ()):
            if isinstance(value, int):
                values.append(signed(value))
            else:
                values += integers(value, 0, len(value), FEW_NUMBERS + 1)
            if len(values) > FEW_NUMBERS:
                break
        return values

    def numbers(self, number: int, code: str) -> tuple[float, ...]:
        """A list of numbers of the `struct` code, packed or not; of a long one the beginning."""
        item = calcsize(code)
        most = (FEW_NUMBERS + 1) * item
        pieces = islice(self.kept.get(number, ()), FEW_NUMBERS + 1)
        raw = b"".join(piece[:most] for piece in pieces)[:most]
        return unpack_from(f"<{len(raw) // item}{code}", raw)


def walk_message(
    data: bytes,
    span: tuple[int, int],
    kind: str,
    depth: int,
    checks: Mapping[str, Callable[[Message, Any], Any]],
    found: Any,
) -> Any:
    """Read the message in data[start:stop], its own messages first, and give what its check tells.

    Args:
        data: the serialised model.
        span: start and stop.
        kind: a key of TABLES.
        depth: the number of messages around it.
        checks: by kind of message; each is given the message and `found`.
        found: what the checks fill in; its `calls` are the operators so far.

    Raises GraphError.
    """
    if depth > MAX_DEPTH:
        raise GraphError(f"the graph nests deeper than {MAX_DEPTH} levels")
    message = Message(span[1] - span[0], depth, len(found.calls))
    kept = message.kept
    fields_kept = FIELDS_KEPT.get(kind, {})
    for number, part, start, stop in read_message(data, *span, TABLES[kind]):
        if part in TABLES:
            told = walk_message(data, (start, stop), part, depth + 1, checks, found)
            if told is not None:
                message.told.append(told)
            continue
        how = VIEW if part == RUN else fields_kept.get(number)
        if how is None or (how is FEW and stop - start > FEW_BYTES):
            continue
        if how is COUNT:
            message.counted += 1
            continue
        value: Any = start
        if stop >= 0:
            value = memoryview(data)[start:stop] if how is VIEW else data[start:stop]
        kept.setdefault(number, []).append(value)
    check = checks.get(kind)
    return None if check is None else check(message, found)
