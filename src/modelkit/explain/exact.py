"""The methods "trees" and "additive": exact values from the structure of a graph.

A sum of trees is explained from tables of its leaves, a sum over columns from what each column
changes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import AdditivityError, GraphError, SignatureError
from modelkit.explain.ensemble import decode_ensemble
from modelkit.explain.graph import CUT, GraphIndex, cut, whole_proto
from modelkit.explain.links import log_odds
from modelkit.explain.method import ExplainRequest, NoFitError
from modelkit.explain.nodes import TREE_OPERATORS, NotDecodableError, link_of
from modelkit.explain.subject import ROWS_AT_ONCE, Subject, coalitions, mixed, rows_at
from modelkit.explain.sums import RunParts, Sum, SumMethod
from modelkit.explain.table import LeafTable, TooDeepError
from modelkit.explain.time_limit import current_call
from modelkit.model.structure import Link, Structure
from modelkit.runtimes.onnx import OnnxModel
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import TensorSpec

if TYPE_CHECKING:
    import onnx

CHECKED_ROWS = 64  # background rows that an exact method is tried on when it is made

Encode = Callable[[Feeds], Array]  # rows to the tensor that an exact method starts from


def make_exact(request: ExplainRequest) -> SumMethod:
    """The exact method for the graph of a model. Raises NoFitError if its structure has none."""
    subject = request.subject
    graph = getattr(subject.model.base, "graph", None)
    if graph is None:
        raise NoFitError("the model is not a graph that can be read")
    try:
        index = GraphIndex(whole_proto(*graph))
        found = _sum(request, index, structure_of(index, subject))
        method = SumMethod(subject, found, exact=True)
        missed = method.misses(CHECKED_ROWS)
    except (
        AdditivityError, GraphError, NoStructureError, NotDecodableError, SignatureError, TooDeepError
    ) as error:  # fmt: skip
        raise NoFitError(str(error)) from error
    if missed is not None:
        raise NoFitError(f"its values do not add up to what is served: {missed}") from missed
    return method


def _sum(request: ExplainRequest, graph: GraphIndex, found: Structure) -> Sum:
    node = graph.maker(found.tensor)
    if node is None:
        raise NoStructureError("the output is an input or a constant")
    kind = "trees" if node.op_type in TREE_OPERATORS else "additive"
    if request.method not in ("auto", kind):
        raise NoStructureError(f"the graph has the structure for {kind!r}")
    if found.link != "identity" and request.space in ("probability", "value"):
        raise NoStructureError(
            f"the {request.space} comes after a {found.link}, and values are exact before it alone"
        )
    if kind == "trees":
        run = _run_trees(request.subject, graph, found, node)
        return Sum(kind, run, found.link, 1, "the graph is a sum of trees")
    run = _run_additive(request.subject, graph, found)
    cost = len(request.subject.players) + 1
    return Sum(kind, run, found.link, cost, "the graph is a sum over columns")


def _run_trees(
    subject: Subject, graph: GraphIndex, found: Structure, node: onnx.NodeProto
) -> RunParts:
    encode = _encoder(subject, graph, node.input[0])
    background = encode(subject.background)
    groups = np.array(found.groups, np.intp)
    check = _tried_check(subject, encode, groups, background)
    # Whole numbers are compared as floats.
    dtype = np.float64 if background.dtype == np.float64 else np.float32
    leaves = decode_ensemble(node, dtype, graph.constant(found.table))
    leaves = replace(leaves, values=leaves.values * found.factor, base=leaves.base * found.factor)
    table = LeafTable(leaves, groups, background.astype(dtype))

    def run(feeds: Feeds) -> tuple[Array, Array]:
        encoded = encode(feeds)
        check(feeds, encoded, np.arange(len(encoded)) % subject.count)
        values = table.explain(encoded.astype(dtype, copy=False))
        # Players after the last one that a column belongs to add nothing.
        values = np.pad(values, ((0, 0), (0, len(subject.players) - values.shape[1]), (0, 0)))
        return log_odds(found.link, values, table.base)

    return run


def _tried_check(
    subject: Subject, encode: Encode, groups: Array, background: Array
) -> Callable[[Feeds, Array, Array], None]:
    """`_check_groups` of feeds, what they are encoded as, and places, once it was tried on the background."""
    if (
        groups.shape != background.shape[1:]
        or not np.isin(groups, range(len(subject.players))).all()
    ):
        raise NoStructureError(
            "it is not known which raw column each column of the trees is made of"
        )
    check = partial(_check_groups, subject, encode, groups, background)
    few = background[:CHECKED_ROWS]
    check(subject.head(CHECKED_ROWS), few, np.roll(np.arange(len(few)), 1))
    return check


def _check_groups(
    subject: Subject,
    encode: Encode,
    groups: Array,
    background: Array,
    feeds: Feeds,
    encoded: Array,
    places: Array,
) -> None:
    """Raise AdditivityError where, among rows and as many of the background, a raw column moves more than its group.

    Leaf tables add up under any grouping, so the additivity check would not notice a wrong one.
    Rows are mixed so that any two raw columns come from different sides once at least, and once at
    random.
    """
    d, count = len(subject.players), len(encoded)
    bits = np.arange((d - 1).bit_length())[:, None]
    halves = (np.arange(d) >> bits) & 1 == 1
    chosen = np.concatenate([np.repeat(halves, count, axis=0), coalitions(count, d)])
    times = len(halves) + 1
    places = np.tile(places, times)
    own = {name: np.tile(feed, (times, 1)) for name, feed in feeds.items()}
    right = np.where(chosen[:, groups], np.tile(encoded, (times, 1)), background[places])
    mixtures = mixed(own, rows_at(subject.background, places), chosen)
    if not np.array_equal(encode(mixtures), right, equal_nan=True):
        raise AdditivityError(
            "a raw column moves what should not depend on it, so that the package says of "
            "itself what is not so; use method='sampling', and report this model",
            gap=float("inf"),
        )


def _run_additive(subject: Subject, graph: GraphIndex, found: Structure) -> RunParts:
    """A sum of functions of one column each: a column adds what changes where it alone does."""
    encode = _encoder(subject, graph, found.tensor)
    reference = subject.head(1)
    at_reference = encode(reference)[0].astype(np.float64)

    def alone(feeds: Feeds) -> list[Array]:
        masks = np.eye(len(subject.players), dtype=bool)
        return [encode(mixed(feeds, reference, mask)).astype(np.float64) for mask in masks]

    mean = np.stack([values.mean(axis=0) for values in alone(subject.background)])
    base = at_reference + (mean - at_reference).sum(axis=0)

    def run(feeds: Feeds) -> tuple[Array, Array]:
        values = np.stack(alone(feeds), axis=1) - mean
        return log_odds(found.link, values, base)

    return run


def _encoder(subject: Subject, graph: GraphIndex, tensor: str) -> Encode:
    """What turns feeds into the tensor that an exact method starts from: the graph, cut there.

    The type of the tensor is not known: both are tried. Raises GraphError if neither runs.
    """
    if tensor in subject.background:
        return lambda feeds: feeds[tensor]
    failures: list[GraphError] = []
    for dtype in ("float64", "float32"):
        spec = TensorSpec(CUT, dtype, ("batch", "width"))
        signature = Signature(subject.signature.inputs, (spec,))
        proto = cut(graph.proto, tensor, dtype).SerializeToString()
        try:
            part = OnnxModel(proto, signature, threads=1, chunk=ROWS_AT_ONCE)
            break
        except GraphError as error:
            failures.append(error)
    else:
        raise failures[-1]
    return lambda feeds: part._run(feeds, (CUT,), current_call())[CUT]


# Where exact explanations start: the sum behind an output, as its converter says or its graph ends.
# A graph of our own comes with a record of what its converter built. Of any other graph the last
# operator is read: a tree ensemble or a linear model of the columns of inputs, which only a link
# follows.

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
