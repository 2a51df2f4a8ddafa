"""Where a whole unit ranks among others by its scores: for "changed" (D1), and for "material" (D2).

Units are known by their shares in 16 groups of cells. `ranks` has rows, which are units of one row.
The proofs are in docs/explanation/drift_proofs.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.limits import BAND_GROUPS, Limits, polynomials
from modelkit.drift.ranks import NO_TIME, Gain, Ranked, bets_on_tails, count_slots, rank_gains
from modelkit.drift.units import FULL_SHARE, ReferenceUnits, group_table, most_units, shares_of

OF_REFERENCE = -1  # of units that were judged, the number of those judged before
RECENT_UNITS = 8  # whose counts are kept for effect sizes
SCORES = ("location", "scale", "distance")
PLACE_SCORES = (  # the means of three polynomials of the place of a unit's rows, each way
    "places up",
    "places spread",
    "places skewed",
    "places down",
    "places drawn together",
    "places skewed down",
)
TWO_DEVIATIONS = 2.0  # that the mean of some units may be from the reference by chance


@final
class UnitTails(Limits):
    """D2 on whole units: a unit is ranked as if it had been moved back by all that is allowed.

    Those before it are moved forward, and bets on such ranks win no more than on the true ones.
    `limits` (d, 12) are, of each place score, how far a unit is from the reference as far as alarms
    have shown, and then how far it may be from there, either way: at first the tolerance. Units
    before those `allowed` are not ranked.

    Args:
        units: the units of the reference.
        strata: the number of strata.
        features: the d features.
        tolerances: the tolerance of each feature, (d,).
    """

    lanes = len(PLACE_SCORES)
    changing = (*Limits.changing, "strata")

    def __init__(
        self, units: ReferenceUnits, strata: int, features: Sequence[Feature], tolerances: Array
    ) -> None:
        half = np.ptp(polynomials(BAND_GROUPS), axis=1) / 2
        slack = tolerances[:, None] * np.tile(half, 2)
        super().__init__(np.hstack([np.zeros_like(slack), slack]))
        self._table, self.weights = bets_on_tails()
        self.groups = group_table(features)
        self._usual, self._spread = _usual(units, strata)
        self.strata: deque[int] = deque(maxlen=RECENT_UNITS)  # of the last units

    def ranks(self, bag: Array, order: Array, draws: Array) -> Array:
        """The p-values (d, 6) of the last of n units, NaN where it lacks values of a feature.

        Args:
            bag: the units' shares, uint16 (n, d, 16).
            order: of each, the number of units judged before it, (n,).
            draws: uniform on [0, 1), (d, 6).
        """
        centre, slack = np.split(self.limits, 2, axis=1)
        scores = place_scores(bag)
        scores[-1] -= _furthest(self.limits)
        later = order[:-1] > OF_REFERENCE
        scores[:-1] += later[:, None, None] * (slack - centre)
        ranked = (order[:, None] == OF_REFERENCE) | (order[:, None] >= self.allowed)
        return tail_shares(scores, np.any(bag, axis=2) & ranked, draws)

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain]:
        """What bets gain on each unit."""
        slots = ranked.slots["material"]
        return rank_gains(slots, self._table, slots.sum(axis=2))

    def shown(self, j: int, recent: Array) -> Array:
        """How far units with counts (units, 67) are from the reference, and how wrong that may be."""
        having = recent.any(axis=1)
        strata = np.array(self.strata)[-len(recent) :][having]
        shares = shares_of(recent[having], self.groups[[j] * int(having.sum())])
        moved = place_scores(shares) - self._usual[strata, j]
        by_chance = TWO_DEVIATIONS * self._spread[j] / np.sqrt(len(shares))
        _, slack = np.split(self.first[j], 2)
        return np.append(moved.mean(axis=0), slack + by_chance)

    def nearer(self, which: Array, recent: Array) -> Array:
        """The limits that such units need, where these are less by more than the tolerance."""
        return np.array([self._nearer(j, recent[:, j]) for j in which.tolist()])

    def _nearer(self, j: int, recent: Array) -> Array:
        now: Array = self.limits[j]
        if not recent.any():
            return now
        limit = self.shown(j, recent)
        centre, slack = np.split(limit, 2)
        if (centre <= slack).all():
            limit = self.first[j]
        _, tolerance = np.split(self.first[j], 2)
        less = _furthest(now) - _furthest(limit)
        enough = (less > tolerance).any() and (less > -tolerance).all()
        return limit if enough else now


def _furthest(limits: Array) -> Array:
    """How far a unit may be moved in each score, (..., 6): back to the reference in any case."""
    centre, slack = np.split(limits, 2, axis=-1)
    furthest: Array = np.maximum(centre, 0) + slack
    return furthest


def _usual(units: ReferenceUnits, strata: int) -> tuple[Array, Array]:
    """The mean place scores of the reference's units, (strata, d, 6), and their deviation, (d, 6)."""
    scores = place_scores(units.shares)
    present: Array = np.any(units.shares, axis=2)
    usual = np.zeros((strata, *scores.shape[1:]))
    for s in range(strata):
        usual[s] = _mean(scores, present & (units.strata == s)[:, None])
    apart = (scores - usual[units.strata]) ** 2
    return usual, np.sqrt(_mean(apart, present))


def _mean(scores: Array, present: Array) -> Array:
    """The mean of scores (n, d, 6) over the units that have a feature, (d, 6)."""
    total = (scores * present[:, :, None]).sum(axis=0)
    mean: Array = total / np.maximum(present.sum(axis=0), 1)[:, None]
    return mean


