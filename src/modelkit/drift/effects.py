"""How far rows are from the reference, or units from those of the reference: sizes with intervals."""

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

    Intervals are from 300 draws of two multinomials, by a generator with a seed of its own, so that
    a report is the same whenever it is asked for. The upper end is the 97.5 % percentile of the
    bootstrap. Below, a percentile would not do: each of these is positive between any two samples,
    so an interval of percentiles never holds 0, even where nothing changed. Each is a norm of the
    difference, so the lower end is the value less the 95 % quantile of the distance between two
    samples of the pooled rows.
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
    """The distances that are measured, the first of them for alarms."""
    return [("ks", ks), ("tv", tv)] if ordered else [("tv", tv)]


# Of units.


def unit_effects(
    units: ReferenceUnits | None, feature: Feature, j: int, recent: Array, strata: Sequence[int]
) -> Callable[[], tuple[Effect, ...]] | None:
    """What measures effect sizes between the mean of recent units and that of the reference's.

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

    The interval is the value less, and plus, a distance that 95 % of as many units of the reference
    keep from their mean: it has the differences between units in it, which are more than those
    between rows. As a distance is never more than the sum of two others, it covers where recent
    units vary as the reference does.
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

    They are those of the cell `label`, or all up to the value `label` where `until`.
    """

    label: str
    old: float
    new: float
    until: bool

    @property
    def size(self) -> float:
        """The difference of the shares, but for rounding."""
        return round(abs(self.new - self.old), 6)


def largest_move(drift: FeatureDrift) -> Move | None:
    """The rows whose share moved most.

    For ordered values these are all rows up to the upper end of some cell, for others one category;
    or the missing ones. None without recent rows, or where a share is not known.
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
