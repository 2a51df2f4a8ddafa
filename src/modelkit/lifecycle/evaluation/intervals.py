"""Intervals of figures that were measured on some rows; pure.

A figure T of weighted rows has an influence for each row, w_i dT/dw_i, which sum to zero. The sum
of their squares is the variance of T (the infinitesimal jackknife: Jaeckel 1972; Efron 1982); rows
of one cluster are added up first, since they count as one observation (Liang and Zeger 1986).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, hypot, inf, log, sqrt
from typing import Any, Literal, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.lifecycle.evaluation.skewness import unskewed

Interval = tuple[float, float]
LEVEL_95 = 0.95
LARGEST_LOG = 700.0  # of which exp is a float
HEAVIEST = 0.8  # the shape of a tail from which nothing more is told
# What a figure can be: from 0 to 1; from -1 to 1; 0 or more; at most 1; any number.
Domain = Literal["share", "correlation", "size", "explained", "number"]


def special_functions() -> Any:
    """`scipy.special`. Raises MissingExtraError."""
    with importing("scipy", "an evaluation", "evaluate"):
        from scipy import special
    return special


@final
@dataclass(frozen=True)
class Measured:
    """A figure of some rows.

    Attributes:
        value: the figure.
        influence: what each row adds to it, shape (n,): the weight of the row times the derivative
            of the figure by that weight. It sums to zero, and is NaN where a row's share cannot be
            told, as where a class has one row only.
        units: the number of rows that it rests on, where these are not all: of the area under a ROC
            curve the rows of the rarer kind.
        fewest: of an average, the units of the part that rests on the fewest.
        bias: how much too high chance makes the value in the mean.
    """

    value: float
    influence: Array
    units: float = inf
    fewest: float = inf
    bias: float = 0.0


def units_of(n: int, clusters: Array | None) -> int:
    """How many independent observations n rows are: the number of clusters, where there are some.

    `clusters` are numbers from 0 on, shape (n,).
    """
    return n if clusters is None else int(np.count_nonzero(np.bincount(clusters)))


def standard_error(influence: Array, clusters: Array | None = None) -> float | None:
    """The standard error of a figure from the influence of its rows, shape (n,).

    `clusters` are numbers from 0 on, shape (n,). It is None for fewer than two clusters
    or rows, and where the influence of a row is not known.
    """
    sums = summed(influence, clusters)
    units = len(sums)
    if units < 2 or not np.isfinite(sums).all():
        return None
    return sqrt(units / (units - 1) * float(sums @ sums))


def summed(influence: Array, clusters: Array | None) -> Array:
    """The influence of each independent observation: of each row, or of each cluster."""
    if clusters is None:
        return influence
    sizes = np.bincount(clusters)
    found: Array = np.bincount(clusters, influence)[sizes > 0]
    return found


def skew_ends(
    value: float, sums: Array, units: float, level: float = LEVEL_95, worst: float = 0.0
) -> Interval:
    """An interval of a figure of which some observations may hold much more than others.

    Three things make it wider than a t interval, each next to nothing where errors are alike:

    - Skewness moves the farther end away (see `unskewed`). The nearer one stays, since what figures
      such as a slope do beyond their influences may outweigh it.
    - The variance rests on few observations where these hold most of it (see `freedom_of`).
    - Observations that were not drawn may be as large as the largest, and as much larger as its
      tail is heavy: at most -ln((1 - level) / 2) of n may be missing (`unseen`).

    Args:
        value: the figure.
        sums: the influence of each observation, (n,), as `summed` gives them.
        units: the number of observations that it rests on.
        level: of the interval.
        worst: the largest influence of an observation that could have come, where that is known.

    With fewer than two units the figure may be anything.
    """
    n = len(sums)
    if units < 2:
        return -inf, inf
    squares = float(sums @ sums)
    low = high = 0.0
    if squares:
        error = sqrt(n / (n - 1) * squares)
        t = float(special_functions().stdtrit(min(units - 1, freedom_of(sums)), (1 + level) / 2))
        skewness = float(np.sum((sums / sqrt(squares)) ** 3))
        low = max(unskewed(t, skewness), t) * error
        high = max(-unskewed(-t, skewness), t) * error
    low = hypot(low, unseen(-sums, level))
    high = hypot(high, max(unseen(sums, level), worst * missing(level)))
    return value - low, value + high


def freedom_of(sums: Array) -> float:
    """The degrees of freedom of the variance that influences, (n,), tell; infinite where all are 0.

    They are 2 / (sum u^4 / (sum u^2)^2 - 1 / n), which is n for a normal law and about as many as
    hold the variance where these are few (Box, Non-normality and tests on variances, 1953).
    """
    squares = np.square(sums)
    total = float(squares.sum())
    n = len(sums)
    return 2 / max(float(squares @ squares) / total**2 - 1 / n, 1 / n**2) if total else inf


def missing(level: float) -> float:
    """How many more observations there may be of a kind that was not drawn (the rule of three)."""
    return -log((1 - level) / 2)


def unseen(sums: Array, level: float) -> float:
    """How much larger a figure may be by observations that were not drawn.

    The largest 3 sqrt(n), or a fifth, tell the tail, a generalized Pareto law: its shape is that of
    probability-weighted moments (Hosking and Wallis 1987).
    """
    n = len(sums)
    count = min(n // 5, int(3 * sqrt(n)))
    largest = float(sums.max())
    if count < 1 or largest <= 0:
        return max(largest, 0.0) * missing(level)
    tail = np.sort(sums)[-count - 1 :]
    above = tail[1:] - tail[0]
    places = (np.arange(1, count + 1) - 0.35) / count
    first = float(above.mean())
    second = float(((1 - places) * above).mean())
    shape = 2 - first / (first - 2 * second) if first > 2 * second else 0.0
    return largest * missing(level) / (1 - min(max(shape, 0.0), HEAVIEST))


def student(value: float, error: float, units: float, level: float = LEVEL_95) -> Interval:
    """A t interval: units - 1 degrees of freedom, the same probability left out on each side.

    With fewer than two units the figure may be anything.
    """
    if units < 2:
        return -inf, inf
    reach = error * float(special_functions().stdtrit(units - 1, (1 + level) / 2))
    return value - reach, value + reach


def student_of_share(value: float, error: float, units: float, level: float = LEVEL_95) -> Interval:
    """A t interval of the logit of a figure between 0 and 1; it stays between them.

    Where every unit agrees, at 0 or 1, it is Wilson's.
    """
    if not 0 < value < 1 or not error:
        return wilson(value * units, units, level)
    middle = log(value) - log(1 - value)
    low, high = student(middle, error / (value * (1 - value)), units, level)
    return 1 / (1 + exp(min(-low, LARGEST_LOG))), 1 / (1 + exp(min(-high, LARGEST_LOG)))


def student_of_size(value: float, error: float, units: float, level: float = LEVEL_95) -> Interval:
    """A t interval of the logarithm of a figure above 0; of 0 itself it is 0 to infinity."""
    if value <= 0:
        return 0.0, inf
    low, high = student(log(value), error / value, units, level)
    return exp(low), exp(high) if high < LARGEST_LOG else inf


def student_of_correlation(
    value: float, error: float, units: float, level: float = LEVEL_95
) -> Interval:
    """A t interval of Fisher's z of a figure from -1 to 1; it stays between them."""
    low, high = student_of_share((1 + value) / 2, error / 2, units, level)
    return 2 * low - 1, 2 * high - 1


