"""In which segments a change is: exact tests and effect sizes of an alarmed feature in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modelkit.cast import Array
from modelkit.drift import exact
from modelkit.drift.cells import Feature
from modelkit.drift.values import SegmentDrift
from modelkit.drift.watch import Watch
from modelkit.holm import holm

MOST_FEATURES = 10  # that are looked at in segments, the first to be alarmed
MOST_TESTED = 48  # segments: a test of each takes as many draws as there are tests, over alpha


class Pair(NamedTuple):
    """A feature in one segment: its counts (67,) lately and in the reference."""

    feature: Feature
    by: str
    segment: str
    share: tuple[float, float]
    recent: Array
    reference: Array


def segments_of(watch: Watch) -> tuple[SegmentDrift, ...]:
    """The features with an alarm in each segment, by feature and column, the largest change first.

    Tested are the segments of the first features, 48 or those of one column; their p-values are
    adjusted by Holm over all of them. p is None for the others, and where rows may not be tested one
    by one.
    """
    pairs = []
    for feature, since in _alarmed(watch).items():
        pairs += _pairs(watch, feature, since)
    adjusted: Sequence[float | None] = [None] * len(pairs)
    if watch.profile.why_untested is None:
        tested = _tested(pairs)
        p_values = _adjusted(pairs[:tested], watch.alpha, watch.seed)
        adjusted = [*p_values, *adjusted[tested:]]
    found = []
    for pair, p in zip(pairs, adjusted, strict=True):
        effect = exact.main_effect(pair.recent, pair.reference, ordered=pair.feature.ordered)
        drift = SegmentDrift(
            feature=pair.feature.name,
            by=pair.by,
            segment=pair.segment,
            rows=int(pair.recent.sum()),
            share=pair.share,
            p=p,
            effect=effect,
        )
        found.append(drift)
    return tuple(sorted(found, key=_order))


def _tested(pairs: Sequence[Pair]) -> int:
    """How many of the first pairs are tested: all of a feature and a column, or none of them."""
    groups = [(pair.feature.name, pair.by) for pair in pairs]
    ends = [i for i in range(1, len(pairs)) if groups[i] != groups[i - 1]]
    ends.append(len(pairs))
    fitting = [end for end in ends if end <= MOST_TESTED]
    return max(fitting, default=ends[0])


def _order(drift: SegmentDrift) -> tuple[str, str, float, float]:
    size = 0.0 if drift.effect is None else drift.effect.low
    return drift.feature, drift.by, 1.0 if drift.p is None else drift.p, -size


def _alarmed(watch: Watch) -> dict[int, int]:
    """The numbers of features with an alarm, and of rows before their change began."""
    names = [feature.name for feature in watch.profile.features]
    found: dict[int, int] = {}
    for alarm in watch.alarms:
        if alarm.feature in names and len(found) < MOST_FEATURES:
            found.setdefault(names.index(alarm.feature), alarm.began or 0)
    return found


def _pairs(
    watch: Watch,
    j: int,
    began: int,
) -> list[Pair]:
    """A feature in each segment that has rows on both sides."""
    since = watch.segmented.rows - _after(watch, began)
    feature = watch.profile.features[j]
    pairs = []
    for own, recent in zip(watch.profile.segments, watch.segmented.since(since), strict=True):
        if own.name == feature.name:
            continue
        lately = recent[:, j].sum(axis=1)
        before = own.counts[:, j].sum(axis=1)
        for k in np.flatnonzero((lately > 0) & (before > 0)).tolist():
            share = (float(before[k] / before.sum()), float(lately[k] / lately.sum()))
            pair = Pair(feature, own.name, own.labels[k], share, recent[k, j], own.counts[k, j])
            pairs.append(pair)
    return pairs


def _after(watch: Watch, began: int) -> int:
    """How many of the latest rows that segments counted came after row number `began`.

    Of a large call a Monitor counts a part of the rows, and numbers all of them.
    """
    if watch.units is not None:
        return watch.chronicle.rows_before + watch.rows - began
    taken = max(watch.place - watch.chronicle.rows_before, 1)
    return int((watch.place - began) * min(watch.segmented.rows / taken, 1.0))


def _adjusted(
    pairs: Sequence[Pair],
    alpha: float,
    seed: int,
) -> list[float]:
    """Exact p-values, adjusted by Holm."""
    draws = exact.permutations_for(len(pairs), alpha / 2)  # so that p may be below alpha
    rng = np.random.default_rng(seed)
    p = []
    for pair in pairs:
        value = exact.exact_test(
            pair.recent,
            pair.reference,
            "anderson_darling" if pair.feature.ordered else "chi_square",
            rng,
            draws,
        )
        p.append(value)
    found: list[float] = holm(np.array(p)).tolist()
    return found
