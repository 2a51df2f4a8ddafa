"""What people noted about alarms: acknowledged, or a new reference taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from modelkit._internal import fields
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
        self.rebased: tuple[Rebase, ...] = ()

    def acknowledge(self, alarm: Alarm, reason: str, at: float) -> None:
        """Note that somebody knows of an alarm. Raises UsageError without a reason."""
        note = Acknowledgement(alarm, check_reason(reason, "an acknowledgement"), at)
        others = [known for known in self.acknowledged if known.alarm != alarm]
        self.acknowledged = (*others, note)[-MOST_NOTES:]

    def rebase(self, note: Rebase) -> None:
        """Note a change of the reference."""
        self.rebased = (*self.rebased, note)[-MOST_NOTES:]

    def state(self) -> dict[str, Any]:
        """The notes as JSON can hold them."""
        return {name: fields.write_object(notes) for name, notes in vars(self).items()}

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        kinds: dict[str, type[Any]] = {"acknowledged": Acknowledgement, "rebased": Rebase}
        for name, kind in kinds.items():
            found = [fields.read_object(kind, note, name) for note in plain[name]]
            setattr(self, name, tuple(found))


def united(workers: Sequence[AlarmNotes]) -> AlarmNotes:
    """The notes of several workers; of one alarm the acknowledgement of the first one counts."""
    all_of = AlarmNotes()
    known: set[Alarm] = set()
    for notes in workers:
        for note in notes.acknowledged:
            if note.alarm not in known:
                known.add(note.alarm)
                all_of.acknowledged += (note,)
        all_of.rebased += tuple(own for own in notes.rebased if own not in all_of.rebased)
    return all_of


def check_reason(reason: str, what: str) -> str:
    """A reason as it is. Raises UsageError for an empty one."""
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(f"{what} says why: pass a reason; got {reason!r}")
    return reason
