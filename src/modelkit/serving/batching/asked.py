"""The calls of one tick of an event loop."""

from __future__ import annotations

from asyncio import Future
from collections import deque

from modelkit._internal.arrays import Array
from modelkit.model.model import Call, Outputs
from modelkit.serving.batching.isolation import Names, Outcome
from modelkit.serving.batching.requests import Request
from modelkit.signature.signature import Feeds


class Asked:
    """One call of a tick, from when it is made until its task goes on.

    It ends with an `outcome`, or with a `request` that waits for threads, or with neither if it is
    too large to be queued whole. `dropped` is whether its task was cancelled before that.
    """

    __slots__ = ("call", "dropped", "feeds", "outcome", "request", "size")

    def __init__(self, feeds: Feeds, size: int, call: Call) -> None:
        self.feeds = feeds
        self.size = size
        self.call = call
        self.dropped = False
        self.outcome: Outcome | None = None
        self.request: Request | None = None


class TickBatch:
    """Calls of one tick that can share a batch.

    Either coerced calls, all in `asked`; or single rows that nobody has looked into yet, in `rows`.
    Of these the first have their `answers`, in order. The others are in `asked` once they had to be
    looked into.
    """

    __slots__ = ("answers", "asked", "flushed", "outputs", "rows", "waiters")

    def __init__(self, outputs: Names) -> None:
        self.outputs = outputs
        self.asked: list[Asked] = []
        self.rows: list[Array] = []
        self.answers: list[Outputs] = []
        self.flushed = False
        # Tasks that came back before their rows were run, by the place of the row.
        self.waiters: deque[tuple[int, Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many rows have no answer yet."""
        return len(self.rows) - len(self.answers)
