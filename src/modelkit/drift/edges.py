"""From a column of training rows to a Feature: its edges, categories and coarse cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import COARSE_CELLS, EDGES, GONE, REST, Feature, name_hash, short_name
from modelkit.drift.columns import FeatureKind, as_numbers, as_texts

TAIL_SHARE = 0.001  # of the training rows, beyond the outermost edges, where there are enough rows
ATOM = 1 / 32  # a value that this share of the rows has gets a cell of its own
MOST_KNOWN = 96  # categories beyond the first 64 that are told from new ones, by four bytes each


def fit_feature(
    name: str, kind: FeatureKind, values: Array, *, output: bool = False, weight: float = 1.0
) -> Feature:
    """The cells of one column, from training rows (n,)."""
    feature = Feature(name, kind, output=output, weight=weight)
    if kind == "category":
        feature = _with_categories(feature, values)
    elif kind == "flag":
        feature = replace(feature, edges=(0.5,))
    else:
        numbers = as_numbers(values, kind, name)
        finite = numbers[np.isfinite(numbers)]
        feature = replace(feature, edges=choose_edges(np.sort(finite)))
    return replace(feature, coarse=coarsen(feature.count(values)))


def _with_categories(feature: Feature, values: Array) -> Feature:
    """A feature with the categories of a column, the most frequent ones first."""
    items = Counter(item for item in as_texts(values) if item is not None)
    by_name = sorted(items)
    ranked = sorted(by_name, key=lambda item: -items[item])
    rest = ranked[REST:]
    return replace(
        feature,
        categories=tuple(short_name(item) for item in ranked[:REST]),
        known=tuple(sorted(name_hash(item) for item in rest[:MOST_KNOWN])),
        open=len(rest) > MOST_KNOWN,
    )


def choose_edges(numbers: Array) -> tuple[float, ...]:
    """At most 63 numbers that separate sorted, finite ones into cells of about equal mass.

    The tails are thin. A value that many rows have is put between two edges. Where an edge may lie
    is a matter of rank; among ranks close by, it goes where the gap is widest, and to the shortest
    decimal inside it, so that it tells no value of a row.
    """
    differ = numbers[1:] != numbers[:-1]
    starts = np.flatnonzero(np.concatenate([[True], differ])[: len(numbers)])
    distinct = numbers[starts]
    if len(distinct) < 2:
        return _about_constant(distinct)
    gaps = np.arange(len(distinct) - 1)
    if len(gaps) > EDGES:
        below = starts[1:] / len(numbers)  # the mass under each gap
        gaps = _chosen_gaps(distinct, below, len(numbers))
    return tuple(_between(distinct[gap], distinct[gap + 1]) for gap in gaps)


def _about_constant(distinct: Array) -> tuple[float, ...]:
    """Edges about one value: what is lower or higher by a thousandth is another value."""
    most = float(np.finfo(distinct.dtype).max)
    edges = []
    for value in distinct.tolist():
        apart = (abs(value) or 1) * 1e-3
        edges += [value - apart, value + apart]
    return tuple(edge for edge in edges if abs(edge) <= most)


def _chosen_gaps(distinct: Array, below: Array, rows: int) -> Array:
    """The numbers of at most 63 gaps between distinct values: even in rank, and about atoms."""
    tail = max(TAIL_SHARE, 10 / rows)
    inner = np.linspace(0, 1, EDGES)[1:-1]
    ranks = np.concatenate([[tail], inner, [1 - tail]])
    width = np.diff(distinct.astype(np.float64))  # of float32 it may overflow
    even = [_widest_gap(below, width, rank) for rank in ranks]
    mass = np.diff(np.concatenate([[0.0], below, [1.0]]))
    atoms = np.flatnonzero(mass >= ATOM)
    before = atoms[atoms > 0] - 1
    after = atoms[atoms < len(width)]
    gaps = np.unique(np.concatenate([even, before, after]))
    while len(gaps) > EDGES:  # of the inner ones, the gap that leaves the thinnest cell
        thinnest = int(np.argmin(np.diff(below[gaps])[:-1]))
        gaps = np.delete(gaps, 1 + thinnest)
    return gaps


def _widest_gap(below: Array, width: Array, rank: float) -> int:
    slack = min(1 / 512, rank / 4, (1 - rank) / 4)
    low, high = np.searchsorted(below, [rank - slack, rank + slack])
    first = min(int(low), len(below) - 1)
    last = max(int(high), first + 1)
    return first + int(np.argmax(width[first:last]))


def _between(low: Any, high: Any) -> float:
    """The shortest decimal that parts two neighbours, as they are compared.

    It is the lower one where no number is between.
    """
    middle = float(low) + (float(high) - float(low)) / 2
    for digits in range(1, 18):
        edge = low.dtype.type(f"{middle:.{digits}g}")
        if low < edge < high:
            return float(edge)
    return float(low)


def coarsen(counts: Array) -> tuple[int, ...]:
    """For each of the 67 cells one of 16 of about equal mass, in order.

    Missing values have the last to themselves.
    """
    inner = counts[:GONE].astype(np.float64)
    middle = np.cumsum(inner) - inner / 2
    total = max(float(inner.sum()), 1.0)
    last = COARSE_CELLS - 1
    group = np.minimum(middle / total * last, last - 1)
    return (*group.astype(int).tolist(), last)
