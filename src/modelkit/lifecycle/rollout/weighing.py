"""The evidence of events, of all guards at once, from the counts of one tick after another; pure.

A rollback goes by the first event of each key, which is right whatever keys are like: the arm of a
key is a draw. But the keys that fail often are used up sooner in the worse arm, so that first events
come late in the better one. So a rollback also needs the evidence of all events; and a promotion
does not go by first events at all, but by calls without keys, and by the share of the calls of each
key that were bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.rollout.arms import NO_FLOOR, Above, Below, Events, EventTimes, Worse
from modelkit.lifecycle.rollout.counts import NO_EVENTS, CompleteKey, Counts, EventCounts
from modelkit.lifecycle.rollout.decide import GuardEvidence
from modelkit.lifecycle.rollout.guards import (
    DISAGREEMENTS,
    QUANTILES,
    UNANSWERED_CALLS,
    Guard,
    Stream,
    promotion_streams,
    rollback_streams,
)
from modelkit.lifecycle.rollout.keyed import FIRST_EVENT, OWN, Keys, KeyShares, WorseOfKeys
from modelkit.lifecycle.rollout.policy import RolloutPolicy, RolloutStage
from modelkit.stats.betting import MarginEvidence
from modelkit.stats.evidence import log_mean

LEAST_PART = 0.05  # of the calls, below which those with or those without keys need no evidence


class StreamsEvidence:
    """The evidence of several streams, (n,).

    Args:
        streams: (n,).
        margins: how many times the champion's rate is allowed, (n,).
        keys: what has counted of each key.
        done: of all kinds.
    """

    def __init__(
        self, streams: Sequence[Stream], margins: Sequence[float], keys: Keys, done: KeyShares
    ) -> None:
        self.streams = streams
        self._margins = np.array(margins)
        self._keys = keys
        # Where `done` has each stream's kinds.
        self._candidate = [done.places[stream.candidate] for stream in streams]
        self._champion = [done.places[stream.champion] for stream in streams]

    def rows_of(self, guard: Guard) -> list[int]:
        """Which of the streams are of a guard."""
        return [row for row, stream in enumerate(self.streams) if stream.guard is guard]

    def _event_counts(
        self, counts: Counts, *, alone: bool = False
    ) -> list[tuple[EventCounts, EventCounts]]:
        """The events of the candidate and of the champion, in each stream."""
        found = []
        for stream in self.streams:
            kind = stream.alone if alone else stream.candidate
            theirs = counts.events.get(stream.champion, NO_EVENTS)
            found.append((counts.events.get(kind, NO_EVENTS), theirs))
        return found

    def _differences(self, means: Array) -> Array:
        """Of each key of the candidate that is done, the share of its calls that were bad, less the champion's.

        It is compared with the margin times the champion's mean, in units of the margin, which
        needs to know no rate. Shape (n, keys).
        """
        ours, theirs = means
        found: Array = ours[:, self._candidate] / self._margins - theirs[:, self._champion]
        return found.T


@final
class RollbackEvidence(StreamsEvidence):
    """What speaks for a rollback, in each stream.

    Args:
        policy: how the rollout goes.
        keys: what has counted of each key.
        done: of all kinds.

    Attributes:
        compared: the two arms, where both answer.
        alone: the candidate, where it has all calls, beside its floor.
        above_in_shadow: the candidate in shadow, beside its floor.
        log_worse: the logarithm of the evidence, with a rate that matters, (n,).
        log_worse_in_shadow: likewise, of stages where both run on the same rows.
    """

    def __init__(self, policy: RolloutPolicy, keys: Keys, done: KeyShares) -> None:
        streams = [stream for guard in policy.guards for stream in rollback_streams(guard)]
        streams.append(UNANSWERED_CALLS)
        super().__init__(streams, [stream.guard.worse for stream in streams], keys, done)
        floors = np.array([stream.guard.least for stream in streams])
        self.compared = WorseOfKeys(self._margins)
        self._above = Above(floors)
        self._in_shadow = Worse(self._margins)
        self.above_in_shadow = Above(floors)
        alone = np.array([stream.floor_alone(stream.guard.worse) for stream in streams])
        self._is_alone = (alone > 0) & policy.whole
        self.alone = Above(alone)
        self._weigh()

    def tick(self, stage: RolloutStage, counts: Counts, means: Array) -> None:
        """Take the counts of a tick in a stage, with what is new of keys."""
        if stage.shadow:
            self._tick_in_shadow(counts)
        else:
            self._tick(stage, counts, means)
        self._weigh()

    def _tick(self, stage: RolloutStage, counts: Counts, means: Array) -> None:
        plain, firsts, keyed = np.zeros((3, 2, len(self.streams)), int)
        for number, (ours, theirs) in enumerate(self._event_counts(counts, alone=not stage.drawn)):
            plain[:, number] = ours.plain.candidate, theirs.plain.champion
            firsts[:, number] = self._first_events(ours, theirs, FIRST_EVENT << number)
            keyed[:, number] = ours.keyed.candidate, theirs.keyed.champion
        events = plain[0] + firsts[0]
        calls = np.maximum(counts.calls.candidate, events)
        if not stage.drawn:
            self.alone.tick(calls, events)
            return
        self.compared.tick(
            Events(stage.share, *plain),
            Events(self._keys.share, *firsts),
            Events(stage.share, *keyed),
            self._differences(means),
        )
        self._above.tick(calls, events)

    def _first_events(
        self, ours: EventCounts, theirs: EventCounts, purpose: int
    ) -> tuple[int, int]:
        """The first events of keys that are drawn, in both arms."""
        units = [unit for unit in ours.keys if unit.candidate]
        units += [unit for unit in theirs.keys if not unit.candidate]
        return self._keys.count(units, purpose)

    def _tick_in_shadow(self, counts: Counts) -> None:
        """Take a tick in shadow, where both run on the same rows.

        A row with an event is one at which the champion has it, or one at which the candidate alone
        does. If the candidate's rate is at most `worse` times the champion's, so is the rate of the
        latter: then they are as two arms of the same share.
        """
        alone = np.array([counts.shadow_events.get(each.candidate, 0) for each in self.streams])
        champions = np.array([theirs.plain.champion for _, theirs in self._event_counts(counts)])
        self._in_shadow.tick(Events(0.5, alone, champions))
        self.above_in_shadow.tick(np.maximum(counts.shadowed, alone), alone)

    def _weigh(self) -> None:
        worse = np.log(np.minimum(self.compared.peak, self._above.peak))
        # Two ways to be rolled back, each with half of what may go wrong.
        either = np.maximum(worse, np.log(self.alone.peak)) - log(2)
        self.log_worse = np.where(self._is_alone, either, worse)
        in_shadow = np.minimum(self._in_shadow.peak, self.above_in_shadow.peak)
        self.log_worse_in_shadow = np.log(in_shadow)


@final
class PromotionEvidence(StreamsEvidence):
    """What speaks for a promotion, in each stream.

    Calls with keys and those without may be of different kinds, such as customers' calls
    and probes. So the evidence is the least of both, and each is the mean of two ways to it.

    Args:
        policy: how the rollout goes.
        keys: what has counted of each key.
        done: of all kinds.

    Attributes:
        log_better: the logarithm of the evidence, (n,).
    """

    def __init__(self, policy: RolloutPolicy, keys: Keys, done: KeyShares) -> None:
        streams = [stream for guard in policy.guards for stream in promotion_streams(guard)]
        super().__init__(streams, [stream.guard.better for stream in streams], keys, done)
        self._done = done
        self._times = [EventTimes(stream.guard.better) for stream in streams]
        self._means = MarginEvidence(0.0, 1 / self._margins)
        self._with_keys = 0  # calls of the candidate
        self._without = 0
        floors = np.array([stream.guard.least for stream in streams])
        self._always = floors > 0
        if policy.whole:
            floors = np.array([stream.floor_alone(stream.guard.better) for stream in streams])
        self._has_floor = floors > 0
        self._below = Below(np.where(self._has_floor, floors, NO_FLOOR))
        self.log_better = np.zeros(len(streams))

    def tick(
        self, stage: RolloutStage, counts: Counts, means: Array, done: Sequence[CompleteKey]
    ) -> None:
        """Take the counts of a tick, with what is new of keys."""
        if stage.shadow:
            return
        both = self._event_counts(counts)
        if stage.drawn:
            for (ours, theirs), times in zip(both, self._times, strict=True):
                times.add(stage.share, ours.plain.candidate, theirs.plain.champion)
        events = np.array([ours.plain.candidate for ours, _ in both], int)
        self._compare_with_floors(stage, counts, events, done)
        self._without += counts.plain.candidate
        self._with_keys += counts.calls.candidate - counts.plain.candidate
        self._means.update(self._differences(means))
        self._weigh()

    def _compare_with_floors(
        self, stage: RolloutStage, counts: Counts, events: Array, done: Sequence[CompleteKey]
    ) -> None:
        """Compare the candidate alone with its floors: of its keys, each counts, whenever it was drawn.

        What its kind says of the champion's rate stands for a floor where all calls go to the
        candidate, and there each of its keys counts again.
        """
        whole = stage.share == 1
        compared = self._always | whole
        calls = np.maximum(counts.plain.candidate, events)
        self._below.take_calls(calls * compared, events * compared)
        own = [key for key in counts.done if key.candidate and self._keys.is_new(key.key, OWN)]
        self._take_keys(own, self._always)
        if whole:
            self._take_keys([key for key in done if key.candidate], ~self._always)

    def _take_keys(self, done: Sequence[CompleteKey], streams: Array) -> None:
        if done:
            self._below.take_keys(self._done.shares(done)[:, self._candidate].T, streams)

    def _weigh(self) -> None:
        times = np.array([times.log_better for times in self._times])
        without = np.stack([times, self._below.log_of_calls])
        with_keys = np.stack([self._means.log_below, self._below.log_of_keys])
        least = LEAST_PART * (self._without + self._with_keys)
        found = []
        for calls, ways in ((self._without, without), (self._with_keys, with_keys)):
            if calls and calls >= least:
                found.append(np.where(self._has_floor, log_mean(ways.T), ways[0]))
        if found:
            self.log_better = np.minimum.reduce(found)


@final
class EventEvidence:
    """The evidence of a guard of one kind of events: in shadow, and when both arms answer.

    Args:
        guard: what is watched.
        rollback: of all guards, in which it has one stream.
        promotion: likewise; none for disagreement, which is of shadow alone.
        shadow: whether the rollout begins in shadow.
    """

    def __init__(
        self, guard: Guard, rollback: RollbackEvidence, promotion: PromotionEvidence, shadow: bool
    ) -> None:
        self._guard = guard
        self._rollback = rollback
        self._promotion = promotion
        [self._row] = rollback.rows_of(guard)
        self._promotion_rows = promotion.rows_of(guard)
        self._shadow = shadow
        self._void = ""

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Note what could not be counted in a tick."""
        if self._guard.name in counts.missing:
            self._void = "it could not be counted, as its function raised an error"

    def weigh(self) -> GuardEvidence:
        """The evidence."""
        rollback, name, row = self._rollback, self._guard.name, self._row
        if name == DISAGREEMENTS:
            return GuardEvidence(name, log(rollback.above_in_shadow.peak[row]), None, pauses=True)
        worse = rollback.log_worse[row]
        if self._shadow:
            worse = max(worse, rollback.log_worse_in_shadow[row]) - log(2)
        better = self._promotion.log_better[self._promotion_rows].item()
        now = log(rollback.compared.value[row])
        return GuardEvidence(name, float(worse), better, now, void=self._void)


