"""Tests: of many at once, of rows that are right or wrong, of counts, and by resampling; pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.intervals import LEVEL_95, Interval, special_functions

TINY = 1e-9
STEPS = 60  # of a bisection on an interval of length 2: 2e-18


def holm(p: Array) -> Array:
    """Adjusted p-values (n,) of p-values (n,), however dependent they are (Holm 1979).

    Rejecting those that are at most alpha errs with a probability of at most alpha.
    """
    tests = len(p)
    order = np.argsort(p, kind="stable")
    left = np.arange(tests, 0, -1)  # tests that are not rejected before each one
    rising = np.maximum.accumulate(left * p[order])
    adjusted = np.empty(tests)
    adjusted[order] = np.minimum(rising, 1)
    return adjusted


def mcnemar(better: int, worse: int) -> float:
    """The one-sided p-value of "the candidate is right no more often", exactly.

    It is P(Bin(better + worse, 1/2) >= better) (McNemar 1947, in its exact form).

    Args:
        better: the number of rows that only the candidate got right.
        worse: the number of rows that only the champion got right.
    """
    if better <= 0:
        return 1.0
    return float(special_functions().bdtrc(better - 1, better + worse, 0.5))


def tango(better: Array | float, worse: Array | float, n: Array | float, bound: float) -> Array:
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
        z, of the shape of the counts; 0 where the counts say nothing.
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
    return np.where(variance > 0, z, 0.0)


def tango_interval(better: int, worse: int, n: int, level: float = LEVEL_95) -> Interval:
    """The differences of accuracy that `tango` does not reject on either side."""
    z = float(special_functions().ndtri((1 + level) / 2))
    value = (better - worse) / n
    low = last_rejected(lambda bound: float(tango(better, worse, n, bound)) > z, -1.0, value)
    high = last_rejected(lambda bound: float(tango(better, worse, n, bound)) < -z, 1.0, value)
    return low, high


def last_rejected(rejects: Callable[[float], bool], far: float, near: float) -> float:
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
        clusters: numbers from 0 on, shape (n,); their rows are drawn together.
    """
    which = np.arange(n) if clusters is None else clusters
    units = int(which.max()) + 1
    draws = (rng.integers(units, size=units) for _ in range(repeats))
    return np.array([statistic(np.bincount(drawn, minlength=units)[which]) for drawn in draws])


def split_test(found: int, sizes: Array, held: int) -> tuple[float, float]:
    """The p-value of so many held-out rows that equal others, in a random split, and the usual number.

    Args:
        found: the number of held-out rows that equal one of the others.
        sizes: how many sets there are of 0, 1, 2 ... rows that equal one another.
        held: how many of all rows are held out.
    """
    mean, variance = _equal_in_split(sizes, held)
    return _tail(found, mean, variance), mean


def _equal_in_split(sizes: Array, held: int) -> tuple[float, float]:
    """Mean and variance of the number of held-out rows that equal others, in a random split.

    With q the share that is held out, h of the c rows of a set of equal ones are, a binomial number,
    and these have their equals among the others unless h = c. That q of all are held out is known,
    so of the variance is left what the regression on the number of all leaves.

    Args:
        sizes: how many sets there are of 0, 1, 2 ... rows that equal one another.
        held: how many of the rows are held out.
    """
    c = np.arange(len(sizes), dtype=np.float64)
    q = held / float(sizes @ c)
    mean = c * q
    whole = q**c
    squares = mean * (1 - q) + mean**2 - c**2 * whole  # of h where h < c, and times h
    crossing = mean - c * whole
    total = float(sizes @ (squares - mean * crossing))
    spread = float(sizes @ (mean * (1 - q)))
    variance = float(sizes @ (squares - crossing**2)) - (total**2 / spread if spread else 0.0)
    return float(sizes @ crossing), variance


def _tail(found: int, mean: float, variance: float) -> float:
    """The probability of so large a count, or a larger one, by a law of its mean and variance.

    It is a binomial law, which it is where equal rows come in pairs, each with one on either side or
    not; and a gamma law where the variance is larger, since large sets bring many rows at once.
    """
    if variance <= TINY or found <= mean:
        return 1.0
    special = special_functions()
    if variance >= mean:
        return float(special.gammaincc(mean**2 / variance, (found - 0.5) * mean / variance))
    share = 1 - variance / mean
    return float(special.betainc(found, max(mean / share - found, 0.0) + 1, share))
