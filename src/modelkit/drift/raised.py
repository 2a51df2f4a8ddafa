"""The alarms of rows and of losses, from evidence that passed its threshold."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import Feature
from modelkit.drift.effects import main_effect
from modelkit.drift.labels import Labelled, LossCrossing
from modelkit.drift.losses import TARGET
from modelkit.drift.profile import Profile
from modelkit.drift.shares import HORIZON
from modelkit.drift.stream import Crossing
from modelkit.drift.values import Alarm, Effect
from modelkit.stats.evidence import Guarantee

STATISTICS = {
    "changed": "conformal test martingale",
    "material": "band e-process",
    "performance": "loss e-process",
}


def row_alarm(
    profile: Profile,
    feature: Feature,
    reference: Array,
    crossing: Crossing,
    *,
    stratum: str | None,
    level: float,
    promise: str,
) -> Alarm:
    """The alarm of a feature with these counts (67,) in the reference.

    `level` is its share of alpha, and `promise` the guarantee in words.
    """
    recent = crossing.recent
    return Alarm(
        kind="changed" if crossing.kind == "changed" else "material",
        feature=feature.name,
        stratum=stratum,
        statistic=STATISTICS[crossing.kind],
        p=crossing.p,
        level=level * crossing.part,
        row=crossing.row,
        began=crossing.began,
        effect=_effect(recent, reference, feature),
        guarantee=promise,
        assumptions=profile.assumptions(),
        time=crossing.time,
        began_time=crossing.began_time,
        rows=crossing.rows,
        again=crossing.again,
        counts=tuple(recent.tolist()),
    )


def row_promise(alpha: float, guarantee: Guarantee) -> str:
    """The guarantee of a stream of rows, in words."""
    if guarantee == "ever":
        return (
            "if rows are exchangeable with the reference, any alarm is ever raised with a "
            f"probability of at most {alpha:g}, however often one looks"
        )
    return (
        f"if rows are exchangeable with the reference, any alarm is raised within {HORIZON:,} "
        f"rows with a probability of at most {alpha:g}"
    )


def _effect(recent: Array, reference: Array, feature: Feature) -> Effect | None:
    """The effect size between counts (67,), measured when somebody looks at it."""
    if not recent.sum() or not reference.sum():
        return None
    return Effect.later(partial(main_effect, recent, reference, ordered=feature.ordered))


def with_effect(profile: Profile, alarm: Alarm) -> Alarm:
    """A stored alarm of this reference with its effect, which is measured when it is looked at."""
    if alarm.effect is not None or not alarm.counts or alarm.unit is not None:
        return alarm
    target = profile.target
    if target is not None and alarm.feature == TARGET:
        feature, reference = target.feature, target.counts
    else:
        j = [feature.name for feature in profile.features].index(alarm.feature)
        s = 0 if alarm.stratum is None else profile.strata.index(alarm.stratum)
        feature, reference = profile.features[j], profile.counts[s, j]
    return replace(alarm, effect=_effect(np.array(alarm.counts), reference, feature))


def loss_alarm(
    profile: Profile, labelled: Labelled, crossing: LossCrossing, *, level: float, promise: str
) -> Alarm:
    """The alarm of the losses; `level` and `promise` are as of `row_alarm`."""
    interval = labelled.interval()
    return Alarm(
        kind="performance",
        feature="loss",
        stratum=None,
        statistic=STATISTICS["performance"],
        p=crossing.p,
        level=level * crossing.part,
        row=crossing.row,
        began=crossing.began,
        effect=None if interval is None else Effect("mean loss", *interval),
        guarantee=promise,
        assumptions=profile.assumptions(),
        time=crossing.time,
        began_time=crossing.began_time,
        rows=crossing.rows,
        again=crossing.again,
    )
