"""One batch against the reference, from the counts of their cells: exact tests, effect sizes, several features at once.

`batch` and `reference` are int64 vectors of counts over the same K cells, of n and N rows. No
function here sees a row.

Where both hold exchangeable rows, the batch is a draw without replacement from the pooled counts,
so a p-value from such draws is exact for every n, N and K, ties included: P(p <= a) <= a for all a.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Literal

import numpy as np

from modelkit.cast import Array
from modelkit.drift.values import Effect

Statistic = Literal["anderson_darling", "chi_square"]
Score = Callable[[Array], Array]
Distance = Callable[[Array, Array], Array]
CELLS = 32  # a test's power hardly grows beyond them, its price does
DRAWABLE = 500_000_000  # numpy draws from fewer than 10**9 rows
MOST_DRAWN = 1 << 15  # at once, so that memory stays bounded
ENOUGH = 50  # draws as extreme as the batch after which its p-value is known well enough
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
    """The p-value of a permutation test from counts: (1 + draws at least as extreme) / (1 + draws).

    "anderson_darling" is for ordered cells (Scholz and Stephens 1987, with midranks), "chi_square"
    for the rest. More than 32 cells are merged first. Drawing ends early once 50 draws were as
    extreme as the batch; with the p-value 50 / draws the test stays exact (Besag and Clifford
    1991), and p-values below 50 / `permutations` are not touched.

    Returns:
        A p-value in (0, 1], not below 1 / (permutations + 1); 1 where either side is empty.
    """
    batch, reference = _merged(*_thinned(batch, reference, rng))
    pooled, n = batch + reference, int(batch.sum())
    if len(pooled) < 2 or n in (0, pooled.sum()):
        return 1.0
    score = (_anderson_darling if statistic == "anderson_darling" else _chi_square)(pooled, n)
    least = score(batch[None])[0] * (1 - TIE)
    drawn = extreme = 0
    while drawn < permutations:
        size = min(max(2 * ENOUGH, drawn), permutations - drawn, MOST_DRAWN)
        draws = rng.multivariate_hypergeometric(pooled, n, size, method="marginals")
        found = np.flatnonzero(score(draws) >= least)
        if extreme + len(found) >= ENOUGH:
            return ENOUGH / (drawn + int(found[ENOUGH - extreme - 1]) + 1)
        drawn += size
        extreme += len(found)
    return (1 + extreme) / (1 + drawn)


def _thinned(batch: Array, reference: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Keep each row with the same probability where there are too many to draw from; they stay exchangeable."""
    total = int(batch.sum()) + int(reference.sum())
    if total <= DRAWABLE:
        return batch, reference
    return rng.binomial(batch, DRAWABLE / total), rng.binomial(reference, DRAWABLE / total)


def _merged(batch: Array, reference: Array) -> tuple[Array, Array]:
    """Drop what is empty on both sides and merge neighbours into at most 32 cells.

    Which cells are merged may depend on the pooled counts alone: a draw would have merged the same.
    Were it to depend on the reference, the draws and the batch would be measured differently. The
    grid is even in arcsin(sqrt(CDF)) and so finer at both ends, where missing and infinite values,
    rare and new categories have their cells.
    """
    pooled = batch + reference
    kept = pooled > 0
    batch, reference, pooled = batch[kept], reference[kept], pooled[kept]
    if len(pooled) <= CELLS:
        return batch, reference
    middle = (np.cumsum(pooled) - pooled / 2) / pooled.sum()
    group = np.floor(np.arcsin(np.sqrt(middle)) * (2 / np.pi) * CELLS)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.add.reduceat(batch, starts), np.add.reduceat(reference, starts)


def _anderson_darling(pooled: Array, n: int) -> Score:
    """The two-sample statistic for tied values, up to a factor that no draw changes."""
    total = int(pooled.sum())
    rank = np.cumsum(pooled) - pooled / 2
    weight = pooled / (rank * (total - rank) - total * pooled / 4)
    expected = rank * (n / total)
    return lambda draws: np.square(np.cumsum(draws, axis=1) - draws / 2 - expected) @ weight


def _chi_square(pooled: Array, n: int) -> Score:
    expected = pooled * (n / int(pooled.sum()))
    weight = 1 / pooled
    return lambda draws: np.square(draws - expected) @ weight


def permutations_for(features: int, alpha: float) -> int:
    """How many permutations Holm's correction over so many features needs to reject at all at level alpha."""
    return max(999, 20 * features, ceil(features / alpha - 1e-9) - 1)


