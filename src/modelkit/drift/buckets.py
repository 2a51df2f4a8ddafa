"""Counts of cells by the hour and the day, of bounded size: the past of a stream, without its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS
from modelkit.drift.ranks import tally
from modelkit.errors import PackageError

HOUR_SECONDS = 3600  # seconds
DAY_SECONDS = 24 * HOUR_SECONDS
MOST_HOURS = 48  # that had rows; what is older is kept by the day
MOST_DAYS = 366
LEAST_BUCKETS = 4  # hours and days each, however large one is
HISTORY_BYTES = 1 << 25  # of memory, unless the caller says otherwise
TALLIED_AT_ONCE = 1 << 16  # cells, so that those of many rows stay in cache
OF_LABELS = slice(-1, None)  # of the features: the labels, where they are one
MANY_ROWS = 1 << 32  # rows of a bucket from which its counts are int64 and no more uint32


@final
@dataclass(eq=False)
class TimeBucket:
    """The rows of one hour or one day.

    `start` and `end` are POSIX seconds, `counts` (strata, features, 67), `rows` their number, and
    `losses` the number, the sum and the sum of squares of the losses that came meanwhile.
    """

    start: int
    end: int
    counts: Array
    rows: int = 0
    losses: tuple[int, float, float] = (0, 0.0, 0.0)

    def add(self, s: int, features: slice, added: Array, rows: int) -> None:
        """Take counts of some features in, (features, 67), of rows of stratum number `s`."""
        self.rows += rows
        if self.counts.dtype == np.uint32 and self.rows >= MANY_ROWS:
            self.counts = self.counts.astype(np.int64)
        own = self.counts[s, features]
        np.add(own, added, out=own, casting="unsafe")

    def join(self, other: TimeBucket) -> None:
        """Take in another bucket's rows and losses."""
        if self.rows + other.rows >= MANY_ROWS:
            self.counts = self.counts.astype(np.int64)
        self.rows += other.rows
        np.add(self.counts, other.counts, out=self.counts, casting="unsafe")
        self.add_losses(other.losses)

    def copy(self) -> TimeBucket:
        """The bucket as it is now."""
        return replace(self, counts=self.counts.copy())

    def add_losses(self, losses: tuple[int, float, float]) -> None:
        """Take losses in: their number, sum and sum of squares."""
        n, total, squares = self.losses
        self.losses = (n + losses[0], total + losses[1], squares + losses[2])


