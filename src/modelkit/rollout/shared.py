"""What several processes counted in one rollout, added up once and for all.

Each process writes what it counted as files of its own. Whoever is first to add up what is new
makes the next sum, a file that only one can make; all others read that one. So every process sees
the same sums in the same order, comes to the same evidence and to the same decision, and one that
starts later, or again, reads them from the first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, final

from modelkit.errors import RegistryError
from modelkit.registry.shelf import Shelf
from modelkit.rollout.counts import ByArm, Counts, Happened, KeyDone, Label, Posted

# Of one writer, in one sum, by which it takes no more: no call is answered while a sum is parsed.
MOST_LOSSES = 50_000


@final
@dataclass(frozen=True)
class JointCounts:
    """What all processes counted in one tick.

    Attributes:
        at: when it was added up, in seconds since the rollout began.
        stage: the stage in which it was counted, from 0.
        upto: for each process, the number of its files that are in this sum or an earlier one.
        counts: what was counted.
    """

    at: float
    stage: int
    upto: dict[str, int]
    counts: Counts


@final
class SharedCounts:
    """Writes what this process counted, and reads what all did.

    Args:
        shelf: the files of the rollout.
        process: tells this process from all others.
    """

    def __init__(
        self,
        shelf: Shelf,
        process: str,
    ) -> None:
        self._shelf = shelf
        self._process = process
        self._written = 0
        self._sums = 0
        self._upto: dict[str, int] = {}
        self.at = 0.0  # of the last sum

    def of_process(self, process: str) -> SharedCounts:
        """The same in another process, which has read what this one has."""
        other = SharedCounts(self._shelf, process)
        other._sums = self._sums
        other._upto = dict(self._upto)
        other.at = self.at
        return other

    def write(self, stage: int, counts: Counts) -> None:
        """Write what this process counted in a tick."""
        name = f"counts/{self._process}/{_number(self._written + 1)}"
        self._shelf.create(name, _written(stage, counts))
        self._written += 1

    def write_beside(self, stage: int, counts: Counts) -> None:
        """Write what was counted by one of several who share a folder: at the next free number.

        If two write the same, it may stand there once, which is right of labels: they count once.
        """
        taken = self._shelf.names(f"counts/{self._process}")
        number = max([0, *(int(name) for name in taken if name.isdecimal())]) + 1
        data = _written(stage, counts)
        while not self._shelf.create(f"counts/{self._process}/{_number(number)}", data):
            number += 1

    def next_sum(self) -> JointCounts | None:
        """The next sum that was not read yet, or None."""
        name = f"sums/{_number(self._sums + 1)}"
        data = self._shelf.read(name)
        if data is None:
            return None
        found = _read_sum(data, name)
        self._sums += 1
        self._upto = found.upto
        self.at = found.at
        return found

    def add_up(self, at: float) -> None:
        """Make the next sum of what is new, unless nothing is, or somebody else made it.

        Counts of the earliest stage come first, and those of a later one in the sum after. Those of
        each process are taken in their order, whatever their stages are: a job may post losses by
        what it read of the stage before another one did.
        """
        files = self._new_files()
        if not files:
            return
        first: dict[str, int] = {}
        for file in files:
            first.setdefault(file.process, file.stage)
        stage = min(first.values())
        upto = dict(self._upto)
        total = Counts()
        held: set[str] = set()
        for file in files:
            if file.stage == stage and file.process not in held:
                upto[file.process] = file.number
                total += file.counts
            else:
                held.add(file.process)
        plain = {"at": at, "stage": stage, "upto": upto, "counts": write_counts(total)}
        self._shelf.create(f"sums/{_number(self._sums + 1)}", json.dumps(plain).encode())

    def _new_files(self) -> list[_File]:
        """The first files of all processes that are in no sum yet, those of each in their order."""
        found = []
        for process in self._shelf.folders("counts"):
            number = self._upto.get(process, 0) + 1
            losses = 0
            while losses < MOST_LOSSES and (file := self._file(process, number)) is not None:
                found.append(file)
                losses += len(file.counts.posted)
                number += 1
        return found

    def _file(self, process: str, number: int) -> _File | None:
        name = f"counts/{process}/{_number(number)}"
        data = self._shelf.read(name)
        if data is None:
            return None
        plain = _parse(data, name)
        return _File(process, number, int(plain["stage"]), read_counts(plain["counts"]))


@final
@dataclass(frozen=True)
class _File:
    process: str
    number: int
    stage: int
    counts: Counts


def _written(stage: int, counts: Counts) -> bytes:
    return json.dumps({"stage": stage, "counts": write_counts(counts)}).encode()


def _number(number: int) -> str:
    return f"{number:010d}"


def _read_sum(data: bytes, where: str) -> JointCounts:
    plain = _parse(data, where)
    upto = {str(process): int(number) for process, number in plain["upto"].items()}
    return JointCounts(float(plain["at"]), int(plain["stage"]), upto, read_counts(plain["counts"]))


def _parse(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise RegistryError(f"{where} is not JSON: {error}") from None


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


def read_counts(plain: dict[str, Any]) -> Counts:
    """The inverse of `write_counts`."""
    events = {
        kind: Happened(ByArm(*arms), _pairs(keys), ByArm(*keyed))
        for kind, (arms, keys, keyed) in plain.get("events", {}).items()
    }
    return Counts(
        calls=ByArm(*plain.get("calls", ())),
        plain=ByArm(*plain.get("plain", ())),
        keys=_pairs(plain.get("keys", ())),
        events=events,
        done=tuple(KeyDone(*done) for done in plain.get("done", ())),
        shadowed=plain.get("shadowed", 0),
        shadow_events=plain.get("shadow_events", {}),
        labels=tuple(Label(*label) for label in plain.get("labels", ())),
        posted=tuple(Posted(*posted) for posted in plain.get("posted", ())),
        differences=tuple(plain.get("differences", ())),
        missing=tuple(plain.get("missing", ())),
    )


def _write_arms(arms: ByArm) -> list[int]:
    return [arms.candidate, arms.champion]


def _pairs(values: Any) -> tuple[tuple[Any, bool], ...]:
    return tuple((value, bool(in_candidate)) for value, in_candidate in values)
