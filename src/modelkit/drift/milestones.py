"""Where in a stream blocks of rows were: the number of rows before each, and its time.

Memory is bounded: the last blocks are kept, and of older ones the fewer the older they are; what is
between two of them is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array

MOST_MILESTONES = 128
NO_TIME = float("nan")  # the time of rows that say nothing of it


class Milestone(NamedTuple):
    """A block of which the place is kept: its number, the rows before it, and its first time."""

    block: float
    rows: float
    time: float


class BlockEnd(NamedTuple):
    """The end of a block: the number of its last row in the Detector, its first and last time."""

    row: float
    first: float
    last: float


@final
class Milestones:
    """The blocks of one stream, as far as they are kept; `blocks` is how many there were."""

    __slots__ = ("_kept", "blocks")

    def __init__(self) -> None:
        self.blocks = 0
        self._kept: list[Milestone] = []

    def add(self, rows: float, time: float) -> None:
        """Take the next block: how many rows came before it, and when its first row was."""
        kept = self._kept
        kept.append(Milestone(self.blocks, rows, time))
        self.blocks += 1
        if len(kept) > MOST_MILESTONES:
            half = MOST_MILESTONES // 2
            older = kept[:half:2]
            self._kept = older + kept[half:]

    def at(self, blocks: Array) -> tuple[Array, Array]:
        """The rows before blocks of these numbers, int64 (n,), and the times of these blocks."""
        n = len(blocks)
        if not self._kept:
            return np.zeros(n, np.int64), np.full(n, NO_TIME)
        kept, rows, times = np.array(self._kept).T
        rows_before = np.interp(blocks, kept, rows)
        began = np.interp(blocks, kept, times)
        whole = np.rint(rows_before).astype(np.int64)
        return whole, began

    def state(self) -> Array:
        """Everything that changes, as one array."""
        head = Milestone(self.blocks, 0, 0)
        return np.array([head, *self._kept], np.float64)

    def restore(self, state: Array) -> None:
        """Go on from `state()`, bit for bit."""
        first, *kept = state.tolist()
        self.blocks = int(first[0])
        self._kept = [Milestone(*one) for one in kept]


def known(time: float) -> float | None:
    """A time, or None where it is not known."""
    return None if np.isnan(time) else float(time)


def places_of(first: int, times: Array) -> Array:
    """The numbers of rows from `first` + 1 on beside their times (n,), float64 (n, 2)."""
    n = len(times)
    after = first + 1
    places = np.empty((n, 2))
    places[:, 0] = np.arange(after, after + n)
    places[:, 1] = times
    return places


def whole_blocks(pending: Array, had: int, rows: Array) -> Array:
    """Whole blocks (blocks, size, ...) of the `had` rows that are pending, and of others.

    `pending` has room for one block, and takes those that are left.
    """
    size = len(pending)
    width = rows.shape[1]
    whole = rows
    if had:
        whole = np.concatenate([pending[:had], rows])
    rest = len(whole) % size
    cut = len(whole) - rest
    blocks = whole[:cut].reshape(-1, size, width)
    pending[:rest] = whole[cut:]
    return blocks


@final
class StreamCourse:
    """Where a stream is: the places of its rows, which are taken in blocks of a size.

    `row` is the number, in the Detector, of the last row that was bet on, and `latest` the latest
    time of these rows.
    """

    __slots__ = ("_milestones", "_pending", "latest", "row")

    def __init__(self, size: int) -> None:
        self.row = 0
        self.latest = NO_TIME
        self._pending = np.empty((size, 2))
        self._milestones = Milestones()

    def wait(self, had: int, places: Array) -> None:
        """Keep the places (n, 2) of rows that fill no block, behind those of `had` others."""
        self._pending[had : had + len(places)] = places

    def ends(self, had: int, places: Array) -> list[BlockEnd]:
        """The ends of the blocks that are full with these rows."""
        blocks = whole_blocks(self._pending, had, places)
        numbers = blocks[:, -1, 0]
        times = blocks[:, :, 1]
        first = times.min(axis=1)
        last = times.max(axis=1)
        ends = np.stack([numbers, first, last], axis=1)
        return [BlockEnd(*end) for end in ends.tolist()]

    def come_to(self, end: BlockEnd) -> None:
        """Take the next block."""
        self._milestones.add(self.row, end.first)
        self.row = int(end.row)
        self.latest = float(np.fmax(self.latest, end.last))

    def at(self, blocks: Array) -> tuple[Array, Array]:
        """See `Milestones.at`."""
        return self._milestones.at(blocks)

    def state(self, pending: int) -> dict[str, Array]:
        """Everything that changes, where that many rows wait for their block."""
        return {
            "places": self._pending[:pending],
            "milestones": self._milestones.state(),
            "end": np.array([self.row, self.latest]),
        }

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Go on from `state()`, bit for bit."""
        self._milestones.restore(arrays["milestones"])
        self._pending[: len(arrays["places"])] = arrays["places"]
        row, self.latest = arrays["end"].tolist()
        self.row = int(row)
