"""What there is to report: of a stream so far, of one batch, of several workers together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from modelkit.cast import Array
from modelkit.drift import batch
from modelkit.drift.cells import CELLS, GONE, NEW, Feature, as_texts
from modelkit.drift.fitting import duplicates
from modelkit.drift.labelfree import Calibration, Estimate, binary_performance
from modelkit.drift.labels import reference_interval
from modelkit.drift.outputs import scores_of
from modelkit.drift.profile import Profile
from modelkit.drift.report import DriftReport
from modelkit.drift.stream import Crossing
from modelkit.drift.values import Alarm, Check, Effect, FeatureDrift, Performance
from modelkit.errors import DriftError

if TYPE_CHECKING:
    from modelkit.drift.detector import Detector

SHOWN = 3  # examples of what a check found
OUTSIDE = 0.05  # of the recent rows, beyond which label-free estimates are not to be relied on
SUSPECT = 0.05  # the p-value below which it is said when a change may have begun
MOST_COMPARED = 100_000  # rows that are looked through for duplicates
UNLIKELY = 1e-6  # that a column is constant by chance
ALONE = 20  # rows from which a batch of one value is worth a word


def effect(recent: Array, reference: Array, *, ordered: bool) -> Effect | None:
    """The size of a difference in counts (67,); None where either side is empty."""
    found = _effects(recent, reference, ordered=ordered)
    return found[0] if found else None


def _effects(recent: Array, reference: Array, *, ordered: bool) -> tuple[Effect, ...]:
    if not recent.sum() or not reference.sum():
        return ()
    # A seed of its own, so that a report is the same whenever it is asked for.
    return batch.effects(recent, reference, np.random.default_rng(0), ordered=ordered)


def of_stream(detector: Detector) -> DriftReport:
    """The evidence so far, and the last 1,024 rows of each stratum beside the reference."""
    profile = detector.profile
    found, checks = [], []
    for s, (name, stream) in enumerate(detector.streams()):
        recent = stream.recent()
        ps = {kind: stream.p(kind) for kind in stream.evidence}
        began = stream.began("changed" if "changed" in ps else "material")
        for j, feature in enumerate(profile.features):
            changed = float(ps["changed"][j]) if "changed" in ps else None
            since = (
                int(began[j])
                if stream.rows and min(changed or 1.0, float(ps["material"][j])) < SUSPECT
                else None
            )
            args = (feature, name, profile.counts[s, j], recent[j])
            found.append(
                _feature(*args, changed=changed, material=float(ps["material"][j]), began=since)
            )
            checks += _unseen(feature, stream.totals[j])
    return DriftReport(
        kind="stream",
        rows=detector.rows,
        reference_rows=profile.rows,
        alpha=detector.alpha,
        guarantee=detector.promise,
        assumptions=profile.assumptions(),
        alarms=detector.alarms,
        features=tuple(found),
        checks=(*checks, *_strangers(detector.strangers, detector.rows, profile.stratum)),
        performance=_performance(detector),
        skipped=sum(stream.left_out for _, stream in detector.streams()),
    )


def of_workers(detectors: Sequence[Detector]) -> DriftReport:
    """The counts of all workers, and the mean of their evidence for material changes."""
    first = detectors[0]
    profile = first.profile
    found, checks = [], []
    alarms: list[Alarm] = []
    rows = sum(d.rows for d in detectors)
    for s in range(len(profile.strata)):
        streams = [d.streams()[s][1] for d in detectors]
        name = first.streams()[s][0]
        recent = np.sum([stream.recent() for stream in streams], axis=0)
        totals = np.sum([stream.totals for stream in streams], axis=0)
        money = np.mean([stream.evidence["material"].value for stream in streams], axis=0)
        staked = np.mean([stream.staked(first.guarantee) for stream in streams])
        enough = streams[0].enough("material", money)
        for j, feature in enumerate(profile.features):
            p = float(min(1.0, staked / max(money[j], 1e-300)))
            if enough[j]:
                alarms.append(first.alarm(s, Crossing("material", j, p, rows, None, recent[j])))
            found.append(
                _feature(
                    feature,
                    name,
                    profile.counts[s, j],
                    recent[j],
                    changed=None,
                    material=p,
                    began=None,
                )
            )
            checks += _unseen(feature, totals[j])
    return DriftReport(
        kind="stream",
        rows=rows,
        reference_rows=profile.rows,
        alpha=first.alpha,
        guarantee=f"of the mean of {len(detectors)} workers' evidence, read once: {first.promise}",
        assumptions=(
            *profile.assumptions(),
            "changed and performance need one sequence of rows, and are not merged",
        ),
        alarms=tuple(alarms),
        features=tuple(found),
        checks=(*checks, *_strangers(sum(d.strangers for d in detectors), rows, profile.stratum)),
        performance=None,
    )


def of_batch(
    detector: Detector, columns: Mapping[str, Array], answers: Mapping[str, Array]
) -> DriftReport:
    """Exact tests of one batch, adjusted by Holm over features and strata, and plain checks."""
    profile = detector.profile
    n, strata = detector.members(columns)
    if not n:
        raise DriftError("there are no rows to test")
    if profile.epsilon is not None:
        raise DriftError(
            "the counts of this profile have noise for privacy, which an exact test would take for "
            "drift; show the "
            "rows to update(), which allows for it"
        )
    counts = np.array([_counted(profile, columns, strata, s) for s in range(len(profile.strata))])
    adjusted = _tested(detector, counts)
    found = [
        _feature(feature, name, profile.counts[s, j], counts[s, j], changed=adjusted.get((s, j)))
        for s, (name, _) in enumerate(detector.streams())
        for j, feature in enumerate(profile.features)
    ]
    statistics = {
        f.name: "Anderson-Darling" if f.ordered else "chi-square" for f in profile.features
    }
    alarms = [_batch_alarm(detector, drift, statistics[drift.feature], n) for drift in found]
    strangers = 0 if strata is None else int((strata < 0).sum())
    return DriftReport(
        kind="batch",
        rows=n,
        reference_rows=profile.rows,
        alpha=detector.alpha,
        guarantee=_batch_promise(detector.alpha),
        assumptions=profile.assumptions(),
        alarms=tuple(
            sorted((alarm for alarm in alarms if alarm is not None), key=lambda alarm: alarm.p)
        ),
        features=tuple(found),
        checks=(
            *_checks(detector, columns, counts.sum(axis=0)),
            *_strangers(strangers, n, profile.stratum),
        ),
        performance=_estimated(detector, detector.estimate(answers), answers),
    )


def _batch_promise(alpha: float) -> str:
    return (
        "if this batch is exchangeable with the reference, any alarm is raised with a probability "
        "of at most "
        f"{alpha:g}; exact, for this one batch"
    )


def _counted(profile: Profile, columns: Mapping[str, Array], strata: Array | None, s: int) -> Array:
    """Counts (d, 67) of the rows of a stratum, as far apart as the reference's; none where a feature is absent."""
    counts = np.zeros((len(profile.features), CELLS), np.int64)
    for j, feature in enumerate(profile.features):
        if feature.name in columns:
            values = columns[feature.name]
            mine = values if strata is None else values[strata == s]
            counts[j] = feature.count(mine[:: feature.stride])
    return counts


