"""Cast a column of times, or of spans of time, to the dtype of its tensor; and read them in JSON and CSV.

A point in time has a time zone or has none, as in training; where it has one, the tensor holds it
in UTC. Nothing is rounded, and a cast parses no texts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from math import isnan
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.signature.cast import CastError

POINT = "M"  # the kind of dtype of points in time; the other is that of spans
EXPECTED = {"M": "times", "m": "spans of time"}
PARSERS = {"M": "pandas.to_datetime", "m": "pandas.to_timedelta"}
DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?))?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII | re.IGNORECASE,
)
UNITS_OF_SPANS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MOST_INTEGER = 1 << 63


def to_times(values: Array, missing: Array, target: np.dtype[Any], *, zoned: bool) -> Array:
    """Values as an array of times, NaT for those that are missing. Raises CastError."""
    data = np.ma.getdata(values)
    if data.dtype.kind == "O":
        return _from_times_of_python(data, missing, target, zoned=zoned)
    if data.dtype.kind != target.kind:
        raise CastError(_unlike(f"values of {data.dtype}", target, zoned=zoned))
    if zoned:
        raise CastError(
            "times without a time zone where those with one are expected; name it first, for "
            "example with Series.dt.tz_localize"
        )
    out: Array = _cast(data, target)
    rounded = (out.astype(data.dtype) != data) & ~np.isnat(data) & ~missing
    if _has_no_length(data.dtype):
        rounded = ~np.isnat(data) & ~missing
    if rounded.any():
        raise CastError(f"a time in {{rows}} that {target} does not hold exactly", rounded)
    out[missing] = np.array("NaT", target)
    return out


def _cast(times: Any, target: np.dtype[Any]) -> Any:
    """Times in a unit, and others in place of those that it does not hold."""
    try:
        return times.astype(target)
    except OverflowError:  # numpy 2.5 raises it where older ones wrap around
        return np.array([_cast(each, target) for each in times] if times.shape else "NaT", target)


def _has_no_length(dtype: np.dtype[Any]) -> bool:
    """Whether spans of a dtype are as long as a month or a year is, or of no unit."""
    return dtype.kind != POINT and np.datetime_data(dtype)[0] in ("Y", "M", "generic")


def _from_times_of_python(
    values: Array, missing: Array, target: np.dtype[Any], *, zoned: bool
) -> Array:
    """Objects of Python, numpy or pandas as an array; NaT where one is missing. Raises CastError.

    Each is cast by itself: in an array of all, the finest unit among them would hold them, beyond
    whose range numpy wraps around, or stops.
    """
    out = np.full(len(values), "NaT", target)
    for row, item in enumerate(values.tolist()):
        if missing[row]:
            continue
        made = _time_of(item, target.kind, zoned=zoned)
        if made is None:
            what = f"{item!r:.40} in {{rows}}, of type {type(item).__name__},"
            what = _unlike(what, target, zoned=zoned)
        else:
            cast = _cast(made, target)
            out[row] = cast
            if cast.astype(made.dtype) == made and not _has_no_length(made.dtype):
                continue
            what = f"a time in {{rows}} that {target} does not hold exactly"
        raise CastError(what, np.arange(len(values)) == row)
    return out


def _time_of(item: Any, kind: str, *, zoned: bool) -> Any:
    """One value of numpy; None for what is not of the kind, or has a zone where none is expected."""
    if kind != POINT:
        if hasattr(item, "to_timedelta64"):
            return item.to_timedelta64()
        return np.timedelta64(item) if isinstance(item, timedelta | np.timedelta64) else None
    if isinstance(item, np.datetime64):  # where a zone is needed, it is in UTC
        return item
    if type(item) is date and not zoned:  # at midnight
        return np.datetime64(item, "D")
    if not isinstance(item, datetime):
        return None
    offset = item.utcoffset()  # None also where a time zone does not say
    if (offset is not None) != zoned:
        return None
    if hasattr(item, "to_datetime64"):  # of pandas, in UTC
        return item.to_datetime64()
    # In UTC it may be beyond the years that Python has.
    local = np.datetime64(item.replace(tzinfo=None), "us")
    return local if offset is None else local - np.timedelta64(offset)


def _unlike(what: str, target: np.dtype[Any], *, zoned: bool = False) -> str:
    zone = "" if target.kind != POINT else f" {'with' if zoned else 'without'} a time zone"
    local = (
        ""
        if zoned or target.kind != POINT
        else ", and drop a time zone: tz_localize(None) in pandas, replace(tzinfo=None) in Python"
    )
    parse = f"; make them of texts with {PARSERS[target.kind]}"
    return f"{what} where {EXPECTED[target.kind]}{zone} are expected{parse}{local}"


# Read.


def reader_of_times(*, zoned: bool) -> Callable[[Any], Any]:
    """What reads points in time, with a time zone or without; in UTC where they have one.

    It raises ValueError for anything else.
    """

    def read_time(text: Any) -> Any:
        found = DATE_TIME.fullmatch(text) if isinstance(text, str) else None
        if found is None or (found[3] is not None) != zoned:
            raise ValueError(
                f"not a time in the form of ISO 8601 {'with' if zoned else 'without'} a time zone, "
                f"such as 2026-01-31T12:30:00{'+00:00' if zoned else ''}"
            )
        try:
            local = np.datetime64(f"{found[1]}T{found[2]}" if found[2] else found[1])
        except ValueError:
            raise ValueError("a time that does not exist") from None
        return local - _offset(found[3]) if zoned else local

    return read_time


def _offset(zone: str) -> Any:
    """How far a time zone, such as +01:30 or Z, is from UTC."""
    if zone in "Zz":
        return np.timedelta64(0, "m")
    minutes = 60 * int(zone[1:3]) + int(zone[-2:])
    return np.timedelta64(-minutes if zone[0] == "-" else minutes, "m")


def read_span(seconds: Any) -> Any:
    """A span of time from its seconds, in the largest unit that holds it as it is written.

    Raises ValueError for anything else.
    """
    if type(seconds) is float and isnan(seconds):
        return np.timedelta64("NaT", "s")
    if type(seconds) in (int, float) and abs(seconds) < MOST_INTEGER:
        for unit, scale in UNITS_OF_SPANS.items():
            count = round(seconds * scale)
            if count / scale == seconds and abs(count) < MOST_INTEGER:
                return np.array(count, f"m8[{unit}]")[()]
    raise ValueError("not a span of time: seconds, of at most nine decimal places")
