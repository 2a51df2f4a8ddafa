"""The queue of one model, under one lock: what waits, who runs, and what was learned and counted.

There is no thread at rest. A batch is run by a thread that asked for one of its rows; when it is
done it wakes the thread that has waited longest, which takes what has come in meanwhile. Calls that
no thread waits for, those of event loops and of `submit`, are run by a runner: a thread that is
started when it is needed and ends when it is idle. The main thread runs nobody's rows but its own,
for what is raised there may come from a signal handler; where others wait as well, a runner takes
them all. The threads are those of `workers`; each method here is one step, which others see whole.

Only Lane takes the lock. `planner.plan`, `parallel`, `closed` and `queue.waiting` are read without
it: they are as good as the moment before.

A handler of a signal, or a finalizer, may call in a thread that it interrupted: in one of these steps,
with a slot, or while it waits. The lock lets that thread in again, to read the counts; `within` says
that it may do no more, and that it would wait for itself.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, Sequence
from inspect import currentframe
from itertools import count
from typing import Any

from modelkit.errors import BatchError, ClosedError
from modelkit.serving.batching.dispatcher import Dispatcher, size_of
from modelkit.serving.batching.interrupts import in_main_thread
from modelkit.serving.batching.isolation import Outcome
from modelkit.serving.batching.planner import Planner
from modelkit.serving.batching.policy import PARALLEL
from modelkit.serving.batching.queue import Queue, overloaded
from modelkit.serving.batching.requests import (
    DONE,
    PROMOTED,
    RUNNING,
    Request,
    Turn,
    clock,
    deliver,
    locked,
    too_late,
)
from modelkit.serving.batching.slots import Slots
from modelkit.serving.batching.stats import RunningStats, Stats

# Where a thread has a slot, waits for one, or takes the lock.
WITHIN = frozenset(
    f"modelkit.serving.batching.{name}" for name in ("batcher", "lane", "ticks", "workers")
)


class Lane:
    """Queues requests and gives slots to those who run them, as the plan says.

    Args:
        planner: holds the plan, and makes it anew as runs are timed.
        max_queue: the size that may wait.
        start: starts this many runners, and a watch where it is needed; called without the lock.
    """

    def __init__(self, planner: Planner, max_queue: int, start: Callable[[int], None]) -> None:
        self.planner = planner
        self.max_queue = max_queue
        self.start = start
        self.closed = False
        self.parallel = planner.plan.mode == PARALLEL  # threads run their calls at once
        self.tally = RunningStats(planner.max_rows)
        self.direct = count(1)  # calls that ran at once; a thread takes the next number unlocked
        self.reset()

    def reset(self) -> None:
        """Forget all work: at first, and in the child of a fork, where no other thread lives on."""
        self.watched = False  # whether a thread looks again
        self._lock = _thread.RLock()
        self.queue = Queue(self.max_queue)
        self.slots = Slots()
        self._dispatcher = Dispatcher(self.queue, self.slots, self.planner, self.tally)

    @property
    def interrupted(self) -> bool:
        """Whether the calling thread is in the middle of a step."""
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # as in Condition
        return owned

    def within(self) -> bool:
        """Whether the call that asks was made in the middle of another one, in its thread."""
        frame: Any = currentframe()
        frame = frame.f_back.f_back  # what made the call
        while frame is not None:
            if frame.f_globals.get("__name__") in WITHIN:
                owner = frame.f_locals.get("self")
                if self in (owner, getattr(owner, "lane", None), getattr(owner, "_lane", None)):
                    return True
            frame = frame.f_back
        return False

    # A call that runs at once.

    def hold(self, turn: Turn, size: int) -> bool:
        """Try to take a slot for `size` rows on this thread.

        False if calls are waiting. Release the slot with `let_go`.
        """
        with self._lock:
            if self.queue.waiting or self.closed or not self.slots.opens(size, self.planner.plan):
                return False
            self.slots.take(size)
            self.slots.runs[_thread.get_ident()] = size, clock()
            turn.size = size
            turn.holds = True
            return True

    def let_go(self, turn: Turn, seconds: float, calls: int, reason: str) -> None:
        """Release a slot that `hold` took, after `calls` were answered. Twice is fine."""
        with self._lock:
            if not turn.holds:
                return
            size = turn.size
            self.slots.give(size)
            self.slots.runs.pop(_thread.get_ident(), None)
            turn.size = 0
            turn.holds = False
            dispatcher = self._dispatcher
            starts = dispatcher.dispatch() if self.queue.waiting or dispatcher.closers else 0
            self._count(size, seconds, calls, reason)
        if starts or self.queue.waiting:
            self.start(starts)

    def count(self, size: int, seconds: float, calls: int, reason: str) -> None:
        """Count a batch that was run without a slot."""
        with self._lock:
            self._count(size, seconds, calls, reason)

    def _count(self, size: int, seconds: float, calls: int, reason: str) -> None:
        tally = self.tally
        tally.calls += calls
        tally.batch(size, reason)
        tally.answered(seconds, calls)
        self._time(size, seconds)

    def sample(self, size: int, seconds: float, *, learn: bool) -> None:
        """Note one of many calls that ran at once, and `learn` what a run of its size takes."""
        # Threads that queue for it would cost what they came to save.
        if self.interrupted or not self._lock.acquire(blocking=False):
            return
        try:
            self.tally.answered(seconds)
            if learn and self.planner.observe(size, seconds):
                self._follow_plan()
        finally:
            self._lock.release()

    # Calls that wait.

    def enter(self, request: Request, turn: Turn, *, admitted: bool) -> int:
        """Admit a request of this thread: to its turn if a slot is free, to the queue if not.

        `admitted` is for the later pieces of a large call, which find room in the queue however
        full it is. Returns how many runners to start. Raises DeadlineExceeded, ClosedError and
        Overloaded.
        """
        with self._lock:
            if request.due <= clock():  # a later piece of a large call
                self.tally.expired += 1
                raise too_late(request.deadline)
            self._admit(request, admitted=admitted)
            if not self.queue.waiting and self.slots.opens(request.size, self.planner.plan):
                self.slots.take()
                turn.holds = True
                self._dispatcher.seal(turn, request, "idle")
                return 0
            request.waiter = locked()
            request.leads = not in_main_thread()
            self.queue.put(request)
            return self._dispatcher.dispatch()

    def enqueue(self, requests: Sequence[Request], *, admitted: bool = False) -> list[Request]:
        """Queue requests for runners.

        Returns those that were not admitted; the reason is their error.
        """
        refused = []
        try:
            with self._lock:
                for request in requests:
                    try:
                        self._admit(request, admitted=admitted)
                    except BatchError as error:
                        request.error = error
                        request.state = DONE
                        refused.append(request)
                    else:
                        self.queue.put(request)
                starts = self._dispatcher.dispatch()
            self.start(starts)
        except BaseException:
            self.give_back(Turn())
            raise
        return refused

    def put(self, request: Request, *, admitted: bool = False) -> None:
        """Queue one request for runners. Raises Overloaded and ClosedError."""
        refused = self.enqueue([request], admitted=admitted)
        if refused:
            raise refused[0].error or AssertionError("refused without a reason")

    def submit(self, request: Request, *, admitted: bool = False) -> None:
        """Queue a request whose caller holds a Future.

        Raises Overloaded and ClosedError.
        """
        # A Future runs the callbacks that its caller added, so it shares no batch with threads that
        # could be held up.
        request.key = (*request.key, "submit")
        self.put(request, admitted=admitted)

    def _admit(self, request: Request, *, admitted: bool) -> None:
        if self.closed:
            raise ClosedError("the batcher was closed; make another one to go on")
        if not admitted and self.queue.full(request.size, low=request.low):
            self.tally.shed += 1
            raise overloaded(self.queue.waiting, self.max_queue)
        self.tally.calls += not admitted
        request.arrived = clock()

    def abandon(self, request: Request) -> None:
        """Leave out a request whose caller waits no longer."""
        with self._lock:
            self.tally.abandoned += self.queue.drop(request)

    def expire(self, request: Request) -> bool:
        """Give up a request whose deadline has passed. False if it was answered before."""
        with self._lock:
            dropped = self.queue.drop(request)
            self.tally.expired += dropped
            return dropped

    def look_again(self) -> int:
        """Run what waits for a run that is overdue. Returns how many runners to start."""
        with self._lock:
            return self._dispatcher.dispatch()

    # The steps of those who run.

    def take_over(self, request: Request, turn: Turn) -> int:
        """Begin to run the request of a thread that was promoted, with others.

        Nothing happens if it was not. Returns how many runners to start.
        """
        with self._lock:
            if request.state is not PROMOTED:
                return 0
            self.slots.running -= request.size  # it was counted when its thread was woken
            request.state = RUNNING
            turn.holds = True
            self._dispatcher.seal(turn, request, "slot")
            return self._dispatcher.dispatch()

    def is_served(self, request: Request) -> bool:
        """Whether a request was answered or promoted, perhaps at the last moment."""
        with self._lock:
            return request.state in (DONE, PROMOTED)

    def begin(self, turn: Turn) -> int:
        """Fill the turn of a runner with its first batch. Returns how many others to start."""
        with self._lock:
            self._dispatcher.seal(turn, None, "slot")
            return self._dispatcher.dispatch()

    def finish(
        self, turn: Turn, own: Request | None, outcomes: list[Outcome], started: float
    ) -> tuple[Turn, int]:
        """Settle a batch and give its slot to others; a runner may go on itself.

        Returns what the runner does next, and how many runners to start.
        """
        now = clock()
        with self._lock:
            self._dispatcher.settle(turn, outcomes, now)
            size = size_of(turn.batch)
            if turn.batch and not any(isinstance(each, BaseException) for each in outcomes):
                self.planner.compare(size, now - started)
                self._time(size, now - started)
            self.slots.give(size)
            self.slots.runs.pop(_thread.get_ident(), None)
            turn.batch = []
            turn.holds = False
            # A thread with a request of its own goes its way, and so does one with Futures, whose
            # callbacks may take long. These are never in one batch with others.
            free = own is None and not (turn.done and turn.done[0].has_future)
            following = self._dispatcher.follow(turn) if free else Turn()
            return following, self._dispatcher.dispatch()

    def give_back(self, turn: Turn, own: Request | None = None) -> None:
        """The calling thread fails: put back what it ran for others, and release its slot."""
        with self._lock:
            slots = self.slots
            if own is not None and own.state is PROMOTED:
                slots.give(own.size)
            for request in reversed(turn.batch):
                slots.running -= request.size
                if request is not own and request.state is RUNNING:
                    self.queue.put(request, in_front=True)
            slots.running -= turn.size
            slots.active -= turn.holds
            slots.runs.pop(_thread.get_ident(), None)
            turn.holds = False
            turn.batch = []
            turn.size = 0
            if own is not None and own.arrived:
                self.tally.abandoned += self.queue.drop(own)
            starts = self._dispatcher.dispatch()
            if in_main_thread():
                # Those as well that it was about to start when a signal handler raised.
                starts = slots.starting
        deliver(request for request in turn.done if request is not own)
        self.start(starts)

    def claim(self, turn: Turn) -> bool:
        """Take one of the slots for which runners are started. False if there is none left."""
        with self._lock:
            if not self.slots.starting:
                return False
            self.slots.starting -= 1
            turn.holds = True
            return True

    def park(self, turn: Turn, lock: _thread.LockType) -> bool:
        """Let a runner sleep until `lock` is released. False if there is work for it."""
        with self._lock:
            self.slots.returning -= turn.returning
            turn.returning = False
            turn.holds = True  # from when it is woken
            if self._dispatcher.opens():
                self.slots.take()
                return False
            self._dispatcher.parked.append(lock)
            return True

    def retire(self, lock: _thread.LockType) -> bool:
        """Let a runner end that slept long enough. False if it was woken at the last moment."""
        with self._lock:
            parked = self._dispatcher.parked
            if lock not in parked:
                return False
            parked.remove(lock)
            return True

    def stop(self, turn: Turn) -> None:
        """A runner failed and ends."""
        with self._lock:
            self.slots.returning -= turn.returning
        self.give_back(turn)

    def close(self, timeout: float | None) -> list[tuple[int, float]] | None:
        """Refuse new calls, and return when all that were admitted are answered.

        Where that takes longer than `timeout`, refuse what waits too, and return the runs under
        way: the size of each, and the seconds since it began.
        """
        with self._lock:
            self.closed = True
            self.parallel = False
            if not self.slots.active:
                return None
            done = locked()
            self._dispatcher.closers.append(done)
        if done.acquire(timeout=-1 if timeout is None else timeout):
            return None
        with self._lock:
            refused = self._dispatcher.refuse_all()
            now = clock()
            runs = [(size, now - began) for size, began in self.slots.runs.values()]
        deliver(refused)
        return runs

    # What is learned and counted.

    def shrink(self, size: int) -> None:
        """Make smaller batches from now on: one of `size` was too large for memory."""
        with self._lock:
            self.tally.out_of_memory += 1
            self.planner.shrink(size)
            self._follow_plan()

    def use_slots(self, slots: int) -> None:
        """Run so many batches at a time from now on."""
        with self._lock:
            self.planner.use_slots(slots)
            self._follow_plan()

    def failed(self) -> None:
        """Count a call that got the model's error."""
        with self._lock:
            self.tally.failed += 1

    def abandoned(self) -> None:
        """Count a call whose caller stopped waiting."""
        with self._lock:
            self.tally.abandoned += 1

    def expired(self, *, counted: bool = False) -> None:
        """Count a call that came too late; `counted` if it will count as abandoned as well."""
        with self._lock:
            self.tally.expired += 1
            self.tally.abandoned -= counted

    def shed(self, calls: int) -> None:
        """Count calls that were refused elsewhere because too much waits."""
        with self._lock:
            self.tally.shed += calls

    def stats(self, refused: int) -> Stats:
        """The counts as a value; `refused` calls are counted elsewhere."""
        with self._lock:
            following = repr(self.direct)  # "count(7)", read without taking the number
            direct = int(following.removeprefix("count(").removesuffix(")")) - 1
            return self.tally.stats(direct, refused, self.queue)

    def _time(self, size: int, seconds: float) -> None:
        if self.planner.time(size, seconds):
            self._follow_plan()

    def _follow_plan(self) -> None:
        self.parallel = self.planner.plan.mode == PARALLEL and not self.closed
