"""The rows of one stratum as they come: blocks of 32, from which both kinds of evidence about the rows are drawn.

Where a block ends depends on how many rows have come, never on what they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import band, martingale
from modelkit.drift.cells import ABSENT, CELLS, Feature
from modelkit.drift.evidence import MOST, Evidence, Guarantee
from modelkit.drift.martingale import BLOCK

RECENT = 32  # blocks whose counts are kept for effect sizes
BLOCKS_OF_BAND = 4  # of 32 rows each, for one step of the band


@dataclass(frozen=True)
class Crossing:
    """Evidence that passed its threshold: of which feature, after how many rows, since about when.

    `recent` are counts (67,) of the rows since then, of the last 1,024 at most.
    """

    kind: str
    feature: int
    p: float
    row: int
    began: int | None
    recent: Array


@final
class Stream:
    """What is known of the rows of one stratum.

    Args:
        features: d of them.
        reference: int64 (d, 67), their counts in this stratum.
        levels: for "changed" and "material" the share of alpha of each feature, (d,); None where it
            is not looked for.
        tolerance: see `band.band`.
        deltas: for each feature, the share of alpha for the error of the reference.
        noise: see `band.band`, for each feature; None without.
        guarantee: see `evidence`.
        horizon: for "arl", in how many rows a level is the probability of a false alarm.
        seed: of the ties.
    """

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        features: tuple[Feature, ...],
        reference: Array,
        levels: dict[str, Array],
        *,
        tolerance: float,
        deltas: Array,
        noise: list[Array] | None,
        guarantee: Guarantee,
        horizon: int,
        seed: np.random.SeedSequence,
    ) -> None:
        d = len(features)
        self.rows = 0
        self.totals = np.zeros((d, CELLS), np.int64)
        self._strides = np.array([feature.stride for feature in features])
        self._counts = reference.copy()
        self._pending = np.empty((BLOCK, d), np.uint8)
        self._recent = np.zeros((RECENT, d, CELLS), np.uint8)
        self._blocks = 0
        self._ranked: list[tuple[Array | None, Array]] = []
        self._rng = np.random.default_rng(seed)
        self._levels = levels
        scale = 1 if guarantee == "ever" else horizon
        self._limits = {kind: scale / np.maximum(level, 1e-300) for kind, level in levels.items()}
        self._least = {kind: float(limits.min()) for kind, limits in self._limits.items()}
        self._quiet = {
            kind: level > 0 for kind, level in levels.items()
        }  # what may still raise an alarm
        self.evidence: dict[str, Evidence] = {}
        if "changed" in levels:
            self.evidence["changed"] = Evidence(d, martingale.bets()[1], guarantee)
        coarse = [np.frombuffer(feature.coarse, np.uint8) for feature in features]
        self._coarse = np.array(
            [groups[:, None] == np.arange(band.GROUPS) for groups in coarse]
        ).astype(np.float64)
        self._banded = np.zeros((d, band.GROUPS))
        grouped = (reference[:, None, :] @ self._coarse)[:, 0]
        tables = [
            band.bets(counts, tolerance, deltas[j], None if noise is None else noise[j])
            for j, counts in enumerate(grouped)
        ]
        self._pays = np.array([table for table, _ in tables])
        self.evidence["material"] = Evidence(d, tables[0][1], guarantee)

    def count(self, cells: Array) -> None:
        """Count rows, uint8 (n, d), that may or may not be ranked later."""
        if len(cells):
            self.totals += martingale.tally(cells)

    @property
    def left_out(self) -> int:
        """How many rows were counted only; at least, where some had no value for any feature."""
        return max(int(self.totals.sum(axis=1).max(initial=0)) - self.rows, 0)

    def rank(self, cells: Array) -> None:
        """Take rows, uint8 (n, d), 255 where a row has no value for a feature; the bets on them wait for `settle`."""
        n, had = len(cells), self.rows % BLOCK
        if not n:
            return
        if (self._strides > 1).any():
            at = np.arange(self.rows, self.rows + n)[:, None]
            cells = np.where(at % self._strides, np.uint8(ABSENT), cells)
        self.rows += n
        if had + n < BLOCK:
            self._pending[had : had + n] = cells
            return
        whole = np.concatenate([self._pending[:had], cells]) if had else cells
        blocks = whole[: len(whole) // BLOCK * BLOCK].reshape(-1, BLOCK, cells.shape[1])
        rest = whole[blocks.shape[0] * BLOCK :]
        self._pending[: len(rest)] = rest
        if "changed" in self.evidence:
            slots, added = martingale.advance(self._counts, blocks, self._rng.random(blocks.shape))
        else:
            slots, added = None, np.array([martingale.tally(block) for block in blocks])
        self._ranked.append((slots, added))

    def settle(self) -> list[Crossing]:
        """Bet on all that was ranked."""
        crossed: list[Crossing] = []
        for slots, added in self._ranked:
            grouped = (added.transpose(1, 0, 2) @ self._coarse).transpose(1, 0, 2)
            if slots is not None:
                logs = martingale.increments(slots)
                factors, rows = np.exp(logs), added.sum(axis=2)
            for i, counts in enumerate(added):
                self._recent[self._blocks % RECENT] = counts
                self._blocks += 1
                if slots is not None:
                    self.evidence["changed"].step(logs[i], factors[i], rows[i])
                    crossed += self._crossed("changed", BLOCK)
                self._banded += grouped[i]
                if self._blocks % BLOCKS_OF_BAND == 0:
                    crossed += self._step_band()
        self._ranked.clear()
        return crossed

    def _step_band(self) -> list[Crossing]:
        pays = np.minimum((self._banded[:, None, :] @ self._pays)[:, 0], MOST)
        self.evidence["material"].step(pays, np.exp(pays), self._banded.sum(axis=1))
        self._banded[:] = 0
        return self._crossed("material", BLOCK * BLOCKS_OF_BAND)

    def _crossed(self, kind: str, rows: int) -> list[Crossing]:
        evidence = self.evidence[kind]
        if evidence.most < self._least[kind]:
            return []
        above = (evidence.value >= self._limits[kind]) & self._quiet[kind]
        if not above.any():
            return []
        began, p = evidence.began() * rows, self.p(kind)
        crossed = [
            Crossing(
                kind,
                int(j),
                float(p[j]),
                self._blocks * BLOCK,
                int(began[j]),
                self.recent(int(began[j]))[j],
            )
            for j in np.flatnonzero(above)
        ]
        if evidence.guarantee == "arl":
            evidence.restart(above)
        else:
            self._quiet[kind] &= ~above
        return crossed

    def p(self, kind: str) -> Array:
        """For each feature the p-value: for "ever" valid at all times together, for "arl" at each one of them."""
        evidence = self.evidence[kind]
        p: Array = np.minimum(
            1.0, self.staked(evidence.guarantee) / np.maximum(evidence.peak, 1e-300)
        )
        return p

    def staked(self, guarantee: Guarantee) -> int:
        """The most that the mean of the money is by now where nothing has changed."""
        return 1 if guarantee == "ever" else max(self._blocks * BLOCK, 1)

    def enough(self, kind: str, money: Array) -> Array:
        """Of which features so much money, (d,), is an alarm."""
        above: Array = (money >= self._limits[kind]) & (self._levels[kind] > 0)
        return above

    def began(self, kind: str) -> Array:
        """For each feature, after how many rows the best bet last began."""
        return self.evidence[kind].began() * (
            BLOCK if kind == "changed" else BLOCK * BLOCKS_OF_BAND
        )

    def recent(self, since: int = 0) -> Array:
        """Counts (d, 67) of the last 1,024 rows, or of those of them that came after `since` rows."""
        blocks = min(RECENT, self._blocks, max(self._blocks - since // BLOCK, 1))
        at = np.arange(self._blocks - blocks, self._blocks) % RECENT
        counts: Array = self._recent[at].sum(axis=0, dtype=np.int64)
        return counts

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and what JSON can hold."""
        arrays = {
            "totals": self.totals,
            "counts": self._counts,
            "pending": self._pending[: self.rows % BLOCK],
            "recent": self._recent,
            "banded": self._banded,
        }
        arrays |= {f"quiet {kind}": quiet for kind, quiet in self._quiet.items()}
        for kind, evidence in self.evidence.items():
            arrays |= {f"{kind} {name}": array for name, array in evidence.state().items()}
        return arrays, {
            "rows": self.rows,
            "blocks": self._blocks,
            "generator": self._rng.bit_generator.state,
        }

    def restore(self, arrays: dict[str, Array], plain: dict[str, Any]) -> None:
        """Go on from `state()`, bit for bit."""
        self.rows, self._blocks = plain["rows"], plain["blocks"]
        self._rng.bit_generator.state = plain["generator"]
        self.totals, self._counts = arrays["totals"].copy(), arrays["counts"].copy()
        self._recent, self._banded = arrays["recent"].copy(), arrays["banded"].copy()
        self._pending[: len(arrays["pending"])] = arrays["pending"]
        self._quiet = {kind: arrays[f"quiet {kind}"].copy() for kind in self._quiet}
        for kind, evidence in self.evidence.items():
            names = ("money", "run", "began", "value", "peak", "clock")
            evidence.restore({name: arrays[f"{kind} {name}"] for name in names})
