"""One batch against the reference, from counts of cells: exact tests and effect sizes.

`batch` and `reference` are int64 vectors of counts over the same K cells, of n and N rows. No
function here sees a row.

Where both hold exchangeable rows, the batch is a draw without replacement from the pooled counts,
so a p-value from such draws is exact for every n, N and K, ties included: P(p <= a) <= a for all a.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, lgamma
from typing import Literal

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.values import Effect

Statistic = Literal["anderson_darling", "chi_square"]
Score = Callable[[Array], Array]
Distance = Callable[[Array, Array], Array]
MOST_CELLS = 32  # a test's power hardly grows beyond them, its price does
DRAWABLE = 500_000_000  # numpy draws from fewer than 10**9 rows
MOST_DRAWN = 1 << 15  # at once, so that memory stays bounded
ENOUGH_DRAWS = 50  # draws as extreme as the batch after which its p-value is known well enough
TIE = 1e-12  # rounding apart, relative
LEVEL = 0.95
REPLICATES = 300
TINY = float(np.finfo(np.float64).tiny)


def exact_test(
    batch: Array,
    reference: Array,
    statistic: Statistic,
    rng: np.random.Generator,
    permutations: int,
) -> float:
    """The p-value of a permutation test: (1 + draws at least as extreme) / (1 + draws).

    "anderson_darling" is for ordered cells (Scholz and Stephens 1987, with midranks), "chi_square"
    for the rest. More than 32 cells are merged first. Drawing ends early once 50 draws were as
    extreme as the batch; with the p-value 50 / draws the test stays exact (Besag and Clifford
    1991), and p-values below 50 / `permutations` are not touched.

    Returns:
        A p-value in (0, 1], not below 1 / (permutations + 1); 1 where either side is empty.
    """
    batch, reference = _thinned(batch, reference, rng)
    batch, reference = _merged(batch, reference)
    pooled = batch + reference
    n = int(batch.sum())
    if len(pooled) < 2 or n in (0, pooled.sum()):
        return 1.0
    score_of = _anderson_darling if statistic == "anderson_darling" else _chi_square
    score = score_of(pooled, n)
    least = score(batch[None])[0] * (1 - TIE)
    drawn = 0
    extreme = 0
    while drawn < permutations:
        size = min(max(2 * ENOUGH_DRAWS, drawn), permutations - drawn, MOST_DRAWN)
        draws = rng.multivariate_hypergeometric(pooled, n, size, method="marginals")
        found = np.flatnonzero(score(draws) >= least)
        if extreme + len(found) >= ENOUGH_DRAWS:
            last = int(found[ENOUGH_DRAWS - extreme - 1])
            return ENOUGH_DRAWS / (drawn + last + 1)
        drawn += size
        extreme += len(found)
    return (1 + extreme) / (1 + drawn)


def _thinned(batch: Array, reference: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Both counts with few enough rows to draw from.

    Each row is kept with the same probability, so rows that were exchangeable stay so.
    """
    total = int(batch.sum()) + int(reference.sum())
    if total <= DRAWABLE:
        return batch, reference
    share = DRAWABLE / total
    return rng.binomial(batch, share), rng.binomial(reference, share)


def _merged(batch: Array, reference: Array) -> tuple[Array, Array]:
    """Drop the cells that are empty on both sides and merge neighbours into at most 32 cells.

    Which cells are merged may depend on the pooled counts alone: a draw would have merged the same.
    Were it to depend on the reference, the draws and the batch would be measured differently. The
    grid is even in arcsin(sqrt(CDF)) and so finer at both ends, where missing and infinite values,
    rare and new categories have their cells.
    """
    kept = batch + reference > 0
    batch = batch[kept]
    reference = reference[kept]
    pooled = batch + reference
    if len(pooled) <= MOST_CELLS:
        return batch, reference
    middle = (np.cumsum(pooled) - pooled / 2) / pooled.sum()
    group = np.floor(np.arcsin(np.sqrt(middle)) * (2 / np.pi) * MOST_CELLS)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.add.reduceat(batch, starts), np.add.reduceat(reference, starts)


def _anderson_darling(pooled: Array, n: int) -> Score:
    """The two-sample statistic for tied values, up to a factor that no draw changes."""
    total = int(pooled.sum())
    rank = np.cumsum(pooled) - pooled / 2
    weight = pooled / (rank * (total - rank) - total * pooled / 4)
    expected = rank * (n / total)

    def score(draws: Array) -> Array:
        ranks = np.cumsum(draws, axis=1) - draws / 2
        found: Array = np.square(ranks - expected) @ weight
        return found

    return score


def _chi_square(pooled: Array, n: int) -> Score:
    expected = pooled * (n / int(pooled.sum()))
    weight = 1 / pooled

    def score(draws: Array) -> Array:
        found: Array = np.square(draws - expected) @ weight
        return found

    return score


