"""Where counts are written down: a slab of whole numbers for each thread, so that nobody waits.

A slab is written by one thread at a time, so that adding to a number in it needs no lock, without a
global interpreter lock either; whoever reads adds up the slabs. A thread that ends leaves its slab
to the next that begins, which goes on adding to it: there are never more slabs than there were
threads at once.

Between the reading of a number and its writing stands no call, where Python could run a signal
handler, a finalizer or another coroutine of the same thread.
"""

from __future__ import annotations

import random
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, repeat
from typing import TypeAlias

from modelkit import forks
from modelkit.metering.totals import BOUNDS, OUTCOMES, Totals

Slab: TypeAlias = "list[int] | memoryview[int]"

# What stands where in a slab. Durations are in nanoseconds.
COLUMNS = {name: at for at, name in enumerate(OUTCOMES)}
OK = COLUMNS["ok"]
ROWS = len(OUTCOMES)
NANOSECONDS = ROWS + 1
DURATIONS = ROWS + 2
WIDTH = DURATIONS + len(BOUNDS) + 1
BOUNDS_NS = tuple(round(1e9 * bound) for bound in BOUNDS)

GAP = 16  # calls from one timed call to the next, on average
TURN = 4093  # calls after which the gaps come again; a prime, so that no rhythm divides it
SLOW = 50_000  # nanoseconds of a call from which on every call is timed, which then costs under 1 %
MEMORY = 16  # timed calls over which the mean is taken


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


class Place:
    """Where one thread writes.

    Attributes:
        slab: its numbers.
        weights: for each call to come, 0 or the weight of a timed call.
    """

    __slots__ = ("_mean", "_some", "slab", "weights")

    weights: Iterator[int]

    def __init__(self, slab: Slab) -> None:
        self.slab = slab
        self._some = cycle(WEIGHTS)
        self.weights = self._some
        self._mean = 0.0

    def add_time(self, took: int, weight: int) -> None:
        """Take the duration of a call, in nanoseconds, which stands for `weight` calls."""
        column = DURATIONS + bisect_left(BOUNDS_NS, took)
        slab = self.slab
        slab[column] += weight
        slab[NANOSECONDS] += weight * took
        mean = self._mean + (took - self._mean) / MEMORY
        self._mean = mean
        if mean > SLOW:
            self.weights = _ALL
        elif self.weights is _ALL:
            self.weights = self._some


_ALL = repeat(1)


class _Lease:
    """Gives a place back when the thread that has it ends."""

    __slots__ = ("_free", "_place")

    def __init__(self, place: Place, free: list[Place]) -> None:
        self._place = place
        self._free = free

    def __del__(self) -> None:
        self._free.append(self._place)


class _Local(threading.local):
    """The place of each thread, taken when it first asks."""

    def __init__(self, make: Callable[[], Slab], places: list[Place], free: list[Place]) -> None:
        try:
            place = free.pop()
        except IndexError:
            place = Place(make())
            places.append(place)
        self.place = place
        self._lease = _Lease(place, free)


class Slabs:
    """The slabs of one thing that is counted; `local.place` is the one of the current thread.

    Args:
        make: gives a new slab of zeros, and raises nothing.
    """

    __slots__ = ("__weakref__", "_make", "_places", "local")

    def __init__(self, make: Callable[[], Slab]) -> None:
        self._make = make
        self.after_fork()
        forks.watch(self)

    def after_fork(self) -> None:
        """Begin at 0 in the child of a fork: the parent goes on with its own counts."""
        self._places: list[Place] = []
        self.local = _Local(self._make, self._places, [])

    def sums(self) -> list[int]:
        """What all threads of this process have counted, by column."""
        return added([place.slab for place in self._places[:]])


def zeros() -> Slab:
    """A slab in the memory of this process."""
    return [0] * WIDTH


def added(slabs: Sequence[Slab]) -> list[int]:
    """Slabs of numbers added up, column by column."""
    if not slabs:
        return [0] * WIDTH
    return [sum(column) for column in zip(*slabs, strict=True)]


def totals_of(sums: Sequence[int]) -> Totals:
    """The totals of a model whose slabs add up to these sums."""
    calls = dict(zip(OUTCOMES, sums, strict=False))
    seconds = sums[NANOSECONDS] / 1e9
    return Totals(calls, sums[ROWS], seconds, tuple(sums[DURATIONS:WIDTH]))
