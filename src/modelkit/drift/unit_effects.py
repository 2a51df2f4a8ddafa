"""How large a difference is, where units are what varies: effect sizes from shares of whole units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit.cast import Array
from modelkit.drift.exact import REPLICATES, js, ks, tv
from modelkit.drift.values import Effect

WITHIN = 0.95  # of the distances that units of the reference have by themselves


def unit_effects(
    recent: Array,
    strata: Sequence[int],
    reference: Array,
    own: Array,
    *,
    ordered: bool,
) -> tuple[Effect, ...]:
    """Effect sizes between the mean of recent units and that of the reference's, with intervals.

    Each recent unit is compared with units of its stratum. The interval is the value less, and
    plus, a distance that 95 % of as many units of the reference keep from their mean: it has the
    differences between units in it, which are more than those between rows. As a distance is never
    more than the sum of two others, it covers where recent units vary as the reference does.

    Args:
        recent: shares of k units in 16 groups, float64 (k, 16).
        strata: the numbers of their strata.
        reference: shares of the units of the reference, float64 (m, 16).
        own: the numbers of their strata, (m,).
        ordered: whether the order of the groups means something.
    """
    pools = [reference[own == stratum] for stratum in strata]
    if not pools or not all(map(len, pools)):
        return ()
    mean = np.mean([pool.mean(axis=0) for pool in pools], axis=0)
    rng = np.random.default_rng(0)  # its own, so that a report is the same whenever asked for
    drawn = np.zeros((REPLICATES, reference.shape[1]))
    for pool in pools:
        drawn += pool[rng.integers(len(pool), size=REPLICATES)] / len(pools)
    now = recent.mean(axis=0)
    distances = {"tv": tv, "js": js}
    if ordered:
        distances = {"ks": ks} | distances
    found = []
    for name, distance in distances.items():
        value = float(distance(now, mean))
        noise = float(np.quantile(distance(drawn, mean), WITHIN))
        found.append(Effect(name, value, max(value - noise, 0.0), min(value + noise, 1.0)))
    return tuple(found)
