"""The rows of one call: their columns, and their times, strata and units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelkit._internal.arrays import Array
from modelkit.drift.fitted import Fitted
from modelkit.drift.outputs import known_outputs, name_outputs, output_columns
from modelkit.drift.row_times import given_seconds, row_seconds
from modelkit.drift.units import UnitRows, cycle_names, needed_times, of_call
from modelkit.drift.vectors import expand
from modelkit.errors import UsageError


@dataclass(frozen=True)
class CallMarks:
    """The rows of a call.

    `columns` are theirs, with the stratum where times tell it; `seconds` is when each was, float64
    (n,), or None where nothing says it; `parts` are the rows of each unit, None without units.
    """

    columns: dict[str, Array]
    seconds: Array | None
    parts: list[UnitRows] | None


def marks_of(profile: Fitted, columns: dict[str, Array], at: Any) -> CallMarks:
    """The marks of rows with these columns, where `at` is when they were, or None.

    Raises UsageError for times that are not readable, given twice, or needed and absent.
    """
    n = max(map(len, columns.values()), default=0)
    seconds = _seconds(profile, columns, at, n)
    if profile.timed_stratum and profile.stratum is not None:
        times = needed_times(seconds, profile.stratum)
        columns = columns | {profile.stratum: cycle_names(times, profile.stratum)}
    parts = None
    if profile.unit is not None:
        parts = of_call(profile.unit, columns.get(profile.unit), seconds, n)
    return CallMarks(columns, seconds, parts)


def _seconds(profile: Fitted, columns: dict[str, Array], at: Any, n: int) -> Array | None:
    time = profile.time
    if time is not None and time in columns:
        if at is not None:
            raise UsageError(f"the rows have their times in column {time!r}; leave out at=")
        return row_seconds(columns[time], time)
    return None if at is None else given_seconds(at, n)


def call_columns(profile: Fitted, X: Any, scores: Any) -> dict[str, Array]:
    """The columns of a call by feature name, (n,) each. Raises UsageError for those that do not fit."""
    if X is None and scores is None:
        raise UsageError("there are neither rows nor scores")
    columns = {} if X is None else profile.columns(X)
    if scores is not None:
        known = profile.outputs()
        found = known_outputs(output_columns(call_answers(profile, scores)), known)
        odd = sorted(set(found) - known)
        if odd:
            raise UsageError(f"the profile has no scores {odd}; it has {sorted(known)}")
        columns |= expand(found, profile.bases)
    return columns


def call_answers(profile: Fitted, scores: Any) -> dict[str, Array]:
    """The model's answers of a call by output; none without scores."""
    if scores is None:
        return {}
    return name_outputs(scores, profile.outputs(), profile.class_names)
