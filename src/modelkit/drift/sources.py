"""What bets gain on blocks of members: by ranks (D1), by tails of units (D2), or by losses (D3).

`band.Band` is the source for D2 on rows. After an alarm a source says what is allowed from then on,
and a while later whether less will do. The proofs are in docs/drift_guarantees.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from math import nan
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import band
from modelkit.drift.bets import Gain, Table, bets_on_rows, bets_on_tails, bets_on_units, gains
from modelkit.drift.cells import Feature
from modelkit.drift.losses import SHOWN_ERROR, Baseline
from modelkit.drift.ranks import OF_REFERENCE, RECENT_UNITS, SCORES, Ranked
from modelkit.drift.units import FULL_SHARE, ReferenceUnits, group_table, shares_of
from modelkit.stats.betting import ConfidenceSequence, log_staked
from modelkit.stats.intervals import mean_bound

PLACE_SCORES = (  # the means of three polynomials of the place of a unit's rows, each way
    "places up",
    "places spread",
    "places skewed",
    "places down",
    "places drawn together",
    "places skewed down",
)
TWO_DEVIATIONS = 2.0  # that the mean of some units may be from the reference by chance
LOSS_TOLERANCE = 0.02  # the growth of the mean loss that is not material
GROWTH = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4])  # of the mean loss that a bet is best for
LOSS_WEIGHTS = np.full(len(GROWTH), 1 / len(GROWTH))


def _by_ranks(slots: Array, table: Array, values: Array) -> Iterator[Gain]:
    logs = gains(slots, table)
    return map(Gain, logs, np.exp(logs), values)


@final
class Ranks:
    """D1: bets on ranks. A feature that alarmed is closed until somebody knows of it."""

    changing = ()
    blocks = 1  # of a step

    def __init__(self, table: Table, lanes: int) -> None:
        self._table, self.weights = table
        self.lanes = lanes

    @staticmethod
    def of_rows() -> Ranks:
        """Of rows, each a cell."""
        return Ranks(bets_on_rows(), 1)

    @staticmethod
    def of_units() -> Ranks:
        """Of whole units, by three scores."""
        return Ranks(bets_on_units(), len(SCORES))

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain]:
        """What bets gain on each block."""
        slots = ranked.slots["changed"]
        values = ranked.values if self.lanes == 1 else slots.sum(axis=2)
        return _by_ranks(slots, self._table, values)

    def further(self, j: int) -> bool:
        """No feature may be further away than another."""
        return False

    def allow(self, j: int, recent: Array, blocks: int) -> bool:
        """Nothing is allowed by an alarm."""
        return False

    def tighten(self, recent: Array, blocks: int) -> list[int]:
        """And nothing less later."""
        return []


@final
class UnitTails:
    """D2 on whole units: a unit is ranked as if it had been moved back by all that is allowed.

    Those before it are moved forward, and bets on such ranks win no more than on the true ones.
    `centre` (d, 6) is how far each place score of a unit is from the reference, as far as alarms have
    shown, and `slack` (d, 6) how far it may be from there, either way: at first the tolerance.

    Args:
        units: those of the reference.
        strata: the number of strata.
        features: the d features.
        tolerances: that of each feature, (d,).
    """

    changing = ("centre", "slack", "since", "strata")
    blocks = 1  # of a step
    lanes = len(PLACE_SCORES)

    def __init__(
        self, units: ReferenceUnits, strata: int, features: Sequence[Feature], tolerances: Array
    ) -> None:
        self._table, self.weights = bets_on_tails()
        self._groups = group_table(features)
        half = np.ptp(band.polynomials(band.BAND_GROUPS), axis=1) / 2
        self._first = tolerances[:, None] * np.tile(half, 2)
        self.centre = np.zeros_like(self._first)
        self.slack = self._first.copy()
        self.since = np.zeros(len(features), np.int64)  # the units judged before those ranked
        self._usual, self._spread = _usual(units, strata)
        self.by_stratum = [units.shares[units.strata == s] for s in range(strata)]
        self.strata: deque[int] = deque(maxlen=RECENT_UNITS)  # of the last units

    def ranks(self, bag: Array, order: Array, draws: Array, part: slice) -> Array:
        """The p-values (features, 6) of the last of n units by a part of the features, NaN for none.

        Args:
            bag: the units' shares, uint16 (n, d, 16).
            order: of each, the number of units judged before it, (n,).
            draws: uniform on [0, 1), (d, 6).
            part: the features.
        """
        own = bag[:, part]
        scores = place_scores(own)
        scores[-1] -= self._allowed()[part]
        later = order[:-1] > OF_REFERENCE
        scores[:-1] += later[:, None, None] * (self.slack - self.centre)[part]
        ranked = (order[:, None] == OF_REFERENCE) | (order[:, None] >= self.since[part])
        return tail_shares(scores, np.any(own, axis=2) & ranked, draws[part])

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain]:
        """What bets gain on each unit."""
        slots = ranked.slots["material"]
        return _by_ranks(slots, self._table, slots.sum(axis=2))

    def _allowed(self) -> Array:
        """How far a unit may be moved in each score, (d, 6): back to the reference in any case."""
        allowed: Array = np.maximum(self.centre, 0) + self.slack
        return allowed

    def further(self, j: int) -> bool:
        """Whether a feature may be further from the reference than at first."""
        return bool(self.centre[j].any())

    def allow(self, j: int, recent: Array, blocks: int) -> bool:
        """Let a feature be as far from the reference as the units that it alarmed about.

        Args:
            j: its number.
            recent: counts (units, 67) of these units.
            blocks: the number of all units.
        """
        self._move(j, *self._shown(j, recent), blocks)
        return True

    def tighten(self, recent: Array, blocks: int) -> list[int]:
        """Hold features to less that are nearer to the reference in the last units (units, d, 67).

        Of features that were allowed more since some of these, nothing is known yet.
        """
        further = self.centre.any(axis=1) & (blocks - self.since >= len(recent))
        further &= recent.any(axis=(0, 2))
        found = []
        for j in np.flatnonzero(further).tolist():
            centre, slack = self._shown(j, recent[:, j])
            if (centre <= slack).all():
                centre, slack = np.zeros_like(centre), self._first[j]
            less = self._allowed()[j] - np.maximum(centre, 0) - slack
            if (less > self._first[j]).any() and (less > -self._first[j]).all():
                self._move(j, centre, slack, blocks)
                found.append(j)
        return found

    def _shown(self, j: int, recent: Array) -> tuple[Array, Array]:
        """How far units are from the reference, (6,), and by how much that may be wrong."""
        own = recent.any(axis=1)
        strata = np.array(self.strata)[-len(recent) :][own]
        shares = shares_of(recent[own], self._groups[[j] * int(own.sum())])
        moved = place_scores(shares) - self._usual[strata, j]
        by_chance = TWO_DEVIATIONS * self._spread[j] / np.sqrt(len(shares))
        return moved.mean(axis=0), self._first[j] + by_chance

    def _move(self, j: int, centre: Array, slack: Array, blocks: int) -> None:
        self.centre[j] = centre
        self.slack[j] = slack
        self.since[j] = blocks


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
    one_way = (shares / FULL_SHARE) @ band.polynomials(band.BAND_GROUPS).T
    return np.concatenate([one_way, -one_way], axis=-1)


def tail_shares(scores: Array, present: Array, draws: Array) -> Array:
    """The share of units whose score is at least the last one's, float64 (d, 6).

    NaN where it has no values of a feature. Of the last one itself a random part is counted, so that
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


