"""D2, "materially changed": a band around the reference, wider by a tolerance; from counts alone.

Scores of a cell have means that the reference tells up to its own sampling error. A bet wins where the mean of a score
is beyond its band: the error of the reference and the tolerance. Whatever the rows do inside the band, and whatever
depends on what, the money is a supermartingale.

Bounds: Maurer and Pontil, Empirical Bernstein bounds (arXiv:0907.3740), Hoeffding, and Clopper and Pearson.
docs/drift_guarantees.md has the proof.
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from modelkit.cast import Array

GROUPS = 16
FRACTIONS = tuple(0.5**i for i in range(1, 7))
LEGENDRE = 3


def scores(shares: Array) -> tuple[Array, Array]:
    """What each cell scores, (36, K), and the weights of the scores, (36,), of K = 16 cells with these shares.

    Three Legendre polynomials of the mid-ranks, and the indicators of the cells up to each but the last; each with
    both signs, and centred at the reference.
    """
    upto = np.cumsum(shares)
    u = upto - shares / 2
    x = 2 * u - 1
    smooth = np.array([x, 1.5 * x * x - 0.5, 2.5 * x**3 - 1.5 * x])
    smooth -= (smooth @ shares)[:, None]
    k = len(shares)
    steps = np.tri(k)[: k - 1] - upto[: k - 1, None]
    one_sided = np.concatenate([smooth, steps])
    weights = np.concatenate([np.full(LEGENDRE, 1 / 12), np.full(k - 1, 1 / (4 * (k - 1)))])
    return np.concatenate([one_sided, -one_sided]), np.concatenate([weights, weights])


def band(counts: Array, tolerance: float, delta: float, noise: Array | None = None) -> Array:
    """How far the mean of each score may be from the reference, (36,), for reference counts (K,).

    Args:
        counts: of the reference.
        tolerance: what change does not matter, as a difference of distribution functions.
        delta: the probability that the reference itself is further from the truth than the band allows.
        noise: for each of the first K - 1 cells, what was added to the counts up to it for privacy, at most.
    """
    from scipy.special import betaincinv

    n = int(counts.sum())
    shares = counts / n
    table, _ = scores(shares)
    asked = log(2 * len(table) / delta)
    smooth = table[:LEGENDRE]
    variance, spread = (smooth * smooth) @ shares, np.ptp(smooth, axis=1)
    bernstein = np.sqrt(2 * variance * asked / n) + 7 * spread * asked / (3 * (n - 1))
    hoeffding = spread * sqrt(log(len(table) / delta) / (2 * n))
    beyond = np.minimum(bernstein, hoeffding) + tolerance * spread / 2
    upto = np.cumsum(counts)[:-1].astype(np.float64)
    share = upto / n
    level = delta / len(table)
    with np.errstate(invalid="ignore"):
        high = np.where(upto < n, betaincinv(upto + 1, np.maximum(n - upto, 1e-9), 1 - level), 1.0) - share
        low = share - np.where(upto > 0, betaincinv(np.maximum(upto, 1e-9), n - upto + 1, level), 0.0)
    if noise is not None:
        high, low = high + noise / n, low + noise / n
        beyond = beyond + spread * float(noise.max()) / n
    return np.concatenate([beyond, high + tolerance, beyond, low + tolerance])


def bets(counts: Array, tolerance: float, delta: float, noise: Array | None = None) -> tuple[Array, Array]:
    """The logarithm of what each bet pays in each cell, (K, 216), and their weights (216,)."""
    table, weights = scores(counts / max(counts.sum(), 1))
    if counts.sum() < 2:  # such a reference says nothing, and every bet is off
        return np.zeros((len(counts), len(table) * len(FRACTIONS))), np.repeat(weights / len(FRACTIONS), len(FRACTIONS))
    limit = band(counts, tolerance, delta, noise)
    excess = table - limit[:, None]
    lowest = limit - table.min(axis=1)
    stakes = np.array(FRACTIONS)[None, :] / lowest[:, None]
    pays = np.log1p(stakes[:, :, None] * excess[:, None, :])
    return pays.reshape(-1, len(counts)).T.copy(), np.repeat(weights / len(FRACTIONS), len(FRACTIONS))
