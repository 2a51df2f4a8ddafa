"""The values that JSON writes in forms of its own: times, and columns of anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from modelkit.web.json import shown

ReadValue = Callable[[Any], Any]  # reads one value; raises ValueError, which says what it is not


def read_mixed(text: Any) -> Any:
    """A value of a column of anything, from the JSON of it. Raises ValueError for other texts."""
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise ValueError('not the JSON of a value, such as "\\"text\\"" or "1.5"') from None


def read_values(values: list[Any], reader: ReadValue, name: str, problems: list[str]) -> list[Any]:
    """Values of one column, read; the first that cannot be is added to `problems`."""
    read = []
    for row, value in enumerate(values):
        try:
            read.append(None if value is None else reader(value))
        except ValueError as error:
            problems.append(f"column {name!r}: {shown(value)} is {error} in row {row}")
            return [None] * len(values)
    return read
