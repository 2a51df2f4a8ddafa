"""How far a unit is from others, in three numbers a feature, and its rank among them.

Every number is a function of one unit and of the sum over all units, each unit itself included. So
all units are measured alike, and it does not matter which of them came last. The sum is one of
integers, so that rounding does not depend on the order of units either.

Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, section 2.2.
"""

from __future__ import annotations

import numpy as np

from modelkit.cast import Array
from modelkit.drift.units import FULL_SHARE

SCORES = ("location", "scale", "distance")


def unit_scores(bag: Array) -> Array:
    """The three scores of each unit, float64 (n, d, 3).

    With the mid-ranks of the 16 groups among the rows of all units: the mean rank of a unit's rows,
    the mean of the second Legendre polynomial of their ranks, and the total variation between the
    unit and all units.

    Args:
        bag: the shares of n units, uint16 (n, d, 16).
    """
    pool = bag.sum(axis=0, dtype=np.int64)
    total = pool.sum(axis=1, keepdims=True)
    total = np.maximum(total, 1)
    upto = np.cumsum(pool, axis=1)
    location = (2 * upto - pool) / total - 1
    scale = 1.5 * location**2 - 0.5
    shares = bag / FULL_SHARE
    apart = np.abs(shares - pool / total)
    numbers = (
        shares * location,
        shares * scale,
        apart / 2,
    )
    sums = [groups.sum(axis=2) for groups in numbers]
    return np.stack(sums, axis=2)


def last_ranks(
    scores: Array,
    present: Array,
    draws: Array,
) -> Array:
    """The p-values of the last unit: its rank among all, ties at random, float64 (d, 3).

    Args:
        scores: of n units, (n, d, 3).
        present: whether a unit has values of a feature, bool (n, d).
        draws: uniform on [0, 1), (d, 3).
    """
    last = scores[-1]
    counted = present[:, :, None]
    lower = (scores < last) & counted
    equal = (scores == last) & counted
    units = counted.sum(axis=0)
    rank = lower.sum(axis=0) + draws * equal.sum(axis=0)
    p: Array = rank / np.maximum(units, 1)
    return p
