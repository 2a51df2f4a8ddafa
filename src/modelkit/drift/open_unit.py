"""The unit of rows that is open, those that are complete, and what is known of those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.counts import count_by
from modelkit.drift.order import Order
from modelkit.drift.sequence import Crossing, Sequence
from modelkit.drift.unit_ranks import UnitBag
from modelkit.drift.units import (
    BATCH_UNIT,
    PERIODS,
    UnitRows,
    many,
    period_of,
    period_start,
    shares_of,
    unit_name,
)
from modelkit.errors import UsageError

TRAIL = 1_024  # judged units whose names are kept; later rows of one are known as late
MOST_AHEAD = 31  # days or weeks that a row may be ahead of all others
NEVER = (0, 0.0)  # a day or a week that nobody watched, and for how many seconds
MOST_MISSED = 0.01  # of a day or a week that nobody watched, and which is compared all the same


@dataclass(frozen=True)
class JudgedUnit:
    """A unit that was judged.

    `start` is its first second and `end` the first one after it, for a day or a week; `before` the
    number of rows taken before it, rows of earlier references included, `rows` its own, and
    `stratum` the number of its stratum.
    """

    name: str
    start: float | None
    end: float | None
    before: int
    rows: int
    stratum: int


@final
class Units:
    """The units of a stream: counts of the open one, and the sequence of those that are complete.

    Args:
        unit: "day", "week", "batch" or the name of a column.
        sequence: of units, on which bets are made.
        bag: the units that a new one of it is ranked among.
    """

    changing = (
        "sequence",
        "rows",
        "earlier",
        "late",
        "partial",
        "partial_key",
        "clock_key",
        "unwatched",
        "strange",
        "uncompared",
        "open_key",
        "open_rows",
        "open_stratum",
        "open_counts",
        "trail",
        "closed",
    )
    entries: ClassVar = {"trail": JudgedUnit}

    def __init__(self, unit: str, sequence: Sequence, bag: UnitBag) -> None:
        self.unit = unit
        self.sequence = sequence
        self.bag = bag
        self.rows = 0
        self.earlier = 0  # rows that were compared with references before
        self.late = 0  # rows of a unit that was judged
        self.partial = 0  # rows of the unit in which watching began, which is not whole
        self.partial_key: int | str | None = None
        self.clock_key: int | None = None  # of the latest day or week by the caller's clock
        self.unwatched = NEVER  # the day or week, and how many seconds
        self.strange = 0  # rows of a stratum that the reference does not have
        self.uncompared = 0  # units of such a stratum
        self.open_key: int | str | None = None
        self.open_rows = 0
        self.open_stratum = 0
        self.open_counts = np.zeros_like(sequence.totals)
        self.trail: deque[JudgedUnit] = deque(maxlen=TRAIL)
        self.closed: deque[int | str] = deque(maxlen=TRAIL)
        self._complete: deque[tuple[JudgedUnit, Array]] = deque()  # to be judged, with their counts

    # Rows.

    def take(
        self, cells: Array, strata: Array | None, parts: Many[UnitRows], order: Order = "any"
    ) -> None:
        """Take rows, uint8 (n, d), by unit; the units that are complete wait for `judge`.

        With the first row of a later unit the open one is complete: see `check_ahead`.

        Args:
            cells: of the rows; 255 where a row lacks a value for a feature.
            strata: the number of each row's stratum, -1 for an unknown one; None without strata.
            parts: the rows of each unit.
            order: of the units of a column; see `_in_order`.

        Raises:
            UsageError: for a unit with rows of several strata. No row is taken then.
        """
        numbers = self.strata_of(parts, strata)
        for i in self._in_order(parts, order):
            rows = parts[i].rows
            key = parts[i].key
            if key is not None and key == self.partial_key:
                self.partial += len(rows)
            elif self._is_late(key):
                self.late += len(rows)
            else:
                self._add(key, numbers[i], count_by(cells[rows])[0], len(rows))

    def _in_order(self, parts: Many[UnitRows], order: Order) -> list[int]:
        """The numbers of the units of a call in the order in which they are judged.

        The unit that is open goes on first, wherever in the call its rows are. Then come days and
        weeks in order of time. Values of a column have none, unless the caller says so, since a
        table may be sorted by what it holds: those that the call completes come in a random order,
        and the last stays open.
        """
        keys = [part.key for part in parts]
        first = [i for i, key in enumerate(keys) if key is not None and key == self.open_key]
        others = [i for i in range(len(parts)) if i not in first]
        if self.unit in (*PERIODS, BATCH_UNIT) or order == "time" or len(others) < 3:
            return first + others
        shuffled = self.bag.rng.permutation(len(others) - 1).tolist()
        return first + [others[i] for i in shuffled] + others[-1:]

    def _is_late(self, key: int | str | None) -> bool:
        if not isinstance(key, int):
            return key in self.closed
        last = self.closed[-1] if self.closed else -np.inf
        return key <= last or (isinstance(self.open_key, int) and key < self.open_key)  # type: ignore[operator]

    def _add(self, key: int | str | None, stratum: int, counts: Array, rows: int) -> None:
        if key != self.open_key:
            self.close()
        self.open_key = key
        self.open_stratum = stratum
        self.open_counts += counts
        self.sequence.totals += counts
        self.open_rows += rows
        self.rows += rows
        if self.unit == BATCH_UNIT:
            self.close()

    def strata_of(self, parts: Many[UnitRows], strata: Array | None) -> list[int]:
        """The number of the stratum of each unit. Raises UsageError for a unit of several strata."""
        if strata is None:
            return [0] * len(parts)
        return [self._stratum(part, strata) for part in parts]

    def _stratum(self, part: UnitRows, strata: Array) -> int:
        found = {*np.unique(strata[part.rows]).tolist()}
        if self.open_rows and part.key == self.open_key and self.unit != BATCH_UNIT:
            found.add(self.open_stratum)
        if len(found) > 1:
            name = self.unit if part.key is None else unit_name(self.unit, part.key)
            raise UsageError(
                f"{name} has rows of several strata; a unit is compared with units of its stratum, "
                "so all its rows are of one"
            )
        return int(found.pop())

    @property
    def taken(self) -> int:
        """The number of rows taken, with those that were not compared."""
        return self.rows + self.late + self.partial

    # Time.

    def check_ahead(self, parts: Many[UnitRows]) -> None:
        """Raise UsageError for a day or a week that is far ahead of all that were seen before it.

        It would end all of them until then, and their rows would come late. By `come_to` the caller
        says that so much time has passed.

        Args:
            parts: the rows of each unit, in order of time; units by a column lack an order.
        """
        closed = self.closed[-1] if self.closed else None
        keys = (closed, self.open_key, self.partial_key, self.clock_key)
        known = [key for key in keys if isinstance(key, int)]
        for part in parts:
            key = part.key
            if not isinstance(key, int):
                return
            latest = max(known, default=key)
            if key - latest > MOST_AHEAD:
                raise UsageError(
                    f"row {int(part.rows[0]):,} is of {unit_name(self.unit, key)}, "
                    f"{many(key - latest, self.unit)} after {unit_name(self.unit, latest)}, the "
                    f"latest that is known; more than {MOST_AHEAD} are taken for a wrong time, which "
                    "would end all of them: correct it, or if so much time has passed, first call "
                    "update(at=...) without rows"
                )
            known.append(key)

    def begin(self, second: float) -> None:
        """Leave out the day or week that is under way at a second, when watching begins."""
        self.partial_key = period_of(second, self.unit)

    def follow(self, before: Units) -> None:
        """Take over from the units of the reference before; the one that is open is left out."""
        self.earlier = before.earlier + before.taken
        self.partial_key = before.partial_key if before.open_key is None else before.open_key

    def go_on(self, since: float, now: float) -> None:
        """Leave out a day or a week if nobody saw more than a hundredth of it.

        Nobody watched from one second to the other; what was missed before is added to it.
        """
        key = period_of(now, self.unit)
        if isinstance(self.open_key, int) and self._is_partial(self.open_key, since, now):
            self._drop_open(self.open_key)
        if self._is_partial(key, since, now):
            self.partial_key = key
        missed = self._missed(key, since, now)
        self.unwatched = (key, missed) if missed else NEVER

    def _is_partial(self, key: int, since: float, now: float) -> bool:
        length = period_start(key + 1, self.unit) - period_start(key, self.unit)
        return self._missed(key, since, now) > MOST_MISSED * length

    def _missed(self, key: int, since: float, now: float) -> float:
        """The seconds of a day or a week that nobody watched, these among them."""
        known, before = self.unwatched
        first = max(since, period_start(key, self.unit))
        last = min(now, period_start(key + 1, self.unit))
        return (before if known == key else 0.0) + max(last - first, 0.0)

    def _drop_open(self, key: int) -> None:
        """Count the rows of the open unit as rows of a part, and its later rows as late."""
        self.partial += self.open_rows
        self.rows -= self.open_rows
        self.sequence.totals -= self.open_counts
        self.closed.append(key)
        self._empty()

    def come_to(self, second: float) -> None:
        """Close the open day or week if it has ended by a second, though no later row has come."""
        self.clock_key = period_of(second, self.unit) if self.unit in PERIODS else None
        key = self.open_key
        if isinstance(key, int) and second >= period_start(key + 1, self.unit):
            self.close()

    def close(self) -> None:
        """Let the open unit, if it has rows, wait for `judge`."""
        if not self.open_rows:
            return
        unit = self._open()
        if self.unit != BATCH_UNIT and self.open_key is not None:
            self.closed.append(self.open_key)
        if unit.stratum < 0:
            self.strange += unit.rows
            self.uncompared += 1
        else:
            self._complete.append((unit, self.open_counts.copy()))
        self._empty()

    def _open(self) -> JudgedUnit:
        key = self.open_key
        start = end = None
        if isinstance(key, int):
            start = period_start(key, self.unit)
            end = period_start(key + 1, self.unit)
        if key is None:
            key = self.sequence.blocks + len(self._complete) + self.uncompared + 1
        before = self.earlier + self.taken - self.open_rows
        name = unit_name(self.unit, key)
        return JudgedUnit(name, start, end, before, self.open_rows, self.open_stratum)

    def _empty(self) -> None:
        self.open_counts[:] = 0
        self.open_rows = 0
        self.open_key = None

    # Judging.

    @property
    def waits(self) -> bool:
        """Whether a unit that is complete waits to be judged."""
        return bool(self._complete)

    def judge(self) -> list[Crossing]:
        """Judge the first unit that waits."""
        unit, counts = self._complete.popleft()
        self.trail.append(unit)
        shares = shares_of(counts, self.bag.tails.groups)
        self.sequence.take(self.bag.rank(counts, shares, unit.stratum, self.sequence.blocks))
        return self.sequence.settle()

    def unit_at(self, step: int) -> JudgedUnit | None:
        """The unit that was judged after so many others; None where its name is forgotten."""
        back = self.sequence.blocks - step
        return self.trail[-back] if 0 < back <= len(self.trail) else None

    def last_strata(self, units: int) -> list[int]:
        """The numbers of the strata of the last units that were judged."""
        strata = [unit.stratum for unit in self.trail]
        return strata[len(strata) - units :]
