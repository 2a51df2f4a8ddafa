"""Labels as they come in: evidence that the loss has grown, and an interval for its mean."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import archive, risk
from modelkit.drift.losses import Baseline
from modelkit.drift.milestones import NO_TIME, Milestones, from_state, known
from modelkit.evidence import LEAST_WEALTH, Evidence, Guarantee

BLOCK_LOSSES = 10  # losses of a micro-batch
LOSS_TOLERANCE = 0.02  # the growth of the mean loss that is not material
SHOWN_ERROR = 0.05  # one less the confidence of the intervals that are shown


@dataclass(frozen=True)
class LossCrossing:
    """Evidence of a growing loss that passed its threshold.

    `row` is the number of losses until then, `began` that before the estimated change, `time` and
    `began_time` are when their labels came, and `p` is the p-value.
    """

    row: int
    began: int
    p: float
    time: float | None
    began_time: float | None


@final
class Labelled:
    """The losses of labelled rows, against those of the reference."""

    def __init__(
        self,
        baseline: Baseline,
        level: float,
        delta: float,
        guarantee: Guarantee,
        horizon: int,
    ) -> None:
        self.rows = 0
        self.total = 0.0
        self.bound = min(baseline_bound(baseline, delta) + LOSS_TOLERANCE, 1.0)
        self.evidence = Evidence(1, risk.LOSS_WEIGHTS, guarantee)
        self.sequence = risk.ConfidenceSequence(SHOWN_ERROR)
        self._limit = (1 if guarantee == "ever" else horizon) / level
        self._pending = np.empty((0, 2))  # losses, and the times of their labels
        self._milestones = Milestones()
        self._latest = NO_TIME
        self._quiet = True

    def push(
        self,
        losses: Array,
        times: Array,
    ) -> list[LossCrossing]:
        """Take losses (n,) in their order, and the times of their labels, (n,)."""
        self.rows += len(losses)
        self.total += float(losses.sum())
        self.sequence.update(losses)
        whole = np.concatenate([self._pending, np.stack([losses, times], axis=1)])
        cut = len(whole) // BLOCK_LOSSES * BLOCK_LOSSES
        self._pending = whole[cut:]
        crossed = []
        for block in whole[:cut].reshape(-1, BLOCK_LOSSES, 2):
            self._milestones.add(self.evidence.steps * BLOCK_LOSSES, float(block[:, 1].min()))
            self._latest = float(np.fmax(self._latest, block[:, 1].max()))
            self._bet(block[:, 0])
            if self._quiet and self.evidence.value[0] >= self._limit:
                crossed.append(self._crossing())
                self._after_alarm()
        return crossed

    def _bet(self, block: Array) -> None:
        logs = risk.loss_increments(block, self.bound)[None]
        rows = np.array([BLOCK_LOSSES])
        self.evidence.step(logs, np.exp(logs), rows)

    def _crossing(self) -> LossCrossing:
        began, began_time = self._milestones.at(self.evidence.began())
        return LossCrossing(
            row=self.evidence.steps * BLOCK_LOSSES,
            began=int(began[0]),
            p=self.p,
            time=known(self._latest),
            began_time=known(began_time[0]),
        )

    def _after_alarm(self) -> None:
        if self.evidence.guarantee == "arl":
            self.evidence.restart(np.array([True]))
        else:
            self._quiet = False

    @property
    def p(self) -> float:
        """The p-value, valid at any time."""
        staked = 1
        if self.evidence.guarantee == "arl":
            staked = max(self.evidence.steps * BLOCK_LOSSES, 1)
        return float(min(1.0, staked / max(self.evidence.peak[0], LEAST_WEALTH)))

    def interval(self) -> tuple[float, float, float] | None:
        """The mean loss with its 95 % confidence sequence.

        None without losses, and where no one mean fits them. While the sequence is on its way
        there, the mean of all losses lies beyond it, and the ends are NaN.
        """
        limits = self.sequence.interval()
        if limits is None or not self.rows:
            return None
        mean = self.total / self.rows
        low, high = limits
        if not low <= mean <= high:
            return mean, nan, nan
        return mean, low, high

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and values that JSON can hold."""
        arrays = {}
        for name, array in self.evidence.state().items():
            arrays[f"evidence {name}"] = array
        for name, array in self.sequence.state().items():
            arrays[f"sequence {name}"] = array
        arrays["pending"] = self._pending[:, 0].copy()
        arrays["times"] = np.append(self._pending[:, 1], self._latest)
        arrays["milestones"] = self._milestones.state()
        plain = {
            "rows": self.rows,
            "total": self.total,
            "quiet": self._quiet,
        }
        return arrays, plain

    def restore(
        self,
        arrays: dict[str, Array],
        plain: dict[str, Any],
    ) -> None:
        """Go on from `state()`, bit for bit."""
        self.rows = plain["rows"]
        self.total = plain["total"]
        self._quiet = plain["quiet"]
        self.evidence.restore(archive.under("evidence ", arrays))
        pending = arrays["pending"]
        times = arrays.get("times", np.full(len(pending) + 1, NO_TIME))  # a state of before
        self._pending = np.stack([pending, times[:-1]], axis=1)
        self._latest = float(times[-1])
        self._milestones = from_state(arrays, self.evidence.steps, BLOCK_LOSSES)
        self.sequence.restore(archive.under("sequence ", arrays))


def baseline_bound(baseline: Baseline, delta: float) -> float:
    """An upper bound on the mean loss of the reference.

    It is too low with a probability of at most delta.
    """
    return risk.risk_bound(
        baseline.n,
        baseline.total,
        baseline.squares,
        delta,
        binary=baseline.binary,
    )


def reference_interval(baseline: Baseline) -> tuple[float, float, float]:
    """The mean loss of the reference with its 95 % interval."""
    n = baseline.n
    total = baseline.total
    squares = n - 2 * total + baseline.squares
    mirrored = Baseline(n, n - total, squares, baseline.binary)  # of one less each loss
    low = 1 - baseline_bound(mirrored, SHOWN_ERROR / 2)
    high = baseline_bound(baseline, SHOWN_ERROR / 2)
    return total / n, low, high
