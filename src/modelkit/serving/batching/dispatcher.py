"""Who runs what next, in one lane. No lock and no thread: the lane calls it under its own lock.

A signal handler may raise in the main thread whenever a function is entered, so what belongs
together is changed without a call in between.
"""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Iterable
from concurrent import futures
from itertools import chain
from operator import attrgetter

from modelkit.errors import BatchError, ClosedError, DeadlineExceeded
from modelkit.serving.batching.choice import choose_batch
from modelkit.serving.batching.isolation import Outcome
from modelkit.serving.batching.planner import Planner
from modelkit.serving.batching.policy import seconds_of, share
from modelkit.serving.batching.queue import Queue
from modelkit.serving.batching.requests import (
    DEAD,
    DONE,
    IN_QUEUE,
    PROMOTED,
    RUNNING,
    Request,
    Turn,
    clock,
)
from modelkit.serving.batching.slots import Slots
from modelkit.serving.batching.stats import RunningStats

# One batch in 64, those whose number ends in six ones, may be twice as large as is thought best:
# what larger ones take was perhaps learned in a bad moment, and only a run can tell.
EXPLORE = 63
# How many times as long as the longest run, and at least how many seconds, a batch waits for the end
# of another one that it should be as large as.
OVERDUE_RUNS = 4.0
OVERDUE_SECONDS = 1.0


