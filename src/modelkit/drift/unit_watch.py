"""What a Detector knows of units: their stream, the guarantee in words, and the alarms."""

from __future__ import annotations

from typing import final

import numpy as np

from modelkit.drift.effects import UnitSides
from modelkit.drift.profile import Profile
from modelkit.drift.shares import AlphaShares
from modelkit.drift.unit_martingale import HORIZON_UNITS, UnitEvidence
from modelkit.drift.unit_stream import JudgedUnit, UnitCrossing, UnitStream
from modelkit.drift.units import ReferenceUnits, many, plural
from modelkit.drift.values import Alarm, Effect
from modelkit.stats.evidence import Guarantee


@final
class UnitWatch:
    """The units of a stream, beside those of the reference.

    Args:
        profile: the past.
        unit: what is a unit.
        units: those of the reference.
        shares: those of alpha.
        seed: of the ties, and of the units that are forgotten.
    """

    def __init__(
        self,
        profile: Profile,
        unit: str,
        units: ReferenceUnits,
        shares: AlphaShares,
        seed: np.random.SeedSequence,
    ) -> None:
        self.unit = unit
        self.reference = units
        weights = np.array([feature.weight for feature in profile.features])
        levels = {kind: shares.levels[kind] for kind in ("changed", "material")}
        evidence = UnitEvidence(
            self.reference,
            len(profile.strata),
            {kind: level * weights for kind, level in levels.items()},
            shares.tolerances[:-1],
            shares.guarantee,
            seed,
        )
        self.stream = UnitStream(self.unit, profile.features, evidence)
        self.promise = _promise(profile, self.unit, sum(levels.values()), shares.guarantee)
        self._profile = profile

    @staticmethod
    def of(profile: Profile, shares: AlphaShares, seed: np.random.SeedSequence) -> UnitWatch | None:
        """What is known of units, where a profile has them."""
        if profile.units is None or profile.unit is None:
            return None
        return UnitWatch(profile, profile.unit, profile.units, shares, seed)

    @property
    def rows(self) -> int:
        """The number of rows taken, with those that were not compared."""
        return self.stream.taken

    def alarm(self, crossing: UnitCrossing) -> Alarm:
        """The alarm that a crossing raises."""
        feature = self._profile.features[crossing.feature]
        sides = UnitSides.of(
            self.reference, feature, crossing.feature, crossing.recent, crossing.strata
        )
        effect = None if sides is None else Effect.later(sides.main_effect)
        began = crossing.began
        own = crossing.unit
        return Alarm(
            kind="changed" if crossing.kind == "changed" else "material",
            feature=feature.name,
            stratum=None,
            statistic=f"conformal test martingale of {plural(self.unit)}: {crossing.score}",
            p=crossing.p,
            level=crossing.level,
            row=own.before + own.rows,
            began=None if began is None else began.before,
            effect=effect,
            guarantee=self.promise,
            assumptions=self._profile.assumptions(),
            time=None if own.end is None else own.end - 1,  # its last second
            began_time=None if began is None else began.start,
            rows=crossing.rows,
            unit=own.name,
            again=crossing.again,
            counts=tuple(crossing.recent.sum(axis=0).tolist()),
        )

    def began(self) -> list[JudgedUnit | None]:
        """For each feature, the unit with which its change began; None where it is forgotten."""
        tests = self.stream.evidence.tests.values()
        p = np.hstack([test.p() for test in tests])
        began = np.hstack([test.began() for test in tests])
        steps = np.take_along_axis(began, p.argmin(axis=1)[:, None], axis=1)
        return [self.stream.unit_at(step) for step in steps[:, 0].tolist()]


def _promise(profile: Profile, unit: str, level: float, guarantee: Guarantee) -> str:
    """The guarantee of a stream of units, in words."""
    units = plural(unit)
    strata = "" if profile.stratum is None else f" of the same {profile.stratum}"
    what = "any alarm"
    rest = ""
    if profile.baseline is not None:
        what = "any alarm about a feature"
        rest = "; losses go by rows, and need rows that are exchangeable"
    when = f"if {units} are exchangeable with the {units} of the reference{strata}"
    if guarantee == "ever":
        return (
            f"{when}, {what} is ever raised with a probability of at most {level:.3g}, however often "
            f"one looks{rest}"
        )
    return (
        f"{when}, {what} is raised within {many(HORIZON_UNITS, unit)} with a probability of at most "
        f"{level:.3g}{rest}"
    )
