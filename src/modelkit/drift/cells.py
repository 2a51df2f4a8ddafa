"""Values as cells: each value of a column falls into one of 67, missing and infinite ones included.

Numbers, times and the lengths of texts lie between edges, which come from training rows and are
rounded to the shortest decimal that separates the same values: -inf is cell 0, what lies between
edges are cells 1 to 64, +inf is cell 65, a missing value cell 66. Categories have the cells 0 to 63
in order of their frequency, then the rest that training knew (64), what it did not know (65), and
missing ones (66). The order of the cells is fixed, and is all that the detectors know of a value.
Numbers are rounded to float32 first, and times to microseconds, whatever they come in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, final, get_args

import numpy as np

from modelkit import frames
from modelkit.cast import F4, MISSING, Array, is_blank, is_missing
from modelkit.errors import DriftError

Kind = Literal["number", "flag", "time", "text", "category"]

CELLS = 67
ABSENT = 255  # the code of a value that was not observed
REST, NEW, GONE = 64, 65, 66
EDGES = 63
TAIL = 0.001  # the share of training rows beyond the outermost edges, where there are enough rows
ATOM = 1 / 32  # a value that this share of the rows has gets a cell of its own
MOST_KNOWN = 96  # categories beyond the first 64 that are told from new ones, by four bytes each
LARGE = 1 << 20  # values of an array that does not fit the cache
CHUNK = 1 << 11  # rows
SLOTS = 1 << 11  # of equal width, which say between which edges a number lies
MANY = 192  # values from which looking them up in slots is faster than searching among the edges
LONGEST = 32  # of a category's name; a longer one is known by its hash


@final
@dataclass(frozen=True)
class Feature:
    """One column, or one number made of a model's output, and its cells.

    `edges` are for every kind but "category", which has `categories` and the hashes of others that
    training `known`; `open` says that there were too many to know. `stride` is how many rows apart
    values are taken as independent, `weight` the share of alpha, `output` whether the model gives
    it, and `coarse` maps the cells to 16 of about equal mass in training.
    """

    name: str
    kind: Kind
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    known: tuple[int, ...] = ()
    open: bool = False
    stride: int = 1
    weight: float = 1.0
    output: bool = False
    coarse: bytes = bytes(CELLS)
    _grid: Array = field(init=False, repr=False, compare=False)
    _lookup: dict[str | None, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        top = np.finfo(np.float32).max if self.kind != "time" else np.finfo(np.float64).max
        grid = [-np.inf, *self.edges, *[top] * (EDGES + 1 - len(self.edges)), np.inf]
        object.__setattr__(
            self, "_grid", np.array(grid, np.float64 if self.kind == "time" else np.float32)
        )
        object.__setattr__(
            self, "_lookup", {name: cell for cell, name in enumerate(self.categories)}
        )

    def plain(self) -> dict[str, Any]:
        """What it is made from."""
        return {own.name: getattr(self, own.name) for own in fields(self) if own.init}

    @property
    def ordered(self) -> bool:
        """Whether the order of the cells means something."""
        return self.kind != "category"

    @property
    def whole(self) -> bool:
        """Whether the cells are what they must be, in a feature that was read from bytes."""
        inside = (
            len(self.edges) <= EDGES
            and len(self.categories) <= REST
            and max(self.coarse, default=0) < 16
        )
        rising = bool(np.isfinite(self.edges).all() and (np.diff(self._grid) >= 0).all())
        return (
            inside
            and rising
            and self.kind in get_args(Kind)
            and self.stride >= 1
            and 0 <= self.weight <= 1
        )

    def cells(self, values: Array) -> Array:
        """The cell of each value, integers (n,). Raises DriftError for values of another kind."""
        if self.kind == "category":
            return self._categories(values)
        if self.kind != "number" or values.dtype is not F4 or type(values) is not np.ndarray:
            values = as_numbers(values, self.kind, self.name)
        if len(values) < MANY or self._slots is None:
            return self._search(values)
        firsts, edges = self._slots
        slots = self._slot(values)
        cells = firsts[slots]
        cells += values > edges[slots]
        finite = np.isfinite(values)
        if not finite.all():
            cells[~finite] = self._search(values[~finite])
        return cells

    def _search(self, numbers: Array) -> Array:
        # One search does for every case: NaN sorts behind +inf, which is an edge like -inf and the
        # largest float.
        return self._grid.searchsorted(numbers)

    def _slot(self, numbers: Array) -> Array:
        """The slot of each number; a larger number never has an earlier one, for rounding keeps the order."""
        low, high = self._grid[1], self._grid[len(self.edges)]
        offset: Array = np.fmin(np.fmax(numbers, low), high)
        offset -= low
        offset *= SLOTS / (high - low)
        return offset.astype(np.intp)

    @cached_property
    def _slots(self) -> tuple[Array, Array] | None:
        """For each slot, the cell of its least number, and the one edge that may part its numbers.

        None where two edges share a slot, or the width of one is not a number that float32 has.
        """
        count, grid = len(self.edges), self._grid
        if count < 2 or grid.dtype != F4:
            return None
        with np.errstate(over="ignore", divide="ignore"):
            width = grid[count] - grid[1]
            if not (np.isfinite(width) and np.isfinite(SLOTS / width)):
                return None
        slots = self._slot(grid[1 : count + 1])
        if (np.diff(slots) == 0).any():
            return None
        firsts = 1 + slots.searchsorted(np.arange(SLOTS + 2))
        return firsts.astype(np.uint8), grid[firsts]

    def count(self, values: Array) -> Array:
        """How many values fall into each cell, int64 (67,); of many values faster than counting `cells`."""
        if self.kind == "category" or len(values) < 2048:
            return np.bincount(self.cells(values), minlength=CELLS)
        numbers = np.sort(as_numbers(values, self.kind, self.name))
        below = np.append(numbers.searchsorted(self._grid, side="right"), len(numbers))
        return np.diff(below, prepend=0)

    def _categories(self, values: Array) -> Array:
        lookup = self._lookup
        values = _all_missing(values)
        if {*map(type, values.tolist())} != {str}:
            found = kind_of(self.name, values, "category")
            if found != "category":
                raise DriftError(_other(self.name, "category", found), feature=self.name)
        return np.array(
            [lookup[i] if i in lookup else self._unusual(i) for i in as_texts(values)], np.uint8
        )

    def _unusual(self, item: str | None) -> int:
        if item is None:
            return GONE
        named = short_name(item)
        if named in self._lookup:
            return self._lookup[named]
        return REST if self.open or name_hash(item) in self.known else NEW

    def labels(self) -> list[str]:
        """What each cell holds, in words."""
        if self.kind == "category":
            names = list(self.categories) + [""] * (REST - len(self.categories))
            return [*names, "(other)", "(new)", "(missing)"]
        if self.kind == "flag":
            return ["-inf", "false", "true", *[""] * 62, "+inf", "(missing)"]
        words = [_edge(edge, self.kind) for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(words)]
        inner = [f"up to {words[0]}", *between, f"above {words[-1]}"] if words else ["any"]
        return ["-inf", *inner, *[""] * (EDGES + 1 - len(inner)), "+inf", "(missing)"]


def _edge(edge: float, kind: Kind) -> str:
    if kind == "time":
        return str(np.datetime64(int(edge), "us"))[:16]
    return f"{edge:.4g}"


def short_name(item: str) -> str:
    """A category's name as a profile holds it: a long one by its hash."""
    return item if len(item) <= LONGEST else f"#{_digest(item)[:8].hex()}"


