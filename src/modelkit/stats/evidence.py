"""Evidence that may be looked at after every step, for ever: the recursion that all monitors share.

Each monitor makes J bets against its hypothesis. A bet that has multiplied its stake by exp(I) in a
step is restarted in every step with a small fresh stake, so a change is seen whenever it
comes.

* "ever": the stakes put in are g(0) + g(1) + ... = 1 in all. Where the hypothesis holds, the wealth
  is a non-negative supermartingale from 1, and by Ville's inequality it ever reaches 1/alpha with a
  probability of at most alpha.
* "arl": a stake of one for each row (Shiryaev-Roberts). Where the hypothesis holds, the mean number
  of rows until the wealth reaches A is at least A, and it reaches A within t rows with a
  probability of at most t/A.

docs/explanation/drift_proofs.md has the proofs. Sources: Shafer and Vovk, Game-Theoretic Foundations for
Probability and Finance; Shin, Ramdas and Rinaldo, E-detectors (arXiv:2203.03532).
"""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from modelkit._internal.arrays import Array

Guarantee = Literal["ever", "arl"]
UNSPENT = 1e-12  # of the stake, where rounding has eaten the rest
LEAST_WEALTH = 1e-300  # that a p-value is computed from
CAP = 1e150  # the wealth of a bet is held below it; an alarm came long before
# From this wealth of a monitor on its bets are held to the cap: none has more than this over its
# weight, far below 1e150.
NEAR_CAP = 1e100
# The largest logarithm of a gain in a step: CAP * exp(MOST_LOG_GAIN) is still a float. Wealth below
# what was won keeps all bounds.
MOST_LOG_GAIN = 345.0
LEAST_LOG = np.finfo(np.float64).min


def stake(step: Array | int) -> Array:
    """The share of the stake that is put in at a step; over all steps they sum to 0.99391.

    A quarter is for a change that was there from the start. Without it, and with less than 8 for the
    other constant, most of the stake would be spent on the first few steps.
    """
    later: Array = 1.5 / ((step + 8) * np.log(step + 8) ** 2)
    return later + 0.25 * (step == 0)


@final
class Evidence:
    """The wealth of `monitors` monitors that make the same `len(weights)` bets.

    `weights` sum to one. `value` is the wealth of each monitor now, `most` the largest of these,
    and `peak` the largest that each ever had, which an alarm goes by. `began()` estimates when the
    change came.
    """

    # What changes; the rest comes from the arguments. `most` follows with the next step.
    changing = ("_wealth", "_run", "_began", "value", "peak", "steps", "_born", "spent")
    __slots__ = (
        "_began",
        "_born",
        "_run",
        "_wealth",
        "guarantee",
        "most",
        "peak",
        "spent",
        "steps",
        "value",
        "weights",
    )

    def __init__(self, monitors: int, weights: Array, guarantee: Guarantee = "ever") -> None:
        self.guarantee = guarantee
        self.weights = weights
        self.steps = 0
        # The step at which each began anew, (monitors, 1); 0 before any did.
        self._born: Array | int = 0
        self.spent = np.zeros((monitors, 1))
        start = self._start()
        self.most = start
        self.value = np.full(monitors, start)
        self.peak = np.full(monitors, start)
        shape = (monitors, len(weights))
        self._wealth = np.zeros(shape)
        self._run = np.full(shape, -np.inf)  # of the best single start, its logarithm
        self._began = np.zeros(shape, np.int64)

    def _start(self) -> float:
        return 1.0 if self.guarantee == "ever" else 0.0

    def step(self, logs: Array, factors: Array, rows: Array) -> None:
        """Take one micro-batch.

        Args:
            logs: the logarithm of each bet's gain, shape (monitors, bets).
            factors: exp(logs), which the caller has from all its micro-batches at once.
            rows: the number of rows each monitor saw, shape (monitors,) or a scalar.
        """
        log_fresh = self._put_in(rows)
        run = self._run
        # Steps only grow, so this puts the step where a fresh stake is better; three times as fast
        # as a mask.
        np.maximum(self._began, (run < log_fresh) * self.steps, out=self._began)
        np.maximum(run, log_fresh, out=run)
        run += logs
        wealth = self._wealth
        wealth *= factors
        self.value = wealth @ self.weights
        self.most = float(self.value.max(initial=0))
        if self.most > NEAR_CAP:
            np.minimum(wealth, CAP, out=wealth)
            self.value = wealth @ self.weights
        if self.guarantee == "ever":
            self.value += np.maximum(1 - self.spent[:, 0], UNSPENT)
            self.most = float(self.value.max(initial=0))
        np.maximum(self.peak, self.value, out=self.peak)
        self.steps += 1

    def _put_in(self, rows: Array) -> Array | float:
        """Add the fresh stakes of a step; returns the logarithms of the stake of a bet."""
        if self.guarantee == "arl":
            self._wealth += np.reshape(rows, (-1, 1))
            return 0.0
        fresh = stake(self.steps - self._born)
        self.spent += fresh
        self._wealth += fresh
        return np.log(fresh)

    def restart(self, which: Array) -> None:
        """Begin again where `which` holds, as after an alarm; with "ever" `peak` stays, of all life."""
        start = self._start()
        self._wealth[which] = 0.0
        self._run[which] = -np.inf
        born = np.broadcast_to(self._born, self.spent.shape).copy()
        born[which] = self.steps
        self._born = born
        self.spent[which] = 0.0
        self.value[which] = start
        if self.guarantee == "arl":
            self.peak[which] = start

    def began(self) -> Array:
        """For each monitor, the step at which its bet of the largest wealth last began."""
        with np.errstate(divide="ignore"):
            best = np.argmax(self._run + np.log(self.weights), axis=1)
        steps: Array = self._began[np.arange(len(best)), best]
        return steps


class Restarted:
    """The evidence of monitors whose bets have equal weights; see `Evidence`.

    Bets are restarted at every step, so a late change is seen about as soon as an early one.
    A step is a span of time or a number of units, and never ends because of what they are.
    """

    def __init__(self, monitors: int, bets: int) -> None:
        self._evidence = Evidence(monitors, np.full(bets, 1 / bets))

    def step(self, logs: Array) -> None:
        """Take the logarithm of the gain of each bet, shape (monitors, bets)."""
        gains = np.minimum(logs, MOST_LOG_GAIN)
        self._evidence.step(gains, np.exp(gains), np.array([1]))

    @property
    def value(self) -> Array:
        """The evidence of each monitor now, (monitors,); about 1 where there is none."""
        return self._evidence.value

    @property
    def peak(self) -> Array:
        """The largest evidence there was, (monitors,), which decides."""
        return self._evidence.peak


def log_mean(logs: Array) -> Array:
    """The logarithms of the means of what has these logarithms, (..., n)."""
    most = np.maximum(logs.max(axis=-1), LEAST_LOG)
    with np.errstate(divide="ignore"):
        found: Array = most + np.log(np.exp(logs - most[..., None]).sum(axis=-1) / logs.shape[-1])
    return found
