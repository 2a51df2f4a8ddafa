"""The reports on streams: counts of rows beside the reference's, with p-values.

A stream so far, the sum of several workers, one set of rows and a span of the past (the last two in
`batch`) differ in where their counts and p-values come from. From there on a report is made in one
way: rows beside the reference are a `Compared`, and `Compared.drifts` are its findings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from functools import reduce
from math import nan
from operator import add
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks
from modelkit.drift.alarms import united
from modelkit.drift.cells import GONE, Feature
from modelkit.drift.effects import row_effects, unit_effects
from modelkit.drift.labelfree import Estimate
from modelkit.drift.losses import Losses
from modelkit.drift.open_unit import Units
from modelkit.drift.outputs import scores_of
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.segments import latest_of, segment_drifts
from modelkit.drift.sequence import Crossing, Sequence, anytime_p
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import count_of, many, unit_name
from modelkit.drift.values import DriftCheck, Effect, FeatureDrift, Performance
from modelkit.stats.evidence import Guarantee
from modelkit.stats.ranks import expected_area

OUTSIDE = 0.05  # of the recent rows; where more are, label-free estimates are unreliable
NOT_MERGED = "changed, performance and labels need one sequence, and are not merged"


@final
@dataclass(frozen=True)
class Compared:
    """The rows of one stratum beside the reference, for d features; copies, but for the reference.

    `reference` and `counts` are (d, 67), `changed` and `material` the p-values of each feature,
    empty where there are none. `values` is how many of each the p-values rest on, where these are
    not the counts. `effects` gives the effect sizes of a feature by its number, where units are
    what varies and not rows.
    """

    stratum: str | None
    features: Many[Feature]
    reference: Array
    counts: Array
    changed: Many[float | None] = ()
    material: Many[float | None] = ()
    values: Many[int] = ()
    effects: Callable[[int], tuple[Effect, ...]] | None = None

    def drifts(self) -> tuple[FeatureDrift, ...]:
        """The findings on each feature."""
        return tuple(self._drift(j, feature) for j, feature in enumerate(self.features))

    def _drift(self, j: int, feature: Feature) -> FeatureDrift:
        reference, counts = self.reference[j], self.counts[j]
        rows, reference_rows = int(counts.sum()), int(reference.sum())
        before = (reference / max(reference_rows, 1)).tolist()
        now = (counts / max(rows, 1)).tolist()
        cells = zip(feature.labels(), before, now, strict=True)
        return FeatureDrift(
            feature=feature.name,
            kind=feature.kind,
            stratum=self.stratum,
            rows=rows,
            p_changed=self.changed[j] if self.changed else None,
            p_material=self.material[j] if self.material else None,
            effects=self._effects(j, feature),
            missing=(before[GONE], now[GONE]),
            weight=feature.weight,
            cells=tuple(cell for cell in cells if _is_shown(*cell)),
            bins=feature.bins(reference, counts),
            reference_rows=reference_rows,
            compared=self.values[j] if self.values else rows,
        )

    def _effects(self, j: int, feature: Feature) -> tuple[Effect, ...]:
        if self.effects is not None:
            return self.effects(j)
        return row_effects(self.counts[j], self.reference[j], ordered=feature.ordered)


def _is_shown(label: str, before: float, now: float) -> bool:
    """Whether any rows are in a cell, or it is between edges, or a category."""
    return before > 0 or now > 0 or (label != "" and label[0] not in "-+(")


def all_drifts(sides: Many[Compared]) -> tuple[FeatureDrift, ...]:
    """The findings on each feature of each side."""
    return tuple(drift for side in sides for drift in side.drifts())


def strata_beside(
    profile: Profile, counts: Array, p: Many[Many[float | None]] = ()
) -> list[Compared]:
    """Each stratum with counts (strata, d, 67), and with p-values where there are some."""
    names = [None] if profile.stratum is None else profile.strata
    return [
        Compared(name, profile.features, profile.counts[s], counts[s], p[s] if p else ())
        for s, name in enumerate(names)
    ]


# A stream.

Seen = tuple[
    list[Compared], list[DriftCheck], list[str]
]  # the sides, checks and limits of a stream


def of_stream(tracker: Tracker) -> DriftReport:
    """The evidence so far, and the last 1,024 rows of each stratum or the last 8 units.

    What is known is copied under the lock; effect sizes and segments take longer, and come after.
    """
    with tracker.lock:
        profile = tracker.profile
        sides, found, limits = _of_rows(tracker) if tracker.units is None else _of_units(tracker)
        alarms = tracker.alarms
        latest = []
        if tracker.segmented.by:
            latest = latest_of(profile.features, tracker.segmented, alarms, tracker.counted)
        estimate = reduce(add, tracker.label_free) if tracker.label_free else None
        report = DriftReport(
            kind="stream",
            rows=tracker.rows,
            reference_rows=profile.rows,
            alpha=tracker.alpha,
            guarantee=tracker.terms.promise,
            assumptions=(*profile.assumptions(), *limits),
            alarms=alarms,
            features=(),
            checks=tuple(found),
            performance=performance_of(profile, estimate, {}, tracker.labels.losses),
            skipped=_skipped(tracker),
            times=tracker.times,
            acknowledged=tracker.notes.of_reference(),
        )
    report = replace(report, features=all_drifts(sides))
    if not latest:
        return report
    return replace(report, segments=segment_drifts(profile.features, profile.segments, latest))


def _of_rows(tracker: Tracker) -> Seen:
    profile = tracker.profile
    sides = []
    found = []
    for s, (name, stream) in enumerate(tracker.streams()):
        sides.append(_of_sequence(name, stream, profile.features, profile.counts[s]))
        found += checks.unseen(profile.features, stream.totals)
    if tracker.together is not None:
        counts = profile.counts.sum(axis=0)
        sides.append(_of_sequence(None, tracker.together, profile.features, counts))
    labels, target = profile.target, tracker.labels.target
    if labels is not None and target is not None:
        sides.append(_of_sequence(None, target, [labels.feature], labels.counts[None]))
    found += checks.strange_rows(profile, tracker.strangers, tracker.rows)
    limits = [*tracker.notes.about_references(tracker.alpha)]
    skipped = _skipped(tracker)
    if skipped:
        limits.append(
            f"the Monitor compared {tracker.rows:,} of {tracker.rows + skipped:,} rows: as many as its "
            "budget allows, and 64 of each larger call. Alarms, p-values and recent rows come from "
            "these; checks and the history count all rows"
        )
    return sides, found, limits


def _skipped(tracker: Tracker) -> int:
    """The number of rows that a row budget left out."""
    streams = tracker.streams() if tracker.units is None else []
    return sum(stream.left_out for _, stream in streams)


def _of_sequence(
    name: str | None, stream: Sequence, features: Many[Feature], reference: Array
) -> Compared:
    """The last 1,024 rows of a stratum, with the evidence of all."""
    return _with_evidence(
        Compared(name, features, reference, _recent(stream)), stream, stream.values
    )


def _recent(stream: Sequence) -> Array:
    """The counts (d, 67) of the last 1,024 rows."""
    counts: Array = stream.recent().sum(axis=0, dtype=np.int64)
    return counts


def _with_evidence(side: Compared, sequence: Sequence, values: Array) -> Compared:
    return replace(
        side,
        values=values.tolist(),
        changed=sequence.p("changed").tolist(),
        material=sequence.p("material").tolist() if "material" in sequence.bettors else (),
    )


def _of_units(tracker: Tracker) -> Seen:
    profile = tracker.profile
    units = tracker.of_units()
    sequence = units.sequence
    recent = sequence.recent()
    side = units_side(profile, recent, units.last_strata(len(recent)))
    values = (sequence.totals - units.open_counts).sum(axis=1)
    sides = [_with_evidence(side, sequence, values)]
    labels, target = profile.target, tracker.labels.target
    # Labels come without units, and are not judged.
    if labels is not None and target is not None and (counts := _recent(target)).any():
        sides.append(Compared(None, [labels.feature], labels.counts[None], counts))
    unseen = checks.unseen(profile.features, sequence.totals)
    limits = [*_progress(units), *tracker.notes.about_references(tracker.alpha)]
    return sides, [*unseen, *checks.units_left_out(profile, units)], limits


def units_side(profile: Profile, counts: Array, strata: Many[int]) -> Compared:
    """Units with counts (units, d, 67) beside the reference's."""

    def effects(j: int) -> tuple[Effect, ...]:
        measure = unit_effects(profile.units, profile.features[j], j, counts[:, j], strata)
        return () if measure is None else measure()

    reference = profile.counts.sum(axis=0)
    recent = counts.sum(axis=0, dtype=np.int64)
    return Compared(None, profile.features, reference, recent, effects=effects)


