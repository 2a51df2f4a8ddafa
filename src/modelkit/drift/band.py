"""D2, "materially changed": a band around the reference, wider by a tolerance; from counts alone.

Scores of a cell have means that the reference tells up to its own sampling error. A bet wins where
the mean of a score is beyond its band: the error of the reference and the tolerance. Whatever the
rows do inside the band, and whatever depends on what, the money is a supermartingale.

Bounds: Maurer and Pontil, Empirical Bernstein bounds (arXiv:0907.3740), Hoeffding, and Clopper and
Pearson. docs/drift_guarantees.md has the proof.
"""

from __future__ import annotations

from math import log, sqrt

import numpy as np

from modelkit.cast import Array
from modelkit.errors import importing

GROUPS = 16
TRIED = (
    7 / 6
)  # bounds for each score: the six polynomials have two, of which the smaller one counts
FRACTIONS = tuple(0.5**i for i in range(1, 7))
LEGENDRE = 3


def scores(shares: Array) -> tuple[Array, Array]:
    """What each cell scores, (36, K), and the weights of the scores, (36,), of K = 16 cells with these shares.

    Three Legendre polynomials of the cell's place among the K, and the indicators of the cells up
    to each but the last; each with both signs, and centred at the reference. Apart from that centre
    nothing depends on the reference: the bounds are for scores that were fixed before.
    """
    k = len(shares)
    upto = np.cumsum(shares)
    x = (2 * np.arange(k) + 1) / k - 1
    smooth = np.array([x, 1.5 * x * x - 0.5, 2.5 * x**3 - 1.5 * x])
    smooth -= (smooth @ shares)[:, None]
    steps = np.tri(k)[: k - 1] - upto[: k - 1, None]
    one_sided = np.concatenate([smooth, steps])
    weights = np.concatenate([np.full(LEGENDRE, 1 / 12), np.full(k - 1, 1 / (4 * (k - 1)))])
    return np.concatenate([one_sided, -one_sided]), np.concatenate([weights, weights])


def band(counts: Array, tolerance: float, delta: float, noise: Array | None = None) -> Array:
    """How far the mean of each score may be from the reference, (36,), for reference counts (K,).

    Args:
        counts: of the reference.
        tolerance: what change does not matter: of the distribution function at the end of a cell,
            and half as much of its range for the mean of a polynomial.
        delta: each bound is wrong with a probability of at most delta / 36; there are 7/6 of them
            for each score.
        noise: for privacy, `privacy.most_noise` of the cells up to each of the K; None without.
    """
    with importing("scipy", "watching for drift", "drift"):
        from scipy.special import betaincinv

    n = int(counts.sum())
    shares = counts / n
    table, _ = scores(shares)
    asked = log(2 * len(table) / delta)
    smooth = table[:LEGENDRE]
    variance, spread = (smooth * smooth) @ shares, np.ptp(smooth, axis=1)
    hidden = np.zeros(len(counts)) if noise is None else noise
    rows = max(n - hidden[-1], 2.0)  # there were at least so many
    beyond = spread * sqrt(log(len(table) / delta) / (2 * rows))  # Hoeffding
    if noise is None:
        bernstein = np.sqrt(2 * variance * asked / (n - 1)) + 7 * spread * asked / (3 * (n - 1))
        beyond = np.minimum(bernstein, beyond)
    beyond = (
        beyond
        + np.abs(np.diff(smooth, axis=1)).sum(axis=1) * (hidden[:-1].max() / n)
        + tolerance * spread / 2
    )
    upto = np.cumsum(counts)[:-1].astype(np.float64)
    share = upto / n
    level = delta / len(table)
    more, less = (
        np.minimum(upto + hidden[:-1], n) * (rows / n),
        np.maximum(upto - hidden[:-1], 0) * (rows / n),
    )
    with np.errstate(invalid="ignore"):
        high = (
            np.where(
                more < rows, betaincinv(more + 1, np.maximum(rows - more, 1e-9), 1 - level), 1.0
            )
            - share
        )
        low = share - np.where(
            less > 0, betaincinv(np.maximum(less, 1e-9), rows - less + 1, level), 0.0
        )
    return np.concatenate([beyond, high + tolerance, beyond, low + tolerance])


def bets(
    counts: Array, tolerance: float, delta: float, noise: Array | None = None
) -> tuple[Array, Array]:
    """The logarithm of what each bet pays in each cell, (K, 216), and their weights (216,)."""
    table, weights = scores(counts / max(counts.sum(), 1))
    if counts.sum() < 2:  # such a reference says nothing, and every bet is off
        return np.zeros((len(counts), len(table) * len(FRACTIONS))), np.repeat(
            weights / len(FRACTIONS), len(FRACTIONS)
        )
    limit = band(counts, tolerance, delta, noise)
    excess = table - limit[:, None]
    lowest = limit - table.min(axis=1)
    stakes = np.array(FRACTIONS)[None, :] / lowest[:, None]
    pays = np.log1p(stakes[:, :, None] * excess[:, None, :])
    return pays.reshape(-1, len(counts)).T.copy(), np.repeat(
        weights / len(FRACTIONS), len(FRACTIONS)
    )