def holm(p: Array) -> Array:
    """Adjusted p-values: rejecting what is <= alpha errs with probability <= alpha, however dependent (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.arange(len(p), 0, -1) * p[order]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def rate_test(count: int, n: int, reference_count: int, reference_n: int) -> float:
    """Fisher's exact two-sided p-value that two rates are the same: `count` of n rows, `reference_count` of N.

    All tables that are no more likely than the one seen are counted, as scipy.stats.fisher_exact
    does. Of a table beyond 40 standard deviations and 1,000 rows from the mean, the probability is
    below the smallest float.
    """
    total, marked = n + reference_n, count + reference_count
    low, high = max(0, marked - reference_n), min(n, marked)
    if low == high:
        return 1.0
    mean = n * marked / total
    reach = 40 * (mean * (1 - marked / total) * (reference_n / total)) ** 0.5 + 1000
    if abs(count - mean) > reach:
        return TINY
    x = np.arange(max(low, int(mean - reach)), min(high, ceil(mean + reach)), dtype=float)
    ratio = (marked - x) * (n - x) / ((x + 1) * (reference_n - marked + x + 1))
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratio))])
    seen = logs[count - int(x[0])]
    weights = np.exp(logs - logs.max())
    p = weights[logs <= seen + 1e-7].sum() / weights.sum()
    return float(np.clip(p, TINY, 1))


def effects(
    batch: Array, reference: Array, rng: np.random.Generator, *, ordered: bool
) -> tuple[Effect, ...]:
    """Effect sizes between the distributions behind two vectors of counts; neither may be empty.

    More than 32 cells are merged first, as for the test: with more, noise is most of what is
    measured.

    * "ks": the largest distance of the two CDFs at the ends of cells; for ordered cells only.
    * "tv": total variation, the share of rows that would have to change.
    * "js": Jensen-Shannon distance, base 2.
    * "psi": population stability index less its mean under no change, (K - 1)(1/n + 1/N), and not
      below 0. Half a row is added to each cell. There is no rule of thumb: 0.1 and 0.25 mean
      nothing without n, N and K.

    Intervals are from 300 draws of two multinomials. The upper end is the 97.5 % percentile of the
    bootstrap. Below, a percentile would not do: each of these is positive between any two samples,
    so an interval of percentiles never holds 0, even where nothing changed. Each behaves like a
    norm of the difference, so the lower end is the value less the 95 % quantile of what it is
    between two samples of the pooled rows.
    """
    counts = _merged(batch, reference)
    sizes = int(batch.sum()), int(reference.sum())
    pooled = (counts[0] + counts[1]) / sum(sizes)
    samples = tuple(
        rng.multinomial(n, c / n, REPLICATES) for c, n in zip(counts, sizes, strict=True)
    )
    unchanged = tuple(rng.multinomial(n, pooled, REPLICATES) for n in sizes)

    def measured(distance: Distance, extra: float = 0) -> tuple[float, float, float]:
        value, many, noise = (
            distance(
                *((c + extra) / (n + extra * len(pooled)) for c, n in zip(pair, sizes, strict=True))
            )
            for pair in (counts, samples, unchanged)
        )
        low = max(float(value - np.quantile(noise, LEVEL)), 0.0)
        return float(value), low, max(float(value), float(np.quantile(many, (1 + LEVEL) / 2)))

    plain = {"ks": ks, "tv": tv, "js": js} if ordered else {"tv": tv, "js": js}
    index, low, high = np.square(measured(root_psi, 0.5))
    bias = (len(pooled) - 1) * sum(1 / n for n in sizes)
    psi = max(float(index) - bias, 0.0)
    return (
        *(Effect(name, *measured(distance)) for name, distance in plain.items()),
        Effect("psi", psi, min(float(low), psi), max(float(high) - bias, psi)),
    )


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
    divergence = sum(
        (part * np.log(np.maximum(part, TINY) / middle)).sum(axis=-1) for part in (p, q)
    )
    distance: Array = np.sqrt(np.maximum(divergence, 0) / (2 * np.log(2)))
    return distance


def root_psi(p: Array, q: Array) -> Array:
    """The root of the population stability index of distributions without empty cells, along the last axis."""
    distance: Array = np.sqrt(((p - q) * np.log(p / q)).sum(axis=-1))
    return distance
