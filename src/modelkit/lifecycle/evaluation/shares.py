"""Intervals of shares of rows, such as the recall of a class, and of their average over classes; pure.

F1 is one too: with J the share of right rows among those that have a class or are predicted to, it
is 2 J / (1 + J).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, sqrt
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.stats.intervals import Interval, effective_rows, special_functions, wilson


class ClassShare(NamedTuple):
    """A share of the rows of a class, with Wilson's interval.

    `error` is its standard error with a row more on either side: it is above 0 where all rows agree.
    """

    value: float
    low: float
    high: float
    error: float


def class_share(
    name: str, held: Array, told: Array, answered: Answered, level: float
) -> ClassShare:
    """The "precision", "recall" or "f1" of a class of which there are rows.

    Args:
        name: of the share.
        held: 1 for rows that have the class, (n,).
        told: 1 for rows that are predicted to, (n,).
        answered: the rows.
        level: of the interval.
    """
    among = {"precision": told, "recall": held, "f1": np.maximum(held, told)}[name] > 0
    rows = answered.at(among)
    counted = (held * told)[among]
    share = float(np.average(counted, weights=rows.weight))
    n = effective_rows(counted, rows.weights, rows.clusters, level)
    hits = share * n
    error = sqrt((hits + 1) * (n - hits + 1) / ((n + 1) * (n + 2) * n))
    low, high = wilson(hits, n, level)
    if name == "f1":
        slope = 2 / (1 + share) ** 2
        share, low, high = (2 * end / (1 + end) for end in (share, low, high))
        error *= slope
    return ClassShare(share, low, high, error)


def average_ends(parts: Sequence[ClassShare], together: float, level: float) -> Interval:
    """The interval of the average of shares of several classes.

    The distances of the ends of the parts are added as standard errors are (Zou and Donner 2008).
    Of classes of few rows these are too short: in one of a single row both shares, 0 and 1, are at
    an end. So none is shorter than that of an error that grants each class a row more of each kind,
    whose square is at least the variance in the mean, however many rows there are.

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
