"""Which of units, strata, strides and rows fits a reference: one line, from counts alone.

Rows may be taken as exchangeable only where days and hours differ no more than they would if rows
had been dealt to them at random. This is looked at by analysis of variance, of the ranks of each
feature, of their squares, and of its 16 groups of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import ABSENT, COARSE_CELLS, Feature
from modelkit.drift.counts import count_by
from modelkit.drift.order import rows_apart
from modelkit.drift.sides import Options, Sides
from modelkit.drift.units import PERIODS, cycle_names, periods, plural
from modelkit.events import Advised, emit, wanted

MOST_LOOKED_AT = 200_000  # rows, evenly spread
MOST_IN_ORDER = 50_000  # rows, of which the dependence between neighbours is looked at
FEWEST_DAYS = 8
FEWEST_WEEKS = 3  # for weekdays
UNLIKELY = 0.001  # the level of all findings about one kind of units
LIKE_BEFORE = 0.3  # a correlation of neighbouring units from which a line speaks of it
FEATURES_NAMED = 3  # of features in a line

Advice = tuple[str, bool]  # one line, and whether what was asked for is what it says


def advise(features: Sequence[Feature], cells: Array, sides: Sides, asked: Options) -> str:
    """What fits a reference with these cells (n, d), and times and units; empty without either.

    It is an event for the log where something else was asked for.
    """
    if sides.units is not None and asked.unit not in PERIODS:
        line, followed = _of_units(features, cells, sides.units, str(asked.unit))
    elif sides.seconds is not None:
        line, followed = _of_times(features, cells, sides.seconds, asked)
    else:
        line, followed = _of_columns(features)
    if not followed and wanted(Advised):
        emit(Advised(line))
    return line


def _of_columns(features: Sequence[Feature]) -> Advice:
    """A column of times that is compared as a feature: if it tells when rows were, it only grows."""
    for each in features:
        if each.kind == "time":
            return (
                f"the column {each.name!r} holds times and is compared like any other: if it is the "
                f"time of each row, every later row differs by it; pass time={each.name!r}, or leave "
                "it out"
            ), False
    return "", True


def _of_units(features: Sequence[Feature], cells: Array, units: Array, unit: str) -> Advice:
    names = _names(features, _compared(features, cells, units)[0])
    if names:
        return f"{plural(unit)} differ more than chance allows ({names}): unit={unit!r} fits", True
    return (
        f"{plural(unit)} differ no more than chance allows: rows would do, and smaller changes are "
        "noticed without unit="
    ), True


def _of_times(features: Sequence[Feature], cells: Array, seconds: Array, asked: Options) -> Advice:
    numbers, days = np.unique(periods(seconds, "day"), return_inverse=True)
    if len(numbers) < FEWEST_DAYS:
        line = f"the reference covers {len(numbers)} days: too few to say whether days differ"
        return line, True
    excess, means = _compared(features, cells, days)
    names = _names(features, excess)
    if names:
        line, followed = _of_days(features, means, numbers % 7, asked)
        return f"days differ more than chance allows ({names}): {line}", followed
    hours = np.unique(cycle_names(seconds, "hour"), return_inverse=True)[1]
    names = _names(features, _compared(features, cells, hours)[0])
    if names:
        line = f"hours of the day differ more than chance allows ({names}), days do not: "
        if asked.unit is not None or asked.stratum is not None:
            return line + "whole days or a stratum, as asked for, fit", True
        return line + "use stratum='hour', or unit='day'", False
    return _of_rows(cells, seconds, asked)


def _of_days(features: Sequence[Feature], means: Array, weekdays: Array, asked: Options) -> Advice:
    followed = asked.unit in PERIODS
    line = f"unit={asked.unit!r} fits" if followed else "use unit='day'"
    left = _less_weekday(means, weekdays)
    best = _weekly(means, left, len(np.unique(weekdays)))
    if best is not None:
        means = left
        if asked.unit != "week":
            line += f", with stratum='weekday' ({features[best].name})"
            followed = followed and asked.stratum is not None
    again, most = _resemblance(means)
    if most > LIKE_BEFORE:
        line += (
            f"; a day resembles the day before ({features[again].name}, correlation "
            f"{most:.2f}): alarms will show seasons and trends that the reference does not cover"
        )
    return line, followed


def _of_rows(cells: Array, seconds: Array, asked: Options) -> Advice:
    line = "days and hours differ no more than chance allows"
    order = np.argsort(seconds, kind="stable")[:MOST_IN_ORDER]
    whole = [column for column in cells.T if (column != ABSENT).all()]
    apart = max([rows_apart(column[order]) for column in whole], default=1)
    if apart > 1:
        line += f"; rows up to {apart} apart depend on each other"
        if asked.ordered or asked.unit is not None:
            return line, True
        return line + ": use ordered=True, with the reference in the order of time", False
    line += ", nor do neighbouring rows: rows "
    line += (
        "fit" if asked.unit is None else "would do, and smaller changes are noticed without unit="
    )
    return line, True


# What chance allows.


def _compared(features: Sequence[Feature], cells: Array, units: Array) -> tuple[Array, Array]:
    """How units differ: beyond chance, and where.

    Returns, by feature, the largest of three measures in standard deviations, (d,), and the mean
    rank and the mean scale of each unit, (units, 2 d).
    """
    excess = np.zeros(len(features))
    means = []
    for j, feature in enumerate(features):
        counts = _grouped(feature, cells[:, j], units)
        sizes = counts.sum(axis=1)
        pool = counts.sum(axis=0) / max(sizes.sum(), 1)
        location = 2 * np.cumsum(pool) - pool - 1
        scores = np.array([location, 1.5 * location**2 - 0.5]).T
        mean = pool @ scores
        means.append(counts @ scores / np.maximum(sizes, 1)[:, None])
        counts = counts[sizes > 0][:, pool > 0]
        freedom = len(counts) - 1
        if freedom > 0 and counts.shape[1] > 1:
            variance = pool @ scores**2 - mean**2
            between = sizes @ (means[j] - mean) ** 2
            known = variance > 1e-12
            expected = np.outer(sizes[sizes > 0], pool[pool > 0])
            squares = ((counts - expected) ** 2 / expected).sum()
            of_scores = _normal(between[known] / variance[known], freedom)
            of_groups = _normal(squares, freedom * (counts.shape[1] - 1))
            excess[j] = max(of_groups, *of_scores)
    return excess, np.concatenate(means, axis=1)


def _grouped(feature: Feature, cells: Array, units: Array) -> Array:
    """Counts (units, 16) of a feature by unit and group of cells."""
    rows = np.flatnonzero(cells != ABSENT)
    rows = rows[:: max(1, len(rows) // MOST_LOOKED_AT)]
    groups = feature.groups.astype(np.uint8)[cells[rows], None]
    counts = count_by(groups, units[rows], int(units.max()) + 1)
    return counts[:, 0, :COARSE_CELLS].astype(np.float64)


def _normal(chi_square: Array, freedom: int) -> Array:
    """Chi-square variables as standard normal ones (Wilson and Hilferty 1931)."""
    width = 2 / (9 * freedom)
    z: Array = (np.cbrt(chi_square / freedom) - 1 + width) / width**0.5
    return z


def _names(features: Sequence[Feature], excess: Array) -> str:
    """The features by which units differ most; empty where chance allows it all."""
    limit = NormalDist().inv_cdf(1 - UNLIKELY / (3 * len(excess)))
    order = np.argsort(-excess, kind="stable")
    names = [features[j].name for j in order.tolist() if excess[j] > limit]
    more = ", ..." if len(names) > FEATURES_NAMED else ""
    return ", ".join(names[:FEATURES_NAMED]) + more


# Days in their order.


def _less_weekday(scores: Array, weekdays: Array) -> Array:
    """Scores less the mean of their weekday."""
    left = scores.copy()
    for day in np.unique(weekdays).tolist():
        own = weekdays == day
        left[own] -= scores[own].mean(axis=0)
    return left


def _weekly(scores: Array, left: Array, weekdays: int) -> int | None:
    """The feature in which weekdays explain most, if they explain more than chance, by F tests.

    `left` are the scores (days, 2 d) less the mean of their weekday, of which there are so many.
    """
    from scipy.stats import beta

    days = len(scores)
    if days < 7 * FEWEST_WEEKS or weekdays < 2:
        return None
    share = 1 - (left**2).sum(axis=0) / np.maximum(scores.var(axis=0) * days, 1e-300)
    p = beta.sf(share.max(), (weekdays - 1) / 2, (days - weekdays) / 2)
    return int(share.argmax()) // 2 if p * len(share) <= UNLIKELY else None


def _resemblance(scores: Array) -> tuple[int, float]:
    """The feature in which a unit resembles the one before most, and the correlation."""
    centred = scores - scores.mean(axis=0)
    power = np.maximum((centred**2).sum(axis=0), 1e-300)
    correlations = (centred[1:] * centred[:-1]).sum(axis=0) / power
    best = int(correlations.argmax())
    noise = 3 / len(scores) ** 0.5
    return best // 2, float(correlations[best]) if correlations[best] > noise else 0.0
