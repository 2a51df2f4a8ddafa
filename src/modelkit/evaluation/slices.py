"""The figures of some of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit.errors import EvaluationError
from modelkit.evaluation.answered import Answered
from modelkit.evaluation.columns import texts_of
from modelkit.evaluation.figures import MetricFigure, figures_of
from modelkit.evaluation.intervals import units_of

MOST_VALUES = 50  # of a column that rows are sliced by


@final
@dataclass(frozen=True)
class SliceFigures:
    """The figures of the rows that have one value in one column.

    Attributes:
        column: the name of the column.
        value: the value as text.
        rows: how many rows have it.
        units: how many independent ones: clusters, where there are some.
        figures: of these rows.
    """

    column: str
    value: str
    rows: int
    units: int
    figures: tuple[MetricFigure, ...]


def slice_figures(
    answered: Answered,
    columns: Mapping[str, Any],
    level: float,
) -> tuple[SliceFigures, ...]:
    """The figures of every value of each column, (n,). Raises EvaluationError."""
    found = []
    for name, values in columns.items():
        texts = texts_of(values)
        if len(texts) != len(answered):
            raise EvaluationError(
                f"slices: {name!r} has {len(texts):,} values, and there are {len(answered):,} rows"
            )
        known = sorted(set(texts.tolist()))
        if len(known) > MOST_VALUES:
            raise EvaluationError(
                f"slices: {name!r} has {len(known):,} different values; group them into at most "
                f"{MOST_VALUES}"
            )
        for value in known:
            own = answered.at(np.flatnonzero(texts == value))
            units = units_of(len(own), own.clusters)
            found.append(SliceFigures(name, value, len(own), units, figures_of(own, level)))
    return tuple(found)
