"""Differential privacy of counts: two-sided geometric noise from the system's randomness.

Adding or removing one row changes one count of each feature by one, so each of d features gets
epsilon / d and all of them together are epsilon-differentially private (Dwork and Roth, The
Algorithmic Foundations of Differential Privacy; Ghosh, Roughgarden and Sundararajan, Universally
utility-maximizing privacy mechanisms).
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from modelkit._internal.arrays import Array


def noisy(counts: Array, epsilon: float) -> Array:
    """Counts (strata, features, cells) with noise, none below zero.

    A row is in one stratum, and in every feature.
    """
    from secrets import SystemRandom

    draw = SystemRandom().random
    decay = -epsilon / counts.shape[1]

    def geometric() -> int:
        uniform = 1 - draw()
        return int(log(uniform) / decay)

    drawn = [geometric() - geometric() for _ in range(counts.size)]
    noise = np.array(drawn, np.int64)
    moved = counts + noise.reshape(counts.shape)
    return np.maximum(moved, 0)


def most_noise(epsilon: float, features: int, cells: Array, delta: float) -> Array:
    """Bounds, in rows, on the effect of noise on the share of the cells up to each, (K,).

    The last is that on the sum of all counts. `cells` are the numbers of counts in each sum, the
    last the number of all counts. Where the count up to a cell has moved by a, and that of the rest
    by b, a share C moves by (1 - C) a - C b, so by the larger of the two at most. `delta` is the
    probability that any of these bounds is wrong: Bernstein's, for sums of Laplace variables, whose
    moments bound those of the geometric ones. That counts are not let below zero adds to a sum at
    most half the scale for each of them.
    """
    asked = log(4 * len(cells) / delta)
    rest = cells[-1] - cells
    sums = np.stack([cells, rest])
    of_many = np.sqrt(8 * sums * asked)
    of_few = 2 * sqrt(2) * asked
    tails = np.maximum(of_many, of_few)
    scale = features / epsilon
    moved: Array = scale * (sums / 2 + tails)
    of_shares = moved.max(axis=0)
    of_all = moved[0, -1]
    return np.append(of_shares[:-1], of_all)
