"""The alarms of rows, units and losses, from evidence that passed its threshold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import cast, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.alpha import HORIZON, HORIZON_UNITS, AlphaShares
from modelkit.drift.cells import Feature
from modelkit.drift.effects import row_effects, unit_effects
from modelkit.drift.limits import Losses
from modelkit.drift.losses import TARGET
from modelkit.drift.open_unit import Units
from modelkit.drift.profile import Profile
from modelkit.drift.sequence import Crossing
from modelkit.drift.unit_ranks import PLACE_SCORES, SCORES
from modelkit.drift.units import many, plural
from modelkit.drift.values import Alarm, AlarmKind, Effect
from modelkit.stats.evidence import Guarantee

STATISTICS = {
    "changed": "conformal test martingale",
    "material": "band e-process",
    "performance": "loss e-process",
}
NO_COUNTS = np.empty(0, np.int64)
UNIT_SCORES = {"changed": SCORES, "material": PLACE_SCORES}


@final
@dataclass(frozen=True)
class Terms:
    """What holds for an alarm, in words: the guarantee, and what it rests on."""

    promise: str
    assumptions: tuple[str, ...]

    @staticmethod
    def of(profile: Profile, shares: AlphaShares, alpha: float) -> Terms:
        """Those of a stream that is compared with a profile."""
        promise = _row_promise(alpha, shares.guarantee)
        if profile.units is not None:
            promise = _unit_promise(profile, shares)
        return Terms(promise, profile.assumptions())

    def alarm(
        self,
        crossing: Crossing,
        *,
        feature: str,
        statistic: str,
        effect: Effect | None,
        stratum: str | None = None,
        counts: Array = NO_COUNTS,
    ) -> Alarm:
        """The alarm of a crossing."""
        return Alarm(
            kind=cast(AlarmKind, crossing.kind),
            feature=feature,
            stratum=stratum,
            statistic=statistic,
            p=crossing.p,
            level=crossing.level,
            row=crossing.row,
            began=crossing.began,
            effect=effect,
            guarantee=self.promise,
            assumptions=self.assumptions,
            time=crossing.time,
            began_time=crossing.began_time,
            rows=crossing.values,
            again=crossing.again,
            counts=tuple(counts.tolist()),
        )


def row_alarm(
    feature: Feature, reference: Array, crossing: Crossing, terms: Terms, *, stratum: str | None
) -> Alarm:
    """The alarm of a feature with these counts (67,) in the reference."""
    recent = crossing.recent.sum(axis=0, dtype=np.int64)
    return terms.alarm(
        crossing,
        feature=feature.name,
        stratum=stratum,
        statistic=STATISTICS[crossing.kind],
        effect=_effect(recent, reference, feature),
        counts=recent,
    )


def _row_promise(alpha: float, guarantee: Guarantee) -> str:
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


def unit_alarm(profile: Profile, units: Units, crossing: Crossing, terms: Terms) -> Alarm:
    """The alarm of a feature by the last unit that was judged."""
    unit = units.trail[-1]
    began = units.unit_at(crossing.block)
    strata = units.last_strata(len(crossing.recent))
    feature = profile.features[crossing.feature]
    measure = unit_effects(units.reference, feature, crossing.feature, crossing.recent, strata)
    score = UNIT_SCORES[crossing.kind][crossing.lane]
    alarm = terms.alarm(
        crossing,
        feature=feature.name,
        statistic=f"conformal test martingale of {plural(units.unit)}: {score}",
        effect=None if measure is None else Effect.later(measure),
        counts=crossing.recent.sum(axis=0),
    )
    return replace(
        alarm,
        row=unit.before + unit.rows,
        began=None if began is None else began.before,
        time=None if unit.end is None else unit.end - 1,  # its last second
        began_time=None if began is None else began.start,
        unit=unit.name,
    )


def _unit_promise(profile: Profile, shares: AlphaShares) -> str:
    """The guarantee of a stream of units, in words."""
    unit = str(profile.unit)
    units = plural(unit)
    level = shares.levels["changed"] + shares.levels["material"]
    strata = "" if profile.stratum is None else f" of the same {profile.stratum}"
    what = "any alarm"
    rest = ""
    if profile.baseline is not None:
        what = "any alarm about a feature"
        rest = "; losses go by rows, and need rows that are exchangeable"
    when = f"if {units} are exchangeable with the {units} of the reference{strata}"
    if shares.guarantee == "ever":
        return (
            f"{when}, {what} is ever raised with a probability of at most {level:.3g}, however often "
            f"one looks{rest}"
        )
    return (
        f"{when}, {what} is raised within {many(HORIZON_UNITS, unit)} with a probability of at most "
        f"{level:.3g}{rest}"
    )


def _effect(recent: Array, reference: Array, feature: Feature) -> Effect | None:
    """The effect size between counts (67,), measured when somebody looks at it."""
    if not recent.sum() or not reference.sum():
        return None
    return Effect.later(partial(row_effects, recent, reference, ordered=feature.ordered))


def counts_in(profile: Profile, stratum: str | None) -> Array:
    """The counts (d, 67) of the reference in a stratum; None for all of them together."""
    own = slice(None) if stratum is None else [profile.strata.index(stratum)]
    counts: Array = profile.counts[own].sum(axis=0)
    return counts


def with_effect(profile: Profile, alarm: Alarm) -> Alarm:
    """A stored alarm of this reference with its effect, which is measured when it is looked at."""
    if alarm.effect is not None or not alarm.counts or alarm.unit is not None:
        return alarm
    target = profile.target
    if target is not None and alarm.feature == TARGET:
        feature, reference = target.feature, target.counts
    else:
        j = [feature.name for feature in profile.features].index(alarm.feature)
        feature, reference = profile.features[j], counts_in(profile, alarm.stratum)[j]
    return replace(alarm, effect=_effect(np.array(alarm.counts), reference, feature))


def loss_alarm(losses: Losses, crossing: Crossing, terms: Terms) -> Alarm:
    """The alarm of the losses."""
    interval = losses.interval()
    return terms.alarm(
        crossing,
        feature="loss",
        statistic=STATISTICS["performance"],
        effect=None if interval is None else Effect("mean loss", *interval),
    )
