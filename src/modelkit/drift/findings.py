"""The reports: on a stream so far, on one batch, and on several workers together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks, exact
from modelkit.drift.cells import Feature
from modelkit.drift.counts import count_by
from modelkit.drift.dependence import thinned
from modelkit.drift.feature_findings import feature_drift
from modelkit.drift.layout import Rows
from modelkit.drift.notes import united
from modelkit.drift.performance import label_free, stream_performance
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.stream import Crossing, Stream
from modelkit.drift.tracker import Tracker
from modelkit.drift.values import Alarm, DriftCheck, FeatureDrift
from modelkit.drift.where import segments_of
from modelkit.errors import UsageError
from modelkit.stats.evidence import LEAST_WEALTH
from modelkit.stats.tests import holm

SUSPECT = 0.05  # the p-value below which a report says when a change may have begun


# A stream.


def of_stream(tracker: Tracker) -> DriftReport:
    """The evidence so far, and the last 1,024 rows of each stratum beside the reference."""
    profile = tracker.profile
    features: list[FeatureDrift] = []
    found: list[DriftCheck] = []
    alarmed = counts_at_alarm(tracker.alarms)
    for s, (name, stream) in enumerate(tracker.streams()):
        features += _stream_features(profile.features, profile.counts[s], name, stream, alarmed)
        for feature, totals in zip(profile.features, stream.totals, strict=True):
            found += checks.unseen(feature, totals)
    if tracker.labels.target is not None and profile.target is not None:
        labels = profile.target
        own = (labels.feature,)
        features += _stream_features(own, labels.counts[None], None, tracker.labels.target, alarmed)
    skipped = sum(stream.left_out for _, stream in tracker.streams())
    return DriftReport(
        kind="stream",
        rows=tracker.rows,
        reference_rows=profile.rows,
        alpha=tracker.alpha,
        guarantee=tracker.promise,
        assumptions=(
            *profile.assumptions(),
            *tracker.about_references(),
            *_left_out_text(tracker.rows, skipped),
        ),
        alarms=tracker.alarms,
        features=tuple(features),
        checks=(*found, *checks.strangers(tracker.strangers, tracker.rows, profile.stratum)),
        performance=stream_performance(tracker),
        skipped=skipped,
        times=tracker.times,
        segments=segments_of(tracker),
        acknowledged=tracker.notes.of_reference(),
    )


def _left_out_text(rows: int, skipped: int) -> tuple[str, ...]:
    """What was counted and not looked at, in words; nothing where that is none."""
    if not skipped:
        return ()
    said = (
        f"a Monitor: of {rows + skipped:,} rows, {rows:,} were looked at, as many as its budget "
        "allows and 64 of each larger call, for alarms, p-values and the recent rows; checks and the "
        "history are of all rows"
    )
    return (said,)


def counts_at_alarm(alarms: Sequence[Alarm]) -> dict[tuple[str | None, str], Array]:
    """The counts (67,) of the rows of the last alarm, by stratum and feature."""
    with_counts = [alarm for alarm in alarms if alarm.counts]
    return {(alarm.stratum, alarm.feature): np.array(alarm.counts) for alarm in with_counts}


def _stream_features(
    features: Sequence[Feature],
    references: Array,
    name: str | None,
    stream: Stream,
    alarmed: Mapping[tuple[str | None, str], Array],
) -> list[FeatureDrift]:
    recent = stream.recent()
    material = stream.p("material")
    changed = stream.p("changed") if "changed" in stream.evidence else None
    began = stream.began("material" if changed is None else "changed")
    found = []
    for j, feature in enumerate(features):
        p_material = float(material[j])
        p_changed = None if changed is None else float(changed[j])
        suspect = min(1.0 if p_changed is None else p_changed, p_material) < SUSPECT
        drift = feature_drift(
            feature,
            name,
            references[j],
            recent[j],
            changed=p_changed,
            material=p_material,
            began=int(began[j]) if stream.rows and suspect else None,
            compared=int(stream.values[j]),
            alarmed=alarmed.get((name, feature.name)),
        )
        found.append(drift)
    return found


# Several workers.


def of_workers(trackers: Sequence[Tracker]) -> DriftReport:
    """The counts of all workers, and the mean of their evidence for material changes."""
    first = trackers[0]
    profile = first.profile
    rows = sum(tracker.rows for tracker in trackers)
    strangers = sum(tracker.strangers for tracker in trackers)
    features: list[FeatureDrift] = []
    alarms: list[Alarm] = []
    found: list[DriftCheck] = []
    for s, (name, _) in enumerate(first.streams()):
        streams = [tracker.streams()[s][1] for tracker in trackers]
        merged = _Merged(first, streams)
        alarms += [first.alarm(s, crossing) for crossing in merged.crossings(rows)]
        for j, feature in enumerate(profile.features):
            drift = feature_drift(
                feature, name, profile.counts[s, j], merged.recent[j], material=merged.p(j)
            )
            features.append(drift)
            found += checks.unseen(feature, merged.totals[j])
    return DriftReport(
        kind="stream",
        rows=rows,
        reference_rows=profile.rows,
        alpha=first.alpha,
        guarantee=f"of the mean of {len(trackers)} workers' evidence, read once: {first.promise}",
        assumptions=(
            *profile.assumptions(),
            "changed, performance and labels need one sequence, and are not merged",
        ),
        alarms=tuple(alarms),
        features=tuple(features),
        checks=(*found, *checks.strangers(strangers, rows, profile.stratum)),
        performance=None,
        acknowledged=united([tracker.notes for tracker in trackers]),
    )


class _Merged:
    """The streams of one stratum at several workers."""

    def __init__(self, first: Tracker, streams: Sequence[Stream]) -> None:
        self.recent = np.sum([stream.recent() for stream in streams], axis=0)
        self.totals = np.sum([stream.totals for stream in streams], axis=0)
        values = [stream.material_wealth() for stream in streams]
        self._wealth = np.mean(values, axis=0)
        self._staked = np.mean([stream.staked(first.guarantee) for stream in streams])
        self._enough = streams[0].enough("material", self._wealth)

    def p(self, j: int) -> float:
        """The p-value of the mean evidence of a feature."""
        return float(min(1.0, self._staked / max(self._wealth[j], LEAST_WEALTH)))

    def crossings(self, rows: int) -> list[Crossing]:
        """The features whose mean evidence is enough for an alarm, after all workers' rows."""
        return [
            Crossing("material", j, self.p(j), rows, None, self.recent[j])
            for j in np.flatnonzero(self._enough).tolist()
        ]


