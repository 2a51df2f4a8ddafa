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
MOST_ERAS = 16
MANY_ROWS = 1 << 32  # rows of a bucket from which its counts are int64 and no more uint32

Span = tuple[int, int]  # the start and the end of an hour or a day, in POSIX seconds
Losses = tuple[int, float, float]
NO_LOSSES: Losses = (0, 0.0, 0.0)


@final
@dataclass(frozen=True, eq=False)
class TimeBucket:
    """The rows of one hour or one day.

    `start` and `end` are POSIX seconds, `counts` (strata, features, 67), `rows` their number, and
    `losses` the number, the sum and the sum of squares of the losses that came meanwhile. Nothing
    of it changes, so all buckets are copied by copying a dict.
    """

    start: int
    end: int
    counts: Array
    rows: int = 0
    losses: Losses = NO_LOSSES

    def __add__(self, other: TimeBucket) -> TimeBucket:
        n, total, squares = self.losses
        more, more_total, more_squares = other.losses
        return replace(
            self,
            counts=np.add(self.counts, other.counts, dtype=np.int64),
            rows=self.rows + other.rows,
            losses=(n + more, total + more_total, squares + more_squares),
        )


@final
class Buckets:
    """The buckets of one profile: the last 48 hours that had rows, and before them 366 days.

    Fewer where these would take more than `most_bytes`. An hour that is too old is added to its
    day, and a day that is too old is forgotten. Hours and days are in UTC. `kept` has them by
    their start and end.

    Args:
        strata: their number.
        features: the number of rows of each table of counts.
        most_bytes: of memory for counts; 0 to keep none.
    """

    changing = ("arrays",)

    def __init__(self, strata: int, features: int, most_bytes: int) -> None:
        self.shape = (strata, features, CELLS)
        self.kept: dict[Span, TimeBucket] = {}
        self.most_hours, self.most_days = reach(self.shape, most_bytes)

    def count(self, cells: Array, strata: Array | None, times: Array | float) -> Array:
        """Count rows; returns their counts (strata, d, 67).

        Args:
            cells: uint8 (n, d).
            strata: the number of each row's stratum, (n,), negative for a row of none; None where
                there is one.
            times: when the rows were, in POSIX seconds, float64 (n,), or of all together.
        """
        total = np.zeros(self.shape, np.int64)
        width = cells.shape[1]
        for hour, rows in by_hour(times, len(cells)):
            group = None if strata is None else strata[rows]
            added = np.zeros(self.shape, np.int64)
            added[:, :width] = count_by(cells[rows], group, len(added))
            total += added
            n = len(cells[rows]) if group is None else int((group >= 0).sum())
            self._add_to_hour(hour, added, n)
        return total[:, :width]

    def count_labels(
        self, times: Array | float, losses: Array | None, targets: Array | None
    ) -> None:
        """Count labelled rows: their losses (n,), and the cells of their labels, uint8 (n, 1)."""
        given = losses if losses is not None else targets
        if given is None:
            return
        for hour, rows in by_hour(times, len(given)):
            sums = NO_LOSSES
            if losses is not None:
                part = losses[rows]
                sums = (len(part), float(part.sum()), float((part * part).sum()))
            added = np.zeros(self.shape, np.int64)
            if targets is not None:
                added[0, -1] = count_by(targets[rows])
            self._add_to_hour(hour, added, 0, sums)

    def _add_to_hour(self, hour: int, counts: Array, rows: int, losses: Losses = NO_LOSSES) -> None:
        if self.most_hours:
            known = len(self.kept)
            start = hour * HOUR_SECONDS
            self._add(TimeBucket(start, start + HOUR_SECONDS, counts, rows, losses))
            if len(self.kept) > known:
                self._fold()

    def _add(self, bucket: TimeBucket) -> None:
        span = bucket.start, bucket.end
        if span in self.kept:
            bucket = self.kept[span] + bucket
        dtype = np.int64 if bucket.rows >= MANY_ROWS else np.uint32
        self.kept[span] = replace(bucket, counts=bucket.counts.astype(dtype))

    def spans(self, seconds: int) -> list[Span]:
        """The hours or days that are kept, the oldest first."""
        return sorted(span for span in self.kept if span[1] - span[0] == seconds)

    def _fold(self) -> None:
        """Add the oldest hours to their days, and forget the oldest days, where there are too many."""
        for hour in self.spans(HOUR_SECONDS)[: -self.most_hours]:
            start = hour[0] - hour[0] % DAY_SECONDS
            self._add(replace(self.kept.pop(hour), start=start, end=start + DAY_SECONDS))
        for day in self.spans(DAY_SECONDS)[: -self.most_days]:
            del self.kept[day]

    def all(self) -> list[TimeBucket]:
        """All buckets in the order of time."""
        spans = self.spans(DAY_SECONDS) + self.spans(HOUR_SECONDS)
        return [self.kept[span] for span in spans]

    def forget(self) -> int:
        """Forget the oldest bucket; returns the bytes that it took."""
        oldest = self.all()[0]
        del self.kept[oldest.start, oldest.end]
        return oldest.counts.nbytes

    def join(self, other: Buckets) -> None:
        """Take in another's buckets, of the same profile."""
        if self.most_hours:
            for bucket in other.all():
                self._add(bucket)
            self._fold()

    # To go on from later.

    @property
    def arrays(self) -> dict[str, Array]:
        """The buckets as arrays."""
        buckets = self.all()
        counts = np.array([bucket.counts for bucket in buckets]).reshape(-1, *self.shape)
        return {
            "spans": np.array([(own.start, own.end) for own in buckets], np.int64).reshape(-1, 2),
            "rows": np.array([bucket.rows for bucket in buckets], np.int64),
            "losses": np.array([bucket.losses for bucket in buckets], np.float64).reshape(-1, 3),
            "counts": counts.astype(np.min_scalar_type(int(counts.max(initial=0)))),
        }

    @arrays.setter
    def arrays(self, arrays: Mapping[str, Array]) -> None:
        self.kept = {}
        lines = [arrays[name].tolist() for name in ("spans", "rows", "losses")]
        for (start, end), rows, sums, counts in zip(*lines, arrays["counts"], strict=True):
            losses = (int(sums[0]), sums[1], sums[2])
            self._add(TimeBucket(start, end, counts, rows, losses))


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

    def now(self) -> Era:
        """The era as it is now."""
        buckets = copy(self.buckets)
        buckets.kept = buckets.kept.copy()
        return replace(self, buckets=buckets)

    @property
    def size(self) -> int:
        """The bytes of its counts."""
        return sum(bucket.counts.nbytes for bucket in self.buckets.kept.values())


