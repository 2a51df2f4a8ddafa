"""Walk a parsed ONNX model: refuse what none of its parts may hold, and keep what is checked of the whole."""

from __future__ import annotations

import re
from itertools import chain
from math import inf, prod
from struct import calcsize, unpack_from
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import GraphError
from modelkit.package import grams, operators, sizes, trees
from modelkit.package.integers import INT64
from modelkit.package.operators import Constant, decoded
from modelkit.package.scanned import Scan

MAX_LEVELS = 8  # of graphs in the operators of each other
MAX_NODES = 200_000
MAX_ENTRIES = 10_000  # of the model's metadata, for which a runtime takes 2 microseconds each
MAX_PARTS = 800_000  # attributes, and graphs in them; each takes 20 microseconds
# These operators of com.microsoft hand a blob, or a file they name, to the compiler of a vendor.
BLOBS = frozenset({b"EPContext", b"Snpe"})
EXTERNAL = 1  # as a tensor's data_location
EXTERNAL_KEYS = {"location", "offset", "length", "checksum"}
DIGITS = re.compile("[0-9]{1,18}")
WHOLE = (2, 7)  # as an attribute's type: an integer, and a list of them
FORMATS = {1: "f", 6: "i", 7: "q", 11: "d"}  # how struct calls the numbers of a tensor's data_type
MOST = sizes.FEW_NUMBERS + 1  # of the numbers of a list that are kept: more are no shape


def walk(model: Any) -> Scan:
    """What is in every graph, subgraph and tensor of a model. Raises GraphError."""
    if model.functions:
        raise GraphError(
            "the graph has functions of its own, which mk.save writes out, operator by operator: "
            "save the model again"
        )
    if len(model.metadata_props) > MAX_ENTRIES:
        raise GraphError(f"the graph has more than {MAX_ENTRIES:,} entries of metadata")
    found = Scan({decoded(entry.key) for entry in model.metadata_props})
    _see_graph(model.graph, found, 0)
    return found


def _see_graph(graph: Any, found: Scan, level: int) -> None:
    """Note constants, inputs, declared types and operators; `level` graphs are around it."""
    if level > MAX_LEVELS:
        raise GraphError(f"the graph nests deeper than {MAX_LEVELS} levels")
    _refuse_sparse(graph.sparse_initializer)
    for tensor in graph.initializer:
        # Runtimes resolve external data at other places by other rules.
        found.constants[tensor.name].append(_see_tensor(tensor, found, external=level == 0))
    for value in graph.input:
        if level == 0 and value.name in found.constants:  # which is the value that it has
            continue
        is_open = level == 0 and not _has_sizes(value.type.tensor_type)
        found.inputs[value.name] = is_open or found.inputs.get(value.name, False)
    for node in graph.node:
        _see_node(node, found, level)
    # What it declares of the values of another graph, nobody checks.
    own = {name for node in graph.node for name in node.output}
    own.update(value.name for value in graph.input)
    for value in chain(graph.input, graph.output, graph.value_info):
        if value.name in own:
            found.types.setdefault(value.name, set()).add(value.type.tensor_type.elem_type)


def _has_sizes(tensor: Any) -> bool:
    """Whether the type of a tensor fixes the size of every dimension."""
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _refuse_sparse(tensors: Any) -> None:
    if tensors:
        raise GraphError(
            "the graph has sparse tensors, which no package has; write them as dense ones"
        )


def _see_tensor(tensor: Any, found: Scan, *, external: bool = False) -> Constant:
    """A tensor, with its numbers where they are few.

    Raises GraphError for data that lie outside the graph, unless they may by `external`, and for a
    shape that has more elements than there are data.
    """
    name = decoded(tensor.name)
    shape = tuple(tensor.dims[:MOST])
    if len(shape) == MOST or any(size < 0 for size in shape):
        raise GraphError(f"tensor {name!r} has the shape {list(shape[: sizes.FEW_NUMBERS])}")
    elements = prod(shape)
    # A sum over no elements, or a product of nothing, is as large as the other sizes say.
    most = prod(size or 1 for size in shape)
    kind = tensor.data_type
    if tensor.data_location or tensor.external_data:
        entry = _external(name, tensor, allowed=external)
        found.external.append(entry)
        return Constant(kind, [inf], shape, most, entry[2])
    lists = [tensor.float_data, tensor.double_data, tensor.int32_data, tensor.int64_data]
    data = len(tensor.raw_data) + sum(map(len, [*lists, tensor.uint64_data, tensor.string_data]))
    if elements > 4 * data:  # two bits are the smallest element
        raise GraphError(
            f"tensor {name!r} has the shape {list(shape)}, and only {data} bytes or numbers"
        )
    # More numbers than a shape has are as good as endless.
    numbers = _numbers(tensor, lists) if elements <= sizes.FEW_NUMBERS else [inf]
    width = sizes.STRING_BYTES if kind == sizes.STRING else sizes.ITEM
    return Constant(kind, numbers, shape, most, len(tensor.raw_data) or width * most)


def _numbers(tensor: Any, lists: list[Any]) -> list[float]:
    """The numbers of a small tensor, of the types that shapes have."""
    code = FORMATS.get(tensor.data_type)
    if code is None:
        return []
    raw = tensor.raw_data[: MOST * calcsize(code)]
    listed = [number for one in lists for number in one[:MOST]]
    return [*unpack_from(f"<{len(raw) // calcsize(code)}{code}", raw), *listed]


