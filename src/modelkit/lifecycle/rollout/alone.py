"""Is a rate above a floor, or below? Evidence from one arm alone, from counts; pure.

A bet on the rate b f against f multiplies its stake by b for an event, and by (1 - b f) / (1 - f)
for a unit without one. Its mean is linear in the rate and 1 at f, so it is at most 1 for every rate
up to f where b > 1, and for every rate from f where b < 1. Of a key, the share of its calls that had
an event counts in between.
"""

from __future__ import annotations

from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.rollout.arms import BETTER, EVENLY, WORSE
from modelkit.stats.evidence import MOST_LOG_GAIN, Evidence

SUREST = 0.999  # the largest rate that is bet on


def stake_factors(floor: float, bets: Array) -> tuple[Array, Array]:
    """What a unit with an event, and one without, multiply the stake of each bet by."""
    claimed = np.minimum(floor * bets, max(SUREST, floor))
    return claimed / floor, (1 - claimed) / (1 - floor)


def log_gains_alone(units: int, events: int, floor: float, bets: Array) -> Array:
    """The logarithm of the gain of each bet on `floor * bets`, from units, `events` of them bad."""
    hit, miss = stake_factors(floor, bets)
    gains = np.zeros(len(bets))
    with np.errstate(divide="ignore"):
        if events:
            gains += events * np.log(hit)
        if units > events:
            gains += (units - events) * np.log(miss)
    return gains


def log_gains_shares(shares: Array, floor: float, bets: Array) -> Array:
    """The same from units that are bad in parts, shape (n,), each from 0 to 1."""
    hit, miss = stake_factors(floor, bets)
    with np.errstate(divide="ignore"):
        gains: Array = np.log(miss + shares[:, None] * (hit - miss)).sum(axis=0)
    return gains


@final
class Above:
    """The evidence that a rate is above a floor, now or since some time; see `arms.Worse`."""

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self._evidence = Evidence(1, EVENLY)

    def tick(self, units: int, events: int) -> None:
        """Take the counts of a tick."""
        gains = log_gains_alone(units, events, self.floor, WORSE)
        gains = np.minimum(gains, MOST_LOG_GAIN)
        self._evidence.step(gains[None, :], np.exp(gains)[None, :], np.array([1]))

    @property
    def value(self) -> float:
        """The evidence now; about 1 where there is none."""
        return float(self._evidence.value[0])

    @property
    def peak(self) -> float:
        """The largest evidence there was."""
        return float(self._evidence.peak[0])


@final
class Below:
    """The evidence that a rate is below a floor: of calls, and of keys."""

    def __init__(self, floor: float) -> None:
        self.floor = floor
        self._calls = np.zeros(len(BETTER))
        self._keys = np.zeros(len(BETTER))

    def take_calls(self, units: int, events: int) -> None:
        """Take calls without keys."""
        self._calls += log_gains_alone(units, events, self.floor, BETTER)

    def take_keys(self, shares: Array) -> None:
        """Take the shares of the calls of keys that were bad."""
        self._keys += log_gains_shares(shares, self.floor, BETTER)

    @property
    def parts(self) -> tuple[Array, Array]:
        """The logarithm of the wealth of each bet: on calls, and on keys."""
        return self._calls, self._keys