def _tested(detector: Detector, counts: Array) -> dict[tuple[int, int], float]:
    """Adjusted p-values by stratum and feature, of those that have rows on both sides."""
    profile = detector.profile
    minded = [feature.weight > 0 for feature in profile.features]
    cells = np.ndindex(counts.shape[:2])
    tests = [at for at in cells if minded[at[1]] and counts[at].sum() and profile.counts[at].sum()]
    draws = batch.permutations_for(len(tests), detector.alpha)
    rng = np.random.default_rng(detector.seed)
    p = [
        batch.exact_test(
            counts[s, j],
            profile.counts[s, j],
            "anderson_darling" if profile.features[j].ordered else "chi_square",
            rng,
            draws,
        )
        for s, j in tests
    ]
    return dict(zip(tests, batch.holm(np.array(p)).tolist(), strict=True))


def _batch_alarm(
    detector: Detector, drift: FeatureDrift, statistic: str, rows: int
) -> Alarm | None:
    if drift.p_changed is None or drift.p_changed > detector.alpha:
        return None
    return Alarm(
        kind="changed",
        feature=drift.feature,
        stratum=drift.stratum,
        statistic=statistic,
        p=drift.p_changed,
        level=detector.alpha,
        row=rows,
        began=None,
        effect=drift.effects[0],
        guarantee=_batch_promise(detector.alpha),
        assumptions=detector.profile.assumptions(),
    )


