"""Two references that were counted in the same cells, as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelkit.errors import UsageError


def joined_references(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a profile that change when another reference is added to its own.

    Raises UsageError where the counts of the two are not of the same things.
    """
    if mine["epsilon"] is not None:
        raise UsageError(
            "private counts do not merge: their noise would add up; fit one profile on all rows"
        )
    compared = "features", "strata", "stratum", "epsilon", "ordered", "unit", "time", "class_names"
    for what in compared:
        if mine[what] != theirs[what]:
            raise UsageError(
                f"the profiles differ in their {what}; fit both with the same X, seed and arguments"
            )
    if len(mine["segments"]) != len(theirs["segments"]):
        raise UsageError("the profiles differ in their segments; fit both with the same arguments")
    bases = mine["bases"]
    same = all(basis.same(theirs["bases"][name]) for name, basis in bases.items())
    baseline = mine["baseline"]
    if not same or (baseline is None) != (theirs["baseline"] is None):
        raise UsageError(
            "the profiles differ in their embeddings or labels; fit both with the same X and seed"
        )
    if mine["calibration"] is not None or theirs["calibration"] is not None:
        raise UsageError(
            "calibrations do not merge: fit the profile once on all labelled rows, or pass losses="
        )
    segments = zip(mine["segments"], theirs["segments"], strict=True)
    target = mine["target"]
    units = mine["units"]
    return {
        "counts": mine["counts"] + theirs["counts"],
        "rows": mine["rows"] + theirs["rows"],
        "duplicates": mine["duplicates"] + theirs["duplicates"],
        "baseline": None if baseline is None else baseline.joined(theirs["baseline"]),
        "units": None if units is None else units.joined(theirs["units"]),
        "advice": "",  # which was about the units of one of them
        "target": None if target is None else target.joined(theirs["target"]),
        "segments": tuple(own.joined(other) for own, other in segments),
    }
