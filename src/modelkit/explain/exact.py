"""The methods "trees" and "additive": exact values from the structure of a graph.

A sum of trees is explained from tables of its leaves, a sum over columns from what each column
changes alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import GraphError
from modelkit.explain.graph import cut, whole_proto
from modelkit.explain.method import ExplainRequest, NoFitError
from modelkit.explain.structure import NoStructureError, Structure, read_structure
from modelkit.explain.subject import ROWS_AT_ONCE, Player, Subject
from modelkit.explain.sums import RunParts, Sum, SumMethod
from modelkit.explain.table import LeafTable, TooDeepError
from modelkit.explain.time_limit import current_call
from modelkit.runtimes.onnx import OnnxModel
from modelkit.signature.signature import Feeds, Signature
from modelkit.signature.spec import TensorSpec

CHECKED_ROWS = 64  # background rows that an exact method is tried on when it is made

Encode = Callable[[Feeds], Array]  # rows to the tensor that an exact method starts from


def make_exact(request: ExplainRequest) -> SumMethod:
    """The exact method for the graph of a model. Raises NoFitError if its structure has none."""
    subject = request.subject
    graph = getattr(subject.model.base, "graph", None)
    if graph is None:
        raise NoFitError("the model has no graph to read")
    try:
        found = read_structure(whole_proto(*graph), subject.signature, subject.served)
        _check_wanted(found, request)
        method = SumMethod(subject, _sum(subject, found), exact=True)
    except (NoStructureError, TooDeepError, GraphError) as error:
        raise NoFitError(str(error)) from error
    missed = method.misses(CHECKED_ROWS)
    if missed is not None:
        raise NoFitError(f"its values do not add up to what is served: {missed}") from missed
    return method


def _check_wanted(found: Structure, request: ExplainRequest) -> None:
    """Raise NoStructureError if a structure is not the one that was asked for."""
    link = found.link
    if request.method not in ("auto", found.kind):
        raise NoStructureError(f"the graph has the structure for {found.kind!r}")
    if link.name == "exp" and link.scale <= 0:
        raise NoStructureError("an exponential is followed by a factor that is not positive")
    if link.name != "identity" and request.space in ("probability", "value"):
        raise NoStructureError(
            f"the {request.space} comes after a {link.name}, and values are exact before it alone"
        )


def _sum(subject: Subject, found: Structure) -> Sum:
    if found.kind == "trees":
        run = _run_trees(subject, found)
        return Sum("trees", run, found.link, 1, "the graph is a sum of trees")
    run = _run_additive(subject, found)
    cost = len(subject.players) + 1
    return Sum("additive", run, found.link, cost, "the graph is a sum over columns")


def _run_trees(subject: Subject, found: Structure) -> RunParts:
    assert found.leaves is not None  # for the type checker
    assert found.groups is not None
    encode = _encoder(subject, found, found.leaves.dtype)
    _check_groups(subject, found, encode)
    background = encode(subject.background)
    table = LeafTable(found.leaves, found.groups, background)
    d = len(subject.players)

    def run(feeds: Feeds) -> tuple[Array, Array]:
        values = table.explain(encode(feeds))
        if values.shape[1] < d:
            missing = d - values.shape[1]
            values = np.pad(values, ((0, 0), (0, missing), (0, 0)))
        return found.link.log_odds(values, table.base)

    return run


def _check_groups(subject: Subject, found: Structure, encode: Encode) -> None:
    """Move each raw column by itself, and see that only the columns that depend on it move.

    Leaf tables add up under any grouping, so the additivity check would not notice a wrong one.
    Raises NoStructureError.
    """
    if found.tensor in subject.background or found.groups is None:
        return
    few = subject.head(CHECKED_ROWS)
    before = encode(few)
    for number, player in enumerate(subject.players):
        after = encode(_moved(few, player))
        others = found.groups != number
        if not np.array_equal(before[:, others], after[:, others], equal_nan=True):
            raise NoStructureError(f"column {player.name!r} moves what should not depend on it")


def _moved(feeds: Feeds, player: Player) -> Feeds:
    """Copies of rows, in which each has one column of the row before it."""
    moved = {name: feed.copy() for name, feed in feeds.items()}
    tensor = moved[player.tensor]
    tensor[:, player.column] = np.roll(tensor[:, player.column], 1)
    return moved


def _run_additive(subject: Subject, found: Structure) -> RunParts:
    """A sum of functions of one column each: a column adds what changes where it alone does."""
    encode = _encoder(subject, found, np.float64)
    reference = subject.head(1)
    at_reference = encode(reference)[0]

    def alone(feeds: Feeds, player: Player) -> Array:
        return encode(_with_one_column(reference, feeds, player))

    means = []
    for player in subject.players:
        at_background = alone(subject.background, player)
        means.append(at_background.mean(axis=0))
    mean = np.stack(means)
    base = at_reference + (mean - at_reference).sum(axis=0)

    def run(feeds: Feeds) -> tuple[Array, Array]:
        columns = [alone(feeds, player) for player in subject.players]
        values = np.stack(columns, axis=1) - mean
        return found.link.log_odds(values, base)

    return run


def _with_one_column(reference: Feeds, feeds: Feeds, player: Player) -> Feeds:
    """Copies of the reference row, with one column of `feeds`."""
    column = feeds[player.tensor][:, player.column]
    mixed = {}
    for name, feed in reference.items():
        mixed[name] = np.repeat(feed, len(column), axis=0)
    mixed[player.tensor][:, player.column] = column
    return mixed


def _encoder(subject: Subject, found: Structure, dtype: Any) -> Encode:
    """What turns feeds into the tensor that an exact method starts from: the graph, cut there."""
    if found.tensor in subject.background:
        return lambda feeds: feeds[found.tensor].astype(dtype, copy=False)
    part = _cut_model(subject, found, dtype)

    def encode(feeds: Feeds) -> Array:
        got = part._run(feeds, (found.tensor,), current_call())[found.tensor]
        count = len(next(iter(feeds.values())))
        return got.reshape(count, -1).astype(dtype, copy=False)

    return encode


def _cut_model(subject: Subject, found: Structure, dtype: Any) -> OnnxModel:
    """The part of the graph before a tensor, whose type may not be `dtype`: both are tried.

    Raises GraphError if neither runs.
    """
    name = np.dtype(dtype).name
    failure: GraphError | None = None
    for kind in dict.fromkeys((name, "float32", "float64")):
        spec = TensorSpec(found.tensor, kind, ("batch", "width"))
        signature = Signature(subject.signature.inputs, (spec,))
        graph = cut(found.proto, found.tensor, kind).SerializeToString()
        try:
            return OnnxModel(graph, signature, threads=1, chunk=ROWS_AT_ONCE)
        except GraphError as error:
            failure = error
    assert failure is not None  # for the type checker
    raise failure
