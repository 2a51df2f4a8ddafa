"""The rows of some buckets beside the reference, as lines of a frame."""

from __future__ import annotations

from typing import Any

from modelkit._internal.arrays import Array
from modelkit.drift import exact
from modelkit.drift.buckets import TimeBucket
from modelkit.drift.cells import GONE, Feature
from modelkit.drift.profile import Profile
from modelkit.drift.target import TARGET
from modelkit.errors import UsageError

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


def counts_in(
    profile: Profile, bucket: TimeBucket, name: str, stratum: str | None
) -> tuple[Feature, Array, Array]:
    """A feature by its name with its counts (67,) in the reference and in a bucket.

    Raises UsageError where there is no such feature or stratum.
    """
    if name == TARGET and profile.target is not None:
        return profile.target.feature, profile.target.counts, bucket.counts[0, -1]
    names = [feature.name for feature in profile.features]
    if name not in names:
        raise UsageError(f"there is no feature {name!r}; there are {names}")
    known: list[str | None] = [None] if profile.stratum is None else list(profile.strata)
    if stratum not in known:
        raise UsageError(f"there is no stratum {stratum!r}; there are {known}")
    s = known.index(stratum)
    j = names.index(name)
    return profile.features[j], profile.counts[s, j], bucket.counts[s, j]


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
