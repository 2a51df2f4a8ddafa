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
from math import inf
from typing import Any

import numpy as np

from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded
from modelkit.model.model import PLAIN, Outputs
from modelkit.serving.batching.checks import Prepare
from modelkit.serving.batching.interrupts import is_interrupt
from modelkit.serving.batching.isolation import Names, join_rows, row_count, split
from modelkit.serving.batching.pieces import in_pieces
from modelkit.serving.batching.policy import EVERYTHING, LOOP
from modelkit.serving.batching.queue import overloaded
from modelkit.serving.batching.requests import DONE, FRESH, Key, Request, Turn, clock, too_late
from modelkit.serving.batching.workers import Workers
from modelkit.signature.signature import Signature


class TickBatch:
    """Calls of one tick that can share a batch, each in its place in `calls`.

    Each is a Request, or in a `raw` batch a single row that nobody has looked into yet. Of rows, the
    first have their `answers`, and each of the others becomes a Request once it has to be looked into.
    A Request is done by the loop, or queued for threads; one that stays fresh is too large for that.
    """

    __slots__ = ("answers", "calls", "flushed", "outputs", "raw", "waiters")

    def __init__(self, outputs: Names, *, raw: bool) -> None:
        self.outputs = outputs
        self.raw = raw
        self.calls: list[Any] = []  # Array | Request
        self.answers: list[Outputs] = []
        self.flushed = False
        # Tasks that came back before their calls were run, by place.
        self.waiters: deque[tuple[int, Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """How many calls lack an answer yet."""
        return len(self.calls) - len(self.answers)


class Tick:
    """What gathers on one event loop. Only that loop's thread uses it.

    `batches` are this tick's, and `room` is how many calls each may have.
    """

    def __init__(
        self, loop: AbstractEventLoop, workers: Workers, signature: Signature, prepared: Prepare
    ) -> None:
        self.batches: dict[Key, TickBatch] = {}
        self.room = EVERYTHING
        self._prepared = prepared
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
            self._loop.call_soon(self._flush)
            self._open = True  # last: a signal handler may raise in the call before
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
        next(self._scheduler.tally.refused)
        most = self._scheduler.max_queue
        return Overloaded(self._message, queued=most, max_queue=most)

    # The end of a tick.

    def _flush(self) -> None:
        calls = 0
        for batch in self.batches.values():
            calls += len(batch.calls)
            if batch.raw:
                self._todo.append(batch)
            else:  # before rows that wait from earlier ticks, as some of these have deadlines
                self._todo.appendleft(batch)
        self.batches = {}
        self._open = False
        self._lone = self._planner.plan.lone if calls == 1 else 0
        if not self._going:
            self._go_on()

    def _flush_again(self) -> None:
        """Serve what still waits, for a signal handler may have kept the loop from it."""
        self._going = False
        self._flush()

    def _go_on(self) -> None:
        """Serve batches in order, with turns for the loop's other tasks in between."""
        begun = clock()
        self._going = False
        try:
            while self._todo:
                batch = self._todo[0]
                if batch.flushed:  # it is here twice, as an interrupted flush was repeated
                    pass
                elif not batch.raw:
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
            answers = self._workers.run({name: block}, batch.outputs, PLAIN)
            batch.answers += split(answers, [1] * len(rows))
            self._scheduler.release(turn, len(rows), clock() - start, len(rows), "loop")
        except BaseException as error:
            self._scheduler.give_back(turn)
            if is_interrupt(error):
                raise
            return False  # it is found out whose it is when they are run one by one
        return True

    def _look_into(self, batch: TickBatch) -> None:
        """Coerce the rows that lack an answer yet; one that does not fit gets its error."""
        for place in range(len(batch.answers), len(batch.calls)):
            request = Request({}, 1, batch.outputs, PLAIN)
            try:
                request.feeds = self._signature.coerce(batch.calls[place])
            except Exception as error:  # it is raised by the task that sent the row
                request.end(error)
            batch.calls[place] = request

    def _serve(self, batch: TickBatch) -> None:
        """Run the calls of a batch here if that is quick enough; queue them otherwise."""
        turn = Turn()
        turn.batch = waiting = self._waiting(batch)
        if not waiting:
            return
        size = sum(each.size for each in waiting)
        start = clock()
        try:
            if size > self._planner.plan.loop_batch or not self._may_run(turn, size):
                self._queue(waiting)
                return
            self._scheduler.count(failed=turn.settle(self._workers.outcomes(turn, size)))
            self._scheduler.release(turn, size, clock() - start, len(waiting), "loop")
        except BaseException:
            self._scheduler.give_back(turn)
            raise

    def _waiting(self, batch: TickBatch) -> list[Request]:
        """The calls that are to be run; one whose deadline has passed gets its error."""
        now = clock()
        waiting = []
        for request in batch.calls[len(batch.answers) :]:
            if request.state is not FRESH:
                continue
            if request.due > now:
                waiting.append(request)
            else:
                request.end(too_late(request.due))
                self._scheduler.count(expired=1)
        return waiting

    def _queue(self, waiting: list[Request]) -> None:
        """Queue calls, but for those too large to be queued whole."""
        piece = self._planner.plan.piece
        queued = [each for each in waiting if each.size <= piece or row_count(each.feeds) == 1]
        for request in queued:
            request.waiter = self._loop.create_future()
        self._scheduler.enqueue(queued)

    # What tasks do.

    def collect(self, batch: TickBatch, place: int) -> Generator[Any, None, Outputs]:
        """The answer to a call, or its error raised."""
        if not batch.flushed and place >= len(batch.answers):
            # The rest of a large batch, a loop that keeps no order, or a flush that was interrupted.
            if not batch.waiters:
                self._loop.call_soon(self._flush_again)
            future = self._loop.create_future()
            batch.waiters.append((place, future))
            yield from future
        if place < len(batch.answers):
            return batch.answers[place]
        request = batch.calls[place]
        if not isinstance(request, Request):  # a flush was interrupted
            request = Request(self._signature.coerce(request), 1, batch.outputs, PLAIN)
        if request.state is DONE:
            if request.waiter is not None:
                self._forget(request)
            return request.result()
        if request.state is not FRESH:
            return (yield from self._wait(request))
        answers = []
        for piece in in_pieces(self._scheduler, request, self._prepared):
            piece.waiter = self._loop.create_future()
            self._scheduler.put(piece)
            answers.append((yield from self._wait(piece)))
        return join_rows(answers)

    def drop(self, batch: TickBatch, place: int) -> None:
        """Leave out the call of a task that was cancelled; a row is run anyway."""
        request = batch.calls[place]
        if not isinstance(request, Request) or not self._scheduler.drop(request):
            self._scheduler.count(abandoned=1)
        if isinstance(request, Request):
            self._forget(request)

    def _forget(self, request: Request) -> None:
        """Have asyncio log no error that is on its way, for nobody waits for it."""
        future: Any = request.waiter
        if future is not None:
            future.cancel()

    def _wait(self, request: Request) -> Generator[Any, None, Outputs]:
        """Wait until the request is answered. Raises its error, or DeadlineExceeded."""
        future: Any = request.waiter
        timer = None
        if request.due < inf:
            timer = self._loop.call_later(request.due - clock(), self._expire, request)
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
                "the deadline passed before the answer came", deadline=request.due
            )
            future.set_exception(error)
