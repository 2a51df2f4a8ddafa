"""What each row adds to a figure, and how far the figure is known from that; pure.

A figure T of weighted rows has an influence for each row, w_i dT/dw_i, which sum to zero. The sum
of their squares is the variance of T (the infinitesimal jackknife: Jaeckel 1972; Efron 1982). Rows
of one cluster are added up first, since they count as one observation (Liang and Zeger 1986). A
figure that rows do not have raises Undefined, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import final

import numpy as np

from modelkit._internal.arrays import Array

WEIGHTLESS = "every row has the weight 0"
LEAST_FREEDOM = 1e-9  # degrees of freedom of a part that rests on one row
# As many of one size as clusters have to count as: where none is much larger, and else.
LEAST_ALIKE = 5
LEAST_UNEQUAL = 10
MUCH_LARGER = 2  # times the mean size


class Undefined(ValueError):  # not an error: a figure that these rows do not have
    """A figure that some rows do not have; the message is the reason."""


@final
@dataclass(frozen=True)
class Measured:
    """A figure of some rows.

    Attributes:
        value: the figure.
        influence: what each row adds to it, shape (n,): the weight of the row times the derivative
            of the figure by that weight. It sums to zero, and is NaN where a row's share cannot be
            known, as where a class has one row only.
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


def standard_error(influence: Array, clusters: Clusters | None = None) -> float | None:
    """The standard error of a figure from the influence of its rows, (n,).

    Of clusters it is by the jackknife, which equals the error of as many rows where they are of one
    size. None for fewer than two rows or clusters, and where the influence of a row is not known.
    """
    added = added_by(influence, clusters)
    units = len(added)
    if units < 2 or not np.isfinite(added).all():
        return None
    scale = units / (units - 1) if clusters is None else (units - 1) / units
    return sqrt(scale * float(added @ added))


def ratio(numerator: Array, denominator: Array | float, otherwise: float = 0.0) -> Array:
    """The quotient, and `otherwise` where the denominator is 0 or below."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    quotient: Array = np.divide(
        numerator, denominator, out=np.full(shape, otherwise), where=np.greater(denominator, 0)
    )
    return quotient


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


def ratio_of(numerator: Array, denominator: Array, weight: Array, empty: str) -> Measured:
    """The sum of w a over the sum of w b, for a and b of each row, (n,), as precision, recall and F1 are.

    Raises Undefined, with `empty` as its reason, where the denominator is 0.
    """
    below = float(weight @ denominator)
    if below == 0:
        raise Undefined(empty)
    value = float(weight @ numerator) / below
    influence = weight * (numerator - value * denominator) / below
    return Measured(value, influence, float(np.count_nonzero(weight * denominator)))


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
            spread += variance**2 / max(part.units - 1, LEAST_FREEDOM)
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
        raise Undefined("all true values are equal, so their variance is 0")
    missed = ratio_of(squares, spread, weight, "")
    return Measured(1 - missed.value, -missed.influence)


def matthews_of(truth: Array, predicted: Array, weight: Array) -> Measured:
    """The correlation of true and predicted classes, as scikit-learn's matthews_corrcoef.

    With s the weight of all rows, c of the right ones, t_k and p_k of the true and the predicted
    classes, it is (c s - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)): Gorodkin 2004.
    It rests on the rows that do not have, or are not predicted to have, the commonest class. Raises
    Undefined.
    """
    size = int(max(truth.max(), predicted.max())) + 1
    right = (truth == predicted).astype(np.float64)
    total = float(weight.sum())
    hits = float(weight @ right)
    true = np.bincount(truth, weight, size)
    guessed = np.bincount(predicted, weight, size)
    above = hits * total - float(true @ guessed)
    spread_guessed = total**2 - float(guessed @ guessed)
    spread_true = total**2 - float(true @ true)
    if spread_guessed <= 0 or spread_true <= 0:
        what = "true" if spread_true <= 0 else "predicted"
        raise Undefined(f"all {what} classes are equal, so a correlation is not defined")
    scale = np.sqrt(spread_guessed * spread_true)
    value = float(above / scale)
    slope = (right * total + hits - guessed[truth] - true[predicted]) / scale
    slope -= value * (total - guessed[predicted]) / spread_guessed
    slope -= value * (total - true[truth]) / spread_true
    units = np.count_nonzero(weight) - max(
        np.bincount(classes[weight > 0]).max() for classes in (truth, predicted)
    )
    return Measured(value, weight * slope, float(units))


@final
@dataclass(frozen=True, eq=False)
class Clusters:
    """Which rows belong together.

    Attributes:
        codes: the number of the cluster of each row, (n,), from 0 on.
        sizes: of each cluster, (G,): its rows, or where rows are ranked its queries.
    """

    codes: Array
    sizes: Array

    @property
    def alike(self) -> float:
        """How many clusters of one size these are, (sum n)^2 / sum n^2.

        Where a few clusters have most of the rows, it is about the number of these.
        """
        return alike_of(self.sizes)

    def sums(self, influence: Array) -> Array:
        """What `moved` gives, scaled as rows are in `standard_error`, (G,); one cluster has its sum."""
        units = np.count_nonzero(self.sizes)
        if units < 2:
            return np.bincount(self.codes, influence)
        return self.moved(influence) * ((units - 1) / units)

    @property
    def least(self) -> int:
        """How many of one size they have to count as, so a t test keeps its level.

        Where three of a hundred clusters have 60 % of the rows, they count as 8, and 8 % of equal
        candidates would be better at 5 %.
        """
        there = self.sizes[self.sizes > 0]
        unequal = there.max() > MUCH_LARGER * there.mean()
        return LEAST_UNEQUAL if unequal else LEAST_ALIKE

    def moved(self, influence: Array) -> Array:
        """By how much each cluster moves a figure, (G,), from the influence of its rows, (n,).

        It is the sum of the influences in the cluster, over the share of the rows that are left
        without it, since a large cluster draws the figure towards itself.
        """
        there = self.sizes > 0
        sums = np.bincount(self.codes, influence, len(self.sizes))[there]
        with np.errstate(divide="ignore", invalid="ignore"):
            moved: Array = sums / (1 - self.sizes[there] / self.sizes.sum())
        return moved


def alike_of(sizes: Array) -> float:
    """How many parts of one size parts of these sizes (n,) are (Kish 1965); 0 where all are empty."""
    squares = float(sizes @ sizes)
    return float(sizes.sum()) ** 2 / squares if squares else 0.0


def refuse_few(units: float, clusters: Clusters | None) -> None:
    """Raise Undefined where a figure rests on too few clusters to show anything; see `rests_on`."""
    if clusters is not None and units < clusters.least:
        raise Undefined(
            f"most of the rows that it rests on, such as those of a class, are in few clusters, which "
            f"count as {units:.1f} of one size: it takes {clusters.least}"
        )


def added_by(influence: Array, clusters: Clusters | None) -> Array:
    """What each unit adds to a figure: each row, (n,), or each cluster, (G,)."""
    return influence if clusters is None else clusters.moved(influence)
