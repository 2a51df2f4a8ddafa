"""The shares of alpha: of each kind of alarm, stratum and feature, and the sequences that have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.cells import CELLS, Feature
from modelkit.drift.limits import Band, Bettor
from modelkit.drift.losses import TARGET, Baseline, Losses, TargetLabels
from modelkit.drift.open_unit import Units
from modelkit.drift.profile import Profile
from modelkit.drift.ranks import Ranks, RowBag, bets_on_rows, bets_on_units
from modelkit.drift.sequence import Sequence
from modelkit.drift.unit_ranks import RECENT_UNITS, SCORES, UnitBag
from modelkit.drift.vectors import source_of
from modelkit.errors import UsageError
from modelkit.stats.evidence import Guarantee

HORIZON = 10_000  # rows in which alpha is the probability of a false alarm, for "arl"
HORIZON_UNITS = 1_000  # likewise, of units
BLOCK_ROWS = 32  # of one step
RECENT_BLOCKS = 32  # whose counts are kept for effect sizes
BLOCK_LOSSES = 10  # of one step
RECENT_LOSSES = 100  # blocks that are kept, for how large the loss is now
ALPHA_SHARES = {"changed": 2, "material": 1, "performance": 1}  # among the kinds looked for
# Of the share that "changed" has of a feature: for the rows of all strata together, where these are
# several. A change in one stratum is then seen about 5 % later, and one in all of them far sooner.
TOGETHER = 1 / 4
DEFAULT_TOLERANCE = 0.03
LEAST_ALPHA = 1e-9  # a test draws 1 / alpha permutations; with less it would never end


@final
@dataclass(frozen=True, eq=False)
class AlphaShares:
    """What each kind of alarm and each feature has of alpha, and how far a feature may move.

    `levels` has the part of each kind, `weights` (d,) the share of each feature in one of so many
    `strata`, or in all where whole units are compared, and `tolerances` (d + 1,) the tolerance of
    each feature and, at last, of the labels.
    """

    levels: dict[str, float]
    weights: Array
    strata: int
    tolerances: Array
    guarantee: Guarantee

    @staticmethod
    def of(
        profile: Profile, alpha: float, tolerance: float | Mapping[str, float], guarantee: Guarantee
    ) -> AlphaShares:
        """The shares of a profile. Raises UsageError for arguments out of range."""
        if not isinstance(alpha, Real) or not 0 < alpha < 1:
            raise UsageError(f"alpha is between 0 and 1; got {alpha!r}")
        if alpha < LEAST_ALPHA:
            raise UsageError(f"alpha is at least {LEAST_ALPHA:g}; got {alpha!r}")
        if guarantee not in ("ever", "arl"):
            raise UsageError(f'guarantee is "ever" or "arl", got {guarantee!r}')
        shares = dict(ALPHA_SHARES)
        if profile.baseline is None:
            del shares["performance"]
        total = sum(shares.values())
        levels = {kind: alpha * share / total for kind, share in shares.items()}
        weights = np.array([feature.weight for feature in profile.features])
        strata = 1
        if profile.units is None:  # units of all strata are one sequence, and have no labels
            strata = len(profile.strata)
            target = 0.0 if profile.target is None else profile.target.feature.weight
            weights = weights * (1 - target) / strata
        return AlphaShares(levels, weights, strata, tolerances_of(profile, tolerance), guarantee)

    def by_kind(self, weights: Array) -> dict[str, Array]:
        """The part of alpha of each feature, (d,), by kind, for features with these weights."""
        return {kind: self.levels[kind] * weights for kind in ("changed", "material")}


def tolerances_of(profile: Profile, tolerance: float | Mapping[str, float]) -> Array:
    """The tolerance of each feature, (d,), and last the tolerance of the labels.

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
        raise UsageError(f"a tolerance is a share of rows, at least 0 and below 1; got {odd[0]!r}")
    return np.array(found, np.float64)


