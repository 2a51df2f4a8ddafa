"""The evidence that calls take longer than those of the champion; pure."""

from __future__ import annotations

from math import log
from typing import final

import numpy as np

from modelkit.lifecycle.rollout.counts import Counts
from modelkit.lifecycle.rollout.decide import Weighed
from modelkit.lifecycle.rollout.guards import (
    BLAMED_KINDS,
    DISAGREEMENTS,
    LATE_LOSSES,
    LONGER_KINDS,
    QUANTILES,
    SLOW_KINDS,
    Guard,
)
from modelkit.lifecycle.rollout.policy import RolloutStage
from modelkit.lifecycle.rollout.weighing import PromotionEvidence, RollbackEvidence, Stream, rows_of
from modelkit.stats.evidence import log_mean


def rollback_streams(guard: Guard) -> tuple[Stream, ...]:
    """What speaks for a rollback, by this guard.

    One that compares quantiles needs it twice: as the calls were, and with those of the candidate
    quicker by what does not matter, of which those count that its longer runs do not explain; see
    `stretch`. Where all calls go to the candidate, it is not the colder one, and all count.
    """
    if guard.name == LATE_LOSSES:
        return ()
    if not guard.by_quantiles:
        return (Stream(guard, guard.name, guard.name, guard.name),)
    as_they_were = _streams(guard, SLOW_KINDS, SLOW_KINDS, SLOW_KINDS)
    if not guard.longer:
        return as_they_were
    return as_they_were + _streams(guard, BLAMED_KINDS, BLAMED_KINDS, LONGER_KINDS)


def promotion_streams(guard: Guard) -> tuple[Stream, ...]:
    """What speaks for a promotion, by this guard.

    One that compares quantiles goes by all calls of the candidate that are still slow when they are
    quicker by what does not matter.
    """
    if guard.name == DISAGREEMENTS:
        return ()
    if not guard.by_quantiles:
        return rollback_streams(guard)
    kinds = LONGER_KINDS if guard.longer else SLOW_KINDS
    return _streams(guard, kinds, SLOW_KINDS, kinds)


def _streams(
    guard: Guard, candidate: tuple[str, ...], champion: tuple[str, ...], alone: tuple[str, ...]
) -> tuple[Stream, ...]:
    rates = [1 - quantile / 100 for quantile in QUANTILES]
    kinds = zip(candidate, champion, alone, rates, strict=True)
    return tuple(Stream(guard, *each) for each in kinds)


@final
class QuantileEvidence:
    """The evidence that calls are slower than quantiles of the champion's times.

    A rollback goes by the mean of the evidence of all quantiles, and a promotion by the least.
    """

    def __init__(
        self, guard: Guard, rollback: RollbackEvidence, promotion: PromotionEvidence, *, whole: bool
    ) -> None:
        self._guard = guard
        self._whole = whole
        self._rollback = rollback
        self._promotion = promotion
        self._rows = np.reshape(rows_of(guard, rollback.streams), (-1, len(QUANTILES)))
        self._promotion_rows = rows_of(guard, promotion.streams)
        self._now = np.zeros(len(self._rows))
        self._worse = np.zeros(len(self._rows))

    def tick(self, stage: RolloutStage, counts: Counts) -> None:
        """Take the evidence after a tick."""
        del counts
        if stage.shadow:
            return
        rollback = self._rollback
        values = rollback.compared.value if stage.drawn else rollback.alone.value
        self._now = log_mean(np.log(values[self._rows]))
        self._worse = np.maximum(self._worse, self._now)

    def weighed(self) -> Weighed:
        """The evidence."""
        worse = float(self._worse.min())
        return Weighed(
            name=self._guard.name,
            worse=worse - log(2) if self._whole else worse,
            better=float(self._promotion.log_better[self._promotion_rows].min()),
            now=float(self._now.min()),
        )
