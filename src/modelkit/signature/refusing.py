"""Rows that a graph refuses: the output that says so, and what the caller gets to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.errors import SignatureError

# The output of a graph that has a number a row and reason: anything but 0, NaN too, refuses the row.
REFUSED = "modelkit.refused"
SHOWN = 20  # rows in a message


def check_refused(found: Array, reasons: Sequence[str]) -> None:
    """Raise SignatureError where a graph refuses rows, as its source does."""
    if not np.count_nonzero(found):
        return
    refused = found != 0
    rows = np.flatnonzero(refused.any(axis=1))
    firsts = refused[rows].argmax(axis=1)
    raise _refusal(rows.tolist(), [reasons[first] for first in firsts.tolist()])


def moved(error: BaseException, by: int) -> BaseException:
    """A refusal whose rows come after `by` others; any other error as it is."""
    if not by or not isinstance(error, SignatureError) or not error.reasons:
        return error
    return _refusal([row + by for row in error.rows], error.reasons)


def share(error: BaseException, start: int, stop: int) -> SignatureError | None:
    """A refusal of the rows from `start` to `stop`, counted from there; None where all are taken."""
    if not isinstance(error, SignatureError):
        return None
    told = zip(error.rows, error.reasons, strict=False)  # only refusals have reasons
    kept = [(row - start, reason) for row, reason in told if start <= row < stop]
    return _refusal([row for row, _ in kept], [reason for _, reason in kept]) if kept else None


def _refusal(rows: Sequence[int], reasons: Sequence[str]) -> SignatureError:
    shown = zip(rows[:SHOWN], reasons, strict=False)
    problems = [f"row {row}: {reason}" for row, reason in shown]
    if len(rows) > SHOWN:
        problems.append(f"and {len(rows) - SHOWN:,} rows more")
    return SignatureError(
        "the model refuses these rows, as its source does:\n  " + "\n  ".join(problems),
        problems=tuple(problems),
        rows=tuple(rows),
        reasons=tuple(reasons),
    )
