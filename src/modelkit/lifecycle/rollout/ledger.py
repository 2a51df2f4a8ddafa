"""Where it is written down what the processes of a rollout count, and what becomes of it.

A ledger lies in the memory of one process, or in a registry, where several processes share it and
each verb may take long or fail. It has four verbs: `state` gives the stage that the rollout is in,
from 0, as it was last read; `post` takes what this process counted in a tick; `sums` gives what all
processes counted since the last time, in the same order for all of them; and `decide` writes what
becomes of the rollout, where nobody decided before.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from math import isfinite
from typing import final

from modelkit.errors import Conflict
from modelkit.events import Noticed, emit
from modelkit.lifecycle.registry.log import Underway
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.registry.rules import is_same
from modelkit.lifecycle.rollout.counts import Counts
from modelkit.lifecycle.rollout.decide import Decision
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.shared import JointCounts, SharedCounts, start_in_the_future

NEARLY = 0.9  # of a tick has to be over before somebody adds up
MOST_ODD = 20  # things that are reported of one rollout


@final
class MemoryLedger:
    """The ledger of two Models of one process.

    Args:
        clock: in nanoseconds.

    Attributes:
        odd: nothing, of which that of a registry has sentences.
        promoted: whether it ended with a promotion.
    """

    shared = False

    def __init__(self, clock: Callable[[], int]) -> None:
        self.odd: list[str] = []
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

    def sums(self) -> Iterator[JointCounts]:
        """What was posted; nothing at a later time, where nothing was."""
        posted = self._posted or [(self._stage or 0, Counts())]
        self._posted = []
        for stage, counts in posted:
            yield JointCounts(self._clock() / A_SECOND, stage, counts)

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

    Args:
        registry: the registry.
        name: the name of the model.
        rollout: the rollout.
        policy: how it goes.
        clock: in nanoseconds.

    Attributes:
        odd: what is odd about its files and clocks, in sentences.
        rollout: the rollout as it was last read.
    """

    shared = True

    def __init__(
        self,
        registry: Registry,
        name: str,
        rollout: Underway,
        policy: RolloutPolicy,
        clock: Callable[[], int],
    ) -> None:
        self.odd: list[str] = []
        self.rollout = rollout
        self._registry = registry
        self._name = name
        self._tick = policy.tick
        self._clock = clock
        folder = registry.rollout_folder(name, rollout)
        self._shared = SharedCounts(folder, uuid.uuid4().hex, len(policy.stages))
        self._read_at = self._now()  # when the newest sum was read
        self._notice(*start_in_the_future(rollout, datetime.now(UTC)))

    def state(self) -> int:
        """The stage."""
        return self.rollout.stage

    def post(self, stage: int, counts: Counts) -> None:
        """Write what this process counted in a tick."""
        self._registry.log(self._name).check()  # or it would be made anew, with nothing else
        self._shared.write(stage, counts)

    def sums(self) -> Iterator[JointCounts]:
        """What all processes counted; adds up what is new, where nobody did for nearly a tick."""
        yield from self._new_sums()
        # The rollout is as old as the newest sum said, and what passed here since it was read:
        # clocks of machines are not compared, and what nobody saw pass ends no stage.
        passed = self._now() - self._read_at
        if passed >= NEARLY * self._tick:
            waiting = self._shared.add_up(self._shared.at + passed, self.rollout.stage)
            yield from self._new_sums()
            self._notice(*waiting)

    def _new_sums(self) -> Iterator[JointCounts]:
        while (found := self._shared.next_sum()) is not None:
            self._read_at = self._now()
            yield found
            self._notice(*found.left_out)

    def decide(self, decision: Decision, *, any_stage: bool = False) -> None:
        """Write what becomes of the rollout.

        Args:
            decision: the decision.
            any_stage: whether it holds too where another stage began meanwhile.

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
        for guard in decision.guards:
            evidence[guard.name] = [_written(guard.worse), _written(guard.better)]
        about = {"evidence": evidence, "split": _written(decision.split)}
        self._registry.decide_rollout(
            self._name, self.rollout, decision.kind, reason=decision.reason, about=about
        )

    def after_fork(self) -> None:
        """In the child of a fork, write as another process, which has read what its parent has."""
        self._shared = self._shared.of_process(uuid.uuid4().hex)

    def _now(self) -> float:
        return self._clock() / A_SECOND

    def _notice(self, *found: str) -> None:
        """Report what is odd, once, to those who listen and in the status."""
        for each in found:
            if each not in self.odd and len(self.odd) < MOST_ODD:
                self.odd.append(each)
                emit(Noticed(self._name, self.rollout.candidate, each))


def _written(logarithm: float | None) -> float | None:
    """A number that JSON has."""
    if logarithm is None or not isfinite(logarithm):
        return None
    return round(logarithm, 6)
