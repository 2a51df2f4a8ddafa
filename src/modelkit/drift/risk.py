"""Labels have come: is the model worse than it was, and how good is it now?

Losses lie in [0, 1] and are taken in the order in which their labels arrive. `u` is the most that
the model's risk was, as far as held-out rows tell, plus a tolerance. The hypothesis is that each
loss, given what came before, has a mean of at most u. A bet multiplies its stake by 1 + lambda
(loss - u), which then gains nothing on average: an e-process (Podkopaev and Ramdas,
arXiv:2110.06177). With a probability of at most delta, u itself is too low.
"""

from __future__ import annotations

from math import log, sqrt
from typing import final

import numpy as np

from modelkit.cast import Array
from modelkit.errors import importing

GROWTH = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
WEIGHTS = np.full(len(GROWTH), 1 / len(GROWTH))
GRID = 1024
BLOCK = 64  # losses that are taken at once


def risk_bound(n: int, total: float, squares: float, delta: float, *, binary: bool) -> float:
    """An upper bound on the mean of n losses in [0, 1], which is too low with a probability of at most delta.

    `total` is the sum of the losses and `squares` of their squares. Clopper-Pearson where all are 0
    or 1 (`binary`); otherwise the empirical Bernstein bound (Maurer and Pontil 2009, theorem 4).
    """
    with importing("scipy", "a bound on the loss", "drift"):
        from scipy.special import betainccinv

    if n < 2 or total >= n:
        return 1.0
    if binary:
        return float(betainccinv(total + 1, n - total, delta))
    mean, few = total / n, log(2 / delta)
    variance = max(squares - total * mean, 0.0) / (n - 1)
    return min(mean + sqrt(2 * variance * few / n) + 7 * few / (3 * (n - 1)), 1.0)


def bets(u: float) -> Array:
    """The lambdas of six bets against a mean of at most u > 0, of weights WEIGHTS; the small ones see small changes."""
    return np.minimum(GROWTH / max(u * (1 - u), 1e-12), 0.9 / u)


def increments(losses: Array, u: float) -> Array:
    """The logarithm of what each bet multiplies its stake by over a micro-batch of losses, shape (6,)."""
    gains: Array = np.log1p(np.outer(losses - u, bets(u))).sum(axis=0)
    return gains


@final
class ConfidenceSequence:
    """An interval for the mean of losses in [0, 1] that may be looked at after every loss (betting; hedged capital).

    Where every loss has the same mean given the past, all the intervals ever shown hold it together
    with a probability of at least 1 - alpha. Once the mean changes, they come to exclude every
    value there is.

    A mean m is rejected once either of two bettors against it, one on each side, has multiplied its
    money by 2 / alpha. The money of the first falls in m and that of the second rises, so what is
    kept is an interval. It is followed on a grid of 1,025 means, finer near 0 and 1, and its ends
    are rounded outward. Means once rejected are not followed.

    Source: Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting,
        theorem 3.
    """

    __slots__ = ("_alive", "_capital", "_sums", "alpha")

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self._alive = np.array(
            [0, GRID + 1]
        )  # points of the grid from the first to before the second
        self._capital = np.zeros((2, GRID + 1))  # logarithms of the money of the two
        self._sums = np.array(
            [0.0, 0.5, 0.25]
        )  # losses; 1/2 + their sum; 1/4 + squares about the mean at the time

    def update(self, losses: Array) -> None:
        """Take losses, shape (n,), in the order in which they came."""
        for start in range(0, len(losses), BLOCK):
            self._take(np.asarray(losses[start : start + BLOCK], np.float64))

    def _take(self, losses: Array) -> None:
        stakes = self._stakes(losses)[:, None]
        first, last = (int(end) for end in self._alive)
        if first >= last:
            return
        means = _grid()[first:last]
        with np.errstate(divide="ignore"):
            up, down = (np.minimum(stakes, 0.5 / room) for room in (means, 1 - means))
        gaps = losses[:, None] - means
        capital = self._capital[:, first:last]
        capital += np.log1p(np.stack([up, -down]) * gaps).sum(axis=1)
        rejected = capital >= log(2 / self.alpha)
        self._alive[:] = first + np.count_nonzero(rejected[0]), last - np.count_nonzero(rejected[1])

    def _stakes(self, losses: Array) -> Array:
        """What to bet on each loss, from those before it."""
        count, total, squares = self._sums
        counts = count + np.arange(1, len(losses) + 1)
        totals = total + np.cumsum(losses)
        spread = np.cumsum(np.concatenate([[squares], np.square(losses - totals / (counts + 1))]))
        self._sums[:] = counts[-1], totals[-1], spread[-1]
        variance = spread[:-1] / counts
        stakes: Array = np.sqrt(2 * log(2 / self.alpha) / (variance * counts * np.log(counts + 1)))
        return stakes

    def interval(self) -> tuple[float, float] | None:
        """The means that are left, or None: no single mean fits the losses, it has changed."""
        first, last = (int(end) for end in self._alive)
        if first >= last:
            return None
        means = _grid()
        return float(means[max(first - 1, 0)]), float(means[min(last, GRID)])

    def state(self) -> dict[str, Array]:
        """Everything that changes, as arrays."""
        return {"alive": self._alive, "capital": self._capital, "sums": self._sums}

    def restore(self, state: dict[str, Array]) -> None:
        """Go on from `state()`, bit for bit."""
        self._alive, self._capital, self._sums = (
            state[name].copy() for name in ("alive", "capital", "sums")
        )


def _grid() -> Array:
    """Means from 0 to 1 that are apart in proportion to the deviation of a 0/1 loss."""
    means: Array = np.square(np.sin(np.arange(GRID + 1) * (np.pi / 2 / GRID)))
    return means
