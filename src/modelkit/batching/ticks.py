"""The calls that one event loop makes in one of its ticks, answered together.

A task that calls is resumed in the loop's next iteration, by a bare `yield`; the flush of the tick was put before it,
so in most cases the answer is there when the task goes on, and no Future was needed. A task that is cancelled between
the two is thrown its CancelledError at the yield, which concerns nobody else.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Generator, Sequence
from typing import Any

from modelkit.batching.lane import Lane, clock
from modelkit.batching.policy import PARALLEL
from modelkit.batching.requests import Key, Request
from modelkit.errors import ClosedError, DeadlineExceeded
from modelkit.model import PLAIN, Call, Outputs
from modelkit.signature import Feeds

LONE = 31  # calls that a loop runs one by one before it looks again whether others would join in
OBSERVE = 7  # one tick in 8 is timed


Costs = Callable[[Feeds], int]


class TickBatch:
    """Calls of one tick that can share a batch. After the flush, `answers` or `requests` has a place for each."""

    __slots__ = ("answers", "arrived", "calls", "outputs", "requests", "special")

    def __init__(self, outputs: tuple[str, ...]) -> None:
        self.outputs = outputs
        self.calls: list[Feeds] = []
        self.special: dict[int, Call | None] = {}  # calls with a deadline or a priority; None for a cancelled one
        self.arrived = clock()
        self.answers: Sequence[Outputs | BaseException] | dict[int, Outputs | BaseException] | None = None
        self.requests: dict[int, Request | None] | None = None  # None for a call too large to be queued whole


class Tick:
    """What gathers on one event loop. Only that loop's thread uses it.

    `lone` is how many calls are still run at once, without looking for company: the last tick had only one.
    """

    __slots__ = ("_costs", "_first", "_flushes", "_lane", "batches", "lone", "loop")

    def __init__(self, loop: AbstractEventLoop, lane: Lane, first: str, costs: Costs | None) -> None:
        self.loop = loop
        self.lone = 0
        self.batches: dict[Key, TickBatch] = {}
        self._lane = lane
        self._first = first
        self._costs = costs
        self._flushes = 0

    def begin(self, key: Key, outputs: tuple[str, ...]) -> TickBatch:
        """The batch for the first call of this tick, or the first of its kind."""
        if self._lane.closed:
            raise ClosedError("the batcher was closed")
        if not self.batches:
            self.loop.call_soon(self._flush)
        batch = self.batches[key] = TickBatch(outputs)
        return batch

    def _flush(self) -> None:
        batches, self.batches = self.batches, {}
        for batch in batches.values():
            self._serve(batch)
        self.lone = LONE if sum(len(batch.calls) for batch in batches.values()) == 1 else 0

    def _serve(self, batch: TickBatch) -> None:
        """Run the batch here, if that holds the loop up no longer than it may; queue it for a thread otherwise."""
        lane, first, calls = self._lane, self._first, batch.calls
        places: Sequence[int] = range(len(calls))
        if batch.special:
            places = [i for i in places if batch.special.get(i, PLAIN) is not None]
            calls = [calls[i] for i in places]
            with lane.lock:
                lane.tally.abandoned += len(batch.calls) - len(calls)
        sizes = [len(feeds[first]) for feeds in calls]
        size = sum(sizes) if self._costs is None else sum(map(self._costs, calls))
        parallel = lane.plan.mode == PARALLEL
        if size > lane.plan.loop_rows or not (parallel or lane.hold()):
            self._queue(batch, places)
            return
        start = clock()
        batch.answers = lane.attempt(calls, sizes, batch.outputs)
        now = clock()
        if batch.special:
            batch.answers = dict(zip(places, batch.answers, strict=True))
        if not parallel:
            lane.let_go()
        self._flushes += 1
        with lane.lock:
            lane.tally.calls += len(calls)
            lane.tally.batch(size, "tick")
            lane.tally.answered(now - batch.arrived, len(calls))
            if self._flushes & OBSERVE == 0:
                lane.observe(size, now - start)

    def _queue(self, batch: TickBatch, places: Sequence[int]) -> None:
        piece = self._lane.plan.piece
        batch.requests = {}
        for i in places:
            request = self.request(batch.calls[i], batch.outputs, batch.special.get(i) or PLAIN)
            batch.requests[i] = request if request.size <= piece or len(request.feeds[self._first]) == 1 else None
        self._lane.enqueue([request for request in batch.requests.values() if request is not None])

    def request(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Request:
        """A request that a task of this loop can wait for."""
        size = len(feeds[self._first]) if self._costs is None else self._costs(feeds)
        request = Request(feeds, outputs, size, call.deadline, low=call.priority < 0)
        request.waiter = self.loop.create_future()
        return request

    def wait(self, request: Request) -> Generator[Any, None, Outputs]:
        """Until the request is answered. Raises its error, or DeadlineExceeded."""
        future = request.waiter
        assert isinstance(future, Future)
        timer = None
        if request.deadline is not None:
            timer = self.loop.call_later(max(0.0, request.deadline - clock()), self._expire, request)
        try:
            return (yield from future)
        except BaseException:
            self._lane.abandon(request)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _expire(self, request: Request) -> None:
        future = request.waiter
        assert isinstance(future, Future)
        if self._lane.expire(request) and not future.done():
            error = DeadlineExceeded("the deadline passed before the answer came", deadline=request.deadline)
            future.set_exception(error)
