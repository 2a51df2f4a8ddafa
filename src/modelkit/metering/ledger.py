"""What was seen of one model, written down so that a call costs a fraction of a microsecond.

About one call in 16 is timed, at random gaps, so that no rhythm of the caller falls in step with
them. A timed call stands for those since the one before it: that number is its weight.
"""

from __future__ import annotations

from time import perf_counter_ns
from typing import final

from modelkit.metering.slabs import COLUMNS, OK, ROWS, Slabs, totals_of, zeros
from modelkit.metering.totals import Totals, outcome_of


@final
class Ledger:
    """What was seen of one model in this process."""

    __slots__ = ("slabs",)

    def __init__(self) -> None:
        self.slabs = Slabs(zeros)

    def answered(self, rows: int, weight: int, start: int) -> None:
        """Count a call that was answered, and time it if it has a weight.

        The call is counted by the last statement, so that whoever is interrupted before it is
        counted as cancelled, once.
        """
        place = self.slabs.local.place
        if weight:
            place.add_time(perf_counter_ns() - start, weight)
        slab = place.slab
        slab[ROWS] += rows
        slab[OK] += 1

    def failed(self, error: BaseException) -> None:
        """Count a call that raised."""
        column = COLUMNS[outcome_of(error)]
        slab = self.slabs.local.place.slab
        slab[column] += 1

    def totals(self) -> Totals:
        """Everything that was seen until now."""
        return totals_of(self.slabs.sums())
