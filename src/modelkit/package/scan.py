"""Refuse an ONNX model that a package may not hold; write again what was checked, for a runtime."""

from __future__ import annotations

from collections.abc import Collection

from modelkit.errors import GraphError
from modelkit.package import integers, operators, sizes
from modelkit.package.scanned import DOMAINS, Scan
from modelkit.package.walk import walk
from modelkit.runtimes import schema


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
        domains: the domains of operators that the caller accepts besides ONNX's and onnxruntime's;
            None for all.

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
    stated = sizes.check_stated(found.nodes, found.constants)
    operators.check_scales(found.nodes, found.constants, found.known, found.sources)
    integers.check_divisions(found.nodes, found.known, found.types, found.sources)
    found.folding = sizes.choose_folding(
        found.nodes,
        found.constants,
        found.sources,
        found.inputs,
        stated,
        len(graph) + (weights_size or 0),
    )
    found.graph = schema.write(model)
    return found


def _strange_domains(found: Scan, strange: list[str]) -> str:
    if strange == [operators.MICROSOFT]:
        rare = sorted(
            {operators.decoded(node.name) for node in found.nodes if operators.is_rare(node)}
        )
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
