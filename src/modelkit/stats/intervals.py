"""Intervals of figures that were measured on some rows; pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import cbrt, exp, hypot, inf, log, sqrt
from typing import Any, Literal, NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import importing
from modelkit.stats.influence import Clusters, standard_error

Interval = tuple[float, float]
LEVEL_95 = 0.95
LARGEST_LOG = 700.0  # of which exp is a float
HEAVIEST = 0.8  # the shape of a tail which says nothing more
SYMMETRIC = 1e-6
# What a figure can be: from 0 to 1; from -1 to 1; 0 or more; at most 1; any number.
Domain = Literal["share", "correlation", "size", "explained", "number"]
# The least and the largest figure.
ENDS: dict[Domain, Interval] = {
    "share": (0.0, 1.0),
    "correlation": (-1.0, 1.0),
    "size": (0.0, inf),
    "explained": (-inf, 1.0),
    "number": (-inf, inf),
}


def special_functions() -> Any:
    """`scipy.special`. Raises MissingExtraError."""
    with importing("scipy", "an interval or a test (of drift, an evaluation or a gate)", "drift"):
        from scipy import special
    return special


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


def student_in(
    domain: Domain, value: float, error: float, units: float, level: float = LEVEL_95
) -> Interval:
    """A t interval that stays within what a figure can be."""
    if domain == "share":
        return student_of_share(value, error, units, level)
    if domain == "correlation":
        # Of Fisher's z.
        low, high = student_of_share((1 + value) / 2, error / 2, units, level)
        return 2 * low - 1, 2 * high - 1
    if domain == "size":
        return student_of_size(value, error, units, level)
    if domain == "explained":
        low, high = student_of_size(1 - value, error, units, level)
        return 1 - high, 1 - low
    return student(value, error, units, level)


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
        sums: the influence of each observation, (n,): of each row, or of each cluster.
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


def unskewed(quantile: float, skewness: float) -> float:
    """The quantile of (mean - truth) / error, of one of a symmetric law.

    It solves t + k t^2 / 3 + k^2 t^3 / 27 + k / 6 = q, with q the quantile and k the skewness of the
    rows over sqrt(n), which is sum u^3 / (sum u^2)^1.5 of their influences u. Source: Hall, On the
    removal of skewness by transformation, JRSS B 54, 1992.
    """
    if abs(skewness) < SYMMETRIC:
        return quantile
    return 3 / skewness * (cbrt(1 + skewness * (quantile - skewness / 6)) - 1)


def excess_interval(value: float, first: float, second: float, level: float = LEVEL_95) -> Interval:
    """The interval of sup_t F(t) - G(t), where independent samples of m and n have the value.

    With v = 1/m + 1/n and a = 1 - level:

    - The lower end lies sqrt(v ln(2 / a) / 2) below. The error Z(t) of F - G is, in the limit,
      B1(F) / sqrt(m) + B2(G) / sqrt(n), of two Brownian bridges. One bridge times sqrt(v), at the time
      (F/m + G/n) / v, has the covariance of Z plus the covariance of a random multiple of F - G. So
      Z leaves a band no more often than it (Anderson, The integral of a symmetric unimodal
      function, 1955), and it leaves this one with a probability of at most a (Massart 1990). So the
      lower end errs with at most a in the limit; with a / 2 where F and G are equal.
    - The upper end is Wilson's, at the point where F - G is largest, which no sample has chosen:
      there the variance is at most v / 4 - d^2 / (m + n) for a difference of d.

    Args:
        value: of the samples, from 0 to 1.
        first: m; of weighted or clustered rows, the independent ones that say as much.
        second: n, likewise.
        level: of the interval.
    """
    spread = 1 / first + 1 / second
    low = value - sqrt(spread * log(2 / (1 - level)) / 2)
    square = float(special_functions().ndtri((1 + level) / 2)) ** 2
    pull = square / (first + second)
    reach = sqrt((1 + pull) * square * spread / 4 - pull * value**2)
    return max(low, 0.0), min((value + reach) / (1 + pull), 1.0)


def freedom_of(sums: Array) -> float:
    """The degrees of freedom of a variance from influences, (n,); infinite where all are 0.

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

    The largest 3 sqrt(n), or a fifth, show the tail, a generalized Pareto law: its shape comes from
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
    low, high = exact_bounds(hits, n, (1 - level) / 2)
    return float(low), float(high)


def exact_bounds(hits: Array | float, n: float, error: float) -> tuple[Array, Array]:
    """Two bounds on a share of n independent rows, of which each errs with a probability of at most `error`.

    Source: Clopper and Pearson (1934). They have the shape of the hits.
    """
    special = special_functions()
    # NaN where all shares are within the bound, and for errors below 1e-107, which scipy cannot do.
    with np.errstate(invalid="ignore"):
        low = special.betaincinv(hits, n - hits + 1, error)
        high = special.betainccinv(hits + 1, n - hits, error)
        return np.fmax(low, 0.0), np.fmin(high, 1.0)


