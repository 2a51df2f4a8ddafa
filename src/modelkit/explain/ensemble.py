"""Decode a tree ensemble into leaves: a value each, and the conditions on the way to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.explain.conditions import ANYTHING, AskedSets, Conditions
from modelkit.explain.nodes import NO_BRANCH, Branch, TreeNodes, read_ensemble

if TYPE_CHECKING:
    import onnx

PATH_CELLS = 1 << 18  # cells of leaves by columns at once


@dataclass(frozen=True)
class Leaves:
    """All leaves of an ensemble.

    Its output is `base` (outputs,) and the sum of `values` (leaves, outputs) of the leaves whose
    conditions hold. Leaf i asks for the conditions `path[starts[i] : starts[i + 1]]`, at most one
    for each column and in the order of the columns. `dtype` is that in which a column is compared.
    """

    values: Array
    conditions: Conditions
    path: Array
    starts: Array
    base: Array
    dtype: Any


class _Ends(NamedTuple):
    """Some leaves: `values` (leaves, outputs), the number of conditions of each, and their path."""

    values: Array
    sizes: Array
    path: Array


def decode_ensemble(node: onnx.NodeProto, dtype: Any, table: Array | None = None) -> Leaves:
    """The leaves of a tree ensemble node that compares in the numpy type `dtype`.

    With a `table`, each tree gives the number of a row of it, and the sum of these rows is decoded.

    Raises NotDecodableError if the ensemble is not a sum of leaves over plain conditions.
    """
    found = read_ensemble(node, table)
    ends, conditions = _walk_trees(found.nodes, dtype)
    scale = 1 / len(found.nodes.roots) if found.is_average else 1.0
    starts = np.concatenate([[0], np.cumsum(ends.sizes)])
    values = ends.values * scale
    return Leaves(values, conditions, ends.path, starts, found.base, dtype)


def _walk_trees(nodes: TreeNodes, dtype: Any) -> tuple[_Ends, Conditions]:
    """All leaves that are not zero, and each different condition once."""
    edges = _edges(nodes, dtype)
    columns = int(nodes.column.max(initial=0)) + 1
    cells = columns * len(nodes.leaf)
    step = max(1, PATH_CELLS * len(nodes.roots) // cells)
    parts: list[_Ends] = []
    found: list[Conditions] = []
    count = 0
    for start in range(0, len(nodes.roots), step):
        leaves, conditions = _descend(nodes, edges, nodes.roots[start : start + step], columns)
        parts += [part._replace(path=part.path + count) for part in leaves]
        found.append(conditions)
        count += len(conditions.column)
    ends = _Ends(*map(np.concatenate, zip(*parts, strict=True)))
    return _with_distinct(ends, Conditions.joined(found))


def _with_distinct(ends: _Ends, conditions: Conditions) -> tuple[_Ends, Conditions]:
    """The same leaves, with each different condition once and none that no leaf asks for."""
    path = conditions.first_equal()[ends.path]
    used = np.zeros(len(conditions.column), bool)
    used[path] = True
    number = np.cumsum(used) - 1
    distinct = conditions.take(np.flatnonzero(used))
    return ends._replace(path=number[path]), distinct


def _descend(
    nodes: TreeNodes, edges: Conditions, roots: Array, columns: int
) -> tuple[list[_Ends], Conditions]:
    """The leaves under some roots, level by level, and the conditions on the way to them.

    `last` has for each way down and each column the condition on it, which is what the last node
    that reads the column asks, with all that was asked before; the condition 0 always holds.
    """
    known = Conditions.always(edges.low.dtype)
    found = []
    at = roots
    last = np.zeros((len(roots), columns), np.intp)
    while len(at):
        found.append(_ended(nodes, at, last))
        inner = np.flatnonzero(nodes.leaf[at] < 0)
        row = np.arange(2 * len(inner))
        twice = inner[row // 2]  # `repeat` does not let other threads run
        at = at[twice]
        last = last[twice]
        edge = row % 2 * len(nodes.column) + at  # the true branch, then the false one
        column = nodes.column[at]
        before = known.take(last[row, column])
        more = before.both(edges.take(edge))
        last[row, column] = len(known.column) + row
        known = Conditions.joined([known, more])
        at = nodes.child.reshape(-1)[edge]
    return found, known


def _ended(nodes: TreeNodes, at: Array, last: Array) -> _Ends:
    """The leaves among the nodes `at`, but for those that are zero."""
    ends = np.flatnonzero(nodes.leaf[at] >= 0)
    values = nodes.values[nodes.leaf[at[ends]]]
    kept = values.any(axis=1)
    asked = last[ends[kept]]
    asks = asked > 0
    return _Ends(values[kept], asks.sum(axis=1), asked[asks])


@dataclass(frozen=True)
class _Splits:
    """What each node compares with, (nodes,).

    Its true branch is `x <= bound` where `below`, and its false branch where `above`. `bottom` says
    that the bound would be below minus infinity.
    """

    mode: Array
    bound: Array
    bottom: Array
    below: Array
    above: Array


def _splits(nodes: TreeNodes, dtype: Any) -> _Splits:
    mode = nodes.mode[: len(nodes.column)]
    value = nodes.value.astype(dtype)
    # x < v is x <= the number before v, but before minus infinity there is none.
    strict = (mode == Branch.LT) | (mode == Branch.GTE)
    bottom = strict & np.isneginf(value)
    before = np.nextafter(value, dtype(-np.inf))
    bound = np.where(strict & ~bottom, before, value)
    below = (mode == Branch.LEQ) | (mode == Branch.LT)
    above = (mode == Branch.GT) | (mode == Branch.GTE)
    return _Splits(mode, bound, bottom, below & ~bottom, above & ~bottom)


def _edges(nodes: TreeNodes, dtype: Any) -> Conditions:
    """What the true branches of all nodes ask, and then what the false ones do."""
    splits = _splits(nodes, dtype)
    bounds = np.tile(splits.bound, 2)
    has_high = np.concatenate([splits.below, splits.above])
    has_low = np.concatenate([splits.above, splits.below])
    return Conditions(
        np.tile(nodes.column, 2),
        np.where(has_low, bounds, dtype(-np.inf)),
        np.where(has_high, bounds, dtype(np.inf)),
        _missing_edges(nodes, splits.mode),
        _edge_sets(nodes, splits),
    )


def _missing_edges(nodes: TreeNodes, mode: Array) -> Array:
    """Whether a missing value takes each edge, (2 * nodes,)."""
    missing = np.stack([nodes.missing, ~nodes.missing])
    # A missing value differs from every number, whatever the graph says.
    unequal = mode == Branch.NEQ
    missing[0, unequal] = True
    missing[1, unequal] = False
    return missing.reshape(-1)


def _edge_sets(nodes: TreeNodes, splits: _Splits) -> dict[int, AskedSets]:
    """What edges ask beyond bounds, by their number."""
    count = len(nodes.column)
    bounded = splits.below | splits.above
    bounded &= ~np.isneginf(splits.bound)
    asking = np.flatnonzero((splits.mode != NO_BRANCH) & ~bounded)
    sets = {}
    for i in asking.tolist():
        members = nodes.members.get(i) or (float(splits.bound[i]),)
        true, false = _asked_sets(int(splits.mode[i]), members, bottom=bool(splits.bottom[i]))
        sets[i] = true
        sets[count + i] = false
    return {i: asked for i, asked in sets.items() if asked != ANYTHING}


def _asked_sets(
    mode: int, members: tuple[float, ...], *, bottom: bool
) -> tuple[AskedSets, AskedSets]:
    """What the true and the false branch ask beyond bounds.

    `bottom` says that the bound is minus infinity and nothing is below it. Whatever is above an
    open bound is apart from it.
    """
    apart: AskedSets = (None, members)
    if bottom:
        first: AskedSets = ((), ())
        second = ANYTHING
    elif mode in (Branch.LEQ, Branch.LT, Branch.GTE, Branch.GT):
        first = ANYTHING
        second = apart
    else:
        first = (members, ())
        second = apart
    swapped = mode in (Branch.GTE, Branch.GT, Branch.NEQ)
    return (second, first) if swapped else (first, second)
