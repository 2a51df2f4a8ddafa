"""The evidence of losses, when labels come late; pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import final

import numpy as np

from modelkit.rollout.arms import Events
from modelkit.rollout.counts import Counts
from modelkit.rollout.decide import Weighed
from modelkit.rollout.differences import LossDifferences, Pairing
from modelkit.rollout.guards import LATE_LOSSES, Guard
from modelkit.rollout.keyed import FirstOfKeys
from modelkit.rollout.policy import RolloutStage
from modelkit.rollout.split import log_split


@final
class LossEvidence:
    """The evidence of losses whose labels come late.

    Of each key, the first loss counts: keys are what was drawn, and a few of them may have most of
    the losses. It counts in the stage of its answer, whose share drew the arm.
    """

    def __init__(
        self,
        guard: Guard,
        alpha: float,
        stages: Sequence[RolloutStage],
    ) -> None:
        self._evidence = LossDifferences(guard.margin or 0.0)
        self._stages = stages
        self._pairings = [Pairing() for _ in stages]
        self._firsts = FirstOfKeys()
        self._labels = [[0, 0] for _ in stages]  # in the candidate, and in the champion
        self._alarm = -log(alpha)
        self._worse = 0.0
        self._skewed = False

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return self._firsts.full

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the counts of a tick."""
        del stage
        found = list(counts.differences)
        for label in counts.labels:
            if not self._firsts.is_new(label.key):
                continue
            self._labels[label.stage][0 if label.candidate else 1] += 1
            pairing = self._pairings[label.stage]
            difference = pairing.take(label.loss, candidate=label.candidate)
            if difference is not None:
                found.append(difference)
        if found:
            self._evidence.update(np.array(found))
        self._worse = max(self._worse, self._evidence.log_worse)
        if counts.labels:
            self._check_split()

    def _check_split(self) -> None:
        """Where labels come for one arm more often, the models have chosen whom they come for."""
        labels = zip(self._stages, self._labels, strict=True)
        stages = [Events(stage.share, *both) for stage, both in labels]
        self._skewed = self._skewed or log_split(stages) >= self._alarm

    def weighed(self) -> Weighed:
        """The evidence."""
        void = ""
        if self._skewed:
            void = "labels come for one arm more often than for the other"
        evidence = self._evidence
        return Weighed(LATE_LOSSES, self._worse, evidence.log_within, evidence.log_worse, void=void)
