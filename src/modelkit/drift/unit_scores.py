"""How far a unit is from others, in three numbers a feature, and its rank among them.

Every number is a function of one unit and of the sum over all units, each unit itself included. So
all units are measured alike, and it does not matter which of them came last. The sum is one of
integers, so that rounding does not depend on the order of units either.

Source: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, section 2.2.
"""

from __future__ import annotations

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import band
from modelkit.drift.units import FULL_SHARE

SCORES = ("location", "scale", "distance")
PLACE_SCORES = (  # the means of three polynomials of the place of a unit's rows, each way
    "places up",
    "places spread",
    "places skewed",
    "places down",
    "places drawn together",
    "places skewed down",
)


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
    numbers = (shares * location, shares * scale, apart / 2)
    sums = [groups.sum(axis=2) for groups in numbers]
    return np.stack(sums, axis=2)


def last_ranks(scores: Array, present: Array, draws: Array) -> Array:
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


def place_scores(shares: Array) -> Array:
    """The means of three polynomials of the place of a unit's rows, each way, float64 (..., 6).

    They are functions of the unit alone.

    Args:
        shares: of units, uint16 (..., 16).
    """
    one_way = (shares / FULL_SHARE) @ band.polynomials(band.BAND_GROUPS).T
    return np.concatenate([one_way, -one_way], axis=-1)


def tail_shares(scores: Array, present: Array, draws: Array) -> Array:
    """The share of units whose score is at least the last one's, float64 (d, 6).

    Of the last one itself a random part is counted, so that it is uniform where no other is equal.

    Args:
        scores: of n units, (n, d, 6).
        present: whether a unit has values of a feature, bool (n, d).
        draws: uniform on [0, 1), (d, 6).
    """
    higher = (scores[:-1] >= scores[-1]) & present[:-1, :, None]
    units = present.sum(axis=0)[:, None]
    p: Array = (higher.sum(axis=0) + draws) / np.maximum(units, 1)
    return p
