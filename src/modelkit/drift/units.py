"""Whole units of rows, such as days: which unit a row is of, and what a Profile keeps of each.

Rows of one day resemble each other more than rows of different days. Then rows are not
exchangeable, but days may be: a unit is what is compared as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import COARSE_CELLS, Feature
from modelkit.drift.columns import places_in, stratum_names
from modelkit.errors import UsageError
from modelkit.signature.cast import MISSING, is_missing

HOUR_SECONDS = 3600  # seconds
DAY_SECONDS = 24 * HOUR_SECONDS
BATCH_UNIT = "batch"  # each call is a unit
PERIODS = ("day", "week")  # of the times of rows
CYCLES = ("weekday", "hour")  # strata that times of rows tell
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
THURSDAY = 3  # the day of 1970-01-01, from Monday
WEEK = 7  # days
MOST_UNITS = 400  # of the reference that a Profile keeps
MOST_UNIT_BYTES = 2 << 20  # for them; each takes 32 bytes a feature
FEWEST_UNITS = 8
FULL_SHARE = 65_535  # what a share of one is in a uint16
LEAST_UNITS = 50  # below, a report says what this costs


@final
@dataclass(frozen=True, eq=False)
class ReferenceUnits:
    """What a Profile keeps of the units of its reference.

    `shares` is uint16 (units, features, 16): the share of a unit's values in each of the 16 groups
    of cells, times 65,535; all zero where the unit lacks a value of the feature. `strata` is int64
    (units,), the number of each one's stratum. `found` is the number of units in the reference, of
    which these are all, or a random part.
    """

    shares: Array
    strata: Array
    found: int

    def of(self, features: Sequence[int]) -> ReferenceUnits:
        """The same for some of the features."""
        return ReferenceUnits(self.shares[:, features], self.strata, self.found)


def most_units(features: int) -> int:
    """The number of units of a reference that a Profile with so many features keeps."""
    fit = MOST_UNIT_BYTES // (2 * COARSE_CELLS * max(features, 1))
    return max(min(MOST_UNITS, fit), FEWEST_UNITS)


def group_table(features: Sequence[Feature]) -> Array:
    """For each feature the group of each cell, int64 (d, 67)."""
    return np.array([feature.groups for feature in features], np.int64)


def shares_of(counts: Array, table: Array) -> Array:
    """The shares that are kept of a unit with counts (d, 67), uint16 (d, 16)."""
    d = len(counts)
    at = table + COARSE_CELLS * np.arange(d)[:, None]
    weights = counts.ravel().astype(np.float64)
    groups = np.bincount(at.ravel(), weights, d * COARSE_CELLS).reshape(d, COARSE_CELLS)
    total = np.maximum(groups.sum(axis=1, keepdims=True), 1)
    shares: Array = np.rint(groups * (FULL_SHARE / total)).astype(np.uint16)
    return shares


# Which unit a row is of.


def columns_aside(time: str | None, unit: str | None) -> list[str]:
    """The columns with times and units, which are not features."""
    column = None if unit in (*PERIODS, BATCH_UNIT) else unit
    return [name for name in (time, column) if name is not None]


@dataclass(frozen=True)
class UnitRows:
    """The rows of one unit among the rows of a call.

    `key` distinguishes units: the number of a period, or the value of a column; None for the rows
    of a batch. `rows` are the numbers of the rows.
    """

    key: int | str | None
    rows: Array


def of_call(unit: str, labels: Array | None, seconds: Array | None, n: int) -> list[UnitRows]:
    """The n rows of a call by unit: periods in order of time, values in order of appearance.

    Args:
        unit: "day", "week", "batch" or the name of a column.
        labels: the values of the column, (n,).
        seconds: the time of each row, float64 (n,).
        n: the number of rows.

    Raises:
        UsageError: where a period needs times and there are none.
    """
    if not n:
        return []
    if unit == BATCH_UNIT:
        return [UnitRows(None, np.arange(n))]
    keys: list[Any]
    if unit in PERIODS:
        found, codes = np.unique(periods(needed_times(seconds, unit), unit), return_inverse=True)
        keys = found.tolist()
    else:
        keys, codes = unit_codes(unit, labels)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    rows = np.split(order, ends[:-1])
    return [UnitRows(key, members) for key, members in zip(keys, rows, strict=True)]


def unit_codes(unit: str, labels: Array | None) -> tuple[list[str], Array]:
    """The values of a column in the order of their appearance, and the number of each row's.

    Raises UsageError for a missing column, and for rows without a value.
    """
    if labels is None:
        raise UsageError(f"the rows lack the column {unit!r}, which names the unit", feature=unit)
    missing = [is_missing(item) or item == MISSING for item in labels.tolist()]
    if any(missing):
        raise UsageError(
            f"column {unit!r} names the unit, and lacks a value in row {missing.index(True):,}",
            feature=unit,
        )
    names = _names_of(labels)
    found = [*dict.fromkeys(names)]
    return found, places_in(found, names)


def _names_of(labels: Array) -> list[str]:
    """The unit of each row: a number has one name, whatever its type, and all of its digits."""
    names = stratum_names(labels)
    for i, item in enumerate(labels.tolist()):
        if isinstance(item, float) and not item.is_integer():
            names[i] = str(item)
    return names


def together(parts: Sequence[UnitRows]) -> list[UnitRows]:
    """The rows of each unit in one, in the order of the first of them."""
    rows: dict[int | str | None, list[Array]] = {}
    for part in parts:
        rows.setdefault(part.key, []).append(part.rows)
    joined = [UnitRows(key, np.sort(np.concatenate(members))) for key, members in rows.items()]
    return sorted(joined, key=lambda part: int(part.rows[0]))


def needed_times(seconds: Array | None, what: str) -> Array:
    """Times that cannot be done without. Raises UsageError where there are none."""
    if seconds is None:
        raise UsageError(
            f"a {what} follows from the times of rows: give them the column of times of the profile, "
            "or pass at="
        )
    return seconds


def periods(seconds: Array, unit: str) -> Array:
    """The number of the day or week since 1970 that each time is in, int64 (n,), in UTC.

    Weeks begin on Monday.
    """
    days = np.floor(seconds / DAY_SECONDS).astype(np.int64)
    return days if unit == "day" else (days + THURSDAY) // WEEK


def period_of(second: float, unit: str) -> int:
    """The number of the day or week that a second is in."""
    return int(periods(np.array([second]), unit)[0])


def period_start(number: int, unit: str) -> float:
    """The second at which a day or a week begins."""
    days = number if unit == "day" else number * WEEK - THURSDAY
    return float(days * DAY_SECONDS)


def cycle_names(seconds: Array, cycle: str) -> Array:
    """The weekday or the hour of each time, in words, (n,)."""
    if cycle == "hour":
        hours = np.floor(seconds / HOUR_SECONDS).astype(np.int64) % (DAY_SECONDS // HOUR_SECONDS)
        return np.array([f"{hour:02}" for hour in range(DAY_SECONDS // HOUR_SECONDS)])[hours]
    days: Array = (periods(seconds, "day") + THURSDAY) % WEEK
    return np.array(WEEKDAYS)[days]


# Words.


def unit_name(unit: str, key: int | str) -> str:
    """A unit in words, such as "day 2013-03-09", "batch 7" or "store Oslo"."""
    if unit in PERIODS and isinstance(key, int):
        days = int(period_start(key, unit)) // DAY_SECONDS
        return f"{unit} {date(1970, 1, 1) + timedelta(days)}"
    return f"{unit} {key}"


def count_of(n: int, noun: str) -> str:
    """A number with its noun, such as "3 rows"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def many(n: int, unit: str) -> str:
    """A number of units in words, such as "12 days"."""
    if n == 1:
        return f"1 {unit}" if unit in (*PERIODS, BATCH_UNIT) else f"1 unit by {unit!r}"
    return f"{n:,} {plural(unit)}"


def plural(unit: str) -> str:
    """The units in words, such as "days"."""
    return {"day": "days", "week": "weeks", BATCH_UNIT: "batches"}.get(unit, f"units by {unit!r}")


def units_text(found: int, kept: int, unit: str) -> list[str]:
    """How the units of a reference are compared, and whether they are few, in words."""
    which = "all" if kept == found else f"a random {kept:,} of them"
    whole = (
        f"{plural(unit)} are compared as wholes: the reference has {many(found, unit)}, {which} kept; "
        "the rows within one may depend on each other"
    )
    said = [whole]
    if kept < LEAST_UNITS:
        said.append(
            f"{many(kept, unit)} are few for a reference: the p-value of one {unit} alone "
            f"stays above {1 / (kept + 1):.2g}, and only large, lasting changes are found"
        )
    return said
