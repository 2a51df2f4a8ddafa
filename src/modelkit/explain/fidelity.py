"""How well a linear model of LIME fits: what an Explanation holds of it, and when it warns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import ExplainError
from modelkit.signature.cast import name_rows

SAMPLES = 5000
LEAST_SAMPLES = 100
LEAST_R2 = 0.5  # below it, a linear model says little about the row
MOST_ERROR = 0.1  # of the range of the answers: above it, the same


@dataclass(frozen=True)
class Fidelity:
    """Of n rows and k outputs: `r2` and `error` (n, k), and the effective sample size `ess` (n,).

    `r2` is the share of the weighted variance that the linear model explains, and `error` its
    distance from what was served at the row itself. `width` is the kernel's.
    """

    r2: Array
    error: Array
    ess: Array
    samples: int
    width: float

    def to_dict(self) -> dict[str, Any]:
        """The fidelity of an Explanation, in plain lists."""
        return {
            "r2": self.r2.tolist(),
            "local_error": self.error.tolist(),
            "ess": self.ess.tolist(),
            "samples": self.samples,
            "kernel_width": self.width,
        }

    def warnings(self, spread: Array) -> tuple[str, ...]:
        """A warning that names the rows whose linear model says little.

        `spread` (k,) is the range of the answers from the least to the largest.
        """
        low = (self.r2 < LEAST_R2) | (self.error > MOST_ERROR * spread)
        if not low.any():
            return ()
        where = name_rows(np.asarray(low.any(axis=1)))
        warning = (
            f"low fidelity in {where}: the linear model explains less than {LEAST_R2:.0%} of the "
            f"variance, or misses what was served by more than {MOST_ERROR:.0%} of its range (R2 "
            f"down to {self.r2.min():.2f}, misses up to {self.error.max():.3g})"
        )
        return (warning,)


def samples_of(budget: int | None, players: int) -> int:
    """The number of rows that LIME draws. Raises ExplainError if the budget is too small."""
    least = max(LEAST_SAMPLES, 2 * players)
    if budget is not None and budget < least:
        raise ExplainError(
            f"LIME fits a line to {budget} drawn rows; at least {least} are needed: budget={least}"
        )
    return SAMPLES if budget is None else budget
