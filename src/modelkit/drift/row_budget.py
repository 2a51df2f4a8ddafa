"""How many rows a second are looked at, whatever their number."""

from __future__ import annotations

from typing import final

BURST = 2.0  # seconds of the budget that may be saved up


@final
class RowBudget:
    """Rows a second; what is not used is saved up for two seconds.

    Args:
        rate: rows a second, 0 for none at all.
        at_once: the most rows that are asked for at once, of which none would be seen otherwise.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, rate: float, at_once: int, now: float) -> None:
        self.rate = rate
        self._saved = rate * BURST
        self._since = now
        self._most = max(rate * BURST, at_once) if rate else 0.0

    def allows(self, rows: int, now: float) -> bool:
        """Whether so many rows may be looked at now; they are then spent."""
        earned = (now - self._since) * self.rate
        self._saved = min(self._saved + earned, self._most)
        self._since = now
        if self._saved < rows:
            return False
        self._saved -= rows
        return True
