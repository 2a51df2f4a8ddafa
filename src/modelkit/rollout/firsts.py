"""Of each key, the first time counts; pure."""

from __future__ import annotations

from typing import final

from modelkit.rollout.counts import Unit

MOST_KEYS = 100_000  # with an event, that are remembered; then keys are counted no more


@final
class FirstOfKeys:
    """Lets each key through once, of any number of keys up to `MOST_KEYS`."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether further keys are not counted."""
        return len(self._known) >= MOST_KEYS

    def take(self, units: tuple[Unit, ...]) -> tuple[int, int]:
        """How many of these keys are new: in the candidate, and in the champion."""
        found = [0, 0]
        for key, in_candidate in units:
            if key not in self._known and not self.full:
                self._known.add(key)
                found[0 if in_candidate else 1] += 1
        return found[0], found[1]
