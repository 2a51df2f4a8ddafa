"""The alarms of a Detector, from evidence to those who listen, and what people noted about them."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import cast, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit._internal.logs import WARNING, takes, write_record
from modelkit.drift.alpha import HORIZON, HORIZON_UNITS, AlphaShares
from modelkit.drift.cells import Feature
from modelkit.drift.effects import row_effects, unit_effects
from modelkit.drift.losses import Losses
from modelkit.drift.open_unit import Units
from modelkit.drift.profile import Profile
from modelkit.drift.row_times import second_text
from modelkit.drift.sequence import Crossing
from modelkit.drift.unit_ranks import PLACE_SCORES, SCORES
from modelkit.drift.units import BATCH_UNIT, PERIODS, many, plural
from modelkit.drift.values import Acknowledgement, Alarm, AlarmKind, Effect
from modelkit.errors import UsageError
from modelkit.events import Alarmed, emit

MOST_ALARMS_KEPT = 1000
MOST_NOTES = 1000  # of each kind
STATISTICS = {
    "changed": "conformal test martingale",
    "material": "band e-process",
    "performance": "loss e-process",
}
NO_COUNTS = np.empty(0, np.int64)
UNIT_SCORES = {"changed": SCORES, "material": PLACE_SCORES}

OnAlarm = Callable[[Alarm], object]


# From evidence to alarms.


@final
@dataclass(frozen=True)
class Terms:
    """What holds for an alarm, in words: the guarantee, and what it rests on."""

    promise: str
    assumptions: tuple[str, ...]

    @staticmethod
    def of(profile: Profile, shares: AlphaShares, alpha: float) -> Terms:
        """The alarms of a stream that is compared with a profile."""
        return Terms(_promise(profile, shares, alpha), profile.assumptions())

    def alarm(
        self,
        crossing: Crossing,
        *,
        feature: str,
        statistic: str,
        effect: Effect | None,
        stratum: str | None = None,
        counts: Array = NO_COUNTS,
    ) -> Alarm:
        """The alarm of a crossing."""
        return Alarm(
            kind=cast(AlarmKind, crossing.kind),
            feature=feature,
            stratum=stratum,
            statistic=statistic,
            p=crossing.p,
            level=crossing.level,
            row=crossing.row,
            began=crossing.began,
            effect=effect,
            guarantee=self.promise,
            assumptions=self.assumptions,
            time=crossing.time,
            began_time=crossing.began_time,
            rows=crossing.values,
            again=crossing.again,
            counts=tuple(counts.tolist()),
        )


def _promise(profile: Profile, shares: AlphaShares, alpha: float) -> str:
    """The guarantee of a stream of rows or of units, in words."""
    what = "any alarm"
    who = "rows are exchangeable with the reference"
    most, within, rest = f"{alpha:g}", f"{HORIZON:,} rows", ""
    if profile.units is not None:
        unit = str(profile.unit)
        units = plural(unit)
        strata = "" if profile.stratum is None else f" of the same {profile.stratum}"
        who = f"{units} are exchangeable with the {units} of the reference{strata}"
        most = f"{shares.levels['changed'] + shares.levels['material']:.3g}"
        within = many(HORIZON_UNITS, unit)
        if profile.baseline is not None:
            what = "any alarm about a feature"
            rest = "; losses go by rows, and need rows that are exchangeable"
    if shares.guarantee == "ever":
        return (
            f"if {who}, {what} is ever raised with a probability of at most {most}, however often "
            f"one looks{rest}"
        )
    return f"if {who}, {what} is raised within {within} with a probability of at most {most}{rest}"


def row_alarm(
    feature: Feature,
    reference: Array,
    crossing: Crossing,
    terms: Terms,
    *,
    stratum: str | None = None,
) -> Alarm:
    """The alarm of a feature with these counts (67,) in the reference."""
    recent = crossing.recent.sum(axis=0, dtype=np.int64)
    return terms.alarm(
        crossing,
        feature=feature.name,
        stratum=stratum,
        statistic=STATISTICS[crossing.kind],
        effect=_effect(feature, reference, recent),
        counts=recent,
    )


def _effect(feature: Feature, reference: Array, recent: Array) -> Effect | None:
    """The effect size between counts (67,), which is measured when somebody looks at it."""
    if not recent.any() or not reference.any():
        return None
    return Effect.later(partial(row_effects, recent, reference, ordered=feature.ordered))


def without_effect(alarm: Alarm) -> Alarm:
    """An alarm to be stored: one of rows without its effect, which `with_effect` gives again."""
    return replace(alarm, effect=None) if alarm.counts and alarm.unit is None else alarm


def with_effect(profile: Profile, alarm: Alarm) -> Alarm:
    """The inverse of `without_effect`, for an alarm of this reference."""
    if alarm.effect is not None or not alarm.counts:
        return alarm
    labels = profile.target
    if labels is not None and alarm.feature == labels.feature.name:
        feature, reference = labels.feature, labels.counts
    else:
        j = [feature.name for feature in profile.features].index(alarm.feature)
        feature, reference = profile.features[j], counts_in(profile, alarm.stratum, j)
    return replace(alarm, effect=_effect(feature, reference, np.array(alarm.counts)))


def unit_alarm(profile: Profile, units: Units, crossing: Crossing, terms: Terms) -> Alarm:
    """The alarm of a feature by the last unit that was judged."""
    unit = units.trail[-1]
    began = units.unit_at(crossing.block)
    strata = units.last_strata(len(crossing.recent))
    feature = profile.features[crossing.feature]
    measure = unit_effects(profile.units, feature, crossing.feature, crossing.recent, strata)
    score = UNIT_SCORES[crossing.kind][crossing.lane]
    alarm = terms.alarm(
        crossing,
        feature=feature.name,
        statistic=f"conformal test martingale of {plural(units.unit)}: {score}",
        effect=None if measure is None else Effect.later(measure),
        counts=crossing.recent.sum(axis=0),
    )
    return replace(
        alarm,
        row=unit.before + unit.rows,
        began=None if began is None else began.before,
        time=None if unit.end is None else unit.end - 1,  # its last second
        began_time=None if began is None else began.start,
        unit=unit.name,
    )


def counts_in(profile: Profile, stratum: str | None, j: int) -> Array:
    """The counts (67,) of feature number j in a stratum of the reference; None for all together."""
    own = slice(None) if stratum is None else [profile.strata.index(stratum)]
    counts: Array = profile.counts[own, j].sum(axis=0)
    return counts


def loss_alarm(losses: Losses, crossing: Crossing, terms: Terms) -> Alarm:
    """The alarm of the losses."""
    interval = losses.interval()
    return terms.alarm(
        crossing,
        feature="loss",
        statistic=STATISTICS["performance"],
        effect=None if interval is None else Effect("mean loss", *interval),
    )


# What is known of alarms.


@final
@dataclass(frozen=True)
class Rebase:
    """The change of a Detector's reference.

    `at` is when, in POSIX seconds; `rows` the number of rows taken by then, of all references;
    `alpha` the alpha of the reference that was left, and `profile` its digest.
    """

    at: float
    reason: str
    rows: int
    alpha: float
    profile: str


@final
@dataclass(frozen=True)
class Notes:
    """The alarms of the reference in force and of `earlier` ones, and what people noted, in order.

    A value, for a reader without the lock sees it before or after a rebase.
    """

    alarms: tuple[Alarm, ...] = ()
    earlier: tuple[Alarm, ...] = ()
    acknowledged: tuple[Acknowledgement, ...] = ()
    rebased: tuple[Rebase, ...] = ()

    @property
    def all_alarms(self) -> tuple[Alarm, ...]:
        """The alarms of this reference and of those before."""
        return (*self.earlier, *self.alarms)[-MOST_ALARMS_KEPT:]

    @property
    def rows_before(self) -> int:
        """The number of rows that were compared with references before."""
        return self.rebased[-1].rows if self.rebased else 0

    def of_reference(self) -> tuple[Acknowledgement, ...]:
        """The alarms of this reference that somebody knows of."""
        return tuple(note for note in self.acknowledged if note.alarm in self.alarms)

    def reason(self, alarm: Alarm) -> str | None:
        """Why an alarm is dealt with; None where nobody acknowledged it."""
        known = (note.reason for note in self.acknowledged if note.alarm == alarm)
        return next(known, None)

    def raised(self, new: Sequence[Alarm]) -> Notes:
        """With new alarms."""
        return replace(self, alarms=(*self.alarms, *new)[-MOST_ALARMS_KEPT:])

    def acknowledge(self, note: Acknowledgement) -> Notes:
        """With a note, in place of the one about the same alarm."""
        others = [known for known in self.acknowledged if known.alarm != note.alarm]
        return replace(self, acknowledged=(*others, note)[-MOST_NOTES:])

    def rebase(self, note: Rebase) -> Notes:
        """With a change of the reference."""
        rebased = (*self.rebased, note)[-MOST_NOTES:]
        return replace(self, alarms=(), earlier=self.all_alarms, rebased=rebased)

    def about_references(self, alpha: float) -> tuple[str, ...]:
        """What became of alpha when the reference was changed, in words; nothing if it was not.

        `alpha` belongs to the reference in force.
        """
        before = self.rebased
        if not before:
            return ()
        last = before[-1]
        spent = alpha + sum(note.alpha for note in before)
        often = "once" if len(before) == 1 else f"{len(before)} times"
        text = (
            f"the reference was changed {often}, last at {second_text(last.at)} UTC "
            f"({last.reason}); each reference has an alpha of its own, together {spent:.3g} so far"
        )
        return (text,)


def united(workers: Sequence[Notes]) -> tuple[Acknowledgement, ...]:
    """The acknowledgements of several workers; of several about one alarm, the first counts."""
    found: dict[Alarm, Acknowledgement] = {}
    for notes in workers:
        for note in notes.acknowledged:
            found.setdefault(note.alarm, note)
    return tuple(found.values())


def check_reason(reason: str, what: str) -> str:
    """A reason as it is. Raises UsageError for an empty one."""
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(f"{what} says why: pass a reason; got {reason!r}")
    return reason


# Who listens.


@final
class Outbox:
    """Alarms on their way from the lock under which they are raised to whoever listens for them.

    `alarms` wait for `send`. `name` and `version` name the model whose rows are watched, or are
    empty. `on_alarm` is the host's hook, and `unit` the unit of the profile. Raises TypeError for a
    hook that cannot be called, or that is async.
    """

    __slots__ = ("alarms", "name", "on_alarm", "unit", "version")

    def __init__(self, on_alarm: OnAlarm | None, unit: str | None) -> None:
        self.alarms: deque[Alarm] = deque()
        self.unit = unit
        self.on_alarm = check_hook(on_alarm)
        self.name = ""
        self.version = ""

    def send(self) -> None:
        """Send each alarm once, as an event and to the hook.

        No lock may be held here, since listeners and the hook may ask the Detector.
        """
        while self.alarms:
            try:
                alarm = self.alarms.popleft()
            except IndexError:  # another thread sends it
                return
            unit = alarm.unit
            if self.unit is not None and self.unit not in (*PERIODS, BATCH_UNIT):
                unit = many(1, self.unit)  # the name of such a unit is a value of its rows
            emit(
                Alarmed(
                    name=self.name,
                    version=self.version,
                    kind=alarm.kind,
                    feature=alarm.feature,
                    p=alarm.p,
                    level=alarm.level,
                    row=alarm.row,
                    began=alarm.began,
                    unit=unit,
                )
            )
            try:
                if self.on_alarm is not None:
                    self.on_alarm(alarm)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # it must not reach whoever sent the rows
                _complain(alarm, error)


def _complain(alarm: Alarm, error: BaseException) -> None:
    what = type(error).__name__
    message = (
        f"on_alarm raised {what} at the alarm {alarm.kind!r} of {alarm.feature!r}; the alarm stands"
    )
    with suppress(Exception):  # of a filter or a handler of the application
        if takes(WARNING):
            values = {"event": "on_alarm", "feature": alarm.feature, "error": what}
            write_record(WARNING, message, values, error=error)


def check_hook(on_alarm: OnAlarm | None) -> OnAlarm | None:
    """The hook as it is. Raises TypeError for one that cannot be called, or that is async."""
    if on_alarm is None:
        return None
    if not callable(on_alarm) or inspect.iscoroutinefunction(on_alarm):
        raise TypeError(f"on_alarm is a plain function of one alarm; got {on_alarm!r}")
    return on_alarm
