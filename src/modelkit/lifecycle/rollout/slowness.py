"""The evidence that calls take longer than those of the champion; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log
from typing import final

import numpy as np

from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened, KeyDone, Unit
from modelkit.lifecycle.rollout.decide import Weighed
from modelkit.lifecycle.rollout.guards import (
    BLAMED_KINDS,
    LONGER_KINDS,
    QUANTILES,
    SLOW_KINDS,
    Guard,
)
from modelkit.lifecycle.rollout.policy import RolloutStage
from modelkit.lifecycle.rollout.weighing import StreamEvidence
from modelkit.stats.evidence import log_mean


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
        self.now = log_mean(logs)
        self.worse = max(self.worse, self.now)


@final
class QuantileEvidence:
    """The evidence that calls are slower than quantiles of the champion's times.

    A rollback needs it twice: as the calls were, and with those of the candidate quicker by what
    does not matter, of which those count that its longer runs do not explain; see `stretch`.
    A promotion goes by all that are still slow when they are quicker by so much.
    """

    def __init__(self, guard: Guard, *, whole: bool) -> None:
        self._guard = guard
        self._whole = whole
        self._as_it_was = _OfQuantiles(guard, whole=whole)
        self._quicker = _OfQuantiles(guard, whole=whole) if guard.longer else self._as_it_was
        self._blamed = _OfQuantiles(guard, whole=whole) if guard.longer else self._as_it_was

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return self._as_it_was.full or self._quicker.full or self._blamed.full

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the counts of a tick."""
        self._as_it_was.tick(stage, counts)
        if self._guard.longer:
            quicker = with_events(counts, LONGER_KINDS, SLOW_KINDS)
            self._quicker.tick(stage, quicker)
            # Where all calls go to the candidate, it is not the colder one.
            weighed = with_events(counts, BLAMED_KINDS, BLAMED_KINDS) if stage.drawn else quicker
            self._blamed.tick(stage, weighed)

    def weighed(self) -> Weighed:
        """The evidence."""
        worse = min(self._as_it_was.worse, self._blamed.worse)
        return Weighed(
            name=self._guard.name,
            worse=worse - log(2) if self._whole else worse,
            better=self._quicker.better,
            now=min(self._as_it_was.now, self._blamed.now),
            full=self.full,
        )


def with_events(counts: Counts, candidate: tuple[str, ...], champion: tuple[str, ...]) -> Counts:
    """The counts if only calls of these kinds, one for each quantile, had been slow in an arm."""
    events: dict[str, Happened] = {}
    for slow, one, other in zip(SLOW_KINDS, candidate, champion, strict=True):
        theirs = counts.events.get(one, Happened())
        ours = counts.events.get(other, Happened())
        events[slow] = Happened(
            ByArm(theirs.plain.candidate, ours.plain.champion),
            (*_units(theirs, candidate=True), *_units(ours, candidate=False)),
            ByArm(theirs.keyed.candidate, ours.keyed.champion),
        )
    done = []
    for key in counts.done:
        pairs = zip(SLOW_KINDS, candidate if key.candidate else champion, strict=True)
        bad = {slow: key.bad.get(kind, 0.0) for slow, kind in pairs}
        done.append(KeyDone(key.key, key.candidate, bad))
    return replace(counts, events=events, done=tuple(done))


def _units(happened: Happened, *, candidate: bool) -> Iterator[Unit]:
    """The keys of one arm."""
    return (unit for unit in happened.keys if unit[1] == candidate)
