"""The values that JSON writes as texts or seconds: points in time, spans, and columns of anything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np

from modelkit.web.json import shown

DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?))?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII | re.IGNORECASE,
)
UNITS_OF_SPANS = (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
MOST_INTEGER = 1 << 63


def reader_of_times(*, zoned: bool) -> Callable[[Any], np.datetime64]:
    """What reads points in time, with a time zone or without; in UTC where they have one."""
    expected = f"a time in the form of ISO 8601 {'with' if zoned else 'without'} a time zone"

    def read_time(text: Any) -> np.datetime64:
        found = DATE_TIME.fullmatch(text) if isinstance(text, str) else None
        if found is None or (found[3] is not None) != zoned:
            raise ValueError(f"{shown(text)} is not {expected}, such as {_example(zoned=zoned)}")
        day, clock, zone = found.groups()
        try:
            local = np.datetime64(f"{day}T{clock}" if clock else day)
        except ValueError:
            raise ValueError(f"{shown(text)} is no time that there is") from None
        if zone is None or zone in "Zz":
            return local
        sign = -1 if zone[0] == "-" else 1
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        return local - np.timedelta64(sign * (60 * hours + minutes), "m")

    return read_time


def _example(*, zoned: bool) -> str:
    return f"2026-01-31T12:30:00{'+00:00' if zoned else ''}"


def read_span(seconds: Any) -> np.timedelta64:
    """A span of time from its seconds, in the largest unit that holds it as it is written."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise ValueError(f"{shown(seconds)} is not a span of time in seconds")
    if isinstance(seconds, float) and np.isnan(seconds):
        return np.timedelta64("NaT", "s")
    if isfinite(seconds):
        for unit, scale in UNITS_OF_SPANS:
            count = round(seconds * scale)
            if count / scale == seconds and abs(count) < MOST_INTEGER:
                return np.timedelta64(count, unit)
    raise ValueError(f"{shown(seconds)} is not a whole number of nanoseconds")


def read_mixed(text: Any) -> Any:
    """A value of a column of anything, from the JSON of it."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(
            f'{shown(text)} is not the JSON of a value, such as "\\"text\\"" or "1.5"'
        ) from None
    return value
