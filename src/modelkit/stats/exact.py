"""Exact tests from counts of cells.

`batch` and `reference` are int64 vectors of counts over the same K cells, of n and N rows. No
function here sees a row.

Where both hold exchangeable rows, the batch is a draw without replacement from the pooled counts,
so a p-value from such draws is exact for every n, N and K, ties included: P(p <= a) <= a for all a.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, lgamma

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.stats.intervals import special_functions
from modelkit.stats.ranks import midranks

Score = Callable[[Array], Array]
MOST_CELLS = 32  # a test's power hardly grows beyond them, its price does
DRAWABLE = 500_000_000  # numpy draws from fewer than 10**9 rows
MOST_DRAWN = 1 << 15  # at once, so that memory stays bounded
ENOUGH_DRAWS = 50  # draws as extreme as the batch after which its p-value is known well enough
TIE = 1e-12  # rounding apart, relative
TINY = float(np.finfo(np.float64).tiny)


def exact_test(
    batch: Array, reference: Array, rng: np.random.Generator, permutations: int, *, ordered: bool
) -> float:
    """The p-value of a permutation test: (1 + draws at least as extreme) / (1 + draws).

    The statistic is Anderson and Darling's where cells are ordered (Scholz and Stephens 1987, with
    midranks), else chi-square. More than 32 cells are merged first. Drawing ends early once 50 draws were as
    extreme as the batch; with the p-value 50 / draws the test stays exact (Besag and Clifford
    1991), and p-values below 50 / `permutations` are not touched.

    Returns:
        A p-value in (0, 1], not below 1 / (permutations + 1); 1 where either side is empty.
    """
    batch, reference = _thinned(batch, reference, rng)
    batch, reference = merged_cells(batch, reference)
    pooled = batch + reference
    n = int(batch.sum())
    if len(pooled) < 2 or n in (0, pooled.sum()):
        return 1.0
    score = _score_of(pooled, n, ordered=ordered)
    least = score(batch[None])[0] * (1 - TIE)
    drawn = 0
    extreme = 0
    while drawn < permutations:
        size = min(max(2 * ENOUGH_DRAWS, drawn), permutations - drawn, MOST_DRAWN)
        draws = rng.multivariate_hypergeometric(pooled, n, size, method="marginals")
        hits = np.flatnonzero(score(draws) >= least)
        if extreme + len(hits) >= ENOUGH_DRAWS:
            last = int(hits[ENOUGH_DRAWS - extreme - 1])
            return ENOUGH_DRAWS / (drawn + last + 1)
        drawn += size
        extreme += len(hits)
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


def merged_cells(batch: Array, reference: Array) -> tuple[Array, Array]:
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
    middle = midranks(pooled) / pooled.sum()
    group = np.floor(np.arcsin(np.sqrt(middle)) * (2 / np.pi) * MOST_CELLS)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.add.reduceat(batch, starts), np.add.reduceat(reference, starts)


def _score_of(pooled: Array, n: int, *, ordered: bool) -> Score:
    """The statistic of draws (m, K) of n rows, up to a factor that no draw changes."""
    total = int(pooled.sum())
    places_of = midranks if ordered else np.asarray
    places = places_of(pooled)
    expected = places * (n / total)
    weight = 1 / pooled
    if ordered:
        weight = pooled / (places * (total - places) - total * pooled / 4)

    def score(draws: Array) -> Array:
        return np.square(places_of(draws) - expected) @ weight

    return score


def permutations_for(features: int, alpha: float) -> int:
    """The number of permutations that lets Holm's correction over the features reject at alpha."""
    needed = ceil(features / alpha - 1e-9) - 1
    return max(999, 20 * features, needed)


def rate_test(count: int, n: int, reference_count: int, reference_n: int) -> float:
    """Fisher's exact two-sided p-value that two rates agree: count / n, reference_count / N."""
    with importing("scipy", "an exact test", "drift"):
        from scipy.stats import fisher_exact

    table = [[count, n - count], [reference_count, reference_n - reference_count]]
    return max(float(fisher_exact(table).pvalue), TINY)


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
    betaln = special_functions().betaln
    new, past = counts + 0.5, reference + 0.5
    apart = betaln(new[..., 0], new[..., 1]) - betaln(0.5, 0.5)
    both = new + reference
    factors: Array = apart + betaln(past[..., 0], past[..., 1]) - betaln(both[..., 0], both[..., 1])
    return factors
