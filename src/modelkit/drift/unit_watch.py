"""What a Detector knows of units: their stream, the guarantee in words, and the alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import final

import numpy as np

from modelkit.cast import Array
from modelkit.drift.profile import Profile
from modelkit.drift.unit_effects import first_effect, unit_effects
from modelkit.drift.unit_martingale import HORIZON_UNITS, UnitEvidence
from modelkit.drift.unit_scores import SCORES
from modelkit.drift.unit_stream import JudgedUnit, UnitCrossing, UnitStream
from modelkit.drift.units import ReferenceUnits, group_table, many, plural, shares_of
from modelkit.drift.values import Alarm, Effect
from modelkit.evidence import Guarantee


@final
class UnitWatch:
    """The units of a stream, beside those of the reference.

    Args:
        profile: the past.
        unit: what is a unit.
        units: those of the reference.
        level: the part of alpha that is for changes of features.
        guarantee: see `evidence`.
        seed: of the ties, and of the units that are forgotten.
    """

    def __init__(
        self,
        profile: Profile,
        unit: str,
        units: ReferenceUnits,
        level: float,
        guarantee: Guarantee,
        seed: np.random.SeedSequence,
    ) -> None:
        self.unit = unit
        self.reference = units
        weights = np.array([feature.weight for feature in profile.features])
        evidence = UnitEvidence(
            self.reference,
            len(profile.strata),
            level * weights,
            guarantee,
            seed,
        )
        self.stream = UnitStream(self.unit, profile.features, evidence)
        self.promise = _promise(profile, self.unit, level, guarantee)
        self._profile = profile

    @staticmethod
    def of(
        profile: Profile,
        levels: Mapping[str, float],
        guarantee: Guarantee,
        seed: np.random.SeedSequence,
    ) -> UnitWatch | None:
        """What is known of units, where a profile has them."""
        if profile.units is None or profile.unit is None:
            return None
        return UnitWatch(
            profile,
            profile.unit,
            profile.units,
            levels["changed"],
            guarantee,
            seed,
        )

    @property
    def rows(self) -> int:
        """The number of rows taken, with those that were not compared."""
        return self.stream.rows + self.stream.late + self.stream.partial

    def alarm(self, crossing: UnitCrossing) -> Alarm:
        """The alarm that a crossing raises."""
        feature = self._profile.features[crossing.feature]
        sides = self._sides(crossing.feature, crossing.recent, crossing.strata)
        effect = None
        if sides is not None:
            effect = Effect.later(partial(first_effect, *sides, ordered=feature.ordered))
        began = crossing.began
        own = crossing.unit
        return Alarm(
            kind="changed",
            feature=feature.name,
            stratum=None,
            statistic=f"conformal test martingale of {plural(self.unit)}: {SCORES[crossing.score]}",
            p=crossing.p,
            level=float(self.stream.evidence.levels[crossing.feature]),
            row=own.before + own.rows,
            began=None if began is None else began.before,
            effect=effect,
            guarantee=self.promise,
            assumptions=self._profile.assumptions(),
            time=own.end,
            began_time=None if began is None else began.start,
            rows=int(crossing.recent.sum()),
            unit=own.name,
            counts=tuple(crossing.recent.sum(axis=0).tolist()),
        )

    def effects(
        self,
        j: int,
        recent: Array,
        strata: Sequence[int],
    ) -> tuple[Effect, ...]:
        """Effect sizes of feature number j, from counts (units, 67) of units in these strata."""
        sides = self._sides(j, recent, strata)
        if sides is None:
            return ()
        return unit_effects(*sides, ordered=self._profile.features[j].ordered)

    def _sides(
        self,
        j: int,
        recent: Array,
        strata: Sequence[int],
    ) -> tuple[Array, list[int], Array, Array] | None:
        """What `unit_effects` compares; None without values, or where the reference has none."""
        own = [i for i, counts in enumerate(recent) if counts.any()]  # that have values of it
        reference = self.reference.shares[:, j]
        known = self.reference.strata[reference.any(axis=1)]
        theirs = [strata[i] for i in own]
        if not own or not {*theirs} <= {*known.tolist()}:
            return None
        table = group_table([self._profile.features[j]] * len(own))
        return shares_of(recent[own], table), theirs, reference, self.reference.strata

    def began(self) -> list[JudgedUnit | None]:
        """For each feature, the unit with which its change began; None where it is forgotten."""
        evidence = self.stream.evidence
        best = evidence.p().argmin(axis=1)
        steps = np.take_along_axis(evidence.began(), best[:, None], axis=1)
        return [self.stream.unit_at(step) for step in steps[:, 0].tolist()]


def _promise(
    profile: Profile,
    unit: str,
    level: float,
    guarantee: Guarantee,
) -> str:
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