def _feature(  # noqa: PLR0913 - all but four by keyword
    feature: Feature,
    stratum: str | None,
    reference: Array,
    recent: Array,
    *,
    changed: float | None = None,
    material: float | None = None,
    began: int | None = None,
) -> FeatureDrift:
    before, now = reference / max(reference.sum(), 1), recent / max(recent.sum(), 1)
    shown = zip(feature.labels(), before.tolist(), now.tolist(), strict=True)
    return FeatureDrift(
        feature=feature.name,
        kind=feature.kind,
        stratum=stratum,
        rows=int(recent.sum()),
        p_changed=changed,
        p_material=material,
        effects=_effects(recent, reference, ordered=feature.ordered),
        missing=(float(before[GONE]), float(now[GONE])),
        weight=feature.weight,
        began=began,
        cells=tuple(
            (label, old, new)
            for label, old, new in shown
            if old or new or (label and label[0] not in "-+(")
        ),
    )


# Plain checks: facts that need no stream.


def _unseen(feature: Feature, counts: Array) -> list[Check]:
    if feature.ordered or not counts[NEW]:
        return []
    found = f"{int(counts[NEW]):,} of {int(counts.sum()):,} rows have a category that training did not know"
    return [Check("unseen category", feature.name, found, "none")]


def _strangers(strangers: int, rows: int, stratum: str | None) -> tuple[Check, ...]:
    if not strangers or stratum is None:
        return ()
    found = f"{strangers:,} of {rows:,} rows are of a stratum that the reference does not have; they were not compared"
    return (Check("unseen stratum", stratum, found, "none"),)


def _checks(detector: Detector, columns: Mapping[str, Array], counts: Array) -> list[Check]:
    """What one batch has that the reference does not; rates where an exact test at alpha, by Holm, tells them apart."""
    profile = detector.profile
    plain: list[Check] = []
    rates: list[Check] = []
    for j, feature in enumerate(profile.features):
        if feature.name not in columns:
            continue
        plain += _unseen_named(feature, columns[feature.name])
        plain += _constant(feature, counts[j], profile.counts[:, j].sum(axis=0))
        rates += _rates(feature, counts[j], profile.counts[:, j].sum(axis=0))
    rates += _duplicated(detector, columns)
    adjusted = batch.holm(np.array([1.0 if check.p is None else check.p for check in rates]))
    kept = [
        replace(check, p=float(p))
        for check, p in zip(rates, adjusted, strict=True)
        if p <= detector.alpha
    ]
    return plain + kept


def _unseen_named(feature: Feature, values: Array) -> list[Check]:
    if feature.ordered:
        return []
    new = [
        item
        for item, cell in zip(as_texts(values), feature.cells(values), strict=True)
        if cell == NEW
    ]
    if not new:
        return []
    names = ", ".join(repr(name[:40]) for name in sorted({str(item) for item in new})[:SHOWN])
    return [
        Check(
            "unseen category",
            feature.name,
            f"{len(new):,} of {len(values):,} rows, such as {names}",
            "none",
        )
    ]


def _constant(feature: Feature, counts: Array, reference: Array) -> list[Check]:
    n = int(counts.sum())
    if n < ALONE or np.count_nonzero(counts) > 1 or not reference.sum():
        return []
    cell = int(np.argmax(counts))
    share = (int(reference[cell]) + 1) / (int(reference.sum()) + 2)
    if share**n > UNLIKELY:
        return []
    label = feature.labels()[cell]
    return [
        Check(
            "constant",
            feature.name,
            f"all {n:,} values are {label}",
            f"a share of {share:.2g}",
            float(share**n),
        )
    ]


