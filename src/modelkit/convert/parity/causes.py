"""Why a graph parts from its source: what can be seen of it in the source's own answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from modelkit.convert.parity.compare import compare, tolerance
from modelkit.convert.parity.rows import at, count, gaps, spread
from modelkit.convert.source import Columns, Source
from modelkit.errors import ConversionError

RANDOM = (
    "the source answers the same rows otherwise each time, and so would what was saved: leave out the step "
    "that draws at random"
)
BATCH = (
    "the source's answer to a row depends on the rows that it is asked with, which a graph does not repeat: "
    "use steps that treat each row by itself"
)


ROUNDED = (
    "the graph computes in float32 what the source computes in float64: scale the columns, such as with "
    "StandardScaler"
)
SINGLE = (
    "the source computes in float32, for fit was given that, and a graph has other last digits: give fit and "
    "example X.astype('float64')"
)
FEW_ROWS = 256  # that a source is asked about twice


def likely_cause(source: Source, rows: Columns, agrees: Callable[[Columns], bool]) -> str:
    """What explains that a graph parts from its source, and what to do; empty where nothing is seen.

    `rows` is the example by column. `agrees` says whether the two answer some rows alike.
    """
    few = spread(source.rows, FEW_ROWS)
    if not _alike(source, few, few):
        return RANDOM
    half = at(few, slice(count(few) // 2))
    if count(half) and not _alike(source, few, half):
        return BATCH
    return _of_gaps(source, rows, agrees) or _of_rounding(source)


def _of_rounding(source: Source) -> str:
    """Which of the two computes in float32, where one does."""
    if not source.rounds:
        return ""
    dtypes = getattr(source.rows, "dtypes", [getattr(source.rows, "dtype", None)])
    return SINGLE if np.float32 in list(dtypes) else ROUNDED


def _alike(source: Source, rows: Any, first: Any) -> bool:
    """Whether a source answers the first of some rows as it answers them among the others."""
    assert source.truth is not None  # for the type checker: it was asked before
    among = source.truth(rows)
    cut = {name: answer[: count(first)] for name, answer in among.items()}
    try:
        alone = source.truth(first)
        return compare(alone, cut, *tolerance(source), source.scales).agree
    except ConversionError:  # it fails on these, or answers in another shape
        return False


def _of_gaps(source: Source, rows: Columns, agrees: Callable[[Columns], bool]) -> str:
    """What gaps in rows have to do with it."""
    if isinstance(source.rows, dict):
        return ""
    gone = {name: gaps(values) for name, values in rows.items()}
    whole = np.flatnonzero(~np.any(list(gone.values()), axis=0))
    if len(whole) == count(rows) or agrees(rows) or not len(whole) or not agrees(at(rows, whole)):
        return ""
    for name, places in gone.items():
        if places.any() and hasattr(source.rows, "columns") and _has_none(source.rows, name):
            return (
                f"column {name!r} holds None, which scikit-learn takes for a value like "
                "others, and imputes NaN only: give fit and example X.fillna(np.nan)"
            )
    return "the two agree on the rows of the example without missing values: impute them first"


def _has_none(frame: Any, name: str) -> bool:
    """Whether a missing value of a column is None."""
    place = list(map(str, frame.columns)).index(name)
    return any(value is None for value in frame.iloc[:, place].array)