def _progress(units: Units) -> list[str]:
    """How far a stream has come, in words."""
    last = f", the last {units.trail[-1].name}" if units.trail else ""
    said = [f"{many(units.sequence.blocks, units.unit)} judged{last}"]
    if units.open_rows and units.open_key is not None:
        name = unit_name(units.unit, units.open_key)
        said.append(f"{name} is open, with {count_of(units.open_rows, 'row')} so far")
    return said


# Several workers.


def of_workers(trackers: Many[Tracker]) -> DriftReport:
    """The sum of several workers' counts, with the mean of their evidence for material changes."""
    first = trackers[0]
    profile = first.profile
    rows = sum(tracker.rows for tracker in trackers)
    sides = []
    alarms = []
    found = []
    for s, (name, _) in enumerate(first.streams()):
        streams = [tracker.streams()[s][1] for tracker in trackers]
        recent = np.sum([_recent(stream) for stream in streams], axis=0)
        totals = np.sum([stream.totals for stream in streams], axis=0)
        p, crossed = _mean_evidence(streams, first.guarantee, recent, rows)
        sides.append(Compared(name, profile.features, profile.counts[s], recent, material=p))
        alarms += [first.alarm(s, crossing) for crossing in crossed]
        found += checks.unseen(profile.features, totals)
    found += checks.strange_rows(profile, sum(tracker.strangers for tracker in trackers), rows)
    return DriftReport(
        kind="stream",
        rows=rows,
        reference_rows=profile.rows,
        alpha=first.alpha,
        guarantee=f"for the mean evidence of {len(trackers)} workers, read once: {first.terms.promise}",
        assumptions=(*profile.assumptions(), NOT_MERGED),
        alarms=tuple(alarms),
        features=all_drifts(sides),
        checks=tuple(found),
        performance=None,
        acknowledged=united([tracker.notes for tracker in trackers]),
    )


