"""Rows as cells: what a Detector takes of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import ABSENT
from modelkit.drift.columns import stratum_names
from modelkit.drift.fitted import Fitted
from modelkit.errors import UsageError


def to_cells(profile: Fitted, columns: Mapping[str, Array]) -> tuple[Array, Array | None]:
    """The cells of rows, uint8 (n, d), and the number of each row's stratum, int64 (n,)."""
    n, strata = stratum_numbers(profile, columns)
    cells = np.full((n, len(profile.features)), ABSENT, np.uint8)
    for j, feature in enumerate(profile.features):
        values = columns.get(feature.name)
        if values is not None:
            cells[:, j] = feature.cells(values)
    return cells, strata


def stratum_numbers(profile: Fitted, columns: Mapping[str, Array]) -> tuple[int, Array | None]:
    """The number of rows, and the number of each one's stratum, int64 (n,).

    A stratum that the reference does not have is -1. Without strata there is None.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise UsageError(f"rows and scores have different lengths: {lengths}")
    n = max(lengths.values(), default=0)
    name = profile.stratum
    if name is None:
        return n, None
    if name not in columns:
        raise UsageError(
            f"the rows lack the column {name!r}, which names the stratum", feature=name
        )
    known = {stratum: s for s, stratum in enumerate(profile.strata)}
    numbers = [known.get(own, -1) for own in stratum_names(columns[name])]
    return n, np.array(numbers, np.int64)
