"""How well a score ranks rows: area under the ROC curve, average precision and NDCG; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.influence import Measured, Undefined, mean_of, ratio


def midranks(counts: Array) -> Array:
    """How many rows are below each of K cells in order, and half of those in it, (..., K)."""
    return np.cumsum(counts, axis=-1) - counts / 2


def weighted_quantiles(values: Array, weight: Array, shares: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of weighted values, (n,): linear between the middles of their weights."""
    order = np.argsort(values, kind="stable")
    mass = weight[order]
    middle = midranks(mass) / mass.sum()
    return tuple(np.interp(shares, middle, values[order]).tolist())


def thinned(x: Array, y: Array, most: int) -> tuple[Array, Array]:
    """At most so many points of a curve, about equally far apart, the first and the last among them."""
    if len(x) <= most:
        return x, y
    steps = np.abs(np.diff(x)) + np.abs(np.diff(y))
    along = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0, along[-1], most)
    places = np.unique(np.searchsorted(along, wanted, side="left").clip(0, len(x) - 1))
    return x[places], y[places]


class _Levels(NamedTuple):
    """The different scores, the lowest first: their number, and which each row has, (n,)."""

    number: int
    of_row: Array

    def sums(self, values: Array) -> Array:
        """The sum of values (n,) over the rows of each score, (number,)."""
        return np.bincount(self.of_row, values, self.number)


def _levels_of(scores: Array) -> _Levels:
    """Raises Undefined for scores (n,) with a NaN."""
    refuse_nan(scores)
    levels, level = np.unique(scores, return_inverse=True)
    return _Levels(len(levels), level)


def area_of(scores: Array, positive: Array, weight: Array) -> Measured:
    """The area under the ROC curve; its standard error is DeLong's.

    It is the weighted share of pairs of a positive and a negative row in which the positive one has
    the higher score; a tie is half a pair. The influences are the structural components of DeLong,
    DeLong and Clarke-Pearson (Biometrics 44, 1988), by midranks (Sun and Xu 2014). Raises
    Undefined where one of the two kinds of row is missing, or a score is NaN.

    Args:
        scores: higher for rows that are more likely to be positive, (n,).
        positive: whether each row is, (n,).
        weight: of each row, (n,).
    """
    level = _levels_of(scores)
    ones = positive.astype(bool)
    above = weight * ones
    below = weight * ~ones
    positives = float(above.sum())
    negatives = float(below.sum())
    if not positives or not negatives:
        raise Undefined(f"no row is {'positive' if not positives else 'negative'}")
    higher = level.sums(above)
    beaten = midranks(level.sums(below))
    unbeaten = positives - midranks(higher)
    placed = np.where(ones, beaten[level.of_row] / negatives, unbeaten[level.of_row] / positives)
    value = float(above @ placed) / positives
    total = np.where(ones, positives, negatives)
    influence = weight * (placed - value) / total * _within_kinds(ones, weight)
    fewest = min(np.count_nonzero(above), np.count_nonzero(below))
    return Measured(value, influence, float(fewest))


def largest_excess(values: Array, ours: Array, weight: Array) -> float:
    """The largest difference, over thresholds, of two shares: of our rows, and of others, at most that.

    It is sup_t F(t) - G(t), the one-sided statistic of Smirnov, and at least 0. Raises Undefined for
    a value that is NaN.

    Args:
        values: (n,).
        ours: whether each row is one of ours, bool (n,); there are some of both, with weights.
        weight: of each row, (n,).
    """
    level = _levels_of(values)
    inside = level.sums(weight * ours)
    outside = level.sums(weight * ~ours)
    excess = np.cumsum(inside / inside.sum() - outside / outside.sum())
    return float(excess[:-1].max(initial=0.0))  # at the last it is 0


def expected_area(scores: Array, share: Array) -> float:
    """The expected area under the ROC curve of rows that are positive with a probability, (n,).

    `scores` (n,) only order the rows. NaN where one of the two kinds of row is missing.
    """
    levels, level = np.unique(scores, return_inverse=True)
    higher = np.bincount(level, share, len(levels))
    lower = np.bincount(level, 1 - share, len(levels))
    return float(ratio(higher @ midranks(lower), higher.sum() * lower.sum(), np.nan))


def _within_kinds(ones: Array, weight: Array) -> Array:
    """What makes the variance over all n rows DeLong's, which has n_kind - 1 for each kind.

    It is NaN for a kind with a single row, whose variance is not known.
    """
    counted = weight > 0
    n = np.count_nonzero(counted)
    hits = np.count_nonzero(ones & counted)
    size = np.where(ones, hits, n - hits)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.sqrt(size / (size - 1) * (n - 1) / n)
    return np.where(size > 1, factor, np.nan)


