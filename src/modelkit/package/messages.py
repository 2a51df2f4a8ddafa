"""What each message of a serialised ONNX model tells, and what none of them may hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from math import inf, prod
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import GraphError
from modelkit.package import grams, operators, sizes, trees
from modelkit.package.integers import INT64
from modelkit.package.scanned import (
    CLOSED,
    CONSTANT,
    INNER,
    NOTHING,
    OPEN,
    SUBGRAPH,
    Scan,
    Told,
    decoded,
)
from modelkit.package.walk import REFERENCE, Message
from modelkit.package.wire import amount, array, text_sizes

# These operators of com.microsoft hand a blob, or a file they name, to the compiler of a vendor.
BLOBS = frozenset({b"EPContext", b"Snpe"})
MAX_NODES = 200_000  # with every call of a function counted as the nodes of its body
MAIN_DEPTH = 1  # model > graph
# Model > graph > tensor: runtimes resolve external data at other depths by other rules.
INITIALIZER_DEPTH = 2
EXTERNAL = 1  # as a tensor's data_location
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
DIGITS = re.compile("[0-9]{1,18}")
FORMATS = {1: "f", 6: "i", 7: "q", 11: "d"}  # how struct calls the numbers of a tensor's data_type


def _see_graph(message: Message, found: Scan) -> Told:
    """Note constants, the largest of those of a name, and which inputs of the model are open."""
    for told in message.told:
        if told.role == CONSTANT:
            largest = found.held.get(told.name)
            found.held[told.name] = sizes.larger(told.held, largest)
            found.constants.setdefault(told.name, []).append((told.kind, told.values))
        elif told.role != INNER:
            found.inputs.append(told)
        if told.role == OPEN and message.depth == MAIN_DEPTH:
            found.open.add(told.name)
        elif told.role in (OPEN, CLOSED):
            found.closed.add(told.name)
    found.declared += message.kept.get(13, ())
    return SUBGRAPH


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
    sizes.check_bound("a sparse tensor", shape)
    elements = prod(max(size, 1) for size in shape)
    found.sparse += sizes.ITEM * elements
    if found.sparse > sizes.SPARSE_BYTES:
        raise GraphError(
            f"the sparse tensors of the graph have {found.sparse:.0f} bytes when they are dense, "
            f"as they are at load; at most {sizes.SPARSE_BYTES} are accepted"
        )
    name = b""
    kind = 0
    if message.told:
        name = message.told[0].name
        kind = message.told[0].kind
    return Told(name, sizes.Held(elements, sizes.ITEM), [inf], kind, CONSTANT)


def _see_tensor(message: Message, found: Scan) -> Told:
    """Check where the data of a tensor is, and that it is not much less than its shape says."""
    name = message.text(8)
    kind = message.integer(2)
    shape = _tensor_shape(message)
    elements = prod(shape)
    held = sizes.Held(elements, sizes.WIDTHS.get(kind, sizes.ITEM), tuple(shape))
    if _is_external(message):
        found.external.append(_external(decoded(name), message.told))
        return Told(name, held, [inf], kind, CONSTANT)
    if elements > 4 * message.size:  # two bits are the smallest element
        raise GraphError(
            f"tensor {decoded(name)!r} has the shape {shape}, and only {message.size} bytes"
        )
    # More numbers than a shape has are as good as endless.
    values = _numbers(message) if elements <= sizes.FEW_NUMBERS else [inf]
    if values and name:
        found.numbers.setdefault(name, []).append(values)
    return Told(name, held, values, kind, CONSTANT)


def _tensor_shape(message: Message) -> list[int]:
    """The shape of a tensor. Raises GraphError for one of too many dimensions, or negative ones."""
    shape = message.integers(1)
    if len(shape) > sizes.FEW_NUMBERS or any(size < 0 for size in shape):
        name = decoded(message.text(8))
        raise GraphError(f"tensor {name!r} has the shape {shape[: sizes.FEW_NUMBERS]}")
    return shape


def _is_external(message: Message) -> bool:
    """Whether the data of a tensor is outside the graph. Raises GraphError where it may not be."""
    where = message.integer(14)
    if not message.told and not where:
        return False
    name = decoded(message.text(8))
    if where != EXTERNAL or not message.told:
        raise GraphError(
            f"tensor {name!r} says that its data is at location {where}, by the keys {message.told}"
        )
    if message.depth != INITIALIZER_DEPTH:
        raise GraphError(
            f"tensor {name!r} inside an operator reads {message.told}; only initializers may"
        )
    return True


def _external(name: str, entries: list[tuple[str, str]]) -> tuple[str, int, int]:
    """Location, offset and length of external data."""
    entry = dict(entries)
    keys = sorted(key for key, _ in entries)
    needed = {"location", "offset", "length"}
    if len(keys) > len(entry) or not needed <= set(keys) <= EXTERNAL_KEYS:
        raise GraphError(f"tensor {name!r} refers to external data by the keys {keys}")
    offset = entry["offset"]
    length = entry["length"]
    if not (DIGITS.fullmatch(offset) and DIGITS.fullmatch(length)):
        raise GraphError(
            f"tensor {name!r} refers to external data at {offset!r:.40}, length {length!r:.40}"
        )
    return entry["location"], int(offset), int(length)


def _numbers(message: Message) -> list[float]:
    """The numbers of a small tensor, of the types that shapes have."""
    code = FORMATS.get(message.integer(2))
    if code is None:
        return []
    return [
        *message.numbers(9, code),
        *message.numbers(4, "f"),
        *message.numbers(10, "d"),
        *message.integers(5),
        *message.integers(7),
    ]


def _see_attribute(message: Message, _: Scan) -> tuple[operators.Setting, Message]:
    """What an attribute holds, without the tail of a long list; a graph tells nothing."""
    values: list[float] = [*message.integers(3), *message.integers(8)]
    floats = [*message.numbers(2, "f"), *message.numbers(7, "f")]
    if values and floats:
        raise GraphError("an attribute of the graph has both integers and floats; it has one kind")
    values += floats
    for told in message.told:
        values += told.values
    setting = operators.Setting(
        name=message.text(1),
        numbers=values,
        kind=_kind(message),
        text=message.text(4),
        size=message.size,
        borrowed=REFERENCE in message.kept,
        nests=any(told is SUBGRAPH for told in message.told),
    )
    return setting, message


def _kind(message: Message) -> int:
    """The data type of the numbers of an attribute, 0 where it has none."""
    for told in message.told:
        if told.kind:
            return int(told.kind)
    return INT64 if 3 in message.kept or 8 in message.kept else 0


def _see_node(message: Message, found: Scan) -> None:
    domain = message.text(7)
    name = message.text(4)
    found.domains.add(decoded(domain))
    if name in BLOBS:
        raise GraphError(
            f"the graph has an operator {name.decode()}, which hands what it holds to a vendor's "
            "compiler"
        )
    domain = _same_domain(domain)
    found.calls.append((domain, name, message.text(8)))
    if len(found.nodes) >= MAX_NODES:
        raise GraphError(f"the graph has more than {MAX_NODES} nodes")
    node = operators.Node(
        domain=domain,
        name=name,
        inputs=tuple(message.kept.get(1, ())),
        outputs=tuple(message.kept.get(2, ())),
        settings=[setting for setting, _ in message.told],
    )
    operators.check_operator(node)
    found.nodes.append(node)
    if name == b"Constant":
        numbers = [setting.numbers for setting in node.settings if setting.numbers]
        if numbers:
            found.numbers.setdefault(message.text(2), []).extend(numbers)
    wanted = _lists_of(domain, decoded(name))
    if wanted:
        _check_lists(decoded(name), message, wanted)


def _same_domain(domain: bytes) -> bytes:
    """The domain of ONNX has two names, of which one is used here: the empty one."""
    return b"" if domain == b"ai.onnx" else domain


def _lists_of(domain: bytes, operator: str) -> list[str]:
    """The attributes of an operator that are lists to be checked."""
    if operator == grams.OPERATOR:
        return [*grams.INTEGER_LISTS, grams.POOL_STRINGS]
    if domain != b"ai.onnx.ml":
        return []
    return [name for group in trees.LIST_GROUPS.get(operator, ()) for name in group]


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
        output = decoded(message.text(2))
        raise GraphError(f"operator {operator} of {output!r} is refused: {error}") from None


def _list(name: str, attribute: Message) -> Array:
    """A list of an operator: the sizes of branch modes, and zeros where only its length counts."""
    if name == "nodes_modes":
        return text_sizes(attribute.kept.get(9, ()))
    if name == grams.POOL_STRINGS:
        return np.broadcast_to(0, attribute.counted)
    if name in trees.LENGTHS_ONLY:
        floats = sum(map(len, attribute.kept.get(7, ()))) // 4
        return np.broadcast_to(0, amount(attribute.kept.get(8, ())) + floats)
    return array(attribute.kept.get(8, ()))


def _see_function(message: Message, found: Scan) -> None:
    domain = message.text(10)
    found.domains.add(decoded(domain))
    call = (_same_domain(domain), message.text(1), message.text(13))
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
