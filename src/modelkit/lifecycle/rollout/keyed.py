"""What is counted of keys, which stay in an arm for as long as the share is the same; pure.

The arm of a key is drawn once, so a key counts once: by its first event, or by the mean of its
calls. But the keys that fail often are used up sooner in the worse arm, so the first events
of the better one come late; docs/explanation/rollout_proofs.md says what is done about it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.rollout.arms import Events, Worse
from modelkit.lifecycle.rollout.counts import CompleteKey, Unit
from modelkit.lifecycle.rollout.routing import limit_of
from modelkit.stats.betting import MarginEvidence
from modelkit.stats.evidence import MOST_LOG_GAIN

MOST_KEYS = 100_000  # that are remembered for each purpose; then keys are counted no more
ON_MEANS = 0.1  # of the stake of a rollback
# What a key counts for, once: for each draw of its arm, in the split and by all its calls; and once
# in the rollout, by all its calls below a floor, and by its loss.
SPLIT, DONE, OWN, LOSS = 1, 2, 4, 8
FIRST_EVENT = 16  # of the first kind, once for each draw; and twice as much of the next kind
IN_ALL = OWN | LOSS


@final
class Keys:
    """What has counted of each key, so it counts once; all evidence of a trial shares them.

    Keys whose arms are a draw are all of them at first, and where the share rises, the champion's.
    What was seen of a key of the champion says only that it was not below the old share, so whether
    it is below the new one is drawn again. A key of the candidate stays there, and is drawn no
    more.

    Attributes:
        share: of the candidate, among the keys that are drawn.
        drawn: whether the counts are of this draw, and not of an earlier one, whose keys came late.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self.drawn = True
        self._of_all = 0.0  # the share among all keys
        self._limit = 0
        self._counted: dict[int, int] = {}  # by key, the sum of its purposes
        self._numbers: Counter[int] = Counter()  # of keys, by purpose

    @property
    def full(self) -> bool:
        """Whether further keys do not count."""
        return max(self._numbers.values(), default=0) >= MOST_KEYS

    def enter(self, share: float) -> None:
        """Go on with a share of all keys; where it rises, draw the champion's keys again."""
        before = self._of_all
        self.drawn = share >= before
        if share <= before:
            return
        self._limit = limit_of(before) if share < 1 else 0  # at 1 nothing is drawn: all count
        self._of_all = share
        self.share = (share - before) / (1 - before)
        left = {key: counted & IN_ALL for key, counted in self._counted.items()}
        self._counted = {key: counted for key, counted in left.items() if counted}
        self._numbers = Counter({each: self._numbers[each] for each in (OWN, LOSS)})

    def is_new(self, key: int, purpose: int) -> bool:
        """Let a key count for a purpose: once, and only where its arm was drawn if that is for each draw."""
        if not purpose & IN_ALL and (key < self._limit or not self.drawn):
            return False
        counted = self._counted.get(key, 0)
        if counted & purpose or self._numbers[purpose] >= MOST_KEYS:
            return False
        self._counted[key] = counted | purpose
        self._numbers[purpose] += 1
        return True

    def count(self, units: Iterable[Unit], purpose: int) -> tuple[int, int]:
        """How many of these keys are new: in the candidate, and in the champion."""
        arms = [in_candidate for key, in_candidate in units if self.is_new(key, purpose)]
        return sum(arms), len(arms) - sum(arms)


@final
class WorseOfKeys:
    """The evidence that the candidate's risk is above each margin, (n,), where calls have keys or none.

    Most of the stake is on events: the evidence is the lower of two, of first events, which has the
    guarantee, and of all events. Calls without a key are in both. The rest is on the means of keys,
    which show it where nearly every key has an event at once, such as a slow answer. See
    `arms.Worse`.
    """

    def __init__(self, margins: Array) -> None:
        self.value = np.ones(len(margins))  # the evidence now; about 1 where there is none
        self.peak = np.ones(len(margins))
        self._firsts = Worse(margins)
        self._all = Worse(margins)
        self._means = MarginEvidence(0.0, np.ones(len(margins)))

    def tick(self, plain: Events, firsts: Events, events: Events, means: Array) -> None:
        """Take a tick.

        Args:
            plain: the events of calls without a key, (n,).
            firsts: the first events of keys, (n,).
            events: all events of calls with a key, (n,).
            means: of keys that are done, the differences between the arms, (n, keys).
        """
        self._firsts.tick(plain, firsts)
        self._all.tick(plain, events)
        self._means.update(means)
        of_events = np.minimum(self._firsts.value, self._all.value)
        of_means = np.exp(np.minimum(self._means.log_above, MOST_LOG_GAIN))
        self.value = (1 - ON_MEANS) * of_events + ON_MEANS * of_means
        self.peak = np.maximum(self.peak, self.value)


@final
class Pairing:
    """Compares each value of the candidate with the champion's since its last one, in their order.

    Values are numbers, or arrays of one shape.
    """

    def __init__(self) -> None:
        self._total: Array | float = 0.0
        self._count = 0

    def take(self, value: Array | float, *, candidate: bool) -> Array | float | None:
        """The mean of the champion's values since the last one of the candidate, if this is another."""
        if not candidate:
            self._total = self._total + value
            self._count += 1
            return None
        if not self._count:
            return None
        mean = self._total / self._count
        self._total = 0.0
        self._count = 0
        return mean


@final
class KeyShares:
    """The shares of calls that were bad, of keys that are done, by the draw of their arm.

    Args:
        kinds: of events.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self.places = {kind: place for place, kind in enumerate(kinds)}
        self._pairings: dict[float, Pairing] = defaultdict(Pairing)  # by share

    def shares(self, done: Sequence[CompleteKey]) -> Array:
        """The share of the calls of each key that were bad, by kind: (keys, kinds)."""
        found = np.zeros((len(done), len(self.places)))
        for row, key in zip(found, done, strict=True):
            for kind, share in key.bad.items():
                if kind in self.places:
                    row[self.places[kind]] = share
        return found

    def means(self, share: float, done: Sequence[CompleteKey]) -> Array:
        """Of each key of the candidate, its shares, and the means of the champion's keys before it.

        Those were drawn with it, and came since the candidate's last one, in the order in which keys
        are done. Shape (2, keys, kinds).
        """
        pairing = self._pairings[share]
        found = []
        for row, key in zip(self.shares(done), done, strict=True):
            before = pairing.take(row, candidate=key.candidate)
            if before is not None:
                found += [row, before]
        return np.reshape(np.array(found), (-1, 2, len(self.places))).swapaxes(0, 1)