def permutations_for(features: int, alpha: float) -> int:
    """The number of permutations that lets Holm's correction over the features reject at alpha."""
    needed = ceil(features / alpha - 1e-9) - 1
    return max(999, 20 * features, needed)


def rate_test(count: int, n: int, reference_count: int, reference_n: int) -> float:
    """Fisher's exact two-sided p-value that two rates agree: count / n, reference_count / N.

    All tables that are no more likely than the one seen are counted, as scipy.stats.fisher_exact
    does. Of a table beyond 40 standard deviations and 1,000 rows from the mean, the probability is
    below the smallest float.
    """
    total = n + reference_n
    marked = count + reference_count
    low = max(0, marked - reference_n)
    high = min(n, marked)
    if low == high:
        return 1.0
    mean = n * marked / total
    variance = mean * (1 - marked / total) * (reference_n / total)
    reach = 40 * variance**0.5 + 1000
    if abs(count - mean) > reach:
        return TINY
    first = max(low, int(mean - reach))
    last = min(high, ceil(mean + reach))
    x = np.arange(first, last, dtype=float)
    ratio = (marked - x) * (n - x) / ((x + 1) * (reference_n - marked + x + 1))
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratio))])
    seen = logs[count - first]
    weights = np.exp(logs - logs.max())
    p = weights[logs <= seen + 1e-7].sum() / weights.sum()
    return float(np.clip(p, TINY, 1))


def constant_test(batch: Array, reference: Array) -> float:
    """The probability that all n rows of a batch are in one cell, whichever, given the pooled rows.

    It is the exact p-value of a batch that is so: the batch is a draw without replacement.
    """
    n = int(batch.sum())
    pooled = (batch + reference).tolist()
    total = sum(pooled)
    logs = [_log_choose(rows, n) - _log_choose(total, n) for rows in pooled if rows >= n]
    return float(np.clip(np.exp(logs).sum(), TINY, 1))


def _log_choose(rows: int, n: int) -> float:
    return lgamma(rows + 1) - lgamma(n + 1) - lgamma(rows - n + 1)


def lasting_test(generations: Array, reference: Array, first: int, *, ordered: bool) -> float:
    """The p-value of rows that come in generations (g, K), numbered from `first` on, at any time.

    An alarm decides when a report is made and by which rows, so a test of fixed rows would err
    more often than it says. This is one over a mean of Bayes factors, over the ways to part the
    cells in two and over the generations of rows that may have been the first to differ: by Ville's
    inequality it is ever at most p with a probability of at most p.
    """
    since = np.cumsum(generations[::-1], axis=0)[::-1]  # each generation
    counts = _parted(np.vstack([reference, since]), ordered=ordered)
    factors = _log_bayes_factors(counts[1:], counts[0])
    begins = first + np.arange(len(since)) + 1.0
    weights = 1 / (begins * (begins + 1) * factors.shape[1])  # all generations: at most 1
    most = factors.max()
    evidence = np.log((np.exp(factors - most) * weights[:, None]).sum()) + most
    return float(np.exp(-max(evidence, 0.0)))


def _parted(counts: Array, *, ordered: bool) -> Array:
    """Counts (n, 67) as counts (n, ways, 2): numbers are parted by a threshold, categories one from all.

    The ways must not depend on the counts, for instance on which cells are empty.
    """
    cells = np.cumsum(counts, axis=1)[:, :-1] if ordered else counts
    return np.stack([cells, counts.sum(axis=1)[:, None] - cells], axis=-1)


def _log_bayes_factors(counts: Array, reference: Array) -> Array:
    """That two counts of two outcomes (..., 2) have different chances, by Jeffreys' prior of each."""
    from scipy.special import betaln

    own, past = counts + 0.5, reference + 0.5
    apart = betaln(own[..., 0], own[..., 1]) - betaln(0.5, 0.5)
    both = own + reference
    factors: Array = apart + betaln(past[..., 0], past[..., 1]) - betaln(both[..., 0], both[..., 1])
    return factors


def effects(
    batch: Array, reference: Array, rng: np.random.Generator, *, ordered: bool
) -> tuple[Effect, ...]:
    """Effect sizes between the distributions behind two vectors of counts; neither may be empty.

    More than 32 cells are merged first, as for the test: with more, noise is most of the measured
    distance.

    * "ks": the largest distance of the two CDFs at the ends of cells; for ordered cells only.
    * "tv": total variation, the share of rows that would have to change.
    * "js": Jensen-Shannon distance, base 2.
    * "psi": population stability index less its mean under no change, (K - 1)(1/n + 1/N), and not
      below 0. Half a row is added to each cell. There is no rule of thumb: 0.1 and 0.25 mean
      nothing without n, N and K.

    Intervals are from 300 draws of two multinomials. The upper end is the 97.5 % percentile of the
    bootstrap. Below, a percentile would not do: each of these is positive between any two samples,
    so an interval of percentiles never holds 0, even where nothing changed. Each behaves like a
    norm of the difference, so the lower end is the value less the 95 % quantile of the distance
    between two samples of the pooled rows.
    """
    pairs = _Samples(batch, reference, rng)
    index = pairs.measured(root_psi, 0.5)
    found = [
        Effect(name, *pairs.measured(distance)) for name, distance in distances(ordered=ordered)
    ]
    return (*found, _psi(pairs, index))


