"""Walk a serialised ONNX model and refuse what a package may not contain, before any runtime parses it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, prod
from typing import Any, NamedTuple

import numpy as np

from modelkit.cast import Array
from modelkit.errors import GraphError
from modelkit.package import grams, integers, operators, sizes, trees
from modelkit.package.walk import MAX_DEPTH, REFERENCE, Message, walk
from modelkit.package.wire import amount, array, text_sizes

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# These operators of com.microsoft hand a blob, or a file they name, to the compiler of a vendor.
BLOBS = frozenset({b"EPContext", b"Snpe"})
LOOPS = frozenset({b"Loop", b"Scan"})
MAX_GRAPH = (1 << 31) - 1  # what protobuf can parse
MAX_NODES = 200_000  # with every call of a function counted as the nodes of its body
MAIN_DEPTH = 1  # model > graph
INITIALIZER_DEPTH = (
    2  # model > graph > tensor: runtimes resolve external data elsewhere by other rules
)
EXTERNAL = 1  # as a tensor's data_location
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
NUMBER = re.compile("[0-9]{1,18}")

INT64 = 7  # as a data type
FORMATS = {1: "f", 6: "i", 7: "q", 11: "d"}  # how struct calls the numbers of a tensor's data_type

OpCall = tuple[bytes, bytes, bytes]  # domain, name and overload of an operator


class Told(NamedTuple):
    """What a tensor or another value told: its name, its size, its numbers where they are few, and its data type."""

    name: bytes
    held: sizes.Held
    values: list[float]
    kind: int
    role: str


CONSTANT, OPEN, CLOSED, INNER = "constant", "input of open shape", "input of fixed shape", "other"
NOTHING = sizes.Held(0, 0)
SUBGRAPH = Told(b"", NOTHING, [], 0, INNER)  # what a graph tells the attribute that holds it


@dataclass
class Scan:
    """What a walk found.

    `domains` are those of operators and functions; a set of operators that is declared and not used
    tells nothing. `external` are (location, offset, length) of each tensor outside the graph. By
    name, `numbers` are those of small tensors, `constants` the data types and numbers of
    initializers, and `held` their sizes; `sparse` is the bytes of those that are sparse, once they
    are dense. `inputs` are those of all graphs, `open` the names of those of the model whose shape
    is not fixed, `closed` of all others, and `declared` says of what type other values are. `nodes`
    are all operators, `calls` those of the graph, and `functions` those of the functions of the
    model.
    """

    domains: set[str] = field(default_factory=set)
    external: list[tuple[str, int, int]] = field(default_factory=list)
    metadata: set[str] = field(default_factory=set)
    numbers: dict[bytes, list[list[float]]] = field(default_factory=dict)
    constants: dict[bytes, list[tuple[int, list[float]]]] = field(default_factory=dict)
    inputs: list[Told] = field(default_factory=list)
    declared: list[memoryview] = field(default_factory=list)
    held: dict[bytes, sizes.Held] = field(default_factory=dict)
    open: set[bytes] = field(default_factory=set)
    closed: set[bytes] = field(default_factory=set)
    sparse: float = 0.0
    nodes: list[operators.Node] = field(default_factory=list)
    calls: list[OpCall] = field(default_factory=list)
    functions: dict[OpCall, Counter[OpCall]] = field(default_factory=dict)
    folding: sizes.Folding = field(default_factory=lambda: sizes.Folding(0, costly=False))

    @property
    def endless(self) -> bool:
        """Whether a run may never end, or take long whatever its rows are."""
        return self.folding.costly or any(node.name in LOOPS for node in self.nodes)

    @cached_property
    def beyond(self) -> list[str]:
        """The domains of the operators that a caller has to allow."""
        rare = {operators.MICROSOFT} if any(map(operators.is_rare, self.nodes)) else set()
        return sorted((self.domains - DOMAINS) | rare)


def scan(graph: bytes | memoryview) -> Scan:
    """Walk every graph, subgraph, function and tensor of a serialised ModelProto.

    Raises GraphError.
    """
    if len(graph) > MAX_GRAPH:
        raise GraphError(f"the graph has {len(graph)} bytes; at most {MAX_GRAPH} are read")
    found, data = Scan(), bytes(graph)
    walk(data, (0, len(data)), "model", 0, CHECKS, found)
    return found


def _see_graph(message: Message, found: Scan) -> Told:
    """Note the constants of a graph, the largest of those of a name, and which inputs of the model are open."""
    for told in message.told:
        if told.role == CONSTANT:
            found.held[told.name] = sizes.larger(told.held, found.held.get(told.name))
            found.constants.setdefault(told.name, []).append((told.kind, told.values))
        elif told.role != INNER:
            found.inputs.append(told)
        if told.role == OPEN and message.depth == MAIN_DEPTH:
            found.open.add(told.name)
        elif told.role in (OPEN, CLOSED):
            found.closed.add(told.name)
    found.declared += message.kept.get(13, ())
    return SUBGRAPH


def _declare(found: Scan) -> dict[bytes, set[int]]:
    """The data types that the graph declares for each name; few graphs need them, and reading all takes its time."""
    types: dict[bytes, set[int]] = {}
    for told in found.inputs:
        types.setdefault(told.name, set()).add(told.kind)
    for raw in found.declared:
        told = walk(bytes(raw), (0, len(raw)), "value", MAIN_DEPTH, CHECKS, found)
        types.setdefault(told.name, set()).add(told.kind)
    return types


def _see_input(message: Message, _: Scan) -> Told:
    kind, whole = message.told[0] if message.told else (0, False)
    return Told(message.text(1), NOTHING, [], kind, CLOSED if whole else OPEN)


def _see_value(message: Message, _: Scan) -> Told:
    kind, _whole = message.told[0] if message.told else (0, False)
    return Told(message.text(1), NOTHING, [], kind, INNER)


def _see_type(message: Message, _: Scan) -> tuple[int, bool]:
    """The data type of a tensor, and whether its shape is fixed."""
    found: tuple[int, bool] = message.told[0] if message.told else (0, False)
    return found


def _see_typed(message: Message, _: Scan) -> tuple[int, bool]:
    return message.integer(1), bool(message.told) and message.told[0]


def _see_shape(message: Message, _: Scan) -> bool:
    """Whether every dimension has a size."""
    return all(message.told)


def _see_dim(message: Message, _: Scan) -> bool:
    return 1 in message.kept


def _see_property(message: Message, found: Scan) -> None:
    found.metadata.add(decoded(message.text(1)))


def _see_external(message: Message, _: Scan) -> tuple[str, str]:
    return decoded(message.text(1)), decoded(message.text(2))


def _see_sparse(message: Message, found: Scan) -> Told:
    shape = message.integers(3)
    sizes.bound("a sparse tensor", shape)
    elements = prod(max(size, 1) for size in shape)
    found.sparse += sizes.ITEM * elements
    if found.sparse > sizes.SPARSE_BYTES:
        raise GraphError(
            f"the sparse tensors of the graph have {found.sparse:.0f} bytes when they are dense, "
            "as they are at load; "
            f"at most {sizes.SPARSE_BYTES} are accepted"
        )
    name, kind = (message.told[0].name, message.told[0].kind) if message.told else (b"", 0)
    return Told(name, sizes.Held(elements, sizes.ITEM), [inf], kind, CONSTANT)


def _see_tensor(message: Message, found: Scan) -> Told:
    """Check where its data is, and that it is not much less than its shape."""
    shape, where = message.integers(1), message.integer(14)
    name = decoded(message.text(8))
    kind = message.integer(2)
    held = sizes.Held(prod(shape), sizes.WIDTHS.get(kind, sizes.ITEM), tuple(shape))
    if len(shape) > sizes.FEW or any(size < 0 for size in shape):
        raise GraphError(f"tensor {name!r} has the shape {shape[: sizes.FEW]}")
    if message.told or where:
        if where != EXTERNAL or not message.told:
            raise GraphError(
                f"tensor {name!r} says that its data is at location {where}, by the keys "
                f"{message.told}"
            )
        if message.depth != INITIALIZER_DEPTH:
            raise GraphError(
                f"tensor {name!r} inside an operator reads {message.told}; only initializers may"
            )
        found.external.append(_external(name, message.told))
        return Told(message.text(8), held, [inf], kind, CONSTANT)
    if prod(shape) > 4 * message.size:  # two bits are the smallest element
        raise GraphError(f"tensor {name!r} has the shape {shape}, and only {message.size} bytes")
    values = (
        _numbers(message) if prod(shape) <= sizes.FEW else [inf]
    )  # more numbers than a shape has: as good as endless
    if values and message.text(8):
        found.numbers.setdefault(message.text(8), []).append(values)
    return Told(message.text(8), held, values, kind, CONSTANT)


def _numbers(message: Message) -> list[float]:
    """The numbers of a small tensor, of the types that shapes have."""
    code = FORMATS.get(message.integer(2))
    if code is None:
        return []
    return [*message.numbers(9, code), *message.numbers(4, "f"), *message.numbers(10, "d"),
            *message.integers(5), *message.integers(7)]  # fmt: skip


def _see_attribute(message: Message, _: Scan) -> tuple[operators.Setting, Message]:
    """What it holds, without the tail of a long list; a graph tells nothing."""
    values = [
        *message.integers(3),
        *message.integers(8),
        *message.numbers(2, "f"),
        *message.numbers(7, "f"),
    ]
    for told in message.told:
        values += told.values
    nests = any(told is SUBGRAPH for told in message.told)
    borrowed = REFERENCE in message.kept
    whole = INT64 if 3 in message.kept or 8 in message.kept else 0
    kind = next((told.kind for told in message.told if told.kind), whole)
    setting = operators.Setting(
        message.text(1), values, kind, message.text(4), message.size, borrowed, nests
    )
    return setting, message


def _see_node(message: Message, found: Scan) -> None:
    domain, name = message.text(7), message.text(4)
    found.domains.add(decoded(domain))
    if name in BLOBS:
        raise GraphError(
            f"the graph has an operator {name.decode()}, which hands what it holds to a vendor's "
            "compiler"
        )
    domain = b"" if domain == b"ai.onnx" else domain
    found.calls.append((domain, name, message.text(8)))
    if len(found.nodes) >= MAX_NODES:
        raise GraphError(f"the graph has more than {MAX_NODES} nodes")
    settings = [setting for setting, _ in message.told]
    node = operators.Node(
        domain, name, tuple(message.kept.get(1, ())), tuple(message.kept.get(2, ())), settings
    )
    operators.check_operator(node)
    found.nodes.append(node)
    if name == b"Constant":
        for setting in settings:
            if setting.numbers:
                found.numbers.setdefault(message.text(2), []).append(setting.numbers)
    if domain == b"ai.onnx.ml" and decoded(name) in trees.GROUPS:
        _check_lists(
            decoded(name),
            message,
            [name for group in trees.GROUPS[decoded(name)] for name in group],
        )
    elif name == grams.OPERATOR.encode():
        _check_lists(grams.OPERATOR, message, [*grams.LISTS, grams.STRINGS])


def _check_lists(operator: str, message: Message, wanted: Iterable[str]) -> None:
    """Check an ensemble of trees or a vectorizer, whose lists must stand in its own attributes."""
    names = {name.encode(): name for name in wanted}
    lists: dict[str, Array] = {}
    try:
        for setting, held in message.told:
            name = names.get(setting.name)
            if name in lists or setting.borrowed:
                raise GraphError(
                    f"it has {decoded(setting.name)!r} twice, or from the arguments of a function"
                )
            if name is not None:
                lists[name] = _list(name, held)
        if operator == grams.OPERATOR:
            grams.check_grams(lists)
        else:
            trees.check_trees(operator, lists)
    except GraphError as error:
        raise GraphError(
            f"operator {operator} of {decoded(message.text(2))!r} is refused: {error}"
        ) from None


def _list(name: str, attribute: Message) -> Array:
    """A list of an ensemble of trees: of modes their sizes, and what belongs to leaves as zeros."""
    if name == "nodes_modes":
        return text_sizes(attribute.kept.get(9, ()))
    if name == grams.STRINGS:
        return np.broadcast_to(0, attribute.counted)
    if name in trees.COUNTED:
        return np.broadcast_to(
            0, amount(attribute.kept.get(8, ())) + sum(map(len, attribute.kept.get(7, ()))) // 4
        )
    return array(attribute.kept.get(8, ()))


def _see_function(message: Message, found: Scan) -> None:
    domain = message.text(10)
    found.domains.add(decoded(domain))
    call = (b"" if domain == b"ai.onnx" else domain, message.text(1), message.text(13))
    if call in found.functions:
        raise GraphError(f"the graph has two functions {decoded(call[1])!r}")
    found.functions[call] = Counter(found.calls[message.first :])
    del found.calls[message.first :]


CHECKS: dict[str, Callable[[Message, Scan], Any]] = {
    "graph": _see_graph,
    "input": _see_input,
    "value": _see_value,
    "type": _see_type,
    "typed": _see_typed,
    "shape": _see_shape,
    "dim": _see_dim,
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


def check_graph(
    graph: bytes | memoryview,
    weights: str,
    weights_size: int | None,
    *,
    domains: Collection[str] = (),
) -> Scan:
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
        raise GraphError(
            "the graph carries session options (metadata ort_config), which a package may not"
        )
    strange = sorted(set(found.beyond) - set(domains))
    if strange:
        raise GraphError(_beyond(found, strange))
    _check_external(found.external, weights, weights_size)
    stated = {name: sizes.state(several) for name, several in found.numbers.items()}
    sizes.check_stated(found.nodes, stated)
    _expanded(found)
    operators.check_scales(found.nodes, {name: held.shape for name, held in found.held.items()})
    named = {name for _, name, _ in found.functions}
    integers.check_divisions(found.nodes, found.constants, lambda: _declare(found), named)
    size = len(graph) + (weights_size or 0)
    found.folding = sizes.choose_folding(
        found.nodes,
        found.held,
        stated,
        size,
        unknown=found.open - found.closed,
        functions=bool(found.functions),
    )
    return found


def _beyond(found: Scan, strange: list[str]) -> str:
    rare = sorted({decoded(node.name) for node in found.nodes if operators.is_rare(node)})
    if strange == [operators.MICROSOFT]:
        return (
            "the graph uses operators of onnxruntime's own that nothing writes into graphs, "
            f"{rare}; if you trust "
            f"them, pass allow={{{operators.MICROSOFT!r}}} to save and to load"
        )
    return (
        f"the graph uses operators of {strange}, and packages may use {sorted(DOMAINS - {''})}; if "
        "you trust "
        f"these, pass allow={{{str(strange)[1:-1]}}} to save and to load"
    )


def _check_external(
    external: list[tuple[str, int, int]], weights: str, weights_size: int | None
) -> None:
    last = 0
    for location, offset, length in sorted(external, key=lambda entry: entry[1:]):
        if location != weights or weights_size is None:
            raise GraphError(
                f"a tensor reads {location!r}, which is not a member of the package",
                location=location,
            )
        if offset + length > weights_size:
            raise GraphError(
                f"a tensor reads bytes {offset} to {offset + length} of {weights_size}",
                location=location,
            )
        if offset < last:
            raise GraphError(
                f"two tensors read the bytes at {offset} of {location!r}", location=location
            )
        last = offset + length


def _expanded(found: Scan) -> None:
    """Raise GraphError where the calls of functions by functions come to too many nodes, or never end."""
    sizes: dict[OpCall, int] = {}

    def size(calls: Counter[OpCall], depth: int) -> int:
        if depth > MAX_DEPTH:
            raise GraphError(
                f"the functions of the graph call each other more than {MAX_DEPTH} deep"
            )
        total = 0
        for call, count in calls.items():
            if call in found.functions and call not in sizes:
                sizes[call] = size(found.functions[call], depth + 1)
            total += count * (1 + sizes.get(call, 0))
        return total

    for calls in (Counter(found.calls), *found.functions.values()) if found.functions else ():
        if size(calls, 0) > MAX_NODES:
            raise GraphError(
                f"the graph has more than {MAX_NODES} nodes when its functions are expanded"
            )
