"""The ledger of a rollout: its processes write there what they count, and what is decided.

A ledger lies in the memory of one process, or in a registry, where several processes share it and
each verb may take long or fail. It has four verbs: `state` gives the stage that the rollout is in,
from 0, as it was last read; `post` takes what this process counted in a tick; `sums` gives what all
processes counted since the last time, in the same order for all of them; and `decide` writes what
becomes of the rollout, where nobody decided before. A tick lasts `RolloutPolicy.tick` seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import takewhile
from math import isfinite
from time import perf_counter_ns
from typing import Any, final
from uuid import uuid4

from modelkit._internal.json import parse_json
from modelkit.errors import Conflict, NotAFile, RegistryError
from modelkit.events import Noticed, emit
from modelkit.lifecycle.registry.log import Underway
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.registry.rules import decision_fields, is_same
from modelkit.lifecycle.rollout.counts import (
    Counts,
    read_count,
    read_counts,
    read_text,
    write_value,
)
from modelkit.lifecycle.rollout.decide import Decision
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.store.sequence import Sequence

NEARLY = 0.9  # of a tick has to be over before somebody adds up
MOST_ODD = 20  # things that are reported of one rollout
# Losses of one process, at which a sum takes no more of its files: calls wait while a sum is parsed.
MOST_LOSSES = 50_000
MOST_NAMED = 10  # files that are left out of one sum, by name
A_SECOND_AHEAD = 1.0
# Of a file whose content makes no sense; what else a store raises may be over in a moment.
UNREADABLE = (AttributeError, KeyError, NotAFile, RecursionError, TypeError, ValueError)


@final
@dataclass(frozen=True)
class TickCounts:
    """What one process, or all of them, counted in one tick.

    Attributes:
        stage: the stage in which it was counted, from 0.
        counts: what was counted.
        at: when it was added up, in seconds: since the rollout began, or of the clock in a
            MemoryLedger.
        upto: for each process, the number of its files that are in this sum or an earlier one.
        left_out: the files that cannot be read, and why; nothing counts of what they hold.
    """

    stage: int
    counts: Counts
    at: float = 0.0
    upto: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@final
class MemoryLedger:
    """The ledger of two Models of one process.

    Args:
        clock: in nanoseconds.

    Attributes:
        odd: always empty; see `RegistryLedger`.
        at: when it began, in seconds of the clock.
        promoted: whether it ended with a promotion.
    """

    shared = False

    def __init__(self, clock: Callable[[], int]) -> None:
        self.odd: list[str] = []
        self.at = clock() / A_SECOND
        self.promoted = False
        self._clock = clock
        self._stage: int | None = 0
        self._posted: list[tuple[int, Counts]] = []

    def state(self) -> int | None:
        """The stage; None where the rollout has ended."""
        return self._stage

    def post(self, stage: int, counts: Counts) -> None:
        """Take what was counted in a tick."""
        self._posted.append((stage, counts))

    def sums(self) -> Iterator[TickCounts]:
        """What was posted; nothing at a later time, where nothing was."""
        posted = self._posted or [(self._stage or 0, Counts())]
        self._posted = []
        for stage, counts in posted:
            yield TickCounts(stage, counts, self._clock() / A_SECOND)

    def decide(self, decision: Decision, *, any_stage: bool = False) -> None:
        """Write what becomes of the rollout. Raises Conflict where it has ended."""
        del any_stage  # nobody else begins one
        if self._stage is None:
            raise Conflict("no rollout is under way")
        if decision.kind == "advance":
            self._stage += 1
        elif decision.kind in ("rollback", "promote"):
            self._stage = None
            self.promoted = decision.kind == "promote"

    def after_fork(self) -> None:
        """In the child of a fork, forget what its parent counted."""
        self._posted = []


@final
class RegistryLedger:
    """The ledger of a rollout that a registry keeps.

    Each process writes what it counted as files of its own. The first one to add up what is new
    makes the next sum, a file that only one can make; all others read that one. So every process
    sees the same sums in the same order, comes to the same evidence and to the same decision, and
    one that starts later, or again, reads them from the first.

    Args:
        registry: the registry.
        name: the name of the model.
        rollout: the rollout.
        policy: how it goes.
        process: names this process among all that write; "" for one that only reads.
        clock: in nanoseconds.

    Attributes:
        odd: what is odd about its files and clocks, in sentences.
        rollout: the rollout as it was last read.
        at: its age by the newest sum, in seconds.
    """

    shared = True

    def __init__(
        self,
        registry: Registry,
        name: str,
        rollout: Underway,
        policy: RolloutPolicy,
        process: str = "",
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self.odd: list[str] = []
        self.rollout = rollout
        self.at = 0.0
        self._registry = registry
        self._name = name
        self._policy = policy
        self._clock = clock
        self._folder = registry.rollout_folder(name, rollout)
        self._sum_files = Sequence(self._folder, "sums")
        self._own_files = self._files_of(process)
        self._own_count = 0
        self._sums_read = 0
        self._upto: Mapping[str, int] = {}
        self._read_at = self._now()  # when the newest sum was read

    def _files_of(self, process: str) -> Sequence:
        """What a process counted: one file for each tick."""
        return Sequence(self._folder, f"counts/{process}")

    def state(self) -> int:
        """The stage."""
        return self.rollout.stage

    def post(self, stage: int, counts: Counts) -> None:
        """Write what this process counted in a tick."""
        self._registry.log(self._name).check()  # or it would be made again, with nothing else
        self._own_files.create(self._own_count + 1, _json(stage=stage, counts=counts))
        self._own_count += 1

    def post_beside(self, counts: Counts) -> None:
        """Write what was counted by one of several who share a process: at the next free number.

        If two write the same, it may stand there once, which is right of labels: they count once.
        """
        data = _json(stage=self.rollout.stage, counts=counts)
        self._own_files.append(data, after=self._own_files.last())

    def sums(self) -> Iterator[TickCounts]:
        """What all processes counted; adds up what is new, where nobody did for nearly a tick."""
        yield from self._new_sums()
        # The rollout is as old as the newest sum said, and what passed here since it was read:
        # clocks of machines are not compared, and what nobody saw pass ends no stage.
        passed = self._now() - self._read_at
        if passed >= NEARLY * self._policy.tick:
            waiting = self.add_up(self.at + passed)
            yield from self._new_sums()
            self.notice(*waiting)

    def _new_sums(self) -> Iterator[TickCounts]:
        for found in self.read():
            yield found
            self.notice(*found.left_out)

    def read(self) -> Iterator[TickCounts]:
        """The sums that were not read yet.

        One that cannot be read is empty, in every process: what it held comes with the next one.
        """
        while (
            found := self._parsed(self._sum_files, self._sums_read + 1, self._sum_of)
        ) is not None:
            self._sums_read += 1
            self._upto = found.upto
            self.at = found.at
            self._read_at = self._now()
            yield found

    def add_up(self, at: float) -> list[str]:
        """Make the next sum of what is new, unless nothing is, or somebody else made it.

        Counts of the earliest stage come first, and counts of a later one in the sum after; counts
        of a stage that has not begun wait. The files of each process are taken in their order,
        whatever their stages are: a job may have read the stage later or earlier than another.

        Args:
            at: the age of the rollout, in seconds.

        Returns:
            A sentence for each process whose counts wait, as the store does not give them now.
        """
        new, waiting = self._new_files()
        stages = [file.stage for files in new for file in _readable(files)[:1]]
        earliest = min((each for each in stages if each <= self.rollout.stage), default=0)
        total = TickCounts(earliest, Counts(), at, self._upto)
        for files in new:
            for file in takewhile(lambda file: file.left_out or file.stage == earliest, files):
                total = replace(
                    total,
                    counts=total.counts + file.counts,
                    upto={**total.upto, **file.upto},
                    left_out=total.left_out + file.left_out,
                )
        if total.upto != self._upto:
            further = len(total.left_out) - MOST_NAMED
            if further > 0:
                named = (*total.left_out[:MOST_NAMED], f"{further:,} further files are left out")
                total = replace(total, left_out=named)
            self._sum_files.create(self._sums_read + 1, _json(**vars(total)))
        return waiting

    def _new_files(self) -> tuple[list[list[TickCounts]], list[str]]:
        """The first files of each process that are in no sum yet, in their order.

        Where the store does not give the next file of a process now, its files wait, and the second
        list has a sentence about it.
        """
        new = []
        waiting = []
        for process in self._folder.folders("counts"):
            found: list[TickCounts] = []
            new.append(found)
            try:
                while sum(len(file.counts.posted) for file in found) < MOST_LOSSES:
                    file = self._file(process, self._upto.get(process, 0) + len(found) + 1)
                    if file is None:
                        break
                    found.append(file)
            except (OSError, RegistryError) as error:
                why = type(error).__name__  # its text may hold the address of the store
                waiting.append(f"counts/{process} cannot be read now, and waits: {why}")
        return new, waiting

    def _file(self, process: str, number: int) -> TickCounts | None:
        file = self._parsed(self._files_of(process), number, self._counts_of)
        return None if file is None else replace(file, upto={process: number})

    def _parsed(
        self, files: Sequence, number: int, read: Callable[[Any], TickCounts]
    ) -> TickCounts | None:
        """A file, or None where it does not exist; without counts, and with the reason, if unreadable."""
        try:
            data = files.read(number)
            return None if data is None else read(parse_json(data.decode()))
        except UNREADABLE as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            left_out = f"{files.path(number)} cannot be read, so nothing counts of what it holds: {why:.200}"
            return TickCounts(0, Counts(), self.at, self._upto, (left_out,))

    def _counts_of(self, plain: Any) -> TickCounts:
        """What the file of a process holds."""
        stage, counts = plain["stage"], read_counts(plain["counts"])
        stages = len(self._policy.stages)
        for each in (read_count(stage), *(label.stage for label in counts.labels)):
            if each >= stages:
                raise ValueError(f"the rollout has {stages} stages, and not {each + 1}")
        return TickCounts(stage, counts)

    def _sum_of(self, plain: Any) -> TickCounts:
        """What the file of a sum holds."""
        at = plain["at"]
        if type(at) not in (int, float) or at < 0:
            raise ValueError(f"the age of a rollout is a number from 0, not {at!r:.40}")
        return replace(
            self._counts_of(plain),
            at=float(at),
            upto={process: read_count(number) for process, number in plain["upto"].items()},
            left_out=tuple(map(read_text, plain.get("left_out", ()))),
        )

    def decide(self, decision: Decision, *, any_stage: bool = False) -> None:
        """Write what becomes of the rollout.

        Args:
            decision: the decision.
            any_stage: whether the decision stands where another stage began meanwhile.

        Raises:
            Conflict: if somebody else decided.
        """
        try:
            self._write(decision)
        except Conflict:
            now = self._registry.state(self._name).rollout
            if now is None or not (any_stage and is_same(self.rollout, now)):
                raise
            if now.stage == self.rollout.stage:
                raise
            self.rollout = now
            self._write(decision)

    def _write(self, decision: Decision) -> None:
        evidence = {}
        for guard in decision.state.guards:
            evidence[guard.name] = [_written(guard.worse), _written(guard.better)]
        fields = partial(
            decision_fields,
            name=self._name,
            rollout=self.rollout,
            decision=decision.kind,
            about={"evidence": evidence, "split": _written(decision.state.split)},
        )
        self._registry._write(self._name, self.rollout.candidate, decision.reason, fields)

    def after_fork(self) -> None:
        """In the child of a fork, write as another process, which has read what its parent has."""
        self._own_files = self._files_of(uuid4().hex)
        self._own_count = 0

    def _now(self) -> float:
        return self._clock() / A_SECOND

    def notice(self, *found: str) -> None:
        """Report what is odd, once, to those who listen and in the status."""
        for each in found:
            if each not in self.odd and len(self.odd) < MOST_ODD:
                self.odd.append(each)
                emit(Noticed(self._name, self.rollout.candidate, each))


def start_in_the_future(rollout: Underway) -> list[str]:
    """A sentence about a rollout that begins in the future of this machine, by one of two clocks."""
    try:
        ahead = (datetime.fromisoformat(rollout.at) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):  # no time, or one without a zone
        ahead = 0.0
    if ahead < A_SECOND_AHEAD:
        return []
    return [
        f"it began {ahead:,.0f} s in the future, by the clock of {rollout.actor}: set that clock, or "
        "the one of this machine. Its age is the time that its processes see pass, so it goes on"
    ]


def _readable(files: list[TickCounts]) -> list[TickCounts]:
    return [file for file in files if not file.left_out]


def _json(**plain: Any) -> bytes:
    return json.dumps(plain, default=write_value).encode()


def _written(logarithm: float | None) -> float | None:
    """A number for JSON, rounded; None for one that is not finite."""
    if logarithm is None or not isfinite(logarithm):
        return None
    return round(logarithm, 6)
