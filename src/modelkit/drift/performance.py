"""The performance of a model in a report, from labels and without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from modelkit._internal.arrays import Array
from modelkit.drift.buckets import TimeBucket
from modelkit.drift.labelfree import Calibration, Estimate
from modelkit.drift.losses import Baseline
from modelkit.drift.outputs import scores_of
from modelkit.drift.profile import Profile
from modelkit.drift.tracker import Tracker
from modelkit.drift.values import Performance
from modelkit.stats.ranks import expected_area

OUTSIDE = 0.05  # of the recent rows, beyond which label-free estimates are not to be relied on
OF_VECTORS = (": distance", ": residual")  # features of embeddings far from all that was known


def stream_performance(tracker: Tracker) -> Performance | None:
    """The loss of the labelled rows so far, and the estimates of the last rows without labels."""
    labelled = tracker.labels.losses
    baseline = tracker.profile.baseline
    found = label_free(tracker, tracker.label_free.recent(), {})
    if labelled is None or baseline is None:
        return found
    return Performance(
        labelled=labelled.rows,
        loss=labelled.interval(),
        baseline=baseline.interval(),
        estimated={} if found is None else found.estimated,
        unsupported=None if found is None else found.unsupported,
        positive="" if found is None else found.positive,
    )


def label_free(
    tracker: Tracker, estimate: Estimate | None, answers: Mapping[str, Array]
) -> Performance | None:
    """The performance that an estimate lets one expect; the AUC needs the answers."""
    calibration = tracker.profile.calibration
    baseline = tracker.profile.baseline
    if calibration is None or estimate is None or not estimate.rows:
        return None
    return Performance(
        labelled=0,
        loss=None,
        baseline=None if baseline is None else baseline.interval(),
        estimated=_estimated(calibration, estimate, answers),
        unsupported=_unsupported(tracker, estimate),
        positive=calibration.classes[calibration.positive] if len(calibration.classes) == 2 else "",
    )


def _estimated(
    calibration: Calibration, estimate: Estimate, answers: Mapping[str, Array]
) -> dict[str, tuple[float, float, float]]:
    found = {"accuracy": estimate.interval(calibration)}
    if len(calibration.classes) != 2:
        return found
    k = calibration.positive
    values = {
        "precision": estimate.precision(k),
        "recall": estimate.recall(k),
        "f1": estimate.f1(k),
    }
    if "probabilities" in answers:
        scores = scores_of(answers["probabilities"])
        positive = calibration.probabilities(scores)[:, 1]
        values["auc"] = expected_area(scores, positive)
    unknown = float("nan")
    return found | {name: (value, unknown, unknown) for name, value in values.items()}


def _unsupported(tracker: Tracker, estimate: Estimate) -> str | None:
    """The reasons for which a label-free estimate is not to be relied on."""
    reasons = [
        f"{alarm.feature} changed"
        for alarm in tracker.alarms
        if alarm.kind == "changed" and alarm.feature.endswith(OF_VECTORS)
    ]
    if estimate.outside > OUTSIDE * estimate.rows:
        share = estimate.outside / estimate.rows
        reasons.append(f"{share:.0%} of the probabilities are beyond the reference's")
    return f"outside reference support: {'; '.join(reasons)}" if reasons else None


def span_performance(profile: Profile, buckets: Sequence[TimeBucket]) -> Performance | None:
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