# One batch.


def of_batch(tracker: Tracker, rows: Rows) -> DriftReport:
    """Exact tests of one batch, adjusted by Holm over features and strata, and plain checks.

    Raises UsageError for no rows, and for a profile with private counts.
    """
    profile = tracker.profile
    if not len(rows):
        raise UsageError("there are no rows to test")
    if profile.epsilon is not None:
        raise UsageError(
            "the counts of this profile have noise for privacy, which an exact test would take for "
            "drift; show the rows to update(), which allows for it"
        )
    counts = _batch_counts(profile, rows, tracker.seed)
    found = checks.batch_checks(profile, rows, counts.sum(axis=0), alpha=tracker.alpha)
    strangers = 0 if rows.strata is None else int((rows.strata < 0).sum())
    report = batch_report(tracker, counts, len(rows), strangers)
    return replace(
        report,
        checks=(*found, *report.checks),
        performance=label_free(tracker, tracker.label_free.of(rows.answers), rows.answers),
    )


def batch_report(tracker: Tracker, counts: Array, rows: int, strangers: int) -> DriftReport:
    """What counts (strata, d, 67) tell of so many rows, of which some are of a strange stratum."""
    profile = tracker.profile
    features = _batch_features(tracker, counts)
    return DriftReport(
        kind="batch",
        rows=rows,
        reference_rows=profile.rows,
        alpha=tracker.alpha,
        guarantee=f"{_batch_promise(tracker.alpha)}{_least_p(features, tracker.alpha)}",
        assumptions=profile.assumptions(),
        alarms=_batch_alarms(tracker, features, rows),
        features=tuple(features),
        checks=checks.strangers(strangers, rows, profile.stratum),
        performance=None,
    )


