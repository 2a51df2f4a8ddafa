"""Walk a serialised ONNX model and refuse what a package may not contain, before any runtime parses it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import inf, prod
from struct import calcsize, unpack_from
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.errors import GraphError
from modelkit.package import trees
from modelkit.package.wire import RUN, amount, array, integers, read, signed, table, text_sizes

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# These operators of com.microsoft hand a blob, or a file they name, to the compiler of a vendor.
BLOBS = frozenset({b"EPContext", b"Snpe"})
LOOPS = frozenset({b"Loop", b"Scan"})
MAX_GRAPH = (1 << 31) - 1  # what protobuf can parse
MAX_DEPTH = 32  # of messages: eight subgraphs within each other
MAX_NODES = 200_000  # with every call of a function counted as the nodes of its body
MAX_BYTES = 1 << 30  # of a tensor whose shape the graph states
INITIALIZER_DEPTH = 2  # model > graph > tensor: runtimes resolve external data elsewhere by other rules
EXTERNAL = 1  # as a tensor's data_location
ITEM = 8  # bytes, the most that an element of a tensor takes, other than a complex number or a string
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
NUMBER = re.compile("[0-9]{1,18}")

# onnx.proto, the release of IR version 13. What is called texts or text and is a message there holds no tensor,
# no operator and no graph, so it is passed over.
TABLES = {
    name: table(fields)
    for name, fields in {
        "model": {1: "int", 2: "text", 3: "text", 4: "text", 5: "int", 6: "text", 7: "graph", 8: "opset*",
                  14: "property*", 20: "training*", 25: "function*", 26: "texts"},
        "training": {1: "graph", 2: "graph", 3: "texts", 4: "texts"},
        "graph": {1: "node*", 2: "text", 5: "tensor*", 10: "text", 11: "texts", 12: "texts", 13: "texts", 14: "texts",
                  15: "sparse*", 16: "texts"},
        "function": {1: "text", 4: "texts", 5: "texts", 6: "texts", 7: "node*", 8: "text", 9: "opset*", 10: "text",
                     11: "attribute*", 12: "texts", 13: "text", 14: "texts"},
        "node": {1: "texts", 2: "texts", 3: "text", 4: "text", 5: "attribute*", 6: "text", 7: "text", 8: "text",
                 9: "texts", 10: "texts"},
        "attribute": {1: "text", 2: "float", 3: "int", 4: "text", 5: "tensor", 6: "graph", 7: "floats", 8: "ints",
                      9: "texts", 10: "tensor*", 11: "graph*", 13: "text", 14: "text", 15: "texts", 20: "int",
                      21: "text", 22: "sparse", 23: "sparse*"},
        "tensor": {1: "ints", 2: "int", 3: "text", 4: "floats", 5: "ints", 6: "texts", 7: "ints", 8: "text",
                   9: "blob", 10: "doubles", 11: "ints", 12: "text", 13: "external*", 14: "int", 16: "texts"},
        "sparse": {1: "tensor", 2: "tensor", 3: "ints"},
        "opset": {1: "text", 2: "int"},
        "property": {1: "text", 2: "text"},
        "external": {1: "text", 2: "text"},
    }.items()
}  # fmt: skip
REFERENCE = 21  # of an attribute of an operator in a function, which then has the value of an argument
KEPT = {  # the fields that the checks below look at
    "function": {1, 10, 13}, "node": {1, 2, 4, 7, 8}, "attribute": {1, 2, 3, REFERENCE}, "tensor": {1, 2, 8, 14},
    "sparse": {3}, "property": {1}, "external": {1, 2},
}  # fmt: skip
LISTS = {"attribute": {7, 8}}  # those of any length: they stay where they lie
VALUES = {"tensor": {4, 5, 7, 9, 10}}  # and those that are looked at where they are few numbers
FEW = 64  # numbers: more of them are no shape
FEW_BYTES = 10 * FEW
FORMATS = {1: "f", 6: "i", 7: "q", 11: "d"}  # how struct calls the numbers of a tensor's data_type

# Operators that make a tensor of a shape which another tensor states, and which of their inputs that is.
SHAPED = {
    b"AffineGrid": 1, b"BlackmanWindow": 0, b"CenterCropPad": 1, b"Col2Im": 1, b"ConstantOfShape": 0,
    b"CropAndResize": 3, b"DFT": 1, b"Expand": 1, b"HammingWindow": 0, b"HannWindow": 0, b"MaxUnpool": 2,
    b"OneHot": 1, b"Pad": 1, b"Resize": 3, b"Tile": 1,
}  # fmt: skip
SHAPED_BY_ATTRIBUTE = {
    b"MaxRoiPool": b"pooled_shape", b"Multinomial": b"sample_size", b"Pad": b"pads", b"RandomNormal": b"shape",
    b"RandomUniform": b"shape", b"Tile": b"repeats", b"TreeEnsemble": b"n_targets",
    b"TreeEnsembleRegressor": b"n_targets",
}  # fmt: skip

Call = tuple[bytes, bytes, bytes]  # domain, name and overload of an operator


@dataclass
class Scan:
    """What a walk found.

    `domains` are those of operators and functions; a set of operators that is declared and not used tells nothing.
    `external` are (location, offset, length) of each tensor outside the graph, `constants` the numbers of small
    tensors by name, `shaped` the operators the size of whose output an input states, with their inputs. `calls` are the
    operators of the graph, and `functions` those of the functions of the model.
    """

    domains: set[str] = field(default_factory=set)
    external: list[tuple[str, int, int]] = field(default_factory=list)
    metadata: set[str] = field(default_factory=set)
    constants: dict[bytes, list[list[float]]] = field(default_factory=dict)
    shaped: set[tuple[bytes, tuple[bytes, ...]]] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    functions: dict[Call, Counter[Call]] = field(default_factory=dict)

    @property
    def endless(self) -> bool:
        """Whether a run may never end."""
        return any(name in LOOPS for calls in (self.calls, *self.functions.values()) for _, name, _ in calls)


class _Message:
    """A message that was read: its size, the fields that are kept, by number, and what its own messages told.

    `first` is how many operators had been found before it.
    """

    __slots__ = ("depth", "first", "kept", "size", "told")

    def __init__(self, size: int, depth: int, first: int) -> None:
        self.size, self.depth, self.first = size, depth, first
        self.kept: dict[int, list[Any]] = {}
        self.told: list[Any] = []

    def text(self, number: int) -> bytes:
        """A text, empty where it is absent."""
        found: bytes = self.kept[number][0] if number in self.kept else b""
        return found

    def integer(self, number: int) -> int:
        """An int32 or an enum, 0 where it is absent; like every parser, without what is above 32 bits."""
        found: int = self.kept[number][0] & 0xFFFFFFFF if number in self.kept else 0
        return found

    def integers(self, number: int) -> list[int]:
        """A list of int64, packed or not; of a long one the beginning, which is more than FEW."""
        values: list[int] = []
        for value in self.kept.get(number, ()):
            values += [signed(value)] if isinstance(value, int) else integers(value, 0, len(value), FEW + 1)
            if len(values) > FEW:
                break
        return values

    def numbers(self, number: int, code: str) -> tuple[float, ...]:
        """A list of numbers of the size of `code` for struct, packed or not; of a long one the beginning."""
        most = (FEW + 1) * calcsize(code)
        raw = b"".join(piece[:most] for piece in islice(self.kept.get(number, ()), FEW + 1))[:most]
        return unpack_from(f"<{len(raw) // calcsize(code)}{code}", raw)


def scan(graph: bytes | memoryview) -> Scan:
    """Walk every graph, subgraph, function and tensor of a serialised ModelProto. Raises GraphError."""
    if len(graph) > MAX_GRAPH:
        raise GraphError(f"the graph has {len(graph)} bytes; at most {MAX_GRAPH} are read")
    found, data = Scan(), bytes(graph)
    _walk(data, (0, len(data)), "model", found, 0)
    return found


def _walk(data: bytes, span: tuple[int, int], kind: str, found: Scan, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise GraphError(f"the graph nests deeper than {MAX_DEPTH} levels")
    message = _Message(span[1] - span[0], depth, len(found.calls))
    keep, values, lists = KEPT.get(kind, ()), VALUES.get(kind, ()), LISTS.get(kind, ())
    for number, part, start, stop in read(data, *span, TABLES[kind]):
        if part in TABLES:
            told = _walk(data, (start, stop), part, found, depth + 1)
            if told is not None:
                message.told.append(told)
        elif number in keep or (number in values and stop - start <= FEW_BYTES):
            message.kept.setdefault(number, []).append(start if stop < 0 else data[start:stop])
        elif number in lists or part == RUN:
            message.kept.setdefault(number, []).append(start if stop < 0 else memoryview(data)[start:stop])
    check = CHECKS.get(kind)
    return None if check is None else check(message, found)


def _see_property(message: _Message, found: Scan) -> None:
    found.metadata.add(decoded(message.text(1)))


def _see_external(message: _Message, _: Scan) -> tuple[str, str]:
    return decoded(message.text(1)), decoded(message.text(2))


def _see_sparse(message: _Message, _: Scan) -> None:
    _bound(b"a sparse tensor", message.integers(3))


def _see_tensor(message: _Message, found: Scan) -> list[float] | None:
    """Check where its data is, and that it is not much less than its shape. The numbers of a small one are told."""
    shape, where = message.integers(1), message.integer(14)
    name = decoded(message.text(8))
    if len(shape) > FEW or any(size < 0 for size in shape):
        raise GraphError(f"tensor {name!r} has the shape {shape[:FEW]}")
    if message.told or where:
        if where != EXTERNAL or not message.told:
            raise GraphError(f"tensor {name!r} says that its data is at location {where}, by the keys {message.told}")
        if message.depth != INITIALIZER_DEPTH:
            raise GraphError(f"tensor {name!r} inside an operator reads {message.told}; only initializers may")
        found.external.append(_external(name, message.told))
        return None
    if prod(shape) > 4 * message.size:  # two bits are the smallest element
        raise GraphError(f"tensor {name!r} has the shape {shape}, and only {message.size} bytes")
    values = _numbers(message) if prod(shape) <= FEW else [inf]  # more numbers than a shape has: as good as endless
    if values and message.text(8):
        found.constants.setdefault(message.text(8), []).append(values)
    return values


def _numbers(message: _Message) -> list[float]:
    """The numbers of a small tensor, of the types that shapes have."""
    code = FORMATS.get(message.integer(2))
    if code is None:
        return []
    return [*message.numbers(9, code), *message.numbers(4, "f"), *message.numbers(10, "d"),
            *message.integers(5), *message.integers(7)]  # fmt: skip


def _see_attribute(message: _Message, _: Scan) -> tuple[bytes, list[float], _Message]:
    """Its name, and the numbers of a list or a small tensor, though not all of a long list; a graph tells nothing."""
    values = [*message.integers(3), *message.integers(8), *message.numbers(2, "f"), *message.numbers(7, "f")]
    for told in message.told:
        values += told
    return message.text(1), values, message


def _see_node(message: _Message, found: Scan) -> None:
    domain, name = message.text(7), message.text(4)
    found.domains.add(decoded(domain))
    if name in BLOBS:
        raise GraphError(f"the graph has an operator {name.decode()}, which hands what it holds to a vendor's compiler")
    found.calls.append((b"" if domain == b"ai.onnx" else domain, name, message.text(8)))
    if len(found.calls) > MAX_NODES:
        raise GraphError(f"the graph has more than {MAX_NODES} nodes")
    if name == b"Constant":
        for values in (values for _, values, _ in message.told if values):
            found.constants.setdefault(message.text(2), []).append(values)
    _see_shape(name, message, found)
    if domain == b"ai.onnx.ml" and decoded(name) in trees.GROUPS:
        _check_trees(decoded(name), message)


def _see_shape(name: bytes, message: _Message, found: Scan) -> None:
    """Note, or check, what states the size of what an operator makes."""
    inputs = tuple(message.kept.get(1, ()))
    if name == b"Range":
        found.shaped.add((name, inputs[:3]))
    elif len(inputs) > SHAPED.get(name, len(inputs)):
        found.shaped.add((name, (inputs[SHAPED[name]],)))
    if name in SHAPED_BY_ATTRIBUTE:
        for attribute, values, _ in message.told:
            if attribute == SHAPED_BY_ATTRIBUTE[name]:
                _bound(name, values)


def _check_trees(operator: str, message: _Message) -> None:
    """Check an ensemble of trees, whose lists must stand in its own attributes."""
    names = {name.encode(): name for group in trees.GROUPS[operator] for name in group}
    lists: dict[str, Array] = {}
    try:
        for attribute, _, held in message.told:
            name = names.get(attribute)
            if name in lists or REFERENCE in held.kept:
                raise GraphError(f"it has {decoded(attribute)!r} twice, or from the arguments of a function")
            if name is not None:
                lists[name] = _list(name, held)
        trees.check(operator, lists)
    except GraphError as error:
        raise GraphError(f"operator {operator} of {decoded(message.text(2))!r} is refused: {error}") from None


def _list(name: str, attribute: _Message) -> Array:
    """A list of an ensemble of trees: of modes their sizes, and what belongs to leaves as zeros."""
    if name == "nodes_modes":
        return text_sizes(attribute.kept.get(9, ()))
    if name in trees.COUNTED:
        return np.broadcast_to(0, amount(attribute.kept.get(8, ())) + sum(map(len, attribute.kept.get(7, ()))) // 4)
    return array(attribute.kept.get(8, ()))


def _see_function(message: _Message, found: Scan) -> None:
    domain = message.text(10)
    found.domains.add(decoded(domain))
    call = (b"" if domain == b"ai.onnx" else domain, message.text(1), message.text(13))
    if call in found.functions:
        raise GraphError(f"the graph has two functions {decoded(call[1])!r}")
    found.functions[call] = Counter(found.calls[message.first :])
    del found.calls[message.first :]


CHECKS: dict[str, Callable[[_Message, Scan], Any]] = {
    "property": _see_property,
    "external": _see_external,
    "sparse": _see_sparse,
    "tensor": _see_tensor,
    "attribute": _see_attribute,
    "node": _see_node,
    "function": _see_function,
}


def decoded(text: bytes) -> str:
    """A text of the graph, whatever bytes it holds."""
    return text.decode("utf-8", "backslashreplace")


def _external(name: str, entries: list[tuple[str, str]]) -> tuple[str, int, int]:
    entry = dict(entries)
    keys = sorted(key for key, _ in entries)
    if len(keys) > len(entry) or not {"location", "offset", "length"} <= set(keys) <= EXTERNAL_KEYS:
        raise GraphError(f"tensor {name!r} refers to external data by the keys {keys}")
    if not (NUMBER.fullmatch(entry["offset"]) and NUMBER.fullmatch(entry["length"])):
        where = f"at {entry['offset']!r:.40}, length {entry['length']!r:.40}"
        raise GraphError(f"tensor {name!r} refers to external data {where}")
    return entry["location"], int(entry["offset"]), int(entry["length"])


def check(graph: bytes | memoryview, weights: str, weights_size: int | None, *, domains: Collection[str] = ()) -> Scan:
    """What is in the graph, if it stays within its operators, the weights member `weights`, and its bounds.

    Args:
        graph: a serialised ModelProto.
        weights: the only location external tensors may name.
        weights_size: its size in bytes, None if there is none.
        domains: of operators that the caller accepts besides those of ONNX and onnxruntime.

    Raises GraphError.
    """
    found = scan(graph)
    if "ort_config" in found.metadata:
        raise GraphError("the graph carries session options (metadata ort_config), which a package may not")
    strange = sorted(found.domains - DOMAINS - set(domains))
    if strange:
        raise GraphError(
            f"the graph uses operators of {strange}, and packages may use {sorted(DOMAINS - {''})}; if you trust "
            f"these, pass allow={{{str(strange)[1:-1]}}} to save and to load"
        )
    _check_external(found.external, weights, weights_size)
    _check_shapes(found)
    _expanded(found)
    return found


def _check_external(external: list[tuple[str, int, int]], weights: str, weights_size: int | None) -> None:
    last = 0
    for location, offset, length in sorted(external, key=lambda entry: entry[1:]):
        if location != weights or weights_size is None:
            raise GraphError(f"a tensor reads {location!r}, which is not a member of the package", location=location)
        if offset + length > weights_size:
            raise GraphError(f"a tensor reads bytes {offset} to {offset + length} of {weights_size}", location=location)
        if offset < last:
            raise GraphError(f"two tensors read the bytes at {offset} of {location!r}", location=location)
        last = offset + length


def _check_shapes(found: Scan) -> None:
    """A name may stand for several tensors, of one subgraph each: any of them may be the one that counts."""
    spans = {name: (min(map(min, several)), max(map(max, several))) for name, several in found.constants.items()}
    for operator, inputs in found.shaped:
        if operator != b"Range":
            for values in found.constants.get(inputs[0], ()):
                _bound(operator, values)
        elif all(name in spans for name in inputs):
            (start, _), (_, limit), steps = (spans[name] for name in inputs)
            far = max(limit - start, spans[inputs[0]][1] - spans[inputs[1]][0])
            _bound(operator, [far / (min(map(abs, steps)) or max(map(abs, steps)) or 1)])


def _bound(name: bytes, shape: Sequence[float]) -> None:
    """Raise GraphError where a tensor of this shape, or one enlarged by it along each axis, is too large."""
    if len(shape) > FEW or not prod(max(float(size), 1.0) for size in shape) * ITEM <= MAX_BYTES:
        raise GraphError(
            f"{decoded(name)} makes a tensor of the size {shape[:FEW]}, which is more than {MAX_BYTES >> 30} GiB"
        )


def _expanded(found: Scan) -> None:
    """Raise GraphError where the calls of functions by functions come to too many nodes, or never end."""
    sizes: dict[Call, int] = {}

    def size(calls: Counter[Call], depth: int) -> int:
        if depth > MAX_DEPTH:
            raise GraphError(f"the functions of the graph call each other more than {MAX_DEPTH} deep")
        total = 0
        for call, count in calls.items():
            if call in found.functions and call not in sizes:
                sizes[call] = size(found.functions[call], depth + 1)
            total += count * (1 + sizes.get(call, 0))
        return total

    for calls in (Counter(found.calls), *found.functions.values()) if found.functions else ():
        if size(calls, 0) > MAX_NODES:
            raise GraphError(f"the graph has more than {MAX_NODES} nodes when its functions are expanded")
