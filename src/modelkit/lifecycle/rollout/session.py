"""One rollout in one process: what is counted goes out to its ledger, and decisions come in."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar, final

from modelkit.errors import Conflict, UsageError
from modelkit.events import Decided, emit
from modelkit.lifecycle.rollout.counts import NOTHING, Counts
from modelkit.lifecycle.rollout.decide import Decision, Kind
from modelkit.lifecycle.rollout.ledger import MemoryLedger, RegistryLedger
from modelkit.lifecycle.rollout.lineup import Lineup, Lineups
from modelkit.lifecycle.rollout.losses import MOST_WAITING_LOSSES, Loss, Losses
from modelkit.lifecycle.rollout.trial import Trial
from modelkit.model.model import Model

# What waits to be written, while a log is gone. Then no more is counted.
MOST_TICKS = 100
MOST_WAITING = 200_000  # keys and losses


class Host(Protocol):
    """What answers in this process, as a session needs it; see `Switch`."""

    lock: threading.RLock

    @property
    def champion(self) -> Model:
        """The Model that answers without a rollout."""

    def start(self, work: Callable[[], None]) -> threading.Thread | None:
        """Do something in a thread of its own; None where there are no more threads."""

    def failed(self, error: BaseException) -> None:
        """Note an error of what is done beside the calls."""

    def end(self, model: Model) -> None:
        """Let a Model answer everything from now on, and end the rollout that is under way."""


L = TypeVar("L", MemoryLedger, RegistryLedger)


@final
class Session(Generic[L]):
    """What belongs to one candidate, from its first call to its last, in this process.

    It hands on what is counted here, and decides by what all processes counted.

    Args:
        ledger: of the rollout.
        lineups: what answers, stage by stage.
        host: what answers in this process.
        follow: called when something was decided, in the thread that found it: does as the ledger
            says.

    Attributes:
        ledger: of the rollout.
        lineups: what answers, stage by stage.
        policy: how it goes.
        trial: weighs what was counted.
        stage: the stage that calls are in; the trial follows with what is counted.
        identities: of the champion and the candidate.
        losses: those that came; None where no guard watches losses.
        lost: the ticks of which nothing counts, for which there was no room.
        settled: whether it was rolled back here, whatever a ledger that is shared says by now.
        unwritten: a rollback that the ledger does not have yet.
    """

    def __init__(self, ledger: L, lineups: Lineups, host: Host, follow: Callable[[], None]) -> None:
        self.ledger: L = ledger
        self.lineups = lineups
        self.policy = lineups.policy
        self.trial = Trial(self.policy, ledger.at)
        self.stage = ledger.state() or 0
        champion, candidate = lineups.arms
        self.identities = (champion.identity, candidate.identity)
        self.losses: Losses | None = None
        evidence = self.trial.losses
        if lineups.outcomes is not None and evidence is not None:
            answered = evidence.keys if ledger.shared else None
            self.losses = Losses(lineups.outcomes, lineups.salt, answered)
        self.lost = 0
        self.settled = False
        self.unwritten: Decision | None = None
        self._host = host
        self._follow = follow
        self._ended = False
        self._kept = Counts()  # of ticks that are left out
        self._waiting: list[tuple[int, Counts]] = []  # by stage, not written yet
        self._room = MOST_WAITING
        self._thread: threading.Thread | None = None
        self._without = 0  # ticks that ended while the thread was still at work
        self._reported = ""  # the last decision, as those who listen know it

    @property
    def models(self) -> tuple[Model, ...]:
        """The champion and the candidate; neither when it has ended."""
        return tuple(arm.model for arm in self.lineups.arms)

    @property
    def waiting(self) -> int:
        """About how many events wait to be weighed."""
        losses = 0 if self.losses is None else self.losses.waiting
        return self.lineups.counters.waiting + losses

    def enter(self, stage: int) -> Lineup:
        """Let calls be in a stage; returns its lineup."""
        self.stage = stage
        return self.lineups.of(stage)

    def outcome(self, key: str, loss: Loss) -> bool:
        """Count a loss; see `Rollout.outcome`."""
        if self.losses is None:
            raise UsageError(
                "no guard watches losses: give the rollout mk.Guard('loss', margin=...)"
            )
        return self.losses.take(key, loss, shadow=self.policy.stages[self.stage].shadow)

    def tick(self) -> None:
        """A tick is over: hand on what was counted here, in a thread where that may take long."""
        if self._thread is not None and self._thread.is_alive():
            self._without += 1
            if self._without == MOST_TICKS:
                self._take()  # what comes now is left out, not what came so far
            elif self._without > MOST_TICKS:
                self.leave_out()
            return  # what is counted meanwhile comes with the next tick
        self._without = 0
        self._take()
        if self.ledger.shared:
            self._thread = self._host.start(self._weigh)
        else:
            self._weigh()

    def _take(self) -> None:
        """Take what was counted here, if there is room for it."""
        if self._room:
            self.hand_on()
        else:
            self.leave_out()

    def hand_on(self) -> None:
        """Take what was counted here in the stage that calls are in, which may end now."""
        counts = self.collect()
        if counts != NOTHING:
            self._waiting.append((self.stage, counts))
        self._make_room()

    def collect(self) -> Counts:
        """What was counted since the last time. For one thread at once."""
        counts = Counts() if self.losses is None else self.losses.collect()
        counts += self._kept + self.lineups.counters.collect()
        self._kept = Counts()
        return counts

    def leave_out(self) -> None:
        """Let what was counted since the last time count no more.

        That a tick is left out has to be clear before it begins, so that nothing that either arm
        does is a reason. Losses are kept, and so are the keys: a loss is of the stage in which its
        key was answered.
        """
        counts = self.lineups.counters.collect()
        self._kept += Counts(keys=counts.keys, missing=counts.missing)
        self.lost += 1

    def _make_room(self) -> None:
        """Say how much may come until what waits is written."""
        entries = sum(counts.entries for _, counts in self._waiting)
        full = len(self._waiting) >= MOST_TICKS
        self._room = 0 if full else max(MOST_WAITING - entries, 0)
        if self.losses is not None:
            self.losses.room = min(MOST_WAITING_LOSSES, self._room)

    def _post(self) -> None:
        while self._waiting:
            self.ledger.post(*self._waiting[0])
            del self._waiting[0]
        self._make_room()

    def finish(self, patience: float) -> None:
        """Write what was counted or decided here and is not written yet: this process ends."""
        if self._thread is not None:
            self._thread.join(patience)
            if self._thread.is_alive():
                return
        try:
            if self.losses is not None:
                self.losses.hand_on_all()
            self.hand_on()
            self._post()
            if self.unwritten is not None:
                with suppress(Conflict):  # somebody else decided
                    self.ledger.decide(self.unwritten, any_stage=True)
        except Exception as error:  # closing goes on
            self._host.failed(error)

    def _weigh(self) -> None:
        """Weigh what was counted everywhere, and decide."""
        try:
            self._post()
            self.read_sums()
        except Exception as error:  # it is tried again with the next tick
            self._host.failed(error)
            return
        trial = self.trial
        # In between, the next stage may have begun of which nothing was counted yet. What is over
        # is over: counts of the stage before may come late, and show harm.
        if trial.over or trial.stage == self.ledger.state():
            self._decide(trial.decision)

    def read_sums(self) -> None:
        """Weigh what was counted everywhere and was not weighed yet."""
        for found in self.ledger.sums():
            with self._host.lock:
                self.trial.tick(found.counts, found.at, found.stage)

    def _decide(self, decision: Decision) -> None:
        """Write down a decision, and do as the ledger then says.

        A rollback of several processes is done at once, whether or not it can be written.
        """
        with self._host.lock:
            if self._ended or not self._is_news(decision):
                return
            if self.ledger.shared and decision.kind == "rollback":
                self.settled = True
                self.unwritten = decision
                self._host.end(self._host.champion)
        self.report(decision)  # without the lock: who listens may want to refresh
        self.write(decision)

    def _is_news(self, decision: Decision) -> bool:
        """Whether something is decided that was not reported before; it then counts as reported."""
        kind = decision.kind
        why, _, _ = decision.reason.partition(":")  # after it come figures, which change
        report = f"{self.stage} {kind} {why}"
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
            self._host.failed(error)
            self._reported = ""
        self._follow()

    def decide(self, kind: Kind, reason: str) -> Decision:
        """Decide as somebody says, whatever the evidence; the ledger does not know it yet."""
        self.trial.decision = decision = self.trial.by_hand(kind, reason)
        self.report(decision)
        return decision

    def decide_for_all(self, kind: Kind, reason: str) -> None:
        """Decide as somebody says, in the ledger first. Raises Conflict where somebody else decided."""
        decision = self.trial.by_hand(kind, reason)
        self.ledger.decide(decision)
        self.trial.decision = decision
        self.report(decision)

    def conclude(self, kind: Kind, reason: str) -> None:
        """Take over how it ended elsewhere, so that the status and the events say so."""
        trial = self.trial
        with self._host.lock:
            if trial.over:
                return
            trial.decision = trial.by_hand(kind, reason)
            new = self._is_news(trial.decision)
        if new:
            self.report(trial.decision)

    def report(self, decision: Decision) -> None:
        """Tell those who listen of a decision."""
        champion, candidate = self.identities
        guards = decision.state.guards
        evidence = [(guard.name, guard.worse, guard.better or 0.0) for guard in guards]
        emit(
            Decided(
                decision=decision.kind,
                champion=champion.title,
                candidate=candidate.title,
                stage=self.stage + 1,
                reason=decision.reason,
                evidence=tuple(evidence),
            )
        )

    def end(self) -> None:
        """Stop what runs beside the calls, and let go of the Models and of what they answered.

        What was counted is left, for who asks how it ended.
        """
        self._ended = True
        self.lineups.end()
        if self.losses is not None:
            self.losses.outcomes.forget()

    def after_fork(self) -> None:
        """In the child of a fork, be a process of its own, which has read what its parent has."""
        if self.losses is not None:
            self.losses.after_fork()
        self.collect()
        self.lineups.after_fork()
        self._thread = None
        self._waiting = []
        self._make_room()
        self.ledger.after_fork()