def _least_p(features: Sequence[FeatureDrift], alpha: float) -> str:
    """What the smallest p-value of so many features stands for: equal ones may differ in size."""
    tests = sum(drift.p_changed is not None for drift in features)
    draws = exact.permutations_for(tests, alpha)
    least = f"{tests / (draws + 1):.2g}"
    return f"; with {draws:,} permutations a p of {least} stands for {least} or less"


def _batch_promise(alpha: float) -> str:
    return (
        "if this batch is exchangeable with the reference, any alarm is raised with a probability "
        f"of at most {alpha:g}; exact, for this one batch"
    )


def _batch_counts(profile: Profile, rows: Rows, seed: int) -> Array:
    """Counts (strata, d, 67) of rows as far apart as the reference's; 0 for an absent feature.

    They are counted from a random row on, which batches of different sizes begin at another of.
    """
    rng = np.random.default_rng([seed, len(rows)])
    present = [feature.name in rows.columns for feature in profile.features]
    strides = [
        feature.stride if here else 1
        for feature, here in zip(profile.features, present, strict=True)
    ]
    strata = len(profile.strata)
    cells = thinned(rows.cells, rows.strata, strata, strides, rng)
    return count_by(cells, rows.strata, strata)


def _batch_features(tracker: Tracker, counts: Array) -> list[FeatureDrift]:
    profile = tracker.profile
    adjusted = adjusted_tests(tracker.profile, counts, tracker.alpha, tracker.seed)
    found = []
    for s, (name, _) in enumerate(tracker.streams()):
        for j, feature in enumerate(profile.features):
            drift = feature_drift(
                feature, name, profile.counts[s, j], counts[s, j], changed=adjusted.get((s, j))
            )
            found.append(drift)
    return found


def adjusted_tests(
    profile: Profile, counts: Array, alpha: float, seed: int
) -> dict[tuple[int, int], float]:
    """Adjusted p-values by stratum and feature, of those that have rows on both sides."""
    tests = []
    for s, j in np.ndindex(counts.shape[:2]):
        both = counts[s, j].sum() and profile.counts[s, j].sum()
        if both and profile.features[j].weight > 0:
            tests.append((s, j))
    draws = exact.permutations_for(len(tests), alpha)
    rng = np.random.default_rng(seed)
    p = []
    for s, j in tests:
        ordered = profile.features[j].ordered
        value = exact.exact_test(
            counts[s, j],
            profile.counts[s, j],
            "anderson_darling" if ordered else "chi_square",
            rng,
            draws,
        )
        p.append(value)
    adjusted = holm(np.array(p)).tolist()
    return dict(zip(tests, adjusted, strict=True))


def _batch_alarms(
    tracker: Tracker, features: Sequence[FeatureDrift], rows: int
) -> tuple[Alarm, ...]:
    """The alarms of features with an adjusted p-value of at most alpha, the smallest first."""
    alarms = []
    for drift in features:
        if drift.p_changed is None or drift.p_changed > tracker.alpha:
            continue
        alarm = Alarm(
            kind="changed",
            feature=drift.feature,
            stratum=drift.stratum,
            statistic="chi-square" if drift.kind == "category" else "Anderson-Darling",
            p=drift.p_changed,
            level=tracker.alpha,
            row=rows,
            began=None,
            effect=drift.effects[0],
            rows=drift.rows,
            guarantee=_batch_promise(tracker.alpha),
            assumptions=tracker.profile.assumptions(),
        )
        alarms.append(alarm)
    return tuple(sorted(alarms, key=lambda alarm: alarm.p))
