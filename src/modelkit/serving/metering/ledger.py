"""Where counts are written down: a slab of numbers for each thread, so that nobody waits.

A slab is written by one thread at a time, so adding to a number in it is safe without a lock, even
without a global interpreter lock: the numbers are aligned words of 8 bytes, which are read and
written whole. Whoever reads adds up the slabs. A thread that ends leaves its place to the next that
begins, which goes on adding there: there are never more slabs than there were threads at once.

Between the reading of a number and its writing stands no call, where Python could run a signal
handler, a finalizer or another coroutine of the same thread.

Of each block of 16 calls one is timed, at random, and stands for all of them: each call is as likely to
be timed, so no rhythm of the caller falls in step. Where calls are slow all of them are timed, and
so are the first ones, until they are known to be fast. That is decided between blocks only: one who
stopped a block after a slow call would count slow calls too often.
"""

from __future__ import annotations

import random
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle, islice, repeat
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, NamedTuple, final

from modelkit._internal.process import watch_forks
from modelkit.serving.metering.totals import (
    BOUNDS_NS,
    COLUMNS,
    DURATIONS,
    MORE_ROWS,
    NANOSECONDS,
    OK,
    AllCounts,
    Label,
    LabelCounts,
    MeterTotals,
    Slab,
    add_up,
    added,
    outcome_of,
    totals_of,
    zeros,
)

if TYPE_CHECKING:
    from modelkit.serving.metering.folder import SharedFolder

Read = Callable[["SharedFolder"], AllCounts]

BLOCK = 16  # calls of which one is timed
TURN = 4093  # calls after which the blocks come again; a prime, so that no rhythm divides it
SLOW = 50_000  # nanoseconds of a call from which on every call is timed, which then costs under 1 %
MEMORY = 16  # timed calls over which the mean is taken
UNKNOWN = 4 * SLOW  # the mean to begin with, which takes some 24 fast calls to fall below SLOW


class Timed(NamedTuple):
    """A call that is timed.

    Attributes:
        weight: the number of calls for which it stands.
        rest: the number of calls of its block that come after it.
    """

    weight: int
    rest: int


ALONE = Timed(1, 0)
Pattern = tuple[Timed | None, ...]  # for each call whether it is timed


