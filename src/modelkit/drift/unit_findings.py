"""The reports on units: on a stream so far, on the units of one call, and on several workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks
from modelkit.drift.counts import count_by
from modelkit.drift.feature_findings import feature_drift
from modelkit.drift.findings import SUSPECT, counts_at_alarm
from modelkit.drift.layout import Rows
from modelkit.drift.performance import label_free, stream_performance
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.tracker import Tracker
from modelkit.drift.unit_permutation import CallUnits, UnitComparison, compare_units
from modelkit.drift.unit_stream import UnitStream
from modelkit.drift.unit_watch import UnitWatch
from modelkit.drift.units import group_table, many, plural, shares_of, unit_name
from modelkit.drift.values import Alarm, DriftCheck, FeatureDrift
from modelkit.drift.where import segments_of
from modelkit.errors import UsageError

# A stream.


def of_stream(tracker: Tracker) -> DriftReport:
    """The evidence so far, and the last 8 units beside the reference."""
    profile = tracker.profile
    units = tracker.of_units()
    stream = units.stream
    found: list[DriftCheck] = []
    for feature, totals in zip(profile.features, stream.totals, strict=True):
        found += checks.unseen(feature, totals)
    return DriftReport(
        kind="stream",
        rows=tracker.rows,
        reference_rows=profile.rows,
        alpha=tracker.alpha,
        guarantee=tracker.promise,
        assumptions=(*profile.assumptions(), *_said(stream), *tracker.about_references()),
        alarms=tracker.alarms,
        features=(*_stream_drifts(profile, units, tracker.alarms), *_labels(tracker)),
        checks=(*found, *_unit_checks(profile, stream)),
        performance=stream_performance(tracker),
        times=tracker.times,
        segments=segments_of(tracker),
        acknowledged=tracker.notes.of_reference(),
    )


def _labels(tracker: Tracker) -> tuple[FeatureDrift, ...]:
    """The last labels beside those of the reference; they come without units, and are not judged."""
    target = tracker.profile.target
    stream = tracker.labels.target
    if target is None or stream is None:
        return ()
    recent = stream.recent()[0]
    if not recent.any():
        return ()
    return (feature_drift(target.feature, None, target.counts, recent),)


def _stream_drifts(
    profile: Profile, units: UnitWatch, alarms: Sequence[Alarm]
) -> tuple[FeatureDrift, ...]:
    stream = units.stream
    recent, strata = stream.recent()
    tests = stream.evidence.tests
    p = tests["changed"].feature_p().tolist()
    material = tests["material"].feature_p().tolist()
    began: list[int | None] = []
    for value, other, unit in zip(p, material, units.began(), strict=True):
        if unit is None or min(value, other) >= SUSPECT:
            began.append(None)
        else:
            began.append(unit.before)
    return _drifts(
        profile,
        units,
        recent,
        strata,
        p=p,
        material=material,
        began=began,
        alarms=alarms,
        judged=(stream.totals - stream.open_counts).sum(axis=1).tolist(),
    )


def _drifts(
    profile: Profile,
    units: UnitWatch,
    recent: Array,
    strata: Sequence[int],
    *,
    p: Sequence[float | None],
    material: Sequence[float] | None = None,
    began: Sequence[int | None],
    alarms: Sequence[Alarm] = (),
    judged: Sequence[int] | None = None,
) -> tuple[FeatureDrift, ...]:
    """The findings on each feature.

    Args:
        profile: the past.
        units: what is known of units.
        recent: counts (units, d, 67) of the last units.
        strata: the numbers of their strata.
        p: the p-value of each feature.
        material: that of a change beyond the tolerance; None where it was not tested.
        began: the estimated number of rows before the change of each, None where none is likely.
        alarms: those raised so far, whose rows are shown beside the recent ones.
        judged: the rows of all units that the p-value of each rests on; None where these are the
            recent ones.
    """
    reference = profile.counts.sum(axis=0)
    counts = recent.sum(axis=0) if len(recent) else np.zeros_like(reference)
    alarmed = counts_at_alarm(alarms)
    found = []
    for j, feature in enumerate(profile.features):
        drift = feature_drift(
            feature,
            None,
            reference[j],
            counts[j],
            changed=p[j],
            material=None if material is None else material[j],
            began=began[j],
            compared=None if judged is None else judged[j],
            alarmed=alarmed.get((None, feature.name)),
            effects=units.effects(j, recent[:, j], strata),
        )
        found.append(drift)
    return tuple(found)


def _said(stream: UnitStream) -> tuple[str, ...]:
    """How far a stream has come, in words."""
    last = f", the last {stream.trail[-1].name}" if stream.trail else ""
    said = [f"{many(stream.evidence.judged, stream.unit)} judged{last}"]
    if stream.open_rows and stream.open_key is not None:
        name = unit_name(stream.unit, stream.open_key)
        said.append(f"{stream.open_rows:,} rows of {name} wait until it is complete")
    return tuple(said)


def _unit_checks(profile: Profile, stream: UnitStream) -> tuple[DriftCheck, ...]:
    """Rows that could not be compared."""
    found = []
    if stream.late:
        rows = (
            f"{stream.late:,} rows came after the unit that they belong to was judged; they were "
            "not compared"
        )
        found.append(DriftCheck("late rows", str(profile.time or profile.unit), rows, "none"))
    if stream.partial:
        rows = (
            f"{stream.partial:,} rows are of the {stream.unit} in which watching began, which is not "
            "whole; they were not compared"
        )
        found.append(DriftCheck("unit not whole", str(profile.time), rows, "whole units"))
    if stream.uncompared:
        found.append(_unseen_stratum(profile, stream.uncompared, stream.strange))
    return tuple(found)


def _unseen_stratum(profile: Profile, units: int, rows: int) -> DriftCheck:
    found = (
        f"{many(units, str(profile.unit))} ({rows:,} rows) of a stratum that the reference does not "
        "have; they were not compared"
    )
    return DriftCheck("unseen stratum", str(profile.stratum), found, "none")


# The units of one call.


def of_batch(tracker: Tracker, rows: Rows) -> DriftReport:
    """An exact test of the units of a call against those of the reference, and plain checks.

    Raises UsageError for no rows, and for a unit of several strata.
    """
    profile = tracker.profile
    if rows.units is None or not len(rows):
        raise UsageError("there are no rows to test")
    in_order = sorted(rows.units, key=attrgetter("key"))  # the same as those of a Tally
    units = CallUnits.of(str(profile.unit), rows.cells, rows.strata, in_order)
    estimate = tracker.label_free.of(rows.answers)
    found: list[DriftCheck] = []
    for feature, totals in zip(profile.features, count_by(rows.cells)[0], strict=True):
        found += checks.unseen(feature, totals)
    report = units_report(tracker, units)
    return replace(
        report,
        rows=len(rows),
        checks=(*found, *report.checks),
        performance=label_free(tracker, estimate, rows.answers),
    )


def units_report(tracker: Tracker, units: CallUnits) -> DriftReport:
    """The exact test of some units against those of the reference."""
    profile = tracker.profile
    table = group_table(profile.features)
    known = units.known()
    shares = np.array([shares_of(counts, table) for counts in known.counts], np.uint16)
    result = compare_units(
        tracker.of_units().reference,
        shares.reshape(len(known.counts), len(profile.features), -1),
        known.strata,
        np.array([feature.weight > 0 for feature in profile.features]),
        alpha=tracker.alpha,
        seed=tracker.seed,
    )
    promise = _test_promise(profile, tracker.alpha, len(known.counts))
    drifts = _drifts(
        profile,
        tracker.of_units(),
        known.counts,
        known.strata,
        p=result.p,
        began=[None] * len(profile.features),
    )
    rows = int(sum(units.rows))
    strange = len(units.counts) - len(known.counts)
    lost = int(sum(units.rows) - sum(known.rows))
    return DriftReport(
        kind="batch",
        rows=rows,
        reference_rows=profile.rows,
        alpha=tracker.alpha,
        guarantee=promise,
        assumptions=(*profile.assumptions(), *_test_limits(result, tracker.alpha)),
        alarms=_test_alarms(tracker, known, drifts, result, promise),
        features=drifts,
        checks=(_unseen_stratum(profile, strange, lost),) if strange else (),
        performance=None,
    )


def _test_promise(profile: Profile, alpha: float, n: int) -> str:
    unit = str(profile.unit)
    return (
        f"if {many(n, unit)} and the {plural(unit)} of the reference are exchangeable, any alarm is "
        f"raised with a probability of at most {alpha:g}; exact, for this one call"
    )


def _test_limits(result: UnitComparison, alpha: float) -> tuple[str, ...]:
    """What a test of so few units cannot find, in words."""
    if result.least <= alpha:
        return ()
    said = (
        f"with so few units no p-value is below {result.least:.2g}, so that no alarm is possible at "
        f"alpha {alpha:g}: show more units at once, or raise alpha"
    )
    return (said,)


def _test_alarms(
    tracker: Tracker,
    units: CallUnits,
    drifts: Sequence[FeatureDrift],
    result: UnitComparison,
    promise: str,
) -> tuple[Alarm, ...]:
    """The alarms of features with an adjusted p-value of at most alpha, the smallest first."""
    alarms = []
    for drift, p, score in zip(drifts, result.p, result.scores, strict=True):
        if p is None or p > tracker.alpha:
            continue
        alarm = Alarm(
            kind="changed",
            feature=drift.feature,
            stratum=None,
            statistic=f"permutations of {plural(str(tracker.profile.unit))}, by their {score}",
            p=p,
            level=tracker.alpha,
            row=int(sum(units.rows)),
            began=None,
            effect=drift.effects[0] if drift.effects else None,
            guarantee=promise,
            assumptions=tracker.profile.assumptions(),
            unit=units.name,
        )
        alarms.append(alarm)
    return tuple(sorted(alarms, key=lambda alarm: alarm.p))


# Several workers.


def of_workers(trackers: Sequence[Tracker]) -> DriftReport:
    """The open unit of all workers as one: their counts add up exactly, and it is tested as one.

    Raises UsageError where no worker has rows of an open unit, or they are at different ones.
    """
    first = trackers[0]
    streams = [tracker.of_units().stream for tracker in trackers]
    having = [stream for stream in streams if stream.open_rows]
    keys = {stream.open_key for stream in having}
    strata = {stream.open_stratum for stream in having}
    if len(keys) != 1 or len(strata) != 1 or None in keys:
        names = sorted(unit_name(s.unit, s.open_key) for s in having if s.open_key is not None)
        raise UsageError(
            "workers are merged while all are at the same unit, whose counts then add up; they are "
            f"at {names or 'none'}"
        )
    stream = having[0]
    units = CallUnits(
        [unit_name(stream.unit, key) for key in keys if key is not None],
        np.sum([own.open_counts for own in having], axis=0)[None],
        [*strata],
        [sum(own.open_rows for own in having)],
    )
    report = units_report(first, units)
    said = (
        f"the counts of {len(trackers)} workers for this {units.name} are added up exactly; units "
        "that a worker judged before were its own rows only, and are not merged"
    )
    return replace(report, assumptions=(*report.assumptions, said))
