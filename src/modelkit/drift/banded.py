"""D2 on the rows of a stratum: their counts in the 16 groups of the band, and what bets on them pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import band
from modelkit.drift.cells import Feature
from modelkit.stats.evidence import MOST_LOG_GAIN, Evidence

BLOCKS_OF_BAND = 4  # of 32 rows each, for one step of the band


@final
class Banded:
    """The counts (d, 16) of the rows since the last step, and the bets, whose `weights` sum to one.

    `limits` (d, 36) are how far the mean of each score may be from the reference: at first by the
    band, and after an alarm as far as that has shown.

    Args:
        features: the d features.
        reference: int64 (d, 67), their counts in this stratum.
        tolerances: that of each feature, (d,); see `band.band`.
        deltas: for each feature, the share of alpha for the error of the reference.
    """

    def __init__(
        self, features: tuple[Feature, ...], reference: Array, *, tolerances: Array, deltas: Array
    ) -> None:
        groups = _group_table(features)
        self._reference = (reference[:, None, :] @ groups)[:, 0]
        self._groups = groups.astype(np.float32)  # exact: a block has 32 rows
        self._tolerances = tolerances
        self._first = _bands(self._reference, tolerances, deltas)
        self.limits = self._first.copy()
        pays, weights = zip(*map(band.band_bets, self._reference, self.limits), strict=True)
        self._pays = np.array(pays)
        self.weights = weights[0]
        self.counts = np.zeros((len(features), band.BAND_GROUPS))

    def allow(self, j: int, recent: Sequence[Array]) -> None:
        """Let a feature be as far from the reference as the rows are that it alarmed about.

        Args:
            j: its number.
            recent: counts (67,) of rows, of which any may show how far that is.
        """
        table = self._table(j)
        shown = [self._shown(j, table, counts @ self._groups[j]) for counts in recent]
        self._limit(j, np.max(shown, axis=0))

    def further(self) -> Array:
        """Mask (d,): features that may be further from the reference than at first."""
        differ: Array = (self.limits != self._first).any(axis=1)
        return differ

    def tighten(self, j: int, recent: Array) -> bool:
        """Hold a feature to less, where recent rows are nearer to the reference; whether it was.

        It is held to the first limits where recent rows are within these.
        """
        counts = recent @ self._groups[j]
        if not counts.sum():
            return False
        table = self._table(j)
        limit = np.minimum(self.limits[j], self._shown(j, table, counts))
        if (table @ (counts / counts.sum()) <= self._first[j]).all():
            limit = self._first[j]
        nearer = bool((self.limits[j] - limit > self._tolerances[j]).any())
        if nearer:
            self._limit(j, limit)
        return nearer

    def _table(self, j: int) -> Array:
        """The scores (36, 16) of a feature."""
        return band.scores(self._reference[j] / self._reference[j].sum())[0]

    def _shown(self, j: int, table: Array, counts: Array) -> Array:
        """How far rows are from the reference, and no less than the first limits."""
        first: Array = self._first[j]
        if counts.sum() < 2:
            return first
        shown = band.shown(table, counts, float(self._tolerances[j]))
        limit: Array = np.maximum(first, shown)
        return limit

    def _limit(self, j: int, limit: Array) -> None:
        self.limits[j] = limit
        self._pays[j] = band.band_bets(self._reference[j], limit)[0]

    def grouped(self, added: Array) -> Array:
        """The counts of blocks by cell, (blocks, d, 67), by group: float32 (blocks, d, 16)."""
        by_feature = added.transpose(1, 0, 2).astype(np.float32)
        groups: Array = by_feature @ self._groups
        return groups.transpose(1, 0, 2)

    def step(self, evidence: Evidence) -> None:
        """Bet on the counts, and begin anew."""
        pays = (self.counts[:, None, :] @ self._pays)[:, 0]
        logs = np.minimum(pays, MOST_LOG_GAIN)
        evidence.step(logs, np.exp(logs), self.counts.sum(axis=1))
        self.counts[:] = 0

    def state(self) -> dict[str, Array]:
        """Everything that changes."""
        return {"banded": self.counts, "limits": self.limits}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go on from `state()`, bit for bit."""
        self.counts = arrays["banded"].copy()
        limits = arrays["limits"]
        for j in np.flatnonzero((limits != self._first).any(axis=1)).tolist():
            self._limit(j, limits[j])


def _group_table(features: tuple[Feature, ...]) -> Array:
    """1 where a cell belongs to a group of the band, float64 (d, 67, 16)."""
    tables = []
    for feature in features:
        groups = np.frombuffer(feature.coarse, np.uint8)
        tables.append(groups[:, None] == np.arange(band.BAND_GROUPS))
    return np.array(tables).astype(np.float64)


def _bands(grouped: Array, tolerances: Array, deltas: Array) -> Array:
    """For each feature how far each score may be from the reference, (d, 36)."""
    limits = []
    for j, counts in enumerate(grouped):
        limits.append(band.band(counts, float(tolerances[j]), deltas[j]))
    return np.array(limits)