def blocks_of_turn(seed: int | None = None) -> tuple[Pattern, ...]:
    """Blocks with one timed call each; the last one is shorter, and they add up to `TURN` calls.

    Without a seed they are other ones in each process, so that processes which do the same do not
    agree on what is timed.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    found: list[Pattern] = []
    for begins in range(0, TURN, BLOCK):
        size = min(BLOCK, TURN - begins)
        place = rng.randrange(size)
        timed = Timed(size, size - 1 - place)
        found.append((*repeat(None, place), timed, *repeat(None, timed.rest)))
    return tuple(found)


BLOCKS = blocks_of_turn()
EVERY = repeat(ALONE)  # where every call is timed


@final
class Place:
    """Where one thread writes.

    Attributes:
        slab: its numbers.
        pattern: for each call to come, whether it is timed.
    """

    __slots__ = ("_mean", "_some", "pattern", "slab")

    pattern: Iterator[Timed | None]

    def __init__(self, slab: Slab) -> None:
        self.slab = slab
        # From the system: in the child of a fork other numbers, and those of the application stay.
        first = random.SystemRandom().randrange(len(BLOCKS))
        self._some = cycle(chain(*BLOCKS[first:], *BLOCKS[:first]))
        self.pattern = EVERY
        self._mean = float(UNKNOWN)

    def answered(self, rows: int, timed: Timed | None, start: int) -> None:
        """Count a call that was answered, and take its duration if it is timed.

        The call is counted by the last statement, so one who is interrupted before it is
        counted as cancelled, and once.
        """
        if timed:
            self.add_time(perf_counter_ns() - start, timed)
        slab = self.slab
        if rows != 1:
            slab[MORE_ROWS] += rows - 1
        slab[OK] += 1

    def failed(self, error: BaseException) -> None:
        """Count a call that raised."""
        column = COLUMNS[outcome_of(error)]
        slab = self.slab
        slab[column] += 1

    def add_time(self, took: int, timed: Timed = ALONE) -> None:
        """Take the duration of a call, in nanoseconds."""
        column = DURATIONS + bisect_left(BOUNDS_NS, took)
        weight = timed.weight
        slab = self.slab
        slab[column] += weight
        slab[NANOSECONDS] += weight * took
        mean = self._mean + (took - self._mean) / MEMORY
        self._mean = mean
        if mean <= SLOW:
            self.pattern = self._some
        elif self.pattern is self._some:
            self.pattern = chain(islice(self._some, timed.rest), EVERY)


class _Lease:
    """Gives a place back when the thread that has it ends."""

    __slots__ = ("_free", "_place")

    def __init__(self, place: Place, free: list[Place]) -> None:
        self._place = place
        self._free = free

    def __del__(self) -> None:
        free = getattr(self, "_free", None)  # none, if its making was interrupted
        if free is not None:
            free.append(self._place)


class _Local(threading.local):
    """The place of each thread, taken when it first asks; of the one that makes this, at once."""

    def __init__(self, make: Callable[[], Slab], places: list[Place], free: list[Place]) -> None:
        try:
            place = free.pop()
        except IndexError:
            place = Place(make())
            places.append(place)
        self.place = place
        self._lease = _Lease(place, free)


class _Later:
    """Stands for a `_Local` until a thread counts, so a fork alone begins no file."""

    __slots__ = ("_begin",)

    def __init__(self, begin: Callable[[], _Local]) -> None:
        self._begin = begin

    @property
    def place(self) -> Place:
        return self._begin().place


@final
class Ledger:
    """The slabs of one thing that is counted; `local.place` is the current thread's.

    Args:
        label: what is counted.
        folder: where other processes read what this one counts; None for its own memory.

    Attributes:
        retired: since when nothing counts here, in nanoseconds since 1970; 0 while something does.
    """

    __slots__ = ("__weakref__", "_places", "folder", "label", "local", "retired")

    def __init__(self, label: Label, folder: SharedFolder | None = None) -> None:
        self.label = label
        self.folder = folder
        self.retired = 0
        self._places: list[Place] = []
        self.after_fork()
        watch_forks(self)

    def after_fork(self) -> None:
        """Begin at 0 in the child of a fork: the parent goes on with its own counts."""
        for place in self._places:
            place.slab = zeros()  # a call that began in the parent is counted there
        self._places = []
        self.local: _Local | _Later = _Later(self._begin)

    def _begin(self) -> _Local:
        # Of two threads that begin at once, one keeps its place for a call, and nobody gets it
        # after that: the list of free places is of one `_Local`.
        local = _Local(self._new_slab, self._places, [])
        self.local = local
        return local

    def _new_slab(self) -> Slab:
        return zeros() if self.folder is None else self.folder.slab(self.label)

    def add(self, sums: Sequence[int]) -> None:
        """Take over what was counted elsewhere."""
        slab = self.local.place.slab
        for column, count in enumerate(sums):
            slab[column] += count

    def retire(self) -> None:
        """Say that nothing counts here for now, and give back the slabs in a folder."""
        self.retired = time_ns()
        if self.folder is not None:
            self._places = [place for place in self._places if isinstance(place.slab, list)]
            self.local = _Later(self._begin)
            self.folder.retire(self.label)

    def own_sums(self) -> list[int]:
        """What this process has counted in its own memory, by column."""
        slabs = [place.slab for place in self._places[:]]
        return added([slab for slab in slabs if isinstance(slab, list)])

    def totals(self) -> MeterTotals:
        """What was counted until now: by all processes, in a folder."""
        return totals_of(counted_by([self])[self.label].sums)


def read_folder(folder: SharedFolder) -> AllCounts:
    """What all processes have counted in a folder, by label; raises PackageError."""
    return folder.read()


def counted_by(ledgers: Sequence[Ledger], read: Read = read_folder) -> AllCounts:
    """What was counted, by label: in the memory of this process, and in the folders of the Ledgers."""
    own = [(ledger.label, LabelCounts(ledger.own_sums(), ledger.retired)) for ledger in ledgers]
    folders = {ledger.folder for ledger in ledgers if ledger.folder is not None}
    return add_up([*own, *(pair for folder in folders for pair in read(folder).items())])
