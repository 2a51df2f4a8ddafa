"""Which long calls of the candidate may be chance of the CPUs alone; pure.

Where CPUs are not free, a run that takes k times as long is interrupted k times as often, and an
interruption takes what the others do with the CPU, however short the run was. The arm with fewer
calls is colder, so that its runs take longer, by less than what matters; its calls at the end of
the distribution are then k times as many, and longer by more than what matters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import final

MOST_CALLS = 500  # of the candidate, whose median is known to about 3 % from so many


@final
class Stretch:
    """How many times as long as one of the champion a usual call of the candidate takes."""

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=MOST_CALLS)

    def take(self, times: Iterable[int], usual: int) -> None:
        """Take the times of the candidate's calls, beside the champion's median meanwhile."""
        self._ratios.extend(each / max(usual, 1) for each in times)

    def blamed(self, usual: int, longer: int) -> float:
        """The share of the candidate's long calls that count against it.

        Args:
            usual: the champion's median.
            longer: by how much longer a call may be, which does not matter; in the same unit.

        Returns:
            1, or one part in k, where a usual call takes k times as long and that does not matter;
            0 where no call of the candidate is known.
        """
        if not self._ratios:
            return 0.0
        ratio = median(self._ratios)
        if ratio <= 1 or (ratio - 1) * usual >= longer:
            return 1.0
        return 1 / ratio
