"""The rows of some buckets beside the reference: as a report, and as lines of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import exact, findings
from modelkit.drift.buckets import TimeBucket
from modelkit.drift.cells import GONE, Feature
from modelkit.drift.feature_findings import feature_drift
from modelkit.drift.losses import Baseline
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.row_times import second_text
from modelkit.drift.target import TARGET, TargetLabels
from modelkit.drift.values import Alarm, FeatureDrift, Performance

FRAME_COLUMNS = (
    "start",
    "end",
    "feature",
    "stratum",
    "rows",
    "distance",
    "missing",
    "labelled",
    "loss",
)


def report_of(
    profile: Profile,
    buckets: Sequence[TimeBucket],
    alarms: Sequence[Alarm],
    alpha: float,
    seed: int,
) -> DriftReport:
    """The rows of some buckets against the reference; exact tests where they may be had."""
    counts = np.sum([bucket.counts.astype(np.int64) for bucket in buckets], axis=0)
    width = len(profile.features)
    why_not = profile.why_untested
    adjusted: dict[tuple[int, int], float] = {}
    if why_not is None:
        adjusted = findings.adjusted_tests(profile, counts[:, :width], alpha, seed)
    features = []
    for s, name in enumerate(profile.strata):
        stratum = None if profile.stratum is None else name
        for j, feature in enumerate(profile.features):
            drift = feature_drift(
                feature, stratum, profile.counts[s, j], counts[s, j], changed=adjusted.get((s, j))
            )
            features.append(drift)
    if profile.target is not None:
        features.append(_target_drift(profile.target, counts[0, width]))
    start = second_text(buckets[0].start)
    end = second_text(buckets[-1].end)
    return DriftReport(
        kind="span",
        rows=sum(bucket.rows for bucket in buckets),
        reference_rows=profile.rows,
        alpha=alpha,
        guarantee=_promise(start, end, why_not),
        assumptions=profile.assumptions(),
        alarms=tuple(alarms),
        features=tuple(features),
        checks=(),
        performance=_performance(profile, buckets),
        times=(float(buckets[0].start), float(buckets[-1].end)),
    )


def _target_drift(target: TargetLabels, counts: Array) -> FeatureDrift:
    """The labels of a span beside those of the reference, without a test.

    Labels come late, so those of a span are no sample of the labels of its rows.
    """
    return feature_drift(target.feature, None, target.counts, counts)


def _promise(start: str, end: str, why_not: str | None) -> str:
    span = f"the rows from {start} to {end} UTC"
    if why_not is not None:
        return f"none: a description of {span}; there are no tests, for {why_not}"
    return (
        f"a description of {span}: each p-value is exact, adjusted by Holm over this one span, if "
        "its rows are exchangeable with the reference; it is apart from the alpha of the stream, "
        "and raises no alarm"
    )


def _performance(profile: Profile, buckets: Sequence[TimeBucket]) -> Performance | None:
    """The mean loss of the labels that came in a span, with a bound of its own."""
    n = sum(bucket.losses[0] for bucket in buckets)
    baseline = profile.baseline
    if baseline is None or n < 2:
        return None
    found = Baseline(
        n=n,
        total=sum(bucket.losses[1] for bucket in buckets),
        squares=sum(bucket.losses[2] for bucket in buckets),
        binary=baseline.binary,
        scale=baseline.scale,
    )
    return Performance(
        labelled=n, loss=found.interval(), baseline=baseline.interval(), estimated={}
    )


def frame_rows(profile: Profile, bucket: TimeBucket) -> list[tuple[Any, ...]]:
    """The lines of a frame for one bucket, as `FRAME_COLUMNS`."""
    found = []
    labelled, total, _ = bucket.losses
    loss = total / labelled if labelled else None
    for s, stratum in enumerate(profile.strata):
        where = None if profile.stratum is None else stratum
        for j, feature in enumerate(profile.features):
            line = _line(feature, profile.counts[s, j], bucket.counts[s, j])
            if line is not None:
                start = (bucket.start, bucket.end, feature.name, where)
                found.append((*start, *line, labelled, loss))
    target = profile.target
    if target is not None:
        line = _line(target.feature, target.counts, bucket.counts[0, -1])
        if line is not None:
            start = (bucket.start, bucket.end, TARGET, None)
            found.append((*start, *line, labelled, loss))
    return found


def _line(feature: Feature, reference: Array, counts: Array) -> tuple[int, float, float] | None:
    """The rows, the distance from the reference and the share of missing values."""
    rows = int(counts.sum())
    if not rows:
        return None
    distance = exact.ks if feature.ordered else exact.tv
    p = counts / rows
    q = reference / max(int(reference.sum()), 1)
    return rows, float(distance(p, q)), float(p[GONE])
