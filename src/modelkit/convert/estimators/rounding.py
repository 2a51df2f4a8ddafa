"""Columns that libraries round otherwise, and thresholds that stay out of the way of their last bits.

Two libraries add up in other orders, and have exponentials of their own, so a column that comes out
of these is equal to the source's but for its last bits. A threshold is often a value of a training
row: the same row may get a value one bit beyond it from the graph, and would go the other way.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.dtypes import dtypes_of
from modelkit.convert.estimators.tensors import Columns, Var, width
from modelkit.convert.parity.rows import Table, rows_of

ROUNDED = (
    "MatMul", "Gemm", "Einsum", "ReduceSum", "ReduceMean", "ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceL2",
    "ReduceLogSumExp", "Exp", "Log", "Pow", "Erf", "Tanh", "Sigmoid", "Softmax", "Sin", "Cos",
)  # fmt: skip
# Operators that make each column of the same column of what they are given.
COLUMNWISE = (
    "Abs", "Add", "And", "Cast", "Ceil", "Clip", "Cos", "Div", "Equal", "Erf", "Exp", "Floor", "Greater",
    "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Or", "Pow", "Reciprocal", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Sub", "Sum", "Tanh", "Where", "Xor",
)  # fmt: skip
DEEPEST = 200  # operators behind one another that are walked back a column at a time
RESHAPING = ("Reshape", "Squeeze", "Unsqueeze")
ASKED_ROWS = 1024  # of a step, in float32 and in float64
LAST_BITS = 2.0**-49  # of a column's largest threshold: by how much it may be rounded otherwise


@dataclass(frozen=True)
class Origin:
    """What a column is made of: some of the given columns, and whether libraries round it otherwise."""

    columns: frozenset[int]
    rounded: bool


def rounded_columns(columns: Columns) -> list[bool]:
    """Whether libraries round each column otherwise."""
    return [origin.rounded for origin in origins(columns, Columns(()))]


def origins(table: Columns, given: Columns) -> list[Origin]:
    """What each column of a table is made of, by the places of given columns."""
    starts = np.cumsum([0, *given.widths]).tolist()
    walk = _Walk({id(_info(part)): start for part, start in zip(given.parts, starts, strict=False)})
    return [walk.origin(_info(part), at) for part in table.parts for at in range(width(part))]


def beyond_rounding(thresholds: Array, values: Array | None, side: int) -> Array:
    """The thresholds of a column, moved up or down past what its last bits may do.

    Each stays within half of the way to the next one, and to the next of the source's own `values`,
    where these are known. `side` is 1 for up, where a value that equals a threshold is below it.
    """
    known = side * np.asarray(thresholds, np.float64)
    others = known if values is None else np.append(known, side * values)
    others = np.unique(others[np.isfinite(others)])
    beyond = np.append(others, np.inf)[np.searchsorted(others, known, side="right")]
    size = np.abs(known[np.isfinite(known)]).max(initial=0)
    moved = known + np.minimum((beyond - known) / 2, size * LAST_BITS)
    # Between neighbours among the numbers there is no other; and infinity stays what it is.
    return np.asarray(side * np.where(moved < beyond, moved, known))


def between_values(offset: float, values: Array) -> float:
    """An offset between the source's own values below it and those from it on, within its last bits."""
    near = 2 * abs(offset) * LAST_BITS
    low = values[values < offset].max(initial=offset - near)
    high = values[values >= offset].min(initial=offset + near)
    middle = float(low + (high - low) / 2)
    return middle if middle > low else float(high)


def _info(tensor: Var) -> Any:
    return tensor._var_info  # spox has no public way to what a tensor is made of