def place_scores(shares: Array) -> Array:
    """The means of three polynomials of the place of a unit's rows, each way, float64 (..., 6).

    They are functions of the unit alone.

    Args:
        shares: of units, uint16 (..., 16).
    """
    one_way = (shares / FULL_SHARE) @ polynomials(BAND_GROUPS).T
    return np.concatenate([one_way, -one_way], axis=-1)


def tail_shares(scores: Array, present: Array, draws: Array) -> Array:
    """The share of units whose score is at least the last one's, float64 (d, 6).

    NaN where it lacks values of a feature. Of the last one itself a random part is counted, so
    it is uniform where no other is equal.

    Args:
        scores: of n units, (n, d, 6).
        present: whether a unit has values of a feature, bool (n, d).
        draws: uniform on [0, 1), (d, 6).
    """
    higher = (scores[:-1] >= scores[-1]) & present[:-1, :, None]
    units = present.sum(axis=0)[:, None]
    p: Array = (higher.sum(axis=0) + draws) / np.maximum(units, 1)
    return np.where(present[-1][:, None], p, np.nan)


@final
class UnitBag:
    """The units of the reference and those that were judged, by their shares, in each stratum.

    `since` (d,) is the number of units judged before those that a later one is ranked among for
    "changed".

    Args:
        units: the units of the reference.
        strata: the number of strata.
        features: the d features.
        tolerances: the tolerance of each feature, (d,).
        seed: of the ties, and of the units that are forgotten.
    """

    changing = ("bags", "order", "since", "rng")
    growing = ("bags", "order")

    def __init__(
        self,
        units: ReferenceUnits,
        strata: int,
        features: Sequence[Feature],
        tolerances: Array,
        seed: np.random.SeedSequence,
    ) -> None:
        d = len(features)
        most = 2 * most_units(d) // strata
        self.tails = UnitTails(units, strata, features, tolerances)  # ranks for "material"
        self.bags = [units.shares[units.strata == s] for s in range(strata)]
        self.order = [np.full(len(bag), OF_REFERENCE) for bag in self.bags]
        self.room = [max(most, len(bag)) for bag in self.bags]
        self.since = np.full(d, OF_REFERENCE)
        self.rng = np.random.default_rng(seed)

    def rank(self, counts: Array, shares: Array, stratum: int, number: int) -> Ranked:
        """Rank a unit that comes after a number of judged units, and keep it.

        It has counts (d, 67) and shares, uint16 (d, 16).
        """
        bag = np.concatenate([self.bags[stratum], shares[None]])
        order = np.append(self.order[stratum], number)
        scores = len(SCORES)
        draws = self.rng.random((len(counts), scores + self.tails.lanes))
        since = bag * (order[:, None] >= self.since)[:, :, None]
        slots = {
            "changed": _unit_slots(
                last_ranks(unit_scores(since), np.any(since, axis=2), draws[:, :scores])
            ),
            "material": _unit_slots(self.tails.ranks(bag, order, draws[:, scores:])),
        }
        self._keep(bag, order, stratum)
        self.tails.strata.append(stratum)
        ends = np.array([[number + 1, NO_TIME, NO_TIME]])
        return Ranked(slots, counts[None], counts.sum(axis=1)[None], ends)

    def _keep(self, bag: Array, order: Array, stratum: int) -> None:
        """Keep the bag for later units, without one where it has too many."""
        if len(bag) > self.room[stratum]:
            # Whichever it is, it must not matter which of them came last: see the proof.
            forgotten = self.rng.integers(len(bag))
            bag = np.delete(bag, forgotten, axis=0)
            order = np.delete(order, forgotten)
        self.bags[stratum] = bag
        self.order[stratum] = order

    def begin_anew(self, j: int, block: int) -> None:
        """Rank later units of feature number `j` among themselves, from after this one on.

        It may be open, and is left out.
        """
        self.since[j] = block + 1


def _unit_slots(p: Array) -> Array:
    """The p-values (d, scores) of one unit as `Ranked.slots`, (1, d * scores, 64)."""
    lanes = p.reshape(1, -1)
    return count_slots(np.nan_to_num(lanes), np.isnan(lanes))[None]


# Scores of units.


def unit_scores(bag: Array) -> Array:
    """The three scores of each unit, float64 (n, d, 3): functions of it and of the sum of all units.

    So all are measured alike, and it does not matter which came last. The sum is one of integers, so
    that rounding does not depend on the order of units either.

    With the mid-ranks of the 16 groups among the rows of all units: the mean rank of a unit's rows,
    the mean of the second Legendre polynomial of their ranks, and the total variation between the
    unit and all units.

    Args:
        bag: the shares of n units, uint16 (n, d, 16).
    """
    pool = bag.sum(axis=0, dtype=np.int64)
    total = pool.sum(axis=1, keepdims=True)
    total = np.maximum(total, 1)
    upto = np.cumsum(pool, axis=1)
    location = (2 * upto - pool) / total - 1
    scale = 1.5 * location**2 - 0.5
    shares = bag / FULL_SHARE
    apart = np.abs(shares - pool / total)
    numbers = (shares * location, shares * scale, apart / 2)
    sums = [groups.sum(axis=2) for groups in numbers]
    return np.stack(sums, axis=2)


def last_ranks(scores: Array, present: Array, draws: Array) -> Array:
    """The p-values of the last unit: its rank among all, ties at random, float64 (d, 3).

    NaN where it lacks values of a feature.

    Args:
        scores: of n units, (n, d, 3).
        present: whether a unit has values of a feature, bool (n, d).
        draws: uniform on [0, 1), (d, 3).
    """
    last = scores[-1]
    counted = present[:, :, None]
    lower = (scores < last) & counted
    equal = (scores == last) & counted
    units = counted.sum(axis=0)
    rank = lower.sum(axis=0) + draws * equal.sum(axis=0)
    return np.where(counted[-1], rank / np.maximum(units, 1), np.nan)
