"""The alarms of a Detector, what people noted about them, and who listens for them."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, final

from modelkit._internal.logs import WARNING, takes, write_record
from modelkit.drift.row_times import second_text
from modelkit.drift.values import Alarm
from modelkit.errors import UsageError
from modelkit.events import Alarmed, emit

MOST_ALARMS_KEPT = 1000
MOST_NOTES = 1000  # of each kind

OnAlarm = Callable[[Alarm], object]


@final
@dataclass(frozen=True)
class Acknowledgement:
    """An alarm that somebody knows of, and why it needs no more attention.

    `at` is when you acknowledged it, in POSIX seconds.
    """

    alarm: Alarm
    reason: str
    at: float

    def __str__(self) -> str:
        return f"{self.alarm.feature}: {self.alarm.kind}: acknowledged: {self.reason}"


@final
@dataclass(frozen=True)
class Rebase:
    """The change of a Detector's reference.

    `at` is when, in POSIX seconds; `rows` the number of rows taken by then, of all references;
    `alpha` that of the reference which was left, and `profile` its digest.
    """

    at: float
    reason: str
    rows: int
    alpha: float
    profile: str


@final
class Notes:
    """The alarms of the reference in force and of `earlier` ones, and the notes, the oldest first."""

    changing = ("acknowledged", "earlier", "rebased", "stored")
    entries: ClassVar[Mapping[str, Any]] = {
        "acknowledged": Acknowledgement,
        "earlier": Alarm,
        "rebased": Rebase,
        "stored": Alarm,
    }

    def __init__(self) -> None:
        # One value, for a reader without the lock sees it before or after a rebase.
        self._alarms: tuple[tuple[Alarm, ...], tuple[Alarm, ...]] = ((), ())
        self.acknowledged: tuple[Acknowledgement, ...] = ()
        self.rebased: tuple[Rebase, ...] = ()

    @property
    def earlier(self) -> tuple[Alarm, ...]:
        """The alarms of references before."""
        return self._alarms[0]

    @earlier.setter
    def earlier(self, alarms: tuple[Alarm, ...]) -> None:
        self._alarms = (alarms, self.alarms)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms of the reference in force."""
        return self._alarms[1]

    @alarms.setter
    def alarms(self, alarms: tuple[Alarm, ...]) -> None:
        self._alarms = (self.earlier, alarms)

    @property
    def stored(self) -> tuple[Alarm, ...]:
        """The alarms of the reference in force, without effects that their counts tell."""
        return tuple(
            replace(alarm, effect=None) if alarm.counts and alarm.unit is None else alarm
            for alarm in self.alarms
        )

    @stored.setter
    def stored(self, alarms: tuple[Alarm, ...]) -> None:
        self.alarms = alarms

    @property
    def all_alarms(self) -> tuple[Alarm, ...]:
        """The alarms of this reference and of those before."""
        earlier, alarms = self._alarms
        return (*earlier, *alarms)[-MOST_ALARMS_KEPT:]

    @property
    def rows_before(self) -> int:
        """The number of rows that were compared with references before."""
        return self.rebased[-1].rows if self.rebased else 0

    def keep(self, new: Sequence[Alarm]) -> None:
        """Keep new alarms."""
        self.alarms = (*self.alarms, *new)[-MOST_ALARMS_KEPT:]

    def of_reference(self) -> tuple[Acknowledgement, ...]:
        """The alarms of this reference that somebody knows of."""
        return tuple(note for note in self.acknowledged if note.alarm in self.alarms)

    def reason(self, alarm: Alarm) -> str | None:
        """Why an alarm needs no more attention; None where nobody knows of it."""
        for note in self.acknowledged:
            if note.alarm == alarm:
                return note.reason
        return None

    def acknowledge(self, alarm: Alarm, reason: str, at: float) -> None:
        """Note that somebody knows of an alarm. Raises UsageError without a reason."""
        note = Acknowledgement(alarm, check_reason(reason, "an acknowledgement"), at)
        others = [known for known in self.acknowledged if known.alarm != alarm]
        self.acknowledged = (*others, note)[-MOST_NOTES:]

    def rebase(self, note: Rebase) -> None:
        """Note a change of the reference."""
        self._alarms = (self.all_alarms, ())
        self.rebased = (*self.rebased, note)[-MOST_NOTES:]

    def about_references(self, alpha: float) -> tuple[str, ...]:
        """What became of alpha when the reference was changed, in words; nothing if it was not.

        `alpha` is that of the reference in force.
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
    """The acknowledgements of several workers; of one alarm that of the first one counts."""
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


@final
class Outbox:
    """Alarms on their way from the lock under which they are raised to whoever listens for them.

    `name` and `version` are those of the model whose rows are watched, or empty, and `on_alarm` is
    the host's hook. Raises TypeError for a hook that cannot be called, or that is async.
    """

    __slots__ = ("_alarms", "name", "on_alarm", "version")

    def __init__(self, on_alarm: OnAlarm | None) -> None:
        self._alarms: deque[Alarm] = deque()
        self.on_alarm = check_hook(on_alarm)
        self.name = ""
        self.version = ""

    def add(self, alarms: Sequence[Alarm]) -> None:
        """Keep alarms until `send`."""
        self._alarms.extend(alarms)

    def send(self) -> None:
        """Send each alarm once, as an event and to the hook.

        No lock may be held here, since listeners and the hook may ask the Detector.
        """
        while self._alarms:
            try:
                alarm = self._alarms.popleft()
            except IndexError:  # another thread sends it
                return
            emit(self._event(alarm))
            if self.on_alarm is not None:
                _call(self.on_alarm, alarm)

    def _event(self, alarm: Alarm) -> Alarmed:
        return Alarmed(
            name=self.name,
            version=self.version,
            kind=alarm.kind,
            feature=alarm.feature,
            p=alarm.p,
            level=alarm.level,
            row=alarm.row,
            began=alarm.began,
            unit=alarm.unit,
        )


def _call(on_alarm: OnAlarm, alarm: Alarm) -> None:
    try:
        on_alarm(alarm)
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
