"""Labels as they come in: evidence that the loss has grown, and an interval for what it is now."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from modelkit.cast import Array
from modelkit.drift import risk
from modelkit.drift.evidence import Evidence, Guarantee
from modelkit.drift.outputs import Baseline

BLOCK = 10  # losses of a micro-batch
TOLERANCE = 0.02  # by how much the mean loss may grow
SHOWN = 0.05  # one less the confidence of the intervals that are shown


@final
class Labelled:
    """The losses of labelled rows, against those of the reference."""

    def __init__(
        self, baseline: Baseline, level: float, delta: float, guarantee: Guarantee, horizon: int
    ) -> None:
        self.rows = 0
        self.total = 0.0
        self.bound = min(bound(baseline, delta) + TOLERANCE, 1.0)
        self.evidence = Evidence(1, risk.WEIGHTS, guarantee)
        self.sequence = risk.ConfidenceSequence(SHOWN)
        self._limit = (1 if guarantee == "ever" else horizon) / level
        self._pending = np.empty(0)
        self._quiet = True

    def push(self, losses: Array) -> list[tuple[int, int, float]]:
        """Take losses; returns for each alarm after how many losses it came and the change began, and its p-value."""
        self.rows += len(losses)
        self.total += float(losses.sum())
        self.sequence.update(losses)
        whole = np.concatenate([self._pending, losses])
        cut = len(whole) // BLOCK * BLOCK
        self._pending = whole[cut:]
        crossed = []
        for block in whole[:cut].reshape(-1, BLOCK):
            logs = risk.increments(block, self.bound)[None]
            self.evidence.step(logs, np.exp(logs), np.array([BLOCK]))
            if self._quiet and self.evidence.value[0] >= self._limit:
                crossed.append(
                    (self.evidence.steps * BLOCK, int(self.evidence.began()[0]) * BLOCK, self.p)
                )
                if self.evidence.guarantee == "arl":
                    self.evidence.restart(np.array([True]))
                else:
                    self._quiet = False
        return crossed

    @property
    def p(self) -> float:
        """The p-value, valid at any time."""
        seen = 1 if self.evidence.guarantee == "ever" else max(self.evidence.steps * BLOCK, 1)
        return float(min(1.0, seen / max(self.evidence.peak[0], 1e-300)))

    def interval(self) -> tuple[float, float, float] | None:
        """The mean loss, and the 95 % confidence sequence of it; None without losses, or where no one mean fits."""
        limits = self.sequence.interval()
        return None if limits is None or not self.rows else (self.total / self.rows, *limits)

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything that changes: arrays, and what JSON can hold."""
        arrays = {f"evidence {name}": array for name, array in self.evidence.state().items()}
        arrays |= {f"sequence {name}": array for name, array in self.sequence.state().items()}
        return arrays | {"pending": self._pending}, {
            "rows": self.rows,
            "total": self.total,
            "quiet": self._quiet,
        }

    def restore(self, arrays: dict[str, Array], plain: dict[str, Any]) -> None:
        """Go on from `state()`, bit for bit."""
        self.rows, self.total, self._quiet = plain["rows"], plain["total"], plain["quiet"]
        self._pending = arrays["pending"].copy()
        for name, part in (("evidence", self.evidence), ("sequence", self.sequence)):
            part.restore(
                {
                    k.removeprefix(name + " "): a
                    for k, a in arrays.items()
                    if k.startswith(name + " ")
                }
            )


def bound(baseline: Baseline, delta: float) -> float:
    """An upper bound on the mean loss of the reference, which is too low with a probability of at most delta."""
    return risk.risk_bound(
        baseline.n, baseline.total, baseline.squares, delta, binary=baseline.binary
    )


def reference_interval(baseline: Baseline) -> tuple[float, float, float]:
    """The mean loss of the reference with its 95 % interval."""
    n, total, squares = baseline.n, baseline.total, baseline.squares
    mirrored = Baseline(n, n - total, n - 2 * total + squares, baseline.binary)
    return total / n, 1 - bound(mirrored, SHOWN / 2), bound(baseline, SHOWN / 2)