class Dispatcher:
    """Puts batches together, gives them to threads, and settles requests.

    Args:
        queue: the requests that wait.
        slots: who runs.
        planner: holds the plan.
        tally: counts what happens.
    """

    def __init__(self, queue: Queue, slots: Slots, planner: Planner, tally: RunningStats) -> None:
        self._queue = queue
        self._slots = slots
        self._planner = planner
        self._tally = tally
        self._look_at = 0.0  # when to look again whether a run is overdue
        self.parked: list[_thread.LockType] = []  # runners that sleep
        self.closers: list[_thread.LockType] = []  # threads in `close`

    def opens(self) -> bool:
        """Whether something waits, and a batch of it should be run now."""
        waiting = self._queue.waiting
        if waiting <= 0:
            return False
        if self._slots.opens(waiting, self._planner.plan):
            return True
        if self._slots.active >= self._planner.plan.slots or not self._is_overdue():
            return False
        self._slots.wait_no_longer()
        return True

    def _is_overdue(self) -> bool:
        """Whether what is run should have ended long ago, as on a device that hangs."""
        now = clock()
        if now < self._look_at:
            return False
        self._look_at = now + OVERDUE_SECONDS / 8
        requests = self._queue.oldest()
        if requests is None:
            return False
        plan = self._planner.plan
        usual = seconds_of(plan.curve, plan.cap) if plan.curve else 0.0
        return now - requests[0].arrived > max(OVERDUE_SECONDS, OVERDUE_RUNS * usual)

    def dispatch(self) -> int:
        """Give free slots to those who have waited longest. Returns how many runners to start."""
        starts = 0
        while self.opens():
            requests = self._queue.oldest()
            if requests is None:
                break
            heir = self._heir(requests)
            if self._leads(heir):
                self._promote(heir)
            else:
                starts += self._call_runner()
                break
        if not self._slots.active:
            while self.closers:
                self.closers.pop().release()
        return starts

    def _heir(self, requests: deque[Request]) -> Request:
        """The oldest request that is surely ready in time; if there is none, the last due."""
        plan = self._planner.plan
        ready = clock()
        if plan.curve:
            room = share(self._queue.waiting, self._slots.running, plan)
            ready += self._planner.caution * seconds_of(plan.curve, room)
        for request in requests:
            if request.state is IN_QUEUE and request.due > ready:
                return request
        waiting = [request for request in requests if request.state is IN_QUEUE]
        return max(waiting, key=attrgetter("due"))

    def _leads(self, request: Request) -> bool:
        """Whether the thread that asked may run it: the main thread does for itself alone."""
        if not isinstance(request.waiter, _thread.LockType):
            return False
        return request.leads or request.size == self._queue.waiting

    def _promote(self, heir: Request) -> None:
        """Wake the thread that waits for a request, with a slot to run it and others."""
        slots = self._slots
        self._queue.take(heir, PROMOTED)
        slots.active += 1  # here, without a call in between
        slots.running += heir.size
        heir.waiter.release()  # type: ignore[union-attr]

    def _call_runner(self) -> int:
        """Give a slot to a runner. Returns 1 if that runner is to be started.

        It takes its part when it wakes, and sees then whether there is work for another one.
        """
        slots = self._slots
        if self.parked:
            slots.take()
            self.parked.pop().release()
            return 0
        if slots.returning:
            return 0
        slots.active += 1
        slots.starting += 1
        return 1

    def seal(self, turn: Turn, own: Request | None, reason: str) -> None:
        """Fill a turn with the next batch, which has `own` in it, and with the requests to give up.

        The batch stays empty where `own` had better not be run.
        """
        now = clock()
        queue = self._queue
        key = self._next_key(own)
        if key is None:
            return
        work = queue.waiting
        if own is not None:
            work += own.size
        self._slots.note(work)
        offers: Iterable[Request] = queue.alike(key)
        if own is not None:
            offers = chain([own], offers if own.leads else ())
        planner = self._planner
        room = self._room(work)
        run, late = choose_batch(offers, room, now, planner.plan.curve, planner.caution)
        if own is not None and own not in run:
            return
        queue.take_all(key, run + late, RUNNING)
        turn.done += [request for request in late if self._expire(request)]
        batch = [request for request in run if self._begin(request)]
        size = size_of(batch)
        self._slots.running += size  # and the batch at once, without a call in between
        turn.batch = batch
        if batch:
            self._slots.runs[_thread.get_ident()] = size, now
            self._tally.batch(size, "cap" if size >= planner.plan.cap else reason)

    def _next_key(self, own: Request | None) -> tuple[object, ...] | None:
        """What the requests of the next batch have in common; None if nothing waits."""
        if own is not None:
            return own.key
        oldest = self._queue.oldest()
        return None if oldest is None else oldest[0].key

    def _room(self, work: int) -> int:
        """How large the next batch may be."""
        room = share(work, self._slots.running, self._planner.plan)
        if self._tally.batches & EXPLORE == EXPLORE:
            return min(2 * room, self._planner.max_rows)
        return room

    def _begin(self, request: Request) -> bool:
        """Whether a request is to be run: not if its Future was cancelled."""
        future = request.waiter
        if isinstance(future, futures.Future) and not (
            future.running() or future.set_running_or_notify_cancel()
        ):
            request.state = DEAD
            self._tally.abandoned += 1
            return False
        request.state = RUNNING
        return True

    def _expire(self, request: Request) -> bool:
        """Answer a request that cannot be ready in time. False if there is nobody to tell."""
        error = DeadlineExceeded(
            "the answer could not be ready by the deadline", deadline=request.deadline
        )
        given_up = self._give_up(request, error)
        self._tally.expired += given_up
        return given_up

    def _give_up(self, request: Request, error: BatchError) -> bool:
        if not self._begin(request):
            return False
        request.state = DONE
        request.error = error
        return True

    def refuse_all(self) -> list[Request]:
        """Answer what waits with ClosedError. Returns the requests with somebody to tell."""
        waiting = []
        while (requests := self._queue.oldest()) is not None:
            waiting.append(requests.popleft())
            self._queue.take(waiting[-1], RUNNING)
        error = ClosedError("the batcher was closed while this call waited behind a run that hangs")
        return [request for request in waiting if self._give_up(request, error)]

    def settle(self, turn: Turn, outcomes: list[Outcome], now: float) -> None:
        """Give the requests of a batch their outcomes; those with somebody to tell are `done`."""
        for request, outcome in zip(turn.batch, outcomes, strict=True):
            if request.state is DEAD:
                continue
            if isinstance(outcome, BaseException):
                request.error = outcome
                self._tally.failed += 1
            else:
                request.answer = outcome
            request.state = DONE
            self._tally.answered(now - request.arrived)
            turn.done.append(request)

    def follow(self, turn: Turn) -> Turn:
        """Let a runner go on with its next batch, or look for work soon.

        Returns what it does next. The turn holds a slot again if that is a batch.
        """
        following = Turn()
        slots = self._slots
        if self.opens():
            slots.active += 1
            turn.holds = True
            self.seal(following, None, "slot")
        elif turn.runner:
            turn.returning = True
            slots.returning += 1
        return following


def size_of(batch: Iterable[Request]) -> int:
    """The size of all requests of a batch."""
    return sum(request.size for request in batch)
