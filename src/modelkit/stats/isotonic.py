"""Isotonic fits: the rising step function closest to labels."""

from __future__ import annotations

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import importing

MOST_STEPS = 32  # of a fit that are kept


def fit_isotonic(scores: Array, labels: Array) -> Array:
    """The rising step function closest to the labels in squares.

    Args:
        scores: (n,), n > 0.
        labels: (n,) of 0 and 1.

    Returns:
        Steps (4, k), k <= 32: the first score of each, ascending, its last score, its value, and
        the variance of this, as of a share of independent rows with one more of each label
        (Laplace): a step of equal labels is not known exactly. Where there are more than 32 steps,
        neighbours that differ least are joined, which keeps the mean of the labels.
    """
    with importing("scipy", "calibrated probabilities", "drift"):
        from scipy.optimize import isotonic_regression

    points, which = np.unique(scores, return_inverse=True)
    total, weight = np.bincount(which, labels), np.bincount(which)
    blocks = isotonic_regression(total / weight, weights=weight).blocks[:-1]
    level = np.add.reduceat(total, blocks) / np.add.reduceat(weight, blocks)
    rises = np.diff(level, prepend=-np.inf) > 0  # equal neighbours differ there by rounding
    starts, value, rows = _few_steps(blocks[rises], total, weight)
    ends = np.append(starts[1:], len(points)) - 1
    share = (value * rows + 1) / (rows + 2)
    return np.stack([points[starts], points[ends], value, share * (1 - share) / rows])


def calibrate(scores: Array, steps: Array) -> Array:
    """The fit at scores (n,): interpolated between steps, constant beyond them."""
    fitted: Array = np.interp(scores, steps[:2].T.ravel(), steps[2].repeat(2))
    return fitted


def _few_steps(starts: Array, total: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Join the neighbours that differ least until 32 are left: their starts, values and weights."""
    total = np.add.reduceat(total, starts)
    weight = np.add.reduceat(weight, starts)
    value = total / weight
    while len(starts) > MOST_STEPS:
        lost = np.square(np.diff(value)) / (1 / weight[1:] + 1 / weight[:-1])
        join = int(np.argmin(lost))
        weight[join] += weight[join + 1]
        total[join] += total[join + 1]
        weight = np.delete(weight, join + 1)
        total = np.delete(total, join + 1)
        starts = np.delete(starts, join + 1)
        value = total / weight
    return starts, value, weight