def _external(name: str, tensor: Any, *, allowed: bool) -> tuple[str, int, int]:
    """Location, offset and length of external data."""
    entries = [(decoded(entry.key), decoded(entry.value)) for entry in tensor.external_data]
    if tensor.data_location != EXTERNAL or not entries:
        raise GraphError(
            f"tensor {name!r} says that its data is at location {tensor.data_location}, by the keys "
            f"{entries}"
        )
    if not allowed:
        raise GraphError(
            f"tensor {name!r} inside an operator reads {entries}; only initializers may"
        )
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


def _see_attribute(attribute: Any, found: Scan, level: int) -> operators.Setting:
    """What an attribute holds, without the tail of a long list; its tensors and graphs are seen."""
    most = None if attribute.name == b"inputdimensions" else MOST  # each is checked
    integers = _all(attribute, "i", "ints", most)
    floats = _all(attribute, "f", "floats", MOST)
    if integers and floats:
        raise GraphError("an attribute of the graph has both integers and floats; it has one kind")
    _refuse_sparse(_all(attribute, "sparse_tensor", "sparse_tensors"))
    tensors = [_see_tensor(tensor, found) for tensor in _all(attribute, "t", "tensors")]
    graphs = _all(attribute, "g", "graphs")
    found.parts += len(graphs)
    _check_parts(found)
    for graph in graphs:
        _see_graph(graph, found, level + 1)
    lists = (attribute.ints, attribute.floats, attribute.strings)
    whole = (
        integers or attribute.type in WHOLE
    )  # the list may be empty, and has its type all the same
    return operators.Setting(
        name=attribute.name,
        numbers=sum((tensor.numbers for tensor in tensors), integers or floats),
        kind=next((tensor.kind for tensor in tensors if tensor.kind), INT64 if whole else 0),
        text=attribute.s,
        elements=max(1, sum(map(len, lists)) + sum(tensor.elements for tensor in tensors)),
        nests=bool(graphs),
    )


def _check_parts(found: Scan) -> None:
    if found.parts > MAX_PARTS:
        raise GraphError(f"the graph has more than {MAX_PARTS} attributes, and graphs in them")


def _all(message: Any, one: str, several: str, most: int | None = None) -> list[Any]:
    """What a message holds in a field of one value and in one of several."""
    first = [getattr(message, one)] if message.HasField(one) else []
    return [*first, *getattr(message, several)[:most]]


def _see_node(node: Any, found: Scan, level: int) -> None:
    name = node.op_type
    # The domain of ONNX has two names, of which one is used here: the empty one.
    domain = b"" if node.domain == b"ai.onnx" else node.domain
    found.domains.add(decoded(domain))
    if name in BLOBS:
        raise GraphError(
            f"the graph has an operator {decoded(name)}, which hands what it holds to a vendor's "
            "compiler"
        )
    if len(found.nodes) >= MAX_NODES:
        raise GraphError(f"the graph has more than {MAX_NODES} nodes")
    found.parts += len(node.attribute)
    _check_parts(found)
    settings = [_see_attribute(attribute, found, level) for attribute in node.attribute]
    if len({setting.name for setting in settings}) < len(settings):
        raise GraphError(f"the graph has an operator {decoded(name)} with an attribute twice")
    seen = operators.Node(domain, name, tuple(node.input), tuple(node.output), settings)
    operators.check_operator(seen)
    found.nodes.append(seen)
    if seen.is_constant and settings:
        for output in node.output:
            found.constants[output] += map(_constant, settings)
    wanted = _lists_of(domain, decoded(name))
    if wanted:
        _check_lists(node, wanted)


def _constant(setting: operators.Setting) -> Constant:
    """What an attribute of a Constant makes of it."""
    texts = setting.kind == sizes.STRING or not setting.numbers
    size = setting.elements * (sizes.STRING_BYTES if texts else sizes.ITEM)
    numbers = setting.numbers if len(setting.numbers) < MOST else [inf]
    return Constant(setting.kind, numbers, None, setting.elements, size)


def _lists_of(domain: bytes, operator: str) -> set[str]:
    """The attributes of an operator that are lists to be checked."""
    if operator == grams.OPERATOR:
        return {*grams.INTEGER_LISTS, grams.POOL_STRINGS}
    groups = trees.LIST_GROUPS.get(operator, ()) if domain == b"ai.onnx.ml" else ()
    return {name for group in groups for name in group}


def _check_lists(node: Any, wanted: set[str]) -> None:
    """Check an ensemble of trees or a vectorizer, whose lists must stand in its own attributes."""
    operator = decoded(node.op_type)
    lists: dict[str, Array] = {}
    try:
        for attribute in node.attribute:
            name = decoded(attribute.name)
            if name in wanted:
                lists[name] = _list(name, attribute)
        if operator == grams.OPERATOR:
            grams.check_grams(lists)
        else:
            trees.check_trees(operator, lists)
    except GraphError as error:
        output = decoded((node.output or [b""])[0])
        raise GraphError(f"operator {operator} of {output!r} is refused: {error}") from None


def _list(name: str, attribute: Any) -> Array:
    """A list of an operator: the letters of branch modes, and zeros where only its length counts."""
    if name == "nodes_modes":
        known = (len(mode) for mode in attribute.strings if mode in trees.MODES)
        return np.fromiter(known, np.int64)
    if name == grams.POOL_STRINGS:
        return np.broadcast_to(0, len(attribute.strings))
    if name in trees.LENGTHS_ONLY:
        return np.broadcast_to(0, len(attribute.ints) + len(attribute.floats))
    return np.array(attribute.ints, np.int64)
