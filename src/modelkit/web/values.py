"""The values that JSON writes as texts or seconds: points in time, spans, and columns of anything."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import isnan
from typing import Any

import numpy as np

from modelkit.web.json import shown

ReadValue = Callable[[Any], Any]  # reads one value; raises ValueError for one that it does not know
DATE_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?))?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII | re.IGNORECASE,
)
UNITS_OF_SPANS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
MOST_INTEGER = 1 << 63


def reader_of_times(*, zoned: bool) -> Callable[[Any], Any]:
    """What reads points in time, with a time zone or without; in UTC where they have one.

    It raises ValueError for anything else.
    """

    def read_time(text: Any) -> Any:
        found = DATE_TIME.fullmatch(text) if isinstance(text, str) else None
        if found is None or (found[3] is not None) != zoned:
            raise ValueError(
                f"{shown(text)} is not a time in the form of ISO 8601 "
                f"{'with' if zoned else 'without'} a time zone, such as "
                f"2026-01-31T12:30:00{'+00:00' if zoned else ''}"
            )
        try:
            local = np.datetime64(f"{found[1]}T{found[2]}" if found[2] else found[1])
        except ValueError:
            raise ValueError(f"{shown(text)} is a time that does not exist") from None
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
        return np.timedelta64("NaT")
    if type(seconds) in (int, float) and abs(seconds) < MOST_INTEGER:
        for unit, scale in UNITS_OF_SPANS.items():
            count = round(seconds * scale)
            if count / scale == seconds and abs(count) < MOST_INTEGER:
                return np.array(count, f"m8[{unit}]")[()]
    raise ValueError(
        f"{shown(seconds)} is not a span of time: seconds, of at most nine decimal places"
    )


def read_mixed(text: Any) -> Any:
    """A value of a column of anything, from the JSON of it. Raises ValueError for other texts."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(
            f'{shown(text)} is not the JSON of a value, such as "\\"text\\"" or "1.5"'
        ) from None


def read_values(values: list[Any], reader: ReadValue, name: str, problems: list[str]) -> list[Any]:
    """Values of one column, read; the first that cannot be is added to `problems`."""
    read = []
    for row, value in enumerate(values):
        try:
            read.append(None if value is None else reader(value))
        except ValueError as error:
            problems.append(f"column {name!r}: {error} in row {row}")
            return [None] * len(values)
    return read
