"""The evidence that calls take longer than those of the champion; pure."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import final

import numpy as np

from modelkit.rollout.arms import log_mean
from modelkit.rollout.counts import ByArm, Counts, Happened, KeyDone
from modelkit.rollout.decide import Weighed
from modelkit.rollout.guards import LONGER_KINDS, QUANTILES, SLOW_KINDS, Guard
from modelkit.rollout.policy import RolloutStage
from modelkit.rollout.weighing import StreamEvidence


@final
class _OfQuantiles:
    """The evidence of all quantiles together.

    A rollback goes by the mean of their evidence, and a promotion by the least.
    """

    def __init__(self, guard: Guard, *, whole: bool) -> None:
        self._streams = []
        for quantile, name in zip(QUANTILES, SLOW_KINDS, strict=True):
            recorded = 1 - quantile / 100
            self._streams.append(StreamEvidence(name, guard, whole=whole, recorded=recorded))
        self.now = 0.0
        self.worse = 0.0

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return any(stream.full for stream in self._streams)

    @property
    def better(self) -> float:
        """The logarithm of the evidence for a promotion."""
        return min(stream.log_better for stream in self._streams)

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the counts of a tick."""
        for stream in self._streams:
            stream.tick(stage, counts)
        if stage.shadow:
            return
        found = [stream.worse if stage.drawn else stream.alone for stream in self._streams]
        logs = np.array([log(each.value) for each in found if each is not None])
        self.now = log_mean(logs, np.full(len(logs), 1 / len(logs)))
        self.worse = max(self.worse, self.now)


@final
class QuantileEvidence:
    """The evidence that calls are slower than quantiles of the champion's times.

    A rollback needs it twice: as the calls were, and with those of the candidate quicker by what
    does not matter. A promotion goes by the latter.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        whole: bool,
    ) -> None:
        self._guard = guard
        self._whole = whole
        self._as_it_was = _OfQuantiles(guard, whole=whole)
        self._quicker = _OfQuantiles(guard, whole=whole) if guard.longer else self._as_it_was

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return self._as_it_was.full or self._quicker.full

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the counts of a tick."""
        self._as_it_was.tick(stage, counts)
        if self._guard.longer:
            self._quicker.tick(stage, with_quicker_candidate(counts))

    def weighed(self) -> Weighed:
        """The evidence."""
        worse = min(self._as_it_was.worse, self._quicker.worse)
        return Weighed(
            name=self._guard.name,
            worse=worse - log(2) if self._whole else worse,
            better=self._quicker.better,
            now=min(self._as_it_was.now, self._quicker.now),
        )


def with_quicker_candidate(counts: Counts) -> Counts:
    """The counts if each call of the candidate had been quicker by what does not matter."""
    events: dict[str, Happened] = {}
    for slow, longer in zip(SLOW_KINDS, LONGER_KINDS, strict=True):
        theirs = counts.events.get(longer, Happened())
        ours = counts.events.get(slow, Happened())
        events[slow] = Happened(
            ByArm(theirs.plain.candidate, ours.plain.champion),
            (*theirs.keys, *(unit for unit in ours.keys if not unit[1])),
            ByArm(theirs.keyed.candidate, ours.keyed.champion),
        )
    done = []
    for key in counts.done:
        bad = key.bad
        if key.candidate:
            kinds = zip(SLOW_KINDS, LONGER_KINDS, strict=True)
            bad = {slow: bad.get(longer, 0.0) for slow, longer in kinds}
        done.append(KeyDone(key.key, key.candidate, bad))
    return replace(counts, events=events, done=tuple(done))
