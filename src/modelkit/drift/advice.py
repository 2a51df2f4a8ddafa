"""Which of units, strata, strides and rows fits a reference: one line, from counts alone.

Rows may be taken as exchangeable only where days and hours differ no more than they would if rows
had been dealt to them at random. This is looked at by analysis of variance, of the ranks of each
feature, of their squares, and of its 16 groups of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import ABSENT, COARSE_CELLS, Feature
from modelkit.drift.counts import count_by
from modelkit.drift.dependence import rows_apart
from modelkit.drift.sides import Marks, Options
from modelkit.drift.units import DAY_SECONDS, HOUR_SECONDS, PERIODS, periods, plural
from modelkit.events import Advised, emit, wanted

MOST_LOOKED_AT = 200_000  # rows, evenly spread
MOST_IN_ORDER = 50_000  # rows, of which the dependence between neighbours is looked at
FEWEST_DAYS = 8
FEWEST_WEEKS = 3  # for weekdays
UNLIKELY = 0.001  # the level of all findings about one kind of units
SHUFFLES = 999
LIKE_BEFORE = 0.3  # a correlation of neighbouring units from which a line speaks of it
FEATURES_NAMED = 3  # of features in a line


@dataclass(frozen=True)
class Advice:
    """One line, and whether what was asked for is what it says."""

    text: str
    followed: bool


@dataclass(frozen=True)
class Counted:
    """The rows of a reference: d features, and cells, uint8 (n, d), 255 for what is not counted."""

    features: Sequence[Feature]
    cells: Array


def advise(features: Sequence[Feature], cells: Array, marks: Marks, asked: Options) -> str:
    """What fits a reference with these cells (n, d), and times and units; empty without either.

    It is an event for the log where something else was asked for.
    """
    advice = _advice(Counted(features, cells), marks, asked)
    if advice is None:
        return ""
    if not advice.followed and wanted(Advised):
        emit(Advised(advice.text))
    return advice.text


def _advice(counted: Counted, marks: Marks, asked: Options) -> Advice | None:
    if marks.units is not None and asked.unit not in PERIODS:
        return _of_units(counted, marks.units, str(asked.unit))
    if marks.seconds is None:
        return _of_times(counted)
    days = np.unique(periods(marks.seconds, "day"), return_inverse=True)[1]
    found = int(days.max(initial=-1)) + 1
    if found < FEWEST_DAYS:
        line = f"the reference covers {found} days: too few to say whether days differ"
        return Advice(line, followed=True)
    names = _differing(counted, days)
    if names:
        return _of_days(counted, marks.seconds, names, asked)
    return _of_rows(counted, marks.seconds, asked)


def _of_times(counted: Counted) -> Advice | None:
    """A column of times that is compared as a feature: if it tells when rows were, it only grows."""
    names = [each.name for each in counted.features if each.kind == "time"]
    if not names:
        return None
    line = (
        f"the column {names[0]!r} holds times and is compared like any other: if it is the time of "
        f"each row, every later row differs by it; pass time={names[0]!r}, or leave it out"
    )
    return Advice(line, followed=False)


def _of_units(counted: Counted, units: Array, unit: str) -> Advice:
    names = _differing(counted, units)
    if names:
        line = f"{plural(unit)} differ more than chance allows ({names}): unit={unit!r} fits"
        return Advice(line, followed=True)
    line = (
        f"{plural(unit)} differ no more than chance allows: rows would do, and smaller changes are "
        f"noticed without unit={_power(counted, units, plural(unit))}"
    )
    return Advice(line, followed=True)


def _of_days(counted: Counted, seconds: Array, names: str, asked: Options) -> Advice:
    scores = _unit_means(counted, periods(seconds, "day"))
    weekdays = np.unique(periods(seconds, "day")) % 7
    weekly = _weekly(scores, weekdays, asked.seed)
    if weekly:
        scores = _less_weekday(scores, weekdays)
    again, most = _resemblance(scores)
    line = f"days differ more than chance allows ({names}): "
    line += f"unit={asked.unit!r} fits" if asked.unit in PERIODS else "use unit='day'"
    followed = asked.unit in PERIODS
    if weekly and asked.unit != "week":
        line += f", with stratum='weekday' ({counted.features[weekly[0]].name})"
        followed = followed and asked.stratum is not None
    if most > LIKE_BEFORE:
        line += (
            f"; a day resembles the day before ({counted.features[again].name}, correlation "
            f"{most:.2f}): alarms will show seasons and trends that the reference does not cover"
        )
    return Advice(line, followed=followed)


def _of_rows(counted: Counted, seconds: Array, asked: Options) -> Advice:
    hours = np.floor(seconds / HOUR_SECONDS).astype(np.int64) % (DAY_SECONDS // HOUR_SECONDS)
    names = _differing(counted, hours)
    if names:
        line = f"hours of the day differ more than chance allows ({names}), days do not: "
        if asked.unit is not None or asked.stratum is not None:
            return Advice(line + "whole days or a stratum, as asked for, fit", followed=True)
        return Advice(line + "use stratum='hour', or unit='day'", followed=False)
    apart = _rows_apart(counted, seconds)
    if apart > 1:
        line = f"days and hours differ no more than chance allows; rows up to {apart} apart depend on each other"
        if asked.ordered or asked.unit is not None:
            return Advice(line, followed=True)
        return Advice(
            line + ": use ordered=True, with the reference in the order of time", followed=False
        )
    line = "days and hours differ no more than chance allows, nor do neighbouring rows: rows "
    line += (
        "fit" if asked.unit is None else "would do, and smaller changes are noticed without unit="
    )
    return Advice(line + _power(counted, periods(seconds, "day"), "days"), followed=True)


# Counts, and what chance allows.


def _grouped(counted: Counted, j: int, units: Array) -> Array:
    """Counts (units, 16) of feature number j by unit and group of cells."""
    table = np.array(counted.features[j].coarse, np.uint8)
    cells = counted.cells[:, j]
    rows = np.flatnonzero(cells != ABSENT)
    rows = rows[:: max(1, len(rows) // MOST_LOOKED_AT)]
    counts = count_by(table[cells[rows], None], units[rows], int(units.max()) + 1)
    return counts[:, 0, :COARSE_CELLS].astype(np.float64)


def _differing(counted: Counted, units: Array) -> str:
    """The names of the features by which units differ most; empty where chance allows it all."""
    z = np.array([_excess(_grouped(counted, j, units)) for j in range(len(counted.features))])
    limit = NormalDist().inv_cdf(1 - UNLIKELY / (3 * len(z)))
    order = np.argsort(-z, kind="stable")
    names = [counted.features[j].name for j in order.tolist() if z[j] > limit]
    more = ", ..." if len(names) > FEATURES_NAMED else ""
    return ", ".join(names[:FEATURES_NAMED]) + more


def _excess(counts: Array) -> float:
    """How far units differ beyond chance, in standard deviations: the most of three measures."""
    sizes = counts.sum(axis=1)
    counts = counts[sizes > 0]
    sizes = sizes[sizes > 0]
    pool = counts.sum(axis=0) / max(sizes.sum(), 1)
    if len(sizes) < 2 or (pool > 0).sum() < 2:
        return 0.0
    found = [_variance_excess(counts, sizes, pool, score) for score in _scores(pool)]
    expected = sizes[:, None] * pool[pool > 0]
    squares = (counts[:, pool > 0] - expected) ** 2 / expected
    freedom = (len(sizes) - 1) * (int((pool > 0).sum()) - 1)
    return max(*found, _normal(float(squares.sum()), freedom))


def _power(counted: Counted, units: Array, name: str) -> str:
    """Which differences between units these rows would have shown, in nine of ten cases, in words."""
    from scipy.stats import chi2

    found = len(np.unique(units))
    level = UNLIKELY / (3 * len(counted.features))
    ratio = chi2.isf(level, found - 1) / chi2.ppf(0.1, found - 1)
    least = ((ratio - 1) * found / len(units)) ** 0.5
    return (
        f" ({found} {name} of {len(units):,} rows would show that their means differ by {least:.2g} "
        "standard deviations; smaller differences may raise alarms, and raise none with unit=)"
    )


def _scores(pool: Array) -> tuple[Array, Array]:
    location = 2 * np.cumsum(pool) - pool - 1
    return location, 1.5 * location**2 - 0.5


def _variance_excess(counts: Array, sizes: Array, pool: Array, score: Array) -> float:
    mean = float(pool @ score)
    variance = float(pool @ score**2) - mean**2
    if variance < 1e-12:
        return 0.0
    between = sizes @ (counts @ score / sizes - mean) ** 2
    return _normal(float(between / variance), len(sizes) - 1)


def _normal(chi_square: float, freedom: int) -> float:
    """A chi-square variable as a standard normal one (Wilson and Hilferty 1931)."""
    width = 2 / (9 * freedom)
    root = float(np.cbrt(chi_square / freedom))
    return (root - 1 + width) / float(np.sqrt(width))


# Days in their order.


def _unit_means(counted: Counted, units: Array) -> Array:
    """The mean rank and the mean scale of each feature in each unit, in order, (units, 2 d)."""
    place = np.unique(units, return_inverse=True)[1]
    columns = []
    for j in range(len(counted.features)):
        counts = _grouped(counted, j, place)
        sizes = np.maximum(counts.sum(axis=1), 1)
        pool = counts.sum(axis=0) / max(counts.sum(), 1)
        columns += [counts @ score / sizes for score in _scores(pool)]
    return np.array(columns).T


def _weekly(scores: Array, weekdays: Array, seed: int) -> list[int]:
    """The feature in which weekdays explain most, if they explain more than chance; else nothing."""
    if len(scores) < 7 * FEWEST_WEEKS or len(np.unique(weekdays)) < 2:
        return []
    seen = _explained(scores, weekdays)
    rng = np.random.default_rng(seed)
    drawn = [_explained(scores, rng.permutation(weekdays)).max() for _ in range(SHUFFLES)]
    p = (1 + np.sum(np.array(drawn) >= seen.max())) / (SHUFFLES + 1)
    return [int(seen.argmax()) // 2] if p <= UNLIKELY else []


def _explained(scores: Array, weekdays: Array) -> Array:
    """The share of the variance of each score that weekdays explain."""
    total = ((scores - scores.mean(axis=0)) ** 2).sum(axis=0)
    left = (_less_weekday(scores, weekdays) ** 2).sum(axis=0)
    share: Array = 1 - left / np.maximum(total, 1e-300)
    return share


def _less_weekday(scores: Array, weekdays: Array) -> Array:
    """Scores less the mean of their weekday."""
    left = scores.copy()
    for day in np.unique(weekdays).tolist():
        own = weekdays == day
        left[own] -= scores[own].mean(axis=0)
    return left


def _resemblance(scores: Array) -> tuple[int, float]:
    """The feature in which a unit resembles the one before most, and the correlation."""
    centred = scores - scores.mean(axis=0)
    power = np.maximum((centred**2).sum(axis=0), 1e-300)
    correlations = (centred[1:] * centred[:-1]).sum(axis=0) / power
    noise = 3 / len(scores) ** 0.5
    correlations = np.where(correlations > noise, correlations, 0.0)
    best = int(correlations.argmax())
    return best // 2, float(correlations[best])


def _rows_apart(counted: Counted, seconds: Array) -> int:
    """The stride that neighbouring rows in the order of time call for."""
    order = np.argsort(seconds, kind="stable")[:MOST_IN_ORDER]
    whole = [cells for cells in counted.cells.T if (cells != ABSENT).all()]
    return max([rows_apart(cells[order]) for cells in whole], default=1)
