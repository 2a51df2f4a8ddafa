"""D1 and D2 for whole units: conformal test martingales over days, weeks or batches.

A unit's p-value is its rank among the units of the reference and those judged before, within its
stratum. If all of them are exchangeable, these p-values are independent and uniform, for a
reference of any size. Bets on them add up over units, so that a change which no single unit shows
is found all the same. For "material" a unit is ranked as if it had been moved back by all that is
allowed, and those before it forward: bets on such ranks win no more than on the true ones. The
proofs are in docs/drift_guarantees.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import band, codec
from modelkit.drift.thresholds import Thresholds, anytime_p
from modelkit.drift.unit_scores import (
    PLACE_SCORES,
    SCORES,
    last_ranks,
    place_scores,
    tail_shares,
    unit_scores,
)
from modelkit.drift.units import ReferenceUnits, most_units
from modelkit.stats.evidence import Evidence, Guarantee

P_PLACES = 64  # of equal width, which a p-value falls into
SHIFTS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)  # that bets on location are best for, in deviations
SPREADS = (2.5, 1.5, 0.5, 0.25)  # that bets on scale are best for, in deviations
WEIGHTS = (1.0,) * 14 + (0.5, 0.5)  # of the bets, in this order
ALL = slice(None)
OF_REFERENCE = -1  # of units that were judged, the number of those judged before
TWO_DEVIATIONS = 2.0  # that the mean of some units may be from the reference by chance
RANKED_AT_ONCE = 1 << 17  # numbers of a bag: what stays in the cache of a core
HORIZON_UNITS = 1_000  # in which alpha is the probability of a false alarm, for "arl"


@cache
def unit_bets() -> tuple[Array, Array]:
    """What each bet pays for a p-value in each of 64 places.

    Each is a ratio of normal densities at the normal quantile of the p-value: twelve are of shifts,
    each way, and four of spreads.

    Returns:
        The logarithms of the gains, (64, 16), and the weights of the bets, (16,).
    """
    x = _quantiles()
    logs = []
    for shift in SHIFTS:
        up = shift * x
        logs.append(up)
        logs.append(-up)
    for spread in SPREADS:
        narrower = 1 - spread**-2
        logs.append(x * x * narrower / 2)
    table = np.exp(np.array(logs)).T
    fair = table / table.mean(axis=0)
    weights = np.array(WEIGHTS)
    return np.log(fair), weights / weights.sum()


@cache
def tail_bets() -> tuple[Array, Array]:
    """What each bet on small p-values pays in each of 64 places: the less, the larger the p-value.

    Returns:
        The logarithms of the gains, (64, 6), and the weights of the bets, (6,).
    """
    down = unit_bets()[0][:, 1 : 2 * len(SHIFTS) : 2]
    return down, np.full(len(SHIFTS), 1 / len(SHIFTS))


def _quantiles() -> Array:
    """The normal quantile of the middle of each place, (64,)."""
    normal = NormalDist()
    middles = (np.arange(P_PLACES) + 0.5) / P_PLACES
    return np.array([normal.inv_cdf(p) for p in middles.tolist()])


@final
@dataclass(eq=False)
class Ranking:
    """A unit on its way through its features: the first `ranked` of them have their p-values.

    `bag` (n, d, 16) has the unit last, and `order` (n,) is that of being judged. `p` (d, 9) and
    `draws` for the ties are of the scores for "changed", and then of those for "material".
    """

    bag: Array
    order: Array
    stratum: int
    draws: Array
    p: Array
    ranked: int = 0

    def split(self, both: Array) -> tuple[Array, Array]:
        """What is of the scores for "changed", (d, 3), and for "material", (d, 6)."""
        return both[:, : len(SCORES)], both[:, len(SCORES) :]


@final
class RankTest:
    """The evidence of one kind about d features, by the ranks of some scores of each.

    Args:
        names: of the scores.
        bets: the logarithms of their gains in each place, and their weights.
        levels: the share of alpha of each feature, (d,).
        guarantee: see `evidence`.
    """

    def __init__(
        self, names: tuple[str, ...], bets: tuple[Array, Array], levels: Array, guarantee: Guarantee
    ) -> None:
        self.names = names
        self._logs, weights = bets
        self._evidence = Evidence(len(levels) * len(names), weights, guarantee)
        self.limits = Thresholds(levels, guarantee, HORIZON_UNITS, len(names))
        self._levels = levels / len(names)

    @property
    def steps(self) -> int:
        """The number of units that were bet on."""
        return self._evidence.steps

    @property
    def levels(self) -> Array:
        """The share of alpha of each score of each feature for its next alarm, (d,)."""
        levels: Array = self._levels * self.limits.parts
        return levels

    def bet(self, p: Array, present: Array) -> None:
        """Bet on the p-values (d, scores) of the features that a unit has, (d,)."""
        places = (p * P_PLACES).astype(np.int64)
        logs = self._logs[np.minimum(places, P_PLACES - 1)]
        logs[~present] = 0.0
        logs = logs.reshape(-1, logs.shape[-1])
        rows = np.repeat(present, len(self.names))
        self._evidence.step(logs, np.exp(logs), rows.astype(np.int64))

    def crossed(self) -> list[tuple[int, int]]:
        """The number of each feature that is an alarm now, and of the score that says so."""
        best = self._by_feature(self._evidence.value).argmax(axis=1)
        return [(j, int(best[j])) for j in self.limits.cross(self._evidence)]

    def arm(self, j: int) -> None:
        """Let a feature raise another alarm, by evidence that begins anew."""
        self.limits.arm(j, self._evidence)

    def open_again(self, j: int) -> bool:
        """The same for a feature that its alarm has closed; whether it was."""
        return self.limits.open_again(j, self._evidence)

    def p(self) -> Array:
        """The p-value of each score of each feature, (d, scores).

        For "ever" it is valid at all times together, for "arl" at each one of them.
        """
        return self._p_of(self._evidence.peak)

    def p_now(self) -> Array:
        """The same by the evidence since the last alarm alone."""
        return self._p_of(self._evidence.value)

    def _p_of(self, wealth: Array) -> Array:
        ever = self._evidence.guarantee == "ever"
        return self._by_feature(anytime_p(wealth, 1 if ever else max(self.steps, 1)))

    def feature_p(self) -> Array:
        """The p-value of each feature, of all its scores together, (d,)."""
        p: Array = np.minimum(1.0, self.p().min(axis=1) * len(self.names))
        return p

    def began(self) -> Array:
        """The number of units judged before the estimated change, for each score, (d, scores)."""
        return self._by_feature(self._evidence.began())

    def _by_feature(self, of_scores: Array) -> Array:
        return of_scores.reshape(-1, len(self.names))

    def state(self, kind: str) -> dict[str, Array]:
        """Everything that changes, under the name of the kind."""
        own = {f"{kind} {name}": array for name, array in self._evidence.state().items()}
        return own | self.limits.state(kind)

    def restore(self, arrays: dict[str, Array], kind: str) -> None:
        """Go on from `state()`, bit for bit."""
        self._evidence.restore(codec.under(f"{kind} ", arrays))
        self.limits.restore(arrays, kind)


@final
class UnitEvidence:
    """The units that a new one is ranked among, and the evidence about d features by kind.

    `centre` (d, 6) is how far each place score of a unit is from the reference, as far as alarms have
    shown, and `slack` (d, 6) how far it may be from there, either way: at first the tolerance.

    Args:
        units: those of the reference.
        strata: the number of strata.
        levels: for "changed" and "material" the share of alpha of each feature, (d,).
        tolerances: that of each feature, (d,).
        guarantee: see `evidence`.
        seed: of the ties, and of the units that are forgotten.
    """

    def __init__(
        self,
        units: ReferenceUnits,
        strata: int,
        levels: Mapping[str, Array],
        tolerances: Array,
        guarantee: Guarantee,
        seed: np.random.SeedSequence,
    ) -> None:
        d = len(tolerances)
        room = 2 * most_units(d) // strata
        self._bags = [units.shares[units.strata == s] for s in range(strata)]
        self._order = [np.full(len(bag), OF_REFERENCE) for bag in self._bags]  # of being judged
        self._most = [max(room, len(bag)) for bag in self._bags]
        self._rng = np.random.default_rng(seed)
        self._ranking: Ranking | None = None
        self.guarantee = guarantee
        self.tests = {
            "changed": RankTest(SCORES, unit_bets(), levels["changed"], guarantee),
            "material": RankTest(PLACE_SCORES, tail_bets(), levels["material"], guarantee),
        }
        half = np.ptp(band.polynomials(band.BAND_GROUPS), axis=1) / 2
        self._first = tolerances[:, None] * np.tile(half, 2)
        self.centre = np.zeros_like(self._first)
        self.slack = self._first.copy()
        self._since = np.zeros(d, np.int64)  # the units judged before those ranked for "material"
        self._from = np.full(d, OF_REFERENCE)  # since which units are ranked for "changed"
        self._usual, self._spread = _usual(units, strata)

    @property
    def judged(self) -> int:
        """The number of units judged."""
        return self.tests["changed"].steps

    @property
    def ranks(self) -> bool:
        """Whether a unit that began is not ranked by all features yet."""
        return self._ranking is not None

    def judge(self, shares: Array, stratum: int) -> Array:
        """Rank a unit, uint16 (d, 16), in a stratum and bet on its ranks.

        Returns:
            Its p-values for "changed", (d, 3).
        """
        self.begin(shares, stratum)
        while True:
            p = self.rank_part()
            if p is not None:
                return p

    def begin(self, shares: Array, stratum: int) -> None:
        """Take a unit as `judge` does, which `rank_part` is then called for until it is ranked."""
        bag = np.concatenate([self._bags[stratum], shares[None]])
        order = np.append(self._order[stratum], self.judged)
        draws = self._rng.random((len(shares), len(SCORES) + len(PLACE_SCORES)))
        self._ranking = Ranking(bag, order, stratum, draws, np.empty_like(draws))

    def rank_part(self) -> Array | None:
        """Rank the unit by its next features; bet on its p-values once it has them all.

        Returns those for "changed", (d, 3), then.
        """
        own = self._ranking
        if own is None:
            raise ValueError("no unit began")
        n, d, groups = own.bag.shape
        end = own.ranked + max(RANKED_AT_ONCE // (n * groups), 1)
        part = slice(own.ranked, end)
        changed, tails = own.split(own.p)
        for_changed, for_tails = own.split(own.draws)
        since = own.order[:, None] >= self._from[part]
        bag = own.bag[:, part] * since[:, :, None]
        present: Array = np.any(bag, axis=2)  # has values of a feature
        changed[part] = last_ranks(unit_scores(bag), present, for_changed[part])
        tails[part] = self._tails(own.bag, own.order, for_tails, part)
        own.ranked = end
        if end < d:
            return None
        self._ranking = None
        self._keep(own)
        known: Array = np.any(own.bag[-1], axis=1)
        self.tests["changed"].bet(changed, known & (own.order[-1] >= self._from))
        self.tests["material"].bet(tails, known)
        return changed

    def _keep(self, own: Ranking) -> None:
        """Keep the bag for later units, without one where it has too many."""
        bag, order = own.bag, own.order
        if len(bag) > self._most[own.stratum]:
            # Whichever it is, it must not matter which of them came last: see the proof.
            forgotten = self._rng.integers(len(bag))
            bag = np.delete(bag, forgotten, axis=0)
            order = np.delete(order, forgotten)
        self._bags[own.stratum] = bag
        self._order[own.stratum] = order

    def _tails(self, bag: Array, order: Array, draws: Array, part: slice = ALL) -> Array:
        """The p-values (d, 6) of a unit that is moved back, and of those before it forward."""
        own = bag[:, part]
        scores = place_scores(own)
        scores[-1] -= self._allowed()[part]
        later = order[:-1] > OF_REFERENCE
        scores[:-1] += later[:, None, None] * (self.slack - self.centre)[part]
        ranked = (order[:, None] == OF_REFERENCE) | (order[:, None] >= self._since[part])
        return tail_shares(scores, np.any(own, axis=2) & ranked, draws[part])

    def shuffled(self, items: Sequence[int]) -> list[int]:
        """The items in a random order; one item draws nothing."""
        if len(items) < 2:
            return list(items)
        return [items[i] for i in self._rng.permutation(len(items)).tolist()]

    def _allowed(self) -> Array:
        """How far a unit may be moved in each score, (d, 6): back to the reference in any case."""
        allowed: Array = np.maximum(self.centre, 0) + self.slack
        return allowed

    def crossed(self) -> list[tuple[str, int, int]]:
        """The kind and feature of each alarm that there is now, and the number of its score."""
        return [
            (kind, j, score) for kind, test in self.tests.items() for j, score in test.crossed()
        ]

    def again(self, kind: str, j: int) -> bool:
        """Whether an alarm of a feature now goes beyond one before."""
        if kind == "changed":
            return bool(self._from[j] > OF_REFERENCE)
        return bool(self.centre[j].any())

    def open_again(self, j: int) -> None:
        """Let a feature that raised the alarm "changed" raise another one, by later units alone.

        They are ranked among themselves. The next one, which may be open, is left out.
        """
        if self.tests["changed"].open_again(j):
            self._from[j] = self.judged + 1

    def allow(self, j: int, shares: Array, strata: Sequence[int]) -> None:
        """Let a feature be as far from the reference as the units that it alarmed about.

        Args:
            j: its number.
            shares: those of the units, uint16 (units, 16).
            strata: the numbers of their strata.
        """
        self._arm(j, *self._shown(j, shares, strata))

    def tighten(self, shares: Array, strata: Sequence[int]) -> None:
        """Hold features to less that are nearer to the reference in the last units (units, d, 16).

        Of features that were allowed more since some of these, nothing is known yet.
        """
        further = self.centre.any(axis=1)
        further &= self.judged - self._since >= len(shares)
        for j in np.flatnonzero(further).tolist():
            own = shares[:, j].any(axis=1)
            if not own.any():
                continue
            centre, slack = self._shown(j, shares[own, j], np.array(strata)[own])
            if (centre <= slack).all():
                centre, slack = np.zeros_like(centre), self._first[j]
            less = self._allowed()[j] - np.maximum(centre, 0) - slack
            if (less > self._first[j]).any() and (less > -self._first[j]).all():
                self._arm(j, centre, slack)

    def _shown(self, j: int, shares: Array, strata: Sequence[int] | Array) -> tuple[Array, Array]:
        """How far units are from the reference, (6,), and by how much that may be wrong."""
        moved = place_scores(shares) - self._usual[np.asarray(strata), j]
        by_chance = TWO_DEVIATIONS * self._spread[j] / np.sqrt(len(shares))
        return moved.mean(axis=0), self._first[j] + by_chance

    def _arm(self, j: int, centre: Array, slack: Array) -> None:
        self.centre[j] = centre
        self.slack[j] = slack
        self._since[j] = self.judged
        self.tests["material"].arm(j)

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and values that JSON can hold."""
        arrays = {f"bag {s}": bag for s, bag in enumerate(self._bags)}
        arrays |= {f"order {s}": order for s, order in enumerate(self._order)}
        arrays["from"] = self._from
        arrays["centre"] = self.centre
        arrays["slack"] = self.slack
        arrays["since"] = self._since
        for kind, test in self.tests.items():
            arrays |= test.state(kind)
        return arrays, {"generator": self._rng.bit_generator.state}

    def restore(self, arrays: dict[str, Array], plain: dict[str, Any]) -> None:
        """Go on from `state()`, bit for bit."""
        strata = range(len(self._bags))
        self._bags = [arrays[f"bag {s}"].copy() for s in strata]
        self._order = [arrays[f"order {s}"].copy() for s in strata]
        self._from = arrays["from"].copy()
        self.centre = arrays["centre"].copy()
        self.slack = arrays["slack"].copy()
        self._since = arrays["since"].copy()
        for kind, test in self.tests.items():
            test.restore(arrays, kind)
        self._rng.bit_generator.state = plain["generator"]


def _usual(units: ReferenceUnits, strata: int) -> tuple[Array, Array]:
    """The mean place scores of the reference's units, (strata, d, 6), and their deviation, (d, 6)."""
    scores = place_scores(units.shares)
    present: Array = np.any(units.shares, axis=2)
    usual = np.zeros((strata, *scores.shape[1:]))
    for s in range(strata):
        usual[s] = _mean(scores, np.logical_and(present, (units.strata == s)[:, None]))
    apart = (scores - usual[units.strata]) ** 2
    return usual, np.sqrt(_mean(apart, present))


def _mean(scores: Array, present: Array) -> Array:
    """The mean of scores (n, d, 6) over the units that have a feature, (d, 6)."""
    total = (scores * present[:, :, None]).sum(axis=0)
    mean: Array = total / np.maximum(present.sum(axis=0), 1)[:, None]
    return mean
