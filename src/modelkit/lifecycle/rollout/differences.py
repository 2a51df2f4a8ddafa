"""Evidence about mean losses, when labels come late; pure.

Paired, as in shadow: d is the candidate's loss less the champion's on the same row. In two arms: d
is a loss of the candidate less the mean of the champion's losses since the candidate's last one, in
the order in which labels arrive. Losses are from 0 to 1, so d is from -1 to 1.

A bet against "the mean of d, given the past, is at most the margin" multiplies its stake by
1 + lambda (d - margin), and one against "at least the margin" by 1 - lambda (d - margin). The
lambdas are fixed beforehand. News: Waudby-Smith and Ramdas, Estimating means of bounded random
variables by betting (arXiv:2010.09686).
"""

from __future__ import annotations

from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.rollout.arms import log_mean

STAKES = np.array([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])  # of the largest lambda
EVENLY_STAKED = np.full(len(STAKES), 1 / len(STAKES))
MOST_STAKED = 0.99  # of what would risk the whole stake


@final
class LossDifferences:
    """Evidence on both sides of a margin, from differences of losses.

    Args:
        margin: by how much the candidate's mean loss may be above the champion's; 0 to below 1.
        largest: the largest difference that there can be, above the margin.
    """

    def __init__(self, margin: float, largest: float = 1.0) -> None:
        if not 0 <= margin < 1:
            raise ValueError(f"a margin of losses is from 0 to below 1, not {margin!r}")
        self.margin = margin
        self._up = STAKES * MOST_STAKED / (1 + margin)
        self._down = STAKES * MOST_STAKED / (largest - margin)
        self._worse = np.zeros(len(STAKES))
        self._within = np.zeros(len(STAKES))

    def update(self, differences: Array) -> None:
        """Take differences, shape (n,), in the order of their labels.

        Raises ValueError for one beyond -1 to 1, or NaN.
        """
        if not np.all(np.abs(differences) <= 1):
            raise ValueError("losses are from 0 to 1, so their differences from -1 to 1")
        gaps = np.asarray(differences, np.float64)[:, None] - self.margin
        self._worse += np.log1p(gaps * self._up).sum(axis=0)
        self._within += np.log1p(-gaps * self._down).sum(axis=0)

    @property
    def log_worse(self) -> float:
        """The logarithm of the evidence that the mean difference is above the margin."""
        return log_mean(self._worse, EVENLY_STAKED)

    @property
    def log_within(self) -> float:
        """The logarithm of the evidence that the mean difference is below the margin."""
        return log_mean(self._within, EVENLY_STAKED)


@final
class Pairing:
    """Makes differences of the losses of two arms, in the order in which labels arrive."""

    def __init__(self) -> None:
        self._total = 0.0
        self._count = 0

    def take(self, loss: float, *, candidate: bool) -> float | None:
        """The difference that a loss completes, if it does."""
        if not candidate:
            self._total += loss
            self._count += 1
            return None
        if not self._count:
            return None
        before = self._total / self._count
        self._total = 0.0
        self._count = 0
        return loss - before
