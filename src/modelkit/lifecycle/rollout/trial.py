"""A rollout in progress: its stage, its evidence, and what was decided; no clock and no thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from modelkit.lifecycle.rollout.arms import SplitEvidence
from modelkit.lifecycle.rollout.counts import ByArm, Counts
from modelkit.lifecycle.rollout.decide import Decision, Kind, TrialState, decide
from modelkit.lifecycle.rollout.guards import LATE_LOSSES, Guard
from modelkit.lifecycle.rollout.keyed import DONE, SPLIT, Keys, KeyShares
from modelkit.lifecycle.rollout.labels import LossEvidence
from modelkit.lifecycle.rollout.policy import RolloutPolicy, RolloutStage
from modelkit.lifecycle.rollout.weighing import (
    EventEvidence,
    PromotionEvidence,
    QuantileEvidence,
    RollbackEvidence,
)

MOST_POINTS = 2_000  # of the way of the evidence that are kept; then every second is left out
OVER = ("rollback", "promote")


@final
@dataclass(frozen=True)
class Point:
    """The evidence after one tick, as logarithms.

    Attributes:
        seconds: since the rollout began.
        stage: the number of the stage, from 0.
        worse: of each guard, in their order.
        better: of each guard; 0 where it does not decide.
    """

    seconds: float
    stage: int
    worse: tuple[float, ...]
    better: tuple[float, ...]


@final
class Trial:
    """Weighs the counts of one tick after another, and decides after each.

    Whoever gives it the same counts at the same times gets the same decisions. Several processes
    give it the sum of what all counted.
    """

    def __init__(self, policy: RolloutPolicy, began: float) -> None:
        self.policy = policy
        self.began = began
        self.now = began
        self.stage = 0
        self.stage_began = began
        self.calls = ByArm()  # of the stage
        self.all_calls = ByArm()
        self.shadowed = 0
        self.keys = 0  # that called in the stage, where all count anew
        self.whole_keys = 0  # with all the calls by which a key counts for a promotion
        self.points: list[Point] = []
        self._every = 1
        self._ticks = 0
        self._split = SplitEvidence()
        self._keys = Keys()
        self._done = KeyShares(policy.kinds)
        self._rollback = RollbackEvidence(policy, self._keys, self._done)
        self._promotion = PromotionEvidence(policy, self._keys, self._done)
        self.losses: LossEvidence | None = None
        self.evidence = [self._evidence_of(guard) for guard in policy.guards]
        self.decision = decide(policy, self.state())

    @property
    def in_stage(self) -> RolloutStage:
        """The stage it is in."""
        return self.policy.stages[self.stage]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.decision.kind in OVER

    @property
    def full(self) -> bool:
        """Whether there are more keys than are counted."""
        return self._keys.full or (self.losses is not None and self.losses.keys.full)

    def _evidence_of(self, guard: Guard) -> EventEvidence | QuantileEvidence | LossEvidence:
        """The evidence of a guard, before anything was counted."""
        policy = self.policy
        if guard.name == LATE_LOSSES:
            self.losses = LossEvidence(guard, self._keys, policy.alpha, policy.stages)
            return self.losses
        if guard.by_quantiles:
            return QuantileEvidence(guard, self._rollback, self._promotion, policy.whole)
        return EventEvidence(guard, self._rollback, self._promotion, policy.shadow)

    def tick(self, counts: Counts, now: float, stage: int | None = None) -> Decision:
        """Take the counts of a tick that ended at `now`, in seconds; returns what becomes of it.

        They are of the stage it is in, or of the one that is given: a later one is entered, and
        counts of an earlier one came late. Where the decision is "advance", whoever moves the calls
        to the next stage says so by `enter`, or by counts of it.
        """
        if self.over:
            return self.decision
        of = self.stage if stage is None else stage
        if of > self.stage:
            self.enter(of)
        self.now = max(self.now, now)  # whatever a sum says, time does not run back
        self.all_calls += counts.calls
        if of == self.stage:
            self.keys += len(counts.keys)
            self.whole_keys += len(counts.done)
            self.calls += counts.calls
            self.shadowed += counts.shadowed
        self._weigh(counts, of)
        self.decision = decide(self.policy, self.state())
        self._remember()
        return self.decision

    def by_hand(self, kind: Kind, reason: str) -> Decision:
        """The decision of somebody, whatever the evidence."""
        return Decision(kind, reason, self.state())

    def enter(self, stage: int) -> None:
        """Begin another stage: the next counts are of it."""
        self.stage = stage
        self.stage_began = self.now
        self.calls = ByArm()
        self.keys = 0
        self.whole_keys = 0
        self.shadowed = 0

    def state(self) -> TrialState:
        """Where it stands."""
        return TrialState(
            stage=self.stage,
            in_stage=self.now - self.stage_began,
            in_all=self.now - self.began,
            units=self.shadowed if self.in_stage.shadow else self.calls.candidate,
            split=self._split.log,
            guards=tuple(evidence.weigh() for evidence in self.evidence),
            unanswered=float(self._rollback.log_worse[-1]),
            full=self.full,
        )

    def _weigh(self, counts: Counts, of: int) -> None:
        stage = self.policy.stages[of]
        keys = self._keys
        keys.enter(stage.share)
        if stage.drawn:
            self._split.add(of, stage.share, counts.plain.candidate, counts.plain.champion)
            self._split.add(of, keys.share, *keys.count(counts.keys, SPLIT))
        # Several processes may have calls of a key, whose first ones then count.
        done = [key for key in counts.done if keys.is_new(key.key, DONE)]
        means = self._done.means(stage.share, done)
        self._rollback.tick(stage, counts, means)
        self._promotion.tick(stage, counts, means, done)
        for evidence in self.evidence:
            evidence.tick(stage, counts)

    def _remember(self) -> None:
        self._ticks += 1
        if self._ticks % self._every and not self.over:
            return
        guards = self.decision.state.guards
        self.points.append(
            Point(
                seconds=self.now - self.began,
                stage=self.stage,
                worse=tuple(guard.worse for guard in guards),
                better=tuple(guard.better or 0.0 for guard in guards),
            )
        )
        if len(self.points) > MOST_POINTS:
            self.points = self.points[1::2]
            self._every *= 2
