"""How far rows may be from the reference: a band for features (D2), and a bound on losses (D3).

An alarm widens a limit to what the alarm showed; later the limit narrows as far as the rows allow.

The reference estimates the mean of each score of a cell, with a sampling error. The band around that
mean is as wide as this error and the tolerance together, and a bet wins where the mean of later rows
is beyond it. Whatever the rows do inside the band, and however they depend on one another, the wealth
is a supermartingale.

Bounds: Maurer and Pontil, Empirical Bernstein bounds (arXiv:0907.3740), Hoeffding, and Clopper and
Pearson. docs/explanation/drift_proofs.md has the proofs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from math import log, sqrt
from typing import ClassVar, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.ranks import Gain, Ranked, Ranks
from modelkit.drift.units import group_table
from modelkit.stats.betting import log_staked
from modelkit.stats.evidence import MOST_LOG_GAIN, Evidence, Guarantee, stake
from modelkit.stats.intervals import empirical_bernstein, exact_bounds

TINY_LEVEL = 1e-300  # keeps the threshold of a feature without any share of alpha finite
FIRST_PART = 0.8  # of a feature's share of alpha: for its first alarm
LATER_PART = 1 - FIRST_PART  # for all others together, by the steps at which they may be armed
FOR_THE_REFERENCE = 1 / 3  # of alpha: for its sampling error
LEAST_DELTA = 1e-300  # keeps the logarithm of a feature without any share of alpha finite
BAND_GROUPS = 16
BLOCKS_OF_BAND = 4  # of 32 rows each, for one step
# Bounds for each score: the six polynomials have two, of which the smaller one counts.
TRIED = 7 / 6
FRACTIONS = tuple(0.5**i for i in range(1, 7))
LEGENDRE = 3
SHOWN_DEVIATIONS = 3  # for the error of what an alarm showed; no promise rests on it
SHOWN_ROWS = 3  # likewise, where all rows are alike


class Limits(ABC):
    """How far each of d features may be from the reference, and what bets gain against that.

    `first` (d, k) are the limits by the reference, and `limits` (d, k) those in force. `allowed` (d,)
    is the number of blocks before a feature's limits last moved. The argument `recent` of methods is
    what a Sequence keeps of the latest blocks: (blocks, ...) of one feature or (blocks, d, ...) of all.
    """

    changing: ClassVar[tuple[str, ...]] = ("limits", "allowed")
    blocks = 1  # of a step
    lanes = 1  # scores of a feature
    spared = 0.0  # of alpha, for the error of the reference
    weights: Array

    def __init__(self, first: Array) -> None:
        self.first = first
        self.limits = first.copy()
        self.allowed = np.zeros(len(first), np.int64)

    @abstractmethod
    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain | None]:
        """The gain in each block, None within a step; so many blocks came before."""

    @abstractmethod
    def shown(self, j: int, recent: Array) -> Array:
        """The limits (k,) that recent blocks need, by which feature number j alarmed."""

    @abstractmethod
    def nearer(self, which: Array, recent: Array) -> Array:
        """The limits (m, k) that recent blocks (blocks, d, ...) of m features need.

        Limits that would hardly move are as before.
        """

    def further(self, j: int) -> bool:
        """Whether a feature may be further from the reference than at first."""
        return bool((self.limits[j] != self.first[j]).any())

    def allow(self, j: int, recent: Array, blocks: int) -> None:
        """Widen the limits of a feature to the recent blocks by which it alarmed."""
        self._move(j, self.shown(j, recent), blocks)

    def tighten(self, recent: Array, blocks: int) -> list[int]:
        """Narrow the limits of features that recent blocks (blocks, d, ...) have nearer; their numbers.

        Limits that moved within these blocks stay.
        """
        further = (self.limits != self.first).any(axis=1)
        further &= blocks - self.allowed >= len(recent)
        which = np.flatnonzero(further)
        limits = self.nearer(which, recent) if len(which) else self.limits[which]
        moved = (limits != self.limits[which]).any(axis=1)
        self._move(which[moved], limits[moved], blocks)
        numbers: list[int] = which[moved].tolist()
        return numbers

    def _move(self, which: int | Array, limits: Array, blocks: int) -> None:
        self.limits = self.limits.copy()
        self.limits[which] = limits
        self.allowed[which] = blocks


# Features.


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
    weights = np.concatenate([np.full(LEGENDRE, 1 / 12), np.full(steps, 1 / (4 * steps))])
    return np.concatenate([one_sided, -one_sided]), np.tile(weights, 2)


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
    tried = len(FRACTIONS)
    table, of_scores = scores(counts / max(counts.sum(), 1))
    return band_pays(table, limit), np.repeat(of_scores / tried, tried)


def band_pays(tables: Array, limits: Array) -> Array:
    """What the bets of `band_bets` pay, (..., K, 216), for scores (..., 36, K) and limits (..., 36)."""
    lowest = limits - tables.min(axis=-1)
    stakes = np.array(FRACTIONS) / lowest[..., None]
    with np.errstate(invalid="ignore"):
        by_score = log_staked(tables, limits[..., None], stakes)
    # A reference without limits says nothing, and every bet is off.
    by_score[~np.isfinite(limits).all(axis=-1)] = 0.0
    by_cell = np.moveaxis(by_score, -2, -3)
    *cells, count, tried = by_cell.shape
    return by_cell.reshape(*cells, count * tried)


@final
class Band(Limits):
    """D2 on rows: their counts (d, 16) in the groups of the band since the last step, and the bets.

    `limits` (d, 36) are how far the mean of each score may be from the reference.

    Args:
        features: the d features.
        reference: int64 (d, 67), their counts in this stratum.
        tolerances: one for each feature, (d,); see `band`.
        levels: the share of alpha of each feature, (d,), of which a third is for the reference.
    """

    changing = (*Limits.changing, "counts")
    blocks = BLOCKS_OF_BAND
    spared = FOR_THE_REFERENCE

    def __init__(
        self, features: tuple[Feature, ...], reference: Array, tolerances: Array, levels: Array
    ) -> None:
        groups = group_table(features)[:, :, None] == np.arange(BAND_GROUPS)
        self._groups = groups.astype(np.float32)  # exact: a block has 32 rows
        self._reference = (reference[:, None, :] @ groups.astype(np.float64))[:, 0]
        self._tables = np.array([scores(own / max(own.sum(), 1))[0] for own in self._reference])
        self._tolerances = tolerances
        self._slack = np.ptp(self._tables, axis=2) * tolerances[:, None]
        self._slack.reshape(len(features), 2, -1)[:, :, :LEGENDRE] /= 2
        deltas = np.maximum(levels * self.spared / TRIED, LEAST_DELTA)
        bounds = zip(self._reference, tolerances.tolist(), deltas, strict=True)
        super().__init__(np.array([band(*own) for own in bounds]))
        self._pays = band_pays(self._tables, self.limits)
        self._priced = self.limits  # what these are for
        self.weights = band_bets(self._reference[0], self.limits[0])[1]
        self.counts = np.zeros((len(features), BAND_GROUPS))

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain | None]:
        """What bets gain at every fourth block, and None at others; so many blocks came before."""
        by_feature = ranked.kept.transpose(1, 0, 2).astype(np.float32)
        grouped = (by_feature @ self._groups).transpose(1, 0, 2)
        for i, counts in enumerate(grouped, start=blocks + 1):
            self.counts += counts
            yield None if i % BLOCKS_OF_BAND else self._step()

    def _step(self) -> Gain:
        if self._priced is not self.limits:
            self._price()
        pays = (self.counts[:, None, :] @ self._pays)[:, 0]
        logs = np.minimum(pays, MOST_LOG_GAIN)
        values = self.counts.sum(axis=1)
        self.counts[:] = 0
        return logs, np.exp(logs), values

    def _price(self) -> None:
        moved = (self.limits != self._priced).any(axis=1)
        self._pays[moved] = band_pays(self._tables[moved], self.limits[moved])
        self._priced = self.limits

    def shown(self, j: int, recent: Array) -> Array:
        """The limits (36,) that rows with counts (blocks, 67) need.

        Where the change came later than its bet began, the last half or quarter of them shows it
        better.
        """
        parts = [recent[-len(recent) // k :].sum(axis=0, dtype=np.int64) for k in (1, 2, 4)]
        limits: Array = self._shown(np.repeat(j, 3), np.array(parts)).max(axis=0)
        return limits

    def nearer(self, which: Array, recent: Array) -> Array:
        """The first limits where such rows are within them, and else those that they need."""
        counts = recent[:, which].sum(axis=0, dtype=np.int64)
        first, now = self.first[which], self.limits[which]
        means = self._means(which, self._shares(which, counts)[0])
        beyond = np.any(means > first, axis=1, keepdims=True)
        limits = np.where(beyond, np.minimum(now, self._shown(which, counts)), first)
        known = counts.any(axis=1)
        enough = known & (now - limits > self._tolerances[which, None]).any(axis=1)
        return np.where(enough[:, None], limits, now)

    def _shares(self, which: Array, counts: Array) -> tuple[Array, Array]:
        """The shares (m, 16) of counts (m, 67) of m features, and the numbers of rows, (m, 1)."""
        grouped = (counts[:, None, :] @ self._groups[which])[:, 0]
        rows = grouped.sum(axis=1, keepdims=True)
        return grouped / np.maximum(rows, 1), rows

    def _means(self, which: Array, shares: Array) -> Array:
        return (self._tables[which] @ shares[:, :, None])[:, :, 0]

    def _shown(self, which: Array, counts: Array) -> Array:
        """How far rows with counts (m, 67) are from the reference, and no less than the first limits.

        That is the means of their scores, with three standard errors and the tolerance.
        """
        shares, rows = self._shares(which, counts)
        n = np.maximum(rows, 1)
        means = self._means(which, shares)
        squares = (self._tables[which] ** 2 @ shares[:, :, None])[:, :, 0]
        error = np.sqrt(np.maximum(squares - means * means, 0.0) / n)
        beyond = means + SHOWN_DEVIATIONS * error + SHOWN_ROWS / n + self._slack[which]
        first = self.first[which]
        return np.where(rows < 2, first, np.maximum(first, beyond))


# Wealth.


@final
class Bettor:
    """The evidence of one kind of alarm about d features: wealth, and the threshold for an alarm.

    A feature has several lanes, such as the scores of units, which share its level. `open` (d,) says
    which features may raise an alarm, `parts` (d,) has the part of its share of alpha that a feature's
    next alarm may use, and `won` (d,) what a feature had won when its evidence last began again, at
    a wealth of one. With "ever" an alarm closes its feature until `arm` opens it again; with "arl"
    the feature goes on, at the same threshold.

    Args:
        source: what bets gain.
        levels: the share of alpha of each feature, (d,).
        guarantee: see `evidence`.
        horizon: for "arl", the members in which a level is the probability of a false alarm.
    """

    changing = ("source", "evidence", "open", "parts", "won")

    def __init__(
        self, source: Ranks | Limits, levels: Array, guarantee: Guarantee, horizon: int
    ) -> None:
        d = len(levels)
        ever = guarantee == "ever"
        self.source = source
        self.evidence = Evidence(d * source.lanes, source.weights, guarantee)
        self.levels = levels
        self._scale = source.lanes * (1 if ever else horizon)
        self.first = FIRST_PART if ever else 1.0
        self.open = np.ones(d, bool)
        self.parts = np.full(d, self.first)
        self.won = np.zeros(d)
        self._least = float(self.thresholds().min())  # later ones are higher

    def thresholds(self) -> Array:
        """The wealth at which each feature raises its next alarm, (d,)."""
        levels = self.levels * (1 - self.source.spared) * self.parts
        thresholds: Array = self._scale / np.maximum(levels, TINY_LEVEL)
        return thresholds

    def step(self, gain: Gain) -> list[int]:
        """Bet on a block; the numbers of the features that alarm now, which "ever" closes."""
        evidence = self.evidence
        evidence.step(*gain)
        if evidence.most < self._least:
            return []
        above = (self.by_feature(evidence.value).max(axis=1) >= self.thresholds()) & self.open
        if evidence.guarantee == "ever":
            self.open &= ~above
        return np.flatnonzero(above).tolist()

    def again(self, j: int) -> bool:
        """Whether the next alarm of a feature goes beyond one before."""
        if isinstance(self.source, Limits):
            return self.source.further(j)
        return bool(self.parts[j] != self.first)

    def go_on(self, j: int, recent: Array, blocks: int) -> None:
        """Let a feature that alarmed by recent blocks alarm again where it goes further.

        What is ranked is closed with "ever", until somebody knows of the alarm. `blocks` is the
        number of all blocks.
        """
        if self.evidence.guarantee == "ever":
            if not isinstance(self.source, Limits):
                return
            self.source.allow(j, recent, blocks)
        self.arm(j)

    def arm(self, j: int) -> None:
        """Let a feature raise another alarm, by evidence that begins again."""
        evidence = self.evidence
        if evidence.guarantee == "ever":
            self.won[j] += self.by_feature(evidence.value)[j].max() - 1
            self.open[j] = True
            self.parts[j] = LATER_PART * stake(evidence.steps)
        which = np.arange(len(self.open)) == j
        evidence.restart(np.repeat(which, self.source.lanes))

    def enough(self, wealth: Array) -> Array:
        """Mask (d,): features whose wealth (d,) is enough for a first alarm, raised or not."""
        least = self.levels * (1 - self.source.spared) * self.first
        return (wealth * least >= self._scale) & (least > 0)

    def began(self) -> Array:
        """The number of the block at which the best bet of each lane began, int64 (d, lanes)."""
        return self.by_feature(self.evidence.began() * self.source.blocks)

    def by_feature(self, values: Array) -> Array:
        """Values of all lanes, (d * lanes,), by feature, (d, lanes)."""
        return values.reshape(-1, self.source.lanes)
