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
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, final

import numpy as np

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.drift.columns import FeatureKind, as_numbers, as_strings, as_texts
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
    _grid: Array = field(init=False, repr=False, compare=False)  # an attribute is quick to read

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        dtype = np.float64 if self.kind == "time" else np.float32
        unused = [np.finfo(dtype).max] * (EDGES + 1 - len(self.edges))
        object.__setattr__(self, "_grid", np.array([-np.inf, *self.edges, *unused, np.inf], dtype))

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
        short = len(self.edges) <= EDGES and len(self.categories) <= REST
        digits = len(self.coarse) == CELLS and {*self.coarse} <= {*"0123456789abcdef"}
        finite = bool(np.isfinite(self.edges).all())
        within = self.stride >= 1 and 0 <= self.weight <= 1
        return short and digits and finite and within and bool((np.diff(self._grid) >= 0).all())

    @cached_property
    def _lookup(self) -> dict[str | None, int]:
        return {name: cell for cell, name in enumerate(self.categories)}

    def cells(self, values: Array) -> Array:
        """The cell of each value, integers (n,). Raises UsageError for values of another kind."""
        if self.kind == "category":
            lookup = self._lookup
            texts = as_strings(values, self.kind, self.name)
            return np.array([lookup[i] if i in lookup else self._rare(i) for i in texts], np.uint8)
        if self.kind != "number" or values.dtype is not F4 or type(values) is not np.ndarray:
            values = as_numbers(values, self.kind, self.name)
        # One search does for every case: NaN sorts behind +inf, which is an edge like -inf and the
        # largest float.
        if len(values) < MANY_VALUES or self._slots is None:
            return self._grid.searchsorted(values)
        scale, firsts, edges = self._slots
        slots = _slot(values, *scale)
        cells = firsts.take(slots)  # for few values, twice as fast as an index
        cells += values > edges.take(slots)
        finite = np.isfinite(values)
        if np.count_nonzero(finite) < len(values):
            cells[~finite] = self._grid.searchsorted(values[~finite])
        return cells

    @cached_property
    def _slots(self) -> tuple[tuple[Array, Array, Array], Array, Array] | None:
        """The scale of slots; for each the cell of its least number, and the one edge in it.

        The scale is the outermost edges, and the slots in a width of one; as arrays, which numpy
        takes faster. None where two edges share a slot, or float32 does not have this number.
        """
        edges = self._grid[1 : len(self.edges) + 1]
        if len(edges) < 2 or self.kind == "time":
            return None
        low, high = edges[0], edges[-1]
        with np.errstate(over="ignore", divide="ignore"):
            per_width = EDGE_SLOTS / (high - low)
        if not 0 < per_width < np.inf:
            return None
        scale = np.array(low), np.array(high), np.array(per_width)
        of_edges = _slot(edges, *scale)
        if (np.diff(of_edges) == 0).any():
            return None
        firsts = 1 + of_edges.searchsorted(np.arange(EDGE_SLOTS + 2))
        return scale, firsts.astype(np.uint8), self._grid[firsts]

    def _rare(self, item: str | None) -> int:
        """The cell of a category that is not among the first by its name."""
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
        sides = np.array([reference, recent])[:, :GONE]
        if self.ordered:
            return _deciles(self, sides)
        used = np.flatnonzero(reference[:REST])
        labels = self.labels()
        names = [labels[cell] for cell in used]
        counts = sides[:, used]
        others = sides.sum(axis=1) - counts.sum(axis=1)
        if others.any() or not names:
            names.append("(other)")
            counts = np.column_stack([counts, others])
        return tuple(zip(names, *counts.tolist(), strict=True))

    def labels(self) -> list[str]:
        """The contents of each of the 67 cells, in words."""
        if self.kind == "category":
            unused = [""] * (REST - len(self.categories))
            return [*self.categories, *unused, "(other)", "(new)", "(missing)"]
        words = [_edge_text(edge, self.kind) for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(words)]
        inner = [f"up to {words[0]}", *between, f"above {words[-1]}"] if words else ["any"]
        if self.kind == "flag":
            inner = ["false", "true"]
        unused = [""] * (EDGES + 1 - len(inner))
        return ["-inf", *inner, *unused, "+inf", "(missing)"]


def _slot(numbers: Array, low: Array, high: Array, per_width: Array) -> Array:
    """The slot of each number, (n,).

    A larger number never has an earlier slot, for rounding keeps the order.
    """
    offset: Array = np.fmin(np.fmax(numbers, low), high)
    offset -= low
    offset *= per_width
    return offset.astype(np.intp)


