"""Effect sizes between a batch and the reference, from their counts of cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.values import Effect
from modelkit.stats.exact import TINY, merged_cells

Distance = Callable[[Array, Array], Array]
LEVEL = 0.95
REPLICATES = 300


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
        self._counts = merged_cells(batch, reference)
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
