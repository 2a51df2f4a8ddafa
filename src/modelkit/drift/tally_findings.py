"""The report on a Tally: the same exact tests as on its rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks
from modelkit.drift.counts import STRANGE, Tally
from modelkit.drift.findings import batch_report
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.tracker import Tracker
from modelkit.drift.unit_findings import units_report
from modelkit.drift.unit_permutation import CallUnits
from modelkit.drift.units import BATCH_UNIT, unit_name
from modelkit.drift.values import DriftCheck
from modelkit.errors import UsageError

FROM_COUNTS = (
    "from counts alone: the names of unseen categories, duplicate rows and the performance without "
    "labels are not known"
)


def refuse_tally(rows: object) -> None:
    """Raise UsageError for a Tally where rows are watched one after the other."""
    if isinstance(rows, Tally):
        raise UsageError(
            "a Tally has counts and no rows that could be watched one after the other: "
            "Detector.test(tally) compares it as one batch; for a stream, give each worker a "
            "Detector and merge their states"
        )


def of_tally(tracker: Tracker, tally: Tally) -> DriftReport:
    """Exact tests of the counts of some rows, as they would be of the rows.

    Raises UsageError for no rows, a tally of another profile, and a unit of several strata.
    """
    profile = tracker.profile
    if tally.profile != profile.digest:
        raise UsageError("this is a tally of another profile; the counts would not mean the same")
    if not tally.groups:
        raise UsageError("there are no rows to test")
    _check_fits(profile, tally)
    found: list[DriftCheck] = []
    for feature, counts in zip(profile.features, tally.counts.sum(axis=0), strict=True):
        found += checks.unseen(feature, counts)
    if profile.units is not None:
        report = units_report(tracker, _call_units(profile, tally))
    else:
        counts = _stratum_counts(profile, tally)
        report = batch_report(tracker, counts, tally.rows, tally.strangers)
        found += checks.count_checks(
            profile, np.flatnonzero(tally.counted).tolist(), counts.sum(axis=0), tracker.alpha
        )
    return replace(
        report,
        rows=tally.rows,
        assumptions=(*report.assumptions, FROM_COUNTS),
        checks=(*found, *report.checks),
    )


def _check_fits(profile: Profile, tally: Tally) -> None:
    """Raise UsageError for counts that no rows give, as in bytes that something else wrote."""
    strata, features, _ = profile.counts.shape
    known = all(stratum < strata for _, stratum in tally.groups)
    keyed = {key is not None for key, _ in tally.groups}
    has_keys = profile.unit not in (None, BATCH_UNIT)
    if not known or keyed != {has_keys} or tally.counts.shape[1] != features:
        raise UsageError("the tally has other strata, units or features than its profile")
    rows = tally.counts.sum(axis=2)
    of_group = tally.group_rows[:, None]
    if not ((rows == of_group) | (rows == 0)).all() or not of_group.all():
        raise UsageError("the features of the tally were counted over different numbers of rows")


def _stratum_counts(profile: Profile, tally: Tally) -> Array:
    """Counts (strata, d, 67), without those of strange strata."""
    counts = np.zeros_like(profile.counts)
    for (_, stratum), own in zip(tally.groups, tally.counts, strict=True):
        if stratum != STRANGE:
            counts[stratum] = own
    return counts


def _call_units(profile: Profile, tally: Tally) -> CallUnits:
    """The units of a tally. Raises UsageError for a unit of several strata."""
    unit = str(profile.unit)
    names = [unit_name(unit, 1 if key is None else key) for key, _ in tally.groups]
    twice, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise UsageError(f"{twice} has rows of several strata; all its rows are of one")
    return CallUnits(
        names, tally.counts, [stratum for _, stratum in tally.groups], tally.group_rows.tolist()
    )
