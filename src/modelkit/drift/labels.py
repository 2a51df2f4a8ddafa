"""Labels as they come in: evidence that the loss has grown, and an interval for its mean."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import codec, risk
from modelkit.drift.losses import Baseline
from modelkit.drift.milestones import NO_TIME, Milestones, known
from modelkit.drift.thresholds import Thresholds, anytime_p
from modelkit.stats.evidence import Evidence, Guarantee

BLOCK_LOSSES = 10  # losses of a micro-batch
LOSS_TOLERANCE = 0.02  # the growth of the mean loss that is not material
BLOCKS_OF_RECENT = 100
RECENT_LOSSES = BLOCKS_OF_RECENT * BLOCK_LOSSES  # that are kept, for how large the loss is now
SHOWN_ERROR = 0.05  # one less the confidence of the intervals that are shown


@dataclass(frozen=True)
class LossCrossing:
    """Evidence of a growing loss that passed its threshold.

    `row` is the number of losses until then, `began` that before the estimated change, `time` and
    `began_time` are when their labels came, and `p` is the p-value. `rows` is the number of losses
    that were looked at, and `part` and `again` are as of `stream.Crossing`.
    """

    row: int
    began: int
    p: float
    time: float | None
    began_time: float | None
    rows: int
    part: float
    again: bool


@final
class Labelled:
    """The losses of labelled rows, against those of the reference.

    `bound` is how large the mean loss may be: at first by the reference, and after an alarm as
    large as that has shown. `earlier` losses were compared with references before.
    """

    def __init__(
        self, baseline: Baseline, level: float, delta: float, guarantee: Guarantee, horizon: int
    ) -> None:
        self.rows = 0
        self.earlier = 0
        self.total = 0.0
        self._first = min(baseline_bound(baseline, delta) + LOSS_TOLERANCE, 1.0)
        self.bound = self._first
        self._binary = baseline.binary
        self.evidence = Evidence(1, risk.LOSS_WEIGHTS, guarantee)
        self.sequence = risk.ConfidenceSequence(SHOWN_ERROR)
        self._limits = Thresholds(np.array([level]), guarantee, horizon)
        self._recent = np.empty(0)  # the last losses that were bet on
        self._allowed = 0  # the block since which the loss may be larger
        self._pending = np.empty((0, 2))  # losses, and the times of their labels
        self._milestones = Milestones()
        self._latest = NO_TIME

    def push(self, losses: Array, times: Array) -> list[LossCrossing]:
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
            self._recent = np.append(self._recent, block[:, 0])[-RECENT_LOSSES:]
            if self._limits.cross(self.evidence):
                crossed.append(self._crossing())
                self._after_alarm()
            elif self.bound > self._first and self.evidence.steps % BLOCKS_OF_RECENT == 0:
                self._come_back()
        return crossed

    def _bet(self, block: Array) -> None:
        logs = risk.loss_increments(block, self.bound)[None]
        rows = np.array([BLOCK_LOSSES])
        self.evidence.step(logs, np.exp(logs), rows)

    def _crossing(self) -> LossCrossing:
        began, began_time = self._milestones.at(self.evidence.began())
        rows = self.evidence.steps * BLOCK_LOSSES
        return LossCrossing(
            row=self.earlier + rows,
            began=self.earlier + int(began[0]),
            p=self._p_of(self.evidence.value),
            time=known(self._latest),
            began_time=known(began_time[0]),
            rows=rows,
            part=float(self._limits.parts[0]),
            again=self.bound > self._first,
        )

    def _after_alarm(self) -> None:
        """Let the loss be as large as the losses since the change began; more is another alarm."""
        if self.evidence.guarantee == "arl":
            self.evidence.restart(np.array([True]))
            return
        since = (self.evidence.steps - int(self.evidence.began()[0])) * BLOCK_LOSSES
        losses = self._recent[-since:]
        shown = risk.risk_bound(
            len(losses),
            float(losses.sum()),
            float(losses @ losses),
            SHOWN_ERROR,
            binary=self._binary,
        )
        self.bound = max(self._first, min(shown + LOSS_TOLERANCE, 1.0))
        self._allowed = self.evidence.steps
        self._limits.arm(0, self.evidence)

    def _come_back(self) -> None:
        """Hold the loss to the first bound again, where 1,000 losses after an alarm are within it."""
        after = self.evidence.steps - self._allowed
        if after >= BLOCKS_OF_RECENT and self._recent.mean() <= self._first:
            self.bound = self._first
            self._limits.arm(0, self.evidence)

    @property
    def p(self) -> float:
        """The p-value, valid at any time."""
        return self._p_of(self.evidence.peak)

    def _p_of(self, wealth: Array) -> float:
        ever = self.evidence.guarantee == "ever"
        staked = 1 if ever else max(self.evidence.steps * BLOCK_LOSSES, 1)
        return float(anytime_p(wealth, staked)[0])

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
        arrays["recent"] = self._recent
        arrays |= self._limits.state("performance")
        plain = {
            "rows": self.rows,
            "total": self.total,
            "earlier": self.earlier,
            "bound": self.bound,
            "allowed": self._allowed,
        }
        return arrays, plain

    def restore(self, arrays: dict[str, Array], plain: dict[str, Any]) -> None:
        """Go on from `state()`, bit for bit."""
        self.rows = plain["rows"]
        self.total = plain["total"]
        self.evidence.restore(codec.under("evidence ", arrays))
        self.earlier = plain["earlier"]
        self.bound = plain["bound"]
        self._allowed = plain["allowed"]
        self._recent = arrays["recent"].copy()
        self._limits.restore(arrays, "performance")
        times = arrays["times"]
        self._pending = np.stack([arrays["pending"], times[:-1]], axis=1)
        self._latest = float(times[-1])
        self._milestones.restore(arrays["milestones"])
        self.sequence.restore(codec.under("sequence ", arrays))


def baseline_bound(baseline: Baseline, delta: float) -> float:
    """An upper bound on the mean loss of the reference.

    It is too low with a probability of at most delta.
    """
    return risk.risk_bound(
        baseline.n, baseline.total, baseline.squares, delta, binary=baseline.binary
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
