"""What people noted about alarms: acknowledged, suppressed for a while, or a new reference taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, final

from modelkit._internal import fields
from modelkit.drift.row_times import second_text
from modelkit.drift.values import Alarm
from modelkit.errors import UsageError

MOST_NOTES = 1000  # of each kind, as many as alarms are kept


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
class Suppression:
    """A window in which alarms are recorded, and not told to `on_alarm`.

    `since` and `until` are POSIX seconds; `features` are those that it is for, empty for all.
    """

    since: float
    until: float
    reason: str
    features: tuple[str, ...] = ()

    def covers(self, feature: str, at: float) -> bool:
        """Whether an alarm of a feature at this time, in POSIX seconds, is not told."""
        named = not self.features or feature in self.features
        return named and self.since <= at < self.until


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
class AlarmNotes:
    """The notes behind one Detector, the oldest first."""

    def __init__(self) -> None:
        self.acknowledged: tuple[Acknowledgement, ...] = ()
        self.suppressed: tuple[Suppression, ...] = ()
        self.rebased: tuple[Rebase, ...] = ()

    def acknowledge(self, alarm: Alarm, reason: str, at: float) -> None:
        """Note that somebody knows of an alarm. Raises UsageError without a reason."""
        note = Acknowledgement(alarm, check_reason(reason, "an acknowledgement"), at)
        others = [known for known in self.acknowledged if known.alarm != alarm]
        self.acknowledged = (*others, note)[-MOST_NOTES:]

    def suppress(self, window: Suppression) -> None:
        """Note a window. Raises UsageError for one without a reason or an end after its start."""
        check_reason(window.reason, "a suppression window")
        if not -inf < window.since < window.until < inf:
            raise UsageError(
                "a suppression window ends after it starts, at a stated time; got "
                f"{_text(window.since)} to {_text(window.until)}; it starts now unless since= says "
                "otherwise"
            )
        self.suppressed = (*self.suppressed, window)[-MOST_NOTES:]

    def rebase(self, note: Rebase) -> None:
        """Note a change of the reference."""
        self.rebased = (*self.rebased, note)[-MOST_NOTES:]

    def hush(self, feature: str, at: float) -> Suppression | None:
        """The window that an alarm of a feature falls into, or None."""
        for window in self.suppressed:
            if window.covers(feature, at):
                return window
        return None

    def state(self) -> dict[str, Any]:
        """The notes as JSON can hold them."""
        return {name: fields.write_object(notes) for name, notes in vars(self).items()}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        kinds: dict[str, type[Any]] = {
            "acknowledged": Acknowledgement,
            "suppressed": Suppression,
            "rebased": Rebase,
        }
        for name, kind in kinds.items():
            found = [fields.read_object(kind, note, name) for note in plain[name]]
            setattr(self, name, tuple(found))


def _text(second: float) -> str:
    return f"{second_text(second)} UTC" if isfinite(second) else f"{second}"


def united(workers: Sequence[AlarmNotes]) -> AlarmNotes:
    """The notes of several workers; of one alarm the acknowledgement of the first one counts."""
    all_of = AlarmNotes()
    known: set[Alarm] = set()
    for notes in workers:
        for note in notes.acknowledged:
            if note.alarm not in known:
                known.add(note.alarm)
                all_of.acknowledged += (note,)
        all_of.suppressed += tuple(own for own in notes.suppressed if own not in all_of.suppressed)
        all_of.rebased += tuple(own for own in notes.rebased if own not in all_of.rebased)
    return all_of


def check_reason(reason: str, what: str) -> str:
    """A reason as it is. Raises UsageError for an empty one."""
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(f"{what} says why: pass a reason; got {reason!r}")
    return reason
