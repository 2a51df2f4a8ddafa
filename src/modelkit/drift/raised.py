"""The alarms of rows, units and losses, from evidence that passed its threshold."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import exact
from modelkit.drift.cells import Feature
from modelkit.drift.open_unit import UnitCrossing, Units
from modelkit.drift.profile import Profile
from modelkit.drift.ranks import PLACE_SCORES, SCORES
from modelkit.drift.sequence import Crossing
from modelkit.drift.sources import Losses
from modelkit.drift.target import TARGET
from modelkit.drift.unit_effects import first_effect, sides
from modelkit.drift.units import plural
from modelkit.drift.values import Alarm, Effect

STATISTICS = {
    "changed": "conformal test martingale",
    "material": "band e-process",
    "performance": "loss e-process",
}
UNIT_SCORES = {"changed": SCORES, "material": PLACE_SCORES}


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
    recent = crossing.recent.sum(axis=0, dtype=np.int64)
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
        rows=crossing.values,
        again=crossing.again,
        counts=tuple(recent.tolist()),
    )


def _effect(recent: Array, reference: Array, feature: Feature) -> Effect | None:
    """The effect size between counts (67,), measured when somebody looks at it."""
    if not recent.sum() or not reference.sum():
        return None
    return Effect.later(partial(exact.main_effect, recent, reference, ordered=feature.ordered))


def without_effect(alarm: Alarm) -> Alarm:
    """An alarm to be stored: that of rows without the effect that its counts tell."""
    return replace(alarm, effect=None) if alarm.counts and alarm.unit is None else alarm


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


def unit_alarm(profile: Profile, units: Units, crossed: UnitCrossing, *, promise: str) -> Alarm:
    """The alarm of a feature when a unit was judged; `promise` is the guarantee in words."""
    crossing, unit, began, strata = crossed
    feature = profile.features[crossing.feature]
    own = sides(feature, units.reference, crossing.feature, crossing.recent, strata)
    effect = None
    if own is not None:
        effect = Effect.later(partial(first_effect, *own, ordered=feature.ordered))
    score = UNIT_SCORES[crossing.kind][crossing.lane]
    return Alarm(
        kind="changed" if crossing.kind == "changed" else "material",
        feature=feature.name,
        stratum=None,
        statistic=f"conformal test martingale of {plural(units.unit)}: {score}",
        p=crossing.p,
        level=crossing.level,
        row=unit.before + unit.rows,
        began=None if began is None else began.before,
        effect=effect,
        guarantee=promise,
        assumptions=profile.assumptions(),
        time=None if unit.end is None else unit.end - 1,  # its last second
        began_time=None if began is None else began.start,
        rows=crossing.values,
        unit=unit.name,
        again=crossing.again,
        counts=tuple(crossing.recent.sum(axis=0).tolist()),
    )


def loss_alarm(
    profile: Profile, losses: Losses, crossing: Crossing, *, level: float, promise: str
) -> Alarm:
    """The alarm of the losses; `level` and `promise` are as of `row_alarm`."""
    interval = losses.interval()
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
        rows=crossing.values,
        again=crossing.again,
    )