def mean_bound(n: int, total: float, squares: float, error: float, *, binary: bool) -> float:
    """An upper bound on the mean of n independent numbers in [0, 1].

    It is Clopper and Pearson's where all of them are 0 or 1, and otherwise the empirical Bernstein
    bound.

    Args:
        n: their number.
        total: their sum.
        squares: the sum of their squares.
        error: the probability, at most, with which the bound is too low.
        binary: whether all are 0 or 1.
    """
    if n < 2 or total >= n:
        return 1.0
    if binary:
        return float(exact_bounds(total, n, error)[1])
    variance = max(squares - total * (total / n), 0.0) / (n - 1)
    return min(float(empirical_bernstein(total / n, variance, n, error)), 1.0)


def empirical_bernstein(
    mean: Array | float, variance: Array | float, n: int, error: float, width: Array | float = 1.0
) -> Array:
    """An upper bound on the mean of a law, from n independent draws.

    Source: Maurer and Pontil, Empirical Bernstein bounds (arXiv:0907.3740), theorem 4.

    Args:
        mean: of the draws.
        variance: of the draws, with n - 1 as the denominator.
        n: their number, 2 or more.
        error: the probability, at most, with which the bound is too low.
        width: of the range of the law.
    """
    odds = log(2 / error)
    return mean + np.sqrt(2 * variance * odds / n) + 7 * width * odds / (3 * (n - 1))


def effective_rows(
    hit: Array, weight: Array, clusters: Array | None, level: float = LEVEL_95
) -> float:
    """The number of rows of weight 1 that say as much about a share as these rows do.

    That is (sum w)^2 / (sum w^2) for weights (Kish 1965). For clusters it is what the variance of
    the share says, if that is less, times the square of the normal quantile over the quantile of t,
    since few clusters estimate the variance badly (Korn and Graubard 1998). Where all rows agree,
    it is the number of clusters.

    Args:
        hit: whether each row is one of those that are counted, shape (n,).
        weight: of each row, shape (n,).
        clusters: numbers from 0 on, shape (n,), or None.
        level: of the interval that it is for.
    """
    total = float(weight.sum())
    squares = float(weight @ weight)
    if not squares:
        return 0.0
    alike = total * total / squares
    if clusters is None:
        return alike
    share = float(weight @ hit) / total
    masses = Clusters(clusters, np.bincount(clusters, weight))
    units = masses.alike
    error = standard_error(weight * (hit - share), masses)  # of the sum, 0 where clusters agree
    if not error:
        return min(alike, units)
    special = special_functions()
    end = (1 + level) / 2
    rough = float(special.ndtri(end) / special.stdtrit(units - 1, end))
    return min(alike, share * (1 - share) / (error / total) ** 2 * rough**2)


class ShareInterval(NamedTuple):
    """A share of rows with Wilson's interval.

    `error` is its standard error with a row more on either side: it is above 0 where all rows agree.
    """

    value: float
    low: float
    high: float
    error: float


def share_interval(
    hit: Array, weight: Array, clusters: Array | None, level: float = LEVEL_95
) -> ShareInterval:
    """The share of rows that are counted, by the rows of weight 1 that say as much.

    See `effective_rows`, which has the same arguments.
    """
    share = float(np.average(hit, weights=weight))
    n = effective_rows(hit, weight, clusters, level)
    hits = share * n
    error = sqrt((hits + 1) * (n - hits + 1) / ((n + 1) * (n + 2) * n))
    return ShareInterval(share, *wilson(hits, n, level), error)


def average_ends(parts: Sequence[ShareInterval], together: float, level: float) -> Interval:
    """The interval of the average of several shares, such as of the recall over classes.

    The distances of the ends of the parts are added as standard errors are (Zou and Donner 2008).
    Of classes of few rows these are too short: in one of a single row both shares, 0 and 1, are at
    an end. So none is shorter than the interval of an error that grants each class a row more of
    each kind, whose square is at least the variance in the mean, however many rows there are.

    Args:
        parts: of the classes.
        together: the standard error of the average by what each row adds to it, which knows how
            classes vary together: a wrong row lowers two of them.
        level: of the interval.
    """
    size = len(parts)
    if size == 1:
        return parts[0].low, parts[0].high
    z = float(special_functions().ndtri((1 + level) / 2))
    value = sum(part.value for part in parts) / size
    below = [max(part.value - part.low, z * part.error) for part in parts]
    above = [max(part.high - part.value, z * part.error) for part in parts]
    least = z * together
    return (
        max(value - max(hypot(*below) / size, least), 0.0),
        min(value + max(hypot(*above) / size, least), 1.0),
    )


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
