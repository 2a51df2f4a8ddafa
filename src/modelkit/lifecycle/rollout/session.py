"""A rollout under way in this process: its trial, the lineup of each stage, and what is counted."""

from __future__ import annotations

from typing import final

from modelkit.errors import UsageError
from modelkit.events import Decided, emit
from modelkit.lifecycle.rollout.counts import Counts
from modelkit.lifecycle.rollout.decide import Decision, Kind
from modelkit.lifecycle.rollout.ledger import MemoryLedger, RegistryLedger
from modelkit.lifecycle.rollout.lineup import Lineup, Lineups
from modelkit.lifecycle.rollout.losses import Loss, Losses
from modelkit.lifecycle.rollout.trial import Trial
from modelkit.model.model import Model


@final
class Session:
    """What belongs to one candidate, from its first call to its last, in this process.

    Args:
        ledger: of the rollout.
        lineups: what answers, stage by stage.

    Attributes:
        policy: how it goes.
        lineups: what answers, stage by stage.
        trial: weighs what was counted.
        stage: the stage that calls are in; the trial follows with what is counted.
        identities: of the champion and the candidate.
        losses: those that came; None where no guard watches losses.
        lost: the ticks of which nothing counts, for which there was no room.
        odd: what was reported of its files and clocks.
    """

    def __init__(self, ledger: MemoryLedger | RegistryLedger, lineups: Lineups) -> None:
        self.policy = lineups.policy
        self.lineups = lineups
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
        self.odd = ledger.odd
        self._kept = Counts()  # of ticks that are left out

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

    def outcome(self, key: str, loss: Loss) -> bool:
        """Count a loss; see `Rollout.outcome`."""
        if self.losses is None:
            raise UsageError(
                "no guard watches losses: give the rollout mk.Guard('loss', margin=...)"
            )
        return self.losses.take(key, loss, shadow=self.policy.stages[self.stage].shadow)

    def decide_by_hand(self, kind: Kind, reason: str) -> Decision:
        """Decide as somebody says, whatever the evidence; the ledger does not know it yet."""
        self.trial.decision = decision = self.trial.by_hand(kind, reason)
        self.report(decision)
        return decision

    def report(self, decision: Decision) -> None:
        """Tell those who listen of a decision."""
        champion, candidate = self.identities
        evidence = [(guard.name, guard.worse, guard.better or 0.0) for guard in decision.guards]
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
        self.lineups.end()
        if self.losses is not None:
            self.losses.outcomes.forget()

    def after_fork(self) -> None:
        """Begin anew in the child of a fork, with other draws, and nothing counted yet."""
        if self.losses is not None:
            self.losses.after_fork()
        self.collect()
        self.lineups.after_fork()
