"""The reports on units: on a stream so far, on the units of one call, and on several workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks
from modelkit.drift.cells import Feature
from modelkit.drift.encoding import to_cells
from modelkit.drift.feature_findings import feature_drift
from modelkit.drift.findings import SUSPECT, counts_at_alarm
from modelkit.drift.open_unit import Units
from modelkit.drift.performance import label_free, stream_performance
from modelkit.drift.profile import Profile
from modelkit.drift.ranks import tally
from modelkit.drift.report import DriftReport
from modelkit.drift.unit_effects import sides, unit_effects
from modelkit.drift.unit_permutation import CallUnits, UnitComparison, compare_units
from modelkit.drift.units import UnitRows, group_table, many, plural, shares_of, unit_name
from modelkit.drift.values import Alarm, DriftCheck, Effect, FeatureDrift
from modelkit.drift.watch import Watch
from modelkit.drift.where import segments_of
from modelkit.errors import UsageError

# A stream.


def of_stream(watch: Watch) -> DriftReport:
    """The evidence so far, and the last 8 units beside the reference."""
    profile = watch.profile
    units = watch.of_units()
    found: list[DriftCheck] = []
    for feature, totals in zip(profile.features, units.sequence.totals, strict=True):
        found += checks.unseen(feature, totals)
    return DriftReport(
        kind="stream",
        rows=watch.rows,
        reference_rows=profile.rows,
        alpha=watch.alpha,
        guarantee=watch.promise,
        assumptions=(*profile.assumptions(), *_said(units), *watch.chronicle.about_references()),
        alarms=watch.alarms,
        features=(*_stream_drifts(profile, units, watch.alarms), *_labels(watch)),
        checks=(*found, *_unit_checks(profile, units)),
        performance=stream_performance(watch),
        times=watch.chronicle.times,
        segments=segments_of(watch),
        acknowledged=watch.chronicle.acknowledged(),
    )


def _labels(watch: Watch) -> tuple[FeatureDrift, ...]:
    """The last labels beside those of the reference; they come without units, and are not judged."""
    target = watch.profile.target
    stream = watch.labels.target
    if target is None or stream is None:
        return ()
    recent = stream.recent(0, 0).sum(axis=0, dtype=np.int64)
    if not recent.any():
        return ()
    return (feature_drift(target.feature, None, target.counts, recent),)


def _stream_drifts(
    profile: Profile, units: Units, alarms: Sequence[Alarm]
) -> tuple[FeatureDrift, ...]:
    sequence = units.sequence
    recent = sequence.recent()
    p = sequence.p("changed").tolist()
    material = sequence.p("material").tolist()
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
        units.last_strata(len(recent)),
        p=p,
        material=material,
        began=began,
        alarms=alarms,
        judged=(sequence.totals - units.open_counts).sum(axis=1).tolist(),
    )


def _drifts(
    profile: Profile,
    units: Units,
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
            effects=_effects(feature, units, j, recent[:, j], strata),
        )
        found.append(drift)
    return tuple(found)


def _effects(
    feature: Feature, units: Units, j: int, recent: Array, strata: Sequence[int]
) -> tuple[Effect, ...]:
    own = sides(feature, units.reference, j, recent, strata)
    return () if own is None else unit_effects(*own, ordered=feature.ordered)


def _said(stream: Units) -> tuple[str, ...]:
    """How far a stream has come, in words."""
    last = f", the last {stream.trail[-1].name}" if stream.trail else ""
    said = [f"{many(stream.sequence.blocks, stream.unit)} judged{last}"]
    if stream.open_rows and stream.open_key is not None:
        name = unit_name(stream.unit, stream.open_key)
        said.append(f"{stream.open_rows:,} rows of {name} wait until it is complete")
    return tuple(said)


def _unit_checks(profile: Profile, stream: Units) -> tuple[DriftCheck, ...]:
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


def of_batch(
    watch: Watch,
    columns: Mapping[str, Array],
    answers: Mapping[str, Array],
    parts: Sequence[UnitRows],
) -> DriftReport:
    """An exact test of the units of a call against those of the reference, and plain checks.

    Raises UsageError for no rows, and for a unit of several strata.
    """
    profile = watch.profile
    cells, strata = to_cells(watch.profile, columns)
    if not len(cells):
        raise UsageError("there are no rows to test")
    in_order = sorted(parts, key=attrgetter("key"))  # the same as those of a Tally
    units = CallUnits.of(str(profile.unit), cells, strata, in_order)
    estimate = watch.label_free.of(answers)
    found: list[DriftCheck] = []
    for feature, totals in zip(profile.features, tally(cells), strict=True):
        found += checks.unseen(feature, totals)
    report = units_report(watch, units)
    return replace(
        report,
        rows=len(cells),
        checks=(*found, *report.checks),
        performance=label_free(watch, estimate, answers),
    )


def units_report(watch: Watch, units: CallUnits) -> DriftReport:
    """The exact test of some units against those of the reference."""
    profile = watch.profile
    table = group_table(profile.features)
    known = units.known()
    shares = np.array([shares_of(counts, table) for counts in known.counts], np.uint16)
    result = compare_units(
        watch.of_units().reference,
        shares.reshape(len(known.counts), len(profile.features), -1),
        known.strata,
        np.array([feature.weight > 0 for feature in profile.features]),
        alpha=watch.alpha,
        seed=watch.seed,
    )
    promise = _test_promise(profile, watch.alpha, len(known.counts))
    drifts = _drifts(
        profile,
        watch.of_units(),
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
        alpha=watch.alpha,
        guarantee=promise,
        assumptions=(*profile.assumptions(), *_test_limits(result, watch.alpha)),
        alarms=_test_alarms(watch, known, drifts, result, promise),
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
    watch: Watch,
    units: CallUnits,
    drifts: Sequence[FeatureDrift],
    result: UnitComparison,
    promise: str,
) -> tuple[Alarm, ...]:
    """The alarms of features with an adjusted p-value of at most alpha, the smallest first."""
    alarms = []
    for drift, p, score in zip(drifts, result.p, result.scores, strict=True):
        if p is None or p > watch.alpha:
            continue
        alarm = Alarm(
            kind="changed",
            feature=drift.feature,
            stratum=None,
            statistic=f"permutations of {plural(str(watch.profile.unit))}, by their {score}",
            p=p,
            level=watch.alpha,
            row=int(sum(units.rows)),
            began=None,
            effect=drift.effects[0] if drift.effects else None,
            guarantee=promise,
            assumptions=watch.profile.assumptions(),
            unit=units.name,
        )
        alarms.append(alarm)
    return tuple(sorted(alarms, key=lambda alarm: alarm.p))


# Several workers.


def of_workers(watches: Sequence[Watch]) -> DriftReport:
    """The open unit of all workers as one: their counts add up exactly, and it is tested as one.

    Raises UsageError where no worker has rows of an open unit, or they are at different ones.
    """
    first = watches[0]
    streams = [watch.of_units() for watch in watches]
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
        f"the counts of {len(watches)} workers for this {units.name} are added up exactly; units "
        "that a worker judged before were its own rows only, and are not merged"
    )
    return replace(report, assumptions=(*report.assumptions, said))
