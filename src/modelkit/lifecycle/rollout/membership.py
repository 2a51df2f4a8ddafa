"""The part that this process takes in a rollout: what it counted goes out, and decisions come in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar, final

from modelkit.errors import Conflict
from modelkit.lifecycle.rollout.counts import NOTHING, Counts
from modelkit.lifecycle.rollout.decide import Decision, Kind
from modelkit.lifecycle.rollout.ledger import MemoryLedger, RegistryLedger
from modelkit.lifecycle.rollout.losses import MOST_WAITING_LOSSES
from modelkit.lifecycle.rollout.session import Session
from modelkit.lifecycle.rollout.switch import Switch

# What waits to be written, while a log is gone. Then no more is counted.
MOST_TICKS = 100
MOST_WAITING = 200_000  # keys and losses


L = TypeVar("L", MemoryLedger, RegistryLedger)


@final
class Membership(Generic[L]):
    """Hands on what is counted in one process, and decides by what all of them counted.

    Args:
        ledger: of the rollout.
        session: what belongs to it in this process.
        switch: what answers.
        decided: called when something was decided, in the thread that found it: does as the ledger
            says.

    Attributes:
        ledger: of the rollout.
        session: what belongs to it in this process.
        settled: whether it was rolled back here, whatever a ledger that is shared says by now.
        unwritten: a rollback that the ledger does not have yet.
    """

    def __init__(
        self, ledger: L, session: Session, switch: Switch, decided: Callable[[], None]
    ) -> None:
        self.ledger: L = ledger
        self.session = session
        self.settled = False
        self.unwritten: Decision | None = None
        self._switch = switch
        self._decided = decided
        self._waiting: list[tuple[int, Counts]] = []  # by stage, not written yet
        self._thread: threading.Thread | None = None
        self._reported = ""  # the last decision, as those who listen know it
        self._without = 0  # ticks that ended while the thread was still at work
        self._room = MOST_WAITING

    def tick(self) -> None:
        """A tick is over: hand on what was counted here, in a thread where that may take long."""
        if self._thread is not None and self._thread.is_alive():
            self._without += 1
            if self._without == MOST_TICKS:
                self._take()  # what comes now is left out, not what came so far
            elif self._without > MOST_TICKS:
                self.session.leave_out()
            return  # what is counted meanwhile comes with the next tick
        self._without = 0
        self._take()
        if self.ledger.shared:
            self._thread = self._switch.start(self._weigh)
        else:
            self._weigh()

    def _take(self) -> None:
        """Take what was counted here, if there is room for it."""
        if self._room:
            self.collect()
        else:
            self.session.leave_out()

    def collect(self) -> None:
        """Take what was counted here in the stage that calls are in, which may end now."""
        counts = self.session.collect()
        if counts != NOTHING:
            self._waiting.append((self.session.stage, counts))
        self._make_room()

    def _make_room(self) -> None:
        """Say how much may come until what waits is written."""
        entries = sum(counts.entries for _, counts in self._waiting)
        full = len(self._waiting) >= MOST_TICKS
        self._room = 0 if full else max(MOST_WAITING - entries, 0)
        if self.session.losses is not None:
            self.session.losses.room = min(MOST_WAITING_LOSSES, self._room)

    def _post(self) -> None:
        while self._waiting:
            self.ledger.post(*self._waiting[0])
            del self._waiting[0]
        self._make_room()

    def hand_on(self, patience: float) -> None:
        """Write what was counted or decided here and is not written yet: this process ends."""
        if self._thread is not None:
            self._thread.join(patience)
            if self._thread.is_alive():
                return
        try:
            if self.session.losses is not None:
                self.session.losses.hand_on_all()
            self.collect()
            self._post()
            if self.unwritten is not None:
                with suppress(Conflict):  # somebody else decided
                    self.ledger.decide(self.unwritten, any_stage=True)
        except Exception as error:  # closing goes on
            self._switch.failed(error)

    def _weigh(self) -> None:
        """Weigh what was counted everywhere, and decide."""
        try:
            self._post()
            self.read_sums()
        except Exception as error:  # it is tried again with the next tick
            self._switch.failed(error)
            return
        trial = self.session.trial
        # In between, the next stage may have begun of which nothing was counted yet. What is over
        # is over: counts of the stage before may come late, and show harm.
        if trial.over or trial.stage == self.ledger.state():
            self._decide(trial.decision)

    def read_sums(self) -> None:
        """Weigh what was counted everywhere and was not weighed yet."""
        for found in self.ledger.sums():
            with self._switch.lock:
                self.session.trial.tick(found.counts, found.at, found.stage)

    def _decide(self, decision: Decision) -> None:
        """Write down a decision, and do as the ledger then says.

        A rollback of several processes is done at once, whether or not it can be written.
        """
        session = self.session
        with self._switch.lock:
            if self._switch.session is not session or not self._is_news(decision):
                return
            if self.ledger.shared and decision.kind == "rollback":
                self.settled = True
                self.unwritten = decision
                self._switch.end(self._switch.champion)
        session.report(decision)  # without the lock: who listens may want to refresh
        self.write(decision)

    def _is_news(self, decision: Decision) -> bool:
        """Whether something is decided that was not reported before; it then counts as reported."""
        kind = decision.kind
        why, _, _ = decision.reason.partition(":")  # after it come figures, which change
        report = f"{self.session.stage} {kind} {why}"
        if kind == "continue" or self._reported == report:
            return False
        self._reported = report
        return True

    def write(self, decision: Decision) -> None:
        """Write down a decision, and do as the ledger says; where that fails, it is tried again."""
        try:
            with suppress(Conflict):  # somebody else decided, and is followed
                self.ledger.decide(decision, any_stage=decision.kind == "rollback")
            self.unwritten = None
        except Exception as error:
            self._switch.failed(error)
            self._reported = ""
        self._decided()

    def decide_by_hand(self, kind: Kind, reason: str) -> None:
        """Write down what somebody decides. Raises Conflict where somebody else did."""
        trial = self.session.trial
        decision = trial.by_hand(kind, reason)
        self.ledger.decide(decision)
        trial.decision = decision
        self.session.report(decision)

    def conclude(self, kind: Kind, reason: str) -> None:
        """Take over how it ended elsewhere, so that the status and the events say so."""
        trial = self.session.trial
        with self._switch.lock:
            if trial.over:
                return
            trial.decision = trial.by_hand(kind, reason)
            new = self._is_news(trial.decision)
        if new:
            self.session.report(trial.decision)

    def after_fork(self) -> None:
        """In the child of a fork, be a process of its own, which has read what its parent has."""
        self._thread = None
        self._waiting = []
        self._make_room()
        self.ledger.after_fork()