@final
class QuantileEvidence:
    """The evidence that calls are slower than quantiles of the champion's times.

    A rollback goes by the mean of the evidence of all quantiles, and a promotion by the least.
    """

    def __init__(
        self, guard: Guard, rollback: RollbackEvidence, promotion: PromotionEvidence, whole: bool
    ) -> None:
        self._guard = guard
        self._whole = whole
        self._rollback = rollback
        self._promotion = promotion
        self._rows = np.reshape(rollback.rows_of(guard), (-1, len(QUANTILES)))
        self._promotion_rows = promotion.rows_of(guard)
        self._now = np.zeros(len(self._rows))
        self._worse = np.zeros(len(self._rows))

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the evidence after a tick."""
        del counts
        if stage.shadow:
            return
        rollback = self._rollback
        values = rollback.compared.value if stage.drawn else rollback.alone.value
        self._now = log_mean(np.log(values[self._rows]))
        self._worse = np.maximum(self._worse, self._now)

    def weigh(self) -> GuardEvidence:
        """The evidence."""
        worse = float(self._worse.min())
        return GuardEvidence(
            name=self._guard.name,
            worse=worse - log(2) if self._whole else worse,
            better=float(self._promotion.log_better[self._promotion_rows].min()),
            now=float(self._now.min()),
        )
