"""The calls that a Monitor served, and their rows as cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import ABSENT
from modelkit.drift.layout import Layout
from modelkit.drift.outputs import output_columns
from modelkit.drift.row_times import told_seconds
from modelkit.drift.sequence import places_of
from modelkit.drift.units import PERIODS, UnitRows, together
from modelkit.drift.vectors import expand
from modelkit.model.model import Outputs
from modelkit.signature.cast import F4, F8
from modelkit.signature.signature import Signature


class ServedCall(NamedTuple):
    """A call of a Monitor.

    `names` are the outputs that it asked for, `arrays` its arrays, inputs first, `rows` how many
    rows it had, and `time` when it was, in POSIX seconds. Of a large call whose rows are `counted`
    already, the arrays have those that were drawn.
    """

    names: tuple[str, ...]
    arrays: tuple[Array, ...]
    rows: int
    time: float
    counted: bool = False


@final
@dataclass(frozen=True, eq=False)
class ServedRows:
    """The n rows of several calls as cells.

    `cells` is uint8 (n, d), 255 where a row has no value for a feature; `strata` the number of each
    row's stratum, or None; `places` what `call_places` gives for each; `units` the rows of each unit;
    `answers` the model's answers by output, of the calls that asked for the same ones.
    """

    cells: Array
    strata: Array | None
    places: Array
    units: list[UnitRows]
    answers: list[Outputs]


@final
class ServedForm:
    """The form in which a model takes rows, and what is looked at of them.

    Args:
        signature: of the model.
        wanted: the columns and outputs that are looked at.
    """

    def __init__(self, signature: Signature, wanted: frozenset[str]) -> None:
        self._signature = signature
        self._tensors = [spec.name for spec in signature.inputs]
        self._wanted = wanted

    def encode(self, layout: Layout, calls: list[ServedCall], before: int) -> ServedRows:
        """The rows of calls as cells; `before` rows were served before them."""
        places = call_places(calls, before)
        n = len(places)
        cells = np.full((n, len(layout.features)), ABSENT, np.uint8)
        strata = None if layout.stratum is None else np.empty(n, np.int64)
        timed = layout.timed or layout.unit in PERIODS
        answers = []
        units: list[UnitRows] = []
        for names, (at, whole) in joined_calls(calls).items():
            columns, own = self._columns(layout, names, whole)
            rows = layout.encode_columns(columns, places[at, 1] if timed else None)
            cells[at] = rows.cells
            if strata is not None and rows.strata is not None:
                strata[at] = rows.strata
            answers.append(own)
            units += [UnitRows(part.key, at[part.rows]) for part in rows.units or ()]
        return ServedRows(cells, strata, places, together(units) if units else units, answers)

    def _columns(
        self, layout: Layout, names: tuple[str, ...], whole: Sequence[Array]
    ) -> tuple[Outputs, Outputs]:
        """The columns of joined calls by feature name, and the model's answers by name."""
        inputs = [_laid_out(block, layout) for block in whole[: len(self._tensors)]]
        feeds = dict(zip(self._tensors, inputs, strict=True))
        answers = dict(zip(names, whole[len(self._tensors) :], strict=True))
        columns = self._signature.columns(feeds)
        if answers:
            columns |= output_columns(answers)
            columns = {name: column for name, column in columns.items() if name in self._wanted}
        return expand(columns, layout.bases) if layout.bases else columns, answers


def _laid_out(block: Array, layout: Layout) -> Array:
    """Columns side by side in memory, doubles as the float32 they are compared as.

    With strata they stay doubles, for a stratum keeps its digits.
    """
    if block.dtype is F8 and layout.stratum is None:
        with np.errstate(over="ignore"):
            block = block.astype(F4)
    return np.asfortranarray(block)


def sizes_of(calls: Iterable[ServedCall]) -> list[int]:
    """The numbers of the rows that calls have arrays of."""
    return [len(call.arrays[0]) for call in calls]


def call_places(calls: list[ServedCall], before: int) -> Array:
    """The numbers of the rows of calls among all that were served, and their times, (n, 2).

    `before` rows were served before these calls. The rows that stand for a larger call are spread
    over it. Raises UsageError for anything but a time.
    """
    served = [call.rows for call in calls]
    times = told_seconds([call.time for call in calls])
    total = sum(served)
    if total == len(calls):  # of one row each: the common case
        return places_of(before, times)
    sizes = sizes_of(calls)
    n = sum(sizes)
    numbers = np.arange(before + 1, before + 1 + n)
    if total > n:
        ends = np.cumsum(sizes)
        inside = np.arange(n) - np.repeat(ends - sizes, sizes)
        first = before + np.cumsum(served) - served
        spread = (inside + 1) * np.repeat(served, sizes) // np.repeat(sizes, sizes)
        numbers = np.repeat(first, sizes) + spread
    places = np.empty((n, 2))
    places[:, 0] = numbers
    places[:, 1] = np.repeat(times, sizes)
    return places


def joined_calls(calls: list[ServedCall]) -> dict[tuple[str, ...], tuple[Array, list[Array]]]:
    """The arrays of calls that asked for the same outputs, joined, with the places of their rows.

    Rows stay in their order of arrival.
    """
    arrays: dict[tuple[str, ...], list[tuple[Array, ...]]] = {}
    for call in calls:
        arrays.setdefault(call.names, []).append(call.arrays)
    joined = {}
    for names, of_calls in arrays.items():
        whole = [np.concatenate(parts) for parts in zip(*of_calls, strict=True)]
        # All of them asked for the same: the common case.
        at = np.arange(len(whole[0])) if len(arrays) == 1 else _places_of_calls(calls, names)
        joined[names] = (at, whole)
    return joined


def _places_of_calls(calls: list[ServedCall], names: tuple[str, ...]) -> Array:
    """The places of the rows of calls that asked for these outputs."""
    return np.flatnonzero(np.repeat([call.names == names for call in calls], sizes_of(calls)))
