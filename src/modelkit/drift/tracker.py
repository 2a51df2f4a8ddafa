"""What a Detector knows: the evidence about its rows and labels, counts, alarms and notes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Sequence as Many
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.process import watch_forks
from modelkit.drift.alarms import (
    Notes,
    OnAlarm,
    Outbox,
    Rebase,
    Terms,
    check_reason,
    counts_in,
    row_alarm,
    unit_alarm,
)
from modelkit.drift.alpha import AlphaShares, sequence_of, sequence_together, units_of
from modelkit.drift.buckets import HISTORY_BYTES, Era, check_history, span_of, trimmed
from modelkit.drift.labelfree import Estimate, estimate_of, with_rows
from modelkit.drift.labels import RANKED_AT_ONCE, LabelledCall, Labels
from modelkit.drift.layout import Rows
from modelkit.drift.open_unit import Units
from modelkit.drift.order import Order, Shuffle, Thinning, check_seed
from modelkit.drift.profile import Profile, check_profile
from modelkit.drift.row_times import clock_second
from modelkit.drift.segments import Segmented
from modelkit.drift.sequence import Crossing, Sequence, merged, places_of
from modelkit.drift.values import Acknowledgement, Alarm
from modelkit.errors import UsageError
from modelkit.stats.evidence import Guarantee

Call = TypeVar("Call")


@final
class Tracker:
    """What a Detector knows of its rows, labels and alarms, of one reference after the other.

    Every change happens in a `turn`, one after the other. A thread may take `lock` again, and `busy`
    says that it is in a turn: a signal handler or a finalizer that interrupts it there gets the lock,
    and may read, but not change anything. In a context of `caught_up`, which an Intake sets, no row
    waits and none comes in. An alarm waits in `outbox` for the end of the turn. Rows come as cells:
    `count` counts them, and `push` bets on them, by `bet`.

    `_streams` and `_thinnings` have an entry for each stratum, or none where whole `units` are
    compared; `together` is the sequence of all strata. The arguments are a Detector's.
    """

    changing = (
        "_shuffle",
        "_streams",
        "_thinnings",
        "counted",
        "label_free",
        "labels",
        "place",
        "segmented",
        "strangers",
        "together",
        "units",
    )
    entries: ClassVar[Mapping[str, Any]] = {"label_free": Estimate}

    def __init__(
        self,
        profile: Profile,
        *,
        alpha: float,
        tolerance: float | Mapping[str, float],
        guarantee: Guarantee,
        seed: int,
        history: int = HISTORY_BYTES,
        clock: Callable[[], float] = time.time,
        on_alarm: OnAlarm | None = None,
    ) -> None:
        self.after_fork()
        watch_forks(self)
        check_profile(profile)
        self.tolerance = dict(tolerance) if isinstance(tolerance, Mapping) else tolerance
        self.guarantee: Guarantee = guarantee
        self.history = check_history(history)
        if not callable(clock):
            raise TypeError(f"clock is a function that gives seconds since 1970; got {clock!r}")
        self.clock = clock
        self.outbox = Outbox(on_alarm, profile.unit)
        self.ignored: tuple[str, ...] = ()  # columns of a model that its package leaves out
        self.notes = Notes()
        self.eras: list[Era] = []
        # The numbers of the last row that was ranked and counted: in a Monitor, among those served.
        self.place = self.counted = 0
        self._compare_with(profile, alpha, check_seed(seed))
        self.caught_up = self.turn

    def _compare_with(self, profile: Profile, alpha: float, seed: int) -> None:
        """Begin the evidence against a reference. Raises UsageError for an alpha out of range."""
        shares = AlphaShares.of(profile, alpha, self.tolerance, self.guarantee)
        self.profile = profile
        self.alpha = alpha
        self.seed = seed
        self.eras = trimmed([*self.eras, Era.of(profile, alpha, self.history)], self.history)
        tested = profile.why_untested is None  # rows in segments are tested one by one
        self.segmented = Segmented(profile.segments if tested else (), profile.features)
        self.strangers = 0  # rows of a stratum that the reference does not have
        self.thins = any(feature.stride > 1 for feature in profile.features)
        self.label_free: list[Estimate] = []
        self.terms = Terms.of(profile, shares, alpha)
        *seeds, of_rows, of_labels, of_target = np.random.SeedSequence(seed).spawn(
            len(profile.strata) + 3
        )
        self._begin_rows(shares, seeds)
        self._shuffle = Shuffle(of_rows)
        self.labels = Labels(profile, shares, terms=self.terms, order=of_labels, ties=of_target)

    def _begin_rows(self, shares: AlphaShares, seeds: Many[np.random.SeedSequence]) -> None:
        profile = self.profile
        self.units = units_of(profile, shares, seeds[0])
        of_strata = seeds if self.units is None else ()
        self._streams = [sequence_of(profile, s, shares, seed) for s, seed in enumerate(of_strata)]
        self._thinnings = [Thinning(profile.features, seed) for seed in of_strata]
        self.together = sequence_together(shares)

    # One lock for all that changes, which signal handlers and forks do not break.

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self.lock = threading.RLock()
        self.busy = False

    @contextmanager
    def try_turn(self, *, wait: bool = True) -> Iterator[bool]:
        """A turn, and whether this thread has it.

        It has none where another thread has it and this one does not `wait`, and where this thread
        is in the middle of one.
        """
        if not self.lock.acquire(blocking=wait):
            yield False
            return
        try:
            busy = self.busy
            try:
                self.busy = True
                yield not busy
            finally:
                self.busy = busy
        finally:
            self.lock.release()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A turn to change what is known. Raises UsageError where this thread is in one already."""
        with self.try_turn() as mine:
            if not mine:
                raise UsageError(
                    "a signal handler or a finalizer interrupted this Detector while it took rows "
                    "or labels: show it others, take its state or change its reference after the "
                    "handler"
                )
            yield

    # What is known.

    @property
    def rows(self) -> int:
        """The number of rows taken of this reference."""
        if self.units is not None:
            return self.units.taken
        return sum(stream.members for stream in self._streams) + self.strangers

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms of this reference."""
        return self.notes.alarms

    @property
    def times(self) -> tuple[float, float] | None:
        """See `span_of`, of this reference."""
        return span_of(self.eras[-1:])

    def now(self) -> float:
        """The time by the clock. Raises UsageError for anything but a time."""
        return clock_second(self.clock())

    def streams(self) -> list[tuple[str | None, Sequence]]:
        """Each stratum with its stream; the one stratum of a profile without strata is None."""
        if self.profile.stratum is None:
            return [(None, self._streams[0])]
        return list(zip(self.profile.strata, self._streams, strict=True))

    def of_units(self) -> Units:
        """What is known of units. Raises UsageError where rows are compared."""
        if self.units is None:
            raise UsageError("the profile was fitted without units: fit it with unit=")
        return self.units

    # Rows, as cells.

    def count(self, cells: Array, strata: Array | None, times: Array | float) -> None:
        """Count encoded rows, whether or not they are ranked later.

        `times` are in POSIX seconds: one for each row, (n,), or one for all.
        """
        counts = self.eras[-1].buckets.count(cells, strata, times)
        for stream, added in zip(self._streams, counts, strict=False):
            stream.totals += added  # units count their rows when they take them
        if self.segmented.by:
            self.segmented.count(cells)
        if len(self.eras) > 1:
            self.eras = trimmed(self.eras, self.history)
        self.counted += len(cells)

    def push(
        self, cells: Array, strata: Array | None, times: Array | float, order: Order = "time"
    ) -> list[Alarm]:
        """Rank and bet on the encoded rows of one call; returns the new alarms.

        `times` are as in `count`.
        """
        sizes = [len(cells)] if order == "any" else []
        places = places_of(self.place, np.broadcast_to(times, len(cells)))
        new: list[Alarm] = []
        for part in self.parts(cells, strata, places, sizes, RANKED_AT_ONCE):
            new += self.bet(*part)
        return new

    def parts(
        self, cells: Array, strata: Array | None, places: Array, sizes: Many[int] | Array, most: int
    ) -> Iterator[tuple[Array, Array | None, Array]]:
        """The encoded rows of calls of these sizes, as `bet` takes them, at most so many at once.

        Values are left out that are closer than their feature's stride in the order of arrival, and
        then the rows of each call are put into a random order.
        """
        if self.thins:
            cells = cells.copy()
            for s, thinning in enumerate(self._thinnings):
                member = slice(None) if strata is None else strata == s
                thinning.leave_out(cells, np.arange(len(cells))[member])
        order = self._shuffle.within(sizes)
        if order is not None:
            cells = cells[order]
            places[:, 1] = places[order, 1]
            strata = None if strata is None else strata[order]
        for start in range(0, len(cells), most):
            part = slice(start, start + most)
            yield cells[part], None if strata is None else strata[part], places[part]

    def bet(self, cells: Array, strata: Array | None, places: Array) -> list[Alarm]:
        """Rank and bet on a few of the encoded rows of `push`; returns the new alarms.

        `places` are their numbers, which rise, and their times, float64 (n, 2).
        """
        ranked = []
        for s, stream in enumerate(self._streams):
            member = slice(None) if strata is None else strata == s
            ranked.append(stream.rank(cells[member], places[member]))
        if self.together is not None:
            blocks = merged(ranked)
            if blocks is not None:
                self.together.take(blocks)
        if strata is not None:
            self.strangers += int((strata < 0).sum())
        if len(places):
            self.place = int(places[-1, 0])
        return self.settle()

    def settle(self) -> list[Alarm]:
        """Bet on the ranked rows, and judge the complete units; returns the new alarms."""
        new: list[Alarm] = []
        for s, stream in enumerate(self._streams):
            new += [self.alarm(s, crossing) for crossing in stream.settle()]
        if self.together is not None:
            new += [self.alarm(None, crossing) for crossing in self.together.settle()]
        self._keep(new)
        while self.units is not None and self.units.waits:
            new += self.judge()
        return new

    def judge(self) -> list[Alarm]:
        """Judge one of the units that are complete; returns the new alarms."""
        units = self.of_units()
        new = [unit_alarm(self.profile, units, crossing, self.terms) for crossing in units.judge()]
        self._keep(new)
        return new

    def _keep(self, new: Many[Alarm]) -> None:
        """Keep new alarms, which are sent later."""
        if new:
            self.notes = self.notes.raised(new)
            self.outbox.alarms.extend(new)

    def alarm(self, s: int | None, crossing: Crossing) -> Alarm:
        """The alarm that a crossing in stratum number `s` raises, or in all of them together."""
        profile, j = self.profile, crossing.feature
        stratum = None if profile.stratum is None or s is None else profile.strata[s]
        reference = counts_in(profile, stratum, j)
        return row_alarm(profile.features[j], reference, crossing, self.terms, stratum=stratum)

    def acknowledge(self, alarm: Alarm, reason: str) -> None:
        """Note that somebody knows of an alarm; one of the kind "changed" may come again then.

        Raises UsageError for an alarm of another Detector, and without a reason.
        """
        if alarm not in self.notes.all_alarms:
            raise UsageError(
                f"this Detector did not raise the alarm {alarm}; pass an Alarm from `alarms`"
            )
        new = self.notes.reason(alarm) is None and alarm in self.alarms
        check_reason(reason, "an acknowledgement")
        self.notes = self.notes.acknowledge(Acknowledgement(alarm, reason, self.now()))
        if new and alarm.kind == "changed":
            names = [feature.name for feature in self.profile.features]
            if alarm.feature in names:
                self._open_again(names.index(alarm.feature), alarm.stratum)
            elif self.labels.target is not None:
                self.labels.target.open_again(0)

    def _open_again(self, j: int, stratum: str | None) -> None:
        """Let a feature raise the alarm "changed" again, in its stratum; in all together it does once."""
        if self.units is not None:
            self.units.sequence.open_again(j)
        elif self.together is None:
            self._streams[0].open_again(j)
        elif stratum is not None:
            stream = self._streams[self.profile.strata.index(stratum)]
            if stream.open_again(j):  # from now on its rows are ranked among themselves
                self.together.close(j)

    def push_labels(self, rows: LabelledCall, times: Array, order: Order) -> list[Alarm]:
        """Take the labelled rows of one call; returns the new alarms.

        `times` are when their labels came, in POSIX seconds, (n,).
        """
        self.eras[-1].buckets.count_labels(times, rows.losses, rows.cells)
        new = self.labels.push(rows, times, order)
        self._keep(new)
        return new

    # Calls of a Detector.

    @contextmanager
    def reading(self, read: Callable[[Profile], Call]) -> Iterator[Call]:
        """A turn with what is read of a call by the reference, without the lock.

        It is read again where the reference was changed meanwhile.
        """
        profile = self.profile
        call = read(profile)
        with self.turn():  # so that no state or reference has a part of a call
            yield call if profile is self.profile else read(self.profile)

    def take(self, rows: Rows, order: Order) -> list[Alarm]:
        """Take the rows of one call; returns the new alarms. Raises UsageError for a refused unit."""
        estimate = estimate_of(self.profile.calibration, rows.answers)  # may refuse them
        times = self.now() if rows.seconds is None else rows.seconds
        new: list[Alarm] = []
        if rows.units is not None:
            units = self.of_units()
            units.check_ahead(rows.units)
            units.take(rows.cells, rows.strata, rows.units, order)
            new += self.settle()
        self.label_free = with_rows(self.label_free, estimate)
        self.count(rows.cells, rows.strata, times)
        if rows.units is None:
            new += self.push(rows.cells, rows.strata, times, order)
        return new

    def rebase(self, profile: Profile, reason: str, alpha: float | None) -> None:
        """Compare with another reference from now on; what waits is compared with the old one.

        Raises UsageError where it is not of the same columns and outputs, and without a reason.
        """
        with self.caught_up():
            profile = check_profile(profile).without(self.ignored)
            self.profile.layout.check_same(profile.layout)
            check_reason(reason, "a new reference")
            at = self.now()
            rows = self.notes.rows_before + self.rows
            note = Rebase(at, reason, rows, self.alpha, self.profile.digest)
            units, labels, era = self.units, self.labels, self.eras[-1]
            # Its random ranks are independent of the past.
            self._compare_with(profile, self.alpha if alpha is None else alpha, self.seed + 1)
            for stream in (*self._streams, self.together):
                if stream is not None:
                    stream.begin_after(self.place)
            self.labels.follow(labels)
            if units is not None and self.units is not None:
                self.units.follow(units)
            self.notes = self.notes.rebase(note)
            era.until = at
