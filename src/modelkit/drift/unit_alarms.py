"""What the evidence about units says: the guarantee in words, alarms and effect sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelkit.cast import Array
from modelkit.drift.profile import Profile
from modelkit.drift.unit_effects import unit_effects
from modelkit.drift.unit_martingale import HORIZON_UNITS
from modelkit.drift.unit_scores import SCORES
from modelkit.drift.unit_stream import UnitCrossing, UnitStream
from modelkit.drift.units import (
    WHOLE,
    ReferenceUnits,
    group_table,
    many,
    plural,
    shares_of,
)
from modelkit.drift.values import Alarm, Effect
from modelkit.errors import DriftError
from modelkit.evidence import Guarantee


def kept_units(profile: Profile) -> ReferenceUnits:
    """The units of a profile that has some."""
    if profile.units is None or profile.unit is None:
        raise DriftError("this profile has no units: fit it with unit=")
    return profile.units


def unit_promise(
    profile: Profile,
    alpha: float,
    guarantee: Guarantee,
) -> str:
    """The guarantee of a stream of units, in words."""
    units = plural(str(profile.unit))
    strata = "" if profile.stratum is None else f" of their {profile.stratum}"
    when = f"if {units} are exchangeable with the {units} of the reference{strata}"
    if guarantee == "ever":
        return (
            f"{when}, any alarm is ever raised with a probability of at most {alpha:g}, however "
            "often one looks"
        )
    return (
        f"{when}, any alarm is raised within {many(HORIZON_UNITS, str(profile.unit))} with a "
        f"probability of at most {alpha:g}"
    )


def unit_alarm(
    profile: Profile,
    stream: UnitStream,
    crossing: UnitCrossing,
    promise: str,
) -> Alarm:
    """The alarm that a crossing raises."""
    feature = profile.features[crossing.feature]
    effects = effects_of(profile, crossing.feature, crossing.recent, crossing.strata)
    began = crossing.began
    score = SCORES[crossing.score]
    return Alarm(
        kind="changed",
        feature=feature.name,
        stratum=None,
        statistic=f"conformal test martingale of {plural(stream.unit)}, by their {score}",
        p=crossing.p,
        level=float(stream.evidence.levels[crossing.feature]),
        row=crossing.unit.before + crossing.unit.rows,
        began=None if began is None else began.before,
        effect=effects[0] if effects else None,
        guarantee=promise,
        assumptions=profile.assumptions(),
        unit=crossing.unit.name,
    )


def effects_of(
    profile: Profile,
    j: int,
    recent: Array,
    strata: Sequence[int],
) -> tuple[Effect, ...]:
    """Effect sizes of feature number j, from counts (units, 67) of units in these strata."""
    units = kept_units(profile)
    feature = profile.features[j]
    table = group_table((feature,))
    shares = [shares_of(counts[None], table)[0] for counts in recent]
    if not shares:
        return ()
    return unit_effects(
        np.array(shares) / WHOLE,
        strata,
        units.shares[:, j] / WHOLE,
        units.strata,
        ordered=feature.ordered,
    )
