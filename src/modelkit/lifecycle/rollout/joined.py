"""A rollout of a registry's log, in this process: what was counted goes out, and decisions come in."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite
from typing import final

from modelkit.errors import Conflict
from modelkit.events import Noticed, emit
from modelkit.lifecycle.registry.log import CHAMPION, State, Underway
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.rollout.counts import Counts
from modelkit.lifecycle.rollout.course import MOST_TOLD, Course
from modelkit.lifecycle.rollout.decide import Decision
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.shared import SharedCounts, start_in_the_future
from modelkit.lifecycle.rollout.switch import Switch, tell, worth_telling

NEARLY = 0.9  # of a tick has to be over before somebody adds up
# What waits to be written, while a log is gone. Then no more is counted.
MOST_TICKS = 100
MOST_WAITING = 200_000  # keys and losses
MOST_ODD = 20  # things that are reported of one rollout


@final
class Joined:
    """Takes part in a rollout that other processes take part in too.

    Args:
        registry: the registry.
        name: the name of the model.
        rollout: the rollout.
        course: what belongs to it in this process.
        switch: what answers.
        decided: called when something was decided, in the thread that found it.

    Attributes:
        rollout: the rollout as it was last read.
        course: what belongs to it in this process.
        settled: whether it was rolled back here, whatever the log says by now.
        unwritten: a rollback that the log does not have yet.
    """

    def __init__(
        self,
        registry: Registry,
        name: str,
        rollout: Underway,
        course: Course,
        switch: Switch,
        decided: Callable[[], None],
    ) -> None:
        self.rollout = rollout
        self.settled = False
        self.unwritten: Decision | None = None
        self._registry = registry
        self._name = name
        self.course = course
        self._switch = switch
        self._decided = decided
        shelf = registry.shelf(name, rollout)
        self._shared = SharedCounts(shelf, uuid.uuid4().hex, len(course.policy.stages))
        self._read_at = self._now()  # when the newest sum was read
        self._waiting: list[tuple[int, Counts]] = []  # by stage, not written yet
        self._thread: threading.Thread | None = None
        self._without = 0  # ticks that ended while the thread was still at work
        self._notice(*start_in_the_future(rollout, datetime.now(UTC)))
        self._read_sums()

    def counted(self) -> None:
        """A tick is over: hand on what was counted here, in a thread."""
        if self._thread is not None and self._thread.is_alive():
            self._without += 1
            if self._without == MOST_TICKS:
                self._take()  # what comes now is left out, not what came so far
            elif self._without > MOST_TICKS:
                self.course.leave_out()
            return  # what is counted meanwhile comes with the next tick
        self._without = 0
        self._take()
        self._thread = self._switch.start(self._weigh)

    def _take(self) -> None:
        """Take what was counted here, if there is room for it."""
        if self.course.room:
            self.collect()
        else:
            self.course.leave_out()

    def collect(self) -> None:
        """Take what was counted here in the stage that calls are in, which may end now."""
        counts = self.course.collect()
        if counts.anything:
            self._waiting.append((self.course.stage, counts))
        self._make_room()

    def _make_room(self) -> None:
        """Say how many losses may come until what waits is written."""
        entries = sum(counts.entries for _, counts in self._waiting)
        room = min(MOST_TOLD, MOST_WAITING - entries)
        if len(self._waiting) >= MOST_TICKS:
            room = 0
        self.course.room = max(room, 0)

    def hand_on(self, patience: float) -> None:
        """Write what was counted or decided here and is not written yet: this process ends."""
        if self._thread is not None:
            self._thread.join(patience)
            if self._thread.is_alive():
                return
        try:
            self.course.post_unknown()
            self.collect()
            self._write_counts()
            if self.unwritten is not None:
                with suppress(Conflict):  # somebody else decided
                    self._write_in_its_stage(self.unwritten)
        except Exception as error:  # closing goes on
            self._switch.failed(error)

    def _write_counts(self) -> None:
        if self._waiting:
            self._registry.check_log(self._name)  # or it would be made anew, with nothing else
        while self._waiting:
            self._shared.write(*self._waiting[0])
            del self._waiting[0]
        self._make_room()

    def _weigh(self) -> None:
        """Add up what was counted everywhere, weigh it, and decide."""
        try:
            self._write_counts()
            self._read_sums()
            # The rollout is as old as the newest sum said, and what passed here since it was read:
            # clocks of machines are not compared, and what nobody saw pass ends no stage.
            passed = self._now() - self._read_at
            if passed >= NEARLY * self.course.policy.tick:
                waiting = self._shared.add_up(self._shared.at + passed, self.rollout.stage)
                self._read_sums()
                self._notice(*waiting)
        except Exception as error:  # it is tried again with the next tick
            self._switch.failed(error)
            return
        trial = self.course.trial
        # In between, the next stage may have begun of which nothing was counted yet. What is over
        # is over: counts of the stage before may come late, and show harm.
        if trial.over or trial.stage == self.rollout.stage:
            self._decide(trial.decision)

    def _read_sums(self) -> None:
        while (found := self._shared.next_sum()) is not None:
            self._read_at = self._now()
            with self._switch.lock:
                self.course.trial.tick(found.counts, found.at, found.stage)
            self._notice(*found.left_out)

    def _now(self) -> float:
        return self._switch.clock() / A_SECOND

    def _notice(self, *found: str) -> None:
        """Report what is odd, once, to those who listen and in the status."""
        for told in found:
            if told not in self.course.odd and len(self.course.odd) < MOST_ODD:
                self.course.odd.append(told)
                emit(Noticed(self._name, self.rollout.candidate, told))

    def _decide(self, decision: Decision) -> None:
        """Write down a decision, and do as the log then says.

        A rollback is done at once, whether or not it can be written.
        """
        course = self.course
        with self._switch.lock:
            if self._switch.course is not course or not worth_telling(course, decision):
                return
            if decision.kind == "rollback":
                self.settled = True
                self.unwritten = decision
                self._switch.carry_out(course, decision)
        tell(course, decision)  # without the lock: who listens may want to refresh
        self.write_quietly(decision)

    def write_quietly(self, decision: Decision) -> None:
        """Write down a decision, and follow the log; where that fails, it is tried again."""
        try:
            with suppress(Conflict):  # somebody else decided, and is followed
                self._write_in_its_stage(decision)
            self.unwritten = None
        except Exception as error:
            self._switch.failed(error)
            self.course.told = ""
        self._decided()

    def _write_in_its_stage(self, decision: Decision) -> None:
        """Write down a decision; a rollback also where another stage began meanwhile."""
        try:
            self._write(decision)
        except Conflict:
            now = self._registry.state(self._name).rollout
            if decision.kind != "rollback" or now is None:
                raise
            if now.generation != self.rollout.generation or now.stage == self.rollout.stage:
                raise
            self.rollout = now
            self._write(decision)

    def decide_by_hand(self, decision: Decision) -> None:
        """Write down what somebody decides. Raises Conflict where somebody else did."""
        self._write(decision)
        self.course.trial.decision = decision
        tell(self.course, decision)

    def _write(self, decision: Decision) -> None:
        evidence = {}
        for guard in decision.guards:
            evidence[guard.name] = [_written(guard.worse), _written(guard.better)]
        about = {"evidence": evidence, "split": _written(decision.split)}
        self._registry.decide_rollout(
            self._name, self.rollout, decision.kind, reason=decision.reason, about=about
        )

    def learn(self, state: State) -> None:
        """Take over what somebody else decided, so that the status and the events say how it ended."""
        trial = self.course.trial
        candidate = self.rollout.candidate
        champion = state.aliases[CHAMPION]
        if trial.over or state.rollout is not None:
            return
        standing = trial.standing()
        if champion.version == candidate:
            decision = Decision("promote", champion.reason, standing.guards, standing.split)
        elif candidate in state.rolled_back:
            reason = state.rolled_back[candidate]
            decision = Decision("rollback", reason, standing.guards, standing.split)
        else:
            return
        with self._switch.lock:
            trial.decision = decision
            new = worth_telling(self.course, decision)
        if new:
            tell(self.course, decision)

    def after_fork(self) -> None:
        """In the child of a fork, be a process of its own, which has read what its parent has."""
        self._thread = None
        self._waiting = []
        self._make_room()
        self._shared = self._shared.of_process(uuid.uuid4().hex)


def _written(logarithm: float | None) -> float | None:
    """A number that JSON has."""
    if logarithm is None or not isfinite(logarithm):
        return None
    return round(logarithm, 6)
