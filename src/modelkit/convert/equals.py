"""Which of several rows are as far as each other: those at distances that are equal but for rounding.

Graphs and the estimators they are compared with choose by the same rule, so it does not hang on
the last bit: of rows that are as far, those that come first among the rows of fit are nearest.
"""

from __future__ import annotations

import numpy as np

from modelkit._internal.arrays import Array

NEGLIGIBLE = 1e-13  # distances that differ by less of themselves are equal
BITS = 10  # of 53, that are rounded off then
SPLIT = 2.0**BITS + 1.0
HIGHEST = 1e300  # that may be split
GRID_BITS = 10  # as many bits less than 52 are left of the longest row's squared length


def near_equal(distances: Array) -> Array:
    """Distances without their last bits."""
    limited = np.minimum(distances, HIGHEST)
    large = limited * SPLIT
    rounded: Array = large - (large - limited)
    return rounded


def coarse(known: Array) -> float:
    """What is added to squared distances and taken off again, so that their rounding is gone.

    It is for distances from products of rows, which are off by rounding of the longest row.
    """
    longest = float((known * known).sum(axis=1).max(initial=0.0))
    return float(2.0 ** (np.ceil(np.log2(longest)) + GRID_BITS)) if longest > 0 else 0.0


def nearest_first(rounded: Array, count: int) -> Array:
    """(n, columns): whether a column is among the `count` smallest of its row; equal ones in order."""
    last = np.partition(rounded, count - 1, axis=1)[:, count - 1 : count]
    nearer = rounded < last
    equal = rounded == last
    missing = count - nearer.sum(axis=1, keepdims=True)
    taken: Array = nearer | (equal & (np.cumsum(equal, axis=1) <= missing))
    return taken