def _rates(feature: Feature, counts: Array, reference: Array) -> list[Check]:
    """Rates of missing, infinite and outlying values, with p-values that are not adjusted yet."""
    asked = {"missing rate": [GONE]}
    if feature.kind in ("number", "text", "time") and feature.edges:
        last = len(feature.edges) + 1
        asked |= {
            "below the usual range": [1],
            "above the usual range": [last],
            "infinite": [0, CELLS - 2],
        }
    n, total = int(counts.sum()), int(reference.sum())
    if not n or not total:
        return []
    found = []
    for name, cells in asked.items():
        here, there = int(counts[cells].sum()), int(reference[cells].sum())
        if here / n > there / total:
            p = batch.rate_test(here, n, there, total)
            found.append(
                Check(
                    name, feature.name, f"{here / n:.2%} of {n:,} rows", f"{there / total:.2%}", p
                )
            )
    return found


def _duplicated(detector: Detector, columns: Mapping[str, Array]) -> list[Check]:
    """Rows that equal an earlier one, among as many as the reference has: in more rows there are more of them."""
    profile = detector.profile
    inputs = [feature for feature in profile.features if not feature.output]
    if profile.epsilon is not None or any(feature.name not in columns for feature in inputs):
        return []
    first = {
        feature.name: columns[feature.name][: min(profile.rows, MOST_COMPARED)]
        for feature in inputs
    }
    n, share = max(map(len, first.values()), default=0), profile.duplicates / profile.rows
    twice = duplicates(inputs, first)
    if twice <= share * n:
        return []
    p = batch.rate_test(twice, n, profile.duplicates, profile.rows)
    return [
        Check("duplicate rows", "all columns", f"{twice / n:.2%} of {n:,} rows", f"{share:.2%}", p)
    ]


# Performance, from labels and without.


def _performance(detector: Detector) -> Performance | None:
    labelled, baseline = detector.labelled, detector.profile.baseline
    found = _estimated(detector, detector.estimated(), {})
    if labelled is None or baseline is None:
        return found
    estimated = {} if found is None else found.estimated
    return Performance(
        labelled=labelled.rows,
        loss=labelled.interval(),
        baseline=reference_interval(baseline),
        estimated=estimated,
        unsupported=None if found is None else found.unsupported,
    )


def _estimated(
    detector: Detector, estimate: Estimate | None, answers: Mapping[str, Array]
) -> Performance | None:
    calibration, baseline = detector.profile.calibration, detector.profile.baseline
    if calibration is None or estimate is None or not estimate.rows:
        return None
    low, high = estimate.interval(calibration)
    found = {"accuracy": (estimate.accuracy, low, high)}
    if len(calibration.classes) == 2:
        shown = {
            "precision": estimate.precision(),
            "recall": estimate.recall(),
            "f1": estimate.f1(),
        }
        if "probabilities" in answers:
            shown["auc"] = auc(calibration, answers["probabilities"])
        found |= {name: (value, float("nan"), float("nan")) for name, value in shown.items()}
    return Performance(
        labelled=0,
        loss=None,
        baseline=None if baseline is None else reference_interval(baseline),
        estimated=found,
        unsupported=_unsupported(detector, estimate),
    )


def auc(calibration: Calibration, probabilities: Array) -> float:
    """The area under the ROC curve to be expected of a binary classifier."""
    scores = scores_of(probabilities)
    p = calibration.probabilities(scores)[:, 1]
    return binary_performance(p, p >= OUTSIDE, scores)["auc"]


def _unsupported(detector: Detector, estimate: Estimate) -> str | None:
    """Why a label-free estimate is not to be relied on."""
    of_vectors = [
        alarm for alarm in detector.alarms if alarm.feature.endswith((": distance", ": residual"))
    ]
    reasons = [f"{alarm.feature} changed" for alarm in of_vectors if alarm.kind == "changed"]
    if estimate.outside > OUTSIDE * estimate.rows:
        reasons.append(
            f"{estimate.outside / estimate.rows:.0%} of the probabilities are beyond those of the "
            "reference"
        )
    return f"outside reference support: {'; '.join(reasons)}" if reasons else None
