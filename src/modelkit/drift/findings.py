"""The reports: on a stream so far, on one batch, and on several workers together."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import replace

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import checks, exact
from modelkit.drift.cells import CELLS, Feature
from modelkit.drift.columns import length
from modelkit.drift.dependence import every
from modelkit.drift.encoding import stratum_numbers
from modelkit.drift.feature_findings import feature_drift
from modelkit.drift.notes import united
from modelkit.drift.performance import label_free, stream_performance
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.sequence import Crossing, Sequence
from modelkit.drift.values import Alarm, DriftCheck, FeatureDrift
from modelkit.drift.watch import Watch
from modelkit.drift.where import segments_of
from modelkit.errors import UsageError
from modelkit.stats.evidence import LEAST_WEALTH, holm

SUSPECT = 0.05  # the p-value below which a report says when a change may have begun


# A stream.


def of_stream(watch: Watch) -> DriftReport:
    """The evidence so far, and the last 1,024 rows of each stratum beside the reference."""
    profile = watch.profile
    features: list[FeatureDrift] = []
    found: list[DriftCheck] = []
    alarmed = counts_at_alarm(watch.alarms)
    for s, (name, stream) in enumerate(watch.streams()):
        features += _stream_features(profile.features, profile.counts[s], name, stream, alarmed)
        for feature, totals in zip(profile.features, stream.totals, strict=True):
            found += checks.unseen(feature, totals)
    if watch.labels.target is not None and profile.target is not None:
        labels = profile.target
        own = (labels.feature,)
        features += _stream_features(own, labels.counts[None], None, watch.labels.target, alarmed)
    skipped = sum(stream.left_out for _, stream in watch.streams())
    return DriftReport(
        kind="stream",
        rows=watch.rows,
        reference_rows=profile.rows,
        alpha=watch.alpha,
        guarantee=watch.promise,
        assumptions=(
            *profile.assumptions(),
            *watch.chronicle.about_references(),
            *_left_out_text(watch.rows, skipped),
        ),
        alarms=watch.alarms,
        features=tuple(features),
        checks=(*found, *checks.strangers(watch.strangers, watch.rows, profile.stratum)),
        performance=stream_performance(watch),
        skipped=skipped,
        times=watch.chronicle.times,
        segments=segments_of(watch),
        acknowledged=watch.chronicle.acknowledged(),
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


def counts_at_alarm(alarms: Many[Alarm]) -> dict[tuple[str | None, str], Array]:
    """The counts (67,) of the rows of the last alarm, by stratum and feature."""
    with_counts = [alarm for alarm in alarms if alarm.counts]
    return {(alarm.stratum, alarm.feature): np.array(alarm.counts) for alarm in with_counts}


def _stream_features(
    features: Many[Feature],
    references: Array,
    name: str | None,
    stream: Sequence,
    alarmed: Mapping[tuple[str | None, str], Array],
) -> list[FeatureDrift]:
    recent = stream.recent().sum(axis=0, dtype=np.int64)
    material = stream.p("material")
    changed = stream.p("changed") if "changed" in stream.bettors else None
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
            began=int(began[j]) if stream.members and suspect else None,
            compared=int(stream.values[j]),
            alarmed=alarmed.get((name, feature.name)),
        )
        found.append(drift)
    return found


# Several workers.


def of_workers(watches: Many[Watch]) -> DriftReport:
    """The counts of all workers, and the mean of their evidence for material changes."""
    first = watches[0]
    profile = first.profile
    rows = sum(watch.rows for watch in watches)
    strangers = sum(watch.strangers for watch in watches)
    features: list[FeatureDrift] = []
    alarms: list[Alarm] = []
    found: list[DriftCheck] = []
    for s, (name, _) in enumerate(first.streams()):
        streams = [watch.streams()[s][1] for watch in watches]
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
        guarantee=f"of the mean of {len(watches)} workers' evidence, read once: {first.promise}",
        assumptions=(
            *profile.assumptions(),
            "changed, performance and labels need one sequence, and are not merged",
        ),
        alarms=tuple(alarms),
        features=tuple(features),
        checks=(*found, *checks.strangers(strangers, rows, profile.stratum)),
        performance=None,
        acknowledged=united([watch.chronicle.notes for watch in watches]).acknowledged,
    )


class _Merged:
    """The streams of one stratum at several workers."""

    def __init__(self, first: Watch, streams: Many[Sequence]) -> None:
        recent = [stream.recent().sum(axis=0, dtype=np.int64) for stream in streams]
        self.recent = np.sum(recent, axis=0)
        self.totals = np.sum([stream.totals for stream in streams], axis=0)
        values = [stream.material_wealth() for stream in streams]
        self._wealth = np.mean(values, axis=0)
        self._staked = np.mean([stream.staked(first.guarantee) for stream in streams])
        self._enough = streams[0].bettors["material"].enough(self._wealth)

    def p(self, j: int) -> float:
        """The p-value of the mean evidence of a feature."""
        return float(min(1.0, self._staked / max(self._wealth[j], LEAST_WEALTH)))

    def crossings(self, rows: int) -> list[Crossing]:
        """The features whose mean evidence is enough for an alarm, after all workers' rows."""
        return [
            Crossing("material", j, self.p(j), rows, None, self.recent[j][None])
            for j in np.flatnonzero(self._enough).tolist()
        ]


