"""What a Detector saw in a span of the past: a report, and a frame over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import batch, effects
from modelkit.drift.buckets import Era, TimeBucket, joined_eras, span_of
from modelkit.drift.cells import GONE, Feature
from modelkit.drift.findings import Compared, all_drifts, strata_beside
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.row_times import given_second, second_text
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import DAY_SECONDS, HOUR_SECONDS, count_of
from modelkit.drift.values import Alarm, Performance
from modelkit.errors import UsageError, importing

if TYPE_CHECKING:
    import pandas as pd

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


@final
@dataclass(frozen=True, eq=False)
class History:
    """The rows of the past by the hour and the day, of one Detector or of several workers.

    The last 48 hours that had rows are kept by the hour, and what came before by the day, up to 366
    days; fewer where that would take more bytes than `Detector(history=...)` says. Hours and days
    are in UTC. All is counted in the cells of the profile, 268 bytes for a feature, a stratum and a
    bucket, and no row is kept. Take it from `Detector.history`. `eras` are the references one after
    the other with their buckets, `alarms` what was raised, `seed` the Detector's, and `most_bytes`
    what the buckets may take.
    """

    eras: tuple[Era, ...]
    alarms: tuple[Alarm, ...]
    seed: int
    most_bytes: int

    def merge(self, *others: History) -> History:
        """This history and other workers' histories, added up.

        What was compared with one reference is added to what others compared with the same.
        """
        histories = (self, *others)
        eras = joined_eras([history.eras for history in histories], self.most_bytes)
        alarms = [alarm for history in histories for alarm in history.alarms]
        return replace(self, eras=tuple(eras), alarms=tuple(alarms))

    @property
    def span(self) -> tuple[float, float] | None:
        """The start of the first bucket and the end of the last one, in POSIX seconds."""
        return span_of(self.eras)

    @property
    def bytes(self) -> int:
        """The memory that the counts take."""
        return sum(era.size for era in self.eras)

    def report(self, since: Any = None, until: Any = None) -> DriftReport:
        """Compare the rows of a span with the reference that was in force then.

        Buckets are taken whole, so the span grows to the hours or days that it touches; the report
        says which. Its p-values are exact for this one span, if its rows are exchangeable with the
        reference and the span was not chosen by its rows; they are adjusted by Holm over features
        and strata. They are apart from the alpha of the stream, and a span never raises an alarm:
        the alarms of the report are those that the stream raised in it. Where rows are not
        exchangeable one by one (a profile with `unit` or a stride) there are effect sizes and no
        p-values.

        Args:
            since: the start: a datetime, a text such as "2026-11-16", or POSIX seconds; None for
                the oldest bucket.
            until: the end, which is no more part of it; None for now.

        Raises:
            UsageError: where the span lacks rows, or the reference changed in it.
        """
        start, end = _ends(since, until)
        era, buckets = self._one_era(start, end)
        first = min(buckets[0].start, start if start > -inf else inf)
        last = max(buckets[-1].end, end if end < inf else -inf)
        alarms = [
            alarm for alarm in self.alarms if alarm.time is not None and first <= alarm.time < last
        ]
        return _span_report(era.profile, buckets, alarms, era.alpha, self.seed)

    def _one_era(self, start: float, end: float) -> tuple[Era, list[TimeBucket]]:
        """The one reference that has buckets in a span, with these."""
        touched = []
        for era in self.eras:
            buckets = [
                bucket for bucket in era.buckets.all() if bucket.start < end and bucket.end > start
            ]
            if buckets:
                touched.append((era, buckets))
        if not touched:
            raise UsageError(f"no rows from {_text(start)} to {_text(end)} are known; {self!r}")
        if len(touched) > 1:
            changes = [second_text(era.until) for era, _ in touched[:-1]]
            raise UsageError(
                f"the reference changed at {', '.join(changes)}, within the span; ask for a span "
                "before or after that"
            )
        return touched[0]

    def to_dataframe(self) -> pd.DataFrame:
        """A pandas frame with a row for each bucket, feature and stratum that has rows.

        Columns: `start` and `end` (times in UTC), `feature`, `stratum`, `rows`, `distance` (the
        largest distance of the distribution functions, or the total variation of categories, from
        the reference then in force), `missing` (the share of missing values), `labelled` and `loss`
        (the number of labels that came meanwhile and their mean loss, the same for all features).
        """
        with importing("pandas", "History.to_dataframe", "frames"):
            import pandas as pd

        rows = [
            row
            for era in self.eras
            for bucket in era.buckets.all()
            for row in _frame_rows(era.profile, bucket)
        ]
        frame = pd.DataFrame(rows, columns=[*FRAME_COLUMNS])
        for name in ("start", "end"):
            frame[name] = pd.to_datetime(frame[name], unit="s", utc=True)
        return frame

    def __repr__(self) -> str:
        span = self.span
        if span is None:
            return "<History without rows>"
        kept = [era.buckets for era in self.eras]
        hours = count_of(sum(len(buckets.spans(HOUR_SECONDS)) for buckets in kept), "hour")
        days = count_of(sum(len(buckets.spans(DAY_SECONDS)) for buckets in kept), "day")
        return (
            f"<History from {second_text(span[0])} to {second_text(span[1])} UTC: {hours}, {days}, "
            f"{self.bytes:,} bytes>"
        )


def _span_report(
    profile: Profile,
    buckets: Sequence[TimeBucket],
    alarms: Sequence[Alarm],
    alpha: float,
    seed: int,
) -> DriftReport:
    """The rows of some buckets beside the reference; exact tests where they may be had."""
    counts = np.sum([bucket.counts.astype(np.int64) for bucket in buckets], axis=0)
    of_features = counts[:, : len(profile.features)]
    why_not = profile.why_untested
    p = batch.exact_p(profile, of_features, alpha, seed) if why_not is None else ()
    sides = strata_beside(profile, of_features, p)
    labels = profile.target
    if labels is not None:  # they come late, so they are no sample of the labels of these rows
        sides.append(Compared(None, [labels.feature], labels.counts[None], counts[0, -1:]))
    span = f"the rows from {second_text(buckets[0].start)} to {second_text(buckets[-1].end)} UTC"
    promise = (
        f"a description of {span}: each p-value is exact, adjusted by Holm over this one span, if "
        "its rows are exchangeable with the reference; it is apart from the alpha of the stream, "
        "and never raises an alarm"
    )
    if why_not is not None:
        promise = f"none: a description of {span}, without tests, for {why_not}"
    return DriftReport(
        kind="span",
        rows=sum(bucket.rows for bucket in buckets),
        reference_rows=profile.rows,
        alpha=alpha,
        guarantee=promise,
        assumptions=profile.assumptions(),
        alarms=tuple(alarms),
        features=all_drifts(sides),
        checks=(),
        performance=_span_performance(profile, buckets),
        times=(float(buckets[0].start), float(buckets[-1].end)),
    )


def _span_performance(profile: Profile, buckets: Sequence[TimeBucket]) -> Performance | None:
    """The mean loss of the labels that came in a span, with a bound of its own."""
    n, total, squares = map(sum, zip(*(bucket.losses for bucket in buckets), strict=True))
    baseline = profile.baseline
    if baseline is None or n < 2:
        return None
    found = replace(baseline, n=n, total=total, squares=squares)
    return Performance(
        labelled=n, loss=found.interval(), baseline=baseline.interval(), estimated={}
    )


def history_of(tracker: Tracker) -> History:
    """The history as it is now: what is counted later is not in it."""
    eras = tuple(era.now() for era in tracker.eras)
    return History(eras, tracker.notes.all_alarms, tracker.seed, tracker.history)


def _ends(since: Any, until: Any) -> tuple[float, float]:
    start = -inf if since is None else given_second(since, "since")
    end = inf if until is None else given_second(until, "until")
    if not start < end:
        raise UsageError(f"a span ends after it starts; got {_text(start)} to {_text(end)}")
    return start, end


def _text(second: float) -> str:
    if abs(second) == inf:
        return "the start" if second < 0 else "now"
    return second_text(second)


def _frame_rows(profile: Profile, bucket: TimeBucket) -> Iterator[tuple[Any, ...]]:
    """The lines of a frame for one bucket, as `FRAME_COLUMNS`."""
    labelled, total, _ = bucket.losses
    loss = total / labelled if labelled else None
    for stratum, feature, reference, counts in _sides(profile, bucket.counts):
        rows = int(counts.sum())
        if rows:
            distance = effects.ks if feature.ordered else effects.tv
            p = counts / rows
            far = float(distance(p, reference / max(int(reference.sum()), 1)))
            seen = (rows, far, float(p[GONE]), labelled, loss)
            yield (bucket.start, bucket.end, feature.name, stratum, *seen)


def _sides(profile: Profile, counts: Array) -> Iterator[tuple[str | None, Feature, Array, Array]]:
    """Each stratum, feature, and its counts (67,) in the reference and here; the labels last."""
    for s, stratum in enumerate(profile.strata):
        where = None if profile.stratum is None else stratum
        for j, feature in enumerate(profile.features):
            yield where, feature, profile.counts[s, j], counts[s, j]
    if profile.target is not None:
        yield None, profile.target.feature, profile.target.counts, counts[0, -1]
