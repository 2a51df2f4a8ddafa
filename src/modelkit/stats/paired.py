"""The difference of two models on the same rows, and how surely it is above a bound; pure.

Every difference is the candidate's figure less the champion's, with the sign turned where lower is
better: above zero, the candidate is better. A claim "better by more than D" is tested one-sided:

    superiority       D = 0
    non-inferiority   D = -margin
    harm              the same with the two models exchanged, and D = +margin
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, exp, inf, sqrt
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.influence import Clusters, Measured, added_by, alike_of, standard_error
from modelkit.stats.intervals import LEVEL_95, Interval, special_functions
from modelkit.stats.tests import last_rejected, mcnemar, tango, tango_interval

LEAST_SKEW = 1e-4  # less is none
MOST_DOUBLINGS = 30.0  # of the rows
LEAST_DISTANCE = 1e-4  # in standard errors: less would take more than 1e8 times the rows
ALIKE = 1 - 1e-9  # of sizes that are equal but for rounding
FULL_PART = 6  # of few units a sixth is enough: half as much as normal ones have
FEWEST_UNITS = 8  # units that must hold the variance before their tail is looked at


@final
@dataclass(frozen=True)
class PairedDifference:
    """How much better the candidate is, as a figure of the rows that both answered.

    Attributes:
        value: the difference.
        error: its standard error; None for fewer than two rows or clusters.
        units: the number of independent rows, or clusters, that it rests on.
        third: the sum of the cubes of what each unit adds, which says how skew it is.
        worst: how much one unit that was not drawn could take away at most; infinity where nothing
            says so.
        tail: the index of the tail that says so; infinity where it is an end. Of more rows the largest is
            farther, so it falls more slowly with their number.
    """

    value: float
    error: float | None
    units: float
    third: float = 0.0
    worst: float = 0.0
    tail: float = inf

    def p_above(self, bound: float) -> float:
        """The one-sided p-value of "the true difference is at most `bound`".

        It is 1 where these rows say nothing.

        A row that was not drawn may be as bad as a row can be. So one such row is added, every row
        has a random weight of mean 1, exponentially distributed, and p is the probability that the
        weighted sum is at most 0: the bound of Gaffke (Three test statistics for a nonparametric
        one-sided hypothesis on the mean of a nonnegative variable, 2005). Of rows that are right or
        wrong it is the exact one of Clopper and Pearson; where all rows are alike it is
        exp(-distance / worst), so that 3 `worst` is the least distance that is shown at .05. The sum
        has cumulants distance - worst, error^2 + worst^2 and 2 (third - worst^3), of which Pearson's
        type III curve has its tail; a tail that is longer on the good side is not used. Where
        `third` and `worst` are 0 it is the t test.
        """
        return self._p_at(self.value - bound)

    def _p_at(self, distance: float) -> float:
        """The same by how far the difference is above the bound."""
        error, worst = self.error, self.worst
        if error is None or self.units < 2 or worst == inf:
            return 1.0
        variance = error**2 + worst**2
        if not variance:
            return 1.0
        special = special_functions()
        z = (distance - worst) / sqrt(variance)
        skew = 2 * (self.third - worst**3) / variance**1.5
        tail = float(special.ndtr(-z))
        if skew < -LEAST_SKEW:
            shape = 4 / skew**2
            tail = float(special.gammaincc(shape, max(shape + sqrt(shape) * z, 0.0)))
        if error and worst:
            # The exponential tail of the row that was added, which three cumulants cut off too early.
            shift = distance / error
            bent = error / worst
            log_tail = -distance / worst + bent**2 / 2 + float(special.log_ndtr(shift - bent))
            tail = max(tail, min(float(special.ndtr(-shift)) + exp(min(log_tail, 0.0)), 1.0))
        if self.units == inf:
            return tail
        return float(special.stdtr(self.units - 1, special.ndtri(tail)))

    def interval(self, level: float = LEVEL_95) -> Interval:
        """All differences that `p_above` rejects on neither side; infinite where these rows say nothing."""
        rest = (1 - level) / 2
        return self.value - self.reach(rest), self.value + self.exchanged().reach(rest)

    def reach(self, alpha: float) -> float:
        """How far below the difference a bound is that a test at alpha just rejects."""
        if self.error is None or self.units < 2 or self.worst == inf:
            return inf
        far = self.error + self.worst
        if not far:
            return 0.0
        while self._p_at(far) > alpha and far < inf:
            far *= 2
        return (
            far if far == inf else last_rejected(lambda each: self._p_at(each) <= alpha, far, 0.0)
        )

    def exchanged(self) -> PairedDifference:
        """The difference with the roles of the two models exchanged: what harm is tested on."""
        return replace(self, value=-self.value, third=-self.third)

    def of_rows(self, times: float) -> PairedDifference:
        """What so many times the rows would give, if they were like these."""
        return replace(
            self,
            error=None if self.error is None else self.error / sqrt(times),
            units=self.units * times,
            third=self.third / times**2,
            worst=self.worst * times ** (1 / self.tail - 1),
        )


@final
@dataclass(frozen=True)
class RightCounts:
    """The difference of two shares of right rows, by the rows that only one of two models got right.

    Attributes:
        better: rows that only the candidate got right.
        worse: rows that only the champion got right.
        n: all rows.
    """

    better: int
    worse: int
    n: int

    @property
    def value(self) -> float:
        """The difference; above zero, the candidate is better."""
        return (self.better - self.worse) / self.n

    @property
    def error(self) -> float:
        """The standard error of the difference, as it is where the two are equally good."""
        return sqrt(max(self.better + self.worse, 1)) / self.n

    def p_above(self, bound: float) -> float:
        """The one-sided p-value of "the true difference is at most `bound`"."""
        if bound == 0:
            return mcnemar(self.better, self.worse)
        if abs(bound) >= 1:
            return 0.0 if bound < 0 else 1.0
        return float(special_functions().ndtr(-tango(self.better, self.worse, self.n, bound)))

    def interval(self, level: float = LEVEL_95) -> Interval:
        """All differences that the score test rejects on neither side."""
        return tango_interval(self.better, self.worse, self.n, level)

    def reach(self, alpha: float) -> float:
        """How far below the difference a bound is that a test at alpha just rejects, about."""
        return self.error * float(special_functions().ndtri(1 - alpha))

    def exchanged(self) -> RightCounts:
        """The difference with the roles of the two models exchanged."""
        return RightCounts(self.worse, self.better, self.n)


def difference_of(
    candidate: Measured,
    champion: Measured,
    clusters: Clusters | None = None,
    *,
    higher_is_better: bool = True,
    worst: float = 0.0,
) -> PairedDifference:
    """The difference of one metric of two models on the same rows.

    Row by row their influences are subtracted, so what makes both wrong on the same rows cancels.
    For the area under the ROC curve its error is DeLong's, and for a mean loss the error of paired differences.

    Args:
        candidate: the metric of one model.
        champion: of the other one.
        clusters: which rows belong together, and count as one observation.
        higher_is_better: whether a high figure is a good one.
        worst: how much one unit more could take away at most.
    """
    sign = 1 if higher_is_better else -1
    influence = sign * (candidate.influence - champion.influence)
    units = float(len(influence)) if clusters is None else clusters.alike
    return PairedDifference(
        value=sign * (candidate.value - champion.value),
        error=standard_error(influence, clusters),
        units=min(units, candidate.units, champion.units),
        third=float(np.sum(added_by(influence, clusters) ** 3)),
        worst=worst,
    )


class Unseen(NamedTuple):
    """How much one unit more could take away, and the index of the tail that says so."""

    worst: float
    tail: float = inf


def tail_of(added: Array) -> Unseen:
    """How much one unit more could take away, by the tail of what units add, (n,).

    The largest of them is extended by the index a of Hill (Annals of Statistics 3, 1975): of a tail
    that falls as x^-a, what lies beyond the largest of n is in the mean a / (a - 1) times as far.
    Where as many as `FEWEST_UNITS` units share the largest, it is an end and no tail: the index is
    infinity. Where fewer than that hold the variance, it is infinity and the index 0.
    """
    if alike_of(np.square(added)) < min(FEWEST_UNITS, len(added) / FULL_PART):
        return Unseen(inf, 0.0)
    sizes = np.sort(np.abs(added[added != 0]))[::-1]
    top = min(ceil(2 * sqrt(len(added))), len(sizes) // 2)
    if np.count_nonzero(sizes >= sizes[0] * ALIKE) >= FEWEST_UNITS:
        return Unseen(float(sizes[0]))
    logs = float(np.log(sizes[:top] / sizes[top]).mean())
    index = 1 / logs if logs else inf
    if index <= 1:
        return Unseen(inf, index)
    return Unseen(float(sizes[0]) / (1 - 1 / index), index)


def distance_shown(
    difference: PairedDifference | RightCounts, *, alpha: float, power: float
) -> float | None:
    """How far from a bound a difference has to be, to be shown by a test at alpha with so much power.

    None where the rows show nothing.
    """
    reach = difference.reach(alpha)
    if not difference.error or reach == inf:
        return None
    return reach + difference.error * float(special_functions().ndtri(power))


def times_needed(
    difference: PairedDifference | RightCounts, distance: float, *, alpha: float, power: float
) -> float | None:
    """How many times the rows show, with a probability of `power`, that two equal models are so near.

    None where no number of rows up to 2**30 times as many does, where the rows show nothing, and
    where fewer rows would do but may show too little of the tail.
    """
    if not difference.error or distance <= difference.error * LEAST_DISTANCE:
        return None
    luck = float(special_functions().ndtri(power))
    if isinstance(difference, RightCounts):
        sure = float(special_functions().ndtri(1 - alpha))
        return ((sure + luck) * difference.error / distance) ** 2

    def shows(doublings: float) -> bool:
        more = difference.of_rows(2.0**doublings)
        late = distance - luck * (more.error or 0.0)
        return replace(more, value=late).p_above(0.0) <= alpha

    if not shows(MOST_DOUBLINGS):
        return None
    times = float(2.0 ** last_rejected(shows, MOST_DOUBLINGS, -MOST_DOUBLINGS))
    return None if times < 1 and difference.tail < inf else times
