"""The times and the units of the rows that a Profile is fitted from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, Feature
from modelkit.drift.columns import ColumnsByName, length, read_columns, take_rows
from modelkit.drift.fitting import Sides, read_sides
from modelkit.drift.refusals import check_columns
from modelkit.drift.repeats import check_shared
from modelkit.drift.row_times import row_seconds
from modelkit.drift.units import (
    BATCH_UNIT,
    CYCLES,
    FEWEST_UNITS,
    PERIODS,
    ReferenceUnits,
    cycle_names,
    group_table,
    many,
    most_units,
    needed_times,
    periods,
    plural,
    shares_of,
    unit_codes,
)
from modelkit.errors import UsageError
from modelkit.model.model import Model


@dataclass(frozen=True)
class Marks:
    """What rows are told apart by, beside their features; None where nothing was asked for.

    Args:
        seconds: when each row was, float64 (n,).
        units: the number of each row's unit, int64 (n,).
        cycle: the stratum of each row that its time tells, (n,).
    """

    seconds: Array | None = None
    units: Array | None = None
    cycle: Array | None = None


@final
@dataclass(frozen=True)
class Marking:
    """The arguments `unit`, `time` and `stratum` of `Profile.fit`."""

    unit: str | None
    time: str | None
    stratum: str | None

    @property
    def aside(self) -> list[str]:
        """The columns that are no features."""
        return [name for name in (self.stratum, *self._needed) if name is not None]

    @property
    def _needed(self) -> list[str]:
        """The columns that tell times and units."""
        own = self.unit if self.unit not in (*PERIODS, BATCH_UNIT) else None
        return [name for name in (self.time, own) if name is not None]

    def _check(self, *, ordered: bool) -> None:
        """Raise UsageError for arguments that do not go together."""
        if self.unit in PERIODS and self.time is None:
            raise UsageError(
                f"unit={self.unit!r} needs time=: the name of the column with the time of each row"
            )
        if self.unit is not None and self.unit not in PERIODS and self.unit == self.time:
            raise UsageError(
                f"unit and time both name the column {self.unit!r}; for days pass unit='day'"
            )
        if self.unit is not None and ordered:
            raise UsageError(
                "unit= compares whole units and takes every row, ordered=True takes rows some way "
                "apart: pass one of them"
            )

    def sides(
        self, X: Any, reference: Any, model: Model | None, *, ordered: bool, seed: int
    ) -> tuple[Sides, Marks]:
        """The rows of both sides without the columns set aside, and what these columns say.

        Without a reference, half of X is held out: whole units where there are units.

        Raises:
            UsageError: for arguments that do not go together, columns that are absent, ambiguous
                or differ, values that are no times, and too few rows.
        """
        self._check(ordered=ordered)
        X, held, marks = self._read(X, reference, model, ordered=ordered, seed=seed)
        both = read_sides(X, held, model, ordered=ordered, seed=seed)
        check_columns(both.train, both.held, None if marks.cycle is not None else self.stratum)
        if reference is not None:
            check_shared(both.train, both.held)
        return both, marks

    def _read(
        self, X: Any, reference: Any, model: Model | None, *, ordered: bool, seed: int
    ) -> tuple[Any, Any, Marks]:
        if self.unit is None and self.time is None:
            return X, reference, Marks()
        train = self._columns(X)
        if reference is None:
            train, held = self._halves(train, ordered=ordered, seed=seed)
            batches = None
        else:
            held, batches = self._held(reference)
        marks = self._marks(held, batches)
        if ordered and marks.seconds is not None and (np.diff(marks.seconds) < 0).any():
            raise UsageError(
                f"the reference is not in the order of {self.time!r}: sort it, or leave out "
                "ordered=True"
            )
        return self._stripped(train, model), self._stripped(held, model), marks

    def _columns(self, X: Any) -> dict[str, Array]:
        columns = read_columns(X)
        own = self.unit in (*PERIODS, BATCH_UNIT) and self.unit in columns
        if own and self.unit != self.time:
            raise UsageError(
                f"unit={self.unit!r} may mean the column {self.unit!r} or a {self.unit} by itself; "
                "rename the column, or leave it out"
            )
        return columns

    def _held(self, reference: Any) -> tuple[dict[str, Array], Array | None]:
        """The columns of the reference, and of batches the number of each row's."""
        if self.unit != BATCH_UNIT:
            return self._columns(reference), None
        if not isinstance(reference, Sequence) or len(reference) < FEWEST_UNITS:
            raise UsageError(
                f"with unit='batch' the reference is a list of {FEWEST_UNITS} batches or more, each "
                "as update() takes it"
            )
        batches = [self._columns(batch) for batch in reference]
        names = [set(batch) for batch in batches]
        if any(own != names[0] for own in names):
            raise UsageError(f"the batches of the reference differ in their columns: {names[:2]}")
        joined = {}
        for name in batches[0]:
            parts = [batch[name] for batch in batches]
            masked = any(map(np.ma.isMaskedArray, parts))
            joined[name] = np.ma.concatenate(parts) if masked else np.concatenate(parts)  # type: ignore[no-untyped-call]
        numbers = np.repeat(np.arange(len(batches)), [length(batch) for batch in batches])
        return joined, numbers

    def _halves(
        self, columns: dict[str, Array], *, ordered: bool, seed: int
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Half of the rows, or the rows of half of the units, and the others."""
        if self.unit == BATCH_UNIT:
            raise UsageError("with unit='batch' pass reference=, a list of batches")
        n = length(columns)
        units = self._marks(columns, None).units
        if units is None:
            units = np.arange(n)
        order = np.unique(units)
        if not ordered:
            order = np.random.default_rng(seed).permutation(order)
        first = np.isin(units, order[: len(order) // 2])
        return take_rows(columns, first), take_rows(columns, ~first)

    def _marks(self, held: ColumnsByName, batches: Array | None) -> Marks:
        absent = [name for name in self._needed if name not in held]
        if absent:
            periods_too = (
                "" if absent[0] == self.time else "; a unit is also 'day', 'week' or 'batch'"
            )
            raise UsageError(
                f"there is no column {absent[0]!r} in the reference; there are "
                f"{list(held)}{periods_too}",
                feature=absent[0],
            )
        seconds = None
        cycle = None
        if self.time is not None:
            seconds = row_seconds(held[self.time], self.time)
            if self.timed_stratum(held):
                cycle = cycle_names(seconds, str(self.stratum))
        return Marks(seconds, self._units(held, seconds, batches), cycle)

    def timed_stratum(self, columns: ColumnsByName) -> bool:
        """Whether the stratum is told by times of rows, and not by a column."""
        return self.time is not None and self.stratum in CYCLES and self.stratum not in columns

    def _units(
        self, held: ColumnsByName, seconds: Array | None, batches: Array | None
    ) -> Array | None:
        if self.unit is None or batches is not None:
            return batches
        if self.unit in PERIODS:
            return np.unique(
                periods(needed_times(seconds, self.unit), self.unit), return_inverse=True
            )[1]
        return unit_codes(self.unit, held[self.unit])[1]

    def _stripped(self, columns: dict[str, Array], model: Model | None) -> dict[str, Array]:
        """The columns without those set aside, but for what a model takes."""
        taken: set[str] = set()
        if model is not None:
            for spec in model.signature.inputs:
                taken |= {column.name for column in spec.columns}
        return {
            name: column
            for name, column in columns.items()
            if name not in self._needed or name in taken
        }


@dataclass(frozen=True)
class CountedRows:
    """What the counts of a reference are from.

    Args:
        features: the d features.
        columns: by feature name.
        rows: the numbers of the rows of a feature that does not have all of them.
        member: the number of each row's stratum, int64 (n,).
    """

    features: Sequence[Feature]
    columns: ColumnsByName
    rows: Mapping[str, Array]
    member: Array


def reference_units(
    counted: CountedRows, units: Array | None, unit: str, seed: int
) -> ReferenceUnits | None:
    """What is kept of the units of a reference, if there are units.

    Args:
        counted: the reference.
        units: the number of each row's unit, int64 (n,).
        unit: the argument of `Profile.fit`, for messages.
        seed: of which units are kept, where they are too many.

    Raises:
        UsageError: for fewer than 8 units, and for a unit with rows of several strata.
    """
    if units is None:
        return None
    found = int(units.max(initial=-1)) + 1
    kept = _kept_units(found, counted.features, unit, seed)
    strata = _strata_of(units, counted.member, found, unit)
    return _units_of(_counts_of(counted, units, kept), strata[kept], counted.features, found)


def units_of_counts(
    counts: Array, strata: Array, features: Sequence[Feature], unit: str, seed: int
) -> ReferenceUnits:
    """What is kept of units with these counts (units, d, 67) and numbers of strata."""
    kept = _kept_units(len(counts), features, unit, seed)
    return _units_of(counts[kept], strata[kept], features, len(counts))


def _units_of(
    counts: Array, strata: Array, features: Sequence[Feature], found: int
) -> ReferenceUnits:
    table = group_table(features)
    shares = [shares_of(each, table) for each in counts]
    return ReferenceUnits(np.array(shares), strata, found)


def _kept_units(found: int, features: Sequence[Feature], unit: str, seed: int) -> Array:
    """The numbers of the units that are kept. Raises UsageError for too few."""
    if found < FEWEST_UNITS:
        raise UsageError(
            f"the reference has {many(found, unit)}; a profile of {plural(unit)} needs "
            f"{FEWEST_UNITS}, and 50 to notice much"
        )
    most = most_units(len(features))
    if found <= most:
        return np.arange(found)
    return np.sort(np.random.default_rng(seed).permutation(found)[:most])


def _strata_of(units: Array, member: Array, found: int, unit: str) -> Array:
    """The number of the stratum of each unit, int64 (found,)."""
    strata = np.zeros(found, np.int64)
    strata[units] = member
    mixed = np.flatnonzero(strata[units] != member)
    if len(mixed):
        raise UsageError(
            f"a unit of the reference has rows of several strata ({unit!r}, row {mixed[0]:,}): a "
            "unit is compared with units of its stratum, so the stratum is one for all its rows, "
            "such as the weekday of a day; leave stratum= out"
        )
    return strata


def _counts_of(counted: CountedRows, units: Array, kept: Array) -> Array:
    """Counts (kept, d, 67) of the units that are kept."""
    place = np.full(int(units.max()) + 1, -1)
    place[kept] = np.arange(len(kept))
    counts = np.zeros((len(kept), len(counted.features), CELLS), np.int64)
    for j, feature in enumerate(counted.features):
        own = place[units]
        if feature.name in counted.rows:
            own = own[counted.rows[feature.name]]
        cells = feature.cells(counted.columns[feature.name])
        chosen = own >= 0
        at = own[chosen] * CELLS + cells[chosen]
        found = np.bincount(at, minlength=len(kept) * CELLS)
        counts[:, j] = found.reshape(-1, CELLS)
    return counts