@final
class Buckets:
    """The buckets of one profile: the last 48 hours that had rows, and before them 366 days.

    Fewer where these would take more than `most_bytes`. An hour that is too old is added to its
    day, and a day that is too old is forgotten; `forgotten` counts its rows. Hours and days are
    those of UTC.

    Args:
        strata: their number.
        features: the number of rows of each table of counts.
        most_bytes: of memory for counts; 0 to keep none.
    """

    def __init__(self, strata: int, features: int, most_bytes: int) -> None:
        self.shape = (strata, features, CELLS)
        self.hours: dict[int, TimeBucket] = {}
        self.days: dict[int, TimeBucket] = {}
        self.forgotten = 0
        self.most_hours, self.most_days = reach(self.shape, most_bytes)

    def count(self, s: int, cells: Array, times: Array | float) -> Array:
        """Count rows of stratum number `s`; returns their counts.

        Args:
            s: the number of the stratum.
            cells: uint8 (n, d).
            times: when the rows were, in POSIX seconds, float64 (n,), or of all together.
        """
        width = cells.shape[1]
        total = np.zeros((width, CELLS), np.int64)
        for hour, rows in by_hour(times, len(cells)):
            added = tally_all(cells if rows is None else cells[rows])
            total += added
            n = len(cells) if rows is None else len(rows)
            if self.most_hours:
                self._at(hour).add(s, slice(0, width), added, n)
                self._fold()
        return total

    def count_labels(
        self, times: Array | float, losses: Array | None, targets: Array | None
    ) -> None:
        """Count labelled rows: their losses (n,), and the cells of their labels, uint8 (n, 1)."""
        given = losses if losses is not None else targets
        if given is None or not self.most_hours:
            return
        for hour, rows in by_hour(times, len(given)):
            bucket = self._at(hour)
            if losses is not None:
                own = losses if rows is None else losses[rows]
                bucket.add_losses((len(own), float(own.sum()), float((own * own).sum())))
            if targets is not None:
                cells = targets if rows is None else targets[rows]
                bucket.add(0, OF_LABELS, tally_all(cells), 0)
            self._fold()

    def _at(self, hour: int) -> TimeBucket:
        """The bucket of an hour, made where there is none."""
        if hour not in self.hours:
            self.hours[hour] = self._empty(hour * HOUR_SECONDS, HOUR_SECONDS)
        return self.hours[hour]

    def _empty(self, start: int, seconds: int) -> TimeBucket:
        return TimeBucket(start, start + seconds, np.zeros(self.shape, np.uint32))

    def _fold(self) -> None:
        """Add the oldest hours to their days, and forget the oldest days, where there are too many."""
        while len(self.hours) > self.most_hours:
            oldest = min(self.hours)
            day = oldest // 24
            if day not in self.days:
                self.days[day] = self._empty(day * DAY_SECONDS, DAY_SECONDS)
            self.days[day].join(self.hours.pop(oldest))
        while len(self.days) > self.most_days:
            self.forgotten += self.days.pop(min(self.days)).rows

    def all(self) -> list[TimeBucket]:
        """All buckets in the order of time."""
        return [self.days[day] for day in sorted(self.days)] + [
            self.hours[hour] for hour in sorted(self.hours)
        ]

    def forget(self) -> int:
        """Forget the oldest bucket; returns the bytes that it took, or 0 without one."""
        for kept in (self.days, self.hours):
            if kept:
                oldest = kept.pop(min(kept))
                self.forgotten += oldest.rows
                return oldest.counts.nbytes
        return 0

    def copy(self) -> Buckets:
        """The buckets as they are now."""
        other = Buckets(self.shape[0], self.shape[1], 0)
        other.most_hours = self.most_hours
        other.most_days = self.most_days
        other.forgotten = self.forgotten
        other.hours = {hour: bucket.copy() for hour, bucket in self.hours.items()}
        other.days = {day: bucket.copy() for day, bucket in self.days.items()}
        return other

    def join(self, other: Buckets) -> None:
        """Take in another's buckets, of the same profile."""
        for mine, theirs in ((self.days, other.days), (self.hours, other.hours)):
            for number, bucket in theirs.items():
                if number not in mine:
                    mine[number] = self._empty(bucket.start, bucket.end - bucket.start)
                mine[number].join(bucket)
        self.forgotten += other.forgotten
        self._fold()

    # To go on from later.

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and values that JSON can hold."""
        arrays: dict[str, Array] = {}
        for name, kept in (("hours", self.hours), ("days", self.days)):
            buckets = [kept[number] for number in sorted(kept)]
            arrays[name] = np.array(sorted(kept), np.int64)
            arrays[f"{name} rows"] = np.array([bucket.rows for bucket in buckets], np.int64)
            losses = [bucket.losses for bucket in buckets]
            arrays[f"{name} losses"] = np.array(losses, np.float64).reshape(-1, 3)
            counts = [bucket.counts for bucket in buckets]
            arrays[f"{name} counts"] = _narrow(np.array(counts).reshape(-1, *self.shape))
        return arrays, {"forgotten": self.forgotten}

    def restore(self, arrays: Mapping[str, Array], plain: Mapping[str, Any]) -> None:
        """Go on from `state()`. Raises PackageError for counts of another shape."""
        self.forgotten = plain["forgotten"]
        for name, kept, seconds in (
            ("hours", self.hours, HOUR_SECONDS),
            ("days", self.days, DAY_SECONDS),
        ):
            numbers = arrays[name].tolist()
            counts = arrays[f"{name} counts"]
            if counts.shape != (len(numbers), *self.shape):
                raise PackageError(
                    f"this is not a state of a Detector: its history has counts of the shape "
                    f"{counts.shape}"
                )
            rows = arrays[f"{name} rows"].tolist()
            losses = arrays[f"{name} losses"].tolist()
            for i, number in enumerate(numbers):
                bucket = self._empty(number * seconds, seconds)
                wide = np.int64 if rows[i] >= MANY_ROWS else np.uint32
                bucket.counts = counts[i].astype(wide)
                bucket.rows = rows[i]
                n, total, squares = losses[i]
                bucket.losses = (int(n), total, squares)
                kept[number] = bucket


def reach(shape: tuple[int, int, int], most_bytes: int) -> tuple[int, int]:
    """The numbers of hours and days that fit into these bytes; 0 and 0 for no bytes."""
    if not most_bytes:
        return 0, 0
    strata, features, cells = shape
    buckets = most_bytes // max(4 * strata * features * cells, 1)
    hours = min(MOST_HOURS, max(buckets // 2, LEAST_BUCKETS))
    days = min(MOST_DAYS, max(buckets - hours, LEAST_BUCKETS))
    return hours, days


def by_hour(times: Array | float, rows: int) -> Iterator[tuple[int, Array | None]]:
    """Each hour with the numbers of its rows, the oldest first.

    The numbers are None where all rows are of one hour, as nearly always.
    """
    if not rows:
        return
    hours = np.floor_divide(times, HOUR_SECONDS)
    low = int(hours.min())
    if low == hours.max():
        yield low, None
        return
    order = np.argsort(hours, kind="stable")
    starts = np.flatnonzero(np.diff(hours[order])) + 1
    for own in np.split(order, starts):
        yield int(hours[own[0]]), own


def tally_all(cells: Array) -> Array:
    """As `martingale.tally`, a part of the rows at a time: int64 (d, 67)."""
    n, width = cells.shape
    step = max(TALLIED_AT_ONCE // max(width, 1), 1)
    if n <= step:
        return tally(cells)
    total = np.zeros((width, CELLS), np.int64)
    for start in range(0, n, step):
        total += tally(cells[start : start + step])
    return total


def _narrow(counts: Array) -> Array:
    """Counts as the smallest unsigned integers that hold them."""
    most = int(counts.max(initial=0))
    for dtype in (np.uint8, np.uint16, np.uint32):
        if most <= np.iinfo(dtype).max:
            return counts.astype(dtype)
    return counts.astype(np.int64)
