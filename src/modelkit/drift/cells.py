"""Values as cells: each value of a column falls into one of 67, missing and infinite ones included.

Numbers, times and the lengths of texts lie between edges, which come from training rows and are
rounded to the shortest decimal that separates the same values: -inf is cell 0, the values between
edges are in cells 1 to 64, +inf is cell 65, a missing value cell 66. Categories have the cells 0 to
63 in order of their frequency, then the rest that training knew (64), those it did not know (65),
and missing ones (66). The order of the cells is fixed, and is all that the detectors know of a
value. Numbers are rounded to float32 first, and times to microseconds, whatever they come in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.drift.columns import (
    FeatureKind,
    all_missing,
    as_numbers,
    as_texts,
    feature_kind,
    other_kind,
)
from modelkit.signature.cast import F4
from modelkit.stats.ranks import midranks

CELLS = 67
ABSENT = 255  # the code of a value that was not observed
REST = 64  # the cell of categories beyond the first 64
UNKNOWN_CATEGORY = 65  # the cell of categories that training did not know
GONE = 66  # the cell of missing values
EDGES = 63
COARSE_CELLS = 16
EDGE_SLOTS = 1 << 11  # of equal width, which say between which edges a number lies
MANY_VALUES = 192  # from which looking them up in slots is faster than searching the edges
BINS = 10  # of about a tenth of the reference each
LONGEST_NAME = 32  # of a category's name; a longer one is known by its hash
TAIL_SHARE = 0.001  # of the training rows, beyond the outermost edges, where there are enough rows
ATOM = 1 / 32  # a value that this share of the rows has gets a cell of its own
MOST_KNOWN = 96  # categories beyond the first 64 that are told from new ones, by four bytes each


@final
@dataclass(frozen=True)
class Feature:
    """One column, or one number made of a model's output, and its cells.

    `edges` are for every kind but "category", which has `categories` and, in `known`, the hashes of
    others in training; `open` says that there were too many to know. `stride` is the number of rows
    between values that are taken as independent, `weight` the share of alpha, `output` whether the
    model gives it, and `coarse` has a hex digit for each cell: its group, of 16 of about equal mass in training.
    """

    name: str
    kind: FeatureKind
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    known: tuple[int, ...] = ()
    open: bool = False
    stride: int = 1
    weight: float = 1.0
    output: bool = False
    coarse: str = "0" * CELLS
    _grid: Array = field(init=False, repr=False, compare=False)
    _lookup: dict[str | None, int] = field(init=False, repr=False, compare=False)

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        dtype = np.float64 if self.kind == "time" else np.float32
        top = np.finfo(dtype).max
        unused = [top] * (EDGES + 1 - len(self.edges))
        grid = np.array([-np.inf, *self.edges, *unused, np.inf], dtype)
        lookup = {name: cell for cell, name in enumerate(self.categories)}
        object.__setattr__(self, "_grid", grid)
        object.__setattr__(self, "_lookup", lookup)

    @property
    def ordered(self) -> bool:
        """Whether the order of the cells means something."""
        return self.kind != "category"

    @property
    def groups(self) -> Array:
        """The group of each of the 67 cells, int64 (67,), from 0 to 15."""
        return np.array([int(digit, COARSE_CELLS) for digit in self.coarse])

    @property
    def whole(self) -> bool:
        """Whether the fields are valid, in a feature that was read from bytes."""
        if len(self.edges) > EDGES or len(self.categories) > REST:
            return False
        if len(self.coarse) != CELLS or not {*self.coarse} <= {*"0123456789abcdef"}:
            return False
        finite = np.isfinite(self.edges).all()
        rising = (np.diff(self._grid) >= 0).all()
        if not finite or not rising:
            return False
        return self.stride >= 1 and 0 <= self.weight <= 1

    def cells(self, values: Array) -> Array:
        """The cell of each value, integers (n,). Raises UsageError for values of another kind."""
        if self.kind == "category":
            return self._categories(values)
        if self.kind != "number" or values.dtype is not F4 or type(values) is not np.ndarray:
            values = as_numbers(values, self.kind, self.name)
        if len(values) < MANY_VALUES or self._slots is None:
            return self._search(values)
        firsts, edges = self._slots
        slots = self._slot(values)
        cells = firsts.take(slots)  # for few values, twice as fast as an index
        cells += values > edges.take(slots)
        finite = np.isfinite(values)
        if np.count_nonzero(finite) < len(values):
            cells[~finite] = self._search(values[~finite])
        return cells

    def _search(self, numbers: Array) -> Array:
        # One search does for every case: NaN sorts behind +inf, which is an edge like -inf and the
        # largest float.
        return self._grid.searchsorted(numbers)

    def _slot(self, numbers: Array) -> Array:
        """The slot of each number, (n,).

        A larger number never has an earlier slot, for rounding keeps the order.
        """
        low, high, per_width = self._scale
        offset: Array = np.fmin(np.fmax(numbers, low), high)
        offset -= low
        offset *= per_width
        return offset.astype(np.intp)

    @cached_property
    def _scale(self) -> tuple[Array, Array, Array]:
        """The outermost edges, and the slots in a width of one; as arrays, which numpy takes faster."""
        low = self._grid[1]
        high = self._grid[len(self.edges)]
        per_width = EDGE_SLOTS / (high - low)
        return np.array(low), np.array(high), np.array(per_width)

    @cached_property
    def _slots(self) -> tuple[Array, Array] | None:
        """For each slot, the cell of its least number, and the one edge that may part its numbers.

        None where two edges share a slot, or the width of one is not a number that float32 has.
        """
        count = len(self.edges)
        grid = self._grid
        if count < 2 or grid.dtype != F4:
            return None
        with np.errstate(over="ignore", divide="ignore"):
            width = grid[count] - grid[1]
            if not (np.isfinite(width) and np.isfinite(EDGE_SLOTS / width)):
                return None
        of_edges = self._slot(grid[1 : count + 1])
        if (np.diff(of_edges) == 0).any():
            return None
        firsts = 1 + of_edges.searchsorted(np.arange(EDGE_SLOTS + 2))
        return firsts.astype(np.uint8), grid[firsts]

    def _categories(self, values: Array) -> Array:
        lookup = self._lookup
        values = all_missing(values)
        if {*map(type, values.tolist())} != {str}:
            found = feature_kind(self.name, values, "category")
            if found != "category":
                raise other_kind(self.name, "category", found)
        cells = [lookup[i] if i in lookup else self._unusual(i) for i in as_texts(values)]
        return np.array(cells, np.uint8)

    def _unusual(self, item: str | None) -> int:
        if item is None:
            return GONE
        named = short_name(item)
        if named in self._lookup:
            return self._lookup[named]
        return REST if self.open or name_hash(item) in self.known else UNKNOWN_CATEGORY

    def bins(self, reference: Array, recent: Array) -> tuple[tuple[str, int, int], ...]:
        """The customary bins of counts (67,): (upper end, reference rows, recent rows).

        A category that the reference has is a bin, and all others together are one. Other values
        have ten bins of about a tenth of the reference each, whose ends are the ends of cells next
        to the deciles; fewer where one value has more than a tenth.
        """
        if self.ordered:
            return _deciles(self, reference[:GONE], recent[:GONE])
        return _categories(self.labels(), reference, recent)

    def labels(self) -> list[str]:
        """The contents of each of the 67 cells, in words."""
        if self.kind == "category":
            unused = [""] * (REST - len(self.categories))
            return [*self.categories, *unused, "(other)", "(new)", "(missing)"]
        inner = ["false", "true"] if self.kind == "flag" else self._between_edges()
        unused = [""] * (EDGES + 1 - len(inner))
        return ["-inf", *inner, *unused, "+inf", "(missing)"]

    def _between_edges(self) -> list[str]:
        words = [_edge_text(edge, self.kind) for edge in self.edges]
        if not words:
            return ["any"]
        between = [f"{low} to {high}" for low, high in pairwise(words)]
        return [f"up to {words[0]}", *between, f"above {words[-1]}"]


def _categories(
    labels: Sequence[str], reference: Array, recent: Array
) -> tuple[tuple[str, int, int], ...]:
    known = [cell for cell in range(REST) if reference[cell]]
    bins = [(labels[cell], int(reference[cell]), int(recent[cell])) for cell in known]
    others = int(reference[REST:GONE].sum())
    rest = int(recent[:GONE].sum()) - sum(now for _, _, now in bins)
    if others or rest or not bins:
        bins.append(("(other)", others, rest))
    return tuple(bins)


def _deciles(feature: Feature, reference: Array, recent: Array) -> tuple[tuple[str, int, int], ...]:
    ends = _ends(feature)
    cuts = _next_to_deciles(reference, len(ends))
    names = [ends[cell] for cell in cuts]
    names.append("true" if feature.kind == "flag" else "inf")
    starts = [0, *(cell + 1 for cell in cuts)]
    before = np.add.reduceat(reference, starts)
    now = np.add.reduceat(recent, starts)
    return tuple(zip(names, before.tolist(), now.tolist(), strict=True))


def _next_to_deciles(reference: Array, ends: int) -> list[int]:
    """The cells, of the first `ends`, at whose ends the bins of counts (66,) end."""
    upto = np.cumsum(reference)[:ends]
    total = reference.sum()
    tenths = total * np.arange(1, BINS) / BINS
    nearest = np.unique(np.abs(upto[:, None] - tenths).argmin(axis=0))
    cuts: list[int] = nearest[(upto[nearest] > 0) & (upto[nearest] < total)].tolist()
    return cuts


def _ends(feature: Feature) -> list[str]:
    """The upper ends of the cells that a value can be at or below, in order: all but the last."""
    if feature.kind == "flag":
        return ["-inf", "false"]
    return ["-inf", *(_edge_text(edge, feature.kind, exact=True) for edge in feature.edges)]


def _edge_text(edge: float, kind: FeatureKind, *, exact: bool = False) -> str:
    if kind == "time":
        moment = str(np.datetime64(int(edge), "us"))
        return moment if exact else moment[:16]
    return str(np.float32(edge)) if exact else f"{edge:.4g}"


def short_name(item: str) -> str:
    """A category's name as a profile holds it: a long one by its hash."""
    return item if len(item) <= LONGEST_NAME else f"#{_digest(item)[:8].hex()}"


def name_hash(item: str) -> int:
    """Four bytes that stand for a category."""
    return int.from_bytes(_digest(item)[:4], "big")


def _digest(item: str) -> bytes:
    return hashlib.sha256(item.encode("utf-8", "surrogatepass")).digest()


# From training rows.


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
    return replace(feature, coarse=coarsen(np.bincount(feature.cells(values), minlength=CELLS)))


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


def coarsen(counts: Array) -> str:
    """For each of the 67 cells one of 16 of about equal mass, in order.

    Missing values have the last to themselves.
    """
    inner = counts[:GONE].astype(np.float64)
    total = max(float(inner.sum()), 1.0)
    last = COARSE_CELLS - 1
    group = np.minimum(midranks(inner) / total * last, last - 1)
    return "".join(f"{own:x}" for own in [*group.astype(int).tolist(), last])
