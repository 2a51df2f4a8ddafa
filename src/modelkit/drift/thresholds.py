"""The wealth at which evidence is an alarm."""

from __future__ import annotations

from typing import final

import numpy as np

from modelkit.cast import Array
from modelkit.evidence import Evidence

TINY_LEVEL = 1e-300  # keeps the threshold of a feature without any share of alpha finite


@final
class Thresholds:
    """The thresholds of one kind of evidence; `open` (d,) says which features may raise an alarm.

    Args:
        levels: the share of alpha of each feature, (d,).
        scale: the threshold of a feature that has all of alpha, if alpha were one.
    """

    def __init__(self, levels: Array, scale: int) -> None:
        self._wealth = scale / np.maximum(levels, TINY_LEVEL)
        self._least = float(self._wealth.min())
        self._has_share = levels > 0
        self.open = self._has_share.copy()

    def enough(self, wealth: Array) -> Array:
        """Mask (d,): features whose wealth (d,) is at its threshold, whether or not they alarmed."""
        above: Array = (wealth >= self._wealth) & self._has_share
        return above

    def cross(self, evidence: Evidence) -> list[int]:
        """The numbers of the features that are an alarm now.

        With "ever" they raise no other one, with "arl" their evidence begins anew.
        """
        if evidence.most < self._least:
            return []
        above = (evidence.value >= self._wealth) & self.open
        if evidence.guarantee == "ever":
            self.open &= ~above
        found: list[int] = np.flatnonzero(above).tolist()
        return found
