"""Figures that are sums over rows, with the influence of each row; pure.

Each gives the figure T and w_i dT/dw_i for every row (see `intervals`), and raises Undefined, with
the reason, where there is no such figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.lifecycle.evaluation.intervals import Measured

WEIGHTLESS = "there are no rows of a weight above 0"
UNTOLD = 1e-9  # degrees of freedom of a part that rests on one row


class Undefined(ValueError):  # no error: a figure that these rows do not have
    """A figure that some rows do not have; the message is the reason."""


def ratio_of(numerator: Array, denominator: Array, weight: Array, empty: str) -> Measured:
    """The sum of w a over that of w b, for a and b of each row, (n,): precision, recall and F1 are such.

    Raises Undefined, with `empty` as its reason, where the denominator is 0.
    """
    below = float(weight @ denominator)
    if below == 0:
        raise Undefined(empty)
    value = float(weight @ numerator) / below
    influence = weight * (numerator - value * denominator) / below
    return Measured(value, influence, float(np.count_nonzero(weight * denominator)))


def refuse_unknown(values: Array, what: str) -> None:
    """Raise Undefined where values, (n,), are NaN or infinite; `what` says in the plural what."""
    unknown = int(np.count_nonzero(~np.isfinite(values)))
    if unknown:
        raise Undefined(f"{unknown:,} of {len(values):,} {what} are NaN or infinite")


def total_of(weight: Array) -> float:
    """The sum of weights, (n,). Raises Undefined where all are 0."""
    total = float(weight.sum())
    if not total:
        raise Undefined(WEIGHTLESS)
    return total


def mean_of(values: Array, weight: Array) -> Measured:
    """The weighted mean of a figure of each row, (n,). Raises Undefined."""
    refuse_unknown(values, "errors")
    return ratio_of(values, np.ones(len(values)), weight, WEIGHTLESS)


def average_of(parts: Sequence[Measured]) -> Measured:
    """The plain average of figures of the same rows, as over classes."""
    value = sum(part.value for part in parts) / len(parts)
    influence = np.sum([part.influence for part in parts], axis=0) / len(parts)
    fewest = min(part.units for part in parts)
    bias = sum(part.bias for part in parts) / len(parts)
    return Measured(value, influence, _joint_units(parts), fewest, bias)


def _joint_units(parts: Sequence[Measured]) -> float:
    """How many rows an average rests on (Satterthwaite 1946): a part counts by its variance."""
    variances = [float(part.influence @ part.influence) for part in parts]
    total = sum(variances)
    if not total:
        return min(part.units for part in parts)
    spread = 0.0
    for part, variance in zip(parts, variances, strict=True):
        if variance:
            spread += variance**2 / max(part.units - 1, UNTOLD)
    return 1 + total**2 / spread if spread else inf


def root_of(part: Measured) -> Measured:
    """The square root of a figure; where it is 0 no influence is known."""
    value = float(np.sqrt(part.value))
    with np.errstate(invalid="ignore", divide="ignore"):
        influence = part.influence / (2 * value) if value else part.influence
    return Measured(value, influence, part.units)


def r2_of(truth: Array, predicted: Array, weight: Array) -> Measured:
    """1 - sum w (y - f)^2 / sum w (y - mean y)^2, as scikit-learn's r2_score. Raises Undefined."""
    total_of(weight)
    refuse_unknown(predicted, "predictions")
    squares = np.square(truth - predicted)
    spread = np.square(truth - np.average(truth, weights=weight))
    total = float(weight @ spread)
    if total == 0:
        raise Undefined("all true values are equal, so there is no variance to explain")
    missed = ratio_of(squares, spread, weight, "")
    return Measured(1 - missed.value, -missed.influence)


def matthews_of(truth: Array, predicted: Array, weight: Array) -> Measured:
    """The correlation of true and predicted classes, as scikit-learn's matthews_corrcoef.

    With s the sum of weights, c that of right rows, t_k and p_k those of true and predicted
    classes, it is (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)): Gorodkin 2004.
    It rests on the rows that do not have, or are not predicted to have, the commonest class. Raises
    Undefined.
    """
    size = int(max(truth.max(), predicted.max())) + 1
    right = (truth == predicted).astype(np.float64)
    total = float(weight.sum())
    hits = float(weight @ right)
    true = np.bincount(truth, weight, size)
    told = np.bincount(predicted, weight, size)
    above = hits * total - float(true @ told)
    spread_told = total**2 - float(told @ told)
    spread_true = total**2 - float(true @ true)
    if spread_told <= 0 or spread_true <= 0:
        what = "true" if spread_true <= 0 else "predicted"
        raise Undefined(f"all {what} classes are equal, so there is no correlation")
    scale = np.sqrt(spread_told * spread_true)
    value = float(above / scale)
    slope = (right * total + hits - told[truth] - true[predicted]) / scale
    slope -= value * (total - told[predicted]) / spread_told
    slope -= value * (total - true[truth]) / spread_true
    units = np.count_nonzero(weight) - max(
        np.bincount(classes[weight > 0]).max() for classes in (truth, predicted)
    )
    return Measured(value, weight * slope, float(units))
