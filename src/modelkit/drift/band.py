"""D2, "materially changed": a band around the reference, wider by a tolerance; from counts alone.

Scores of a cell have means that the reference tells up to its own sampling error. A bet wins where
the mean of a score is beyond its band: the error of the reference and the tolerance. Whatever the
rows do inside the band, and however they depend on one another, the wealth is a supermartingale.

Bounds: Maurer and Pontil, Empirical Bernstein bounds (arXiv:0907.3740), Hoeffding, and Clopper and
Pearson. docs/drift_guarantees.md has the proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log, sqrt
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.bets import Gain
from modelkit.drift.cells import Feature
from modelkit.drift.ranks import Ranked
from modelkit.drift.units import group_table
from modelkit.stats.betting import log_staked
from modelkit.stats.evidence import MOST_LOG_GAIN
from modelkit.stats.intervals import empirical_bernstein, exact_bounds

BAND_GROUPS = 16
BLOCKS_OF_BAND = 4  # of 32 rows each, for one step
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


@final
class Band:
    """D2 on rows: their counts (d, 16) in the groups of the band since the last step, and the bets.

    `limits` (d, 36) are how far the mean of each score may be from the reference: at first by the
    band, and after an alarm as far as that has shown.

    Args:
        features: the d features.
        reference: int64 (d, 67), their counts in this stratum.
        tolerances: that of each feature, (d,); see `band`.
        deltas: for each feature, the share of alpha for the error of the reference.
    """

    changing = ("counts", "limits", "allowed")
    blocks = BLOCKS_OF_BAND  # of a step
    lanes = 1

    def __init__(
        self, features: tuple[Feature, ...], reference: Array, tolerances: Array, deltas: Array
    ) -> None:
        groups = group_table(features)[:, :, None] == np.arange(BAND_GROUPS)
        self._groups = groups.astype(np.float32)  # exact: a block has 32 rows
        self._reference = (reference[:, None, :] @ groups.astype(np.float64))[:, 0]
        self._tolerances = tolerances
        bounds = zip(self._reference, tolerances.tolist(), deltas, strict=True)
        self._first = np.array([band(*own) for own in bounds])
        self._limits = self._first.copy()
        pays, weights = zip(*map(band_bets, self._reference, self._limits), strict=True)
        self._pays = np.array(pays)
        self.weights: Array = weights[0]
        self.allowed = np.zeros(len(features), np.int64)  # the block since which it may be further
        self.counts = np.zeros((len(features), BAND_GROUPS))

    @property
    def limits(self) -> Array:
        """How far the mean of each score may be from the reference, (d, 36)."""
        return self._limits

    @limits.setter
    def limits(self, limits: Array) -> None:
        differ = np.flatnonzero((limits != self._limits).any(axis=1)).tolist()
        self._limits = limits
        for j in differ:
            self._limit(j, limits[j])

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain | None]:
        """What bets gain at every fourth block, and None at others; so many blocks came before."""
        by_feature = ranked.kept.transpose(1, 0, 2).astype(np.float32)
        grouped = (by_feature @ self._groups).transpose(1, 0, 2)
        for i, counts in enumerate(grouped, start=blocks + 1):
            self.counts += counts
            yield None if i % BLOCKS_OF_BAND else self._step()

    def _step(self) -> Gain:
        pays = (self.counts[:, None, :] @ self._pays)[:, 0]
        logs = np.minimum(pays, MOST_LOG_GAIN)
        values = self.counts.sum(axis=1)
        self.counts[:] = 0
        return Gain(logs, np.exp(logs), values)

    def further(self, j: int) -> bool:
        """Whether a feature may be further from the reference than at first."""
        return bool((self._limits[j] != self._first[j]).any())

    def allow(self, j: int, recent: Array, blocks: int) -> bool:
        """Let a feature be as far from the reference as the rows are that it alarmed about.

        Args:
            j: its number.
            recent: counts (blocks, 67) of these rows. Where the change came later than its bet began,
                the last half or quarter of them shows it better.
            blocks: the number of all blocks.
        """
        table = self._table(j)
        parts = [recent[-len(recent) // k :] for k in (1, 2, 4)]
        counts = [part.sum(axis=0, dtype=np.int64) @ self._groups[j] for part in parts]
        self._limit(j, np.max([self._shown(j, table, own) for own in counts], axis=0))
        self.allowed[j] = blocks
        return True

    def tighten(self, recent: Array, blocks: int) -> list[int]:
        """Hold features to less that are nearer to the reference in recent blocks, (blocks, d, 67).

        They are held to the first limits where these are within them. Of features that were allowed
        more since some of these, nothing is known yet.
        """
        further = (self._limits != self._first).any(axis=1)
        further &= blocks - self.allowed >= len(recent)
        found = []
        for j in np.flatnonzero(further).tolist():
            counts = recent[:, j].sum(axis=0, dtype=np.int64) @ self._groups[j]
            limit = self._nearer(j, counts) if counts.sum() else self._limits[j]
            if (self._limits[j] - limit > self._tolerances[j]).any():
                self._limit(j, limit)
                found.append(j)
        return found

    def _nearer(self, j: int, counts: Array) -> Array:
        """The limits (36,) that rows with these counts (16,) need."""
        table = self._table(j)
        first: Array = self._first[j]
        if (table @ (counts / counts.sum()) <= first).all():
            return first
        limit: Array = np.minimum(self._limits[j], self._shown(j, table, counts))
        return limit

    def _table(self, j: int) -> Array:
        """The scores (36, 16) of a feature."""
        return scores(self._reference[j] / self._reference[j].sum())[0]

    def _shown(self, j: int, table: Array, counts: Array) -> Array:
        """How far rows are from the reference, and no less than the first limits."""
        first: Array = self._first[j]
        if counts.sum() < 2:
            return first
        beyond = shown(table, counts, float(self._tolerances[j]))
        limit: Array = np.maximum(first, beyond)
        return limit

    def _limit(self, j: int, limit: Array) -> None:
        self._limits[j] = limit
        self._pays[j] = band_bets(self._reference[j], limit)[0]
