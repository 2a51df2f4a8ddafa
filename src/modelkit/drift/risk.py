"""Bets on losses as their labels come: evidence that the model is worse than it was.

Losses lie in [0, 1] and are taken in the order in which their labels arrive. `u` is the highest
that the model's risk was, as far as held-out rows tell, plus a tolerance. The hypothesis is that
each loss, given the losses before it, has a mean of at most u (Podkopaev and Ramdas,
arXiv:2110.06177). With a probability of at most delta, u itself is too low.
"""

from __future__ import annotations

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.betting import log_staked

GROWTH = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
LOSS_WEIGHTS = np.full(len(GROWTH), 1 / len(GROWTH))


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
