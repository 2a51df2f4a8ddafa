"""Rows that a graph refuses: the output that says so, and what the caller gets to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit.cast import Array
from modelkit.errors import SignatureError

# The output of a graph that has a number a row and reason: anything but 0, NaN too, refuses the row.
REFUSED = "modelkit.refused"
SHOWN = 20  # rows in a message


def check_refused(found: Array, reasons: Sequence[str]) -> None:
    """Raise SignatureError where a graph refuses rows, as its source does; `rows` are their numbers."""
    if not np.count_nonzero(found):
        return
    refused = found != 0
    rows = np.flatnonzero(refused.any(axis=1))
    firsts = refused[rows[:SHOWN]].argmax(axis=1)
    problems = [
        f"row {row}: {reasons[first]}"
        for row, first in zip(rows.tolist(), firsts.tolist(), strict=False)
    ]
    if len(rows) > SHOWN:
        problems.append(f"and {len(rows) - SHOWN:,} rows more")
    raise SignatureError(
        "the model refuses these rows, as its source does:\n  " + "\n  ".join(problems),
        problems=tuple(problems),
        rows=rows,
    )
