"""Tests of two models on the same rows; pure.

Every difference is the candidate's figure less the champion's, with the sign turned where lower is
better: above zero, the candidate is better. A claim "better by more than D" is tested one-sided:

    superiority       D = 0
    non-inferiority   D = -margin
    harm              the same with the two models exchanged, and D = +margin
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf
from typing import final

import numpy as np

from modelkit.cast import Array
from modelkit.evaluation.clusters import Clusters
from modelkit.evaluation.intervals import (
    LEVEL_95,
    Interval,
    Measured,
    special_functions,
    standard_error,
    student,
)

STEPS = 60  # of a bisection on an interval of length 2: 2e-18


@final
@dataclass(frozen=True)
class PairedDifference:
    """How much better the candidate is, as a figure of the rows that both answered.

    Attributes:
        value: the difference.
        error: its standard error; None for fewer than two rows or clusters.
        units: the number of independent rows, or clusters, that it rests on.
    """

    value: float
    error: float | None
    units: float

    def p_above(self, bound: float) -> float:
        """The one-sided p-value of "the true difference is at most `bound`", by a t test.

        It is 1 where nothing can be told. Where no unit differs from another, there is no error to
        divide by, and it is that of the sign test: all units on one side of the bound.
        """
        if self.error is None or self.units < 2:
            return 1.0
        if self.error == 0:
            return 2.0**-self.units if self.value > bound else 1.0
        t = (self.value - bound) / self.error
        return float(special_functions().stdtr(self.units - 1, -t))

    def interval(self, level: float = LEVEL_95) -> Interval:
        """A two-sided t interval; from minus infinity to infinity where nothing can be told."""
        if self.error is None:
            return -inf, inf
        return student(self.value, self.error, self.units, level)

    def exchanged(self) -> PairedDifference:
        """The difference with the roles of the two models exchanged: what harm is tested on."""
        return PairedDifference(-self.value, self.error, self.units)


def difference_of(
    candidate: Measured,
    champion: Measured,
    clusters: Clusters | None = None,
    *,
    higher_is_better: bool = True,
) -> PairedDifference:
    """The difference of one metric of two models on the same rows.

    Row by row their influences are subtracted, so what makes both wrong on the same rows cancels.
    For the area under the ROC curve this is DeLong's test, and for a mean loss the paired t test.

    Args:
        candidate: the metric of one model.
        champion: that of the other.
        clusters: which rows belong together, and count as one observation.
        higher_is_better: whether a high figure is a good one.
    """
    sign = 1 if higher_is_better else -1
    influence = sign * (candidate.influence - champion.influence)
    units = float(len(influence)) if clusters is None else clusters.alike
    return PairedDifference(
        value=sign * (candidate.value - champion.value),
        error=error_of(influence, clusters),
        units=min(units, candidate.units, champion.units),
    )


def error_of(
    influence: Array,
    clusters: Clusters | None,
) -> float | None:
    """The standard error of a figure from the influence of its rows, (n,), by rows or by clusters."""
    return standard_error(influence) if clusters is None else clusters.error(influence)


def mcnemar(
    better: int,
    worse: int,
) -> float:
    """The one-sided p-value of "the candidate is right no more often", exactly.

    It is P(Bin(better + worse, 1/2) >= better) (McNemar 1947, in its exact form).

    Args:
        better: the number of rows that only the candidate got right.
        worse: the number of rows that only the champion got right.
    """
    if better <= 0:
        return 1.0
    return float(special_functions().bdtrc(better - 1, better + worse, 0.5))


def tango(
    better: Array | float,
    worse: Array | float,
    n: Array | float,
    bound: float,
) -> Array:
    """The score z of "the accuracy of the candidate is above the champion's by at most `bound`".

    With d = bound, the maximum-likelihood share q of rows that only the champion got right, given
    the difference d, solves 2n q^2 + B q - worse d (1 - d) = 0 with
    B = (2n - better + worse) d - better - worse, and
    z = (better - worse - n d) / sqrt(n (2q + d (1 - d))). For d = 0 it is McNemar's z. Source:
    Tango, Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design, Statistics in Medicine 17, 1998. It holds its level from some 200 rows on,
    also where few rows differ; rows must be independent.

    Args:
        better: the number of rows that only the candidate got right; or one for each slice.
        worse: the number of rows that only the champion got right.
        n: the number of all rows.
        bound: between -1 and 1.

    Returns:
        z, of the shape of the counts; 0 where nothing can be told.
    """
    gained = np.asarray(better, np.float64)
    lost = np.asarray(worse, np.float64)
    rows = np.asarray(n, np.float64)
    linear = (2 * rows - gained + lost) * bound - gained - lost
    inside = linear * linear + 8 * rows * lost * bound * (1 - bound)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (np.sqrt(np.maximum(inside, 0)) - linear) / (4 * rows)
        variance = rows * (2 * share + bound * (1 - bound))
        z = (gained - lost - rows * bound) / np.sqrt(variance)
    found: Array = np.where(variance > 0, z, 0.0)
    return found


def tango_interval(
    better: int,
    worse: int,
    n: int,
    level: float = LEVEL_95,
) -> Interval:
    """The differences of accuracy that `tango` does not reject on either side."""
    z = float(special_functions().ndtri((1 + level) / 2))
    value = (better - worse) / n
    low = _last_rejected(lambda bound: float(tango(better, worse, n, bound)) > z, -1.0, value)
    high = _last_rejected(lambda bound: float(tango(better, worse, n, bound)) < -z, 1.0, value)
    return low, high


def _last_rejected(
    rejects: Callable[[float], bool],
    far: float,
    near: float,
) -> float:
    """The bound between `far`, which is rejected, and `near`, which is not, where that changes."""
    for _ in range(STEPS):
        middle = (far + near) / 2
        if rejects(middle):
            far = middle
        else:
            near = middle
    return near


def bootstrap(
    statistic: Callable[[Array], float],
    n: int,
    repeats: int,
    rng: np.random.Generator,
    clusters: Array | None = None,
) -> Array:
    """Draws of a figure, (repeats,), for rows or clusters that are drawn with replacement.

    Args:
        statistic: takes how often each row was drawn, (n,), and gives the figure, or the difference
            of two models on the same rows; NaN where it is not defined for such a draw.
        n: the number of rows.
        repeats: the number of draws.
        rng: what draws.
        clusters: numbers (n,), as `cluster_codes` gives them; their rows are drawn together.
    """
    which = np.arange(n) if clusters is None else clusters
    units = int(which.max()) + 1
    draws = np.empty(repeats)
    for at in range(repeats):
        times = np.bincount(rng.integers(units, size=units), minlength=units)
        draws[at] = statistic(times[which])
    return draws


def rows_needed(
    error: float,
    n: int,
    distance: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """The number of rows from which a one-sided test shows a claim with a given probability.

    It is n ((z_alpha + z_power) error / distance)^2, for rows like those seen.

    Args:
        error: the standard error of the difference on n rows.
        n: the number of rows that were seen.
        distance: how far the true difference is believed to be inside the claim: the margin plus
            the true difference. Above 0.
        alpha: the level of the test.
        power: the probability of showing the claim.
    """
    ndtri = special_functions().ndtri
    z = float(ndtri(1 - alpha) + ndtri(power))
    return ceil(n * (z * error / distance) ** 2)