def sequence_of(
    profile: Profile, s: int, shares: AlphaShares, seed: np.random.SeedSequence
) -> Sequence:
    """The rows of stratum number `s`, with the shares of alpha of their features."""
    levels = shares.by_kind(shares.weights)
    if shares.strata > 1:
        levels["changed"] *= 1 - TOGETHER
    tolerances = shares.tolerances[:-1]
    return _judged(profile.features, profile.counts[s], levels, tolerances, shares.guarantee, seed)


def sequence_together(shares: AlphaShares) -> Sequence | None:
    """The rows of all strata, in the blocks that are ranked in each; None where there is one."""
    if shares.strata == 1:
        return None
    level = shares.levels["changed"] * shares.weights * shares.strata * TOGETHER
    bettor = Bettor(Ranks(bets_on_rows()), level, shares.guarantee, HORIZON)
    return _of_rows(None, {"changed": bettor}, len(level))


def target_sequence(
    target: TargetLabels, shares: AlphaShares, seed: np.random.SeedSequence, *, judged: bool
) -> Sequence:
    """The labels, with their share of alpha where they are `judged` and not only shown."""
    counts = target.counts[None]
    if not judged:
        return _of_rows(RowBag(counts, seed), {}, 1)
    levels = shares.by_kind(np.array([target.feature.weight]))
    tolerances = shares.tolerances[-1:]
    return _judged((target.feature,), counts, levels, tolerances, shares.guarantee, seed)


def _judged(
    features: tuple[Feature, ...],
    counts: Array,
    levels: Mapping[str, Array],
    tolerances: Array,
    guarantee: Guarantee,
    seed: np.random.SeedSequence,
) -> Sequence:
    """Rows of these features, with counts (d, 67) in the reference and levels (d,) by kind."""
    band = Band(features, counts, tolerances, levels["material"])
    bettors = {
        "changed": Bettor(Ranks(bets_on_rows()), levels["changed"], guarantee, HORIZON),
        "material": Bettor(band, levels["material"], guarantee, HORIZON),
    }
    return _of_rows(RowBag(counts, seed), bettors, len(features))


def _of_rows(bag: RowBag | None, bettors: Mapping[str, Bettor], d: int) -> Sequence:
    block = np.zeros((BLOCK_ROWS, d), np.uint8)
    kept = np.zeros((RECENT_BLOCKS, d, CELLS), np.uint8)
    return Sequence(bag, bettors, block=block, kept=kept)


def loss_sequence(baseline: Baseline, shares: AlphaShares) -> tuple[Sequence, Losses]:
    """The losses of labelled rows, with their share of alpha."""
    level = shares.levels["performance"]
    losses = Losses(baseline, level)
    bettor = Bettor(losses, np.array([level]), shares.guarantee, HORIZON)
    block = np.zeros(BLOCK_LOSSES)
    kept = np.zeros((RECENT_LOSSES, 1, BLOCK_LOSSES))
    return Sequence(None, {"performance": bettor}, block=block, kept=kept), losses


def units_of(profile: Profile, shares: AlphaShares, seed: np.random.SeedSequence) -> Units | None:
    """The units of rows, with the shares of alpha of their features, where a profile has units."""
    units = profile.units
    if units is None or profile.unit is None:
        return None
    bag = UnitBag(units, len(profile.strata), profile.features, shares.tolerances[:-1], seed)
    levels = shares.by_kind(shares.weights)
    return Units(profile.unit, unit_sequence(bag, levels, shares.guarantee), bag)


def unit_sequence(bag: UnitBag, levels: Mapping[str, Array], guarantee: Guarantee) -> Sequence:
    """Whole units, with the share of alpha of each feature, (d,), by kind."""
    ranks = Ranks(bets_on_units(), len(SCORES))
    bettors = {
        "changed": Bettor(ranks, levels["changed"], guarantee, HORIZON_UNITS),
        "material": Bettor(bag.tails, levels["material"], guarantee, HORIZON_UNITS),
    }
    kept = np.zeros((RECENT_UNITS, len(levels["changed"]), CELLS), np.int64)
    return Sequence(bag, bettors, block=np.zeros((1, 0)), kept=kept)
