"""The evidence of each guard, from the counts of one tick after another; pure.

A rollback goes by the first event of each key, which is right whatever keys are like: the arm of a
key is a draw. But the keys that fail often are used up sooner in the worse arm, so that first events
come late in the better one. So a rollback also needs the evidence of all events; and a promotion
does not go by first events at all, but by calls without keys, and by the share of the calls of each
key that were bad.
"""

from __future__ import annotations

from collections import defaultdict
from math import log
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.rollout.arms import Above, Below, Events, EventTimes, Worse
from modelkit.lifecycle.rollout.counts import Counts, Happened
from modelkit.lifecycle.rollout.decide import Weighed
from modelkit.lifecycle.rollout.guards import DISAGREEMENTS, Guard
from modelkit.lifecycle.rollout.keyed import FirstOfKeys, FreshKeys, Pairing, WorseOfKeys
from modelkit.lifecycle.rollout.policy import RolloutStage
from modelkit.stats.betting import SUREST, MarginEvidence
from modelkit.stats.evidence import log_mean

LEAST_PART = 0.05  # of the calls, below which those with or those without keys need no evidence


@final
class StreamEvidence:
    """The evidence of one kind of events.

    Args:
        name: of the kind.
        guard: its guard.
        whole: whether all calls go to the candidate at times.
        recorded: the champion's rate, where it is known by what the kind is: of calls above its
            90 % quantile, .1. It stands for a floor while all calls go to the candidate.
    """

    def __init__(self, name: str, guard: Guard, *, whole: bool, recorded: float = 0.0) -> None:
        self.worse = WorseOfKeys(guard.worse)
        self._name = name
        self._guard = guard
        self._keys = FreshKeys()
        self._times = EventTimes()
        self._to_worse: dict[float, Pairing] = defaultdict(Pairing)  # by share, as keys of
        self._to_better: dict[float, Pairing] = defaultdict(Pairing)  # another draw are others
        self._with_keys = 0  # calls of the candidate
        self._without = 0
        self._key_shares = MarginEvidence(0.0, largest=1 / guard.better)
        self._done = FreshKeys()
        self._own = FirstOfKeys()
        floor = guard.least
        self._above = Above(floor) if floor else None
        self._always_below = floor > 0
        most = floor or min(recorded * guard.worse, SUREST)
        self.alone = Above(most) if most and whole else None
        most = floor or (min(recorded * guard.better, SUREST) if whole else 0.0)
        self._below = Below(most) if most else None

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return self._keys.full

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the counts of a tick."""
        happened = counts.events.get(self._name, Happened())
        first, other = self._firsts_of(stage, happened)
        done = self._done_of(stage, counts)
        plain = happened.plain
        candidate = plain.candidate + first
        calls = max(counts.calls.candidate, candidate)
        if stage.drawn:
            self.worse.tick(
                Events(stage.share, plain.candidate, plain.champion),
                Events(self._keys.share, first, other),
                Events(stage.share, happened.keyed.candidate, happened.keyed.champion),
                _means(self._to_worse[stage.share], self._guard.worse, done),
            )
            self._times.add(Events(stage.share, plain.candidate, plain.champion))
            if self._above is not None:
                self._above.tick(calls, candidate)
        elif self.alone is not None and not stage.shadow:
            self.alone.tick(calls, candidate)
        if not stage.shadow:
            if self._always_below or stage.share == 1:
                self._take_own(happened.plain.candidate, counts)
            self._without += counts.plain.candidate
            self._with_keys += counts.calls.candidate - counts.plain.candidate
            differences = _means(self._to_better[stage.share], self._guard.better, done)
            if len(differences):
                self._key_shares.update(differences)

    def _firsts_of(self, stage: RolloutStage, happened: Happened) -> tuple[int, int]:
        """The first events of keys that are drawn, in both arms."""
        if not self._keys.enter(stage.share):
            return 0, 0
        return self._keys.take(happened.keys)

    def _done_of(self, stage: RolloutStage, counts: Counts) -> list[tuple[float, bool]]:
        """Of the drawn keys that are done, the share of the calls that were bad, and the arm.

        Several processes may have calls of a key, whose first ones then count.
        """
        if not self._done.enter(stage.share):
            return []
        return [
            (done.bad.get(self._name, 0.0), done.candidate)
            for done in counts.done
            if self._done.is_new(done.key)
        ]

    def _take_own(self, events: int, counts: Counts) -> None:
        """Compare the candidate alone with the floor: of its keys, each counts, whenever it was drawn."""
        if self._below is None:
            return
        self._below.take_calls(max(counts.plain.candidate, events), events)
        own = [
            done.bad.get(self._name, 0.0)
            for done in counts.done
            if done.candidate and self._own.is_new(done.key)
        ]
        if own:
            self._below.take_keys(np.array(own))

    @property
    def log_worse(self) -> float:
        """The logarithm of the evidence for a rollback, with a rate that matters."""
        found = log(self.worse.peak)
        if self._above is not None:
            found = min(found, log(self._above.peak))
        if self.alone is not None:
            # Two ways to be rolled back, each with half of what may go wrong.
            return max(found, log(self.alone.peak)) - log(2)
        return found

    @property
    def log_better(self) -> float:
        """The logarithm of the evidence for a promotion.

        Calls with keys and those without may be of different kinds, such as those of customers and
        of probes. So the evidence is the least of both, and each is the mean of two ways to it.
        """
        without = [self._times.log_better(self._guard.better)]
        with_keys = [self._key_shares.log_below]
        if self._below is not None:
            without.append(self._below.log_of_calls)
            with_keys.append(self._below.log_of_keys)
        least = LEAST_PART * (self._without + self._with_keys)
        found = []
        for calls, ways in ((self._without, without), (self._with_keys, with_keys)):
            if calls and calls >= least:
                found.append(log_mean(np.array(ways)))
        return min(found, default=0.0)


@final
class Paired:
    """The evidence of events in shadow, where both run on the same rows.

    A row with an event is one at which the champion has it, or one at which the candidate alone
    does. If the candidate's rate is at most `worse` times the champion's, so is that of the latter:
    then they are as two arms of the same share.
    """

    def __init__(self, guard: Guard) -> None:
        self._worse = Worse(guard.worse)
        self._above = Above(guard.least) if guard.least else None

    def tick(self, name: str, counts: Counts) -> None:
        """Take the counts of a tick in shadow."""
        alone = counts.shadow_events.get(name, 0)
        champion = counts.events.get(name, Happened()).plain.champion
        self._worse.tick(Events(0.5, alone, champion))
        if self._above is not None:
            self._above.tick(max(counts.shadowed, alone), alone)

    @property
    def log_worse(self) -> float:
        """The logarithm of the evidence for a rollback, with a rate that matters."""
        found = log(self._worse.peak)
        return found if self._above is None else min(found, log(self._above.peak))


def _means(pairing: Pairing, allowed: float, done: list[tuple[float, bool]]) -> Array:
    """Of each key, the share of its calls that were bad, in the order in which they are done.

    It is compared with `allowed` times the mean of the champion's since the last of the
    candidate's, in units of `allowed`, which needs to know no rate.
    """
    found = []
    for bad, in_candidate in done:
        loss = bad / allowed if in_candidate else bad
        difference = pairing.take(loss, candidate=in_candidate)
        if difference is not None:
            found.append(difference)
    return np.array(found)


@final
class EventEvidence:
    """The evidence of a guard of one kind of events: in shadow, and when both arms answer."""

    def __init__(self, guard: Guard, *, shadow: bool, whole: bool) -> None:
        self._guard = guard
        self._stream = StreamEvidence(guard.name, guard, whole=whole)
        self._in_shadow = Paired(guard) if shadow else None
        self._void = ""

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return self._stream.full

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the counts of a tick."""
        name = self._guard.name
        if name in counts.missing:
            self._void = "it could not be counted, as its function raised an error"
        self._stream.tick(stage, counts)
        if self._in_shadow is not None and stage.shadow:
            self._in_shadow.tick(name, counts)

    def weighed(self) -> Weighed:
        """The evidence."""
        worse = self._stream.log_worse
        if self._in_shadow is not None:
            worse = max(worse, self._in_shadow.log_worse) - log(2)
        return Weighed(
            name=self._guard.name,
            worse=worse,
            better=self._stream.log_better,
            now=log(self._stream.worse.value),
            void=self._void,
            full=self.full,
        )


@final
class DisagreementEvidence:
    """The evidence that, in shadow, more calls are answered otherwise than is allowed."""

    full = False

    def __init__(self, guard: Guard) -> None:
        self._above = Above(guard.least)

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the counts of a tick."""
        if stage.shadow:
            events = counts.shadow_events.get(DISAGREEMENTS, 0)
            self._above.tick(max(counts.shadowed, events), events)

    def weighed(self) -> Weighed:
        """The evidence."""
        return Weighed(DISAGREEMENTS, log(self._above.peak), None, pauses=True)
