"""The calls that one event loop makes in one of its ticks, answered together.

A task that calls is resumed in the loop's next iteration, by a bare `yield`; the flush of the tick
was put before it, so in most cases the answer is there when the task goes on, and no Future was
needed. A task that is cancelled between the two is thrown its CancelledError at the yield, which
concerns nobody else.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded
from modelkit.model.model import PLAIN, Call, Outputs
from modelkit.serving.batching.interrupts import is_interrupt
from modelkit.serving.batching.isolation import Names, Outcome, row_count, split
from modelkit.serving.batching.policy import EVERYTHING, LOOP, ON_LOOP, way_of
from modelkit.serving.batching.queue import overloaded
from modelkit.serving.batching.requests import Key, Request, Turn, clock, joint_call, too_late
from modelkit.serving.batching.workers import Workers
from modelkit.signature.signature import Feeds, Signature


@dataclass(eq=False, slots=True)
class LoopCall:
    """One coerced call of a tick, from when it is made until its task goes on.

    It ends with an `outcome`, or with a `request` that waits for threads, or with neither if it is
    too large to be queued whole. `dropped` is whether its task was cancelled before that.
    """

    feeds: Feeds
    size: int
    call: Call
    dropped: bool = False
    outcome: Outcome | None = None
    request: Request | None = None


class TickBatch:
    """Calls of one tick that can share a batch, each in its place in `calls`.

    Each is a LoopCall, or in a `raw` batch a single row that nobody has looked into yet. Of rows, the
    first have their `answers`, and each of the others becomes a LoopCall once it has to be looked into.
    """

    __slots__ = ("answers", "calls", "flushed", "outputs", "raw", "waiters")

    def __init__(self, outputs: Names, *, raw: bool) -> None:
        self.outputs = outputs
        self.raw = raw
        self.calls: list[Any] = []  # Array | LoopCall
        self.answers: list[Outputs] = []
        self.flushed = False
        # Tasks that came back before their calls were run, by place.
        self.waiters: deque[tuple[int, Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many calls have no answer yet."""
        return len(self.calls) - len(self.answers)


class Tick:
    """What gathers on one event loop. Only that loop's thread uses it.

    `batches` are those of this tick, and `room` is how many calls each may have. `refused` counts
    the rows that found no room.
    """

    def __init__(self, loop: AbstractEventLoop, workers: Workers, signature: Signature) -> None:
        self.batches: dict[Key, TickBatch] = {}
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
        # Batches that are not all run.
        self._todo: deque[TickBatch] = deque()
        # Calls that wait for threads, whose answers a run on the loop would hold up.
        self._queued = 0
        # Calls that are still run at once, without looking for company: the last tick had only one.
        self._lone = 0

    def begin(self, key: Key, outputs: Names) -> TickBatch:
        """Make the batch for the first call of its kind in this tick. Raises ClosedError."""
        if self._scheduler.closed:
            raise ClosedError("the batcher was closed; make another one to go on")
        if not self._open:
            self._open = True
            self._loop.call_soon(self._flush)
        batch = TickBatch(outputs, raw=key == outputs)
        self.batches[key] = batch
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
        batches = self.batches.values()
        self.batches = {}
        self._open = False
        calls = sum(len(batch.calls) for batch in batches)
        self._lone = self._planner.plan.lone if calls == 1 else 0
        for batch in batches:
            if batch.raw:
                self._todo.append(batch)
            else:  # before rows that wait from earlier ticks, as some of these have deadlines
                self._todo.appendleft(batch)
        if not self._going:
            self._go_on()

    def _go_on(self) -> None:
        """Serve batches in order, with turns for the loop's other tasks in between."""
        begun = clock()
        self._going = False
        try:
            while self._todo:
                batch = self._todo[0]
                if not batch.raw:
                    self._serve(batch)
                elif not self._serve_slice(batch):
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
        except BaseException:  # tasks that were not served queue their calls themselves
            while self._todo:
                self._end(self._todo.popleft())
            raise
        finally:
            # The next tick is admitted whole, unless what waits from those before fills the queue.
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
        rows = batch.calls
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
        for place in range(len(batch.answers), len(batch.calls)):
            call = LoopCall({}, 1, PLAIN)
            try:
                call.feeds = coerce(batch.calls[place])
            except Exception as error:  # it is raised by the task that sent the row
                call.outcome = error
            batch.calls[place] = call

    def _serve(self, batch: TickBatch) -> None:
        """Run the calls of a batch here if that is quick enough; queue them otherwise."""
        waiting = self._waiting(batch)
        if not waiting:
            return
        size = sum(each.size for each in waiting)
        held = max(1, size)
        turn = Turn()
        start = clock()
        try:
            way = way_of(self._planner.plan, held, on_loop=True)
            if way != ON_LOOP or not self._may_run(turn, held):
                self._queue(waiting, batch.outputs)
                return
            calls = [each.feeds for each in waiting]
            call = joint_call([each.call for each in waiting])
            outcomes = self._workers.attempt(calls, size, batch.outputs, call)
            for each, outcome in zip(waiting, outcomes, strict=True):
                each.outcome = outcome
            self._scheduler.release(turn, turn.size or size, clock() - start, len(calls), "loop")
        except BaseException:
            self._scheduler.give_back(turn)
            raise

    def _waiting(self, batch: TickBatch) -> list[LoopCall]:
        """The calls that are to be run; one whose deadline has passed gets its error."""
        now = clock()
        waiting = []
        for call in batch.calls[len(batch.answers) :]:
            if call.dropped or call.outcome is not None:
                continue
            deadline = call.call.deadline
            if deadline is None or deadline > now:
                waiting.append(call)
            else:
                call.outcome = too_late(deadline)
                self._scheduler.count(expired=1)
        return waiting

    def _queue(self, waiting: list[LoopCall], outputs: Names) -> None:
        """Queue calls, but for those too large to be queued whole."""
        piece = self._planner.plan.piece
        queued = {}
        for each in waiting:
            if each.size <= piece or row_count(each.feeds) == 1:  # others go IN_PIECES
                each.request = Request(each.feeds, outputs, each.size, each.call)
                each.request.waiter = self._loop.create_future()
                queued[each.request] = each
        for request in self._scheduler.enqueue([*queued]):
            # Told by its outcome, and not by its Future, for which perhaps nobody waits.
            queued[request].outcome = request.error
            queued[request].request = None

    # What tasks do.

    def collect(self, batch: TickBatch, place: int) -> Generator[Any, None, Outputs | None]:
        """The answer to a call; None for one that is to be queued in pieces. Raises its error."""
        if not batch.flushed and place >= len(batch.answers):
            # The rest of a large batch, or a loop that keeps no order.
            future = self._loop.create_future()
            batch.waiters.append((place, future))
            yield from future
        if place < len(batch.answers):
            return batch.answers[place]
        call = batch.calls[place]
        if not isinstance(call, LoopCall):  # a flush was interrupted
            return None
        outcome = call.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None and call.request is not None:
            return (yield from self.wait(call.request))
        return outcome

    def drop(self, batch: TickBatch, place: int) -> None:
        """Leave out the call of a task that was cancelled; a row is run anyway."""
        call = batch.calls[place]
        request = None
        if isinstance(call, LoopCall):
            call.dropped = True
            request = call.request
        if request is None:
            self._scheduler.count(abandoned=1)
            return
        self._scheduler.drop(request)
        future: Any = request.waiter
        # Or asyncio would log an error that was on its way, and for which nobody waits.
        future.cancel()

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