def loss_bets(u: float) -> Array:
    """The slopes of six bets against a mean of at most u > 0; each keeps a tenth of its stake at least."""
    return np.minimum(GROWTH / max(u * (1 - u), 1e-12), 0.9 / u)


def loss_increments(losses: Array, u: float) -> Array:
    """The logarithm of each bet's gain from losses in [0, 1], (6,).

    Against losses of which each, given those before it, has a mean of at most u, bets gain nothing
    (Podkopaev and Ramdas, arXiv:2110.06177).
    """
    increments: Array = log_staked(losses, u, loss_bets(u)).sum(axis=0)
    return increments


@final
class Losses:
    """D3: losses against a bound on those of the reference; and all losses that came.

    `bound` is how large the mean loss may be: at first by the reference, and after an alarm as large
    as that has shown.

    Args:
        baseline: the losses of the reference.
        delta: the probability that their bound is too low.
    """

    changing = ("bound", "allowed", "rows", "total", "mean")
    blocks = 1  # of a step
    lanes = 1
    weights = LOSS_WEIGHTS

    def __init__(self, baseline: Baseline, delta: float) -> None:
        self._first = min(baseline.bound(delta) + LOSS_TOLERANCE, 1.0)
        self._binary = baseline.binary
        self.bound = self._first
        self.allowed = 0  # the block since which the loss may be larger
        self.rows = 0
        self.total = 0.0
        self.mean = ConfidenceSequence(SHOWN_ERROR)

    def count(self, losses: Array) -> None:
        """Take losses (n,), whether or not they fill a block."""
        self.rows += len(losses)
        self.total += float(losses.sum())
        self.mean.update(losses)

    def interval(self) -> tuple[float, float, float] | None:
        """The mean loss with its 95 % confidence sequence.

        None without losses, and where no one mean fits them. While the sequence is on its way
        there, the mean of all losses lies beyond it, and the ends are NaN.
        """
        limits = self.mean.interval()
        if limits is None or not self.rows:
            return None
        mean = self.total / self.rows
        low, high = limits
        if not low <= mean <= high:
            return mean, nan, nan
        return mean, low, high

    def gains(self, ranked: Ranked, blocks: int) -> Iterator[Gain]:
        """What bets gain on each block."""
        for losses, values in zip(ranked.kept, ranked.values, strict=True):
            logs = loss_increments(losses[0], self.bound)[None]
            yield Gain(logs, np.exp(logs), values)

    def further(self, j: int) -> bool:
        """Whether the loss may be larger than at first."""
        return self.bound > self._first

    def allow(self, j: int, recent: Array, blocks: int) -> bool:
        """Let the loss be as large as the losses since the change began; more is another alarm."""
        losses = recent.ravel()
        total, squares = float(losses.sum()), float(losses @ losses)
        shown = mean_bound(len(losses), total, squares, SHOWN_ERROR, binary=self._binary)
        self.bound = max(self._first, min(shown + LOSS_TOLERANCE, 1.0))
        self.allowed = blocks
        return True

    def tighten(self, recent: Array, blocks: int) -> list[int]:
        """Hold the loss to the first bound again, where recent losses (blocks, 1, 10) are within it."""
        waited = blocks - self.allowed >= len(recent)
        if not (self.further(0) and waited and recent.ravel().mean() <= self._first):
            return []
        self.bound = self._first
        return [0]
