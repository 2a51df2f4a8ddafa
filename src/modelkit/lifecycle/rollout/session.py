"""One rollout in one process: its counts go out to the ledger, and decisions come in."""

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

# The most that waits to be written while the registry is gone; beyond that, ticks are left out.
MOST_TICKS = 100
MOST_WAITING = 200_000  # keys and losses


class Host(Protocol):
    """What a session needs of the Switch, which imports this module."""

    lock: threading.RLock

    @property
    def champion(self) -> Model:
        """The Model that answers without a rollout."""

    def start(self, work: Callable[[], None]) -> threading.Thread | None:
        """Do something in a thread of its own; None where no thread can start."""

    def failed(self, error: BaseException) -> None:
        """Note an error of what is done beside the calls."""

    def end(self, model: Model) -> None:
        """Let a Model answer everything from now on, and end the rollout that is under way."""


L = TypeVar("L", MemoryLedger, RegistryLedger)


@final
class Session(Generic[L]):
    """One rollout in this process, from the first call of its candidate to the last.

    After each tick it posts what was counted here to the ledger, reads what all processes counted,
    lets the trial weigh that, and writes down what the trial decides.

    Args:
        ledger: of the rollout.
        lineups: what answers, stage by stage.
        host: the Switch.
        follow: does as the ledger says; the session calls it after each decision, in the thread
            that decided.

    Attributes:
        ledger: of the rollout.
        lineups: what answers, stage by stage.
        policy: how the rollout goes.
        trial: weighs what all processes counted.
        stage: the stage that calls are in, from 0; the trial may follow later.
        identities: of the champion and the candidate.
        losses: those that came; None where no guard watches losses.
        lost: how many ticks were left out, for want of room.
        rolled_back: whether this process rolled back already, whatever the shared ledger says.
        unwritten: that rollback, as long as the ledger does not have it.
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
        self.rolled_back = False
        self.unwritten: Decision | None = None
        self._host = host
        self._follow = follow
        self._ended = False
        self._left_over = Counts()  # what counts of ticks that were left out
        self._unposted: list[tuple[int, Counts]] = []  # with the stage of each
        self._room = MOST_WAITING  # keys and losses that may still come
        self._thread: threading.Thread | None = None
        self._missed = 0  # ticks that ended while the thread was still at work
        self._reported = ""  # the last decision that listeners got

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
        """Begin a stage for the calls from now on; returns its lineup."""
        self.stage = stage
        return self.lineups.begin(stage)

    def outcome(self, key: str, loss: Loss) -> bool:
        """Count a loss; see `Rollout.outcome`."""
        if self.losses is None:
            raise UsageError(
                "no guard watches losses: give the rollout mk.Guard('loss', margin=...)"
            )
        return self.losses.take(key, loss, shadow=self.policy.stages[self.stage].shadow)

    def tick(self) -> None:
        """End a tick: weigh what was counted, in a thread where that may take long."""
        if self._thread is not None and self._thread.is_alive():
            self._missed += 1
            if self._missed == MOST_TICKS:
                self._queue_or_leave_out()  # what comes now is left out, not what came so far
            elif self._missed > MOST_TICKS:
                self.leave_out()
            return  # what is counted meanwhile comes with the next tick
        self._missed = 0
        self._queue_or_leave_out()
        if self.ledger.shared:
            self._thread = self._host.start(self._weigh)
        else:
            self._weigh()

    def _queue_or_leave_out(self) -> None:
        """Queue what was counted here, if there is room for it."""
        if self._room:
            self.queue_counts()
        else:
            self.leave_out()

    def queue_counts(self) -> None:
        """Queue what was counted here, for the stage that calls are in. Call it before a stage ends."""
        counts = self.collect()
        if counts != NOTHING:
            self._unposted.append((self.stage, counts))
        self._make_room()

    def collect(self) -> Counts:
        """What was counted here since the last time. Only one thread at a time may call it."""
        counts = Counts() if self.losses is None else self.losses.collect()
        counts += self._left_over + self.lineups.counters.collect()
        self._left_over = Counts()
        return counts

    def leave_out(self) -> None:
        """Let what was counted since the last time count no more, but for keys and losses.

        It has to be clear before a tick begins that it is left out, so that nothing that either arm
        does is the reason. Keys and losses stay, as a loss belongs to the stage in which its key was
        answered.
        """
        counts = self.lineups.counters.collect()
        self._left_over += Counts(keys=counts.keys, missing=counts.missing)
        self.lost += 1

    def _make_room(self) -> None:
        """Set how much may come until the queue is posted."""
        entries = sum(counts.entries for _, counts in self._unposted)
        full = len(self._unposted) >= MOST_TICKS
        self._room = 0 if full else max(MOST_WAITING - entries, 0)
        if self.losses is not None:
            self.losses.room = min(MOST_WAITING_LOSSES, self._room)

    def _post(self) -> None:
        """Post the queue to the ledger, oldest first; where that fails, the rest stays in it."""
        while self._unposted:
            self.ledger.post(*self._unposted[0])
            del self._unposted[0]
        self._make_room()

    def finish(self, patience: float) -> None:
        """Write what was counted or decided here and is not written yet, before this process ends.

        Args:
            patience: the seconds to wait for the thread at work; where it takes longer, nothing is
                written here.
        """
        if self._thread is not None:
            self._thread.join(patience)
            if self._thread.is_alive():
                return
        try:
            if self.losses is not None:
                self.losses.hand_on_all()
            self.queue_counts()
            self._post()
            if self.unwritten is not None:
                with suppress(Conflict):  # somebody else decided
                    self.ledger.decide(self.unwritten, any_stage=True)
        except Exception as error:  # closing goes on
            self._host.failed(error)

    def _weigh(self) -> None:
        """Post, weigh what all processes counted, and act on the decision of the trial."""
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
            self._act_on(trial.decision)

    def read_sums(self) -> None:
        """Weigh what all processes counted and the trial has not weighed yet."""
        for found in self.ledger.sums():
            with self._host.lock:
                self.trial.tick(found.counts, found.at, found.stage)

    def _act_on(self, decision: Decision) -> None:
        """Report a decision of the trial that is new, and write it down.

        Where processes share the ledger, this one rolls back first, whether or not it can write.
        """
        with self._host.lock:
            if self._ended or not self._is_news(decision):
                return
            if self.ledger.shared and decision.kind == "rollback":
                self.rolled_back = True
                self.unwritten = decision
                self._host.end(self._host.champion)
        self.report(decision)  # without the lock: a listener may call `refresh`
        self.write(decision)

    def _is_news(self, decision: Decision) -> bool:
        """Whether a decision was not reported before; from then on it counts as reported."""
        kind = decision.kind
        why, _, _ = decision.reason.partition(":")  # after it come figures, which change
        report = f"{self.stage} {kind} {why}"
        if kind == "continue" or self._reported == report:
            return False
        self._reported = report
        return True

    def write(self, decision: Decision) -> None:
        """Write down a decision, and do as the ledger then says; a write that fails is tried again."""
        try:
            with suppress(Conflict):  # somebody else decided, and is followed
                self.ledger.decide(decision, any_stage=decision.kind == "rollback")
            self.unwritten = None
        except Exception as error:
            self._host.failed(error)
            self._reported = ""
        self._follow()

    def decide(self, kind: Kind, reason: str) -> Decision:
        """Decide by hand, whatever the evidence, and report it. The caller writes it to the ledger."""
        self.trial.decision = decision = self.trial.by_hand(kind, reason)
        self.report(decision)
        return decision

    def decide_for_all(self, kind: Kind, reason: str) -> None:
        """Decide by hand, in the ledger first. Raises Conflict where somebody else decided before."""
        decision = self.trial.by_hand(kind, reason)
        self.ledger.decide(decision)
        self.trial.decision = decision
        self.report(decision)

    def conclude(self, kind: Kind, reason: str) -> None:
        """Take over how another process ended the rollout, so the status and the events say so."""
        trial = self.trial
        with self._host.lock:
            if trial.over:
                return
            trial.decision = trial.by_hand(kind, reason)
            new = self._is_news(trial.decision)
        if new:
            self.report(trial.decision)

    def report(self, decision: Decision) -> None:
        """Emit the event of a decision."""
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

        The trial stays, so that `status` can say how the rollout ended.
        """
        self._ended = True
        self.lineups.end()
        if self.losses is not None:
            self.losses.outcomes.forget()

    def after_fork(self) -> None:
        """In the child of a fork, drop what the parent counted, and post as a process of its own."""
        if self.losses is not None:
            self.losses.after_fork()
        self.collect()
        self.lineups.after_fork()
        self._thread = None
        self._unposted = []
        self._make_room()
        self.ledger.after_fork()