def name_hash(item: str) -> int:
    """Four bytes that stand for a category."""
    return int.from_bytes(_digest(item)[:4], "big")


def _digest(item: str) -> bytes:
    return hashlib.sha256(item.encode("utf-8", "surrogatepass")).digest()


def read_columns(X: Any) -> dict[str, Array]:
    """The columns of the caller's rows by name, (n,) each; an array is (n, width) and names them x0, x1, ...

    A dict may also hold (n, d) arrays: embeddings. Raises DriftError for columns of different
    lengths or of one name, SignatureError for what has no columns.
    """
    if isinstance(X, np.ndarray) and X.ndim == 2:
        columns = {f"x{i}": column for i, column in enumerate(_transposed(X))}
    elif isinstance(X, Mapping) and any(getattr(value, "ndim", 1) == 2 for value in X.values()):
        columns = {
            str(name): value if getattr(value, "ndim", 1) == 2 else frames.as_column(value)
            for name, value in X.items()
        }
    else:
        names, values = frames.read_frame(X)
        columns = {
            str(name): frames.as_column(value) for name, value in zip(names, values, strict=True)
        }
        if len(columns) < len(values):
            raise DriftError(
                f"two columns have one name in {[str(name) for name in names]}; rename one"
            )
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DriftError(f"the columns have different lengths: {lengths}")
    return columns


