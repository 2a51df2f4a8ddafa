"""Counts of cells by the hour and the day, of bounded size: the past of a stream, without its rows.

They are kept for each reference of a Detector, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from numbers import Real
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS
from modelkit.drift.counts import count_by
from modelkit.drift.profile import Profile
from modelkit.drift.units import DAY_SECONDS, HOUR_SECONDS
from modelkit.errors import UsageError

MOST_HOURS = 48  # that had rows; what is older is kept by the day
MOST_DAYS = 366
LEAST_BUCKETS = 4  # hours and days each, however large one is
HISTORY_BYTES = 1 << 25  # of memory, unless the caller says otherwise
ALL = slice(None)
OF_LABELS = slice(-1, None)  # of the features: the labels, where they are one
MOST_ERAS = 16
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

    def add(self, added: Array, rows: int, features: slice = ALL) -> None:
        """Take counts of rows in, those of the first strata and of some features."""
        counts = self.writable(self.rows + rows)[: len(added), features]
        np.add(counts, added, out=counts, casting="unsafe")
        self.rows += rows

    def join(self, other: TimeBucket) -> None:
        """Take in another bucket's rows and losses."""
        self.add(other.counts, other.rows)
        self.add_losses(other.losses)

    def writable(self, rows: int) -> Array:
        """The counts, to be changed: a copy's where they are shared, and wide enough for so many rows."""
        if self.counts.dtype == np.uint32 and rows >= MANY_ROWS:
            self.counts = self.counts.astype(np.int64)
        if not self.counts.flags.writeable:
            self.counts = self.counts.copy()
        return self.counts

    def shared(self) -> TimeBucket:
        """The bucket as it is now, with the same counts until either one's change."""
        self.counts.flags.writeable = False
        return replace(self)

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

    changing = ("forgotten", "stored")

    def __init__(self, strata: int, features: int, most_bytes: int) -> None:
        self.shape = (strata, features, CELLS)
        self.hours: dict[int, TimeBucket] = {}
        self.days: dict[int, TimeBucket] = {}
        self.forgotten = 0
        self.most_hours, self.most_days = reach(self.shape, most_bytes)

    def count(self, cells: Array, strata: Array | None, times: Array | float) -> Array:
        """Count rows; returns their counts (strata, d, 67).

        Args:
            cells: uint8 (n, d).
            strata: the number of each row's stratum, (n,), negative for a row of none; None where
                there is one.
            times: when the rows were, in POSIX seconds, float64 (n,), or of all together.
        """
        width = cells.shape[1]
        total = np.zeros((self.shape[0], width, CELLS), np.int64)
        for hour, rows in by_hour(times, len(cells)):
            group = None if strata is None else strata[rows]
            added = count_by(cells[rows], group, self.shape[0])
            total += added
            if self.most_hours:
                n = len(cells[rows]) if group is None else int((group >= 0).sum())
                self._at(hour).add(added, n, slice(0, width))
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
                own = losses[rows]
                bucket.add_losses((len(own), float(own.sum()), float((own * own).sum())))
            if targets is not None:
                bucket.add(count_by(targets[rows]), 0, OF_LABELS)
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

    def shared(self) -> Buckets:
        """The buckets as they are now; counts are copied only when one of both changes them."""
        other = copy(self)
        other.hours = {hour: bucket.shared() for hour, bucket in self.hours.items()}
        other.days = {day: bucket.shared() for day, bucket in self.days.items()}
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

    @property
    def stored(self) -> dict[str, dict[str, Array]]:
        """The buckets of hours and days as arrays."""
        return {"hours": self._arrays(self.hours), "days": self._arrays(self.days)}

    @stored.setter
    def stored(self, arrays: Mapping[str, Mapping[str, Array]]) -> None:
        self.hours = self._of_arrays(arrays["hours"], HOUR_SECONDS)
        self.days = self._of_arrays(arrays["days"], DAY_SECONDS)

    def _arrays(self, kept: Mapping[int, TimeBucket]) -> dict[str, Array]:
        buckets = [kept[number] for number in sorted(kept)]
        losses = np.array([bucket.losses for bucket in buckets], np.float64)
        counts = np.array([bucket.counts for bucket in buckets], np.uint32 if not buckets else None)
        return {
            "numbers": np.array(sorted(kept), np.int64),
            "rows": np.array([bucket.rows for bucket in buckets], np.int64),
            "losses": losses.reshape(-1, 3),
            "counts": _narrow(counts.reshape(-1, *self.shape)),
        }

    def _of_arrays(self, arrays: Mapping[str, Array], seconds: int) -> dict[int, TimeBucket]:
        kept = {}
        lines = zip(*(arrays[name].tolist() for name in ("numbers", "rows", "losses")), strict=True)
        for (number, rows, (n, total, squares)), counts in zip(
            lines, arrays["counts"], strict=True
        ):
            bucket = self._empty(number * seconds, seconds)
            bucket.counts = counts.astype(np.int64 if rows >= MANY_ROWS else np.uint32)
            bucket.rows = rows
            bucket.losses = (int(n), total, squares)
            kept[number] = bucket
        return kept