def _mean_evidence(
    streams: Many[Sequence], guarantee: Guarantee, recent: Array, rows: int
) -> tuple[list[float], list[Crossing]]:
    """The p-value of each feature by several streams of so many rows, and the crossings."""
    wealth = np.mean([stream.material_wealth() for stream in streams], axis=0)
    staked = float(np.mean([stream.staked(guarantee) for stream in streams]))
    p: list[float] = anytime_p(wealth, staked).tolist()
    material = streams[0].bettors["material"]
    enough = np.flatnonzero(material.enough(wealth)).tolist()
    crossed = [
        Crossing("material", j, p[j], rows, None, recent[j][None], float(material.levels[j]))
        for j in enough
    ]
    return p, crossed


# The performance of the model.


def performance_of(
    profile: Profile,
    estimate: Estimate | None,
    answers: Mapping[str, Array],
    losses: Losses | None = None,
) -> Performance | None:
    """The loss of labelled rows, and estimates without labels; the AUC needs the answers."""
    baseline, calibration = profile.baseline, profile.calibration
    if losses is None and estimate is None:
        return None
    found = Performance(
        labelled=0 if losses is None else losses.rows,
        loss=None if losses is None else losses.interval(),
        baseline=None if baseline is None else baseline.interval(),
        estimated={},
    )
    if calibration is None or estimate is None:
        return found
    estimated = {"accuracy": calibration.interval(estimate)}
    k = calibration.positive
    two = len(calibration.classes) == 2
    rates = estimate.rates(k) if two else {}
    if two and "probabilities" in answers:
        scores = scores_of(answers["probabilities"])
        rates["auc"] = expected_area(scores, calibration.probabilities(scores)[:, 1])
    outside = estimate.outside / estimate.rows
    reason = f"{outside:.0%} of the probabilities lie beyond the reference's"
    return replace(
        found,
        estimated=estimated | {name: (value, nan, nan) for name, value in rates.items()},
        unsupported=f"outside reference support: {reason}" if outside > OUTSIDE else None,
        positive=calibration.classes[k] if two else "",
    )
