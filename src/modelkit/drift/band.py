"""D2, "materially changed": a band around the reference, wider by a tolerance; from counts alone.

Scores of a cell have means that the reference tells up to its own sampling error. A bet wins where
the mean of a score is beyond its band: the error of the reference and the tolerance. Whatever the
rows do inside the band, and however they depend on one another, the wealth is a supermartingale.

Bounds: Maurer and Pontil, Empirical Bernstein bounds (arXiv:0907.3740), Hoeffding, and Clopper and
Pearson. docs/drift_guarantees.md has the proof.
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.betting import log_staked
from modelkit.stats.intervals import empirical_bernstein, exact_bounds

BAND_GROUPS = 16
# Bounds for each score: the six polynomials have two, of which the smaller one counts.
TRIED = 7 / 6
FRACTIONS = tuple(0.5**i for i in range(1, 7))
LEGENDRE = 3
SHOWN_DEVIATIONS = 3  # for the error of what an alarm showed; no promise rests on it
SHOWN_ROWS = 3  # likewise, where all rows are alike


def polynomials(k: int) -> Array:
    """Three Legendre polynomials of the place of a cell among K, (3, K)."""
    x = (2 * np.arange(k) + 1) / k - 1
    return np.array([x, 1.5 * x * x - 0.5, 2.5 * x**3 - 1.5 * x])


def scores(shares: Array) -> tuple[Array, Array]:
    """The scores of K = 16 cells with these shares, (36, K), and the scores' weights, (36,).

    Three Legendre polynomials of the cell's place among the K, and the indicators of the cells up
    to each but the last; each with both signs, and centred at the reference. Apart from that centre
    nothing depends on the reference: the bounds are for scores that were fixed before.
    """
    k = len(shares)
    steps = k - 1
    smooth = polynomials(k)
    means = smooth @ shares
    smooth -= means[:, None]
    upto = np.cumsum(shares)[:steps]
    indicators = np.tri(k)[:steps] - upto[:, None]
    one_sided = np.concatenate([smooth, indicators])
    of_smooth = np.full(LEGENDRE, 1 / 12)
    of_steps = np.full(steps, 1 / (4 * steps))
    weights = np.concatenate([of_smooth, of_steps])
    both_sides = np.concatenate([one_sided, -one_sided])
    return both_sides, np.tile(weights, 2)


def band(counts: Array, tolerance: float, delta: float) -> Array:
    """How far the mean of each score may be from the reference, (36,), for reference counts (K,).

    Args:
        counts: of the reference.
        tolerance: the change that is not material: of the distribution function at the end of a
            cell, and half of it, of the score's range, for the mean of a polynomial.
        delta: each bound is wrong with a probability of at most delta / 36; there are 7/6 of them
            for each score.

    Infinite, where one row or none says nothing.
    """
    n = int(counts.sum())
    if n < 2:
        return np.full(2 * (LEGENDRE + len(counts) - 1), np.inf)
    table, _ = scores(counts / n)
    smooth = table[:LEGENDRE]
    spread = np.ptp(smooth, axis=1)
    error = delta / len(table)
    variance = np.square(smooth) @ counts / (n - 1)
    bernstein = empirical_bernstein(0.0, variance, n, error, spread)
    hoeffding = spread * sqrt(log(1 / error) / (2 * n))
    beyond = np.minimum(bernstein, hoeffding) + tolerance * spread / 2
    upto = np.cumsum(counts)[:-1]
    low, high = exact_bounds(upto, n, error)
    above = high - upto / n + tolerance
    below = upto / n - low + tolerance
    return np.concatenate([beyond, above, beyond, below])


def band_bets(counts: Array, limit: Array) -> tuple[Array, Array]:
    """The logarithm of what each bet pays in each cell, (K, 216), and their weights (216,).

    A bet wins where the mean of a score is beyond its limit, (36,). The higher the limit, the less
    each bet pays in each cell.
    """
    cells = len(counts)
    tried = len(FRACTIONS)
    table, of_scores = scores(counts / max(counts.sum(), 1))
    weights = np.repeat(of_scores / tried, tried)
    if not np.isfinite(limit).all():  # such a reference says nothing, and every bet is off
        return np.zeros((cells, len(weights))), weights
    lowest = limit - table.min(axis=1)
    stakes = np.array(FRACTIONS) / lowest[:, None]
    pays = log_staked(table, limit[:, None], stakes)
    return pays.transpose(1, 0, 2).reshape(cells, -1), weights


def shown(table: Array, recent: Array, tolerance: float) -> Array:
    """How far beyond the reference, whose scores are in a table, recent rows (K,) are, (36,).

    That is their means, with three standard errors and the tolerance.
    """
    n = recent.sum()
    shares = recent / n
    means = table @ shares
    variance = np.maximum((table * table) @ shares - means * means, 0.0)
    allowed = np.ptp(table, axis=1) * tolerance
    allowed[_is_smooth(len(table))] /= 2
    beyond: Array = means + SHOWN_DEVIATIONS * np.sqrt(variance / n) + SHOWN_ROWS / n + allowed
    return beyond


def _is_smooth(count: int) -> Array:
    """Mask of the polynomials among so many scores."""
    return np.arange(count) % (count // 2) < LEGENDRE
