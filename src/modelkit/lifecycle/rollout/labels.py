"""The evidence of losses, when labels come late; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import log
from typing import final

import numpy as np

from modelkit.lifecycle.rollout.arms import SplitEvidence
from modelkit.lifecycle.rollout.counts import Counts, Label, PostedLoss, Unit
from modelkit.lifecycle.rollout.decide import GuardEvidence
from modelkit.lifecycle.rollout.guards import LATE_LOSSES, Guard
from modelkit.lifecycle.rollout.keyed import LOSS, MOST_KEYS, Keys, Pairing
from modelkit.lifecycle.rollout.policy import RolloutStage
from modelkit.lifecycle.rollout.routing import place_of
from modelkit.stats.betting import MarginEvidence

PATIENT = 60  # sums of counts for which a loss waits for the process that answered its key
CHANGED = -1


@final
class KeysAnswered:
    """Which keys were answered, by any process, in which stage, and in which arm.

    A loss that came to another process is joined with them. Where it comes first, it waits: for so
    many sums, since a key that calls only after its loss came was another's to answer.

    Attributes:
        left_out: the losses of keys that were answered in two stages.
        unknown: the losses of keys that nobody has answered.
        one_sided: the losses of keys that were answered in shadow alone.
    """

    def __init__(self) -> None:
        self.left_out = 0
        self.unknown = 0
        self.one_sided = 0
        self._in_shadow: set[int] = set()
        self._stages: dict[int, int] = {}  # CHANGED for a key that was answered in two
        self._candidates: set[int] = set()
        self._waiting: dict[int, tuple[PostedLoss, int]] = {}  # and in which sum it came
        self._sums = 0

    @property
    def full(self) -> bool:
        """Whether further keys are not remembered."""
        return max(len(self._stages), len(self._in_shadow)) >= MOST_KEYS

    def knows(self, key: int) -> bool:
        """Whether somebody has answered this key."""
        return key in self._stages or key in self._in_shadow

    def answered_in_shadow(self, keys: Iterable[Unit]) -> None:
        """Keys were answered in shadow; those that an arm answers too are of two stages."""
        for key, _ in keys:
            if key in self._stages:
                self._stages[key] = CHANGED
            elif len(self._in_shadow) < MOST_KEYS:
                self._in_shadow.add(key)

    def answered(self, keys: Iterable[Unit], stage: int) -> list[Label]:
        """Keys were answered in a stage; returns the losses that have waited for them."""
        self._sums += 1
        found = []
        for key, candidate in keys:
            before = self._stages.get(key, stage)
            if before != stage or key in self._in_shadow:
                self._stages[key] = CHANGED
            elif len(self._stages) < MOST_KEYS:
                self._stages[key] = stage
                if candidate:
                    self._candidates.add(key)
            if key in self._waiting:
                found.append(self._waiting.pop(key)[0])
        self._forget()
        return [*self.join(found)]

    def join(self, posted: Iterable[PostedLoss]) -> Iterator[Label]:
        """Losses with the stage and the arm of their keys, as far as these were answered."""
        for each in posted:
            stage = self._stages.get(each.key)
            if stage is None and each.key in self._in_shadow:
                self.one_sided += 1
            elif stage is None:
                self._wait(each)
            elif stage == CHANGED:
                self.left_out += 1
            else:
                yield Label(each.loss, each.key, each.key in self._candidates, stage)

    def unchanged(self, labels: Iterable[Label]) -> Iterator[Label]:
        """The losses of keys that no other process has answered in another stage."""
        for label in labels:
            if self._stages.get(label.key) == CHANGED:
                self.left_out += 1
            else:
                yield label

    def _wait(self, posted: PostedLoss) -> None:
        if len(self._waiting) < MOST_KEYS:
            self._waiting.setdefault(posted.key, (posted, self._sums))
        else:
            self.unknown += 1

    def _forget(self) -> None:
        while self._waiting:
            key, (_, came) = next(iter(self._waiting.items()))
            if self._sums - came <= PATIENT:
                return
            del self._waiting[key]
            self.unknown += 1


@final
class LossEvidence:
    """The evidence of losses whose labels come late.

    Of each key, the first loss counts: keys are what was drawn, and a few of them may have most of
    the losses. It counts in the stage of its answer, whose share drew the arm.

    Args:
        guard: with the margin.
        keys: what has counted of each key.
        alpha: the probability of a false alarm of the split of labels.
        stages: of the rollout.

    Attributes:
        keys: those that were answered.
    """

    def __init__(
        self, guard: Guard, keys: Keys, alpha: float, stages: Sequence[RolloutStage]
    ) -> None:
        self.keys = KeysAnswered()
        self._counted = keys
        self._evidence = MarginEvidence(guard.margin or 0.0)
        self._stages = stages
        self._pairings = [Pairing() for _ in stages]
        self._split = SplitEvidence()
        self._alarm = -log(alpha)
        self._worse = 0.0
        self._skewed = False

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the counts of a tick."""
        answered = counts.keys
        if stage.shadow:
            self.keys.answered_in_shadow(counts.keys)
            answered = ()
        waited = self.keys.answered(answered, self._stages.index(stage))
        labels = [*waited, *self.keys.unchanged(counts.labels), *self.keys.join(counts.posted)]
        # Losses that came sorted by the loss would be compared with those that are as large.
        labels.sort(key=lambda label: place_of(label.key))
        found = list(counts.differences)
        for label in labels:
            difference = self._take(label)
            if difference is not None:
                found.append(difference)
        if found:
            self._evidence.update(np.array(found))
        self._worse = max(self._worse, float(self._evidence.log_above))
        # Where labels come for one arm more often, the models have chosen whom they come for.
        self._skewed = self._skewed or self._split.log >= self._alarm

    def _take(self, label: Label) -> float | None:
        """Count the loss of a key, if it is the first; returns the difference that it completes."""
        if not self._counted.is_new(label.key, LOSS):
            return None
        share = self._stages[label.stage].share
        self._split.add(label.stage, share, int(label.candidate), int(not label.candidate))
        before = self._pairings[label.stage].take(label.loss, candidate=label.candidate)
        return None if before is None else label.loss - float(before)

    def weigh(self) -> GuardEvidence:
        """The evidence."""
        void = ""
        if self._skewed:
            void = "labels come for one arm more often than for the other"
        evidence = self._evidence
        return GuardEvidence(
            name=LATE_LOSSES,
            worse=self._worse,
            better=float(evidence.log_below),
            now=float(evidence.log_above),
            void=void,
        )
