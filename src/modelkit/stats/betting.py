"""Bets against a mean, which pay at most their stake on average where the mean is on the wrong side; pure.

A bet on a number x is a line: it pays 1 where x is the mean m of the hypothesis. So its mean payoff is
the line at the mean of x: at most 1 for all means up to m if the line rises, and for all from m if it
falls. Where every bet pays at least 0, wealth that is multiplied by what it pays is a non-negative
supermartingale, and so is a mixture of such wealths: by Ville's inequality it ever reaches 1/alpha with
a probability of at most alpha. docs/explanation/betting.md has the proof, and lists every bet of this library.

A line is given by its ends (`Bets`), where it may take the whole stake and x is mostly 0 or 1, or by
its slope (`log_staked`), where the stake is small.

Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting
    (arXiv:2010.09686).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.evidence import log_mean

# Rates and risks that are bet on, in units of the hypothesis.
ABOVE = np.array([1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0])
BELOW = np.array([0.9, 0.75, 0.6, 0.45, 0.3, 0.1, 0.0])
SUREST = 0.999  # the largest rate that is bet on
STAKES = np.array([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])  # of the largest slope
MOST_STAKED = 0.99  # of what would risk the whole stake
PRIOR_UNITS = 100.0  # units that a mixture of rates is worth
GRID = 1024  # means less one that a confidence sequence follows
AT_ONCE = 64  # numbers that it takes at once


@final
@dataclass(frozen=True)
class Bets:
    """Several bets, by their ends; every payoff is at least 0.

    Attributes:
        at_zero: what each pays for a unit of 0, (..., J).
        at_one: what each pays for a unit of 1, (..., J).
    """

    at_zero: Array
    at_one: Array

    @staticmethod
    def on_rates(claimed: Array, mean: Array | float) -> Bets:
        """Bets on rates (..., J) against a rate, (..., 1) or a number: each pays the likelihood ratio.

        They are against means of at most `mean` where the rate is higher, and else of at least it.
        """
        return Bets((1 - claimed) / (1 - mean), claimed / mean)

    @staticmethod
    def on_multiples(mean: Array | float, factors: Array) -> Bets:
        """The same on multiples (J,) of rates (...), each at most `SUREST`."""
        means = np.asarray(mean)[..., None]
        return Bets.on_rates(np.minimum(means * factors, np.maximum(SUREST, means)), means)

    def log_counts(self, ones: Array | int, zeros: Array | int) -> Array:
        """The logarithm of the gain of each bet, (..., J), from so many units (...) of 1 and of 0."""
        return _log_power(self.at_one, ones) + _log_power(self.at_zero, zeros)

    def log_values(self, values: Array) -> Array:
        """The same from units (..., n), each from 0 to 1."""
        at_zero = self.at_zero[..., None, :]
        pays = at_zero + values[..., None] * (self.at_one[..., None, :] - at_zero)
        with np.errstate(divide="ignore"):
            gains: Array = np.log(pays).sum(axis=-2)
        return gains


def _log_power(pays: Array, count: Array | int) -> Array:
    """The logarithm of what bets (..., J) pay for so many units (...): 0 for none, though a bet may lose all."""
    counts = np.asarray(count)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = np.where(counts, counts * np.log(pays), 0.0)
    return found


def log_staked(values: Array, mean: Array | float, slopes: Array) -> Array:
    """The logarithm of what bets of 1 + slope (x - mean) pay for each value.

    Args:
        values: of shape (..., n).
        mean: of the hypothesis, (..., 1) or a number.
        slopes: (..., J); negative ones are against means of at least `mean`.

    Returns:
        Shape (..., n, J).
    """
    return np.log1p((values - mean)[..., :, None] * slopes[..., None, :])


def log_split(share: float, ones: int, zeros: int) -> float:
    """The logarithm of the evidence that units are 1 with another probability than `share`.

    A mixture of all rates, by a beta distribution around the share, bets against it. Where the share
    is right, the wealth ever reaches 1/alpha with a probability of at most alpha. Nothing is random
    at a share of 0 or 1, and the evidence 0.
    """
    if not 0 < share < 1:
        return 0.0
    first = PRIOR_UNITS * share
    second = PRIOR_UNITS * (1 - share)
    expected = ones * log(share) + zeros * log(1 - share)
    return _log_beta(first + ones, second + zeros) - _log_beta(first, second) - expected


def _log_beta(first: float, second: float) -> float:
    return lgamma(first) + lgamma(second) - lgamma(first + second)


@final
class MarginEvidence:
    """Evidence about the mean of differences, on both sides of a margin, from their first on.

    Args:
        margin: from 0 to below 1.
        largest: the largest difference that there can be, above the margin; the least is -1. It may
            be an array (...), where several means are followed.

    Raises:
        ValueError: for another margin.
    """

    def __init__(self, margin: float, largest: Array | float = 1.0) -> None:
        if not 0 <= margin < 1:
            raise ValueError(f"a margin of losses is from 0 to below 1, not {margin!r}")
        self._margin = margin
        down = STAKES * MOST_STAKED / (np.asarray(largest)[..., None] - margin)
        up = np.broadcast_to(STAKES * MOST_STAKED / (1 + margin), down.shape)
        self._slopes = np.concatenate([up, -down], axis=-1)
        self._logs = np.zeros(self._slopes.shape)

    def update(self, differences: Array) -> None:
        """Take differences, shape (..., n).

        Raises ValueError for one beyond -1 to 1, or NaN.
        """
        if not np.all(np.abs(differences) <= 1):
            raise ValueError("losses are from 0 to 1, so their differences from -1 to 1")
        doubles = np.asarray(differences, np.float64)
        self._logs += log_staked(doubles, self._margin, self._slopes).sum(axis=-2)

    @property
    def log_above(self) -> Array:
        """The logarithm of the evidence that the mean is above the margin, shape (...)."""
        return log_mean(self._logs[..., : len(STAKES)])

    @property
    def log_below(self) -> Array:
        """The logarithm of the evidence that the mean is below the margin, shape (...)."""
        return log_mean(self._logs[..., len(STAKES) :])


@final
class ConfidenceSequence:
    """An interval for the mean of losses in [0, 1] that may be looked at after every loss.

    Where every loss has the same mean given the past, all the intervals ever shown hold it together
    with a probability of at least 1 - alpha. Once the mean changes, they come to exclude every
    value there is.

    A mean m is rejected once either of two bettors against it, one on each side, has multiplied its
    stake by 2 / alpha (hedged capital). The wealth of the first falls in m and the wealth of the
    second rises, so the means that are kept are an interval. It is followed on a grid of 1,025
    means, finer near 0 and 1, and its ends are rounded outward. Means once rejected are not
    followed.

    Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
        theorem 3.
    """

    changing = ("_alive", "_capital", "_sums")
    __slots__ = (*changing, "alpha")

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        # Points of the grid: from the first to before the second.
        self._alive = np.array([0, GRID + 1])
        # Logarithms of the wealth of the two bettors.
        self._capital = np.zeros((2, GRID + 1))
        # The number of losses; 1/2 + their sum; 1/4 + squares about the mean at the time.
        self._sums = np.array([0.0, 0.5, 0.25])

    def update(self, losses: Array) -> None:
        """Take losses, shape (n,), in the order in which they came."""
        doubles = np.asarray(losses, np.float64)
        for start in range(0, len(doubles), AT_ONCE):
            end = start + AT_ONCE
            self._take(doubles[start:end])

    def _take(self, losses: Array) -> None:
        stakes = self._stakes(losses)
        first, last = self._alive.tolist()
        if first >= last:
            return
        means = _grid()[first:last]
        capital = self._capital[:, first:last]
        capital += _log_gains(losses, stakes[:, None], means)
        rejected = capital >= log(2 / self.alpha)
        too_low, too_high = rejected.sum(axis=1).tolist()
        self._alive[0] = first + too_low
        self._alive[1] = last - too_high

    def _stakes(self, losses: Array) -> Array:
        """The stake on each loss, (n,), from the losses before it."""
        n = len(losses)
        count, total, squares = self._sums
        counts = count + np.arange(1, n + 1)
        after = counts + 1
        totals = total + np.cumsum(losses)
        means = totals / after
        apart = np.square(losses - means)
        spread = np.cumsum(np.concatenate([np.array([squares]), apart]))
        self._sums[:] = counts[-1], totals[-1], spread[-1]
        variance = spread[:-1] / counts
        room = variance * counts * np.log(after)
        odds = 2 * log(2 / self.alpha)
        stakes: Array = np.sqrt(odds / room)
        return stakes

    def interval(self) -> tuple[float, float] | None:
        """The means that are left; None where no single mean fits the losses: it has changed."""
        first, last = self._alive.tolist()
        if first >= last:
            return None
        means = _grid().tolist()
        return means[max(first - 1, 0)], means[min(last, GRID)]


def _log_gains(losses: Array, stakes: Array, means: Array) -> Array:
    """The logarithms of the gains of both bettors against each mean, (2, means)."""
    with np.errstate(divide="ignore"):
        most_up = 0.5 / means
        most_down = 0.5 / (1 - means)
    up = np.minimum(stakes, most_up)
    down = np.minimum(stakes, most_down)
    gaps = losses[:, None] - means
    both = np.stack([up, -down]) * gaps
    gains: Array = np.log1p(both).sum(axis=1)
    return gains


def _grid() -> Array:
    """Means from 0 to 1 that are apart in proportion to the deviation of a 0/1 loss."""
    angles = np.arange(GRID + 1) * (np.pi / 2 / GRID)
    means: Array = np.square(np.sin(angles))
    return means
