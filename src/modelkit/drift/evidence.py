"""Evidence that may be looked at after every step, for ever: the recursion that all monitors here share.

Each monitor makes J bets against its hypothesis. A bet that has multiplied its stake by exp(I) in a
step is restarted in every step with a little fresh money, so that a change is seen whenever it
comes.

* "ever": the stakes put in are g(0) + g(1) + ... = 1 in all. Where the hypothesis holds, the money
  is a non-negative supermartingale from 1, and by Ville's inequality it ever reaches 1/alpha with a
  probability of at most alpha.
* "arl": a stake of one for each row (Shiryaev-Roberts). Where the hypothesis holds, the mean number
  of rows until the money reaches A is at least A, and it reaches A within t rows with a probability
  of at most t/A.

docs/drift_guarantees.md has the proofs. Sources: Shafer and Vovk, Game-Theoretic Foundations for
Probability and Finance; Shin, Ramdas and Rinaldo, E-detectors (arXiv:2203.03532).
"""

from __future__ import annotations

from math import log
from typing import Literal, final

import numpy as np

from modelkit.cast import Array

Guarantee = Literal["ever", "arl"]
UNSPENT = 1e-12  # what is left of the stake when rounding has eaten the rest
CAP = 1e150  # money beyond which nobody counts; an alarm came long before
NEAR = 1e100  # from here on money is held to the cap: no bet has more than this over its weight, far below 1e150
MOST = 345.0  # of a logarithm in a step: CAP * exp(MOST) is still a float. Less money than was won keeps all bounds


def stake(step: int) -> float:
    """The share of the stake that is put in at a step; over all steps they sum to 2.10974 / 2.11."""
    return 1 / (2.11 * (step + 2) * log(step + 2) ** 2)


@final
class Evidence:
    """The money of `monitors` monitors that make the same `len(weights)` bets.

    `weights` sum to one. `value` is the money of each monitor now, `most` the largest of these, and
    `peak` the most that each ever had, which is what an alarm goes by. `began()` estimates when the
    change came.
    """

    __slots__ = (
        "_began",
        "_money",
        "_run",
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
        self.spent = 0.0
        start = 1.0 if guarantee == "ever" else 0.0
        self.most = start
        self.value = np.full(monitors, start)
        self.peak = np.full(monitors, start)
        self._money = np.zeros((monitors, len(weights)))
        self._run = np.full(
            (monitors, len(weights)), -np.inf
        )  # of the best single start, its logarithm
        self._began = np.zeros((monitors, len(weights)), np.int64)

    def step(self, logs: Array, factors: Array, rows: Array) -> None:
        """Take one micro-batch.

        Args:
            logs: the logarithm of what each bet multiplied its stake by, shape (monitors, bets).
            factors: exp(logs), which the caller has from all its micro-batches at once.
            rows: how many rows each monitor saw, shape (monitors,) or a scalar.
        """
        money, run = self._money, self._run
        if self.guarantee == "ever":
            fresh = stake(self.steps)
            self.spent += fresh
            log_fresh = log(fresh)
            money += fresh
        else:
            log_fresh = 0.0
            money += np.reshape(rows, (-1, 1))
        np.putmask(self._began, run < log_fresh, self.steps)
        np.maximum(run, log_fresh, out=run)
        run += logs
        money *= factors
        self.value = money @ self.weights
        self.most = float(self.value.max(initial=0))
        if self.most > NEAR:
            np.minimum(money, CAP, out=money)
            self.value = money @ self.weights
        if self.guarantee == "ever":
            rest = max(1 - self.spent, UNSPENT)
            self.value += rest
            self.most += rest
        np.maximum(self.peak, self.value, out=self.peak)
        self.steps += 1

    def restart(self, which: Array) -> None:
        """Begin anew where `which` holds, as "arl" does after an alarm."""
        start = 1.0 if self.guarantee == "ever" else 0.0
        self._money[which] = 0.0
        self._run[which] = -np.inf
        self.value[which] = self.peak[which] = start

    def began(self) -> Array:
        """For each monitor, the step at which the bet that is worth most now last began."""
        with np.errstate(divide="ignore"):
            best = np.argmax(self._run + np.log(self.weights), axis=1)
        steps: Array = self._began[np.arange(len(best)), best]
        return steps

    def state(self) -> dict[str, Array]:
        """Everything that changes, as arrays."""
        return {
            "money": self._money,
            "run": self._run,
            "began": self._began,
            "value": self.value,
            "peak": self.peak,
            "clock": np.array([self.steps, self.spent]),
        }

    def restore(self, state: dict[str, Array]) -> None:
        """Go on from `state()`, bit for bit."""
        self._money, self._run, self._began = (
            state[name].copy() for name in ("money", "run", "began")
        )
        self.value, self.peak = state["value"].copy(), state["peak"].copy()
        self.steps, self.spent = int(state["clock"][0]), float(state["clock"][1])
