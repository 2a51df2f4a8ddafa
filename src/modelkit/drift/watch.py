"""What a Detector knows of a stream: its strata, their evidence, its labels and its alarms."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from copy import copy, deepcopy
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import codec
from modelkit.drift.alpha import HORIZON, AlphaShares, promise_of_units, sequence_of, units_of
from modelkit.drift.buckets import HISTORY_BYTES
from modelkit.drift.chronicle import Chronicle
from modelkit.drift.expected import LabelFree
from modelkit.drift.label_watch import RANKED_AT_ONCE, LabelWatch
from modelkit.drift.labelled_rows import LabelledCall
from modelkit.drift.open_unit import Units
from modelkit.drift.order import Order, Shuffle
from modelkit.drift.profile import Profile, check_profile
from modelkit.drift.raised import row_alarm, unit_alarm
from modelkit.drift.segments import Segmented
from modelkit.drift.sequence import Crossing, Sequence, places_of
from modelkit.drift.thinning import Thinning
from modelkit.drift.units import UnitRows
from modelkit.drift.untold import OnAlarm, Untold
from modelkit.drift.values import Alarm
from modelkit.errors import UsageError
from modelkit.stats.evidence import Guarantee

STATE_SCHEMA = "modelkit.detector/1"
NOTHING: Mapping[str, Any] = {}


@final
class Watch:
    """The streams, shares of alpha, labels, label-free sums and alarms behind one Detector.

    Rows come as cells: `to_cells` makes them, `count` counts them, and `push` bets on them. A Monitor
    does the two halves of `push`, `rank` and `settle`, at different times. Whoever calls it from
    several threads holds a lock.
    """

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
        self.profile = check_profile(profile)
        self._shares = AlphaShares.of(profile, alpha, tolerance, guarantee)
        self.alpha = alpha
        self.tolerance = dict(tolerance) if isinstance(tolerance, Mapping) else tolerance
        self.guarantee: Guarantee = guarantee
        self.seed = seed
        self.ignored: tuple[str, ...] = ()  # columns of a model that its package leaves out
        self.chronicle = Chronicle(profile, alpha, history, clock, on_alarm)
        self.segmented = Segmented(profile.segments, profile.features)
        # The numbers of the last row that was ranked and counted: in a Monitor, among those served.
        self.place = 0
        self.counted = 0
        self.strangers = 0  # rows of a stratum that the reference does not have
        self.thins = any(feature.stride > 1 for feature in profile.features)
        self.label_free = LabelFree(profile.calibration)
        self._begin(np.random.SeedSequence(seed))

    def _begin(self, seed: np.random.SeedSequence) -> None:
        """Make what the evidence is about, each with a seed of its own."""
        profile = self.profile
        shares = self._shares
        *seeds, of_rows, of_labels, of_target = seed.spawn(len(profile.strata) + 3)
        self.units = units_of(profile, shares, seeds[0])
        self._streams: list[Sequence] = []
        if self.units is None:
            self._streams = [sequence_of(profile, s, shares, own) for s, own in enumerate(seeds)]
        self._thinnings = [Thinning(profile.features, own) for own in seeds[: len(self._streams)]]
        self.labels = LabelWatch(
            profile, shares, promise=self.promise, order=of_labels, ties=of_target
        )
        self._shuffles = {"rows": Shuffle(of_rows), "labels": self.labels.shuffle}

    def copied(self) -> Watch:
        """All that is known now: a Watch of its own, which nobody changes."""
        other = copy(self)
        profile = self.profile
        shared = {id(part): part for part in (profile, *vars(profile).values())}
        changing = (
            "_streams",
            "_thinnings",
            "units",
            "labels",
            "label_free",
            "segmented",
            "_shuffles",
        )
        vars(other).update(deepcopy({name: vars(self)[name] for name in changing}, shared))
        other.chronicle = self.chronicle.copied()
        return other

    # What is known.

    @property
    def rows(self) -> int:
        """The number of rows taken."""
        if self.units is not None:
            return self.units.taken
        return sum(stream.members for stream in self._streams) + self.strangers

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms of this reference."""
        return self.chronicle.alarms

    @property
    def untold(self) -> Untold:
        """The alarms that nobody was told of."""
        return self.chronicle.untold

    def streams(self) -> list[tuple[str | None, Sequence]]:
        """Each stratum with its stream; the one stratum of a profile without strata is None."""
        if self.profile.stratum is None:
            return [(None, self._streams[0])]
        return list(zip(self.profile.strata, self._streams, strict=True))

    @property
    def promise(self) -> str:
        """The guarantee in words."""
        if self.units is not None:
            return promise_of_units(self.profile, self._shares)
        if self.guarantee == "ever":
            return (
                "if rows are exchangeable with the reference, any alarm is ever raised with a "
                f"probability of at most {self.alpha:g}, however often one looks"
            )
        return (
            f"if rows are exchangeable with the reference, any alarm is raised within {HORIZON:,} "
            f"rows with a probability of at most {self.alpha:g}"
        )

    # Rows, as cells.

    def count(self, cells: Array, strata: Array | None, times: Array | float | None = None) -> None:
        """Count encoded rows, whether or not they are ranked later.

        `times` are theirs in POSIX seconds, (n,) or of all; None for now.
        """
        at: Array | float = self.chronicle.now() if times is None else times
        for s in range(len(self.profile.strata)):
            own = slice(None) if strata is None else np.flatnonzero(strata == s)
            own_times = at if np.ndim(at) == 0 else at[own]  # type: ignore[index]  # an array
            counts = self.chronicle.count(s, cells[own], own_times)
            if self._streams:  # units count their rows when they take them
                self._streams[s].totals += counts
        self.segmented.count(cells, at)
        self.chronicle.trim()
        self.counted += len(cells)

    def push_units(
        self, cells: Array, strata: Array | None, parts: Many[UnitRows], order: Order = "any"
    ) -> list[Alarm]:
        """Take encoded rows by unit, and judge the units that are complete; the new alarms."""
        self.of_units().take(cells, strata, parts, order)
        return self.settle()

    def of_units(self) -> Units:
        """What is known of units. Raises UsageError where rows are compared."""
        if self.units is None:
            raise UsageError("the profile has no units: fit it with unit=")
        return self.units

    def push(
        self,
        cells: Array,
        strata: Array | None,
        order: Order = "time",
        times: Array | float | None = None,
    ) -> list[Alarm]:
        """Rank and bet on the encoded rows of one call; returns the new alarms.

        `times` are as in `count`.
        """
        of_rows = self.times_of(times, len(cells))
        sizes = [len(cells)] if order == "any" else []
        cells, at = self.arrange(cells, strata, sizes)
        new: list[Alarm] = []
        for start in range(0, len(cells), RANKED_AT_ONCE):
            part: slice | Array = slice(start, start + RANKED_AT_ONCE)
            if at is not None:
                part = at[part]
            own = None if strata is None else strata[part]
            self.rank(cells[part], own, places_of(self.place, of_rows[part]))
            new += self.settle()
        return new

    def times_of(self, times: Array | float | None, n: int) -> Array:
        """When n rows were, in POSIX seconds, (n,): as they say, each or all, or now."""
        given = self.chronicle.now() if times is None else times
        return np.broadcast_to(np.asarray(given, np.float64), (n,))

    def arrange(
        self, cells: Array, strata: Array | None, sizes: Many[int]
    ) -> tuple[Array, Array | None]:
        """What comes before `rank`, for the encoded rows of calls of these sizes.

        Values are left out that are closer than their feature's stride in the order of arrival, and
        then the rows of each call are put into a random order: given are the cells that are left,
        and the numbers of the rows in that order, None where it is that of arrival.
        """
        if self.thins:
            cells = cells.copy()
            for s, thinning in enumerate(self._thinnings):
                member = slice(None) if strata is None else strata == s
                thinning.leave_out(cells, np.arange(len(cells))[member])
        return cells, self._shuffles["rows"].within(sizes)

    def rank(self, cells: Array, strata: Array | None, places: Array) -> None:
        """Rank encoded rows: the first half of `push`, for a few rows.

        `places` are their numbers, which rise, and their times, float64 (n, 2).
        """
        for s, stream in enumerate(self._streams):
            member = slice(None) if strata is None else strata == s
            stream.rank(cells[member], places[member])
        if strata is not None:
            self.strangers += int((strata < 0).sum())
        if len(places):
            self.place = int(places[-1, 0])

    def settle(self) -> list[Alarm]:
        """Bet on the ranked rows, and judge the complete units; returns the new alarms."""
        new: list[Alarm] = []
        for s, stream in enumerate(self._streams):
            new += [self.alarm(s, crossing) for crossing in stream.settle()]
        self.chronicle.keep(new)
        while self.units is not None and self.units.waits:
            new += self.judge_part()
        return new

    def judge_part(self) -> list[Alarm]:
        """Do a part of what it takes to judge a unit that is complete; returns the new alarms."""
        units = self.of_units()
        crossed = units.judge_part()
        new = [unit_alarm(self.profile, units, own, promise=self.promise) for own in crossed]
        self.chronicle.keep(new)
        return new

    def alarm(self, s: int, crossing: Crossing) -> Alarm:
        """The alarm that a crossing in stratum number `s` raises."""
        profile = self.profile
        return row_alarm(
            profile,
            profile.features[crossing.feature],
            profile.counts[s, crossing.feature],
            crossing,
            stratum=None if profile.stratum is None else profile.strata[s],
            level=self._shares.level(crossing.kind, crossing.feature),
            promise=self.promise,
        )

    def acknowledge(self, alarm: Alarm, reason: str) -> None:
        """Note that somebody knows of an alarm; one of the kind "changed" may come again then."""
        new = self.chronicle.reason(alarm) is None and alarm in self.alarms
        self.chronicle.notes.acknowledge(alarm, reason, self.chronicle.now())
        if new and alarm.kind == "changed":
            self.settle()
            names = [feature.name for feature in self.profile.features]
            if alarm.feature in names:
                self._sequence_of(alarm.stratum).open_again(names.index(alarm.feature))
            elif self.labels.target is not None:
                self.labels.target.open_again(0)

    def _sequence_of(self, stratum: str | None) -> Sequence:
        """The sequence of the rows of a stratum; units have one for all strata."""
        if self.units is not None:
            return self.units.sequence
        return self._streams[0 if stratum is None else self.profile.strata.index(stratum)]

    # Labels, and the performance with and without them.

    def push_labels(self, rows: LabelledCall, times: Array, order: Order = "time") -> list[Alarm]:
        """Take the labelled rows of one call; returns the new alarms.

        `times` are when their labels came, in POSIX seconds, (n,).
        """
        self.chronicle.count_labels(times, rows.losses, rows.cells)
        new = self.labels.push(rows, times, order)
        self.chronicle.keep(new)
        return new

    def expect(self, answers: Mapping[str, Array]) -> None:
        """Take answers into the label-free estimate. Raises UsageError for what does not fit."""
        self.label_free.add(self.label_free.of(answers))

    # To go on from later.

    def state(self, beside: Mapping[str, Any] = NOTHING) -> bytes:
        """Everything that changes, for `continued.resume`, and values that are kept `beside` it.

        All ranked rows are settled: see `settle`.
        """
        arrays: dict[str, Array] = {}
        plain = codec.freeze(self._parts(), arrays, "parts")
        arrays |= self.label_free.state()
        remembered, of_eras = self.chronicle.state()
        latest, segments = self.segmented.state()
        arrays |= of_eras
        arrays |= {f"segments {name}": array for name, array in latest.items()}
        about = {
            "profile": self.profile.digest,
            "alpha": self.alpha,
            "tolerance": self.tolerance,
            "guarantee": self.guarantee,
            "seed": self.seed,
            "strangers": self.strangers,
            "place": self.place,
            "counted": self.counted,
            "segments": segments,
            "parts": plain,
            "orders": {name: shuffle.state() for name, shuffle in self._shuffles.items()},
            **remembered,
            **beside,
        }
        return codec.pack(STATE_SCHEMA, about, arrays)

    def _parts(self) -> list[Any]:
        units = [] if self.units is None else [self.units]
        return [*self._streams, *self._thinnings, *units, *self.labels.parts]

    def restore(self, about: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Go on from what `state` packed."""
        self.strangers = about["strangers"]
        self.chronicle.restore(about, arrays)
        codec.thaw(self._parts(), about["parts"], arrays, "parts")
        self.place = about["place"]
        self.counted = about["counted"]
        self.label_free.restore(arrays)
        for name, generator in about["orders"].items():
            self._shuffles[name].restore(generator)
        self.segmented.restore(codec.under("segments ", arrays), about["segments"])
