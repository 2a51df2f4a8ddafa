"""What several processes counted in one rollout, added up once and for all.

Each process writes what it counted as files of its own. Whoever is first to add up what is new
makes the next sum, a file that only one can make; all others read that one. So every process sees
the same sums in the same order, comes to the same evidence and to the same decision, and one that
starts later, or again, reads them from the first.
"""

from __future__ import annotations

import json
import sys
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, final

from modelkit._internal.json import parse_json
from modelkit.errors import NotAFile, RegistryError
from modelkit.lifecycle.registry.log import Underway
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened, KeyDone, Label, Posted, Unit
from modelkit.store.sequence import Sequence
from modelkit.store.subfolder import Subfolder

# Of one writer, in one sum, by which it takes no more: no call is answered while a sum is parsed.
MOST_LOSSES = 50_000
MOST_NAMED = 10  # files that are left out of one sum, by name
MOST_COUNTED = 1 << 53  # beyond it, a float has not every whole number
A_HASH = 1 << 64
A_SECOND_AHEAD = 1.0
# Of a file whose content makes no sense; what else a store raises may be over in a moment.
UNREADABLE = (AttributeError, KeyError, NotAFile, RecursionError, TypeError, ValueError)


@final
@dataclass(frozen=True)
class JointCounts:
    """What all processes counted in one tick.

    Attributes:
        at: when it was added up, in seconds since the rollout began.
        stage: the stage in which it was counted, from 0.
        counts: what was counted.
        upto: for each process, the number of its files that are in this sum or an earlier one.
        left_out: the files that cannot be read, and why; nothing counts of what they hold.
    """

    at: float
    stage: int
    counts: Counts
    upto: dict[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@final
class SharedCounts:
    """Writes what this process counted, and reads what all did.

    Args:
        folder: the files of the rollout.
        process: tells this process from all others.
        stages: how many stages the rollout has.
    """

    def __init__(self, folder: Subfolder, process: str, stages: int = sys.maxsize) -> None:
        self._folder = folder
        self._stages = stages
        self._sums = Sequence(folder, "sums")
        self._own = self._counts(process)
        self._written = 0  # files of this process
        self._read = 0  # sums
        self._upto: dict[str, int] = {}
        self.at = 0.0  # of the last sum

    def of_process(self, process: str) -> SharedCounts:
        """The same in another process, which has read what this one has."""
        other = copy(self)
        other._own = self._counts(process)
        other._written = 0
        return other

    def write(self, stage: int, counts: Counts) -> None:
        """Write what this process counted in a tick."""
        self._own.create(self._written + 1, _written(stage, counts))
        self._written += 1

    def write_beside(self, stage: int, counts: Counts) -> None:
        """Write what was counted by one of several who share a folder: at the next free number.

        If two write the same, it may stand there once, which is right of labels: they count once.
        """
        self._own.append(_written(stage, counts), after=self._own.last())

    def next_sum(self) -> JointCounts | None:
        """The next sum that was not read yet, or None.

        One that cannot be read is empty, in every process: what it held comes with the next one.
        """
        number = self._read + 1
        try:
            data = self._sums.read(number)
            if data is None:
                return None
            found = self._read_sum(data)
        except UNREADABLE as error:
            why = _unreadable(self._sums.path(number), error)
            found = JointCounts(self.at, 0, Counts(), self._upto, (why,))
        self._read = number
        self._upto = found.upto
        self.at = found.at
        return found

    def add_up(self, at: float, stage: int = sys.maxsize) -> list[str]:
        """Make the next sum of what is new, unless nothing is, or somebody else made it.

        Counts of the earliest stage come first, and those of a later one in the sum after. Those of
        each process are taken in their order, whatever their stages are: a job may post losses by
        what it read of the stage before another one did.

        Args:
            at: the age of the rollout, in seconds.
            stage: the stage that the rollout is in: counts of a later one wait.

        Returns:
            Of which processes the counts wait, as the store does not give them now.
        """
        files, waiting = self._new_files()
        first: dict[str, int] = {}
        for file in files:
            if file.counts is not None:
                first.setdefault(file.process, file.stage)
        earliest = min([each for each in first.values() if each <= stage], default=0)
        upto = dict(self._upto)
        total = Counts()
        left_out = []
        held: set[str] = set()
        for file in files:
            if file.process in held:
                continue
            if file.counts is None:
                left_out.append(file.left_out)
            elif file.stage == earliest:
                total += file.counts
            else:
                held.add(file.process)
                continue
            upto[file.process] = file.number
        if upto != self._upto:
            if len(left_out) > MOST_NAMED:
                further = len(left_out) - MOST_NAMED
                left_out[MOST_NAMED:] = [f"{further:,} further files are left out"]
            self._create_sum(JointCounts(at, earliest, total, upto, tuple(left_out)))
        return waiting

    def _create_sum(self, found: JointCounts) -> None:
        plain = {
            "at": found.at,
            "stage": found.stage,
            "upto": found.upto,
            "counts": write_counts(found.counts),
            "left_out": found.left_out,
        }
        self._sums.create(self._read + 1, json.dumps(plain).encode())

    def _counts(self, process: str) -> Sequence:
        return Sequence(self._folder, f"counts/{process}")

    def _new_files(self) -> tuple[list[_File], list[str]]:
        """The first files of all processes that are in no sum yet, those of each in their order.

        Of a process whose next file the store does not give now, they wait; this is returned too.
        """
        found = []
        waiting = []
        for process in self._folder.folders("counts"):
            number = self._upto.get(process, 0) + 1
            losses = 0
            try:
                while losses < MOST_LOSSES and (file := self._file(process, number)) is not None:
                    found.append(file)
                    losses += 0 if file.counts is None else len(file.counts.posted)
                    number += 1
            except (OSError, RegistryError) as error:
                why = type(error).__name__  # its text may hold the address of the store
                waiting.append(f"counts/{process} cannot be read now, and waits: {why}")
        return found, waiting

    def _file(self, process: str, number: int) -> _File | None:
        files = self._counts(process)
        try:
            data = files.read(number)
            if data is None:
                return None
            plain = parse_json(data.decode())
            stage, counts = self._checked(plain["stage"], plain["counts"])
        except UNREADABLE as error:
            return _File(process, number, left_out=_unreadable(files.path(number), error))
        return _File(process, number, stage, counts)

    def _read_sum(self, data: bytes) -> JointCounts:
        plain = parse_json(data.decode())
        at = plain["at"]
        if type(at) not in (int, float) or at < 0:
            raise ValueError(f"the age of a rollout is a number from 0, not {at!r:.40}")
        upto = {process: _count(number) for process, number in plain["upto"].items()}
        stage, counts = self._checked(plain["stage"], plain["counts"])
        left_out = tuple(map(_text, plain.get("left_out", ())))
        return JointCounts(float(at), stage, counts, upto, left_out)

    def _checked(self, stage: Any, plain: Any) -> tuple[int, Counts]:
        """A stage of the rollout, and what was counted in it."""
        counts = read_counts(plain)
        for each in (_count(stage), *(label.stage for label in counts.labels)):
            if each >= self._stages:
                raise ValueError(f"the rollout has {self._stages} stages, and not {each + 1}")
        return stage, counts


@final
@dataclass(frozen=True)
class _File:
    """What one process counted in a tick; without counts, why it is left out."""

    process: str
    number: int
    stage: int = 0
    counts: Counts | None = None
    left_out: str = ""


def start_in_the_future(rollout: Underway, now: datetime) -> list[str]:
    """A sentence about a rollout that begins in the future of this machine, by one of two clocks."""
    try:
        ahead = (datetime.fromisoformat(rollout.at) - now).total_seconds()
    except (TypeError, ValueError):  # no time, or one without a zone
        ahead = 0.0
    if ahead < A_SECOND_AHEAD:
        return []
    told = (
        f"it began {ahead:,.0f} s in the future, by the clock of {rollout.actor}: set that clock, or "
        "the one of this machine. Its age is the time that its processes see pass, so it goes on"
    )
    return [told]


def _unreadable(name: str, error: Exception) -> str:
    why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return f"{name} cannot be read, so nothing counts of what it holds: {why:.200}"


def _written(stage: int, counts: Counts) -> bytes:
    return json.dumps({"stage": stage, "counts": write_counts(counts)}).encode()


def write_counts(counts: Counts) -> dict[str, Any]:
    """Counts as JSON values, without what is empty."""
    plain = {
        "calls": _write_arms(counts.calls),
        "plain": _write_arms(counts.plain),
        "keys": counts.keys,
        "events": {
            kind: [_write_arms(happened.plain), happened.keys, _write_arms(happened.keyed)]
            for kind, happened in counts.events.items()
            if happened != Happened()
        },
        "done": [[done.key, done.candidate, dict(done.bad)] for done in counts.done],
        "shadowed": counts.shadowed,
        "shadow_events": dict(counts.shadow_events),
        "labels": [[each.loss, each.key, each.candidate, each.stage] for each in counts.labels],
        "posted": [[each.loss, each.key] for each in counts.posted],
        "differences": counts.differences,
        "missing": counts.missing,
    }
    return {name: value for name, value in plain.items() if value}


def read_counts(plain: Any) -> Counts:
    """The inverse of `write_counts`.

    Raises AttributeError, KeyError, TypeError or ValueError for what no process counts.
    """
    events = {
        kind: Happened(_arms(arms), _units(keys), _arms(keyed))
        for kind, (arms, keys, keyed) in plain.get("events", {}).items()
    }
    return Counts(
        calls=_arms(plain.get("calls", (0, 0))),
        plain=_arms(plain.get("plain", (0, 0))),
        keys=_units(plain.get("keys", ())),
        events=events,
        done=tuple(
            KeyDone(_hash(key), _flag(candidate), {kind: _loss(bad[kind]) for kind in bad})
            for key, candidate, bad in plain.get("done", ())
        ),
        shadowed=_count(plain.get("shadowed", 0)),
        shadow_events={
            kind: _count(count) for kind, count in plain.get("shadow_events", {}).items()
        },
        labels=tuple(
            Label(_loss(loss), _hash(key), _flag(candidate), _count(stage))
            for loss, key, candidate, stage in plain.get("labels", ())
        ),
        posted=tuple(Posted(_loss(loss), _hash(key)) for loss, key in plain.get("posted", ())),
        differences=tuple(_number_from(-1, each) for each in plain.get("differences", ())),
        missing=tuple(map(_text, plain.get("missing", ()))),
    )


def _write_arms(arms: ByArm) -> list[int]:
    return [arms.candidate, arms.champion]


def _arms(plain: Any) -> ByArm:
    candidate, champion = plain
    return ByArm(_count(candidate), _count(champion))


def _units(plain: Any) -> tuple[Unit, ...]:
    return tuple((_hash(key), _flag(in_candidate)) for key, in_candidate in plain)


def _count(value: Any, below: int = MOST_COUNTED) -> int:
    if type(value) is not int or not 0 <= value < below:
        raise ValueError(f"a count is a whole number from 0 to below {below}, not {value!r:.40}")
    return value


def _hash(value: Any) -> int:
    return _count(value, A_HASH)


def _flag(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError(f"an arm is true or false, not {value!r:.40}")
    return bool(value)


def _loss(value: Any) -> float:
    return _number_from(0, value)


def _number_from(least: int, value: Any) -> float:
    if type(value) not in (int, float) or not least <= value <= 1:
        raise ValueError(f"a loss is a number from {least} to 1, not {value!r:.40}")
    return float(value)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"a name is a text, not {value!r:.40}")
    return value
