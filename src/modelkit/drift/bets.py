"""The wealth of bets, the thresholds at which it is an alarm, and alarms that come again."""

from __future__ import annotations

from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.limits import Limits
from modelkit.drift.ranks import Gain, Ranks
from modelkit.stats.evidence import Evidence, Guarantee, stake

TINY_LEVEL = 1e-300  # keeps the threshold of a feature without any share of alpha finite
FIRST_PART = 0.8  # of a feature's share of alpha: for its first alarm
LATER_PART = 1 - FIRST_PART  # for all others together, by the steps at which they may be armed


@final
class Bettor:
    """The evidence of one kind about d features, and which of them it makes an alarm.

    A feature has several lanes, such as the scores of units, which share its level. `open` (d,) says
    which features may raise an alarm, `parts` (d,) has the part of its share of alpha that a feature's
    next alarm may use, and `won` (d,) what it had won when its evidence began anew, with a wealth of
    one. With "ever" a feature is closed by its alarm until it is armed again; with "arl" it goes on,
    at the same threshold.

    Args:
        source: what bets gain.
        levels: the share of alpha of each feature, (d,).
        guarantee: see `evidence`.
        horizon: for "arl", the members in which a level is the probability of a false alarm.
    """

    changing = ("source", "evidence", "open", "parts", "won")

    def __init__(
        self, source: Ranks | Limits, levels: Array, guarantee: Guarantee, horizon: int
    ) -> None:
        d = len(levels)
        ever = guarantee == "ever"
        self.source = source
        self.evidence = Evidence(d * source.lanes, source.weights, guarantee)
        self.levels = levels
        self._scale = source.lanes * (1 if ever else horizon)
        self.first = FIRST_PART if ever else 1.0
        self.open = np.ones(d, bool)
        self.parts = np.full(d, self.first)
        self.won = np.zeros(d)
        self._least = float(self.thresholds().min())  # later ones are higher

    def thresholds(self) -> Array:
        """The wealth at which each feature raises its next alarm, (d,)."""
        levels = self.levels * (1 - self.source.spared) * self.parts
        thresholds: Array = self._scale / np.maximum(levels, TINY_LEVEL)
        return thresholds

    def step(self, gain: Gain) -> list[int]:
        """Bet; the numbers of the features that are an alarm now, which "ever" closes."""
        evidence = self.evidence
        evidence.step(*gain)
        if evidence.most < self._least:
            return []
        above = (self.by_feature(evidence.value).max(axis=1) >= self.thresholds()) & self.open
        if evidence.guarantee == "ever":
            self.open &= ~above
        crossed: list[int] = np.flatnonzero(above).tolist()
        return crossed

    def again(self, j: int) -> bool:
        """Whether the next alarm of a feature goes beyond one before."""
        if isinstance(self.source, Limits):
            return self.source.further(j)
        return bool(self.parts[j] != self.first)

    def go_on(self, j: int, recent: Array, blocks: int) -> None:
        """Let a feature that alarmed by recent blocks alarm again where it goes further.

        What is ranked is closed with "ever", until somebody knows of the alarm. `blocks` is the
        number of all blocks.
        """
        if self.evidence.guarantee == "ever":
            if not isinstance(self.source, Limits):
                return
            self.source.allow(j, recent, blocks)
        self.arm(j)

    def arm(self, j: int) -> None:
        """Let a feature raise another alarm, by evidence that begins anew."""
        evidence = self.evidence
        if evidence.guarantee == "ever":
            self.won[j] += self.by_feature(evidence.value)[j].max() - 1
            self.open[j] = True
            self.parts[j] = LATER_PART * stake(evidence.steps)
        which = np.arange(len(self.open)) == j
        evidence.restart(np.repeat(which, self.source.lanes))

    def enough(self, wealth: Array) -> Array:
        """Mask (d,): features whose wealth (d,) is that of a first alarm, whether or not they alarmed."""
        least = self.levels * (1 - self.source.spared) * self.first
        above: Array = (wealth * least >= self._scale) & (least > 0)
        return above

    def began(self) -> Array:
        """The number of the block at which the best bet of each lane began, (d, lanes)."""
        return self.by_feature(self.evidence.began() * self.source.blocks)

    def by_feature(self, values: Array) -> Array:
        """What lanes have, by feature, (d, lanes)."""
        return values.reshape(-1, self.source.lanes)
