"""When rows were: seconds since 1970 in UTC, from the column or the value that a caller has.

A time without a zone is taken in UTC. So local times without a zone give local days, and times with
a zone give days of UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.columns import feature_kind, microseconds, unmasked
from modelkit.errors import UsageError
from modelkit.signature.cast import is_missing

LAST_SECOND = 253_402_300_800  # the end of the year 9999
FIRST_SECOND = -62_135_596_800  # the start of the year 1
MICROSECONDS = 1_000_000  # of a second
FIX = (
    "pass datetimes, timestamps, texts such as '2013-03-09T14:00' (ISO 8601) or seconds since 1970"
)


def row_seconds(values: Array, name: str) -> Array:
    """A column of times as seconds since 1970, float64 (n,).

    Args:
        values: datetime64, objects with a date and a time, texts in ISO 8601, or seconds, (n,).
        name: of the column, for messages.

    Raises:
        UsageError: for values that are not times, and for rows without one.
    """
    kind = feature_kind(name, values, "time")
    if kind == "category":
        found = microseconds(_of_texts(values, name)) / MICROSECONDS
    elif kind == "time":
        found = microseconds(values) / MICROSECONDS
    elif kind == "number":
        found = _of_numbers(values, name)
    else:
        raise UsageError(f"column {name!r} holds booleans where times are expected; {FIX}")
    _check_range(found, name)
    missing = np.flatnonzero(np.isnan(found))
    if len(missing):
        raise UsageError(
            f"column {name!r} lacks a time in row {missing[0]:,} ({len(missing):,} such rows); give "
            "each row its time, or leave these rows out",
            feature=name,
        )
    return found


def given_seconds(at: Any, n: int) -> Array:
    """The times of n rows from the argument `at`, float64 (n,): one for all of them, or one each.

    Raises UsageError for another number of times, and for what `row_seconds` refuses.
    """
    values = np.asarray([at], object) if _is_one(at) else np.asarray(at)
    if values.ndim != 1:
        raise UsageError(f"at has shape {values.shape}; pass one time, or one for each row, (n,)")
    found = row_seconds(values, "at")
    if len(found) not in (1, n):
        raise UsageError(f"at has {len(found):,} times for {n:,} rows; pass one, or one for each")
    return np.broadcast_to(found, n).copy()


def given_second(at: Any, argument: str) -> float:
    """The one time that an argument holds. Raises UsageError for anything but a time, and several."""
    if not _is_one(at):
        raise UsageError(f"{argument} is one time; got {type(at).__name__}; {FIX}")
    try:
        return float(row_seconds(np.asarray([at], object), argument)[0])
    except UsageError as error:
        raise UsageError(f"{argument} is {at!r:.40}, which is not a time; {FIX}") from error


def clock_second(second: float) -> float:
    """The time that a caller's `clock` gave, as it is.

    Raises UsageError for NaN, for milliseconds, and for what else is not a POSIX time.
    """
    if not isinstance(second, int | float) or not FIRST_SECOND <= second < LAST_SECOND:
        raise UsageError(
            f"clock= gave the time {second!r}; it gives seconds since 1970, as time.time does"
        )
    return float(second)


def clock_seconds(seconds: Sequence[float]) -> Array:
    """The times that a caller's `clock` gave, float64 (n,). Raises UsageError as `clock_second` does."""
    times = np.array(seconds, np.float64)
    known = (times >= FIRST_SECOND) & (times < LAST_SECOND)
    if not known.all():
        clock_second(seconds[int(known.argmin())])
    return times


def second_text(second: float) -> str:
    """A time in words, to the minute, in UTC."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M")


def _is_one(at: Any) -> bool:
    return isinstance(at, str | int | float | date | np.generic) or not hasattr(at, "__len__")


def _of_texts(values: Array, name: str) -> Array:
    found = np.full(len(values), None, object)
    for row, item in enumerate(np.ma.getdata(values).tolist()):
        if is_missing(item) or item == "":
            continue
        try:
            found[row] = datetime.fromisoformat(item)
        except ValueError:
            raise UsageError(
                f"column {name!r} holds {item!r:.40} in row {row:,}, which is not a time; {FIX}",
                feature=name,
            ) from None
    return found


def _of_numbers(values: Array, name: str) -> Array:
    if values.dtype in (np.float16, np.float32):
        raise UsageError(
            f"column {name!r} is {values.dtype}, which holds times to minutes only; pass seconds as "
            "float64 or integers",
            feature=name,
        )
    return unmasked(values).astype(np.float64)


def _check_range(seconds: Array, name: str) -> None:
    """Raise UsageError for times that no calendar of Python has; NaN is a time that is missing."""
    odd = (seconds < FIRST_SECOND) | (seconds >= LAST_SECOND)
    if odd.any():
        raise UsageError(
            f"column {name!r} holds {seconds[odd][0]:.15g}, which is not a number of seconds since 1970 "
            "in the years 1 to 9,999; divide milliseconds by 1,000",
            feature=name,
        )
