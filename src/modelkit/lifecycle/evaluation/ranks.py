"""Figures of how a score tells two kinds of rows apart, with the influence of each row; pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.intervals import Measured
from modelkit.lifecycle.evaluation.sums import Undefined


class _Levels(NamedTuple):
    """The different scores, the lowest first: their number, and that of each row, (n,)."""

    number: int
    of_row: Array

    def sums(self, values: Array) -> Array:
        """The sum of values (n,) over the rows of each score, (number,)."""
        found: Array = np.bincount(self.of_row, values, self.number)
        return found


def _levels_of(scores: Array) -> _Levels:
    """Raises Undefined for scores (n,) of which one is NaN."""
    refuse_nan(scores)
    levels, level = np.unique(scores, return_inverse=True)
    return _Levels(len(levels), level)


def area_of(scores: Array, positive: Array, weight: Array) -> Measured:
    """The area under the ROC curve; its standard error is that of DeLong.

    It is the weighted share of pairs of a positive and a negative row in which the positive one has
    the higher score; a tie is half a pair. The influences are the structural components of DeLong,
    DeLong and Clarke-Pearson (Biometrics 44, 1988), by midranks (Sun and Xu 2014). Raises
    Undefined where one of the two kinds of row is missing, or a score is NaN.

    Args:
        scores: higher for rows that are held to be positive, (n,).
        positive: whether each row is, (n,).
        weight: of each row, (n,).
    """
    level = _levels_of(scores)
    held = positive.astype(bool)
    above = weight * held
    below = weight * ~held
    positives = float(above.sum())
    negatives = float(below.sum())
    if not positives or not negatives:
        raise Undefined(f"no row is {'positive' if not positives else 'negative'}")
    higher = level.sums(above)
    lower = level.sums(below)
    beaten = np.cumsum(lower) - lower / 2
    unbeaten = positives - np.cumsum(higher) + higher / 2
    placed = np.where(held, beaten[level.of_row] / negatives, unbeaten[level.of_row] / positives)
    value = float(above @ placed) / positives
    total = np.where(held, positives, negatives)
    influence = weight * (placed - value) / total * _within_kinds(held, weight)
    fewest = min(np.count_nonzero(above), np.count_nonzero(below))
    return Measured(value, influence, float(fewest))


def _within_kinds(held: Array, weight: Array) -> Array:
    """What makes the variance over all n rows DeLong's, which has n_kind - 1 for each kind.

    It is NaN for a kind of which there is one row, whose variance is not known.
    """
    counted = weight > 0
    n = np.count_nonzero(counted)
    ones = np.count_nonzero(held & counted)
    size = np.where(held, ones, n - ones)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.sqrt(size / (size - 1) * (n - 1) / n)
    found: Array = np.where(size > 1, factor, np.nan)
    return found


def average_precision_of(scores: Array, positive: Array, weight: Array) -> Measured:
    """The mean precision over the positive rows, as scikit-learn's average_precision_score.

    It is a sum of rectangles and no trapezoid, which would be too high. Raises Undefined.

    Args:
        scores: higher for rows that are held to be positive, (n,).
        positive: whether each row is, (n,).
        weight: of each row, (n,).
    """
    level = _levels_of(scores)
    held = positive.astype(np.float64)
    above = weight * held
    positives = float(above.sum())
    if not positives:
        raise Undefined("no row is positive")
    hits = level.sums(above)
    taken = _at_or_above(level.sums(weight))
    precision = _ratio(_at_or_above(hits), taken)
    value = float(hits @ precision) / positives
    # A row also changes the precision at every threshold that lets it in.
    each = _ratio(hits, taken)
    through = np.cumsum(each)[level.of_row] * held
    through -= np.cumsum(each * precision)[level.of_row]
    own = precision[level.of_row]
    slope = held * (own - value) + through
    # Each positive row is among those that its own precision counts.
    bias = float((above * weight) @ _ratio(1 - own, taken[level.of_row])) / positives
    units = float(np.count_nonzero(above))
    return Measured(value, weight * slope / positives, units, bias=bias)


def _at_or_above(by_level: Array) -> Array:
    """The sums over each level and those above it."""
    found: Array = np.cumsum(by_level[::-1])[::-1]
    return found


def _ratio(numerator: Array, denominator: Array) -> Array:
    """0 where the denominator is 0."""
    found: Array = np.divide(
        numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0
    )
    return found


def refuse_nan(scores: Array) -> None:
    """Raise Undefined where scores, (n,), are NaN; infinite ones have a rank."""
    unknown = int(np.isnan(scores).sum())
    if unknown:
        raise Undefined(f"{unknown:,} of {len(scores):,} scores are NaN")