def _deciles(feature: Feature, sides: Array) -> tuple[tuple[str, int, int], ...]:
    """The bins of ordered values with counts (2, 66), the reference first."""
    flag = feature.kind == "flag"
    edges = [_edge_text(edge, feature.kind, exact=True) for edge in feature.edges]
    ends = ["-inf", *(["false"] if flag else edges)]
    upto = np.cumsum(sides[0])
    total = upto[-1]
    upto = upto[: len(ends)]
    tenths = total * np.arange(1, BINS) / BINS
    nearest = np.unique(np.abs(upto[:, None] - tenths).argmin(axis=0))
    cuts = nearest[(upto[nearest] > 0) & (upto[nearest] < total)]
    names = [*(ends[cell] for cell in cuts), "true" if flag else "inf"]
    counts = np.add.reduceat(sides, [0, *(cuts + 1)], axis=1)
    return tuple(zip(names, *counts.tolist(), strict=True))


def _edge_text(edge: float, kind: FeatureKind, *, exact: bool = False) -> str:
    if kind == "time":
        moment = str(np.datetime64(int(edge), "us"))
        return moment if exact else moment[:16]
    return str(np.float32(edge)) if exact else f"{edge:.4g}"


def short_name(item: str) -> str:
    """A category's name as a profile holds it: a long one by its hash."""
    return item if len(item) <= LONGEST_NAME else f"#{_hash(item)[:16]}"


def name_hash(item: str) -> int:
    """Four bytes that stand for a category."""
    return int(_hash(item)[:8], 16)


def _hash(item: str) -> str:
    return hashlib.sha256(item.encode("utf-8", "surrogatepass")).hexdigest()


# From training rows.


def fit_feature(
    name: str, kind: FeatureKind, values: Array, *, output: bool = False, weight: float = 1.0
) -> Feature:
    """The cells of one column, from training rows (n,)."""
    feature = Feature(name, kind, output=output, weight=weight)
    if kind == "category":
        feature = _with_categories(feature, values)
    else:
        numbers = as_numbers(values, kind, name)
        flag = kind == "flag"
        edges = (0.5,) if flag else choose_edges(numbers[np.isfinite(numbers)])
        feature = replace(feature, edges=edges)
    return replace(feature, coarse=coarsen(np.bincount(feature.cells(values), minlength=CELLS)))


def _with_categories(feature: Feature, values: Array) -> Feature:
    """A feature with the categories of a column, the most frequent ones first."""
    items = Counter(item for item in as_texts(values) if item is not None)
    ranked = sorted(sorted(items), key=lambda item: -items[item])
    rest = ranked[REST:]
    return replace(
        feature,
        categories=tuple(map(short_name, ranked[:REST])),
        known=tuple(sorted(map(name_hash, rest[:MOST_KNOWN]))),
        open=len(rest) > MOST_KNOWN,
    )


def choose_edges(numbers: Array) -> tuple[float, ...]:
    """At most 63 numbers that separate finite ones, (n,), into cells of about equal mass.

    The tails are thin. A value that many rows have is put between two edges. Where an edge may lie
    is a matter of rank; among ranks close by, it goes where the gap is widest, and to the shortest
    decimal inside it, so it shows no value of a row. What is lower or higher than a constant
    by a thousandth is another value.
    """
    distinct, rows = np.unique(numbers, return_counts=True)
    if len(distinct) < 2:
        most = float(np.finfo(numbers.dtype).max)
        apart = [(value, (abs(value) or 1) * 1e-3) for value in distinct.tolist()]
        edges = [edge for value, by in apart for edge in (value - by, value + by)]
        return tuple(edge for edge in edges if abs(edge) <= most)
    gaps = np.arange(len(distinct) - 1)
    if len(gaps) > EDGES:
        below = np.cumsum(rows)[:-1] / len(numbers)  # the mass under each gap
        gaps = _chosen_gaps(distinct, below, len(numbers))
    return tuple(_between(distinct[gap], distinct[gap + 1]) for gap in gaps)


def _chosen_gaps(distinct: Array, below: Array, rows: int) -> Array:
    """The numbers of at most 63 gaps between distinct values: even in rank, and about atoms."""
    tail = max(TAIL_SHARE, 10 / rows)
    ranks = [tail, *np.linspace(0, 1, EDGES)[1:-1], 1 - tail]
    width = np.diff(distinct.astype(np.float64))  # of float32 it may overflow
    even = [_widest_gap(below, width, rank) for rank in ranks]
    atoms = np.flatnonzero(np.diff(below, prepend=0.0, append=1.0) >= ATOM)
    about = np.concatenate([atoms - 1, atoms])  # the gaps before and after them
    gaps = np.union1d(even, about[(about >= 0) & (about < len(width))])
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
    inner = counts[:GONE]
    last = COARSE_CELLS - 1
    group = np.minimum(midranks(inner) / max(inner.sum(), 1) * last, last - 1)
    return "".join(f"{own:x}" for own in [*group.astype(int).tolist(), last])
