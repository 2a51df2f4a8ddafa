"""Losses as their labels come: evidence that the model is worse than it was, and its loss now.

Losses lie in [0, 1] and are taken in the order in which their labels arrive. `u` is the highest
that the model's risk was, as far as held-out rows tell, plus a tolerance. The hypothesis is that
each loss, given the losses before it, has a mean of at most u. A bet multiplies its stake by 1 +
lambda (loss - u), which then gains nothing on average: an e-process (Podkopaev and Ramdas,
arXiv:2110.06177). With a probability of at most delta, u itself is too low.
"""

from __future__ import annotations

from math import log, sqrt
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.stats.betting import log_staked

GROWTH = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
LOSS_WEIGHTS = np.full(len(GROWTH), 1 / len(GROWTH))
GRID = 1024
LOSSES_AT_ONCE = 64  # losses that are taken at once


def risk_bound(n: int, total: float, squares: float, delta: float, *, binary: bool) -> float:
    """An upper bound on the mean of n losses in [0, 1].

    It is too low with a probability of at most delta. `total` is the sum of the losses and
    `squares` of their squares. Clopper-Pearson where all are 0 or 1 (`binary`); otherwise the
    empirical Bernstein bound (Maurer and Pontil 2009, theorem 4).
    """
    with importing("scipy", "a bound on the loss", "drift"):
        from scipy.special import betainccinv

    if n < 2 or total >= n:
        return 1.0
    if binary:
        return float(betainccinv(total + 1, n - total, delta))
    mean = total / n
    apart = max(squares - total * mean, 0.0)
    variance = apart / (n - 1)
    asked = log(2 / delta)
    deviation = sqrt(2 * variance * asked / n)
    beyond = 7 * asked / (3 * (n - 1))
    return min(mean + deviation + beyond, 1.0)


def loss_bets(u: float) -> Array:
    """The lambdas of six bets against a mean of at most u > 0, of weights LOSS_WEIGHTS.

    The small lambdas find small changes.
    """
    variance = u * (1 - u)
    lambdas = GROWTH / max(variance, 1e-12)
    return np.minimum(lambdas, 0.9 / u)


def loss_increments(losses: Array, u: float) -> Array:
    """The logarithm of each bet's gain over a micro-batch of losses, (6,)."""
    gains: Array = log_staked(losses, u, loss_bets(u)).sum(axis=0)
    return gains


@final
class ConfidenceSequence:
    """An interval for the mean of losses in [0, 1] that may be looked at after every loss.

    Where every loss has the same mean given the past, all the intervals ever shown hold it together
    with a probability of at least 1 - alpha. Once the mean changes, they come to exclude every
    value there is.

    A mean m is rejected once either of two bettors against it, one on each side, has multiplied its
    stake by 2 / alpha (hedged capital). The wealth of the first falls in m and that of the second
    rises, so the means that are kept are an interval. It is followed on a grid of 1,025 means,
    finer near 0 and 1, and its ends are rounded outward. Means once rejected are not followed.

    Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
        theorem 3.
    """

    changing = ("_alive", "_capital", "_sums")
    __slots__ = ("_alive", "_capital", "_sums", "alpha")

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
        for start in range(0, len(doubles), LOSSES_AT_ONCE):
            end = start + LOSSES_AT_ONCE
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
        before = np.array([squares])
        spread = np.cumsum(np.concatenate([before, apart]))
        self._sums[:] = counts[-1], totals[-1], spread[-1]
        variance = spread[:-1] / counts
        room = variance * counts * np.log(after)
        asked = 2 * log(2 / self.alpha)
        stakes: Array = np.sqrt(asked / room)
        return stakes

    def interval(self) -> tuple[float, float] | None:
        """The means that are left; None where no single mean fits the losses: it has changed."""
        first, last = self._alive.tolist()
        if first >= last:
            return None
        means = _grid().tolist()
        before = max(first - 1, 0)
        after = min(last, GRID)
        return means[before], means[after]


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
