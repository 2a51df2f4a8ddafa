"""D2 on the rows of a stratum: their counts in the 16 groups of the band, and what bets on them pay."""

from __future__ import annotations

from typing import final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import band
from modelkit.drift.cells import Feature
from modelkit.evidence import MOST_LOG_GAIN, Evidence

BLOCKS_OF_BAND = 4  # of 32 rows each, for one step of the band


@final
class Banded:
    """The counts (d, 16) of the rows since the last step, and the bets, whose `weights` sum to one.

    Args:
        features: the d features.
        reference: int64 (d, 67), their counts in this stratum.
        tolerances: that of each feature, (d,); see `band.band`.
        deltas: for each feature, the share of alpha for the error of the reference.
        noise: see `band.band`, for each feature; None without.
    """

    def __init__(
        self,
        features: tuple[Feature, ...],
        reference: Array,
        *,
        tolerances: Array,
        deltas: Array,
        noise: list[Array] | None,
    ) -> None:
        groups = _group_table(features)
        counts = (reference[:, None, :] @ groups)[:, 0]
        self._groups = groups.astype(np.float32)  # exact: a block has 32 rows
        self._pays, self.weights = _tables(counts, tolerances, deltas, noise)
        self.counts = np.zeros((len(features), band.BAND_GROUPS))

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


def _group_table(features: tuple[Feature, ...]) -> Array:
    """1 where a cell belongs to a group of the band, float64 (d, 67, 16)."""
    tables = []
    for feature in features:
        groups = np.frombuffer(feature.coarse, np.uint8)
        tables.append(groups[:, None] == np.arange(band.BAND_GROUPS))
    return np.array(tables).astype(np.float64)


def _tables(
    grouped: Array,
    tolerances: Array,
    deltas: Array,
    noise: list[Array] | None,
) -> tuple[Array, Array]:
    """For each feature what each bet pays in each group, (d, 16, 216), and the bets' weights."""
    tables = []
    for j, counts in enumerate(grouped):
        own = None if noise is None else noise[j]
        pays, weights = band.band_bets(counts, float(tolerances[j]), deltas[j], own)
        tables.append(pays)
    return np.array(tables), weights
