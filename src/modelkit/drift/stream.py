"""The rows of one stratum as they come: blocks of 32, and both kinds of evidence about them.

Where a block ends depends on how many rows have come, never on what they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import codec, martingale
from modelkit.drift.banded import BLOCKS_OF_BAND, Banded
from modelkit.drift.cells import ABSENT, CELLS, Feature
from modelkit.drift.martingale import BLOCK_ROWS
from modelkit.drift.milestones import BlockEnd, StreamCourse, known, whole_blocks
from modelkit.drift.thinning import Thinning
from modelkit.drift.thresholds import Thresholds, anytime_p
from modelkit.stats.evidence import Evidence, Guarantee

ALL = slice(None)
RECENT = 32  # blocks whose counts are kept for effect sizes
BET_BLOCKS = {"changed": 1, "material": BLOCKS_OF_BAND}


@dataclass(frozen=True)
class Crossing:
    """Evidence that passed its threshold.

    `feature` is the number of the feature, `p` the p-value, `row` the number of rows until then,
    `began` the number of rows before the estimated change. `recent` are counts (67,) of the rows
    since then, of the last 1,024 at most. `part` is the part of its share of alpha that the feature
    had left for this alarm, and `again` whether it goes beyond an alarm before. `time` and
    `began_time` are when these rows were, and `rows` is how many values of the feature were looked
    at.
    """

    kind: str
    feature: int
    p: float
    row: int
    began: int | None
    recent: Array
    part: float = 1.0
    again: bool = False
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
            entry for a kind that is not looked for, and empty where rows are counted only.
        tolerances: that of each feature, (d,); see `band.band`.
        deltas: for each feature, the share of alpha for the error of the reference.
        noise: see `band.band`, for each feature; None without.
        guarantee: see `evidence`.
        horizon: for "arl", the number of rows in which a level is the probability of a false alarm.
        seed: of the ties.
    """

    def __init__(
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
        self.first = 0  # the number of the row before the first
        self.totals = np.zeros((d, CELLS), np.int64)
        self.thinning = Thinning(features, seed)
        self._counts = reference.copy()
        self._pending = np.empty((BLOCK_ROWS, d), np.uint8)
        self._left_out = np.zeros(d, bool)  # of the block that is open
        self._recent = np.zeros((RECENT, d, CELLS), np.uint8)
        self._blocks = 0
        self._ranked: list[tuple[Array | None, Array, list[BlockEnd]]] = []
        self._whereabouts = StreamCourse(BLOCK_ROWS)
        self.values = np.zeros(d, np.int64)  # of each feature that were bet on
        self._rng = np.random.default_rng(seed)
        self._banded = Banded(
            features, reference, tolerances=tolerances, deltas=deltas, noise=noise
        )
        bets = {"changed": martingale.rank_bets()[1], "material": self._banded.weights}
        self.evidence = {
            kind: Evidence(d, weights, guarantee)
            for kind, weights in bets.items()
            if kind in levels
        }
        self.limits = {kind: Thresholds(own, guarantee, horizon) for kind, own in levels.items()}
        self._allowed = np.zeros(d, np.int64)  # the block since which a feature may be further away

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

    def rank(self, cells: Array, places: Array) -> None:
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

    def _ranks(self, blocks: Array) -> tuple[Array | None, Array]:
        """The slots of the p-values, where "changed" is looked for, and the counts of blocks."""
        if self._left_out.any():
            blocks = blocks.copy()  # they may be the caller's
            blocks[0][:, self._left_out] = ABSENT
            self._left_out[:] = False
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

    def _bet(self, slots: Array | None, added: Array, ends: list[BlockEnd]) -> list[Crossing]:
        crossed: list[Crossing] = []
        rows = added.sum(axis=2)
        grouped = self._banded.grouped(added)
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
            self._banded.counts += grouped[i]
            if "material" in self.evidence and self._blocks % BLOCKS_OF_BAND == 0:
                self._banded.step(self.evidence["material"])
                crossed += self._crossed("material")
            if self._blocks % RECENT == 0:
                self._tighten()
        return crossed

    # Evidence.

    def _crossed(self, kind: str) -> list[Crossing]:
        evidence = self.evidence[kind]
        features = self.limits[kind].cross(evidence)
        if not features:
            return []
        crossed = self._crossings(kind, features)
        for j in features:
            if evidence.guarantee == "arl":
                self.arm(kind, j)
            elif kind == "material":
                began = int(self._first_blocks(kind)[j])
                blocks = min(self._blocks - began, RECENT)
                # Where the change came later than that, the last ones show it better.
                parts = [self.recent(self._blocks - -(-blocks // k), j) for k in (1, 2, 4)]
                self._banded.allow(j, parts)
                self._allowed[j] = self._blocks
                self.arm(kind, j)
        return crossed

    def begin_after(self, row: int) -> None:
        """Begin with the row after number `row`: those until then had another reference."""
        self.first = row
        self._whereabouts.row = row

    def arm(self, kind: str, j: int) -> None:
        """Let feature number `j` raise another alarm of a kind, by evidence that begins anew."""
        self.limits[kind].arm(j, self.evidence[kind])

    def open_again(self, j: int) -> None:
        """Let a feature that raised the alarm "changed" raise another one, by later rows alone.

        They are ranked among themselves, from the next block on. Rows that were ranked are settled.
        """
        if self.limits["changed"].open_again(j, self.evidence["changed"]):
            self._counts[j] = 0
            self._left_out[j] = True

    def _tighten(self) -> None:
        """Hold features to less that have come nearer to the reference, 1,024 rows after an alarm."""
        for j in np.flatnonzero(self._banded.further()).tolist():
            waited = self._blocks - self._allowed[j] >= RECENT
            if waited and self._banded.tighten(j, self.recent(features=j)):
                self.arm("material", j)

    def _crossings(self, kind: str, features: list[int]) -> list[Crossing]:
        blocks = self._first_blocks(kind)[features]
        began, times = self._whereabouts.at(blocks)
        p = self._p_of(kind, self.evidence[kind].value)
        return [
            Crossing(
                kind,
                feature=j,
                p=float(p[j]),
                part=float(self.limits[kind].parts[j]),
                again=self._again(kind, j),
                row=self._whereabouts.row,
                began=int(began[i]),
                recent=self.recent(int(blocks[i]), j),
                time=known(self._whereabouts.latest),
                began_time=known(times[i]),
                rows=int(self.values[j]),
            )
            for i, j in enumerate(features)
        ]

    def _again(self, kind: str, j: int) -> bool:
        if kind == "changed":
            return self.limits[kind].armed(j)
        return bool(self._banded.further()[j])

    def p(self, kind: str) -> Array:
        """The p-value of each feature, (d,).

        For "ever" it is valid at all times together, for "arl" at each one of them.
        """
        return self._p_of(kind, self.evidence[kind].peak)

    def _p_of(self, kind: str, wealth: Array) -> Array:
        return anytime_p(wealth, self.staked(self.evidence[kind].guarantee))

    def staked(self, guarantee: Guarantee) -> int:
        """The largest mean that the wealth can have by now where nothing has changed."""
        return 1 if guarantee == "ever" else max(self._blocks * BLOCK_ROWS, 1)

    def material_wealth(self) -> Array:
        """What was won about material changes until now, (d,), by all alarms together."""
        return self.evidence["material"].value + self.limits["material"].won

    def enough(self, kind: str, wealth: Array) -> Array:
        """Mask (d,): features whose wealth (d,) is above the alarm threshold."""
        return self.limits[kind].enough(wealth)

    def began(self, kind: str) -> Array:
        """For each feature, (d,), the number of rows before the start of its best bet."""
        return self._whereabouts.at(self._first_blocks(kind))[0]

    def _first_blocks(self, kind: str) -> Array:
        """For each feature, (d,), the number of the block at which its best bet began."""
        return self.evidence[kind].began() * BET_BLOCKS[kind]

    def recent(self, block: int = 0, features: int | slice = ALL) -> Array:
        """Counts (d, 67) of the last 1,024 rows from the block of this number on, or of one feature."""
        after = max(self._blocks - block, 1)
        blocks = min(RECENT, self._blocks, after)
        at = np.arange(self._blocks - blocks, self._blocks) % RECENT
        counts: Array = self._recent[at, features].sum(axis=0, dtype=np.int64)
        return counts

    # To go on from later.

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and values that JSON can hold."""
        phases, came = self.thinning.state()
        arrays = {
            "totals": self.totals,
            "counts": self._counts,
            "pending": self._pending[: self.rows % BLOCK_ROWS],
            "recent": self._recent,
            **self._banded.state(),
            "allowed": self._allowed,
            "left out": self._left_out,
            **phases,
            "values": self.values,
        }
        arrays |= self._whereabouts.state(self.rows % BLOCK_ROWS)
        for kind, evidence in self.evidence.items():
            arrays |= self.limits[kind].state(kind)
            for name, array in evidence.state().items():
                arrays[f"{kind} {name}"] = array
        plain = {
            "rows": self.rows,
            "first": self.first,
            "blocks": self._blocks,
            "generator": self._rng.bit_generator.state,
        }
        return arrays, plain | came

    def restore(self, arrays: dict[str, Array], plain: dict[str, Any]) -> None:
        """Go on from `state()`, bit for bit."""
        self.rows = plain["rows"]
        self.first = plain["first"]
        self._blocks = plain["blocks"]
        self.thinning.restore(arrays, plain)
        self._rng.bit_generator.state = plain["generator"]
        self.totals = arrays["totals"].copy()
        self._counts = arrays["counts"].copy()
        self._recent = arrays["recent"].copy()
        self._banded.restore(arrays)
        self._allowed = arrays["allowed"].copy()
        self._left_out = arrays["left out"].copy()
        self._whereabouts.restore(arrays)
        self.values = arrays["values"].copy()
        self._pending[: len(arrays["pending"])] = arrays["pending"]
        for kind, evidence in self.evidence.items():
            evidence.restore(codec.under(f"{kind} ", arrays))
            self.limits[kind].restore(arrays, kind)
