"""Where exact explanations start: the sum behind an output, as its converter says or its graph ends.

A graph of our own comes with a record of what its converter built. Of any other graph the last
operator is read: a tree ensemble or a linear model of the columns of inputs, which only a link
follows.
"""

from __future__ import annotations

from modelkit.explain.graph import GraphIndex
from modelkit.explain.nodes import TREE_OPERATORS, link_of
from modelkit.explain.subject import Subject
from modelkit.model.structure import Link, Structure

PRODUCTS: tuple[str, ...] = ("Gemm", "MatMul")
LINEAR_OPERATORS = (*PRODUCTS, "LinearClassifier", "LinearRegressor")
LINKS: dict[str, Link] = {"Exp": "exp", "Sigmoid": "logistic", "Softmax": "softmax"}
RESHAPING = ("Cast", "Flatten", "Identity", "Normalizer", "Reshape", "Squeeze", "Unsqueeze")
COLUMNWISE = ("Cast", "Identity", "Imputer", "Scaler")


class NoStructureError(Exception):
    """An output that is not known to be a sum; its text says why, for the plan."""


def structure_of(graph: GraphIndex, subject: Subject) -> Structure:
    """The sum behind what is explained. Raises NoStructureError if none is known."""
    manifest = subject.model.manifest
    known = None if manifest is None else manifest.structures.get(subject.served)
    return known or _last_operator(graph, subject)


def _last_operator(graph: GraphIndex, subject: Subject) -> Structure:
    """The same, read from the last operator before the link, whoever wrote the graph."""
    tensor = subject.served
    link: Link = "identity"
    node = graph.maker(tensor)
    while node is not None and (
        node.op_type in RESHAPING or (node.op_type in LINKS and link == "identity")
    ):
        link = LINKS.get(node.op_type, link)
        tensor = node.input[0]
        node = graph.maker(tensor)
    last, known = node, (*TREE_OPERATORS, *LINEAR_OPERATORS)
    if node is not None and node.op_type == "Add":  # a product, and what is added to each row
        last, known = next(filter(None, map(graph.maker, node.input)), None), PRODUCTS
    if node is None or last is None or last.op_type not in known:
        raise NoStructureError("the graph ends neither in a sum of trees nor in a linear model")
    if node.output[-1] != tensor:
        raise NoStructureError("the output is a label")
    own = link_of(last)
    if own == "logistic" and last.op_type == "LinearClassifier":
        own = "share"
    if "identity" not in (own, link):
        raise NoStructureError(f"a {own} is followed by a {link}")
    read = {*node.input, *last.input} - {*last.output, *graph.constants}
    return Structure(
        tensor, own if link == "identity" else link, groups=_groups(graph, read, subject)
    )


def _groups(graph: GraphIndex, read: set[str], subject: Subject) -> tuple[int, ...]:
    """The raw column that each column is that the last operator reads: of inputs, side by side."""
    names = list(read)
    node = graph.maker(_before_columnwise(graph, names[0])) if len(names) == 1 else None
    if node is not None and node.op_type == "Concat":
        names = [*node.input]
    sources = [_before_columnwise(graph, name) for name in names]
    inputs = {player.tensor for player in subject.players}
    if not inputs.issuperset(sources) or len(read) != 1:
        raise NoStructureError(
            "the columns that its last operator reads may depend on several raw columns each"
        )
    players = list(enumerate(subject.players))
    return tuple(number for tensor in sources for number, each in players if each.tensor == tensor)


def _before_columnwise(graph: GraphIndex, name: str) -> str:
    """The tensor of which operators made another column by column."""
    node = graph.maker(name)
    while node is not None and node.op_type in COLUMNWISE:
        name = node.input[0]
        node = graph.maker(name)
    return name
