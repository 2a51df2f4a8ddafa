"""What a Detector knows of labels: the evidence of the losses, and of the labels themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.alarms import Terms, loss_alarm, row_alarm
from modelkit.drift.alpha import AlphaShares, loss_sequence, target_sequence
from modelkit.drift.counts import count_by
from modelkit.drift.losses import Baseline, Losses, as_doubles, check_losses, losses_of
from modelkit.drift.order import Order, Shuffle, Thinning
from modelkit.drift.profile import Profile
from modelkit.drift.sequence import Sequence, places_of
from modelkit.drift.values import Alarm
from modelkit.errors import UsageError

RANKED_AT_ONCE = 2048  # rows, so that memory stays bounded


@final
@dataclass(frozen=True, eq=False)
class LabelledCall:
    """Labelled rows: their losses (n,), the cells of their labels, uint8 (n, 1), or both."""

    losses: Array | None
    cells: Array | None

    @property
    def rows(self) -> int:
        """The number of rows."""
        given = self.cells if self.losses is None else self.losses
        return 0 if given is None else len(given)

    @staticmethod
    def read(profile: Profile, y: Any, predicted: Any, losses: Any) -> LabelledCall:
        """The arguments of `Detector.update_labels`. Raises UsageError for those that do not fit."""
        baseline = profile.baseline
        target = profile.target
        if baseline is None:
            raise UsageError(
                "the profile lacks losses to compare with: fit it with labels= or losses="
            )
        if (losses is None) == (y is None) or (y is None and predicted is not None):
            raise UsageError("pass labels and what was predicted, labels alone, or losses alone")
        if losses is not None:
            return LabelledCall(check_losses(losses), None)
        cells = None if target is None else target.cells(y)
        if predicted is not None:
            return LabelledCall(_losses(profile, baseline, y, predicted), cells)
        if cells is None:
            raise UsageError(
                "the profile lacks labels to compare labels alone with: pass labels and what "
                "was predicted, or fit the profile with labels="
            )
        return LabelledCall(None, cells)


def _losses(profile: Profile, baseline: Baseline, y: Any, predicted: Any) -> Array:
    # The losses of the reference are then distances of numbers, of whatever type.
    if any(
        feature.output and feature.name == "prediction" and feature.kind == "number"
        for feature in profile.features
    ):
        predicted = as_doubles(predicted, "predictions")
    return losses_of(y, predicted, baseline.scale)


@final
class Labels:
    """The evidence of labelled rows. Whoever calls it from several threads holds a lock.

    `losses` and `target` are None where the profile has nothing to compare them with; where it has
    units, labels come without theirs, and are counted and not judged.

    Args:
        profile: the past.
        shares: the shares of alpha.
        terms: what holds for an alarm, in words.
        order: the seed of the order of labels within calls.
        ties: the seed of the random ranks of labels.
    """

    changing = ("target", "_thinning", "_of_losses", "shuffle")

    def __init__(
        self,
        profile: Profile,
        shares: AlphaShares,
        *,
        terms: Terms,
        order: np.random.SeedSequence,
        ties: np.random.SeedSequence,
    ) -> None:
        self._target = profile.target
        self._terms = terms
        self.shuffle = Shuffle(order)
        self.losses: Losses | None = None
        self._of_losses: Sequence | None = None
        if profile.baseline is not None:
            self._of_losses, self.losses = loss_sequence(profile.baseline, shares)
        self.target: Sequence | None = None
        self._thinning: Thinning | None = None
        if profile.target is not None:
            judged = profile.units is None
            self.target = target_sequence(profile.target, shares, ties, judged=judged)
            self._thinning = Thinning((profile.target.feature,), ties)

    def follow(self, before: Labels) -> None:
        """Number labels on from those that were compared with the reference before."""
        for now, earlier in ((self._of_losses, before._of_losses), (self.target, before.target)):
            if now is not None and earlier is not None:
                now.begin_after(earlier.first + earlier.members)

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
        sequence, thinning, target = self.target, self._thinning, self._target
        if sequence is None or thinning is None or target is None:
            return []
        sequence.totals += count_by(cells)[0]
        cells = cells.copy()
        thinning.leave_out(cells, np.arange(len(cells)))
        taken = self._taken(len(cells), order)
        cells = cells[taken]
        times = times[taken]
        new: list[Alarm] = []
        for start in range(0, len(cells), RANKED_AT_ONCE):
            part = slice(start, start + RANKED_AT_ONCE)
            sequence.rank(cells[part], places_of(sequence.first + sequence.members, times[part]))
            new += [
                row_alarm(target.feature, target.counts, crossing, self._terms)
                for crossing in sequence.settle()
            ]
        return new

    def _push_losses(self, losses: Array, times: Array, order: Order) -> list[Alarm]:
        sequence, losses_seen = self._of_losses, self.losses
        if sequence is None or losses_seen is None:
            return []
        taken = self._taken(len(losses), order)
        losses_seen.count(losses[taken])
        sequence.rank(losses[taken], places_of(sequence.first + sequence.members, times[taken]))
        return [loss_alarm(losses_seen, crossing, self._terms) for crossing in sequence.settle()]
