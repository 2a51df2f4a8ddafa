"""What a Batcher has done, counted while it works and read as a value."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from modelkit._internal import fields
from modelkit.serving.batching.queue import Queue


@dataclass(frozen=True)
class Stats:
    """Counts since the Batcher was made. Sizes are rows, or the cost that the model declares.

    Args:
        calls: calls that were admitted.
        batches: runs of the model that answered calls from a queue or an iteration of an event loop.
        direct: calls that ran at once on the calling thread, without a batch.
        failed: calls that got the model's error.
        shed: calls refused because the queue was full.
        expired: calls that could not be ready by their deadline.
        abandoned: calls whose caller stopped waiting.
        released: how often a batch was run, by reason: "idle" (a slot was free), "slot" (one became
            free), "cap" (the largest batch was reached), "loop" (an event loop had made all calls
            of one iteration).
        batch_sizes: batches by size; the key is the largest size of the bin: 1, 3, 7, 15, ...
        batched: the sum of the sizes of all batches.
        latency: calls by microseconds from call to answer; the key is the most of the bin: 1, 3, 7,
            15, ... Of direct calls, one in 64 is timed.
        seconds: the sum of the seconds from call to answer of these calls.
        queued: the size that waits now.
        deepest: the largest size that ever waited.
        max_queue, max_rows: the most that may wait, and the size of the largest batch, as the
            Batcher was made with.
        out_of_memory: runs that did not fit into memory, each of which halved the largest batch.
    """

    calls: int
    batches: int
    direct: int
    failed: int
    shed: int
    expired: int
    abandoned: int
    released: dict[str, int]
    batch_sizes: dict[int, int]
    batched: int
    latency: dict[int, int]
    seconds: float
    queued: int
    deepest: int
    max_queue: int
    max_rows: int
    out_of_memory: int

    __repr__ = fields.brief


class RunningStats:
    """The counters behind Stats, guarded by the lock of the Scheduler."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        # Calls that ran at once, and those that found no room on their loop: who makes one takes
        # the next number, without the lock.
        self.direct = count(1)
        self.refused = count()
        names = ("calls", "batches", "failed", "shed", "expired", "abandoned", "out_of_memory")
        self.counts = dict.fromkeys((*names, "batched"), 0)
        self.seconds = 0.0
        self.released = dict.fromkeys(("idle", "slot", "cap", "loop"), 0)
        self.sizes = [0] * 64  # by the number of bits
        self.latency = [0] * 64

    def batch(self, size: int, reason: str) -> None:
        """Count a batch."""
        self.counts["batches"] += 1
        self.counts["batched"] += size
        self.released[reason] += 1
        self.sizes[size.bit_length()] += 1

    def answered(self, seconds: float, calls: int = 1) -> None:
        """Count calls that were answered this long after they were made."""
        self.seconds += seconds * calls
        self.latency[int(seconds * 1e6).bit_length()] += calls

    def stats(self, queue: Queue) -> Stats:
        """The counts as a value, with the queue's."""
        direct = _next(self.direct) - 1
        counts = dict(self.counts)
        counts["calls"] += direct
        counts["shed"] += _next(self.refused)
        return Stats(
            **counts,
            direct=direct,
            released=dict(self.released),
            batch_sizes=_histogram(self.sizes),
            latency=_histogram(self.latency),
            seconds=self.seconds,
            queued=queue.waiting,
            deepest=queue.deepest,
            max_queue=queue.most,
            max_rows=self.max_rows,
        )


def _next(numbers: count[int]) -> int:
    """The next number, which is not taken: 7 of "count(7)"."""
    return int(repr(numbers).removeprefix("count(").removesuffix(")"))


def _histogram(counts: list[int]) -> dict[int, int]:
    return {(1 << bits) - 1: calls for bits, calls in enumerate(counts) if calls}
