"""What a Detector knows of labels: the evidence of the losses, and of the labels themselves."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.alpha import AlphaShares, loss_sequence, target_sequence
from modelkit.drift.counts import count_by
from modelkit.drift.labelled_rows import LabelledCall
from modelkit.drift.order import Order, Shuffle
from modelkit.drift.profile import Profile
from modelkit.drift.raised import loss_alarm, row_alarm
from modelkit.drift.sequence import Sequence, places_of
from modelkit.drift.sources import Losses
from modelkit.drift.thinning import Thinning
from modelkit.drift.values import Alarm

RANKED_AT_ONCE = 2048  # rows, so that memory stays bounded


@final
class LabelWatch:
    """The evidence of labelled rows. Whoever calls it from several threads holds a lock.

    `losses` and `target` are None where the profile has nothing to compare them with; where it has
    units, labels come without theirs, and are counted and not judged.

    Args:
        profile: the past.
        shares: those of alpha.
        promise: the guarantee in words.
        order: the seed of the order of labels within calls.
        ties: the seed of the random ranks of labels.
    """

    def __init__(
        self,
        profile: Profile,
        shares: AlphaShares,
        *,
        promise: str,
        order: np.random.SeedSequence,
        ties: np.random.SeedSequence,
    ) -> None:
        self._profile = profile
        self._levels = shares.levels
        self._promise = promise
        self.shuffle = Shuffle(order)
        self.losses: Losses | None = None
        self._of_losses: Sequence | None = None
        if profile.baseline is not None:
            self._of_losses, self.losses = loss_sequence(profile.baseline, shares)
        self.target: Sequence | None = None
        if profile.target is not None:
            judged = profile.units is None
            self.target = target_sequence(profile.target, shares, ties, judged=judged)
            self._thinning = Thinning((profile.target.feature,), ties)

    @property
    def parts(self) -> list[Any]:
        """What changes."""
        of_target = [] if self.target is None else [self.target, self._thinning]
        return [*of_target, *([] if self._of_losses is None else [self._of_losses])]

    def follow(self, before: LabelWatch) -> None:
        """Number labels on from those that were compared with the reference before."""
        pairs = ((self._of_losses, before._of_losses), (self.target, before.target))
        for own, other in pairs:
            if own is not None and other is not None:
                own.begin_after(other.first + other.members)

    def push(self, rows: LabelledCall, times: Array, order: Order) -> list[Alarm]:
        """Take the labelled rows of one call; returns the new alarms.

        `times` are when their labels came, in POSIX seconds, (n,).
        """
        new: list[Alarm] = []
        if rows.cells is not None:
            new += self._push_target(rows.cells, times, order)
        if rows.losses is not None:
            new += self._push_losses(rows.losses, times, order)
        return new

    def _taken(self, rows: int, order: Order) -> Array | slice:
        """The numbers of the rows of one call in the order in which they are taken."""
        shuffled = self.shuffle.within([rows] if order == "any" else [])
        return slice(None) if shuffled is None else shuffled

    def _push_target(self, cells: Array, times: Array, order: Order) -> list[Alarm]:
        stream = self.target
        if stream is None:
            return []
        stream.totals += count_by(cells)[0]
        cells = cells.copy()
        self._thinning.leave_out(cells, np.arange(len(cells)))
        taken = self._taken(len(cells), order)
        cells = cells[taken]
        times = times[taken]
        new: list[Alarm] = []
        for start in range(0, len(cells), RANKED_AT_ONCE):
            part = slice(start, start + RANKED_AT_ONCE)
            stream.rank(cells[part], places_of(stream.first + stream.members, times[part]))
            new += self._target_alarms(stream)
        return new

    def _target_alarms(self, stream: Sequence) -> list[Alarm]:
        target = self._profile.target
        if target is None:
            return []
        new = []
        for crossing in stream.settle():
            alarm = row_alarm(
                self._profile,
                target.feature,
                target.counts,
                crossing,
                stratum=None,
                level=self._levels[crossing.kind] * target.feature.weight,
                promise=self._promise,
            )
            new.append(alarm)
        return new

    def _push_losses(self, losses: Array, times: Array, order: Order) -> list[Alarm]:
        sequence, seen = self._of_losses, self.losses
        if sequence is None or seen is None:
            return []
        taken = self._taken(len(losses), order)
        seen.count(losses[taken])
        places = places_of(sequence.first + sequence.members, times[taken])
        sequence.rank(losses[taken], places)
        new = []
        for crossing in sequence.settle():
            alarm = loss_alarm(
                self._profile,
                seen,
                crossing,
                level=self._levels["performance"],
                promise=self._promise,
            )
            new.append(alarm)
        return new
