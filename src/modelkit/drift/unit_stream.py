"""The rows of the unit that is open, and what is known of the units before it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, Feature
from modelkit.drift.martingale import tally
from modelkit.drift.order import Order
from modelkit.drift.unit_martingale import UnitEvidence
from modelkit.drift.units import (
    BATCH_UNIT,
    PERIODS,
    UnitRows,
    check_ahead,
    group_table,
    period_of,
    period_start,
    shares_of,
    unit_name,
)
from modelkit.errors import UsageError

RECENT_UNITS = 8  # whose counts are kept for effect sizes
TRAIL = 1_024  # judged units whose names are kept; later rows of one are known as late
MOST_MISSED = 0.01  # of a day or a week that nobody watched, and which is compared all the same


@dataclass(frozen=True)
class JudgedUnit:
    """A unit that was judged.

    `start` is its first second and `end` the first one after it, for a day or a week; `before` the
    number of rows taken before it, with those of references before, `rows` that of its own, and
    `stratum` the number of its stratum.
    """

    name: str
    start: float | None
    end: float | None
    before: int
    rows: int
    stratum: int


@dataclass(frozen=True)
class UnitCrossing:
    """Evidence about a feature that passed its threshold when a unit was judged.

    `score` is the name of the score, `p` its p-value and `level` the share of alpha that it was
    below; `unit` the unit that was judged, `began` the one that the change is estimated to have
    begun with, or None where it is no longer known. `recent` are the counts (units, 67) since then,
    of the last 8 units at most, and `strata` the numbers of their strata. `rows` is how many values
    of the feature were looked at, and `again` whether it goes beyond an alarm before.
    """

    kind: str
    feature: int
    score: str
    p: float
    level: float
    rows: int
    again: bool
    unit: JudgedUnit
    began: JudgedUnit | None
    recent: Array
    strata: list[int]


@final
class UnitStream:
    """The units of a stream: counts of the open one, and evidence about those that are complete.

    Args:
        unit: "day", "week", "batch" or the name of a column.
        features: the d features.
        evidence: about units like those of the reference.
    """

    def __init__(self, unit: str, features: tuple[Feature, ...], evidence: UnitEvidence) -> None:
        d = len(features)
        self.unit = unit
        self.evidence = evidence
        self.rows = 0
        self.earlier = 0  # rows that were compared with references before
        self.totals = np.zeros((d, CELLS), np.int64)
        self.values = np.zeros(d, np.int64)  # of each feature in units that were judged
        self.late = 0  # rows of a unit that was judged
        self.partial = 0  # rows of the unit in which watching began, which is not whole
        self.partial_key: int | str | None = None
        self.told_key: int | None = None  # that the caller said it is, until a later row comes
        self.unwatched: tuple[int, float] | None = None  # the day or week, and how many seconds
        self.strange = 0  # rows of a stratum that the reference does not have
        self.uncompared = 0  # units of such a stratum
        self.open_key: int | str | None = None
        self.open_rows = 0
        self.open_stratum = 0
        self.open_counts = np.zeros((d, CELLS), np.int64)
        self.trail: deque[JudgedUnit] = deque(maxlen=TRAIL)
        self._table = group_table(features)
        self._recent = np.zeros((RECENT_UNITS, d, CELLS), np.int64)
        self._complete: deque[tuple[JudgedUnit, Array]] = deque()  # to be judged, with their counts
        self._closed: deque[int | str] = deque(maxlen=TRAIL)

    # Rows.

    def take(
        self, cells: Array, strata: Array | None, parts: Sequence[UnitRows], order: Order = "any"
    ) -> None:
        """Take rows, uint8 (n, d), by unit; the units that are complete wait for `judge_part`.

        With the first row of a later unit the open one is complete: see `check_ahead`.

        Args:
            cells: of the rows; 255 where a row has no value for a feature.
            strata: the number of each row's stratum, -1 for an unknown one; None without strata.
            parts: the rows of each unit.
            order: of the units of a column; see `_places`.

        Raises:
            UsageError: for a unit with rows of several strata. No row is taken then.
        """
        own = self.strata_of(parts, strata)
        for i in self._places(parts, order):
            part = parts[i]
            stratum = own[i]
            if part.key is not None and part.key == self.partial_key:
                self.partial += len(part.rows)
                continue
            if self._is_late(part.key):
                self.late += len(part.rows)
                continue
            if part.key != self.open_key:
                self.told_key = None
                self.close()
            self.open_key = part.key
            self.open_stratum = stratum
            self._add(tally(cells[part.rows]), len(part.rows))
            if self.unit == BATCH_UNIT:
                self.close()

    def _places(self, parts: Sequence[UnitRows], order: Order) -> list[int]:
        """The numbers of the units of a call in the order in which they are judged.

        The unit that is open goes on first, wherever in the call its rows are. Then come days and
        weeks in order of time. Values of a column have none, unless the caller says so, since a
        table may be sorted by what it holds: those that the call completes come in a random order,
        and the last stays open.
        """
        first = [
            i for i, part in enumerate(parts) if part.key is not None and part.key == self.open_key
        ]
        others = [i for i in range(len(parts)) if i not in first]
        if self.unit in (*PERIODS, BATCH_UNIT) or order == "time":
            return first + others
        return first + self.evidence.shuffled(others[:-1]) + others[-1:]

    def begin(self, second: float) -> None:
        """Leave out the day or week that is under way at a second, when watching begins."""
        self.partial_key = period_of(second, self.unit)

    def go_on(self, since: float, now: float) -> None:
        """Leave out a day or a week of which nobody saw more than a hundredth.

        Nobody watched from one second to the other; what was missed before is added to it.
        """
        key = period_of(now, self.unit)
        if isinstance(self.open_key, int) and self._is_partial(self.open_key, since, now):
            self._drop_open()
        if self._is_partial(key, since, now):
            self.partial_key = key
        missed = self._missed(key, since, now)
        self.unwatched = (key, missed) if missed else None

    def _is_partial(self, key: int, since: float, now: float) -> bool:
        length = period_start(key + 1, self.unit) - period_start(key, self.unit)
        return self._missed(key, since, now) > MOST_MISSED * length

    def _missed(self, key: int, since: float, now: float) -> float:
        """The seconds of a day or a week that nobody watched, these among them."""
        before = 0.0
        if self.unwatched is not None and self.unwatched[0] == key:
            before = self.unwatched[1]
        first = max(since, period_start(key, self.unit))
        last = min(now, period_start(key + 1, self.unit))
        return before + max(last - first, 0.0)

    def _drop_open(self) -> None:
        """Count the rows of the open unit as those of a part, and its later ones as late."""
        self.partial += self.open_rows
        self.rows -= self.open_rows
        self.totals -= self.open_counts
        if self.open_key is not None:
            self._closed.append(self.open_key)
        self._empty()

    def check_ahead(self, parts: Sequence[UnitRows]) -> None:
        """Raise UsageError for a day or a week that is far ahead of all before: see `units`."""
        check_ahead(parts, self.unit, self._latest(), self.told_key)

    def _latest(self) -> int | None:
        """The latest day or week that is known by rows."""
        judged = self._closed[-1] if self._closed else None
        keys = (judged, self.open_key, self.partial_key)
        return max((key for key in keys if isinstance(key, int)), default=None)

    @property
    def taken(self) -> int:
        """The number of rows taken, with those that were not compared."""
        return self.rows + self.late + self.partial

    def follow(self, before: UnitStream) -> None:
        """Take over from the stream of the reference before; the unit that is open is left out."""
        self.earlier = before.earlier + before.taken
        self.partial_key = before.partial_key if before.open_key is None else before.open_key

    def strata_of(self, parts: Sequence[UnitRows], strata: Array | None) -> list[int]:
        """The number of the stratum of each unit. Raises UsageError for a unit of several strata."""
        return [self._stratum(part, strata) for part in parts]

    def _stratum(self, part: UnitRows, strata: Array | None) -> int:
        if strata is None:
            return 0
        found = np.unique(strata[part.rows]).tolist()
        if self.open_rows and part.key == self.open_key and self.unit != BATCH_UNIT:
            found = sorted({*found, self.open_stratum})
        if len(found) > 1:
            name = self.unit if part.key is None else unit_name(self.unit, part.key)
            raise UsageError(
                f"{name} has rows of several strata; a unit is compared with units of its stratum, "
                "so all its rows are of one"
            )
        return int(found[0])

    def _is_late(self, key: int | str | None) -> bool:
        if isinstance(key, int):
            last = self._closed[-1] if self._closed else -np.inf
            return key <= last or (isinstance(self.open_key, int) and key < self.open_key)  # type: ignore[operator]
        return key in self._closed

    def _add(self, counts: Array, rows: int) -> None:
        self.open_counts += counts
        self.totals += counts
        self.open_rows += rows
        self.rows += rows

    def come_to(self, second: float) -> None:
        """Close the open day or week if it has ended by a second, though no later row has come."""
        self.told_key = period_of(second, self.unit) if self.unit in PERIODS else None
        key = self.open_key
        if isinstance(key, int) and second >= period_start(key + 1, self.unit):
            self.close()

    def close(self) -> None:
        """Let the open unit, if it has rows, wait for `judge_part`."""
        if not self.open_rows:
            return
        key = self.open_key
        start = None
        end = None
        if isinstance(key, int):
            start = period_start(key, self.unit)
            end = period_start(key + 1, self.unit)
        if key is None:
            key = self.evidence.judged + len(self._complete) + self.uncompared + 1
        unit = JudgedUnit(
            unit_name(self.unit, key),
            start,
            end,
            self.earlier + self.taken - self.open_rows,
            self.open_rows,
            self.open_stratum,
        )
        if self.unit != BATCH_UNIT:
            self._closed.append(key)
        if self.open_stratum < 0:
            self.strange += self.open_rows
            self.uncompared += 1
        else:
            self._complete.append((unit, self.open_counts.copy()))
        self._empty()

    def _empty(self) -> None:
        self.open_counts[:] = 0
        self.open_rows = 0
        self.open_key = None

    @property
    def waits(self) -> bool:
        """Whether a unit that is complete waits to be judged."""
        return bool(self._complete)

    def judge_part(self) -> list[UnitCrossing]:
        """Rank the first unit that waits by its next features, and judge it once by all of them."""
        unit, counts = self._complete[0]
        if not self.evidence.ranks:
            self.evidence.begin(shares_of(counts, self._table), unit.stratum)
        if self.evidence.rank_part() is None:
            return []
        self._complete.popleft()
        self._recent[(self.evidence.judged - 1) % RECENT_UNITS] = counts
        self.trail.append(unit)
        self.values += counts.sum(axis=1)
        found = [self._crossing(*crossed, unit) for crossed in self.evidence.crossed()]
        self._arm(found)
        return found

    def _arm(self, crossed: Sequence[UnitCrossing]) -> None:
        """Let features that alarmed about material changes alarm about larger ones, or with "arl" all."""
        for crossing in crossed:
            if self.evidence.guarantee == "arl":
                self.evidence.tests[crossing.kind].arm(crossing.feature)
            elif crossing.kind == "material":
                table = self._table[crossing.feature : crossing.feature + 1]
                own = [i for i, counts in enumerate(crossing.recent) if counts.any()]
                shares = [shares_of(crossing.recent[i][None], table)[0] for i in own]
                strata = [crossing.strata[i] for i in own]
                self.evidence.allow(crossing.feature, np.array(shares), strata)
        if self.evidence.judged % RECENT_UNITS == 0:
            counts, strata = self.recent()
            shares = [shares_of(each, self._table) for each in counts]
            self.evidence.tighten(np.array(shares), strata)

    def _crossing(self, kind: str, feature: int, score: int, unit: JudgedUnit) -> UnitCrossing:
        test = self.evidence.tests[kind]
        began = int(test.began()[feature, score])
        recent, strata = self.recent(self.evidence.judged - began)
        return UnitCrossing(
            kind,
            feature,
            test.names[score],
            p=float(test.p_now()[feature, score]),
            level=float(test.levels[feature]),
            rows=int(self.values[feature]),
            again=self.evidence.again(kind, feature),
            unit=unit,
            began=self.unit_at(began),
            recent=recent[:, feature],
            strata=strata,
        )

    def unit_at(self, step: int) -> JudgedUnit | None:
        """The unit that was judged after so many others; None where its name is forgotten."""
        back = self.evidence.judged - step
        return self.trail[-back] if 0 < back <= len(self.trail) else None

    def recent(self, units: int = RECENT_UNITS) -> tuple[Array, list[int]]:
        """Counts (units, d, 67) and strata of the last units judged, 8 at most, the latest last."""
        judged = self.evidence.judged
        back = max(min(units, judged, RECENT_UNITS), 0)
        at = np.arange(judged - back, judged) % RECENT_UNITS
        strata = [unit.stratum for unit in self.trail]
        return self._recent[at], strata[len(strata) - back :]

    # To go on from later.

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and values that JSON can hold."""
        arrays, plain = self.evidence.state()
        arrays |= {
            "totals": self.totals,
            "open": self.open_counts,
            "recent": self._recent,
            "values": self.values,
        }
        plain |= {name: getattr(self, name) for name in STORED}
        plain["told_key"] = self.told_key
        plain["unwatched"] = self.unwatched
        plain["closed"] = list(self._closed)
        plain["trail"] = [asdict(judged) for judged in self.trail]
        return arrays, plain

    def restore(self, arrays: dict[str, Array], plain: dict[str, Any]) -> None:
        """Go on from `state()`, bit for bit."""
        self.evidence.restore(arrays, plain)
        self.totals = arrays["totals"].copy()
        self.open_counts = arrays["open"].copy()
        self._recent = arrays["recent"].copy()
        self.values = arrays["values"].copy()
        for name in STORED:
            setattr(self, name, plain[name])
        self.told_key = plain["told_key"]
        unwatched = plain["unwatched"]
        self.unwatched = None if unwatched is None else (int(unwatched[0]), float(unwatched[1]))
        self._closed.extend(plain["closed"])
        self.trail.extend(JudgedUnit(**judged) for judged in plain["trail"])


STORED = (
    "earlier",
    "late",
    "open_key",
    "open_rows",
    "open_stratum",
    "partial",
    "partial_key",
    "rows",
    "strange",
    "uncompared",
)
