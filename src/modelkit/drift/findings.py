"""The reports: counts of rows beside those of the reference, with p-values, whatever rows they are.

A stream so far, one set of rows, the sum of several workers and a span of the past differ in where
their counts and p-values come from. From there on a report is made in one way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks, effects
from modelkit.drift.alarms import counts_in
from modelkit.drift.cells import CELLS, GONE, Feature
from modelkit.drift.effects import UnitSides
from modelkit.drift.notes import Acknowledgement, united
from modelkit.drift.open_unit import Units
from modelkit.drift.performance import stream_performance
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.segments import Latest, latest_of, segment_drifts
from modelkit.drift.sequence import Crossing, Sequence, anytime_p
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import many, unit_name
from modelkit.drift.values import Alarm, DriftCheck, Effect, FeatureDrift, Performance
from modelkit.stats.evidence import Guarantee

NO_COUNTS = (0,) * CELLS
SUSPECT = 0.05  # the p-value below which a report says when a change may have begun


@final
@dataclass(frozen=True)
class Compared:
    """The rows of one stratum beside the reference, for d features.

    `reference` and `counts` are (d, 67), `changed` and `material` the p-values of each feature, and
    `began` the row at which its best bet began; empty where there are none. `values` is how many of
    each the p-values rest on, where these are not the counts, and `at_alarm` the counts (67,) of
    the last alarm of a feature by its name. `effects` gives the effect sizes of a feature by its
    number, where units are what varies and not rows.
    """

    stratum: str | None
    features: Many[Feature]
    reference: Array
    counts: Array
    changed: Many[float | None] = ()
    material: Many[float | None] = ()
    began: Many[int | None] = ()
    values: Many[int] = ()
    at_alarm: Mapping[str, Many[int]] = field(default_factory=dict)
    effects: Callable[[int], tuple[Effect, ...]] | None = None

    def drifts(self) -> list[FeatureDrift]:
        """The findings on each feature."""
        return [self._drift(j, feature) for j, feature in enumerate(self.features)]

    def _drift(self, j: int, feature: Feature) -> FeatureDrift:
        reference, counts = self.reference[j], self.counts[j]
        before, now = _shares(reference), _shares(counts)
        then = _shares(np.array(self.at_alarm.get(feature.name, NO_COUNTS)))
        labels = feature.labels()
        shown = _shown_cells(labels, before + now + then)
        changed, material = (p[j] if p else None for p in (self.changed, self.material))
        rows = int(counts.sum())
        return FeatureDrift(
            feature=feature.name,
            kind=feature.kind,
            stratum=self.stratum,
            rows=rows,
            p_changed=changed,
            p_material=material,
            effects=self._effects(j, feature),
            missing=(float(before[GONE]), float(now[GONE])),
            weight=feature.weight,
            began=self._began(j, changed, material),
            cells=tuple((labels[i], float(before[i]), float(now[i])) for i in shown),
            bins=feature.bins(reference, counts),
            reference_rows=int(reference.sum()),
            compared=self.values[j] if self.values else rows,
            at_alarm=tuple(then[shown].tolist()) if then.any() else (),
        )

    def _began(self, j: int, *p: float | None) -> int | None:
        suspect = any(each is not None and each < SUSPECT for each in p)
        return self.began[j] if suspect and self.began else None

    def _effects(self, j: int, feature: Feature) -> tuple[Effect, ...]:
        if self.effects is not None:
            return self.effects(j)
        return effects.row_effects(self.counts[j], self.reference[j], ordered=feature.ordered)


def _shares(counts: Array) -> Array:
    shares: Array = counts / max(counts.sum(), 1)
    return shares


def _shown_cells(labels: Many[str], shares: Array) -> list[int]:
    """The cells that any rows are in, and empty ones between edges."""
    return [
        i
        for i, (label, share) in enumerate(zip(labels, shares.tolist(), strict=True))
        if share or (label and label[0] not in "-+(")
    ]


@final
@dataclass(frozen=True)
class Findings:
    """All that a report is made of, as copies: it may be made while more rows come in.

    `limits` are said beside the assumptions of the profile, `latest` are features in segments, and
    the other fields are those of a DriftReport.
    """

    profile: Profile
    alpha: float
    kind: Literal["stream", "batch", "span"]
    rows: int
    guarantee: str
    sides: Many[Compared]
    alarms: tuple[Alarm, ...] = ()
    limits: Many[str] = ()
    checks: Many[DriftCheck] = ()
    performance: Performance | None = None
    skipped: int = 0
    times: tuple[float, float] | None = None
    latest: Many[Latest] = ()
    acknowledged: tuple[Acknowledgement, ...] = ()

    @cached_property
    def features(self) -> tuple[FeatureDrift, ...]:
        """The findings on each feature in each stratum."""
        return tuple(drift for side in self.sides for drift in side.drifts())

    def report(self) -> DriftReport:
        """The report, with effect sizes and the tests of segments."""
        return DriftReport(
            kind=self.kind,
            rows=self.rows,
            reference_rows=self.profile.rows,
            alpha=self.alpha,
            guarantee=self.guarantee,
            assumptions=(*self.profile.assumptions(), *self.limits),
            alarms=self.alarms,
            features=self.features,
            checks=tuple(self.checks),
            performance=self.performance,
            skipped=self.skipped,
            times=self.times,
            segments=segment_drifts(self.profile.features, self.profile.segments, self.latest),
            acknowledged=self.acknowledged,
        )


# A stream.


def of_stream(tracker: Tracker) -> Findings:
    """The evidence so far, and the last 1,024 rows of each stratum or the last 8 units."""
    found = _of_rows(tracker) if tracker.units is None else _of_units(tracker, tracker.units)
    return replace(
        found,
        alarms=tracker.alarms,
        performance=stream_performance(tracker),
        times=tracker.times,
        latest=latest_of(
            tracker.profile.features, tracker.segmented, tracker.alarms, tracker.counted
        ),
        acknowledged=tracker.notes.of_reference(),
    )


def _of_rows(tracker: Tracker) -> Findings:
    profile = tracker.profile
    sides = []
    found: list[DriftCheck] = []
    for s, (name, stream) in enumerate(tracker.streams()):
        sides.append(_stream_side(tracker, name, stream, profile.features, profile.counts[s]))
        found += checks.unseen(profile.features, stream.totals)
    if tracker.together is not None:
        counts = counts_in(profile, None)
        sides.append(_stream_side(tracker, None, tracker.together, profile.features, counts))
    labels = profile.target
    if tracker.labels.target is not None and labels is not None:
        reference = labels.counts[None]
        sides.append(
            _stream_side(tracker, None, tracker.labels.target, [labels.feature], reference)
        )
    skipped = sum(stream.left_out for _, stream in tracker.streams())
    found += checks.strangers(tracker.strangers, tracker.rows, profile.stratum)
    limits = list(tracker.about_references())
    if skipped:
        limits.append(
            f"a Monitor: of {tracker.rows + skipped:,} rows, {tracker.rows:,} were looked at, as many as "
            "its budget allows and 64 of each larger call, for alarms, p-values and the recent "
            "rows; checks and the history are of all rows"
        )
    return Findings(
        profile,
        tracker.alpha,
        "stream",
        tracker.rows,
        tracker.terms.promise,
        sides,
        limits=limits,
        checks=found,
        skipped=skipped,
    )


def _stream_side(
    tracker: Tracker, name: str | None, stream: Sequence, features: Many[Feature], reference: Array
) -> Compared:
    side = Compared(name, features, reference, _counted(stream))
    began = stream.began("changed").tolist() if stream.members or stream.blocks else ()
    return _judged(side, stream, began, stream.values, tracker.alarms)


def _judged(
    side: Compared, sequence: Sequence, began: Many[int | None], values: Array, alarms: Many[Alarm]
) -> Compared:
    """A side with the evidence of a sequence, which rests on so many values of each feature."""
    counted = [alarm for alarm in alarms if alarm.counts and alarm.stratum == side.stratum]
    return replace(
        side,
        changed=sequence.p("changed").tolist(),
        material=sequence.p("material").tolist() if "material" in sequence.bettors else (),
        began=began,
        values=values.tolist(),
        at_alarm={alarm.feature: alarm.counts for alarm in counted},
    )


def _counted(stream: Sequence) -> Array:
    """The counts (d, 67) of the last 1,024 rows."""
    counts: Array = stream.recent().sum(axis=0, dtype=np.int64)
    return counts


def _of_units(tracker: Tracker, units: Units) -> Findings:
    profile = tracker.profile
    sequence = units.sequence
    recent = sequence.recent()
    side = _judged(
        units_side(profile, recent, units.last_strata(len(recent))),
        sequence,
        [None if unit is None else unit.before for unit in units.began()],
        (sequence.totals - units.open_counts).sum(axis=1),
        tracker.alarms,
    )
    found = [
        *checks.unseen(profile.features, sequence.totals),
        *checks.units_left_out(profile, units),
    ]
    return Findings(
        profile,
        tracker.alpha,
        "stream",
        tracker.rows,
        tracker.terms.promise,
        [side, *_labels_side(tracker)],
        limits=[*_progress(units), *tracker.about_references()],
        checks=found,
    )


def units_side(profile: Profile, counts: Array, strata: Many[int]) -> Compared:
    """Units with counts (units, d, 67) beside those of the reference."""
    units = profile.units
    reference = profile.counts.sum(axis=0)

    def effects(j: int) -> tuple[Effect, ...]:
        feature = profile.features[j]
        sides = None if units is None else UnitSides.of(units, feature, j, counts[:, j], strata)
        return () if sides is None else sides.effects()

    recent = counts.sum(axis=0) if len(counts) else np.zeros_like(reference)
    return Compared(None, profile.features, reference, recent, effects=effects)


def _labels_side(tracker: Tracker) -> list[Compared]:
    """The last labels beside those of the reference; they come without units, and are not judged."""
    labels = tracker.profile.target
    stream = tracker.labels.target
    if labels is None or stream is None:
        return []
    counts = _counted(stream)
    return [Compared(None, [labels.feature], labels.counts[None], counts)] if counts.any() else []


def _progress(stream: Units) -> list[str]:
    """How far a stream has come, in words."""
    last = f", the last {stream.trail[-1].name}" if stream.trail else ""
    said = [f"{many(stream.sequence.blocks, stream.unit)} judged{last}"]
    if stream.open_rows and stream.open_key is not None:
        name = unit_name(stream.unit, stream.open_key)
        said.append(f"{stream.open_rows:,} rows of {name} wait until it is complete")
    return said


# Several workers.


def of_workers(trackers: Many[Tracker]) -> DriftReport:
    """The sum of several workers' counts, with the mean of their evidence for material changes."""
    first = trackers[0]
    profile = first.profile
    rows = sum(tracker.rows for tracker in trackers)
    sides = []
    alarms: list[Alarm] = []
    found: list[DriftCheck] = []
    for s, (name, _) in enumerate(first.streams()):
        streams = [tracker.streams()[s][1] for tracker in trackers]
        p, enough = _mean_evidence(streams, first.guarantee)
        recent = _summed([_counted(stream) for stream in streams])
        sides.append(Compared(name, profile.features, profile.counts[s], recent, material=p))
        levels = streams[0].bettors["material"].levels
        crossed = [
            Crossing("material", j, p[j], rows, None, recent[j][None], float(levels[j]))
            for j in enough
        ]
        alarms += [first.alarm(s, crossing) for crossing in crossed]
        found += checks.unseen(profile.features, _summed([own.totals for own in streams]))
    strange = sum(tracker.strangers for tracker in trackers)
    return Findings(
        profile,
        first.alpha,
        "stream",
        rows,
        f"of the mean of {len(trackers)} workers' evidence, read once: {first.terms.promise}",
        sides,
        alarms=tuple(alarms),
        limits=["changed, performance and labels need one sequence, and are not merged"],
        checks=[*found, *checks.strangers(strange, rows, profile.stratum)],
        acknowledged=united([tracker.notes for tracker in trackers]),
    ).report()


def _mean_evidence(streams: Many[Sequence], guarantee: Guarantee) -> tuple[list[float], list[int]]:
    """The p-value of each feature by several streams, and the numbers of those with an alarm."""
    wealth = np.mean([stream.material_wealth() for stream in streams], axis=0)
    staked = float(np.mean([stream.staked(guarantee) for stream in streams]))
    enough = np.flatnonzero(streams[0].bettors["material"].enough(wealth))
    return anytime_p(wealth, staked).tolist(), enough.tolist()


def _summed(counts: Many[Array]) -> Array:
    total: Array = np.sum(counts, axis=0)
    return total
