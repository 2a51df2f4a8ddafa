"""D1 for whole units: a conformal test martingale over days, weeks or batches.

A unit's p-value is its rank among the units of the reference and those judged before, within its
stratum. If all of them are exchangeable, these p-values are independent and uniform, for a
reference of any size. Bets on them add up over units, so that a change which no single unit shows
is found all the same. The proof is in docs/drift_guarantees.md.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import archive
from modelkit.drift.unit_scores import SCORES, last_ranks, unit_scores
from modelkit.drift.units import ReferenceUnits, most_units
from modelkit.evidence import LEAST_WEALTH, Evidence, Guarantee

P_PLACES = 64  # of equal width, which a p-value falls into
SHIFTS = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)  # that bets on location are best for, in deviations
SPREADS = (2.5, 1.5, 0.5, 0.25)  # that bets on scale are best for, in deviations
HORIZON_UNITS = 1_000  # in which alpha is the probability of a false alarm, for "arl"
TINY_LEVEL = 1e-300  # keeps the threshold of a feature without any share of alpha finite


@cache
def unit_bets() -> tuple[Array, Array]:
    """What each bet pays for a p-value in each of 64 places.

    Each is a ratio of normal densities at the normal quantile of the p-value: twelve are of shifts,
    each way, and four of spreads.

    Returns:
        The logarithms of the gains, (64, 16), and the weights of the bets, (16,).
    """
    normal = NormalDist()
    x = np.array([normal.inv_cdf((i + 0.5) / P_PLACES) for i in range(P_PLACES)])
    pays = []
    for shift in SHIFTS:
        pays += [np.exp(shift * x), np.exp(-shift * x)]
    for spread in SPREADS:
        pays.append(np.exp(x * x * (1 - spread**-2) / 2))
    table = np.array(pays).T
    weights = np.array([1.0] * 12 + [1.0, 1.0, 0.5, 0.5])
    return np.log(table / table.mean(axis=0)), weights / weights.sum()


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
        self._bags = [units.shares[units.strata == s] for s in range(strata)]
        room = 2 * most_units(d) // strata
        self._most = [max(room, len(bag)) for bag in self._bags]
        self._rng = np.random.default_rng(seed)
        logs, weights = unit_bets()
        self._logs = logs
        self._evidence = Evidence(d * len(SCORES), weights, guarantee)
        self._quiet = levels > 0
        self.levels = levels / len(SCORES)  # of each score
        scale = 1 if guarantee == "ever" else HORIZON_UNITS
        self._limits = (scale / np.maximum(self.levels, TINY_LEVEL))[:, None]

    @property
    def judged(self) -> int:
        """The number of units judged."""
        return self._evidence.steps

    def judge(
        self,
        shares: Array,
        stratum: int,
    ) -> Array:
        """Rank a unit, uint16 (d, 16), in a stratum and bet on its ranks.

        Returns:
            Its p-values, (d, 3).
        """
        bag = np.concatenate([self._bags[stratum], shares[None]])
        present: Array = np.any(bag, axis=2)  # has values of a feature
        draws = self._rng.random((len(shares), len(SCORES)))
        p = last_ranks(unit_scores(bag), present, draws)
        if len(bag) > self._most[stratum]:
            # Whichever it is, it must not matter which of them came last: see the proof.
            bag = np.delete(bag, self._rng.integers(len(bag)), axis=0)
        self._bags[stratum] = bag
        self._bet(p, present[-1])
        return p

    def _bet(
        self,
        p: Array,
        present: Array,
    ) -> None:
        places = np.minimum((p * P_PLACES).astype(np.int64), P_PLACES - 1)
        logs = np.where(present[:, None, None], self._logs[places], 0.0)
        logs = logs.reshape(-1, self._logs.shape[1])
        rows = np.repeat(present, len(SCORES)).astype(np.int64)
        self._evidence.step(logs, np.exp(logs), rows)

    def crossed(self) -> list[tuple[int, int]]:
        """The number of each feature that is an alarm now, and of the score that says so."""
        value = self._evidence.value.reshape(-1, len(SCORES))
        above = (value >= self._limits).any(axis=1) & self._quiet
        found = np.flatnonzero(above).tolist()
        best = value.argmax(axis=1)
        pairs = [(j, int(best[j])) for j in found]
        if found and self._evidence.guarantee == "ever":
            self._quiet &= ~above
        return pairs

    def restart(
        self,
        features: list[int],
    ) -> None:
        """Begin anew for features that raised an alarm, as "arl" does."""
        if features and self._evidence.guarantee == "arl":
            which = np.zeros((len(self.levels), len(SCORES)), bool)
            which[features] = True
            self._evidence.restart(which.ravel())

    def p(self) -> Array:
        """The p-value of each score of each feature, (d, 3).

        For "ever" it is valid at all times together, for "arl" at each one of them.
        """
        evidence = self._evidence
        staked = 1 if evidence.guarantee == "ever" else max(evidence.steps, 1)
        wealth = np.maximum(evidence.peak, LEAST_WEALTH)
        p: Array = np.minimum(1.0, staked / wealth)
        return p.reshape(-1, len(SCORES))

    def feature_p(self) -> Array:
        """The p-value of each feature, of all its scores together, (d,)."""
        p: Array = np.minimum(1.0, self.p().min(axis=1) * len(SCORES))
        return p

    def began(self) -> Array:
        """The number of units judged before the estimated change, for each score, (d, 3)."""
        return self._evidence.began().reshape(-1, len(SCORES))

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
