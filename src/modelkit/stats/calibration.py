"""Whether probabilities come true: bins, the calibration error, slope and intercept; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.stats.influence import Measured, Undefined, ratio, refuse_unknown, total_of
from modelkit.stats.intervals import share_interval, special_functions
from modelkit.stats.ranks import midranks

BINS = 10
STEPS_MOST = 50  # of Newton's method
CONVERGED = 1e-10
SINGULAR = 1e14  # the condition from which a curvature has no direction


@final
@dataclass(frozen=True)
class ReliabilityBin:
    """Rows with about the same probability, and how often it came true.

    Attributes:
        rows: their number.
        predicted: their mean probability.
        observed: the share of them for which it came true.
        low: the lower end of Wilson's interval of that share.
        high: its upper end.
    """

    rows: int
    predicted: float
    observed: float
    low: float
    high: float


def bin_places(predicted: Array, weight: Array, bins: int = BINS) -> Array:
    """The bin of each number, (n,): bins of about equal weight; equal numbers stay together."""
    levels, level = np.unique(predicted, return_inverse=True)
    mass = np.bincount(level, weight, len(levels))
    total = float(mass.sum()) or 1.0
    place = np.minimum((midranks(mass) / total * bins).astype(np.int64), bins - 1)
    return place[level]


def reliability_bins(
    predicted: Array, observed: Array, weight: Array, clusters: Array | None, level: float
) -> tuple[ReliabilityBin, ...]:
    """Ten bins of about equal weight, in order.

    Args:
        predicted: probabilities, (n,).
        observed: 1 where it came true, else 0, (n,).
        weight: of each row, (n,).
        clusters: numbers from 0 on, (n,), or None.
        level: of the intervals.
    """
    places = bin_places(predicted, weight)
    found = []
    for place in np.unique(places[weight > 0]):
        rows = (places == place) & (weight > 0)
        own = weight[rows]
        together = None if clusters is None else clusters[rows]
        share, low, high, _ = share_interval(observed[rows], own, together, level)
        mean = float(np.average(predicted[rows], weights=own))
        found.append(ReliabilityBin(len(own), mean, share, low, high))
    return tuple(found)


def calibration_error_of(
    predicted: Array, observed: Array, weight: Array, clusters: Array | None
) -> Measured:
    """The expected calibration error over ten bins, less what chance alone would make of it.

    The error is sum_b |g_b|, with g_b = sum_b w (p - y) / W. Of perfectly calibrated probabilities
    chance makes it sqrt(2/pi) sum_b s_b, with s_b the standard error of g_b, and of bins far off
    nothing. So s_b 2/sqrt(pi) exp(-(g_b / s_b)^2 / 2) is taken off, whose mean is the former at 0,
    and never less than what chance adds. The error may be below 0. The bias is what is taken off, since
    it may be too much. Raises Undefined.

    Args:
        predicted: probabilities, (n,).
        observed: 1 where it came true, else 0, (n,).
        weight: of the rows, (n,).
        clusters: numbers from 0 on, (n,), or None.
    """
    total = total_of(weight)
    refuse_unknown(predicted, "probabilities")
    places = bin_places(predicted, weight)
    missed = weight * (predicted - observed) / total
    gaps = np.bincount(places, missed, BINS)
    error = _errors_of_bins(predicted, observed, weight / total, places, clusters)
    far = ratio(gaps, error)
    chance = float((error * np.exp(-np.square(far) / 2)).sum()) * 2 / np.sqrt(np.pi)
    raw = float(np.abs(gaps).sum())
    influence = np.sign(gaps)[places] * missed - weight * raw / total
    return Measured(raw - chance, influence, bias=-chance)


def _errors_of_bins(
    predicted: Array, observed: Array, share: Array, places: Array, clusters: Array | None
) -> Array:
    """The standard error of the gap of each bin, (BINS,), with the share of all weight of each row.

    Rows that all came out the same do not show how much they vary: their error is taken as
    if their probabilities were right.
    """
    missed = share * (predicted - observed)
    mean = ratio(np.bincount(places, missed, BINS), np.bincount(places, share, BINS))
    spread = _squares_by_bin(missed - share * mean[places], places, clusters)
    counted = share > 0
    rows = np.bincount(places[counted], minlength=BINS)
    hits = np.bincount(places[counted], observed[counted], BINS)
    usual = np.bincount(places, np.square(share) * predicted * (1 - predicted), BINS)
    spread *= rows / np.maximum(rows - 1, 1)
    return np.sqrt(np.where((hits > 0) & (hits < rows), spread, usual))


def _squares_by_bin(missed: Array, places: Array, clusters: Array | None) -> Array:
    """The sum of squares of what rows, or clusters, add to each bin, (BINS,)."""
    if clusters is None:
        return np.bincount(places, np.square(missed), BINS)
    both, each = np.unique(clusters * BINS + places, return_inverse=True)
    return np.bincount(both % BINS, np.square(np.bincount(each, missed)), BINS)


def calibration_line_of(
    predicted: Array, observed: Array, weight: Array
) -> tuple[Measured, Measured]:
    """Intercept and slope of a logistic regression of the observed on the logit of the predicted.

    0 and 1 are perfect. A slope below 1 means probabilities that are too extreme, and an intercept
    above 0 ones that are too low (Cox 1958). The influences are the sandwich estimator's; both rest
    on the rows of the rarer outcome. Raises Undefined.

    Args:
        predicted: probabilities above 0 and below 1, (n,).
        observed: 1 where it came true, else 0, (n,).
        weight: of the rows, (n,).
    """
    refuse_unknown(predicted, "probabilities")
    counted = weight > 0
    if len(np.unique(observed[counted])) < 2:
        raise Undefined("every row came out the same")
    logit = np.log(predicted) - np.log1p(-predicted)
    if np.ptp(logit[counted]) < CONVERGED:
        raise Undefined("all probabilities are equal, so a slope cannot be fitted")
    columns = np.column_stack([np.ones(len(logit)), logit])
    line = _fitted_line(columns, observed, weight)
    chance = special_functions().expit(columns @ line)
    scores = columns * (weight * (observed - chance))[:, None]
    influence = scores @ np.linalg.inv(_curvature(columns, weight, chance))
    intercept, slope = line.tolist()
    rarer = float(np.bincount(observed[counted].astype(np.int64)).min())
    return Measured(intercept, influence[:, 0], rarer), Measured(slope, influence[:, 1], rarer)


def _fitted_line(columns: Array, observed: Array, weight: Array) -> Array:
    """The coefficients of a logistic regression, by Newton's method with steps that never overshoot.

    Raises Undefined where the likelihood lacks a maximum.
    """
    expit = special_functions().expit
    rate = float(weight @ observed) / float(weight.sum())
    line = np.array([np.log(rate) - np.log1p(-rate), 0.0])
    reached = _likelihood(columns @ line, observed, weight)
    for _ in range(STEPS_MOST):
        chance = expit(columns @ line)
        curvature = _curvature(columns, weight, chance)
        if np.linalg.cond(curvature) > SINGULAR:
            break
        step = np.linalg.solve(curvature, columns.T @ (weight * (observed - chance)))
        if np.abs(step).max() < CONVERGED * (1 + np.abs(line).max()):
            return line
        least = reached - abs(reached) * CONVERGED
        while (likelihood := _likelihood(columns @ (line + step), observed, weight)) < least:
            step /= 2
        line += step
        reached = likelihood
    raise Undefined("the probabilities separate the rows perfectly, so the slope is infinite")


def _likelihood(eta: Array, observed: Array, weight: Array) -> float:
    return float(weight @ (observed * eta - np.logaddexp(0, eta)))


def _curvature(columns: Array, weight: Array, chance: Array) -> Array:
    return np.asarray(columns.T @ (columns * (weight * chance * (1 - chance))[:, None]))
