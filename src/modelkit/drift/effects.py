"""How far rows are from the reference, or units from those of the reference: sizes with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.units import FULL_SHARE, ReferenceUnits, group_table, shares_of
from modelkit.drift.values import Effect
from modelkit.stats.exact import merged_cells

Distance = Callable[[Array, Array], Array]
LEVEL = 0.95
REPLICATES = 300
WITHIN = 0.95  # of the distances that units of the reference have by themselves


def row_effects(recent: Array, reference: Array, *, ordered: bool) -> tuple[Effect, ...]:
    """Effect sizes between the distributions behind two vectors of counts; none where one is empty.

    More than 32 cells are merged first, as for the test: with more, noise is most of the measured
    distance.

    * "ks": the largest distance of the two CDFs at the ends of cells; for ordered cells only.
    * "tv": total variation, the share of rows that would have to change.

    Intervals are from 300 draws of two multinomials, by a generator with a seed of its own, so that
    a report is the same whenever it is asked for. The upper end is the 97.5 % percentile of the
    bootstrap. Below, a percentile would not do: each of these is positive between any two samples,
    so an interval of percentiles never holds 0, even where nothing changed. Each is a norm of the
    difference, so the lower end is the value less the 95 % quantile of the distance between two
    samples of the pooled rows.
    """
    if not recent.any() or not reference.any():
        return ()
    pairs = _Samples(recent, reference, np.random.default_rng(0))
    return tuple(Effect(name, *pairs.measured(own)) for name, own in distances(ordered=ordered))


def main_effect(recent: Array, reference: Array, *, ordered: bool) -> Effect:
    """The first of `row_effects`; neither of the counts may be empty."""
    return row_effects(recent, reference, ordered=ordered)[0]


def distances(*, ordered: bool) -> list[tuple[str, Distance]]:
    """The distances that are measured, the first of them for alarms."""
    return [("ks", ks), ("tv", tv)] if ordered else [("tv", tv)]


class _Samples:
    """Two vectors of counts, 300 samples of each, and 300 pairs of samples that do not differ."""

    def __init__(self, batch: Array, reference: Array, rng: np.random.Generator) -> None:
        self.sizes = (int(batch.sum()), int(reference.sum()))
        self._counts = merged_cells(batch, reference)
        pooled = (self._counts[0] + self._counts[1]) / sum(self.sizes)
        shares = [c / n for c, n in zip(self._counts, self.sizes, strict=True)]
        self._samples = self._drawn(shares, rng)
        self._unchanged = self._drawn([pooled, pooled], rng)

    def _drawn(self, shares: list[Array], rng: np.random.Generator) -> tuple[Array, ...]:
        sides = zip(self.sizes, shares, strict=True)
        return tuple(rng.multinomial(n, share, REPLICATES) for n, share in sides)

    def measured(self, distance: Distance) -> tuple[float, float, float]:
        """A distance and its interval."""
        value = float(self._between(self._counts, distance))
        samples = self._between(self._samples, distance)
        noise = self._between(self._unchanged, distance)
        low = max(float(value - np.quantile(noise, LEVEL)), 0.0)
        high = max(value, float(np.quantile(samples, (1 + LEVEL) / 2)))
        return value, low, high

    def _between(self, pair: tuple[Array, ...], distance: Distance) -> Array:
        p, q = (counts / n for counts, n in zip(pair, self.sizes, strict=True))
        return distance(p, q)


def ks(p: Array, q: Array) -> Array:
    """The Kolmogorov-Smirnov distance of distributions over ordered cells, along the last axis."""
    distance: Array = np.abs(np.cumsum(p - q, axis=-1)).max(axis=-1)
    return distance


def tv(p: Array, q: Array) -> Array:
    """Total variation, along the last axis."""
    distance: Array = np.abs(p - q).sum(axis=-1) / 2
    return distance


# Of units.


class UnitSides(NamedTuple):
    """What is kept of one feature in k recent units and in m of the reference, with their strata.

    The shares are uint16 (k, 16) and (m, 16): see `ReferenceUnits`.
    """

    recent: Array
    strata: list[int]
    reference: Array
    reference_strata: Array
    ordered: bool

    @staticmethod
    def of(
        units: ReferenceUnits, feature: Feature, j: int, recent: Array, strata: Sequence[int]
    ) -> UnitSides | None:
        """The sides of feature number j, from counts (units, 67) of recent units in these strata.

        None without values, and where the reference has none in one of the strata.
        """
        valued = [i for i, counts in enumerate(recent) if counts.any()]
        reference = units.shares[:, j]
        known = units.strata[reference.any(axis=1)]
        theirs = [strata[i] for i in valued]
        if not valued or not {*theirs} <= {*known.tolist()}:
            return None
        table = group_table([feature] * len(valued))
        shares = shares_of(recent[valued], table)
        return UnitSides(shares, theirs, reference, units.strata, feature.ordered)

    def effects(self) -> tuple[Effect, ...]:
        """Effect sizes between the mean of the recent units and that of the reference's.

        Each recent unit is compared with units of its stratum. The interval is the value less, and
        plus, a distance that 95 % of as many units of the reference keep from their mean: it has
        the differences between units in it, which are more than those between rows. As a distance
        is never more than the sum of two others, it covers where recent units vary as the reference
        does.
        """
        shares = self.reference / FULL_SHARE
        valued = self.reference.any(axis=1)
        pools = [shares[valued & (self.reference_strata == stratum)] for stratum in self.strata]
        mean = np.mean([pool.mean(axis=0) for pool in pools], axis=0)
        rng = np.random.default_rng(0)  # its own, so that a report is the same whenever asked for
        drawn = np.zeros((REPLICATES, self.reference.shape[1]))
        for pool in pools:
            drawn += pool[rng.integers(len(pool), size=REPLICATES)] / len(pools)
        now = (self.recent / FULL_SHARE).mean(axis=0)
        found = []
        for name, distance in distances(ordered=self.ordered):
            value = float(distance(now, mean))
            noise = float(np.quantile(distance(drawn, mean), WITHIN))
            found.append(Effect(name, value, max(value - noise, 0.0), min(value + noise, 1.0)))
        return tuple(found)

    def main_effect(self) -> Effect:
        """The first of `effects`."""
        return self.effects()[0]
