"""Effect sizes with intervals: how far rows, or whole units, are from the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.units import FULL_SHARE, ReferenceUnits, group_table, shares_of
from modelkit.drift.values import Effect, FeatureDrift
from modelkit.stats.exact import merged_cells

LEVEL = 0.95
REPLICATES = 300
WITHIN = 0.95  # of the distances that units of the reference have by themselves


def row_effects(recent: Array, reference: Array, *, ordered: bool) -> tuple[Effect, ...]:
    """Effect sizes between the distributions behind two vectors of counts; none where one is empty.

    More than 32 cells are merged first, as for the test: with more, noise is most of the measured
    distance.

    * "ks": the largest distance of the two CDFs at the ends of cells; for ordered cells only.
    * "tv": total variation, the share of rows that would have to change.

    The intervals come from 300 draws of two multinomials, with a fixed seed: two reports on the same
    counts agree. The upper end is the 97.5 % percentile of the bootstrap. A percentile would not do
    for the lower end: the distance between two samples is always positive, so the interval would
    never hold 0, even where nothing changed. Each distance is a norm of the difference, so the lower
    end is the value less the 95 % quantile of the distance between two samples of the pooled rows.
    """
    if not recent.any() or not reference.any():
        return ()
    rng = np.random.default_rng(0)
    counts = merged_cells(recent, reference)
    sizes = [int(own.sum()) for own in counts]
    shares = [own / n for own, n in zip(counts, sizes, strict=True)]
    pooled = (counts[0] + counts[1]) / sum(sizes)
    samples = [rng.multinomial(n, p, REPLICATES) / n for n, p in zip(sizes, shares, strict=True)]
    unchanged = [rng.multinomial(n, pooled, REPLICATES) / n for n in sizes]
    found = []
    for name, distance in _distances(ordered=ordered):
        value = float(distance(*shares))
        low = value - float(np.quantile(distance(*unchanged), LEVEL))
        high = float(np.quantile(distance(*samples), (1 + LEVEL) / 2))
        found.append(Effect(name, value, max(low, 0.0), max(value, high)))
    return tuple(found)


def ks(p: Array, q: Array) -> Array:
    """The Kolmogorov-Smirnov distance of distributions over ordered cells, along the last axis."""
    distance: Array = np.abs(np.cumsum(p - q, axis=-1)).max(axis=-1)
    return distance


def tv(p: Array, q: Array) -> Array:
    """Total variation, along the last axis."""
    distance: Array = np.abs(p - q).sum(axis=-1) / 2
    return distance


def _distances(*, ordered: bool) -> list[tuple[str, Callable[[Array, Array], Array]]]:
    """The distances by name; alarms show the first."""
    return [("ks", ks), ("tv", tv)] if ordered else [("tv", tv)]


# Of units.


def unit_effects(
    units: ReferenceUnits | None, feature: Feature, j: int, recent: Array, strata: Sequence[int]
) -> Callable[[], tuple[Effect, ...]] | None:
    """A function that measures the effect sizes between the mean recent unit and the mean reference unit.

    None without values, and where the reference has none in one of the strata.

    Args:
        units: of the reference.
        feature: number `j` of the profile.
        j: its number.
        recent: counts (units, 67) of the recent units.
        strata: the numbers of their strata.
    """
    valued = np.flatnonzero(recent.any(axis=1)).tolist()
    theirs = [strata[i] for i in valued]
    if units is None or not valued:
        return None
    reference = units.shares[:, j]
    if not {*theirs} <= {*units.strata[reference.any(axis=1)].tolist()}:
        return None
    shares = shares_of(recent[valued], group_table([feature] * len(valued)))
    return partial(_unit_effects, shares, theirs, reference, units.strata, ordered=feature.ordered)


def _unit_effects(
    recent: Array, theirs: Sequence[int], reference: Array, strata: Array, *, ordered: bool
) -> tuple[Effect, ...]:
    """Effect sizes of units (k, 16), each beside units of the reference (m, 16) in its stratum.

    The interval is the value plus and minus a distance: 95 % of draws of as many reference units
    are not further than that from their mean. So it accounts for differences between units, which
    exceed those between rows. By the triangle inequality it covers where recent units vary as the
    reference does.
    """
    shares = reference / FULL_SHARE
    known = reference.any(axis=1)
    pools = [shares[known & (strata == stratum)] for stratum in theirs]
    mean = np.mean([pool.mean(axis=0) for pool in pools], axis=0)
    rng = np.random.default_rng(0)  # its own, so that a report is the same whenever asked for
    drawn = np.zeros((REPLICATES, recent.shape[1]))
    for pool in pools:
        drawn += pool[rng.integers(len(pool), size=REPLICATES)] / len(pools)
    now = (recent / FULL_SHARE).mean(axis=0)
    found = []
    for name, distance in _distances(ordered=ordered):
        value = float(distance(now, mean))
        noise = float(np.quantile(distance(drawn, mean), WITHIN))
        found.append(Effect(name, value, max(value - noise, 0.0), min(value + noise, 1.0)))
    return tuple(found)


# In shares of rows.


class Move(NamedTuple):
    """The rows that moved most, and their shares in the reference and in some rows.

    `label` names their cell; where `until`, it is their largest value.
    """

    label: str
    old: float
    new: float
    until: bool

    @property
    def size(self) -> float:
        """The difference of the shares, rounded."""
        return round(abs(self.new - self.old), 6)


def largest_move(drift: FeatureDrift) -> Move | None:
    """The rows whose share moved most.

    They are the missing ones, one category, or of ordered values all up to the upper end of a cell.
    None without recent rows, or where a share is not known.
    """
    if not drift.rows or not all(isfinite(old) and isfinite(new) for _, old, new in drift.cells):
        return None
    by_name = drift.kind in ("category", "flag")
    moves = []
    before = now = 0.0
    for label, old, new in drift.cells:
        before += old
        now += new
        _, to, end = label.rpartition("to ")
        if by_name or label == "(missing)":
            moves.append(Move(label, old, new, until=False))
        elif to:
            moves.append(Move(end, before, now, until=True))
    return max(moves, key=lambda move: move.size, default=None)