def _transposed(X: Array) -> Array:
    """The columns of an array; those of a large one side by side in memory, taken apart while its rows are in cache."""
    if X.size < LARGE:
        return X.T
    columns = np.empty(X.shape[::-1], X.dtype)
    for start in range(0, len(X), CHUNK):
        columns[:, start : start + CHUNK] = X[start : start + CHUNK].T
    return columns


def kind_of(name: str, values: Array, unknown: Kind = "category") -> Kind:
    """What kind of feature a column is, by its type and not by its values; `unknown` where every value is missing.

    Raises DriftError for a column that is none.
    """
    kind = values.dtype.kind
    if kind in "biufM":
        return "flag" if kind == "b" else "time" if kind == "M" else "number"
    if kind in "UT":
        return "category"
    if kind == "O":
        types = {type(item) for item in np.ma.getdata(values).tolist() if not is_missing(item)}
        if not types:
            return unknown
        if types <= {str, np.str_}:
            return "category"
        if types <= {bool, np.bool_}:
            return "flag"
        if all(issubclass(t, bool | int | float | np.number | np.bool_) for t in types):
            return "number"
        if all(
            t is np.datetime64 or (hasattr(t, "isoformat") and hasattr(t, "year")) for t in types
        ):
            return "time"
        raise DriftError(
            f"column {name!r} mixes {sorted(t.__name__ for t in types)}; a column holds numbers, "
            "booleans, times or "
            f"strings",
            feature=name,
        )
    raise DriftError(
        f"column {name!r} is {values.dtype}, and not numbers, booleans, times or strings",
        feature=name,
    )


def _all_missing(values: Array) -> Array:
    """Values as they are; but of no kind where all are missing, whatever a reader makes of an empty column."""
    if values.dtype.kind != "O" and (not len(values) or is_blank(values)):
        return np.full(len(values), None, object)
    return values


def as_numbers(values: Array, kind: Kind, name: str) -> Array:
    """A column as it is compared with edges: float32, or microseconds as float64; NaN where a value is missing."""
    if kind in ("text", "time"):
        values = _all_missing(values)
    found = kind_of(name, values, "category" if kind == "text" else kind)
    if kind == "text":
        if found != "category":
            raise DriftError(_other(name, "text", found), feature=name)
        return np.array(
            [np.nan if item is None else len(item) for item in as_texts(values)], np.float32
        )
    if kind == "time":
        if found != "time":
            raise DriftError(_other(name, kind, found), feature=name)
        if values.dtype.kind == "O":
            values = np.array([_moment(item) for item in values.tolist()], "M8[us]")
        times = np.asarray(np.ma.filled(values, np.datetime64("NaT"))).astype("M8[us]")
        return np.where(np.isnat(times), np.nan, times.astype(np.int64).astype(np.float64))
    if found not in ("number", "flag"):
        raise DriftError(_other(name, kind, found), feature=name)
    if values.dtype.kind == "O":
        items = np.ma.getdata(values).tolist()
        values = np.array(
            [np.nan if is_missing(item) else _number(item) for item in items], np.float64
        )
    elif np.ma.isMaskedArray(values):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    with np.errstate(
        over="ignore"
    ):  # beyond the range of float32 is +inf, as the model would have it
        return values.astype(np.float32, copy=False)


def _number(item: Any) -> float:
    try:
        return float(item)
    except OverflowError:  # an integer beyond every float
        return np.inf if item > 0 else -np.inf


def _moment(item: Any) -> np.datetime64:
    """A time without a zone; one with a zone is taken in UTC, as pandas and Arrow store it."""
    if is_missing(item):
        return np.datetime64("NaT", "us")
    if getattr(item, "tzinfo", None) is not None:
        item = item.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(item, "us")


def _other(name: str, expected: Kind, found: Kind) -> str:
    words = {
        "number": "numbers",
        "flag": "booleans",
        "time": "times",
        "text": "texts",
        "category": "strings",
    }
    return f"column {name!r} holds {words[found]} where the profile has {words[expected]}; convert it as in training"


def as_texts(values: Array) -> list[str | None]:
    """A column of strings, or of labels of any type, with None where one is missing."""
    items: list[Any] = values.tolist()  # a masked value is None
    if {*map(type, items)} == {str}:
        return [None if item == MISSING else item for item in items] if MISSING in items else items
    return [None if is_missing(item) or item == MISSING else str(item) for item in items]


def stratum_names(values: Array) -> list[str]:
    """The stratum of each row.

    A number has one name, whether it comes as an integer, a boolean or a float.
    """
    if values.dtype.kind == "M":  # in nanoseconds `tolist` gives integers, in days dates
        values = values.astype("M8[us]")
    return [_stratum(item) for item in values.tolist()]


