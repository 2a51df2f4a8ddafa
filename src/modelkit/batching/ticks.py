"""The calls that one event loop makes in one of its ticks, answered together.

A task that calls is resumed in the loop's next iteration, by a bare `yield`; the flush of the tick was put before it,
so in most cases the answer is there when the task goes on, and no Future was needed. A task that is cancelled between
the two is thrown its CancelledError at the yield, which concerns nobody else.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from modelkit.batching.isolation import Outcome, rows_of, split
from modelkit.batching.lane import OBSERVE, Lane, clock
from modelkit.batching.policy import LOOP
from modelkit.batching.requests import Key, Request
from modelkit.cast import quick_cast
from modelkit.errors import ClosedError, DeadlineExceeded, SignatureError
from modelkit.model import PLAIN, Call, Outputs
from modelkit.signature import Feeds, Signature

LONE = 31  # calls that a loop runs one by one before it looks again whether others would join in


Costs = Callable[[Feeds], int]


class TickBatch:
    """Calls of one tick that can share a batch. After the flush, each has its place in one of the last three."""

    __slots__ = ("answers", "arrived", "calls", "flushed", "outcomes", "outputs", "requests", "special")

    def __init__(self, outputs: tuple[str, ...]) -> None:
        self.outputs = outputs
        self.calls: list[Any] = []  # feeds; in a batch of rows, arrays of one row that are checked at the flush
        self.special: dict[int, Call | None] = {}  # calls with a deadline or a priority; None for one to leave out
        self.arrived = clock()
        self.answers: list[Outputs] = []  # to the first rows of a batch of rows, in order
        self.outcomes: dict[int, Outcome] = {}  # of the other calls, by place
        self.requests: dict[int, Request] = {}  # where calls were queued instead
        self.flushed = False


class Tick:
    """What gathers on one event loop. Only that loop's thread uses it.

    `calls` holds batches of coerced feeds, `rows` batches of single rows that nobody has looked into yet. `lone` is how
    many calls are still run at once, without looking for company: the last tick had only one.
    """

    __slots__ = ("_block", "_costs", "_flushes", "_lane", "_open", "_signature", "calls", "lone", "loop", "rows")

    def __init__(self, loop: AbstractEventLoop, lane: Lane, signature: Signature, costs: Costs | None) -> None:
        self.loop = loop
        self.lone = 0
        self.calls: dict[Key, TickBatch] = {}
        self.rows: dict[tuple[str, ...], TickBatch] = {}
        self._open = False
        self._lane = lane
        self._signature = signature
        self._block: Any = signature.block  # there are rows only where there is one
        self._costs = costs
        self._flushes = 0

    def begin(self, batches: dict[Any, TickBatch], key: Key, outputs: tuple[str, ...]) -> TickBatch:
        """The batch for the first call of its kind in this tick."""
        if self._lane.closed:
            raise ClosedError("the batcher was closed")
        if not self._open:
            self._open = True
            self.loop.call_soon(self._flush)
        batch = batches[key] = TickBatch(outputs)
        return batch

    def quiet(self) -> bool:
        """Whether nothing else was asked for in this tick, nor lately."""
        if self._open or not self.lone:
            return False
        self.lone -= 1
        return True

    def _flush(self) -> None:
        rows, calls = self.rows, self.calls
        self.rows, self.calls, self._open = {}, {}, False
        asked = 0
        for batches, serve in ((rows, self._serve_rows), (calls, self._serve)):
            for batch in batches.values():
                asked += len(batch.calls)
                try:
                    serve(batch)
                except BaseException:
                    batch.flushed = True  # its tasks then queue their calls one by one
                    raise
        self.lone = LONE if asked == 1 else 0

    def _serve_rows(self, batch: TickBatch) -> None:
        """Check single rows all at once and run them; where anything is out of the ordinary, one by one."""
        lane, (name, _, rule) = self._lane, self._block
        plan, parallel, done, count = lane.plan, lane.parallel, len(batch.answers), len(batch.calls)
        rows = batch.calls if count <= plan.loop_batch else batch.calls[done : done + plan.loop_batch]
        if count <= plan.loop_rows and not batch.special and (parallel or lane.hold(len(rows))):
            start = clock()
            try:
                block = np.concatenate(rows)
                if quick_cast(block, rule) is not None:
                    batch.answers += split(lane.run({name: block}, batch.outputs), [1] * len(rows))
            except Exception:  # noqa: BLE001, S110 - it is found out below whose it is
                pass
            finally:
                self._count(len(batch.answers) - done, len(rows), clock() - start, queued=not parallel)
            if len(batch.answers) == done + len(rows):
                if len(batch.answers) < count:
                    self._serve_rest(batch)
                return
        self._look_into(batch, done)
        self._serve(batch)

    def _serve_rest(self, batch: TickBatch) -> None:
        """Go on with a batch that is larger than one run, at once or after the loop's other tasks had their turn."""
        if clock() - batch.arrived < LOOP:
            self._serve_rows(batch)
        else:
            batch.arrived = clock()
            self.loop.call_soon(self._serve_rows, batch)

    def _look_into(self, batch: TickBatch, start: int) -> None:
        """Coerce rows one by one, and leave out those that do not fit."""
        for place, row in enumerate(batch.calls):
            if place < start:
                batch.special[place] = None
                continue
            try:
                batch.calls[place] = self._signature.coerce(row)
            except SignatureError as error:
                batch.outcomes[place] = error
                batch.special[place] = None

    def _count(self, calls: int, size: int, seconds: float, *, queued: bool) -> None:
        lane = self._lane
        if queued:
            lane.let_go(size, seconds, calls, "tick")
            return
        self._flushes += 1
        with lane.lock:
            lane.tally.calls += calls
            lane.tally.batch(size, "tick")
            lane.tally.answered(seconds, calls)
            if self._flushes & OBSERVE == 0:
                lane.observe(size, seconds)

    def _serve(self, batch: TickBatch) -> None:
        """Run the batch here, if that holds the loop up no longer than it may; queue it for threads otherwise."""
        lane, calls = self._lane, batch.calls
        places: Sequence[int] = range(len(calls))
        if batch.special:
            places = [i for i in places if batch.special.get(i, PLAIN) is not None]
            calls = [calls[i] for i in places]
        sizes = [rows_of(feeds) for feeds in calls]
        size = sum(sizes) if self._costs is None else sum(map(self._costs, calls))
        parallel = lane.parallel
        if calls and size <= lane.plan.loop_batch and (parallel or lane.hold(size)):
            start = clock()
            try:
                batch.outcomes.update(zip(places, lane.attempt(calls, sizes, batch.outputs), strict=True))
            finally:
                self._count(len(calls), size, clock() - start, queued=not parallel)
        else:
            self._queue(batch, places)
        batch.flushed = True

    def _queue(self, batch: TickBatch, places: Sequence[int]) -> None:
        """Queue calls, but for those too large to be queued whole."""
        piece = self._lane.plan.piece
        for i in places:
            request = self.request(batch.calls[i], batch.outputs, batch.special.get(i) or PLAIN)
            if request.size <= piece or rows_of(request.feeds) == 1:
                batch.requests[i] = request
        self._lane.enqueue([*batch.requests.values()])

    def request(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Request:
        """A request that a task of this loop can wait for."""
        size = rows_of(feeds) if self._costs is None else self._costs(feeds)
        request = Request(feeds, outputs, size, call.deadline, low=call.priority < 0)
        request.waiter = self.loop.create_future()
        return request

    def collect(self, batch: TickBatch, place: int) -> Generator[Any, None, Outputs | None]:
        """The answer to a call that was not answered by a plain flush; None for a call too large to be queued whole."""
        while not batch.flushed and place >= len(batch.answers):
            yield  # the rest of a large batch of rows; or a loop that does not keep the order of call_soon
        if place < len(batch.answers):
            return batch.answers[place]
        if place in batch.outcomes:
            answer = batch.outcomes[place]
            if isinstance(answer, BaseException):
                raise answer
            return answer
        request = batch.requests.get(place)
        return None if request is None else (yield from self.wait(request))

    def drop(self, batch: TickBatch, place: int) -> None:
        """The task that called was cancelled: leave its rows out if they have not been run."""
        batch.special[place] = None
        request = batch.requests.get(place)
        if request is not None:
            self._lane.abandon(request)
            return
        with self._lane.lock:
            self._lane.tally.abandoned += 1

    def wait(self, request: Request) -> Generator[Any, None, Outputs]:
        """Until the request is answered. Raises its error, or DeadlineExceeded."""
        future: Any = request.waiter
        timer = None
        if request.deadline is not None:
            timer = self.loop.call_later(max(0.0, request.deadline - clock()), self._expire, request)
        try:
            answer: Outputs = yield from future
        except BaseException:
            self._lane.abandon(request)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return answer

    def _expire(self, request: Request) -> None:
        future: Any = request.waiter
        if self._lane.expire(request) and not future.done():
            error = DeadlineExceeded("the deadline passed before the answer came", deadline=request.deadline)
            future.set_exception(error)
