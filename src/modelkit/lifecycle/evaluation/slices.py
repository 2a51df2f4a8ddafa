"""The figures of some of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import UsageError
from modelkit.lifecycle.evaluation.answered import Answered
from modelkit.lifecycle.evaluation.columns import texts_of
from modelkit.lifecycle.evaluation.figures import MetricFigure, figures_of

MOST_VALUES = 50  # of a column that rows are sliced by


@final
@dataclass(frozen=True)
class SliceFigures:
    """The figures of the rows that have one value in one column.

    Attributes:
        column: the name of the column.
        value: the value as text.
        rows: how many rows have it.
        independent: how many independent ones: clusters, where there are some.
        figures: of these rows.
    """

    column: str
    value: str
    rows: int
    independent: int
    figures: tuple[MetricFigure, ...]


def slice_figures(
    answered: Answered, columns: Mapping[str, Any], level: float
) -> tuple[SliceFigures, ...]:
    """The figures of every value of each column, (n,). Raises UsageError."""
    found = []
    for name, values in columns.items():
        texts = slice_texts(name, values, len(answered))
        for value in sorted(set(texts.tolist())):
            own = answered.at(np.flatnonzero(texts == value))
            found.append(SliceFigures(name, value, len(own), own.units, figures_of(own, level)))
    return tuple(found)


def slice_texts(name: str, values: Any, n: int) -> Array:
    """What n rows are sliced by, as texts (n,). Raises UsageError for too many of them."""
    texts = texts_of(f"slices: {name!r}", values)
    if len(texts) != n:
        raise UsageError(f"slices: {name!r} has {len(texts):,} values, and there are {n:,} rows")
    known = len(set(texts.tolist()))
    if known > MOST_VALUES:
        raise UsageError(
            f"slices: {name!r} has {known:,} different values; group them into at most {MOST_VALUES}"
        )
    return texts
