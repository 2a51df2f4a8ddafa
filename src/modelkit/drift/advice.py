"""Which of units, strata, strides and rows fits a reference, in one line, from counts alone.

Rows may be taken as exchangeable only where days and hours differ no more than they would if rows
had been dealt to them at random: by a chi-square test of the 16 groups of cells of each feature.
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
UNLIKELY = 0.001  # the level of all findings about one kind of units
FEATURES_NAMED = 3  # of features in a line

Advice = tuple[str, bool]  # one line, and whether Profile.fit was asked for what it advises


def advise(features: Sequence[Feature], cells: Array, sides: Sides, options: Options) -> str:
    """What fits a reference with these cells (n, d), and times and units; empty without either.

    It is an event for the log where something else was asked for.
    """
    if sides.units is not None and options.unit not in PERIODS:
        line, followed = _of_units(features, cells, sides.units, str(options.unit))
    elif sides.seconds is not None:
        line, followed = _of_times(features, cells, sides.seconds, options)
    else:
        line, followed = _of_columns(features)
    if not followed and wanted(Advised):
        emit(Advised(line))
    return line


def _of_columns(features: Sequence[Feature]) -> Advice:
    """A column of times that is compared as a feature: if it tells when rows were, it only grows."""
    for each in features:
        if each.kind == "time" and each.weight:
            return (
                f"the column {each.name!r} holds times and is compared like any other: if it is the "
                f"time of each row, every later row differs by it; pass time={each.name!r}, or leave "
                "it out"
            ), False
    return "", True


def _of_units(features: Sequence[Feature], cells: Array, units: Array, unit: str) -> Advice:
    names = _differing(features, cells, units)
    if names:
        return f"{plural(unit)} differ more than chance allows ({names}): unit={unit!r} fits", True
    return (
        f"{plural(unit)} differ no more than chance allows: rows would do, and smaller changes are "
        "noticed without unit="
    ), True


def _of_times(
    features: Sequence[Feature], cells: Array, seconds: Array, options: Options
) -> Advice:
    numbers, days = np.unique(periods(seconds, "day"), return_inverse=True)
    if len(numbers) < FEWEST_DAYS:
        line = f"the reference covers {len(numbers)} days: too few to say whether days differ"
        return line, True
    names = _differing(features, cells, days)
    if names:
        followed = options.unit in PERIODS
        fits = f"unit={options.unit!r} fits" if followed else "use unit='day'"
        return f"days differ more than chance allows ({names}): {fits}", followed
    hours = np.unique(cycle_names(seconds, "hour"), return_inverse=True)[1]
    names = _differing(features, cells, hours)
    if names:
        line = f"hours of the day differ more than chance allows ({names}), days do not: "
        if options.unit is not None or options.stratum is not None:
            return line + "whole days or a stratum, as asked for, fit", True
        return line + "use stratum='hour', or unit='day'", False
    return _of_rows(cells, seconds, options)


def _of_rows(cells: Array, seconds: Array, options: Options) -> Advice:
    line = "days and hours differ no more than chance allows"
    order = np.argsort(seconds, kind="stable")[:MOST_IN_ORDER]
    whole = [column for column in cells.T if (column != ABSENT).all()]
    apart = max([rows_apart(column[order]) for column in whole], default=1)
    if apart > 1:
        line += f"; rows up to {apart} apart depend on each other"
        if options.ordered or options.unit is not None:
            return line, True
        return line + ": use ordered=True, with the reference in the order of time", False
    line += ", nor do neighbouring rows: rows "
    line += (
        "fit" if options.unit is None else "would do, and smaller changes are noticed without unit="
    )
    return line, True


# What chance allows.


def _differing(features: Sequence[Feature], cells: Array, units: Array) -> str:
    """The features by which units differ most, in words; empty where chance allows it all."""
    counts = [_grouped(feature, cells[:, j], units) for j, feature in enumerate(features)]
    excess = np.array([_excess(own) for own in counts])
    limit = NormalDist().inv_cdf(1 - UNLIKELY / len(excess))
    order = np.argsort(-excess, kind="stable")
    names = [features[j].name for j in order.tolist() if excess[j] > limit]
    more = ", ..." if len(names) > FEATURES_NAMED else ""
    return ", ".join(names[:FEATURES_NAMED]) + more


def _grouped(feature: Feature, cells: Array, units: Array) -> Array:
    """Counts (units, 16) of a feature by unit and group of cells."""
    rows = np.flatnonzero(cells != ABSENT)
    rows = rows[:: max(1, len(rows) // MOST_LOOKED_AT)]
    groups = feature.groups.astype(np.uint8)[cells[rows], None]
    counts = count_by(groups, units[rows], int(units.max()) + 1)
    return counts[:, 0, :COARSE_CELLS].astype(np.float64)


def _excess(counts: Array) -> float:
    """The chi-square of units by their counts (units, 16), as a standard normal variable.

    Source: Wilson and Hilferty 1931.
    """
    counts = counts[counts.any(axis=1)][:, counts.any(axis=0)]
    freedom = (len(counts) - 1) * (counts.shape[1] - 1)
    if freedom < 1:
        return 0.0
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    width = 2 / (9 * freedom)
    return float((np.cbrt(chi_square / freedom) - 1 + width) / width**0.5)
