"""Columns that libraries round otherwise, and thresholds that stay out of the way of their last bits.

Two libraries add up in other orders, and have exponentials of their own, so a column that comes out
of these is equal to the source's but for its last bits. A threshold is often a value of a training
row: the same row may get a value one bit beyond it from the graph, and would go the other way.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.dtypes import dtypes_of
from modelkit.convert.parity.rows import at, column_in, dtypes_in, numbers_in, replaced
from modelkit.convert.tables import dense

ASKED_ROWS = 1024  # of a step, in float32 and in float64
LAST_BITS = 2.0**-49  # of a column's largest threshold: by how much it may be rounded otherwise


def beyond_rounding(thresholds: Array, values: Array | None, side: int) -> Array:
    """The thresholds of a column, moved up or down past what its last bits may do.

    Each stays within half of the way to the next one, and to the next of the source's own `values`,
    where these are known. `side` is 1 for up, where a value that equals a threshold is below it.
    """
    known = side * np.asarray(thresholds, np.float64)
    others = known if values is None else np.append(known, side * values)
    others = np.unique(others[np.isfinite(others)])
    beyond = np.append(others, np.inf)[np.searchsorted(others, known, side="right")]
    size = np.abs(known[np.isfinite(known)]).max(initial=0)
    moved = known + np.minimum((beyond - known) / 2, size * LAST_BITS)
    # Between neighbours among the numbers there is no other; and infinity stays what it is.
    return np.asarray(side * np.where(moved < beyond, moved, known))


def between_values(offset: float, values: Array) -> float:
    """An offset between the source's own values below it and those from it on, within its last bits."""
    near = 2 * abs(offset) * LAST_BITS
    low = values[values < offset].max(initial=offset - near)
    high = values[values >= offset].min(initial=offset + near)
    middle = float(low + (high - low) / 2)
    return middle if middle > low else float(high)


def dtypes_if_rounded_once(step: Any, rows: Any) -> list[np.dtype[Any]] | None:
    """The dtypes of the columns that a step makes of rows; None where it rounds in between.

    It does not where it makes the same of float64, but for one rounding at the end: so do roots,
    ratios of two columns, and what interpolates.
    """
    if np.ndim(rows) == 1:  # as of one column by its name
        return None
    given = _varied(rows)
    single = [place for place, dtype in enumerate(dtypes_in(given)) if dtype == np.float32]
    if isinstance(given, np.ndarray):
        widened = given.astype(np.float64)
    else:
        widened = replaced(given, {place: numbers_in(given, place) for place in single})
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            narrow, wide = (dense(step.transform(each)) for each in (given, widened))
    except Exception:  # whatever a step says of rows that it has not seen
        return None
    for place, dtype in enumerate(dtypes_in(narrow)):
        once = np.asarray(column_in(wide, place)).astype(dtype)
        same = np.array_equal(np.asarray(column_in(narrow, place)), once, equal_nan=True)
        if not same or dtype == np.float16:  # as roots of integers of 8 bits are
            return None
    return dtypes_of(narrow)


def _varied(rows: Any) -> Any:
    """Some rows of a table, and rows like them with other numbers of float32."""
    few = min(len(rows), ASKED_ROWS)
    places = np.linspace(0, len(rows) - 1, few).astype(int)
    count = 2 * ASKED_ROWS
    varied = at(rows, places[np.arange(count) % few])
    factors = np.random.default_rng(0).uniform(0.5, 1.5, count)
    factors[:few] = 1
    return replaced(
        varied,
        {
            place: (numbers_in(varied, place) * factors).astype(np.float32)
            for place, dtype in enumerate(dtypes_in(varied))
            if dtype == np.float32
        },
    )
