"""How large a difference is, where units are what varies: effect sizes from shares of whole units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.exact import REPLICATES, js, ks, tv
from modelkit.drift.ranks import FULL_SHARE
from modelkit.drift.units import ReferenceUnits, group_table, shares_of
from modelkit.drift.values import Effect

WITHIN = 0.95  # of the distances that units of the reference have by themselves


def sides(
    feature: Feature, reference: ReferenceUnits, j: int, recent: Array, strata: Sequence[int]
) -> tuple[Array, list[int], Array, Array] | None:
    """What `unit_effects` compares of feature number j, from counts (units, 67) of recent units.

    None without values, and where the reference has none in a stratum.
    """
    own = [i for i, counts in enumerate(recent) if counts.any()]
    shares = reference.shares[:, j]
    known = {*reference.strata[shares.any(axis=1)].tolist()}
    theirs = [strata[i] for i in own]
    if not own or not {*theirs} <= known:
        return None
    table = group_table([feature] * len(own))
    return shares_of(recent[own], table), theirs, shares, reference.strata


def unit_effects(
    recent: Array, strata: Sequence[int], reference: Array, own: Array, *, ordered: bool
) -> tuple[Effect, ...]:
    """Effect sizes between the mean of recent units and that of the reference's, with intervals.

    Each recent unit is compared with units of its stratum, of which the reference has some. The
    interval is the value less, and plus, a distance that 95 % of as many units of the reference
    keep from their mean: it has the differences between units in it, which are more than those
    between rows. As a distance is never more than the sum of two others, it covers where recent
    units vary as the reference does.

    Args:
        recent: what is kept of k units, uint16 (k, 16): see `ReferenceUnits`.
        strata: the numbers of their strata.
        reference: likewise of the units of the reference, (m, 16).
        own: the numbers of their strata, (m,).
        ordered: whether the order of the groups means something.
    """
    shares = reference / FULL_SHARE
    kept = reference.any(axis=1)  # that have values of the feature
    pools = [shares[kept & (own == stratum)] for stratum in strata]
    mean = np.mean([pool.mean(axis=0) for pool in pools], axis=0)
    rng = np.random.default_rng(0)  # its own, so that a report is the same whenever asked for
    drawn = np.zeros((REPLICATES, reference.shape[1]))
    for pool in pools:
        drawn += pool[rng.integers(len(pool), size=REPLICATES)] / len(pools)
    now = (recent / FULL_SHARE).mean(axis=0)
    distances = {"tv": tv, "js": js}
    if ordered:
        distances = {"ks": ks} | distances
    found = []
    for name, distance in distances.items():
        value = float(distance(now, mean))
        noise = float(np.quantile(distance(drawn, mean), WITHIN))
        found.append(Effect(name, value, max(value - noise, 0.0), min(value + noise, 1.0)))
    return tuple(found)


def first_effect(
    recent: Array, strata: Sequence[int], reference: Array, own: Array, *, ordered: bool
) -> Effect:
    """The first of `unit_effects`."""
    return unit_effects(recent, strata, reference, own, ordered=ordered)[0]
