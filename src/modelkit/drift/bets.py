"""What bets on p-values pay, and the bettor: its wealth, its thresholds, and alarms that come again.

The mean of each bet over 64 slots of equal width is exactly one, so that bets gain one on average
where p-values are uniform. Bets look at p-values only, never at counts.

Source: Vovk, Testing randomness online (arXiv:1906.09256).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple, Protocol, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.evidence import Evidence, Guarantee, stake

SLOTS = 64  # of equal width, which a p-value falls into
ROW_SHIFTS = (0.12, 0.25, 0.5, 1.0, 2.0)  # that bets on location are best for, in deviations
ROW_SPREADS = (0.6, 0.8, 0.9, 1.1, 1.25, 1.6)  # that bets on scale are best for, in deviations
TILTS = (0.4, 0.2, 0.1)  # of a bet on a polynomial
GROUP = 4  # slots
GROUP_RATES = (1.5, 3.0, 0.3)  # of a bet on a group
ENDS = ((1, 4.0), (1, 12.0), (2, 6.0))  # slots at either end, and the rate of a bet on them
UNIT_SHIFTS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
UNIT_SPREADS = (2.5, 1.5, 0.5, 0.25)
UNIT_WEIGHTS = (1.0,) * 14 + (0.5, 0.5)  # of the bets on units, in this order
TINY_LEVEL = 1e-300  # keeps the threshold of a feature without any share of alpha finite
FIRST_PART = 0.8  # of a feature's share of alpha: for its first alarm
LATER_PART = 1 - FIRST_PART  # for all others together, by the steps at which they may be armed
# Lanes of a matrix product at once: larger ones wake the threads of the BLAS, which go on spinning.
PRODUCT_LANES = 32

Table = tuple[Array, Array]  # the logarithms of the gains, (64, bets), and the weights, (bets,)


class Gain(NamedTuple):
    """What bets gain in one step: see `Evidence.step`."""

    logs: Array
    factors: Array
    values: Array


@cache
def bets_on_rows() -> Table:
    """Bets on shifts and spreads, on slopes of the density, on groups of slots, and on either end.

    A share that few values have, such as missing ones, is at an end, where a bet may multiply by 12.
    """
    groups = [(start, GROUP, rate) for start in range(0, SLOTS, GROUP) for rate in GROUP_RATES]
    ends = [(start, n, rate) for n, rate in ENDS for start in (0, SLOTS - n)]
    shared = (
        (0.3, _normal_ratios(ROW_SHIFTS, ROW_SPREADS)),
        (0.2, _slopes()),
        (0.4, [_inside(*group) for group in groups]),
        (0.1, [_inside(*end) for end in ends]),
    )
    pays = [bet for _, bets in shared for bet in bets]
    weights = [share / len(bets) for share, bets in shared for _ in bets]
    return _fair(np.array(pays)), np.array(weights)


def _normal_ratios(shifts: Sequence[float], spreads: Sequence[float]) -> list[Array]:
    """Ratios of normal densities at the normal quantile of p: of shifts each way, and of spreads."""
    normal = NormalDist()
    x = np.array([normal.inv_cdf((slot + 0.5) / SLOTS) for slot in range(SLOTS)])
    of_shifts = [np.exp(sign * shift * x) for shift in shifts for sign in (1, -1)]
    return of_shifts + [np.exp(x * x * (1 - spread**-2) / 2) for spread in spreads]


def _slopes() -> list[Array]:
    """One and a part of a polynomial of p: location, scale and skewness, each way."""
    x = (np.arange(SLOTS) + 0.5) / SLOTS
    location = 2 * x - 1
    scale = 6 * x * x - 6 * x + 1
    skewness = 20 * x**3 - 30 * x * x + 12 * x - 1
    pays = []
    for shape in (location, scale, skewness):
        centred = shape - shape.mean()
        for tilt in (centred, -centred):
            most = -tilt.min()  # that a bet may stake on it
            pays += [1 + part * tilt / most for part in TILTS]
    return pays


def _inside(start: int, slots: int, rate: float) -> Array:
    """A bet that pays `rate` in some slots, and the same in all others."""
    at = np.arange(SLOTS)
    inside = (start <= at) & (at < start + slots)
    share = slots / SLOTS
    return np.where(inside, rate, (1 - rate * share) / (1 - share))


@cache
def bets_on_units() -> Table:
    """Twelve bets on shifts, and four on spreads."""
    weights = np.array(UNIT_WEIGHTS)
    return _fair(np.array(_normal_ratios(UNIT_SHIFTS, UNIT_SPREADS))), weights / weights.sum()


@cache
def bets_on_tails() -> Table:
    """The six bets on units that pay the less, the larger the p-value is."""
    down = bets_on_units()[0][:, 1 : 2 * len(UNIT_SHIFTS) : 2]
    return down, np.full(len(UNIT_SHIFTS), 1 / len(UNIT_SHIFTS))


def _fair(pays: Array) -> Array:
    table = pays.T
    logs: Array = np.log(table / table.mean(axis=0))
    return logs


def count_slots(p: Array, absent: Array | None) -> Array:
    """The number of p-values (rows, lanes) of each lane in each slot, int64 (lanes, 64).

    `absent` says where there is none; None where there are all.
    """
    slot = (p * SLOTS).astype(np.int64)
    slot = np.minimum(slot, SLOTS - 1)
    if absent is not None:
        slot[absent] = SLOTS
    width = SLOTS + 1
    lanes = p.shape[1]
    counts = np.bincount(
        (slot + np.arange(0, lanes * width, width)).ravel(), minlength=lanes * width
    )
    return counts.reshape(lanes, width)[:, :SLOTS]


def gains(slots: Array, table: Array) -> Array:
    """The logarithm of what each bet gains in each block: (blocks, lanes, 64) to (blocks, lanes, bets)."""
    blocks, lanes, _ = slots.shape
    out = np.empty((blocks, lanes, table.shape[1]))
    # Block by block: how a product is rounded depends on its shape.
    for start in range(0, lanes, PRODUCT_LANES):
        part = slice(start, start + PRODUCT_LANES)
        np.matmul(slots[:, part], table, out=out[:, part])
    return out


class Bets(Protocol):
    """Bets with these weights, of which `blocks` are one step, on `lanes` scores of a feature."""

    weights: Array
    blocks: int
    lanes: int


@final
class Bettor:
    """The evidence of one kind about d features, and which of them it makes an alarm.

    A feature has several lanes, such as the scores of units, which share its level. `open` (d,) says
    which features may raise an alarm, `parts` (d,) has the part of its share of alpha that a feature's
    next alarm may use, and `won` (d,) what it had won when its evidence began anew, with a wealth of
    one. With "ever" a feature is closed by its alarm until it is armed again; with "arl" it goes on,
    at the same threshold.

    Args:
        bets: what is bet.
        levels: the share of alpha of each feature, (d,).
        guarantee: see `evidence`.
        horizon: for "arl", the members in which a level is the probability of a false alarm.
    """

    changing = ("evidence", "open", "parts", "won")

    def __init__(self, bets: Bets, levels: Array, guarantee: Guarantee, horizon: int) -> None:
        d = len(levels)
        self.lanes = bets.lanes
        self._blocks = bets.blocks
        self.evidence = Evidence(d * self.lanes, bets.weights, guarantee)
        self._levels = levels
        self._scale = self.lanes * (1 if guarantee == "ever" else horizon)
        self._has_share = levels > 0
        self._first = FIRST_PART if guarantee == "ever" else 1.0
        self.open = self._has_share.copy()
        self.parts = np.full(d, self._first)
        self.won = np.zeros(d)

    @property
    def parts(self) -> Array:
        """The part of its share of alpha that each feature's next alarm may use, (d,)."""
        return self._parts

    @parts.setter
    def parts(self, parts: Array) -> None:
        self._parts = parts
        self._wealth = self._scale / np.maximum(self._levels * parts, TINY_LEVEL)
        self._least = float(self._wealth.min())

    def level(self, j: int) -> float:
        """The share of alpha of each lane of feature number j, for its next alarm."""
        return float(self._levels[j] / self.lanes * self._parts[j])

    def armed(self, j: int) -> bool:
        """Whether the next alarm of a feature is not its first."""
        return bool(self._parts[j] != self._first)

    def step(self, gain: Gain) -> list[int]:
        """Bet; the numbers of the features that are an alarm now, which "ever" closes."""
        evidence = self.evidence
        evidence.step(*gain)
        if evidence.most < self._least:
            return []
        above = (self.by_feature(evidence.value).max(axis=1) >= self._wealth) & self.open
        if evidence.guarantee == "ever":
            self.open &= ~above
        crossed: list[int] = np.flatnonzero(above).tolist()
        return crossed

    def arm(self, j: int) -> None:
        """Let a feature raise another alarm, by evidence that begins anew."""
        evidence = self.evidence
        if evidence.guarantee == "ever":
            self.won[j] += self.by_feature(evidence.value)[j].max() - 1
            self.open[j] = self._has_share[j]
            parts = self._parts.copy()
            parts[j] = LATER_PART * stake(evidence.steps)
            self.parts = parts
        which = np.arange(len(self.open)) == j
        evidence.restart(np.repeat(which, self.lanes))

    def open_again(self, j: int) -> bool:
        """The same for a feature that its alarm has closed; whether it was."""
        closed = bool(self._has_share[j] and not self.open[j])
        if closed:
            self.arm(j)
        return closed

    def enough(self, wealth: Array) -> Array:
        """Mask (d,): features whose wealth (d,) is that of a first alarm, whether or not they alarmed."""
        least = self._levels * self._first
        above: Array = (wealth * least >= self._scale) & self._has_share
        return above

    def began(self) -> Array:
        """The number of the block at which the best bet of each lane began, (d, lanes)."""
        return self.by_feature(self.evidence.began() * self._blocks)

    def by_feature(self, values: Array) -> Array:
        """What lanes have, by feature, (d, lanes)."""
        return values.reshape(-1, self.lanes)
