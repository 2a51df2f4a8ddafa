"""A rollout in progress: its stage, its evidence, and what was decided; no clock and no thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from modelkit.lifecycle.rollout.counts import ByArm, Counts
from modelkit.lifecycle.rollout.decide import Decision, Kind, Standing, decide
from modelkit.lifecycle.rollout.guards import (
    DISAGREEMENTS,
    ERROR_EVENTS,
    LATE_LOSSES,
    UNANSWERED,
    Guard,
)
from modelkit.lifecycle.rollout.keyed import FreshKeys
from modelkit.lifecycle.rollout.labels import LossEvidence
from modelkit.lifecycle.rollout.policy import RolloutPolicy, RolloutStage
from modelkit.lifecycle.rollout.slowness import QuantileEvidence
from modelkit.lifecycle.rollout.weighing import DisagreementEvidence, EventEvidence, StreamEvidence
from modelkit.stats.betting import log_split

MOST_POINTS = 2_000  # of the way of the evidence that are kept; then every second is left out
OVER = ("rollback", "promote")

Weighing = EventEvidence | QuantileEvidence | DisagreementEvidence | LossEvidence


@final
@dataclass(frozen=True)
class Point:
    """The evidence after one tick, as logarithms.

    Attributes:
        seconds: since the rollout began.
        stage: the number of the stage, from 0.
        worse: of each guard, in their order.
        better: of each guard; 0 where it has no say.
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
        self._seen = FreshKeys()
        self._units: dict[tuple[int, float], tuple[int, int]] = {}
        self.evidence = [evidence_of(guard, policy.alpha, policy.stages) for guard in policy.guards]
        whole = any(stage.share == 1 for stage in policy.stages)
        self._unanswered = StreamEvidence(UNANSWERED, Guard(ERROR_EVENTS), whole=whole)
        self.decision = decide(policy, self.standing())

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
        return self._seen.full or any(evidence.full for evidence in self.evidence)

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
        self._take_units(counts, of)
        for evidence in self.evidence:
            evidence.tick(self.policy.stages[of], counts)
        self._unanswered.tick(self.policy.stages[of], counts)
        self.decision = decide(self.policy, self.standing())
        self._remember()
        return self.decision

    def decide_by_hand(self, kind: Kind, reason: str) -> Decision:
        """Decide as somebody says, whatever the evidence."""
        standing = self.standing()
        self.decision = Decision(kind, reason, standing.guards, standing.split)
        return self.decision

    def enter(self, stage: int) -> None:
        """Begin another stage: the next counts are of it."""
        self.stage = stage
        self.stage_began = self.now
        self.calls = ByArm()
        self.keys = 0
        self.whole_keys = 0
        self.shadowed = 0

    def standing(self) -> Standing:
        """Where it stands."""
        shadow = self.in_stage.shadow
        return Standing(
            stage=self.stage,
            in_stage=self.now - self.stage_began,
            in_all=self.now - self.began,
            units=self.shadowed if shadow else self.calls.candidate,
            split=sum(log_split(share, *both) for (_, share), both in self._units.items()),
            guards=tuple(evidence.weighed() for evidence in self.evidence),
            unanswered=self._unanswered.log_worse,
        )

    def _take_units(self, counts: Counts, stage: int) -> None:
        if not self.policy.stages[stage].drawn:
            return
        share = self.policy.stages[stage].share
        plain = counts.plain
        self._add(stage, share, plain.candidate, plain.champion)
        if self._seen.enter(share):
            self._add(stage, self._seen.share, *self._seen.take(counts.keys))

    def _add(self, stage: int, share: float, candidate: int, champion: int) -> None:
        before, other = self._units.get((stage, share), (0, 0))
        self._units[stage, share] = (before + candidate, other + champion)

    def _remember(self) -> None:
        self._ticks += 1
        if self._ticks % self._every and not self.over:
            return
        guards = self.decision.guards
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


def evidence_of(guard: Guard, alpha: float, stages: Sequence[RolloutStage]) -> Weighing:
    """The evidence of a guard, before anything was counted."""
    if guard.name == LATE_LOSSES:
        return LossEvidence(guard, alpha, stages)
    if guard.name == DISAGREEMENTS:
        return DisagreementEvidence(guard)
    shadow = any(stage.shadow for stage in stages)
    whole = any(stage.share == 1 for stage in stages)
    if guard.streams != (guard.name,):
        return QuantileEvidence(guard, whole=whole)
    return EventEvidence(guard, shadow=shadow, whole=whole)
