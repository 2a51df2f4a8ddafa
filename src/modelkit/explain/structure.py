"""Where exact explanations start: the sum behind an output, as its converter says or its graph ends.

A graph of our own comes with a record of what its converter built. Of any other graph the last
operator is read: a tree ensemble or a linear model of the columns of one input, which only a link
follows.
"""

from __future__ import annotations

from collections.abc import Iterable

from modelkit.explain.graph import GraphIndex
from modelkit.explain.nodes import TREE_OPERATORS, link_of
from modelkit.explain.subject import Subject
from modelkit.model.structure import Link, Structure

LINEAR_OPERATORS = ("Gemm", "LinearClassifier", "LinearRegressor", "MatMul")
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
    last = node
    if node is not None and node.op_type == "Add":  # a product, and what is added to each row
        last = next(filter(None, map(graph.maker, node.input)), None)
    if node is None or last is None or last.op_type not in (*TREE_OPERATORS, *LINEAR_OPERATORS):
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


def _groups(graph: GraphIndex, read: Iterable[str], subject: Subject) -> tuple[int, ...]:
    """The raw column that each column is made of that the last operator reads."""
    names = list(read)
    node = graph.maker(names[0])
    while node is not None and node.op_type in COLUMNWISE:
        names = [node.input[0]]
        node = graph.maker(names[0])
    players = enumerate(subject.players)
    groups = tuple(number for number, player in players if [player.tensor] == names)
    if not groups:
        raise NoStructureError(
            "the columns that its last operator reads may depend on several raw columns each"
        )
    return groups