def _stratum(item: Any) -> str:
    if is_missing(item) or item == MISSING:
        return str(None)
    if not isinstance(item, bool | int | float):
        return str(item)
    return str(int(item)) if float(item).is_integer() else str(np.float32(item))


# Fitting: what a column of training rows makes of a feature.


def fit_feature(
    name: str, kind: Kind, values: Array, *, output: bool = False, weight: float = 1.0
) -> Feature:
    """The cells of one column, from training rows (n,)."""
    if kind == "category":
        items = Counter(item for item in as_texts(values) if item is not None)
        ranked = [item for item, _ in sorted(items.items(), key=lambda pair: (-pair[1], pair[0]))]
        rest = ranked[REST:]
        feature = Feature(
            name,
            kind,
            categories=tuple(short_name(item) for item in ranked[:REST]),
            known=tuple(sorted(name_hash(item) for item in rest[:MOST_KNOWN])),
            open=len(rest) > MOST_KNOWN,
            output=output,
            weight=weight,
        )
    else:
        numbers = as_numbers(values, kind, name)
        edges = (0.5,) if kind == "flag" else choose_edges(np.sort(numbers[np.isfinite(numbers)]))
        feature = Feature(name, kind, edges=edges, output=output, weight=weight)
    return replace(feature, coarse=coarsen(feature.count(values)))


def choose_edges(numbers: Array) -> tuple[float, ...]:
    """At most 63 numbers that separate sorted, finite ones into cells of about equal mass, and thin tails.

    A value that many rows have is put between two edges. Where an edge may lie is a matter of rank;
    among ranks close by, it goes where the gap is widest, and to the shortest decimal inside it, so
    that it tells no value of a row.
    """
    starts = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]])[: len(numbers)])
    distinct = numbers[starts]
    if len(distinct) < 2:  # a constant: what is lower or higher by a thousandth is another value
        edges = [
            value + sign * (abs(value) or 1) * 1e-3
            for value in distinct.tolist()
            for sign in (-1, 1)
        ]
        return tuple(edge for edge in edges if abs(edge) <= float(np.finfo(numbers.dtype).max))
    below = starts[1:] / len(
        numbers
    )  # the mass under the gap between distinct[i] and distinct[i + 1]
    if len(distinct) <= EDGES + 1:
        gaps = np.arange(len(distinct) - 1)
    else:
        tail = max(TAIL, 10 / len(numbers))
        ranks = np.concatenate([[tail], np.linspace(0, 1, EDGES)[1:-1], [1 - tail]])
        width = np.diff(distinct.astype(np.float64))  # of float32 it may overflow
        gaps = np.unique([_widest(below, width, rank) for rank in ranks])
        mass = np.diff(np.concatenate([[0.0], below, [1.0]]))
        atoms = np.flatnonzero(mass >= ATOM)
        gaps = np.unique(np.concatenate([gaps, atoms[atoms > 0] - 1, atoms[atoms < len(width)]]))
        while len(gaps) > EDGES:  # of the inner ones, what leaves the thinnest cell
            gaps = np.delete(gaps, 1 + int(np.argmin(np.diff(below[gaps])[:-1])))
    return tuple(_between(distinct[gap], distinct[gap + 1]) for gap in gaps)


def _widest(below: Array, width: Array, rank: float) -> int:
    slack = min(1 / 512, rank / 4, (1 - rank) / 4)
    low, high = np.searchsorted(below, [rank - slack, rank + slack])
    low = min(int(low), len(below) - 1)
    return low + int(np.argmax(width[low : max(int(high), low + 1)]))


def _between(low: Any, high: Any) -> float:
    """The shortest decimal that parts two neighbours, as they are compared; the lower one where none is between."""
    middle = float(low) + (float(high) - float(low)) / 2
    for digits in range(1, 18):
        edge = low.dtype.type(f"{middle:.{digits}g}")
        if low < edge < high:
            return float(edge)
    return float(low)


def coarsen(counts: Array, groups: int = 16) -> bytes:
    """For each of the 67 cells one of 16 of about equal mass, in order; missing values have the last to themselves."""
    inner = counts[:GONE].astype(np.float64)
    middle = np.cumsum(inner) - inner / 2
    total = max(float(inner.sum()), 1.0)
    group = np.minimum(middle / total * (groups - 1), groups - 2).astype(np.uint8)
    return bytes([*group.tolist(), groups - 1])
