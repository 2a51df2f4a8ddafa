"""The calls that one event loop makes in one of its ticks, answered together.

A task that calls is resumed in the loop's next iteration, by a bare `yield`; the flush of the tick
was put before it, so in most cases the answer is there when the task goes on, and no Future was
needed. A task that is cancelled between the two is thrown its CancelledError at the yield, which
concerns nobody else.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Generator
from typing import Any

import numpy as np

from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded
from modelkit.model.model import PLAIN, Call, Outputs
from modelkit.serving.batching.asked import Asked, TickBatch
from modelkit.serving.batching.interrupts import is_interrupt
from modelkit.serving.batching.isolation import Names, row_count, split
from modelkit.serving.batching.policy import EVERYTHING, LOOP, ON_LOOP, way_of
from modelkit.serving.batching.queue import overloaded
from modelkit.serving.batching.requests import Key, Request, Turn, clock, joint_call, too_late
from modelkit.serving.batching.workers import Workers
from modelkit.signature.signature import Feeds, Signature


class Tick:
    """What gathers on one event loop. Only that loop's thread uses it.

    `calls` holds batches of coerced feeds, and `rows` batches of single rows. `room` is how many
    rows the batches of this tick may have. `refused` counts the rows that found no room.
    """

    __slots__ = (
        "_block",
        "_going",
        "_lone",
        "_loop",
        "_message",
        "_open",
        "_planner",
        "_queued",
        "_scheduler",
        "_signature",
        "_todo",
        "_workers",
        "calls",
        "refused",
        "room",
        "rows",
    )

    def __init__(self, loop: AbstractEventLoop, workers: Workers, signature: Signature) -> None:
        self.calls: dict[Key, TickBatch] = {}
        self.rows: dict[Names, TickBatch] = {}
        self.room = EVERYTHING
        self.refused = 0
        self._loop = loop
        self._workers = workers
        self._scheduler = workers.scheduler
        self._planner = workers.scheduler.planner
        self._signature = signature
        self._block: Any = signature.block  # there are rows only where there is one
        most = self._scheduler.max_queue
        self._message = str(overloaded(most, most))
        self._open = False  # whether a flush is to come
        self._going = False  # whether `_go_on` is to come
        # Batches of rows that are not all run.
        self._todo: deque[TickBatch] = deque()
        # Calls that wait for threads, whose answers a run on the loop would hold up.
        self._queued = 0
        # Calls that are still run at once, without looking for company: the last tick had only one.
        self._lone = 0

    def begin(self, batches: dict[Any, TickBatch], key: Key, outputs: Names) -> TickBatch:
        """Make the batch for the first call of its kind in this tick. Raises ClosedError."""
        if self._scheduler.closed:
            raise ClosedError("the batcher was closed; make another one to go on")
        if not self._open:
            self._open = True
            self._loop.call_soon(self._flush)
        batch = TickBatch(outputs)
        batches[key] = batch
        return batch

    def quiet(self) -> bool:
        """Whether nothing else was asked for in this tick, nor lately."""
        if self._open or self._queued or not self._lone:
            return False
        self._lone -= 1
        return True

    def refuse(self) -> Overloaded:
        """The error for a row that finds no room behind those that wait on this loop.

        What is refused should cost less than what is answered, so nothing is locked or formatted
        here.
        """
        self.refused += 1
        most = self._scheduler.max_queue
        return Overloaded(self._message, queued=most, max_queue=most)

    # The end of a tick.

    def _flush(self) -> None:
        rows = self.rows
        calls = self.calls
        self.rows = {}
        self.calls = {}
        self._open = False
        asked = sum(len(batch.rows) for batch in rows.values())
        asked += sum(len(batch.asked) for batch in calls.values())
        self._lone = self._planner.plan.lone if asked == 1 else 0
        self._todo.extend(rows.values())
        try:
            for batch in calls.values():
                self._serve(batch)
        finally:  # whatever comes up: tasks that were not served queue their calls themselves
            for batch in calls.values():
                self._end(batch)
        if not self._going:
            self._go_on()

    def _go_on(self) -> None:
        """Serve batches of rows in order, with turns for the loop's other tasks in between."""
        begun = clock()
        self._going = False
        try:
            while self._todo:
                batch = self._todo[0]
                if not self._serve_slice(batch):
                    self._look_into(batch)
                    self._serve(batch)
                elif batch.waiting:
                    self._wake(batch)
                    if clock() - begun > LOOP:
                        self._going = True
                        self._loop.call_soon(self._go_on)
                        break
                    continue
                self._end(self._todo.popleft())
        except BaseException:
            while self._todo:
                self._end(self._todo.popleft())
            raise
        finally:
            self._make_room()

    def _make_room(self) -> None:
        """Admit the next tick whole, unless what waits from those before fills the queue."""
        waiting = sum(batch.waiting for batch in self._todo)
        self.room = EVERYTHING if waiting < self._scheduler.max_queue else 0

    def _end(self, batch: TickBatch) -> None:
        batch.flushed = True
        self._wake(batch)

    def _wake(self, batch: TickBatch) -> None:
        """Wake the tasks that came back too early and have their answers now."""
        waiters = batch.waiters
        while waiters and (batch.flushed or waiters[0][0] < len(batch.answers)):
            _, future = waiters.popleft()
            if not future.done():
                future.set_result(None)

    # Runs.

    def _may_run(self, turn: Turn, size: int) -> bool:
        """Whether the loop may run rows itself now; the turn has a slot then if it takes one."""
        return self._planner.parallel or (not self._queued and self._scheduler.acquire(turn, size))

    def _serve_slice(self, batch: TickBatch) -> bool:
        """Answer the next rows of a batch in one run. False if that cannot be, or failed."""
        plan = self._planner.plan
        rows = batch.rows
        done = len(batch.answers)
        if len(rows) > plan.loop_rows:
            return False
        if done or len(rows) > plan.loop_batch:
            rows = rows[done : done + plan.loop_batch]
        turn = Turn()
        start = clock()
        try:
            if not self._may_run(turn, len(rows)):
                return False
            name, _, rule = self._block
            block = np.concatenate(rows)
            if rule.quick_cast(block) is None:
                self._scheduler.give_back(turn)
                return False
            answers = self._workers.run({name: block}, batch.outputs)
            batch.answers += split(answers, [1] * len(rows))
            self._scheduler.release(turn, len(rows), clock() - start, len(rows), "loop")
        except BaseException as error:
            self._scheduler.give_back(turn)
            if is_interrupt(error):
                raise
            return False  # it is found out whose it is when they are run one by one
        return True

    def _look_into(self, batch: TickBatch) -> None:
        """Coerce the rows that have no answer yet; one that does not fit gets its error."""
        coerce = self._signature.coerce
        for row in batch.rows[len(batch.answers) :]:
            try:
                asked = Asked(coerce(row), 1, PLAIN)
            except Exception as error:  # it is raised by the task that sent the row
                asked = Asked({}, 1, PLAIN)
                asked.outcome = error
            batch.asked.append(asked)

    def _serve(self, batch: TickBatch) -> None:
        """Run the calls of a batch here if that is quick enough; queue them otherwise."""
        waiting = self._waiting(batch)
        if not waiting:
            return
        size = sum(asked.size for asked in waiting)
        held = max(1, size)
        turn = Turn()
        start = clock()
        try:
            way = way_of(self._planner.plan, held, on_loop=True)
            if way != ON_LOOP or not self._may_run(turn, held):
                self._queue(waiting, batch.outputs)
                return
            calls = [asked.feeds for asked in waiting]
            call = joint_call([asked.call for asked in waiting])
            outcomes = self._workers.attempt(calls, size, batch.outputs, call)
            for asked, outcome in zip(waiting, outcomes, strict=True):
                asked.outcome = outcome
            self._scheduler.release(turn, turn.size or size, clock() - start, len(calls), "loop")
        except BaseException:
            self._scheduler.give_back(turn)
            raise

    def _waiting(self, batch: TickBatch) -> list[Asked]:
        """The calls that are to be run; one whose deadline has passed gets its error."""
        now = clock()
        waiting = []
        for asked in batch.asked:
            if asked.dropped or asked.outcome is not None:
                continue
            deadline = asked.call.deadline
            if deadline is None or deadline > now:
                waiting.append(asked)
            else:
                asked.outcome = too_late(deadline)
                self._scheduler.count(expired=1)
        return waiting

    def _queue(self, waiting: list[Asked], outputs: Names) -> None:
        """Queue calls, but for those too large to be queued whole."""
        piece = self._planner.plan.piece
        requests = []
        for asked in waiting:
            if asked.size <= piece or row_count(asked.feeds) == 1:  # others go IN_PIECES
                asked.request = self.request(asked.feeds, outputs, asked.size, asked.call)
                requests.append(asked.request)
        refused = {*self._scheduler.enqueue(requests)}
        for asked in waiting if refused else ():
            request = asked.request
            if request is not None and request in refused:
                # Told by its outcome, and not by its Future, for which perhaps nobody waits.
                asked.outcome = request.error
                asked.request = None

    # What tasks do.

    def request(
        self, feeds: Feeds, outputs: Names, size: int, call: Call, first: int = 0
    ) -> Request:
        """A request that a task of this loop can wait for."""
        request = Request(feeds, outputs, size, call, first)
        request.waiter = self._loop.create_future()
        return request

    def collect(self, batch: TickBatch, asked: Asked) -> Generator[Any, None, Outputs | None]:
        """The answer to a call; None for one that is to be queued in pieces. Raises its error."""
        if not batch.flushed and asked.outcome is None:  # a loop that keeps no order
            yield from self._come(batch, EVERYTHING)
        outcome = asked.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            return outcome
        request = asked.request
        return None if request is None else (yield from self.wait(request))

    def collect_row(self, batch: TickBatch, place: int) -> Generator[Any, None, Outputs | None]:
        """As `collect`, for a single row that was not answered by a plain flush."""
        if not batch.flushed and place >= len(batch.answers):  # the rest of a large batch
            yield from self._come(batch, place)
        if place < len(batch.answers):
            return batch.answers[place]
        asked = self._asked_at(batch, place)
        return None if asked is None else (yield from self.collect(batch, asked))

    def _come(self, batch: TickBatch, place: int) -> Generator[Any, None, None]:
        """Wait until the batch was flushed, or the row at a place was answered."""
        future = self._loop.create_future()
        batch.waiters.append((place, future))
        yield from future

    def _asked_at(self, batch: TickBatch, place: int) -> Asked | None:
        """The call of a row, if it was looked into."""
        at = place - len(batch.answers)
        return batch.asked[at] if 0 <= at < len(batch.asked) else None

    def drop(self, batch: TickBatch, asked: Asked | None) -> None:
        """Leave out the call of a task that was cancelled, if that is still possible."""
        request = None if asked is None else asked.request
        if request is not None:
            self._scheduler.drop(request)
            future: Any = request.waiter
            # Or asyncio would log an error that was on its way, and for which nobody waits.
            future.cancel()
            return
        if asked is not None and not batch.flushed:
            asked.dropped = True
        self._scheduler.count(abandoned=1)

    def drop_row(self, batch: TickBatch, place: int) -> None:
        """As `drop`, for a single row, which is run anyway until it was looked into."""
        self.drop(batch, self._asked_at(batch, place))

    def wait(self, request: Request) -> Generator[Any, None, Outputs]:
        """Wait until the request is answered. Raises its error, or DeadlineExceeded."""
        future: Any = request.waiter
        timer = None
        if request.deadline is not None:
            left = max(0.0, request.deadline - clock())
            timer = self._loop.call_later(left, self._expire, request)
        self._queued += 1
        try:
            answer: Outputs = yield from future
        except BaseException:
            self._scheduler.drop(request)
            raise
        finally:
            self._queued -= 1
            if timer is not None:
                timer.cancel()
        return answer

    def _expire(self, request: Request) -> None:
        future: Any = request.waiter
        if self._scheduler.drop(request, "expired") and not future.done():
            error = DeadlineExceeded(
                "the deadline passed before the answer came", deadline=request.deadline
            )
            future.set_exception(error)