def distances(*, ordered: bool) -> list[tuple[str, Distance]]:
    """The distances that are measured, the first of them for alarms."""
    return [*([("ks", ks)] if ordered else []), ("tv", tv), ("js", js)]


def _psi(pairs: _Samples, roots: tuple[float, float, float]) -> Effect:
    """The stability index from its root, less its mean under no change."""
    index, low, high = np.square(roots).tolist()
    bias = (pairs.cells - 1) * sum(1 / n for n in pairs.sizes)
    psi = max(index - bias, 0.0)
    return Effect("psi", psi, min(low, psi), max(high - bias, psi))


def main_effect(recent: Array, reference: Array, *, ordered: bool) -> Effect:
    """The first of the effect sizes between counts (67,); neither may be empty."""
    name, distance = distances(ordered=ordered)[0]
    pairs = _Samples(recent, reference, np.random.default_rng(0))  # as in `all_effects`
    return Effect(name, *pairs.measured(distance))


def all_effects(recent: Array, reference: Array, *, ordered: bool) -> tuple[Effect, ...]:
    """The effect sizes between counts (67,); none where either side is empty.

    The generator has a seed of its own, so that a report is the same whenever it is asked for.
    """
    if not recent.sum() or not reference.sum():
        return ()
    return effects(recent, reference, np.random.default_rng(0), ordered=ordered)


class _Samples:
    """Two vectors of counts, 300 samples of each, and 300 pairs of samples that do not differ."""

    def __init__(self, batch: Array, reference: Array, rng: np.random.Generator) -> None:
        self.sizes = (int(batch.sum()), int(reference.sum()))
        self._counts = _merged(batch, reference)
        self.cells = len(self._counts[0])
        pooled = (self._counts[0] + self._counts[1]) / sum(self.sizes)
        shares = [c / n for c, n in zip(self._counts, self.sizes, strict=True)]
        self._samples = self._drawn(shares, rng)
        self._unchanged = self._drawn([pooled, pooled], rng)

    def _drawn(self, shares: list[Array], rng: np.random.Generator) -> tuple[Array, ...]:
        sides = zip(self.sizes, shares, strict=True)
        return tuple(rng.multinomial(n, share, REPLICATES) for n, share in sides)

    def measured(self, distance: Distance, extra: float = 0) -> tuple[float, float, float]:
        """A distance and its interval; `extra` rows are added to each cell."""
        value = float(self._between(self._counts, distance, extra))
        samples = self._between(self._samples, distance, extra)
        noise = self._between(self._unchanged, distance, extra)
        low = max(float(value - np.quantile(noise, LEVEL)), 0.0)
        high = max(value, float(np.quantile(samples, (1 + LEVEL) / 2)))
        return value, low, high

    def _between(self, pair: tuple[Array, ...], distance: Distance, extra: float) -> Array:
        shares = []
        for counts, n in zip(pair, self.sizes, strict=True):
            shares.append((counts + extra) / (n + extra * self.cells))
        return distance(shares[0], shares[1])


def ks(p: Array, q: Array) -> Array:
    """The Kolmogorov-Smirnov distance of distributions over ordered cells, along the last axis."""
    distance: Array = np.abs(np.cumsum(p - q, axis=-1)).max(axis=-1)
    return distance


def tv(p: Array, q: Array) -> Array:
    """Total variation, along the last axis."""
    distance: Array = np.abs(p - q).sum(axis=-1) / 2
    return distance


def js(p: Array, q: Array) -> Array:
    """The Jensen-Shannon distance, base 2, along the last axis."""
    middle = np.maximum((p + q) / 2, TINY)
    divergence = _divergence(p, middle) + _divergence(q, middle)
    distance: Array = np.sqrt(np.maximum(divergence, 0) / (2 * np.log(2)))
    return distance


def _divergence(p: Array, middle: Array) -> Array:
    """The Kullback-Leibler divergence of p from a distribution without empty cells, in nats."""
    divergence: Array = (p * np.log(np.maximum(p, TINY) / middle)).sum(axis=-1)
    return divergence


def root_psi(p: Array, q: Array) -> Array:
    """The root of the population stability index of distributions without empty cells."""
    distance: Array = np.sqrt(((p - q) * np.log(p / q)).sum(axis=-1))
    return distance
