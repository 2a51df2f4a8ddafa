"""Some units beside those of a reference: an exact test that permutes which came last, and effect sizes.

If the units of a call and those of the reference are exchangeable, within their strata, then any
choice of as many of them is as likely to be those of the call. A difference is compared with the
largest of all features under the same choice, so the p-values hold for all features together
(Westfall and Young 1993, single step).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.exact import REPLICATES, distances
from modelkit.drift.ranks import SCORES, unit_scores
from modelkit.drift.units import FULL_SHARE, ReferenceUnits, group_table, shares_of
from modelkit.drift.values import Effect

FEWEST_DRAWS = 1_999  # of choices of several units
TIE = 1e-9  # rounding apart, relative
WITHIN = 0.95  # of the distances that units of the reference have by themselves


@final
@dataclass(frozen=True)
class UnitComparison:
    """The p-value of each feature, adjusted for all; the score behind it; and the least possible.

    The p-value of a feature that is not tested is None.
    """

    p: list[float | None]
    scores: list[str]
    least: float


def compare_units(
    reference: ReferenceUnits,
    shares: Array,
    strata: Sequence[int],
    used: Array,
    *,
    alpha: float,
    seed: int,
) -> UnitComparison:
    """Compare units with those of a reference.

    Args:
        reference: the units of the reference.
        shares: those of the units to test, uint16 (k, d, 16).
        strata: the numbers of their strata.
        used: the features that are tested, bool (d,).
        alpha: the level, which the number of draws depends on.
        seed: of the choices that are drawn, where there are too many to list.
    """
    d = shares.shape[1]
    if not len(shares):
        return UnitComparison([None] * d, [SCORES[0]] * d, 1.0)
    groups = _by_stratum(reference, shares, np.array(strata))
    last = [scores[len(scores) - k :].sum(axis=0) for scores, k in groups]
    seen = np.abs(np.sum(last, axis=0))
    least, sums = _choices(groups, alpha, np.random.default_rng(seed))
    sums[:, ~used] = 0
    largest = np.concatenate([sums.max(axis=(1, 2)), np.full(1, np.inf)])
    if len(shares) == 1:  # the choice that was seen is among those that are listed
        largest = largest[:-1]
    p: list[float | None] = []
    for j, difference in enumerate(seen.max(axis=1).tolist()):
        extreme = largest >= difference * (1 - TIE)
        p.append(float(extreme.mean()) if used[j] else None)
    names = [SCORES[i] for i in seen.argmax(axis=1).tolist()]
    return UnitComparison(p, names, least)


Scored = list[tuple[Array, int]]


def _by_stratum(reference: ReferenceUnits, shares: Array, strata: Array) -> Scored:
    """For each stratum the scores of its units, those to test last, and the number of these.

    Only units with values of the same features change places. One without values of a feature would
    never differ by it, so that those with values would seem to differ more than they do.
    """
    members: dict[tuple[int, bytes], list[int]] = {}
    of_reference: dict[tuple[int, bytes], list[int]] = {}
    for i, key in enumerate(_kinds(shares, strata)):
        members.setdefault(key, []).append(i)
    for i, key in enumerate(_kinds(reference.shares, reference.strata)):
        of_reference.setdefault(key, []).append(i)
    groups = []
    for key in sorted(members):
        own = reference.shares[of_reference.get(key, [])]
        bag = np.concatenate([own, shares[members[key]]])
        groups.append((_standardised(bag), len(members[key])))
    return groups


def _kinds(shares: Array, strata: Array) -> list[tuple[int, bytes]]:
    """The stratum of each unit, and which features it has values of."""
    present: Array = np.any(shares, axis=2)
    return [(int(s), own.tobytes()) for s, own in zip(strata, present, strict=True)]


def _choices(groups: Scored, alpha: float, rng: np.random.Generator) -> tuple[float, Array]:
    """The least p-value that there may be, and absolute sums over choices of units, (n, d, 3).

    One unit may be each of the units; of more, choices are drawn.
    """
    if len(groups) == 1 and groups[0][1] == 1:
        scores, _ = groups[0]
        return 1 / len(scores), np.abs(scores)
    draws = max(FEWEST_DRAWS, ceil(1 / alpha) - 1)
    sums = np.sum([_drawn(scores, k, draws, rng) for scores, k in groups], axis=0)
    choices = 1
    for scores, k in groups:
        choices *= comb(len(scores), k)
    return max(1 / (draws + 1), 1 / choices), np.abs(sums)


def _standardised(bag: Array) -> Array:
    """The scores of units less their mean over all, in standard deviations, (n, d, 3).

    A unit without values of a feature has 0.
    """
    scores = unit_scores(bag)
    present = (bag > 0).any(axis=2, keepdims=True)
    n = np.maximum(present.sum(axis=0), 1)
    centred = np.where(present, scores - (scores * present).sum(axis=0) / n, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / n)
    return centred / np.where(spread > TIE, spread, np.inf)


def _drawn(scores: Array, k: int, draws: int, rng: np.random.Generator) -> Array:
    """The sums of scores over random choices of k units, (draws, d, 3)."""
    n = len(scores)
    order = rng.random((draws, n)).argsort(axis=1)[:, :k]
    chosen = np.zeros((draws, n))
    np.put_along_axis(chosen, order, 1.0, axis=1)
    return (chosen @ scores.reshape(n, -1)).reshape(draws, *scores.shape[1:])


# Effect sizes.


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
