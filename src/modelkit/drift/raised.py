"""The alarms of rows and of losses, from evidence that passed its threshold."""

from __future__ import annotations

from modelkit.cast import Array
from modelkit.drift import exact
from modelkit.drift.cells import Feature
from modelkit.drift.labels import Labelled, LossCrossing
from modelkit.drift.profile import Profile
from modelkit.drift.stream import Crossing
from modelkit.drift.values import Alarm, Effect

STATISTICS = {
    "changed": "conformal test martingale",
    "material": "band e-process",
    "performance": "loss e-process",
}


def row_alarm(  # noqa: PLR0913 - half of them by keyword
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
    return Alarm(
        kind="changed" if crossing.kind == "changed" else "material",
        feature=feature.name,
        stratum=stratum,
        statistic=STATISTICS[crossing.kind],
        p=crossing.p,
        level=level * crossing.part,
        row=crossing.row,
        began=crossing.began,
        effect=exact.main_effect(crossing.recent, reference, ordered=feature.ordered),
        guarantee=promise,
        assumptions=profile.assumptions(),
        time=crossing.time,
        began_time=crossing.began_time,
        rows=crossing.rows,
        again=crossing.again,
        counts=tuple(crossing.recent.tolist()),
    )


def loss_alarm(
    profile: Profile,
    labelled: Labelled,
    crossing: LossCrossing,
    *,
    level: float,
    promise: str,
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
