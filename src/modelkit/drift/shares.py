"""The shares of alpha: of each kind of alarm, stratum and feature, with their evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import band
from modelkit.drift.labels import Labelled
from modelkit.drift.losses import Baseline
from modelkit.drift.profile import Profile
from modelkit.drift.stream import Stream
from modelkit.drift.target import TARGET, TargetLabels
from modelkit.drift.vectors import source_of
from modelkit.errors import UsageError
from modelkit.stats.evidence import Guarantee

HORIZON = 10_000  # rows in which alpha is the probability of a false alarm, for "arl"
ALPHA_SHARES = {"changed": 2, "material": 1, "performance": 1}  # among the kinds looked for
FOR_THE_REFERENCE = 1 / 3  # of the alpha of "material" and "performance": for its sampling error
DEFAULT_TOLERANCE = 0.03
LEAST_DELTA = 1e-300  # keeps the logarithm of a feature without any share of alpha finite


def alpha_by_kind(profile: Profile, alpha: float) -> dict[str, float]:
    """The part of alpha of each kind of alarm that is looked for."""
    shares = dict(ALPHA_SHARES)
    if profile.baseline is None:
        del shares["performance"]
    total = sum(shares.values())
    return {kind: alpha * share / total for kind, share in shares.items()}


def _weights(profile: Profile) -> Array:
    """The share of alpha of each feature in one stratum, (d,); what is left is for the labels."""
    weights = np.array([feature.weight for feature in profile.features])
    target = 0.0 if profile.target is None else profile.target.feature.weight
    shares: Array = weights * (1 - target) / len(profile.strata)
    return shares


@final
@dataclass(frozen=True, eq=False)
class AlphaShares:
    """What each kind of alarm and each feature has of alpha, and how far a feature may move.

    `levels` has the part of each kind, `weights` (d,) the share of each feature in one stratum, and
    `tolerances` (d + 1,) those of the features and, at last, of the labels.
    """

    levels: dict[str, float]
    weights: Array
    tolerances: Array
    guarantee: Guarantee

    @staticmethod
    def of(
        profile: Profile, alpha: float, tolerance: float | Mapping[str, float], guarantee: Guarantee
    ) -> AlphaShares:
        """The shares of a profile. Raises UsageError for arguments out of range."""
        if not isinstance(alpha, Real) or not 0 < alpha < 1:
            raise UsageError(f"alpha is between 0 and 1; got {alpha!r}")
        if guarantee not in ("ever", "arl"):
            raise UsageError(f'guarantee is "ever" or "arl", got {guarantee!r}')
        return AlphaShares(
            alpha_by_kind(profile, alpha),
            _weights(profile),
            tolerances_of(profile, tolerance),
            guarantee,
        )

    def level(self, kind: str, feature: int) -> float:
        """The part of alpha of one kind of alarm of the feature of this number."""
        return self.levels[kind] * float(self.weights[feature])


def target_stream(
    target: TargetLabels, shares: AlphaShares, seed: np.random.SeedSequence, *, judged: bool
) -> Stream:
    """The stream of the labels, with their share of alpha where they are `judged` and not only shown."""
    weight = target.feature.weight
    levels = {}
    material = np.zeros(1)
    if judged:
        material = np.array([shares.levels["material"] * weight])
        levels["changed"] = np.array([shares.levels["changed"] * weight])
        levels["material"] = material * (1 - FOR_THE_REFERENCE)
    deltas = np.maximum(material * FOR_THE_REFERENCE / band.TRIED, LEAST_DELTA)
    return Stream(
        (target.feature,),
        target.counts[None],
        levels,
        tolerances=shares.tolerances[-1:],
        deltas=deltas,
        guarantee=shares.guarantee,
        horizon=HORIZON,
        seed=seed,
    )


def tolerances_of(profile: Profile, tolerance: float | Mapping[str, float]) -> Array:
    """The tolerance of each feature, (d,), and at last that of the labels.

    Raises UsageError for a tolerance out of range, and for names that no feature has.
    """
    given = tolerance if isinstance(tolerance, Mapping) else {}
    usual = DEFAULT_TOLERANCE if isinstance(tolerance, Mapping) else tolerance
    names = [*(feature.name for feature in profile.features), TARGET]
    sources = [source_of(name, profile.layout.bases) for name in names]
    known = {*names, *sources}
    if profile.target is None:
        known.remove(TARGET)
    unknown = sorted(set(given) - known)
    if unknown:
        raise UsageError(
            f"tolerance names {unknown}, which is not a feature; there are {sorted(known)}"
        )
    found = []
    for name, source in zip(names, sources, strict=True):
        found.append(given.get(name, given.get(source, usual)))
    odd = [value for value in found if not isinstance(value, Real) or not 0 <= value < 1]
    if odd:
        raise UsageError(f"a tolerance is a number from 0 to 1, and below 1; got {odd[0]!r}")
    return np.array(found, np.float64)


def stream_of(
    profile: Profile, s: int, shares: AlphaShares, seed: np.random.SeedSequence
) -> Stream:
    """The stream of stratum number `s`, with the shares of alpha of its features."""
    levels = shares.levels
    weights = shares.weights
    material = levels["material"] * weights
    of_features = {
        "changed": levels["changed"] * weights,
        "material": material * (1 - FOR_THE_REFERENCE),
    }
    deltas = np.maximum(material * FOR_THE_REFERENCE / band.TRIED, LEAST_DELTA)
    return Stream(
        profile.features,
        profile.counts[s],
        of_features,
        tolerances=shares.tolerances[:-1],
        deltas=deltas,
        guarantee=shares.guarantee,
        horizon=HORIZON,
        seed=seed,
    )


def labelled_of(baseline: Baseline, shares: AlphaShares) -> Labelled:
    """The evidence of labelled rows, with its share of alpha."""
    level = shares.levels["performance"]
    delta = level * FOR_THE_REFERENCE
    return Labelled(baseline, level - delta, delta, shares.guarantee, HORIZON)
