"""The methods "trees" and "additive": exact values from the structure of a graph.

A sum of trees is explained from tables of its leaves, a sum over columns from what each column
changes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import AdditivityError, GraphError, SignatureError
from modelkit.explain.ensemble import decode_ensemble
from modelkit.explain.graph import CUT, GraphIndex, cut, whole_proto
from modelkit.explain.links import log_odds
from modelkit.explain.method import ExplainRequest, NoFitError
from modelkit.explain.nodes import TREE_OPERATORS, NotDecodableError
from modelkit.explain.structure import NoStructureError, structure_of
from modelkit.explain.subject import ROWS_AT_ONCE, Subject, coalitions, mixed
from modelkit.explain.sums import RunParts, Sum, SumMethod
from modelkit.explain.table import LeafTable, TooDeepError
from modelkit.explain.time_limit import current_call
from modelkit.model.structure import Structure
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
    d = len(subject.players)
    if groups.shape != background.shape[1:] or not np.isin(groups, range(d)).all():
        raise NoStructureError(
            "it is not known which raw column each column of the trees is made of"
        )
    check = _check_of_groups(subject, encode, groups, background)
    few = background[:CHECKED_ROWS]
    check(subject.head(CHECKED_ROWS), few, np.roll(np.arange(len(few)), 1))
    # Whole numbers are compared as floats.
    dtype = np.float64 if background.dtype == np.float64 else np.float32
    leaves = decode_ensemble(node, dtype, graph.constant(found.table))
    leaves = replace(leaves, values=leaves.values * found.factor, base=leaves.base * found.factor)
    table = LeafTable(leaves, groups, background.astype(dtype))

    def run(feeds: Feeds) -> tuple[Array, Array]:
        encoded = encode(feeds)
        check(feeds, encoded, np.arange(len(encoded)) % subject.count)
        values = table.explain(encoded.astype(dtype, copy=False))
        if values.shape[1] < d:
            missing = d - values.shape[1]
            values = np.pad(values, ((0, 0), (0, missing), (0, 0)))
        return log_odds(found.link, values, table.base)

    return run


def _check_of_groups(
    subject: Subject, encode: Encode, groups: Array, background: Array
) -> Callable[[Feeds, Array, Array], None]:
    """A check, on rows and as many of the background, that a raw column moves only its group.

    Leaf tables add up under any grouping, so the additivity check would not notice a wrong one.
    Rows are mixed so that any two raw columns come from different sides once at least, and once at
    random.
    """
    d = len(subject.players)
    number = np.arange(d)
    halves = [(number >> bit) % 2 == 1 for bit in range((d - 1).bit_length())]

    def check(feeds: Feeds, encoded: Array, places: Array) -> None:
        count, times = len(encoded), len(halves) + 1
        chosen: Array = np.empty((times, count, d), bool)
        chosen[:-1] = np.reshape(halves, (-1, 1, d))
        chosen[-1] = coalitions(count, d)
        chosen = chosen.reshape(-1, d)
        own = {name: np.tile(feed, (times, 1)) for name, feed in feeds.items()}
        places = np.tile(places, times)
        others = {name: feed[places] for name, feed in subject.background.items()}
        right = np.where(chosen[:, groups], np.tile(encoded, (times, 1)), background[places])
        if not np.array_equal(encode(mixed(own, others, chosen)), right, equal_nan=True):
            raise AdditivityError(
                "a raw column moves what should not depend on it, so that the package says of "
                "itself what is not so; use method='sampling', and report this model",
                gap=float("inf"),
            )

    return check


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