@final
@dataclass(eq=False)
class Era:
    """One reference and the rows that were compared with it.

    `alpha` is its probability of a false alarm, and `until` when another took its place, in POSIX
    seconds; infinity for the one in force.
    """

    changing = ("until", "buckets")

    profile: Profile
    buckets: Buckets
    alpha: float
    until: float = inf

    @staticmethod
    def of(profile: Profile, alpha: float, most_bytes: int) -> Era:
        """An era without rows."""
        features = len(profile.features) + (profile.target is not None)
        return Era(profile, Buckets(len(profile.strata), features, most_bytes), alpha)

    def shared(self) -> Era:
        """The era as it is now; see `Buckets.shared`."""
        return replace(self, buckets=self.buckets.shared())

    @property
    def size(self) -> int:
        """The bytes of its counts."""
        return sum(bucket.counts.nbytes for bucket in self.buckets.all())

    @property
    def times(self) -> tuple[float, float] | None:
        """The start of the first hour or day with rows and the end of the last, in POSIX seconds.

        None where no history is kept, or no row came.
        """
        buckets = self.buckets.all()
        if not buckets:
            return None
        return float(min(own.start for own in buckets)), float(max(own.end for own in buckets))


def trimmed(eras: Sequence[Era], most_bytes: int) -> list[Era]:
    """The latest eras, of which the older ones forget their oldest buckets to stay within a size."""
    kept = list(eras)[-MOST_ERAS:]
    over = sum(era.size for era in kept) - most_bytes
    while len(kept) > 1:
        oldest = kept[0].buckets
        if over > 0:
            over -= oldest.forget()
        elif oldest.all():
            break
        if not oldest.all():
            del kept[0]
    return kept


def joined_eras(workers: Sequence[Sequence[Era]], most_bytes: int) -> list[Era]:
    """The eras of several workers in the order of time, those of one reference added up."""
    found: dict[str, Era] = {}
    for era in chain(*workers):
        digest = era.profile.digest
        if digest not in found:
            found[digest] = Era.of(era.profile, era.alpha, most_bytes)
            found[digest].until = era.until
        found[digest].buckets.join(era.buckets)
        found[digest].until = max(found[digest].until, era.until)
    return trimmed(sorted(found.values(), key=lambda era: era.until), most_bytes)


def reach(shape: tuple[int, int, int], most_bytes: int) -> tuple[int, int]:
    """The numbers of hours and days that fit into these bytes; 0 and 0 for no bytes."""
    if not most_bytes:
        return 0, 0
    strata, features, cells = shape
    buckets = most_bytes // max(4 * strata * features * cells, 1)
    hours = min(MOST_HOURS, max(buckets // 2, LEAST_BUCKETS))
    days = min(MOST_DAYS, max(buckets - hours, LEAST_BUCKETS))
    return hours, days


def by_hour(times: Array | float, rows: int) -> Iterator[tuple[int, Array | slice]]:
    """Each hour with its rows: their numbers, or all, as nearly always; the oldest first."""
    if not rows:
        return
    hours = np.floor_divide(times, HOUR_SECONDS)
    low = int(hours.min())
    if low == hours.max():
        yield low, ALL
        return
    order = np.argsort(hours, kind="stable")
    starts = np.flatnonzero(np.diff(hours[order])) + 1
    for own in np.split(order, starts):
        yield int(hours[own[0]]), own


def _narrow(counts: Array) -> Array:
    """Counts as the smallest unsigned integers that hold them."""
    most = int(counts.max(initial=0))
    for dtype in (np.uint8, np.uint16, np.uint32):
        if most <= np.iinfo(dtype).max:
            return counts.astype(dtype)
    return counts.astype(np.int64)


def check_history(history: float) -> int:
    """The bytes of a history. Raises UsageError for what is no number of bytes."""
    if not isinstance(history, Real) or not 0 <= history < inf:
        raise UsageError(f"history is in bytes, 0 or more; got {history!r}")
    return int(history)