class _Walk:
    """A walk from columns back to the given ones, of whose parts `starts` has the first places."""

    def __init__(self, starts: dict[int, int]) -> None:
        self._starts = starts
        self._known: dict[tuple[int, int], Origin] = {}

    def origin(self, info: Any, at: int, depth: int = 0) -> Origin:
        """What one column of a tensor is made of; a vector is one column."""
        key = (id(info), at)
        if key not in self._known:
            self._known[key] = self._origin(info, at, depth + 1)
        return self._known[key]

    def _origin(self, info: Any, at: int, depth: int) -> Origin:
        if id(info) in self._starts:
            return Origin(frozenset([self._starts[id(info)] + at]), rounded=False)
        node = info._op  # as above
        kind = node.op_type.identifier
        parts = list(node.dependencies)
        widths = [_width(part) for part in parts]
        if depth > DEEPEST or None in widths:
            return self._of_all(info)
        if kind == "Concat" and node.attrs.axis.value == 1:
            ends = np.cumsum(widths)
            part = int(np.searchsorted(ends, at, side="right"))
            return self.origin(parts[part], at - int(ends[part]) + widths[part], depth)
        if _takes_columns(node) and _constant(parts[1]) is not None:
            place = int(np.ravel(_constant(parts[1]))[at]) % widths[0]
            return self.origin(parts[0], place, depth)
        if kind in RESHAPING and widths[0] == 1:
            return self.origin(parts[0], 0, depth)
        if kind not in COLUMNWISE:
            return self._of_all(info)
        found = [
            self.origin(part, at if wide > 1 else 0, depth)
            for part, wide in zip(parts, widths, strict=True)
        ]
        return Origin(
            frozenset[int]().union(*(each.columns for each in found)),
            kind in ROUNDED or any(each.rounded for each in found),
        )

    def _of_all(self, info: Any) -> Origin:
        """What a tensor is made of whose columns are not told apart."""
        key = (id(info), -1)
        if key in self._known:
            return self._known[key]
        columns: set[int] = set()
        rounded = False
        waiting = [info]
        seen = set()
        while waiting:
            each = waiting.pop()
            if id(each) in seen:
                continue
            seen.add(id(each))
            start = self._starts.get(id(each))
            if start is not None:
                columns.update(range(start, start + each.type.shape[1]))
                continue
            rounded |= each._op.op_type.identifier in ROUNDED  # as above
            waiting += each._op.dependencies  # as above
        self._known[key] = Origin(frozenset(columns), rounded)
        return self._known[key]


def _takes_columns(node: Any) -> bool:
    kind = node.op_type.identifier
    if kind == "Gather":
        return bool(node.attrs.axis.value == 1)
    return bool(kind == "ArrayFeatureExtractor")


def _width(info: Any) -> Any:
    """How many columns a tensor has; None where that cannot be told."""
    shape = getattr(info.type, "shape", None)
    if shape is None or len(shape) > 2:
        return None
    return 1 if len(shape) < 2 else shape[1] if isinstance(shape[1], int) else None


def _constant(info: Any) -> Any:
    """The value of a tensor that is always the same; None for any other."""
    node = info._op  # as above
    return node.attrs.value.value if node.op_type.identifier == "Constant" else None


def dtypes_if_rounded_once(step: Any, rows: Any) -> list[np.dtype[Any]] | None:
    """The dtypes of the columns that a step makes of rows; None where it rounds in between.

    It does not where it makes the same of float64, but for one rounding at the end: so do roots,
    ratios of two columns, and what interpolates.
    """
    table = rows_of(rows)
    if not isinstance(table, Table) or np.ndim(table.raw) == 1:  # as of one column by its name
        return None
    given = _varied(table)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            narrow, wide = (
                _table_of(step.transform(each)) for each in (given.raw, given.widened())
            )
    except Exception:  # whatever a step says of rows that it has not seen
        return None
    for place, dtype in enumerate(narrow.dtypes):
        once = wide.values(place).astype(dtype)
        same = np.array_equal(narrow.values(place), once, equal_nan=True)
        if not same or dtype == np.float16:  # as roots of integers of 8 bits are
            return None
    return dtypes_of(narrow.raw)


def _varied(table: Table) -> Table:
    """Some rows of a table, and rows like them with other numbers of float32."""
    few = min(len(table), ASKED_ROWS)
    places = np.linspace(0, len(table) - 1, few).astype(int)
    count = 2 * ASKED_ROWS
    varied = table.repeated(places[np.arange(count) % few])
    factors = np.random.default_rng(0).uniform(0.5, 1.5, count)
    factors[:few] = 1
    single = [place for place in varied.floats() if varied.dtypes[place] == np.float32]
    return varied.with_columns({place: varied.values(place) * factors for place in single})


def _table_of(answer: Any) -> Table:
    found = rows_of(answer.toarray() if hasattr(answer, "toarray") else answer)
    assert isinstance(found, Table)  # for the type checker: steps give no dicts
    return found
