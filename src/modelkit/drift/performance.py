"""The performance of a model in a report, from labels and without."""

from __future__ import annotations

from collections.abc import Mapping

from modelkit._internal.arrays import Array
from modelkit.drift.labelfree import Calibration, Estimate, expected_auc
from modelkit.drift.outputs import scores_of
from modelkit.drift.values import Performance
from modelkit.drift.watch import Watch

OUTSIDE = 0.05  # of the recent rows, beyond which label-free estimates are not to be relied on
OF_VECTORS = (": distance", ": residual")  # features of embeddings far from all that was known


def stream_performance(watch: Watch) -> Performance | None:
    """The loss of the labelled rows so far, and the estimates of the last rows without labels."""
    labelled = watch.labels.losses
    baseline = watch.profile.baseline
    found = label_free(watch, watch.label_free.recent(), {})
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
    watch: Watch, estimate: Estimate | None, answers: Mapping[str, Array]
) -> Performance | None:
    """The performance that an estimate lets one expect; the AUC needs the answers."""
    calibration = watch.profile.calibration
    baseline = watch.profile.baseline
    if calibration is None or estimate is None or not estimate.rows:
        return None
    return Performance(
        labelled=0,
        loss=None,
        baseline=None if baseline is None else baseline.interval(),
        estimated=_estimated(calibration, estimate, answers),
        unsupported=_unsupported(watch, estimate),
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
        values["auc"] = expected_auc(positive, scores)
    unknown = float("nan")
    return found | {name: (value, unknown, unknown) for name, value in values.items()}


def _unsupported(watch: Watch, estimate: Estimate) -> str | None:
    """The reasons for which a label-free estimate is not to be relied on."""
    reasons = [
        f"{alarm.feature} changed"
        for alarm in watch.alarms
        if alarm.kind == "changed" and alarm.feature.endswith(OF_VECTORS)
    ]
    if estimate.outside > OUTSIDE * estimate.rows:
        share = estimate.outside / estimate.rows
        reasons.append(f"{share:.0%} of the probabilities are beyond the reference's")
    return f"outside reference support: {'; '.join(reasons)}" if reasons else None