def average_precision_of(scores: Array, positive: Array, weight: Array) -> Measured:
    """The mean precision over the positive rows, as scikit-learn's average_precision_score.

    It is a sum of rectangles and no trapezoid, which would be too high. Raises Undefined.

    Args:
        scores: higher for rows that are more likely to be positive, (n,).
        positive: whether each row is, (n,).
        weight: of each row, (n,).
    """
    level = _levels_of(scores)
    ones = positive.astype(np.float64)
    above = weight * ones
    positives = float(above.sum())
    if not positives:
        raise Undefined("no row is positive")
    hits = level.sums(above)
    taken = _at_or_above(level.sums(weight))
    precision = ratio(_at_or_above(hits), taken)
    value = float(hits @ precision) / positives
    # A row also changes the precision at every threshold that lets it in.
    each = ratio(hits, taken)
    through = np.cumsum(each)[level.of_row] * ones
    through -= np.cumsum(each * precision)[level.of_row]
    at_row = precision[level.of_row]
    slope = ones * (at_row - value) + through
    # Each positive row is among those that its precision counts.
    bias = float((above * weight) @ ratio(1 - at_row, taken[level.of_row])) / positives
    units = float(np.count_nonzero(above))
    return Measured(value, weight * slope / positives, units, bias=bias)


def _at_or_above(by_level: Array) -> Array:
    """The sums over each level and those above it."""
    return np.cumsum(by_level[::-1])[::-1]


def refuse_nan(scores: Array) -> None:
    """Raise Undefined where scores, (n,), are NaN; infinite ones have a rank."""
    unknown = int(np.isnan(scores).sum())
    if unknown:
        raise Undefined(f"{unknown:,} of {len(scores):,} scores are NaN")


class Ranked(NamedTuple):
    """Rows in the order of their queries and, in a query, of falling scores.

    All but `queries` are (n,): `query`; `place`, 0 for the first of a query; `tie`, a number for
    each set of rows of a query with one score; `gain`, how relevant the row is.
    """

    queries: int
    query: Array
    place: Array
    tie: Array
    gain: Array


def ranked(scores: Array, gains: Array, queries: Array) -> Ranked:
    """Sort the rows of all queries, (n,) each. Raises Undefined for a score that is NaN."""
    refuse_nan(scores)
    order = np.lexsort((-scores, queries))
    query = queries[order]
    first = np.ones(len(query), bool)
    first[1:] = query[1:] != query[:-1]
    starts = np.flatnonzero(first)
    place = np.arange(len(query)) - starts[np.cumsum(first) - 1]
    new = first.copy()
    sorted_scores = scores[order]
    new[1:] |= sorted_scores[1:] != sorted_scores[:-1]
    return Ranked(
        queries=int(queries.max()) + 1 if len(queries) else 0,
        query=query,
        place=place,
        tie=np.cumsum(new) - 1,
        gain=gains[order],
    )


def ndcg_by_query(rows: Ranked, k: int) -> Array:
    """The normalised discounted cumulative gain of the first k rows of each query, (queries,).

    Gains are taken as they are, and averaged over tied rows, as scikit-learn's ndcg_score does.
    NaN for a query without a row with a gain.
    """
    discount = np.where(rows.place < k, 1 / np.log2(rows.place + 2), 0.0)
    size = np.bincount(rows.tie)
    share = np.bincount(rows.tie, rows.gain) / size
    won = np.bincount(rows.query, share[rows.tie] * discount, rows.queries)
    best = np.lexsort((-rows.gain, rows.query))
    most = np.bincount(rows.query, rows.gain[best] * discount, rows.queries)
    return ratio(won, most, np.nan)


def precision_by_query(rows: Ranked) -> Array:
    """The average precision of each query, (queries,); a row with a gain above 0 is relevant.

    NaN for a query without such a row. Tied rows are let in together, as in scikit-learn's
    average_precision_score.
    """
    hit = rows.gain > 0
    hits = np.bincount(rows.tie, hit)
    ends = np.cumsum(np.bincount(rows.tie)) - 1
    query = rows.query[ends]
    total = np.bincount(rows.query, hit, rows.queries)
    before = np.concatenate([[0.0], np.cumsum(total)])[query]
    precision = (np.cumsum(hits) - before) / (rows.place[ends] + 1)
    won = np.bincount(query, hits * precision, rows.queries)
    return ratio(won, total, np.nan)


def mean_of_queries(by_query: Array, queries: Array, weight: Array) -> Measured:
    """The mean over queries that have the figure; the influence of a query is on its first row.

    Raises Undefined where no query has it.
    """
    used, first = np.unique(queries, return_index=True)
    values = by_query[used]
    known = ~np.isnan(values)
    if not known.any():
        raise Undefined("no query has a row that is relevant")
    part = mean_of(values[known], weight[first][known])
    influence = np.zeros(len(queries))
    influence[first[known]] = part.influence
    return Measured(part.value, influence, part.units)
