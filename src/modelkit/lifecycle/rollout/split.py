"""Do as many units go to the candidate as were sent? Evidence from counts; pure.

Without this, nothing else is worth anything. Each unit goes to the candidate with the probability
q; a mixture of all other probabilities, by a beta distribution around q, bets against it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import lgamma, log

from modelkit.lifecycle.rollout.arms import Events

PRIOR_UNITS = 100.0  # units that the mixture is worth


def log_split(stages: Iterable[Events]) -> float:
    """The logarithm of the evidence that units are not split as the shares of the stages say.

    Where they are, it ever reaches ln(1/alpha) with a probability of at most alpha.
    """
    return sum(_log_of_stage(units) for units in stages)


def _log_of_stage(units: Events) -> float:
    share = units.share
    if not 0 < share < 1:
        return 0.0
    first = PRIOR_UNITS * share
    second = PRIOR_UNITS * (1 - share)
    mixture = _log_beta(first + units.candidate, second + units.champion)
    expected = units.candidate * log(share) + units.champion * log(1 - share)
    return mixture - _log_beta(first, second) - expected


def _log_beta(first: float, second: float) -> float:
    return lgamma(first) + lgamma(second) - lgamma(first + second)