def student_in(
    domain: Domain, value: float, error: float, units: float, level: float = LEVEL_95
) -> Interval:
    """A t interval that stays within what a figure can be."""
    if domain == "share":
        return student_of_share(value, error, units, level)
    if domain == "correlation":
        return student_of_correlation(value, error, units, level)
    if domain == "size":
        return student_of_size(value, error, units, level)
    if domain == "explained":
        low, high = student_of_size(1 - value, error, units, level)
        return 1 - high, 1 - low
    return student(value, error, units, level)


def wilson(hits: float, n: float, level: float = LEVEL_95) -> Interval:
    """The interval of a share of n rows by Wilson (1927): all shares that a z test does not reject.

    Of weighted or clustered rows, n is the number of rows that would say as much
    (`effective_rows`), and `hits` the share times n.
    """
    if n <= 0:
        return 0.0, 1.0
    z = float(special_functions().ndtri((1 + level) / 2))
    share = hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * sqrt(max(share * (1 - share), 0) / n + z * z / (4 * n * n))
    low = max(middle - reach, 0.0) if share > 0 else 0.0
    return low, min(middle + reach, 1.0) if share < 1 else 1.0


def clopper_pearson(hits: int, n: int, level: float = LEVEL_95) -> Interval:
    """The exact interval of a share of n independent rows (Clopper and Pearson 1934).

    Each end alone is a bound that errs with a probability of at most (1 - level) / 2.
    """
    special = special_functions()
    rest = (1 - level) / 2
    low = 0.0
    high = 1.0
    if hits > 0:
        low = float(special.betaincinv(hits, n - hits + 1, rest))
    if hits < n:
        high = float(special.betaincinv(hits + 1, n - hits, 1 - rest))
    return low, high


def effective_rows(
    hit: Array, weights: Array | None, clusters: Array | None, level: float = LEVEL_95
) -> float:
    """The number of rows of weight 1 that tell as much about a share as these rows do.

    That is (sum w)^2 / (sum w^2) for weights (Kish 1965). For clusters it is what the variance of
    the share says, if that is less, times the square of the normal quantile over that of t, since
    few clusters tell the variance badly (Korn and Graubard 1998). Where all rows agree, it is the
    number of clusters.

    Args:
        hit: whether each row is one of those that are counted, shape (n,).
        weights: of the rows, shape (n,), or None.
        clusters: numbers from 0 on, shape (n,), or None.
        level: of the interval that it is for.
    """
    weight = np.ones(len(hit)) if weights is None else weights
    total = float(weight.sum())
    squares = float(weight @ weight)
    if not squares:
        return 0.0
    alike = total * total / squares
    if clusters is None:
        return alike
    share = float(weight @ hit) / total
    sizes = np.bincount(clusters, weight)
    sizes = sizes[sizes > 0]
    # Clusters of one size that say as much, and the jackknife by clusters: a large one draws the
    # share towards itself (see `clusters.Clusters`).
    units = total * total / float(sizes @ sizes)
    if len(sizes) < 2:
        return min(alike, units)
    parts = np.bincount(clusters, weight * (hit - share))[np.bincount(clusters, weight) > 0]
    moved = parts / (total - sizes)
    error = sqrt((len(sizes) - 1) / len(sizes) * float(moved @ moved))
    if not error:
        return min(alike, units)
    special = special_functions()
    end = (1 + level) / 2
    rough = float(special.ndtri(end) / special.stdtrit(units - 1, end))
    return min(alike, share * (1 - share) / error**2 * rough**2)


def corrected_error(values: Array, tested: int, trained: int) -> float | None:
    """The standard error of the mean over folds (J,) that share rows of training.

    It is sqrt((1/J + tested/trained) s^2), where s is the standard deviation of the folds (Nadeau
    and Bengio, Inference for the generalization error, Machine Learning 52, 2003). None for fewer
    than two folds.
    """
    folds = len(values)
    if folds < 2:
        return None
    spread = float(np.var(values, ddof=1))
    return sqrt((1 / folds + tested / trained) * spread)
