"""The calls that one event loop makes in one of its ticks, answered together.

A task that calls is resumed in the loop's next iteration, by a bare `yield`; the flush of the tick
was put before it, so in most cases the answer is there when the task goes on, and no Future was
needed. A task that is cancelled between the two is thrown its CancelledError at the yield, which
concerns nobody else.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from modelkit.batching.interrupts import is_interrupt
from modelkit.batching.isolation import Outcome, rows_of, split
from modelkit.batching.lane import Lane, clock
from modelkit.batching.policy import EVERYTHING, LOOP
from modelkit.batching.requests import Key, Request, Turn
from modelkit.cast import quick_cast
from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded
from modelkit.model import PLAIN, Call, Outputs
from modelkit.signature import Feeds, Signature

Costs = Callable[[Feeds], int]


class TickBatch:
    """Calls of one tick that can share a batch.

    After the flush, each has its place in one of the last three.
    """

    __slots__ = (
        "answers",
        "calls",
        "flushed",
        "outcomes",
        "outputs",
        "requests",
        "special",
        "waiters",
    )

    def __init__(self, outputs: tuple[str, ...]) -> None:
        self.outputs = outputs
        self.calls: list[
            Any
        ] = []  # feeds; in a batch of rows, arrays of one row that are checked at the flush
        self.special: dict[
            int, Call | None
        ] = {}  # calls with a deadline or a priority; None for one to leave out
        self.answers: list[Outputs] = []  # to the first rows of a batch of rows, in order
        self.outcomes: dict[int, Outcome] = {}  # of the other calls, by place
        self.requests: dict[int, Request] = {}  # where calls were queued instead
        self.flushed = False
        self.waiters: deque[tuple[int, Future[None]]] = (
            deque()
        )  # tasks that came back before their rows were run


class Tick:
    """What gathers on one event loop. Only that loop's thread uses it.

    `calls` holds batches of coerced feeds, `rows` batches of single rows that nobody has looked
    into yet. `lone` is how many calls are still run at once, without looking for company: the last
    tick had only one.
    """

    __slots__ = (
        "_block",
        "_costs",
        "_going",
        "_lane",
        "_message",
        "_open",
        "_queued",
        "_signature",
        "_todo",
        "calls",
        "lone",
        "loop",
        "refused",
        "room",
        "rows",
    )

    def __init__(
        self, loop: AbstractEventLoop, lane: Lane, signature: Signature, costs: Costs | None
    ) -> None:
        self.loop = loop
        self.lone = 0
        self.calls: dict[Key, TickBatch] = {}
        self.rows: dict[tuple[str, ...], TickBatch] = {}
        self._open = False  # whether a flush is to come
        self._queued = (
            0  # calls that wait for threads, whose answers a run on the loop would hold up
        )
        self._todo: deque[TickBatch] = deque()  # batches of rows that are not all run
        self._going = False  # whether `_go_on` is to come
        self._lane = lane
        self._signature = signature
        self.room = EVERYTHING  # for rows in the batches of this tick
        self.refused = 0
        self._message = str(lane.overloaded(lane.max_queue))
        self._block: Any = signature.block  # there are rows only where there is one
        self._costs = costs

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
        if self._open or self._queued or not self.lone:
            return False
        self.lone -= 1
        return True

    def _flush(self) -> None:
        rows, calls = self.rows, self.calls
        self.rows, self.calls, self._open = {}, {}, False
        alone = (
            sum(len(batch.calls) for batches in (rows, calls) for batch in batches.values()) == 1
        )
        self.lone = self._lane.plan.lone if alone else 0
        self._todo.extend(rows.values())
        try:
            for batch in calls.values():
                self._serve(batch)
        finally:  # whatever comes up: tasks that were not served queue their calls themselves
            for batch in calls.values():
                self._end(batch)
        if not self._going:
            self._go_on()

    def refuse(self) -> Overloaded:
        """The error for a row that finds no room behind those that wait on this loop.

        What is refused should cost less than what is answered, so nothing is locked or formatted
        here.
        """
        self.refused += 1
        return Overloaded(
            self._message, queued=self._lane.max_queue, max_queue=self._lane.max_queue
        )

    def _make_room(self) -> None:
        """Admit the next tick, however much it asks for, unless what waits from those before fills the queue."""
        waiting = sum(len(batch.calls) - len(batch.answers) for batch in self._todo)
        self.room = EVERYTHING if self._lane.block or waiting < self._lane.max_queue else 0

    def _go_on(self) -> None:
        """Serve batches of rows in the order in which they came, with turns for the loop's other tasks in between."""
        begun, self._going = clock(), False
        try:
            while self._todo:
                batch = self._todo[0]
                if not self._serve_slice(batch):
                    self._look_into(batch)
                    self._serve(batch)
                elif len(batch.answers) < len(batch.calls):
                    self._wake(batch)
                    if clock() - begun > LOOP:
                        self._going = True
                        self.loop.call_soon(self._go_on)
                        break
                    continue
                self._end(self._todo.popleft())
        except BaseException:
            while self._todo:
                self._end(self._todo.popleft())
            raise
        finally:
            self._make_room()

    def _end(self, batch: TickBatch) -> None:
        batch.flushed = True
        self._wake(batch)

    def _wake(self, batch: TickBatch) -> None:
        while batch.waiters and (batch.flushed or batch.waiters[0][0] < len(batch.answers)):
            _, future = batch.waiters.popleft()
            if not future.done():
                future.set_result(None)

    def _serve_slice(self, batch: TickBatch) -> bool:
        """Answer the next rows of a batch in one run; false where that cannot be done here, or failed."""
        lane, plan, done, count = self._lane, self._lane.plan, len(batch.answers), len(batch.calls)
        if batch.special or count > plan.loop_rows:
            return False
        rows = (
            batch.calls
            if count <= plan.loop_batch and not done
            else batch.calls[done : done + plan.loop_batch]
        )
        turn, start = Turn(), clock()
        try:
            if not (lane.parallel or (not self._queued and lane.hold(turn, len(rows)))):
                return False
            name, _, rule = self._block
            block = np.concatenate(rows)
            if quick_cast(block, rule) is None:
                lane.give_back(turn)
                return False
            batch.answers += split(lane.run({name: block}, batch.outputs), [1] * len(rows))
            self._count(turn, len(batch.answers) - done, len(rows), clock() - start)
        except BaseException as error:
            lane.give_back(turn)
            if is_interrupt(error):
                raise
            return False  # it is found out whose it is when they are run one by one
        return True

    def _look_into(self, batch: TickBatch) -> None:
        """Coerce rows that are not answered one by one, and leave out those that do not fit."""
        for place, row in enumerate(batch.calls):
            if place < len(batch.answers):
                batch.special[place] = None
                continue
            try:
                batch.calls[place] = self._signature.coerce(row)
            except Exception as error:  # noqa: BLE001 - it is raised by the task that sent the row
                batch.outcomes[place] = error
                batch.special[place] = None

    def _count(self, turn: Turn, calls: int, size: int, seconds: float) -> None:
        lane = self._lane
        if turn.holds:
            lane.let_go(turn, seconds, calls, "tick")
        elif calls:
            with lane.lock:
                lane.count(size, seconds, calls, "tick")

    def _serve(self, batch: TickBatch) -> None:
        """Run the batch here, if that holds the loop up no longer than it may; queue it for threads otherwise."""
        lane, calls = self._lane, batch.calls
        places: Sequence[int] = range(len(calls))
        if batch.special:
            self._leave_out_late(batch)
            places = [i for i in places if batch.special.get(i, PLAIN) is not None]
            calls = [calls[i] for i in places]
        size = sum(map(rows_of if self._costs is None else self._costs, calls))
        turn, start = Turn(), clock()
        try:
            if (
                calls
                and max(1, size) <= lane.plan.loop_batch
                and (lane.parallel or (not self._queued and lane.hold(turn, max(1, size))))
            ):
                batch.outcomes.update(
                    zip(places, lane.attempt(calls, size, batch.outputs), strict=True)
                )
                self._count(turn, len(calls), size, clock() - start)
            else:
                self._queue(batch, places)
        except BaseException:
            lane.give_back(turn)
            raise

    def _leave_out_late(self, batch: TickBatch) -> None:
        now = clock()
        for place, call in batch.special.items():
            if call is not None and call.deadline is not None and call.deadline <= now:
                batch.outcomes[place] = DeadlineExceeded(
                    "the deadline passed before the rows were run", deadline=call.deadline
                )
                batch.special[place] = None
                with self._lane.lock:
                    self._lane.tally.expired += 1

    def _queue(self, batch: TickBatch, places: Sequence[int]) -> None:
        """Queue calls, but for those too large to be queued whole."""
        piece = self._lane.plan.piece
        for i in places:
            request = self.request(batch.calls[i], batch.outputs, batch.special.get(i) or PLAIN)
            if request.size <= piece or rows_of(request.feeds) == 1:
                batch.requests[i] = request
        refused = self._lane.enqueue([*batch.requests.values()])
        if not refused:
            return
        for place, request in [*batch.requests.items()]:
            if request.error is not None and request in refused:
                batch.outcomes[place] = (
                    request.error
                )  # and not by its Future, for which nobody may wait any more
                del batch.requests[place]

    def request(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Request:
        """A request that a task of this loop can wait for."""
        size = rows_of(feeds) if self._costs is None else self._costs(feeds)
        request = Request(feeds, outputs, size, call.deadline, low=call.priority < 0)
        request.waiter = self.loop.create_future()
        return request

    def collect(self, batch: TickBatch, place: int) -> Generator[Any, None, Outputs | None]:
        """The answer to a call that was not answered by a plain flush; None for a call too large to be queued whole."""
        if not batch.flushed and place >= len(batch.answers) and place not in batch.outcomes:
            # The rest of a large batch of rows; or a loop that does not keep the order of
            # call_soon.
            future = self.loop.create_future()
            batch.waiters.append((place, future))
            yield from future
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
        """The task that called was cancelled: leave its call out if it can be; one row among many is run anyway."""
        request = batch.requests.get(place)
        if request is not None:
            self._lane.abandon(request)
            future: Any = request.waiter
            future.cancel()  # or asyncio would log an error that was on its way, and for which nobody waits
            return
        if not batch.flushed and place < len(batch.calls) and type(batch.calls[place]) is dict:
            batch.special[place] = None
        with self._lane.lock:
            self._lane.tally.abandoned += 1

    def wait(self, request: Request) -> Generator[Any, None, Outputs]:
        """Until the request is answered. Raises its error, or DeadlineExceeded."""
        future: Any = request.waiter
        timer = None
        if request.deadline is not None:
            timer = self.loop.call_later(
                max(0.0, request.deadline - clock()), self._expire, request
            )
        self._queued += 1
        try:
            answer: Outputs = yield from future
        except BaseException:
            self._lane.abandon(request)
            raise
        finally:
            self._queued -= 1
            if timer is not None:
                timer.cancel()
        return answer

    def _expire(self, request: Request) -> None:
        future: Any = request.waiter
        if self._lane.expire(request) and not future.done():
            error = DeadlineExceeded(
                "the deadline passed before the answer came", deadline=request.deadline
            )
            future.set_exception(error)
