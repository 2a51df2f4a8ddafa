"""In which segments a change is: exact tests and effect sizes of an alarmed feature in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift import exact
from modelkit.drift.cells import Feature
from modelkit.drift.tracker import Tracker
from modelkit.drift.values import SegmentDrift
from modelkit.stats.tests import holm

MOST_FEATURES = 10  # that are looked at in segments, the first to be alarmed


class Pair(NamedTuple):
    """A feature in one segment: its counts in the latest generations, (g, 67), and the reference, (67,).

    `first` is the number of the first of these generations.
    """

    feature: Feature
    by: str
    segment: str
    share: tuple[float, float]
    first: int
    generations: Array
    reference: Array


def segments_of(tracker: Tracker) -> tuple[SegmentDrift, ...]:
    """The features with an alarm in each segment, by feature and column, the largest change first.

    p-values are adjusted by Holm over all of them, and None where rows may not be tested one by one.
    """
    pairs = []
    for feature, since in _alarmed(tracker).items():
        pairs += _pairs(tracker, feature, since)
    adjusted: Sequence[float | None] = [None] * len(pairs)
    if tracker.profile.why_untested is None:
        adjusted = _adjusted(pairs)
    found = []
    for pair, p in zip(pairs, adjusted, strict=True):
        recent = pair.generations.sum(axis=0)
        effect = exact.main_effect(recent, pair.reference, ordered=pair.feature.ordered)
        drift = SegmentDrift(
            feature=pair.feature.name,
            by=pair.by,
            segment=pair.segment,
            rows=int(recent.sum()),
            share=pair.share,
            p=p,
            effect=effect,
        )
        found.append(drift)
    return tuple(sorted(found, key=_order))


def _order(drift: SegmentDrift) -> tuple[str, str, float, float]:
    size = 0.0 if drift.effect is None else drift.effect.low
    return drift.feature, drift.by, 1.0 if drift.p is None else drift.p, -size


def _alarmed(tracker: Tracker) -> dict[int, int]:
    """The numbers of features with an alarm, and of rows before their change began."""
    names = [feature.name for feature in tracker.profile.features]
    found: dict[int, int] = {}
    for alarm in tracker.alarms:
        if alarm.feature in names and len(found) < MOST_FEATURES:
            found.setdefault(names.index(alarm.feature), alarm.began or 0)
    return found


def _pairs(tracker: Tracker, j: int, began: int) -> list[Pair]:
    """A feature in each segment that has rows on both sides."""
    since = tracker.segmented.rows - _after(tracker, began)
    feature = tracker.profile.features[j]
    pairs = []
    first, counted = tracker.segmented.since(since)
    for own, counts in zip(tracker.profile.segments, counted, strict=True):
        if own.name == feature.name:
            continue
        latest = counts[:, :, j]
        lately = latest.sum(axis=(0, 2))
        before = own.counts[:, j].sum(axis=1)
        for k in np.flatnonzero((lately > 0) & (before > 0)).tolist():
            share = (float(before[k] / before.sum()), float(lately[k] / lately.sum()))
            past = own.counts[k, j]
            pairs.append(Pair(feature, own.name, own.labels[k], share, first, latest[:, k], past))
    return pairs


def _after(tracker: Tracker, began: int) -> int:
    """How many of the latest rows came after row number `began`, of those that segments count."""
    if tracker.units is not None:
        return tracker.notes.rows_before + tracker.rows - began
    return tracker.counted - began


def _adjusted(pairs: Sequence[Pair]) -> list[float]:
    """P-values that hold whenever a report is made, adjusted by Holm."""
    found: list[float] = holm(np.array([_p_value(pair) for pair in pairs])).tolist()
    return found


def _p_value(pair: Pair) -> float:
    """One over the evidence that a segment's rows are not like those of the reference, at most 1.

    An alarm decides when a report is made and by which rows, so a test of fixed rows would err
    more often than it says. By Ville's inequality this exceeds 1 / p with a probability of at most
    p, at whatever time: it is a mean of Bayes factors, over the ways to part the cells in two and
    over the generations of rows that may have been the first to differ.
    """
    since = np.cumsum(pair.generations[::-1], axis=0)[::-1]  # each generation
    counts = _parted(np.vstack([pair.reference, since]), ordered=pair.feature.ordered)
    factors = _log_bayes_factors(counts[1:], counts[0])
    begins = pair.first + np.arange(len(since)) + 1.0
    weights = 1 / (begins * (begins + 1) * factors.shape[1])  # all generations: at most 1
    most = factors.max()
    evidence = np.log((np.exp(factors - most) * weights[:, None]).sum()) + most
    return float(np.exp(-max(evidence, 0.0)))


def _parted(counts: Array, *, ordered: bool) -> Array:
    """Counts (n, 67) as counts (n, ways, 2): numbers are parted by a threshold, categories one from all.

    The ways must not depend on the counts, for instance on which cells are empty.
    """
    cells = np.cumsum(counts, axis=1)[:, :-1] if ordered else counts
    return np.stack([cells, counts.sum(axis=1)[:, None] - cells], axis=-1)


def _log_bayes_factors(counts: Array, reference: Array) -> Array:
    """That two counts of two outcomes (..., 2) have different chances, by Jeffreys' prior of each."""
    from scipy.special import betaln

    own, past = counts + 0.5, reference + 0.5
    apart = betaln(own[..., 0], own[..., 1]) - betaln(0.5, 0.5)
    both = own + reference
    factors: Array = apart + betaln(past[..., 0], past[..., 1]) - betaln(both[..., 0], both[..., 1])
    return factors
