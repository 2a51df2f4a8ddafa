"""Why a graph parts from its source: what can be seen of it in the source's own answers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelkit.convert.parity.compare import agree, compare, tolerance
from modelkit.convert.parity.rows import Rows, Table, rows_of
from modelkit.convert.source import Source
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


def likely_cause(source: Source, agrees: Callable[[Rows], bool]) -> str:
    """What explains that a graph parts from its source, and what to do; empty where nothing is seen.

    `agrees` says whether they answer some rows alike.
    """
    example = rows_of(source.rows)
    rows = example.spread(FEW_ROWS)
    if not _alike(source, rows, rows):
        return RANDOM
    half = rows.at(slice(len(rows) // 2))
    if len(half) and not _alike(source, rows, half):
        return BATCH
    return _of_gaps(example, agrees) or (_of_rounding(example) if source.rounds else "")


def _of_rounding(rows: Rows) -> str:
    """Which of the two computes in float32."""
    single = isinstance(rows, Table) and np.float32 in rows.dtypes
    return SINGLE if single else ROUNDED


def _alike(source: Source, rows: Rows, first: Rows) -> bool:
    """Whether a source answers the first of some rows as it answers them among the others."""
    assert source.truth is not None  # for the type checker: it was asked before
    among = source.truth(rows.raw)
    cut = {name: answer[: len(first)] for name, answer in among.items()}
    try:
        alone = source.truth(first.raw)
        found = compare(alone, cut, *tolerance(source), source.scales)
    except ConversionError:  # it fails on these, or answers in another shape
        return False
    return agree(found, *tolerance(source))


def _of_gaps(rows: Rows, agrees: Callable[[Rows], bool]) -> str:
    """What gaps in rows have to do with it."""
    if not isinstance(rows, Table) or not rows.gaps():
        return ""
    whole = rows.at(rows.without_gaps())
    if agrees(rows) or not len(whole) or not agrees(whole):
        return ""
    for position in sorted(rows.gaps()):
        if rows.has_none(position):
            name = str(rows.raw.columns[position])
            return (
                f"column {name!r} holds None, which scikit-learn takes for a value like "
                "others, and imputes NaN only: give fit and example X.fillna(np.nan)"
            )
    return "the two agree on the rows of the example without missing values: impute them first"
