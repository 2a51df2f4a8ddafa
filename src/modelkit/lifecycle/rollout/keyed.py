"""What is counted of keys, which stay in an arm for as long as the share is the same; pure.

The arm of a key is drawn once, so a key counts once: by its first event, or by the mean of its
calls. But the keys that fail often are used up sooner in the worse arm, so that the first events
of the better one come late; docs/rollout_guarantees.md says what is done about it.
"""

from __future__ import annotations

from math import exp
from typing import final

from modelkit._internal.arrays import Array
from modelkit.lifecycle.rollout.arms import Events, Worse
from modelkit.lifecycle.rollout.counts import Unit
from modelkit.lifecycle.rollout.routing import limit_of
from modelkit.stats.betting import MarginEvidence
from modelkit.stats.evidence import MOST_LOG_GAIN

MOST_KEYS = 100_000  # with an event, that are remembered; then keys are counted no more
ON_MEANS = 0.1  # of the stake of a rollback


@final
class FirstOfKeys:
    """Lets each key through once, of any number of keys up to `MOST_KEYS`."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return len(self._known) >= MOST_KEYS

    def take(self, units: tuple[Unit, ...]) -> tuple[int, int]:
        """How many of these keys are new: in the candidate, and in the champion."""
        arms = [in_candidate for key, in_candidate in units if self.is_new(key)]
        return sum(arms), len(arms) - sum(arms)

    def is_new(self, key: int) -> bool:
        """Let a key through, or not."""
        if key in self._known or self.full:
            return False
        self._known.add(key)
        return True


@final
class FreshKeys:
    """The keys whose arms are a draw: all of them at first, and where the share rises, the champion's.

    What was seen of a key of the champion says only that it was not below the old share, so whether
    it is below the new one is drawn anew. A key of the candidate stays there, and is drawn no more.

    Attributes:
        share: of the candidate, among these keys.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self._share = 0.0  # among all keys
        self._limit = 0
        self._firsts = FirstOfKeys()

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return self._firsts.full

    def enter(self, share: float) -> bool:
        """Go on with a share of all keys, or draw anew.

        Returns False for a share of before, whose counts come late: its keys count no more.
        """
        if share <= self._share:
            return share == self._share
        before = self._share
        self._limit = limit_of(before) if share < 1 else 0  # at 1 nothing is drawn: all count
        self._share = share
        self._firsts = FirstOfKeys()
        self.share = (share - before) / (1 - before)
        return True

    def is_new(self, key: int) -> bool:
        """Whether the arm of a key was drawn, and it did not come since."""
        return key >= self._limit and self._firsts.is_new(key)

    def take(self, units: tuple[Unit, ...]) -> tuple[int, int]:
        """How many of these keys are drawn, and came never since: in both arms."""
        arms = [in_candidate for key, in_candidate in units if self.is_new(key)]
        return sum(arms), len(arms) - sum(arms)


@final
class WorseOfKeys:
    """The evidence that the candidate's risk is above the margin, where calls have keys or none.

    Most of the stake is on events: the evidence is the lower of that of first events, which has the
    guarantee, and that of all events. Calls without a key are in both. The rest is on the means of
    keys, which tell where nearly every key has an event at once, such as a slow answer. See
    `arms.Worse`.
    """

    def __init__(self, margin: float) -> None:
        self.peak = 1.0
        self._firsts = Worse(margin)
        self._all = Worse(margin)
        self._means = MarginEvidence(0.0)

    @property
    def value(self) -> float:
        """The evidence now; about 1 where there is none."""
        events = min(self._firsts.value, self._all.value)
        return (1 - ON_MEANS) * events + ON_MEANS * exp(min(self._means.log_above, MOST_LOG_GAIN))

    def tick(self, plain: Events, firsts: Events, events: Events, means: Array) -> None:
        """Take a tick.

        Args:
            plain: the events of calls without a key.
            firsts: the first events of keys.
            events: all events of calls with a key.
            means: of keys that are done, the differences between the arms, shape (n,).
        """
        self._firsts.tick(plain, firsts)
        self._all.tick(plain, events)
        if len(means):
            self._means.update(means)
        self.peak = max(self.peak, self.value)


@final
class Pairing:
    """Makes differences of the losses of two arms, in the order in which labels arrive.

    Each is a loss of the candidate less the mean of the champion's losses since the candidate's
    last one.
    """

    def __init__(self) -> None:
        self._total = 0.0
        self._count = 0

    def take(self, loss: float, *, candidate: bool) -> float | None:
        """The difference that a loss completes, if it does."""
        if not candidate:
            self._total += loss
            self._count += 1
            return None
        if not self._count:
            return None
        before = self._total / self._count
        self._total = 0.0
        self._count = 0
        return loss - before
