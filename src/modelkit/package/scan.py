"""Refuse an ONNX model that a package may not hold, and give a runtime what was checked, written anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from modelkit.errors import GraphError
from modelkit.package import integers, operators, sizes
from modelkit.package.scanned import DOMAINS, OpCall, Scan, decoded
from modelkit.package.walk import MAX_NODES, walk
from modelkit.runtimes import schema

MAX_CALLS = 32  # of functions in each other


def check_graph(
    graph: bytes | memoryview,
    weights: str,
    weights_size: int | None,
    *,
    domains: Collection[str] | None = (),
) -> Scan:
    """Scan a graph, and refuse operators, external data and sizes that a package may not have.

    Args:
        graph: a serialised ModelProto.
        weights: the only location external tensors may name.
        weights_size: its size in bytes, None if there is none.
        domains: of operators that the caller accepts besides those of ONNX and onnxruntime; None
            for all.

    Raises GraphError, and MissingExtraError where protobuf is not installed.
    """
    model = schema.parse(graph)
    found = walk(model)
    if "ort_config" in found.metadata:
        raise GraphError(
            "the graph carries session options (metadata ort_config), which a package may not"
        )
    strange = [] if domains is None else sorted(set(found.beyond) - set(domains))
    if strange:
        raise GraphError(_strange_domains(found, strange))
    _check_external(found.external, weights, weights_size)
    stated = {name: sizes.state(several) for name, several in found.numbers.items()}
    sizes.check_stated(found.nodes, stated)
    _check_expanded(found)
    shapes = {name: held.shape for name, held in found.held.items()}
    operators.check_scales(found.nodes, shapes)
    functions = {name for _, name, _ in found.functions}
    integers.check_divisions(found.nodes, found.constants, found.types, functions)
    found.folding = sizes.choose_folding(
        found.nodes,
        found.held,
        stated,
        len(graph) + (weights_size or 0),
        unknown=found.open - found.closed,
        functions=bool(found.functions),
    )
    found.graph = schema.write(model)
    return found


def _strange_domains(found: Scan, strange: list[str]) -> str:
    if strange == [operators.MICROSOFT]:
        rare = sorted({decoded(node.name) for node in found.nodes if operators.is_rare(node)})
        return (
            "the graph uses operators of onnxruntime's own that nothing writes into graphs, "
            f"{rare}; if you trust them, pass allow={{{operators.MICROSOFT!r}}} to save and to load"
        )
    known = sorted(DOMAINS - {""})
    return (
        f"the graph uses operators of {strange}, and packages may use {known}; if you trust "
        f"these, pass allow={{{str(strange)[1:-1]}}} to save and to load"
    )


def _check_external(
    external: list[tuple[str, int, int]], weights: str, weights_size: int | None
) -> None:
    last = 0
    for location, offset, length in sorted(external, key=lambda entry: entry[1:]):
        if location != weights or weights_size is None:
            problem = f"a tensor reads {location!r}, which is not a member of the package"
        elif offset + length > weights_size:
            problem = f"a tensor reads bytes {offset} to {offset + length} of {weights_size}"
        elif offset < last:
            problem = f"two tensors read the bytes at {offset} of {location!r}"
        else:
            last = offset + length
            continue
        raise GraphError(problem, location=location)


def _check_expanded(found: Scan) -> None:
    """Raise GraphError where functions that call functions make too many nodes, or never end."""
    if not found.functions:
        return
    expanded: dict[OpCall, int] = {}

    def count(calls: Counter[OpCall], depth: int) -> int:
        if depth > MAX_CALLS:
            raise GraphError(
                f"the functions of the graph call each other more than {MAX_CALLS} deep"
            )
        total = 0
        for call, times in calls.items():
            if call in found.functions and call not in expanded:
                expanded[call] = count(found.functions[call], depth + 1)
            total += times * (1 + expanded.get(call, 0))
        return total

    for calls in (Counter(found.calls), *found.functions.values()):
        if count(calls, 0) > MAX_NODES:
            raise GraphError(
                f"the graph has more than {MAX_NODES} nodes when its functions are expanded"
            )