# One batch.


def of_batch(
    watch: Watch, columns: Mapping[str, Array], answers: Mapping[str, Array]
) -> DriftReport:
    """Exact tests of one batch, adjusted by Holm over features and strata, and plain checks.

    Raises UsageError for no rows, and for a profile with private counts.
    """
    profile = watch.profile
    n, strata = stratum_numbers(profile, columns)
    if not n:
        raise UsageError("there are no rows to test")
    if profile.epsilon is not None:
        raise UsageError(
            "the counts of this profile have noise for privacy, which an exact test would take for "
            "drift; show the rows to update(), which allows for it"
        )
    counts = _batch_counts(profile, columns, strata, watch.seed)
    found = checks.batch_checks(profile, columns, counts.sum(axis=0), alpha=watch.alpha)
    strangers = 0 if strata is None else int((strata < 0).sum())
    report = batch_report(watch, counts, n, strangers)
    return replace(
        report,
        checks=(*found, *report.checks),
        performance=label_free(watch, watch.label_free.of(answers), answers),
    )


def batch_report(watch: Watch, counts: Array, rows: int, strangers: int) -> DriftReport:
    """What counts (strata, d, 67) tell of so many rows, of which some are of a strange stratum."""
    profile = watch.profile
    features = _batch_features(watch, counts)
    return DriftReport(
        kind="batch",
        rows=rows,
        reference_rows=profile.rows,
        alpha=watch.alpha,
        guarantee=f"{_batch_promise(watch.alpha)}{_least_p(features, watch.alpha)}",
        assumptions=profile.assumptions(),
        alarms=_batch_alarms(watch, features, rows),
        features=tuple(features),
        checks=checks.strangers(strangers, rows, profile.stratum),
        performance=None,
    )


def _least_p(features: Many[FeatureDrift], alpha: float) -> str:
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


def _batch_counts(
    profile: Profile, columns: Mapping[str, Array], strata: Array | None, seed: int
) -> Array:
    """Counts (strata, d, 67) of rows as far apart as the reference's; 0 for an absent feature.

    They are counted from a random row on, which batches of different sizes begin at another of.
    """
    rng = np.random.default_rng([seed, length(columns)])
    counts = np.zeros((len(profile.strata), len(profile.features), CELLS), np.int64)
    for s in range(len(profile.strata)):
        for j, feature in enumerate(profile.features):
            if feature.name in columns:
                values = columns[feature.name]
                own = values if strata is None else values[strata == s]
                counts[s, j] = feature.count(own[every(feature.stride, len(own), rng)])
    return counts


def _batch_features(watch: Watch, counts: Array) -> list[FeatureDrift]:
    profile = watch.profile
    adjusted = adjusted_tests(watch.profile, counts, watch.alpha, watch.seed)
    found = []
    for s, (name, _) in enumerate(watch.streams()):
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


def _batch_alarms(watch: Watch, features: Many[FeatureDrift], rows: int) -> tuple[Alarm, ...]:
    """The alarms of features with an adjusted p-value of at most alpha, the smallest first."""
    alarms = []
    for drift in features:
        if drift.p_changed is None or drift.p_changed > watch.alpha:
            continue
        alarm = Alarm(
            kind="changed",
            feature=drift.feature,
            stratum=drift.stratum,
            statistic="chi-square" if drift.kind == "category" else "Anderson-Darling",
            p=drift.p_changed,
            level=watch.alpha,
            row=rows,
            began=None,
            effect=drift.effects[0],
            rows=drift.rows,
            guarantee=_batch_promise(watch.alpha),
            assumptions=watch.profile.assumptions(),
        )
        alarms.append(alarm)
    return tuple(sorted(alarms, key=lambda alarm: alarm.p))
