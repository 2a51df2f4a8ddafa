"""The rows of one stratum as they come: blocks of 32, and both kinds of evidence about them.

Where a block ends depends on how many rows have come, never on what they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import archive, band, martingale
from modelkit.drift.cells import ABSENT, CELLS, Feature
from modelkit.drift.martingale import BLOCK_ROWS
from modelkit.drift.milestones import BlockEnd, StreamCourse, known, whole_blocks
from modelkit.evidence import LEAST_WEALTH, MOST_LOG_GAIN, Evidence, Guarantee

RECENT = 32  # blocks whose counts are kept for effect sizes
BLOCKS_OF_BAND = 4  # of 32 rows each, for one step of the band
BET_BLOCKS = {"changed": 1, "material": BLOCKS_OF_BAND}
TINY_LEVEL = 1e-300  # keeps the threshold of a feature without any share of alpha finite


@dataclass(frozen=True)
class Crossing:
    """Evidence that passed its threshold.

    `feature` is the number of the feature, `p` the p-value, `row` the number of rows until then,
    `began` the number of rows before the estimated change. `recent` are counts (67,) of the rows
    since then, of the last 1,024 at most. `time` and `began_time` are when these rows were, and
    `rows` is how many values of the feature were looked at.
    """

    kind: str
    feature: int
    p: float
    row: int
    began: int | None
    recent: Array
    time: float | None = None
    began_time: float | None = None
    rows: int | None = None


@final
class Stream:
    """The evidence about the rows of one stratum.

    Args:
        features: the d features.
        reference: int64 (d, 67), their counts in this stratum.
        levels: for "changed" and "material" the share of alpha of each feature, (d,); without an
            entry for a kind that is not looked for.
        tolerances: that of each feature, (d,); see `band.band`.
        deltas: for each feature, the share of alpha for the error of the reference.
        noise: see `band.band`, for each feature; None without.
        guarantee: see `evidence`.
        horizon: for "arl", the number of rows in which a level is the probability of a false alarm.
        seed: of the ties.
    """

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        features: tuple[Feature, ...],
        reference: Array,
        levels: dict[str, Array],
        *,
        tolerances: Array,
        deltas: Array,
        noise: list[Array] | None,
        guarantee: Guarantee,
        horizon: int,
        seed: np.random.SeedSequence,
    ) -> None:
        d = len(features)
        self.rows = 0
        self.totals = np.zeros((d, CELLS), np.int64)
        self._thinned = [(j, own.stride) for j, own in enumerate(features) if own.stride > 1]
        self._phases = _phases(features, seed)
        self._came = 0
        self._counts = reference.copy()
        self._pending = np.empty((BLOCK_ROWS, d), np.uint8)
        self._recent = np.zeros((RECENT, d, CELLS), np.uint8)
        self._blocks = 0
        self._ranked: list[tuple[Array | None, Array, list[BlockEnd]]] = []
        self._whereabouts = StreamCourse(BLOCK_ROWS)
        self.values = np.zeros(d, np.int64)  # of each feature that were bet on
        self._rng = np.random.default_rng(seed)
        coarse = _group_table(features)
        self._coarse = coarse.astype(np.float32)  # exact: a block has 32 rows
        self._banded = np.zeros((d, band.BAND_GROUPS))
        grouped = (reference[:, None, :] @ coarse)[:, 0]
        self._pays, band_weights = _band_tables(grouped, tolerances, deltas, noise)
        bets = {"changed": martingale.rank_bets()[1], "material": band_weights}
        self.evidence = {
            kind: Evidence(d, weights, guarantee)
            for kind, weights in bets.items()
            if kind in levels
        }
        self._levels = levels
        self._set_limits(1 if guarantee == "ever" else horizon)

    def _set_limits(self, scale: int) -> None:
        """The wealth at which each feature is an alarm, the least of these, and who may alarm."""
        self._limits: dict[str, Array] = {}
        self._least: dict[str, float] = {}
        self._quiet: dict[str, Array] = {}
        for kind, level in self._levels.items():
            limits = scale / np.maximum(level, TINY_LEVEL)
            self._limits[kind] = limits
            self._least[kind] = float(limits.min())
            self._quiet[kind] = level > 0

    # Rows.

    def count(self, cells: Array) -> None:
        """Count rows, uint8 (n, d), that may or may not be ranked later."""
        if len(cells):
            self.totals += martingale.tally(cells)

    @property
    def left_out(self) -> int:
        """The number of rows that were counted only.

        It is a lower bound where some rows had no value for any feature.
        """
        most = int(self.totals.sum(axis=1).max(initial=0))
        return max(most - self.rows, 0)

    def leave_out(
        self,
        cells: Array,
        rows: Array,
    ) -> None:
        """Mark values as absent, in place, that are closer than their feature's stride.

        `rows` are the numbers of the rows of this stratum, in their order of arrival, among
        `cells`, uint8 (n, d). Of a feature's values every stride-th is kept, from a random one on.
        """
        for j, stride in self._thinned:
            first = int(self._phases[j] - self._came) % stride
            kept = rows[first::stride]
            values = cells[kept, j]
            cells[rows, j] = ABSENT
            cells[kept, j] = values
        self._came += len(rows)

    def rank(
        self,
        cells: Array,
        places: Array,
    ) -> None:
        """Take rows; the bets on them wait for `settle`.

        Args:
            cells: uint8 (n, d); a row that has no value for a feature has 255 there.
            places: the number of each row in its Detector and its time, float64 (n, 2).
        """
        n = len(cells)
        if not n:
            return
        had = self.rows % BLOCK_ROWS
        self.rows += n
        if had + n < BLOCK_ROWS:
            self._pending[had : had + n] = cells
            self._whereabouts.wait(had, places)
            return
        ends = self._whereabouts.ends(had, places)
        slots, added = self._ranks(whole_blocks(self._pending, had, cells))
        self._ranked.append((slots, added, ends))

    def _ranks(
        self,
        blocks: Array,
    ) -> tuple[Array | None, Array]:
        """The slots of the p-values, where "changed" is looked for, and the counts of blocks."""
        if "changed" not in self.evidence:
            return None, np.array([martingale.tally(block) for block in blocks])
        draws = self._rng.random((len(blocks), BLOCK_ROWS, blocks.shape[2]))
        return martingale.advance(self._counts, blocks, draws)

    def settle(self) -> list[Crossing]:
        """Bet on all rows that were ranked."""
        crossed: list[Crossing] = []
        for slots, added, ends in self._ranked:
            crossed += self._bet(slots, added, ends)
        self._ranked.clear()
        return crossed

    def _bet(
        self,
        slots: Array | None,
        added: Array,
        ends: list[BlockEnd],
    ) -> list[Crossing]:
        crossed: list[Crossing] = []
        rows = added.sum(axis=2)
        by_feature = added.transpose(1, 0, 2).astype(np.float32)
        grouped = (by_feature @ self._coarse).transpose(1, 0, 2)
        if slots is not None:
            logs = martingale.rank_increments(slots)
            factors = np.exp(logs)
        for i, counts in enumerate(added):
            self._recent[self._blocks % RECENT] = counts
            self._blocks += 1
            self._whereabouts.come_to(ends[i])
            self.values += rows[i]
            if slots is not None:
                self.evidence["changed"].step(logs[i], factors[i], rows[i])
                crossed += self._crossed("changed")
            self._banded += grouped[i]
            if self._blocks % BLOCKS_OF_BAND == 0:
                crossed += self._step_band()
        return crossed

    def _step_band(self) -> list[Crossing]:
        pays = (self._banded[:, None, :] @ self._pays)[:, 0]
        logs = np.minimum(pays, MOST_LOG_GAIN)
        self.evidence["material"].step(logs, np.exp(logs), self._banded.sum(axis=1))
        self._banded[:] = 0
        return self._crossed("material")

    # Evidence.

    def _crossed(self, kind: str) -> list[Crossing]:
        evidence = self.evidence[kind]
        if evidence.most < self._least[kind]:
            return []
        above = (evidence.value >= self._limits[kind]) & self._quiet[kind]
        if not above.any():
            return []
        crossed = [self._crossing(kind, j) for j in np.flatnonzero(above).tolist()]
        if evidence.guarantee == "arl":
            evidence.restart(above)
        else:
            self._quiet[kind] &= ~above
        return crossed

    def _crossing(self, kind: str, j: int) -> Crossing:
        block = int(self._first_blocks(kind)[j])
        began, began_time = self._whereabouts.at(np.array([block]))
        return Crossing(
            kind,
            feature=j,
            p=float(self.p(kind)[j]),
            row=self._whereabouts.row,
            began=int(began[0]),
            recent=self.recent(block)[j],
            time=known(self._whereabouts.latest),
            began_time=known(began_time[0]),
            rows=int(self.values[j]),
        )

    def p(self, kind: str) -> Array:
        """The p-value of each feature, (d,).

        For "ever" it is valid at all times together, for "arl" at each one of them.
        """
        evidence = self.evidence[kind]
        wealth = np.maximum(evidence.peak, LEAST_WEALTH)
        p: Array = np.minimum(1.0, self.staked(evidence.guarantee) / wealth)
        return p

    def staked(self, guarantee: Guarantee) -> int:
        """The largest mean that the wealth can have by now where nothing has changed."""
        return 1 if guarantee == "ever" else max(self._blocks * BLOCK_ROWS, 1)

    def enough(
        self,
        kind: str,
        wealth: Array,
    ) -> Array:
        """Mask (d,): features whose wealth (d,) is above the alarm threshold."""
        above: Array = (wealth >= self._limits[kind]) & (self._levels[kind] > 0)
        return above

    def began(self, kind: str) -> Array:
        """For each feature, (d,), the number of rows before the start of its best bet."""
        return self._whereabouts.at(self._first_blocks(kind))[0]

    def _first_blocks(self, kind: str) -> Array:
        """For each feature, (d,), the number of the block at which its best bet began."""
        return self.evidence[kind].began() * BET_BLOCKS[kind]

    def recent(self, block: int = 0) -> Array:
        """Counts (d, 67) of the last 1,024 rows from the block of this number on."""
        after = max(self._blocks - block, 1)
        blocks = min(RECENT, self._blocks, after)
        at = np.arange(self._blocks - blocks, self._blocks) % RECENT
        counts: Array = self._recent[at].sum(axis=0, dtype=np.int64)
        return counts

    # To go on from later.

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and values that JSON can hold."""
        arrays = {
            "totals": self.totals,
            "counts": self._counts,
            "pending": self._pending[: self.rows % BLOCK_ROWS],
            "recent": self._recent,
            "banded": self._banded,
            "phases": self._phases,
            "values": self.values,
        }
        arrays |= self._whereabouts.state(self.rows % BLOCK_ROWS)
        for kind, quiet in self._quiet.items():
            arrays[f"quiet {kind}"] = quiet
        for kind, evidence in self.evidence.items():
            for name, array in evidence.state().items():
                arrays[f"{kind} {name}"] = array
        plain = {
            "rows": self.rows,
            "blocks": self._blocks,
            "came": self._came,
            "generator": self._rng.bit_generator.state,
        }
        return arrays, plain

    def restore(
        self,
        arrays: dict[str, Array],
        plain: dict[str, Any],
    ) -> None:
        """Go on from `state()`, bit for bit."""
        self.rows = plain["rows"]
        self._blocks = plain["blocks"]
        self._came = plain.get("came", self.rows)  # a state of before began at the first row
        self._phases = arrays.get("phases", np.zeros_like(self._phases)).copy()
        self._rng.bit_generator.state = plain["generator"]
        self.totals = arrays["totals"].copy()
        self._counts = arrays["counts"].copy()
        self._recent = arrays["recent"].copy()
        self._banded = arrays["banded"].copy()
        self._whereabouts.restore(arrays, self.rows)
        self.values = arrays.get("values", self.totals.sum(axis=1)).copy()
        self._pending[: len(arrays["pending"])] = arrays["pending"]
        for kind in self._quiet:
            self._quiet[kind] = arrays[f"quiet {kind}"].copy()
        for kind, evidence in self.evidence.items():
            evidence.restore(archive.under(f"{kind} ", arrays))


def _phases(features: tuple[Feature, ...], seed: np.random.SeedSequence) -> Array:
    """For each feature, (d,), the number of the first row that its stride keeps."""
    rng = np.random.default_rng(seed.spawn(1)[0])
    return rng.integers(0, [feature.stride for feature in features])


def _group_table(features: tuple[Feature, ...]) -> Array:
    """1 where a cell belongs to a group of the band, float64 (d, 67, 16)."""
    tables = []
    for feature in features:
        groups = np.frombuffer(feature.coarse, np.uint8)
        tables.append(groups[:, None] == np.arange(band.BAND_GROUPS))
    return np.array(tables).astype(np.float64)


def _band_tables(
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
