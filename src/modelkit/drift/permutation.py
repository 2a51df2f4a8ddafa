"""An exact test of some units against those of a reference: which of them came last is permuted.

If the units of a call and those of the reference are exchangeable, within their strata, then any
choice of as many of them is as likely to be those of the call. A difference is compared with the
largest of all features under the same choice, so the p-values hold for all features together
(Westfall and Young 1993, single step).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, comb, prod

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.unit_ranks import SCORES, unit_scores
from modelkit.drift.units import ReferenceUnits

FEWEST_DRAWS = 1_999  # of choices of several units
TIE = 1e-9  # rounding apart, relative


def permuted(
    reference: ReferenceUnits | None,
    shares: Array,
    strata: Sequence[int],
    used: Array,
    *,
    alpha: float,
    seed: int,
) -> tuple[list[float | None], list[str], float]:
    """Compare units with those of a reference.

    Args:
        reference: its units.
        shares: what is kept of the units to test, uint16 (k, d, 16).
        strata: the numbers of their strata.
        used: which features are tested, bool (d,).
        alpha: the level, which the number of draws depends on.
        seed: of the choices that are drawn, where there are too many to list.

    Returns:
        The p-value of each feature, adjusted for all, None where it is not tested; the name of the
        score behind it; and the least p-value that there may be.
    """
    if reference is None or not len(shares):
        return [None] * len(used), [SCORES[0]] * len(used), 1.0
    groups = _by_stratum(reference, shares, strata)
    last = [scores[len(scores) - k :].sum(axis=0) for scores, k in groups]
    seen = np.abs(np.sum(last, axis=0))
    least, sums = _choices(groups, alpha, np.random.default_rng(seed))
    sums[:, ~used] = 0
    largest = sums.max(axis=(1, 2))
    if len(shares) > 1:  # a single unit as it was seen is among the choices that are listed
        largest = np.append(largest, np.inf)
    differences = seen.max(axis=1) * (1 - TIE)
    p = (largest >= differences[:, None]).mean(axis=1).tolist()
    tested = [value if use else None for value, use in zip(p, used.tolist(), strict=True)]
    return tested, [SCORES[i] for i in seen.argmax(axis=1).tolist()], least


Scored = list[tuple[Array, int]]


def _by_stratum(reference: ReferenceUnits, shares: Array, strata: Sequence[int]) -> Scored:
    """For each stratum the scores of its units, those to test last, and the number of these.

    Only units with values of the same features change places. One without values of a feature would
    never differ by it, so that those with values would seem to differ more than they do.
    """
    units = np.concatenate([reference.shares, shares])
    present: Array = np.any(units, axis=2)
    having = [own.tobytes() for own in present]
    alike: dict[tuple[int, bytes], list[int]] = {}
    for i, key in enumerate(zip([*reference.strata.tolist(), *strata], having, strict=True)):
        alike.setdefault(key, []).append(i)
    groups = []
    for key in sorted(alike):
        members = np.array(alike[key])
        tested = int((members >= len(reference.shares)).sum())
        if tested:
            groups.append((_standardised(units[members]), tested))
    return groups


def _choices(groups: Scored, alpha: float, rng: np.random.Generator) -> tuple[float, Array]:
    """The least p-value that there may be, and absolute sums over choices of units, (n, d, 3).

    One unit may be each of the units; of more, choices are drawn.
    """
    if [k for _, k in groups] == [1]:
        return 1 / len(groups[0][0]), np.abs(groups[0][0])
    draws = max(FEWEST_DRAWS, ceil(1 / alpha) - 1)
    sums = np.sum([_drawn(scores, k, draws, rng) for scores, k in groups], axis=0)
    choices = prod(comb(len(scores), k) for scores, k in groups)
    return max(1 / (draws + 1), 1 / choices), np.abs(sums)


def _standardised(units: Array) -> Array:
    """The scores of units less their mean over all, in standard deviations, (n, d, 3).

    A unit without values of a feature has 0.
    """
    scores = unit_scores(units)
    present = units.any(axis=2, keepdims=True)
    n = np.maximum(present.sum(axis=0), 1)
    centred = np.where(present, scores - (scores * present).sum(axis=0) / n, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / n)
    return centred / np.where(spread > TIE, spread, np.inf)


def _drawn(scores: Array, k: int, draws: int, rng: np.random.Generator) -> Array:
    """The sums of scores over random choices of k units, (draws, d, 3)."""
    n = len(scores)
    order = rng.random((draws, n)).argsort(axis=1)[:, :k]
    chosen = np.zeros((draws, n))
    np.put_along_axis(chosen, order, 1.0, axis=1)
    return (chosen @ scores.reshape(n, -1)).reshape(draws, *scores.shape[1:])
