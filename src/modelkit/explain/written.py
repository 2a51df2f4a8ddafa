"""Links that are written out, as converters write them that round as their source does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelkit.explain.graph import GraphIndex

if TYPE_CHECKING:
    import onnx


def written_link(graph: GraphIndex, node: onnx.NodeProto) -> tuple[str, str] | None:
    """The tensor before a link whose last step is a quotient, and the name of the link.

    1 / (exp(-x) + 1) is the logistic function, and exp(x - max x) over its sum the softmax. None
    for any other quotient.
    """
    if node.op_type != "Div":
        return None
    if graph.number(node.input[0]) == 1.0:
        before = _before_logistic(graph, node.input[1])
        return None if before is None else (before, "logistic")
    before = _before_softmax(graph, *node.input)
    return None if before is None else (before, "softmax")


def _before_logistic(graph: GraphIndex, name: str) -> str | None:
    """X for exp(-x) + 1."""
    added = _made(graph, name, "Add")
    if added is None:
        return None
    others = [term for term in added.input if graph.number(term) != 1.0]
    if len(others) != 1:
        return None
    negated = _made(graph, _exponent(graph, others[0]), "Neg")
    return None if negated is None else str(negated.input[0])


def _before_softmax(graph: GraphIndex, grown: str, whole: str) -> str | None:
    """X for exp(x - max x) and the sum of these over the classes."""
    summed = _made(graph, whole, "ReduceSum")
    shifted = _made(graph, _exponent(graph, grown), "Sub")
    if summed is None or shifted is None:
        return None
    most = _made(graph, shifted.input[1], "ReduceMax")
    if most is None or most.input[0] != shifted.input[0]:
        return None
    if _uncast(graph, summed.input[0]) != _uncast(graph, grown):
        return None
    return str(shifted.input[0])


def _exponent(graph: GraphIndex, name: str) -> str:
    """X for exp(x); the name itself for anything else."""
    grown = _made(graph, name, "Exp")
    return name if grown is None else str(grown.input[0])


def _made(graph: GraphIndex, name: str, kind: str) -> onnx.NodeProto | None:
    """The node that makes a tensor, before casts, if it is of a kind."""
    node = graph.maker(_uncast(graph, name))
    return node if node is not None and node.op_type == kind else None


def _uncast(graph: GraphIndex, name: str) -> str:
    node = graph.maker(name)
    while node is not None and node.op_type == "Cast":
        name = node.input[0]
        node = graph.maker(name)
    return name
