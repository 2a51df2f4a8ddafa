"""Where Meters write down what they saw, so that a call costs a fraction of a microsecond.

A call appends to lists, which is atomic; nobody waits for a lock. What was appended is folded into
totals by a timed call that finds the lock free, and by whoever reads them.

About one call in 16 is timed, at random gaps, so that no rhythm of the caller falls in step with
them. A timed call stands for those since the one before it: that number is its weight.
"""

from __future__ import annotations

import random
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, repeat
from typing import Any

from modelkit.metering.totals import BOUNDS, OUTCOMES, Totals

GAP = 16  # calls from one timed call to the next, on average
TURN = 4093  # calls after which the gaps come again; a prime, so that no rhythm divides it
FULL = 256  # calls that are folded at once
SLOW = 50e-6  # seconds of a call from which on every call is timed, which then costs under 1 %


def weights_of_turn(seed: int = 0) -> tuple[int, ...]:
    """For each call of a turn 0, or its weight if it is timed; the weights add up to `TURN`."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    found = []
    gap = 0
    for place in range(TURN):
        gap += 1
        timed = rng.random() < 1 / GAP or place == TURN - 1
        found.append(gap if timed else 0)
        gap = 0 if timed else gap
    return tuple(found)


WEIGHTS = weights_of_turn()


class Ledger:
    """What was seen of one model in this process.

    `answered` takes the rows of each answered call, `failed` the outcome of each other one, and
    `timed` the weight and the seconds of each timed one; `weights` says which calls are timed.
    """

    __slots__ = (
        "_calls",
        "_durations",
        "_lock",
        "_rows",
        "_seconds",
        "answered",
        "failed",
        "timed",
        "weights",
    )

    weights: Iterator[int]

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin anew, as the child of a fork does."""
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._rows = 0
        self._seconds = 0.0
        self._durations = [0] * (len(BOUNDS) + 1)
        self.answered: list[int] = []
        self.failed: list[str] = []
        self.timed: list[tuple[int, float]] = []
        self.weights = cycle(WEIGHTS)

    def note_time(self, weight: int, seconds: float) -> None:
        """Take the duration of a call, and fold if there is much to fold and nobody does."""
        self.timed.append((weight, seconds))
        if len(self.answered) < FULL:
            return
        if self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def totals(self) -> Totals:
        """Everything that was seen until now."""
        with self._lock:
            self._fold()
            calls = {name: self._calls[name] for name in OUTCOMES}
            return Totals(
                calls,
                self._rows,
                self._seconds,
                tuple(self._durations),
            )

    def _fold(self) -> None:
        rows = _taken(self.answered)
        self._rows += sum(rows)
        self._calls["ok"] += len(rows)
        self._calls.update(_taken(self.failed))
        timed = _taken(self.timed)
        if timed:
            self._add_times(timed)

    def _add_times(self, timed: list[tuple[int, float]]) -> None:
        calls = 0
        seconds = 0.0
        for weight, took in timed:
            self._durations[bisect_left(BOUNDS, took)] += weight
            calls += weight
            seconds += weight * took
        self._seconds += seconds
        slow = seconds / calls > SLOW
        if slow and isinstance(self.weights, cycle):
            self.weights = repeat(1)
        elif not slow and isinstance(self.weights, repeat):
            self.weights = cycle(WEIGHTS)


def _taken(seen: list[Any]) -> list[Any]:
    """What a list holds now, taken out of it; what is appended meanwhile stays."""
    count = len(seen)
    found = seen[:count]
    del seen[:count]
    return found
