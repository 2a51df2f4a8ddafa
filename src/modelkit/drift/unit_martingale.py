"""D1 for whole units: a conformal test martingale over days, weeks or batches.

A unit's p-value is its rank among the units of the reference and those judged before, within its
stratum. If all of them are exchangeable, these p-values are independent and uniform, for a
reference of any size. Bets on them add up over units, so that a change which no single unit shows
is found all the same. The proof is in docs/drift_guarantees.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import archive
from modelkit.drift.thresholds import TINY_LEVEL
from modelkit.drift.unit_scores import SCORES, last_ranks, unit_scores
from modelkit.drift.units import ReferenceUnits, most_units
from modelkit.evidence import LEAST_WEALTH, Evidence, Guarantee

P_PLACES = 64  # of equal width, which a p-value falls into
SHIFTS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)  # that bets on location are best for, in deviations
SPREADS = (2.5, 1.5, 0.5, 0.25)  # that bets on scale are best for, in deviations
WEIGHTS = (1.0,) * 14 + (0.5, 0.5)  # of the bets, in this order
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


def _quantiles() -> Array:
    """The normal quantile of the middle of each place, (64,)."""
    normal = NormalDist()
    middles = (np.arange(P_PLACES) + 0.5) / P_PLACES
    return np.array([normal.inv_cdf(p) for p in middles.tolist()])


@dataclass(eq=False)
class Ranking:
    """A unit on its way through its features: the first `ranked` of them have their p-values, (d, 3).

    `bag` (n, d, 16) has the unit last, `draws` (d, 3) are for its ties.
    """

    bag: Array
    stratum: int
    draws: Array
    p: Array
    ranked: int = 0


@final
class UnitEvidence:
    """The units that a new one is ranked among, and the evidence about d features.

    Args:
        units: those of the reference.
        strata: the number of strata.
        levels: the share of alpha of each feature, (d,).
        guarantee: see `evidence`.
        seed: of the ties, and of the units that are forgotten.
    """

    def __init__(
        self,
        units: ReferenceUnits,
        strata: int,
        levels: Array,
        guarantee: Guarantee,
        seed: np.random.SeedSequence,
    ) -> None:
        d = len(levels)
        room = 2 * most_units(d) // strata
        self._bags = [units.shares[units.strata == s] for s in range(strata)]
        self._most = [max(room, len(bag)) for bag in self._bags]
        self._rng = np.random.default_rng(seed)
        self._ranking: Ranking | None = None
        self._logs, weights = unit_bets()
        self._evidence = Evidence(d * len(SCORES), weights, guarantee)
        self._quiet = levels > 0
        self.levels = levels / len(SCORES)  # of each score
        scale = 1 if guarantee == "ever" else HORIZON_UNITS
        limits = scale / np.maximum(self.levels, TINY_LEVEL)
        self._limits = limits[:, None]

    @property
    def judged(self) -> int:
        """The number of units judged."""
        return self._evidence.steps

    @property
    def ranks(self) -> bool:
        """Whether a unit that began is not ranked by all features yet."""
        return self._ranking is not None

    def judge(
        self,
        shares: Array,
        stratum: int,
    ) -> Array:
        """Rank a unit, uint16 (d, 16), in a stratum and bet on its ranks.

        Returns:
            Its p-values, (d, 3).
        """
        self.begin(shares, stratum)
        while True:
            p = self.rank_part()
            if p is not None:
                return p

    def begin(
        self,
        shares: Array,
        stratum: int,
    ) -> None:
        """Take a unit as `judge` does, which `rank_part` is then called for until it is ranked."""
        bag = np.concatenate([self._bags[stratum], shares[None]])
        draws = self._rng.random((len(shares), len(SCORES)))
        self._ranking = Ranking(bag, stratum, draws, np.empty_like(draws))

    def rank_part(self) -> Array | None:
        """Rank the unit by its next features; bet on its p-values (d, 3) once it has them all."""
        own = self._ranking
        if own is None:
            raise ValueError("no unit began")
        n, d, groups = own.bag.shape
        end = own.ranked + max(RANKED_AT_ONCE // (n * groups), 1)
        part = slice(own.ranked, end)
        bag = own.bag[:, part]
        present: Array = np.any(bag, axis=2)  # has values of a feature
        own.p[part] = last_ranks(unit_scores(bag), present, own.draws[part])
        own.ranked = end
        if end < d:
            return None
        self._ranking = None
        self._bags[own.stratum] = self._kept(own.bag, own.stratum)
        self._bet(own.p, np.any(own.bag[-1], axis=1))
        return own.p

    def _kept(self, bag: Array, stratum: int) -> Array:
        """A bag without one unit where it has too many, for later ones to be ranked among."""
        n = len(bag)
        if n <= self._most[stratum]:
            return bag
        # Whichever it is, it must not matter which of them came last: see the proof.
        return np.delete(bag, self._rng.integers(n), axis=0)

    def shuffled(self, items: Sequence[int]) -> list[int]:
        """The items in a random order; one item draws nothing."""
        if len(items) < 2:
            return list(items)
        return [items[i] for i in self._rng.permutation(len(items)).tolist()]

    def _bet(
        self,
        p: Array,
        present: Array,
    ) -> None:
        places = (p * P_PLACES).astype(np.int64)
        places = np.minimum(places, P_PLACES - 1)
        logs = self._logs[places]
        logs[~present] = 0.0
        bets = logs.shape[-1]
        logs = logs.reshape(-1, bets)
        rows = np.repeat(present, len(SCORES))
        self._evidence.step(logs, np.exp(logs), rows.astype(np.int64))

    def crossed(self) -> list[tuple[int, int]]:
        """The number of each feature that is an alarm now, and of the score that says so."""
        value = _by_feature(self._evidence.value)
        above = (value >= self._limits).any(axis=1)
        above &= self._quiet
        best = value.argmax(axis=1).tolist()
        features = np.flatnonzero(above).tolist()
        found = [(j, best[j]) for j in features]
        if self._evidence.guarantee == "ever":
            self._quiet &= ~above
        return found

    def restart(
        self,
        features: list[int],
    ) -> None:
        """Begin anew for features that raised an alarm, as "arl" does."""
        if features and self._evidence.guarantee == "arl":
            which = np.zeros(len(self.levels), bool)
            which[features] = True
            self._evidence.restart(np.repeat(which, len(SCORES)))

    def p(self) -> Array:
        """The p-value of each score of each feature, (d, 3).

        For "ever" it is valid at all times together, for "arl" at each one of them.
        """
        evidence = self._evidence
        staked = 1 if evidence.guarantee == "ever" else max(evidence.steps, 1)
        wealth = np.maximum(evidence.peak, LEAST_WEALTH)
        return _by_feature(np.minimum(1.0, staked / wealth))

    def feature_p(self) -> Array:
        """The p-value of each feature, of all its scores together, (d,)."""
        least = self.p().min(axis=1)
        p: Array = np.minimum(1.0, least * len(SCORES))
        return p

    def began(self) -> Array:
        """The number of units judged before the estimated change, for each score, (d, 3)."""
        return _by_feature(self._evidence.began())

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and values that JSON can hold."""
        arrays = {f"bag {s}": bag for s, bag in enumerate(self._bags)}
        arrays["quiet"] = self._quiet
        for name, array in self._evidence.state().items():
            arrays[f"evidence {name}"] = array
        return arrays, {"generator": self._rng.bit_generator.state}

    def restore(
        self,
        arrays: dict[str, Array],
        plain: dict[str, Any],
    ) -> None:
        """Go on from `state()`, bit for bit."""
        self._bags = [arrays[f"bag {s}"].copy() for s in range(len(self._bags))]
        self._quiet = arrays["quiet"].copy()
        self._evidence.restore(archive.under("evidence ", arrays))
        self._rng.bit_generator.state = plain["generator"]


def _by_feature(of_scores: Array) -> Array:
    """A number of each score, (3 d,), by feature, (d, 3)."""
    return of_scores.reshape(-1, len(SCORES))
