"""What a Detector remembers beside its evidence: alarms, notes, and the references it has had."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any, final

from modelkit._internal import fields
from modelkit._internal.arrays import Array
from modelkit.drift.eras import Era, restored, state_of, trimmed
from modelkit.drift.notes import Acknowledgement, AlarmNotes, Rebase, check_reason
from modelkit.drift.profile import Profile
from modelkit.drift.raised import with_effect, without_effect
from modelkit.drift.row_times import second_text, told_second
from modelkit.drift.untold import OnAlarm, Untold
from modelkit.drift.values import Alarm
from modelkit.errors import UsageError

MOST_ALARMS_KEPT = 1000


@final
class Chronicle:
    """The alarms of one reference, and what came along from the references before it.

    Whoever calls it from several threads holds a lock.

    Args:
        profile: the reference.
        alpha: its probability of a false alarm.
        most_bytes: of memory for the counts of past hours and days.
        clock: tells the time, in POSIX seconds.
        on_alarm: the host's hook.
    """

    def __init__(
        self,
        profile: Profile,
        alpha: float,
        most_bytes: int,
        clock: Callable[[], float],
        on_alarm: OnAlarm | None,
    ) -> None:
        if most_bytes < 0:
            raise UsageError(f"history is in bytes, 0 or more; got {most_bytes!r}")
        self.alarms: tuple[Alarm, ...] = ()
        self.earlier: tuple[Alarm, ...] = ()  # of the references before
        self.rows_before = 0  # that were compared with these
        self.notes = AlarmNotes()
        self.untold = Untold(on_alarm)
        self.clock = clock
        self.most_bytes = most_bytes
        self.eras = [Era.of(profile, alpha, most_bytes)]

    def copied(self) -> Chronicle:
        """What is remembered now: a Chronicle of its own, which nobody changes."""
        other = copy(self)
        other.notes = copy(self.notes)
        other.eras = [era.copy() for era in self.eras]
        return other

    @property
    def all_alarms(self) -> tuple[Alarm, ...]:
        """The alarms of this reference and of those before."""
        return (*self.earlier, *self.alarms)[-MOST_ALARMS_KEPT:]

    @property
    def times(self) -> tuple[float, float] | None:
        """The start of the first hour or day with rows of this reference, and the end of the last.

        In POSIX seconds; None where no history is kept, or no row came.
        """
        buckets = self.eras[-1].buckets.all()
        if not buckets:
            return None
        last = max(bucket.end for bucket in buckets)
        return float(min(bucket.start for bucket in buckets)), float(last)

    def now(self) -> float:
        """What the clock tells. Raises UsageError for anything but a time."""
        return told_second(self.clock())

    def keep(self, new: Sequence[Alarm]) -> None:
        """Keep new alarms, of which listeners and the hook are told later."""
        if new:
            self.alarms = (*self.alarms, *new)[-MOST_ALARMS_KEPT:]
            self.untold.add(new)

    def acknowledged(self) -> tuple[Acknowledgement, ...]:
        """The alarms of this reference that somebody knows of."""
        return tuple(note for note in self.notes.acknowledged if note.alarm in self.alarms)

    def reason(self, alarm: Alarm) -> str | None:
        """Why an alarm needs no more attention; None where nobody said so."""
        for note in self.notes.acknowledged:
            if note.alarm == alarm:
                return note.reason
        return None

    def about_references(self) -> tuple[str, ...]:
        """What became of alpha when the reference was changed, in words; nothing if it was not."""
        before = self.notes.rebased
        if not before:
            return ()
        last = before[-1]
        spent = self.eras[-1].alpha + sum(note.alpha for note in before)
        often = "once" if len(before) == 1 else f"{len(before)} times"
        said = (
            f"the reference was changed {often}, last at {second_text(last.at)} UTC "
            f"({last.reason}); each reference has an alpha of its own, together {spent:.3g} so far"
        )
        return (said,)

    def count(self, s: int, cells: Array, times: Array | float) -> Array:
        """Count rows of stratum number `s` in the history; returns their counts (d, 67)."""
        return self.eras[-1].buckets.count(s, cells, times)

    def count_labels(self, times: Array | float, losses: Array | None, cells: Array | None) -> None:
        """Count losses (n,), and the cells of labels, uint8 (n, 1), in the history."""
        self.eras[-1].buckets.count_labels(times, losses, cells)

    def trim(self) -> None:
        """Forget what is oldest, where the counts of all references take too much memory."""
        if len(self.eras) > 1:
            self.eras = trimmed(self.eras, self.most_bytes)

    def follow(self, before: Chronicle, reason: str, rows: int) -> None:
        """Take over from the chronicle of the reference before, which `rows` rows were compared with.

        Raises UsageError without a reason.
        """
        check_reason(reason, "a new reference")
        last = before.eras[-1]
        at = self.now()
        self.rows_before = before.rows_before + rows
        self.earlier = before.all_alarms
        self.notes = before.notes
        self.notes.rebase(Rebase(at, reason, self.rows_before, last.alpha, last.profile.digest))
        self.untold = before.untold
        last.until = at
        self.eras = [*before.eras, *self.eras]
        self.trim()

    # To go on from later.

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Everything that changes: values that JSON can hold, and arrays."""
        eras, arrays = state_of(self.eras)
        plain = {
            "alarms": fields.write_object(tuple(map(without_effect, self.alarms))),
            "earlier": fields.write_object(self.earlier),
            "rows before": self.rows_before,
            "notes": self.notes.state(),
            "history": self.most_bytes,
            "eras": eras,
        }
        return plain, arrays

    def restore(self, plain: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Go on from `state()`."""
        profile = self.eras[0].profile
        self.alarms = tuple(with_effect(profile, alarm) for alarm in _alarms(plain["alarms"]))
        self.earlier = _alarms(plain["earlier"])
        self.rows_before = plain["rows before"]
        self.notes.restore(plain["notes"])
        self.eras = restored(self.eras[0], plain["eras"], arrays, self.most_bytes)


def _alarms(plain: Sequence[Any]) -> tuple[Alarm, ...]:
    return tuple(fields.read_object(Alarm, alarm, "alarms") for alarm in plain)