def span_of(eras: Sequence[Era]) -> tuple[float, float] | None:
    """The start of the first hour or day with rows and the end of the last, in POSIX seconds.

    None where no history is kept, or no row came.
    """
    spans = [span for era in eras for span in era.buckets.kept]
    if not spans:
        return None
    starts, ends = zip(*spans, strict=True)
    return float(min(starts)), float(max(ends))


def trimmed(eras: Sequence[Era], most_bytes: int) -> list[Era]:
    """The latest eras; older ones forget their oldest buckets to stay within a size."""
    kept = list(eras)[-MOST_ERAS:]
    over = sum(era.size for era in kept) - most_bytes
    while len(kept) > 1 and (over > 0 or not kept[0].buckets.kept):
        if kept[0].buckets.kept:
            over -= kept[0].buckets.forget()
        else:
            del kept[0]
    return kept


def joined_eras(workers: Sequence[Sequence[Era]], most_bytes: int) -> list[Era]:
    """The eras of several workers in the order of time; eras of one reference are added up."""
    found: dict[str, Era] = {}
    for era in chain(*workers):
        first = Era.of(era.profile, era.alpha, most_bytes)
        joined = found.setdefault(era.profile.digest, replace(first, until=era.until))
        joined.buckets.join(era.buckets)
        joined.until = max(joined.until, era.until)
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
    for members in np.split(order, starts):
        yield int(hours[members[0]]), members


def check_history(history: float) -> int:
    """The bytes of a history. Raises UsageError for anything else."""
    if not isinstance(history, Real) or not 0 <= history < inf:
        raise UsageError(f"history is in bytes, 0 or more; got {history!r}")
    return int(history)
