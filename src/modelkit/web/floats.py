"""Plain JSON of columns of floats alone, as one array: the most common rows, read the quickest way.

Each function gives None where the rows need a closer look, which takes values one by one.
"""

from __future__ import annotations

from array import array
from itertools import chain
from math import nan
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.web import json
from modelkit.web.layout import Layout


def records_of_floats(rows: list[dict[str, Any]], data: bytes, layout: Layout) -> Array | None:
    """Records as one array, (rows, columns)."""
    try:
        items = list(chain.from_iterable(map(layout.pick, rows)))
    except KeyError:
        return None
    if sum(map(len, rows)) != len(items):
        return None
    flat = _exactly(items, data, layout)
    return None if flat is None else flat.reshape(-1, len(layout.names))


def columns_of_floats(arrays: dict[str, Any], data: bytes, layout: Layout) -> Array | None:
    """All columns as one array, (rows, columns)."""
    try:
        columns = layout.pick(arrays)
        lengths = {*map(len, columns)}
        items = list(chain.from_iterable(columns))
    except (KeyError, TypeError):
        return None
    if len(lengths) > 1 or not items:
        return None
    flat = _exactly(items, data, layout)
    return None if flat is None else flat.reshape(len(columns), -1).T


def _exactly(items: list[Any], data: bytes, layout: Layout) -> Array | None:
    """Values that float64 holds exactly."""
    if json.may_hold_booleans(data) and bool in {*map(type, items)}:
        return None
    flat = _floats(items)
    if flat is None and layout.nullable and None in items:
        flat = _floats([nan if item is None else item for item in items])
    if flat is None:
        return None
    if not np.vdot(flat, flat) < layout.exact**2:
        large = np.flatnonzero(np.abs(flat) >= layout.exact)
        if any(type(items[place]) is not float for place in large):
            return None
        json.check_integers(data)
    return flat


def _floats(items: list[Any]) -> Array | None:
    """Numbers as an array; None where one is no number, or beyond the range of float64."""
    try:
        return np.frombuffer(array("d", items))
    except (TypeError, OverflowError):
        return None
