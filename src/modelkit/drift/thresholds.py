"""The wealth at which evidence is an alarm, and what of alpha is left for the alarms after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.evidence import LEAST_WEALTH, Evidence, Guarantee, stake

TINY_LEVEL = 1e-300  # keeps the threshold of a feature without any share of alpha finite
FIRST_PART = 0.8  # of a feature's share of alpha: for its first alarm
LATER_PART = 1 - FIRST_PART  # for all others together, by the steps at which they may be armed


@final
class Thresholds:
    """The thresholds of one kind of evidence; `open` (d,) says which features may raise an alarm.

    `parts` (d,) has the part of its share of alpha that a feature's next alarm may use, and `won`
    (d,) what it had won when its evidence began anew, with a wealth of one. With "ever" a feature
    is closed by its alarm until it is armed again; with "arl" it goes on, at the same threshold.

    Args:
        levels: the share of alpha of each feature, (d,).
        guarantee: see `evidence`.
        horizon: for "arl", the number of rows in which a level is the probability of a false alarm.
        scores: how many monitors a feature has, which share its level.
    """

    def __init__(self, levels: Array, guarantee: Guarantee, horizon: int, scores: int = 1) -> None:
        self.guarantee = guarantee
        self._levels = levels
        self._scale = scores * (1 if guarantee == "ever" else horizon)
        self._scores = scores
        self._has_share = levels > 0
        self._first = FIRST_PART if guarantee == "ever" else 1.0
        self.open = self._has_share.copy()
        self.parts = np.full(len(levels), self._first)
        self.won = np.zeros(len(levels))
        self._set()

    def _set(self) -> None:
        self._wealth = self._scale / np.maximum(self._levels * self.parts, TINY_LEVEL)
        self._least = float(self._wealth.min())

    def armed(self, j: int) -> bool:
        """Whether the next alarm of a feature is not its first."""
        return bool(self.parts[j] != self._first)

    def enough(self, wealth: Array) -> Array:
        """Mask (d,): features whose wealth (d,) is that of a first alarm, whether or not they alarmed."""
        least = self._levels * self._first
        above: Array = (wealth * least >= self._scale) & self._has_share
        return above

    def cross(self, evidence: Evidence) -> list[int]:
        """The numbers of the features that are an alarm now; with "ever" they are closed."""
        if evidence.most < self._least:
            return []
        value = evidence.value.reshape(-1, self._scores).max(axis=1)
        above = (value >= self._wealth) & self.open
        if self.guarantee == "ever":
            self.open &= ~above
        found: list[int] = np.flatnonzero(above).tolist()
        return found

    def arm(self, j: int, evidence: Evidence) -> None:
        """Let a feature raise another alarm, by evidence that begins anew."""
        if self.guarantee == "ever":
            self.won[j] += evidence.value.reshape(-1, self._scores)[j].max() - 1
            self.parts[j] = LATER_PART * stake(evidence.steps)
            self.open[j] = self._has_share[j]
            self._set()
        which = np.zeros(len(self._levels), bool)
        which[j] = True
        evidence.restart(np.repeat(which, self._scores))

    def open_again(self, j: int, evidence: Evidence) -> bool:
        """The same for a feature that its alarm has closed; whether it was."""
        closed = bool(self._has_share[j] and not self.open[j])
        if closed:
            self.arm(j, evidence)
        return closed

    def state(self, kind: str) -> dict[str, Array]:
        """Everything that changes, under the name of the kind."""
        return {f"quiet {kind}": self.open, f"parts {kind}": self.parts, f"won {kind}": self.won}

    def restore(self, arrays: Mapping[str, Array], kind: str) -> None:
        """Go on from `state()`, bit for bit."""
        self.open = arrays[f"quiet {kind}"].copy()
        self.parts = arrays[f"parts {kind}"].copy()
        self.won = arrays[f"won {kind}"].copy()
        self._set()


def anytime_p(wealth: Array, staked: float) -> Array:
    """The p-value of each wealth, whose mean without a change is at most what was staked."""
    p: Array = np.minimum(1.0, staked / np.maximum(wealth, LEAST_WEALTH))
    return p
