"""Rows with some columns altered, each in some rows: gaps, unknown texts and codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.convert.parity.rows import FrameRows, Table

PATTERNS = 64  # of the rows of one question; columns beyond that many share one
PATTERN_ROWS = 32  # rows of a question in which one column is altered
# A category that no training set holds; XGBoost refuses an unseen one only where it is the last.
UNSEEN = "\x7f\ufdd1 unseen"
Known = Mapping[int, tuple[Any, ...]]
Change = Callable[[Table, int, Array], Any]  # rows, a column, where it is altered: the new column


def altered(rows: Table, group: list[int], change: Change) -> Table:
    """Rows for a question: each column of a group is altered in some, in one after the other.

    There is always a row in which a column is left as it is.
    """
    patterns = min(max(len(group), 2), PATTERNS)
    at = np.arange(patterns * PATTERN_ROWS)
    places = at + at // patterns  # so that a column is not altered in the same rows each time
    repeated = rows.repeated(places % len(rows))
    columns = {}
    for place, i in enumerate(group):
        mask = at % patterns == place % patterns
        columns[i] = change(repeated, i, mask)
    return repeated.with_columns(columns)


def gaps_like(example: Table) -> Change:
    """Missing values, in the way of the example."""
    return lambda rows, i, mask: rows.blank(i, mask, example)


def infinities(rows: Table, i: int, mask: Array) -> Any:
    """Infinities of both signs in a column of floats."""
    numbers = rows.numbers(i).copy()
    signs = np.where(np.cumsum(mask) % 2, 1.0, -1.0)
    numbers[mask] = signs[mask] * np.inf
    return numbers


def unseen_texts(rows: Table, i: int, mask: Array) -> Any:
    """Unknown texts in a column of a frame."""
    assert isinstance(rows, FrameRows)  # arrays of texts have a question of their own
    return rows.with_text(i, mask, UNSEEN)


def strange_codes(known: Known, step: float) -> Change:
    """Whole numbers that are no codes: one beyond the largest, one below, and one between two.

    The largest and the smallest are those of the column and of the codes that an encoder knows;
    `step` is how far the number between lies from a code.
    """

    def change(rows: Table, i: int, mask: Array) -> Any:
        codes = rows.numbers(i)
        told = np.array(known.get(i, ()), np.float64)
        held = np.append(codes[np.isfinite(codes)], told)
        if not len(held):
            return codes
        turn = np.cumsum(mask) % 3
        beyond = np.where(turn == 0, held.max() + 1, held.min() - 1)
        strange = np.where(turn == 1, codes + step, beyond)
        found = np.where(mask, strange, codes)
        dtype = rows.dtypes[i]
        if hasattr(dtype, "categories"):
            assert isinstance(rows, FrameRows)  # arrays have none
            return rows.with_categories(i, found)
        return _in_dtype(found, dtype)

    return change


def _in_dtype(numbers: Array, dtype: Any) -> Array:
    """Numbers in the dtype of a column of integers: small ones wrap around where others do not."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iu":
        return numbers
    if dtype.itemsize < np.int64().itemsize:
        ends = np.iinfo(dtype)
        numbers = np.clip(np.rint(numbers), ends.min, ends.max)
    whole: Array = numbers.astype(dtype)
    return whole if (whole == numbers).all() else numbers
