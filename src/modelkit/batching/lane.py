"""The queue of one model: who waits, who runs the next batch, and how a failure stays with the call that caused it.

There is no thread at rest. A batch is run by a thread that asked for one of its rows; when it is
done it wakes the thread that has waited longest, which takes what has come in meanwhile. Calls that
no thread waits for, those of event loops and of `submit`, are run by a runner: a thread that is
started when it is needed and ends when it is idle. The main thread runs nobody's rows but its own,
for what is raised there may come from a signal handler; where others wait as well, a runner takes
them all.

Every field is guarded by `lock`. A slot is the right to run a batch; `active` of them are held, by
a thread that runs one, by a promoted thread that is waking up, or by a runner that is.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent import futures
from itertools import chain
from operator import attrgetter

from modelkit.batching.choice import choose
from modelkit.batching.interrupts import in_main_thread, is_interrupt
from modelkit.batching.isolation import Outcome, Run, attempt, rows_of
from modelkit.batching.planner import Planner
from modelkit.batching.policy import PARALLEL, Plan, opens, seconds_of, share
from modelkit.batching.queue import Queue
from modelkit.batching.requests import (
    DEAD,
    DONE,
    PROMOTED,
    RUNNING,
    WAITING,
    Request,
    Turn,
    deliver,
)
from modelkit.batching.stats import Tally
from modelkit.errors import BatchError, ClosedError, DeadlineExceeded, Overloaded
from modelkit.model import Outputs
from modelkit.signature import Feeds

IDLE = 0.05  # seconds after which a runner without work ends
# One batch in 64, those whose number ends in six ones, may be twice as large as is thought best:
# what larger ones take was perhaps learned in a bad moment, and only a run can tell.
EXPLORE = 63
clock = time.monotonic


class Lane:
    """Queues requests for `run` and gathers them as `plan` says.

    Args:
        run: runs a batch: (feeds, outputs) -> answers.
        plan: what batches are like; made anew as runs are timed.
        max_rows: the largest batch there may be.
        max_queue: the size that may wait.
        block: admit everything, for a call waits for its answer anyway; False to refuse what finds
            the queue full.
        declared: whether sizes are costs that the model declares.
        loop: whether an event loop may run by itself what it had better.
    """

    def __init__(  # noqa: PLR0913 - made in one place
        self,
        run: Run,
        plan: Plan,
        max_rows: int,
        max_queue: int,
        *,
        block: bool,
        declared: bool,
        loop: bool,
    ) -> None:
        self.run = run
        self._planner = Planner(plan, max_rows, declared=declared, loop=loop)
        self.plan = self._planner.plan
        self.parallel = plan.mode == PARALLEL  # threads run their calls at once; False when closed
        self.max_queue = max_queue
        self.block = block
        self.closed = False
        self.tally = Tally()
        self.reset()

    def reset(self) -> None:
        """Forget all work: at first, and in the child of a fork, where no other thread lives on."""
        self.lock = _thread.allocate_lock()
        self.queue = Queue(self.max_queue)
        self._running = 0  # the size of what is run
        self._usual = 1.0  # the mean of both together
        self._active = 0
        self._starting = 0  # slots of runners that are to be started
        self._parked: list[_thread.LockType] = []  # runners without work
        self._returning = 0  # runners that are about to look for work
        self._closers: list[_thread.LockType] = []  # threads in `close`

    # What callers do.

    def hold(self, turn: Turn, size: int) -> bool:
        """Take a slot to run so much in this thread, if nobody waits; `let_go` returns it."""
        with self.lock:
            if self.queue.waiting or self.closed or not self._opens(size):
                return False
            self._active += 1
            self._running += size
            turn.size, turn.holds = size, True
            return True

    def let_go(self, turn: Turn, seconds: float, calls: int, reason: str) -> None:
        """Return a slot that `hold` took, after so many calls were answered in so long; doing it twice does nothing."""
        with self.lock:
            if not turn.holds:
                return
            size = turn.size
            turn.size, turn.holds = 0, False
            self._active -= 1
            self._running -= size
            starts = self._dispatch() if self.queue.waiting or self._closers else 0
            self.count(size, seconds, calls, reason)
        if starts:
            self._start(starts)

    def count(self, size: int, seconds: float, calls: int, reason: str) -> None:
        """Count a batch that was run without Requests; under the lock."""
        tally = self.tally
        tally.calls += calls
        tally.batch(size, reason)
        tally.answered(seconds, calls)
        self.time(size, seconds)

    def call(self, request: Request, *, admitted: bool = False) -> Outputs:
        """Answer in the calling thread, which may run others' rows along with its own, or wait for a thread that does.

        `admitted` is for the later pieces of a large call, which find room in the queue however
        full it is.
        """
        turn = Turn()
        try:
            with self.lock:
                if (
                    request.deadline is not None and request.deadline <= clock()
                ):  # of a later piece of a large call
                    self.tally.expired += 1
                    raise DeadlineExceeded(
                        "the deadline passed before the rows were run", deadline=request.deadline
                    )
                self._admit(request, admitted=admitted)
                starts = 0
                if not self.queue.waiting and self._opens(request.size):
                    self._active += 1
                    turn.holds = True
                    self._seal(turn, request, "idle")
                else:
                    request.waiter = _locked()
                    request.leads = not in_main_thread()
                    self.queue.put(request)
                    starts = self._dispatch()
            self._start(starts)
            self._wait(request, turn)
        except BaseException:
            self.give_back(turn, request)
            raise
        return request.result()

    def enqueue(self, requests: Sequence[Request], *, admitted: bool = False) -> list[Request]:
        """Queue requests for runners.

        Returns those that were not admitted; the reason is their error.
        """
        refused = []
        try:
            with self.lock:
                for request in requests:
                    try:
                        self._admit(request, admitted=admitted)
                    except BatchError as error:
                        request.error, request.state = error, DONE
                        refused.append(request)
                    else:
                        self.queue.put(request)
                starts = self._dispatch()
            self._start(starts)
        except BaseException:
            self.give_back(Turn())
            raise
        return refused

    def submit(self, request: Request, *, admitted: bool = False) -> None:
        """Queue a request whose caller holds a Future.

        Raises Overloaded and ClosedError; blocks if it is to.
        """
        # A Future runs the callbacks that its caller added, so it shares no batch with threads that
        # could be held up.
        request.key = (*request.key, "submit")
        if self.block and not admitted:
            self._wait_for_room(request)
        try:
            with self.lock:
                self._admit(request, admitted=admitted)
                self.queue.put(request)
                starts = self._dispatch()
            self._start(starts)
        except BaseException:
            self.give_back(Turn())
            raise

    def abandon(self, request: Request) -> None:
        """The caller waits no more: what becomes of the request is nobody's."""
        with self.lock:
            self.tally.abandoned += self.queue.drop(request)

    def expire(self, request: Request) -> bool:
        """Give up a request whose deadline has passed; false where it was answered before."""
        with self.lock:
            dropped = self.queue.drop(request)
            self.tally.expired += dropped
            return dropped

    def _wait_for_room(self, request: Request) -> None:
        """Block until a request may be queued. Raises DeadlineExceeded."""
        while True:
            with self.lock:
                if self.closed or not self.queue.full(request.size, low=request.low):
                    return
                lock = _locked()
                self.queue.blocked[request.low].append(lock)
            if not lock.acquire(timeout=_left(request.deadline)):
                raise DeadlineExceeded(
                    "the queue stayed full until the deadline", deadline=request.deadline
                )

    def close(self) -> None:
        """Refuse new calls, and return when all that were admitted are answered."""
        with self.lock:
            self.closed, self.parallel = True, False
            for blocked in self.queue.blocked:
                while blocked:
                    blocked.popleft().release()
            if not self._active:
                return
            done = _locked()
            self._closers.append(done)
        done.acquire()

    # Decisions, under the lock.

    def _opens(self, size: int) -> bool:
        return opens(size, self._running, self._active, self._usual, self.plan)

    def _admit(self, request: Request, *, admitted: bool) -> None:
        if self.closed:
            raise ClosedError("the batcher was closed")
        if not admitted and not self.block and self.queue.full(request.size, low=request.low):
            self.tally.shed += 1
            raise self.overloaded(self.queue.waiting)
        self.tally.calls += not admitted
        request.arrived = clock()

    def overloaded(self, waiting: int) -> Overloaded:
        """The error for a call that finds so much waiting."""
        return Overloaded(
            f"{waiting} wait already, and at most {self.max_queue} may: try again later, raise "
            "max_queue, or wait with "
            f'on_full="block"',
            queued=waiting,
            max_queue=self.max_queue,
        )

    def _seal(self, turn: Turn, own: Request | None, reason: str) -> None:
        """Fill a turn with the next batch, which has `own` in it, and with those whose answer would come too late.

        The batch stays empty where `own` had better not be run.
        """
        now = clock()
        work = self.queue.waiting
        if own is not None:
            key = own.key
            work += own.size
        else:
            oldest = self.queue.oldest()
            if oldest is None:
                return
            key = oldest[0].key
        self._usual += (work + self._running - self._usual) / 8
        offers = self.queue.alike(key)
        if own is not None:
            offers = chain([own], offers if own.leads else ())
        room = share(work, self._running, self.plan)
        if self.tally.batches & EXPLORE == EXPLORE:
            room = min(2 * room, self._planner.max_rows)
        run, late = choose(offers, room, now, self.plan.curve, self._planner.caution)
        if own is not None and own not in run:
            return
        self.queue.take_all(key, run + late, RUNNING)
        turn.done += [request for request in late if self._give_up(request)]
        batch = [request for request in run if self._begin(request)]
        size = sum(request.size for request in batch)
        self._running += size  # a signal handler may raise at any call, and not between these two
        turn.batch = batch
        self.queue.admit_blocked()
        if batch:
            self.tally.batch(size, "cap" if size >= self.plan.cap else reason)

    def _begin(self, request: Request) -> bool:
        """Whether a request is to be run: not if its Future was cancelled."""
        future = request.waiter
        if isinstance(future, futures.Future) and not (
            future.running() or future.set_running_or_notify_cancel()
        ):
            request.state = DEAD
            self.tally.abandoned += 1
            return False
        request.state = RUNNING
        return True

    def _give_up(self, request: Request) -> bool:
        """Answer a request that cannot be ready in time; whether there is anybody to tell."""
        if not self._begin(request):
            return False
        request.state = DONE
        request.error = DeadlineExceeded(
            "the answer could not be ready by the deadline", deadline=request.deadline
        )
        self.tally.expired += 1
        return True

    def _dispatch(self) -> int:
        """Give free slots to those who have waited longest, while there is work; returns how many runners to start."""
        # A signal handler may raise at any call, so each slot is given in one step, and told of
        # last.
        starts = 0
        while self.queue.waiting > 0 and self._opens(self.queue.waiting):
            queue = self.queue.oldest()
            if queue is None:
                break
            heir = self._heir(queue)
            if isinstance(heir.waiter, _thread.LockType) and (
                heir.leads or heir.size == self.queue.waiting
            ):
                self.queue.take(heir, PROMOTED)
                self._active += 1
                self._running += heir.size
                heir.waiter.release()
                continue
            # A runner takes its part when it wakes, and sees then whether there is work for
            # another.
            if self._parked:
                self._active += 1
                self._parked.pop().release()
            elif not self._returning:
                self._active += 1
                self._starting += 1
                starts += 1
            break
        if not self._active:
            while self._closers:
                self._closers.pop().release()
        return starts

    def _heir(self, queue: deque[Request]) -> Request:
        """The oldest request of a queue that is surely ready in time; where none is, the one that is due last."""
        room = share(self.queue.waiting, self._running, self.plan)
        ready = clock()
        if self.plan.curve:
            ready += self._planner.caution * seconds_of(self.plan.curve, room)
        for request in queue:
            if request.state is WAITING and request.due > ready:
                return request
        return max(
            (request for request in queue if request.state is WAITING), key=attrgetter("due")
        )

    def _settle(self, request: Request, outcome: Outcome, now: float) -> bool:
        """Give a request its outcome; whether there is anybody to tell."""
        if request.state is DEAD:
            return False
        if isinstance(outcome, BaseException):
            request.error = outcome
            self.tally.failed += 1
        else:
            request.answer = outcome
        request.state = DONE
        self.tally.answered(now - request.arrived)
        return True

    def time(self, size: int, seconds: float) -> None:
        """A run took so long."""
        if self._planner.time(size, seconds):
            self._plan_anew()

    def observe(self, size: int, seconds: float) -> None:
        """As `time`, for one of many runs."""
        if self._planner.observe(size, seconds):
            self._plan_anew()

    def _plan_anew(self) -> None:
        self.plan = self._planner.plan
        self.parallel = self.plan.mode == PARALLEL and not self.closed

    # Running.

    def attempt(
        self, calls: list[Feeds], size: int, outputs: tuple[str, ...], *, mine: bool = False
    ) -> list[Outcome]:
        """Run calls of such a size as a batch; an outcome for each.

        What is too large for memory is remembered.
        """
        outcomes, too_large = attempt(
            self.run, calls, [rows_of(feeds) for feeds in calls], outputs, mine=mine
        )
        if too_large:
            with self.lock:
                self.tally.out_of_memory += 1
                self._planner.shrink(size)
                self._plan_anew()
        return outcomes

    def _start(self, runners: int) -> None:
        for _ in range(runners):
            try:
                # Not a daemon: the interpreter waits for it at exit, and so for all that was
                # admitted.
                threading.Thread(target=self._runner, name="modelkit-batcher").start()
            except RuntimeError:  # no thread can be started, or the interpreter is shutting down
                turn = Turn()
                try:
                    if self._begins(turn):
                        self._work(turn)
                except BaseException:
                    self.give_back(turn)
                    raise

    def _runner(self) -> None:
        """A thread that runs batches, and ends when there have been none for a while.

        It is started for a slot.
        """
        turn = Turn()
        turn.runner = True
        while turn.holds or self._begins(turn):
            try:
                self._work(turn)
            except (
                BaseException
            ):  # nothing is known to come here, but nobody must wait for this thread in vain
                with self.lock:
                    self._returning -= turn.returning
                self.give_back(turn)
                raise
            lock = _locked()
            with self.lock:
                self._returning -= turn.returning
                turn.returning, turn.holds = False, True
                if self.queue.waiting and self._opens(self.queue.waiting):
                    self._active += 1
                    continue
                self._parked.append(lock)
            if not lock.acquire(timeout=IDLE):
                with self.lock:
                    if lock in self._parked:
                        self._parked.remove(lock)
                        return

    def _begins(self, turn: Turn) -> bool:
        """Take one of the slots for which runners are started; false where there is none left."""
        with self.lock:
            if not self._starting:
                return False
            self._starting -= 1
            turn.holds = True
            return True

    def _work(self, turn: Turn) -> None:
        """Run batches until there are none, with a slot that was given to this thread."""
        with self.lock:
            self._seal(turn, None, "slot")
            starts = self._dispatch()
        self._start(starts)
        self._lead(turn, None)

    def _lead(self, turn: Turn, own: Request | None) -> None:
        """Run the batch of a turn, then give the slot to others; a runner goes on itself."""
        while turn.holds:
            start = clock()
            outcomes = self._outcomes(turn, own)
            now = clock()
            with self.lock:
                for request, outcome in zip(turn.batch, outcomes, strict=True):
                    if self._settle(request, outcome, now):
                        turn.done.append(request)
                size = sum(request.size for request in turn.batch)
                if turn.batch and not any(
                    isinstance(outcome, BaseException) for outcome in outcomes
                ):
                    self._planner.compare(size, now - start)
                    self.time(size, now - start)
                done = turn.done
                following = Turn()
                turn.batch = []
                turn.holds = False
                self._running -= size
                self._active -= 1
                # A runner goes on itself, or will look for work soon; but not one with Futures,
                # whose callbacks may take long.
                if own is None and not any(
                    isinstance(request.waiter, futures.Future) for request in done
                ):
                    if self.queue.waiting and self._opens(self.queue.waiting):
                        self._active += 1
                        turn.holds = True
                        self._seal(following, None, "slot")
                    elif turn.runner:
                        turn.returning = True
                        self._returning += 1
                starts = self._dispatch()
            deliver(request for request in done if request is not own)
            turn.batch, turn.done = following.batch, following.done
            self._start(starts)

    def _outcomes(self, turn: Turn, own: Request | None) -> list[Outcome]:
        if not turn.batch:
            return []
        try:
            size = sum(request.size for request in turn.batch)
            calls = [request.feeds for request in turn.batch]
            return self.attempt(calls, size, turn.batch[0].outputs, mine=turn.batch == [own])
        except BaseException as error:
            if own is not None or is_interrupt(
                error
            ):  # meant for this thread: others' rows are run again by others
                raise
            return [BatchError(f"the batch could not be run: {error!r}") for _ in turn.batch]

    def give_back(self, turn: Turn, own: Request | None = None) -> None:
        """The calling thread fails: queue again, in front, what it was running for others, and return its slot."""
        with self.lock:
            if own is not None and own.state is PROMOTED:
                self._running -= own.size
                self._active -= 1
            for request in reversed(turn.batch):
                self._running -= request.size
                if request is not own and request.state is RUNNING:
                    self.queue.put(request, in_front=True)
            self._running -= turn.size
            self._active -= turn.holds
            turn.holds, turn.batch, turn.size = False, [], 0
            if own is not None and own.arrived:
                self.tally.abandoned += self.queue.drop(own)
            starts = self._dispatch()
            if in_main_thread():
                starts = (
                    self._starting
                )  # those as well that it was about to start when a signal handler raised
        deliver(request for request in turn.done if request is not own)
        self._start(starts)

    def _wait(self, request: Request, turn: Turn) -> None:
        """Until the request is done, leading when it holds a slot or is given one.

        Raises DeadlineExceeded.
        """
        while True:
            if turn.holds and not turn.batch:
                self._raise_late(request)
            self._lead(turn, request)
            if request.state is DONE:
                return
            waiter = request.waiter
            if not waiter.acquire(timeout=_left(request.deadline)):  # type: ignore[union-attr]
                with self.lock:
                    if request.state in (DONE, PROMOTED):  # at the last moment
                        continue
                self._raise_late(request)
            with self.lock:
                if request.state is not PROMOTED:
                    continue
                self._running -= request.size  # it was counted when it was woken
                request.state = RUNNING
                turn.holds = True
                self._seal(turn, request, "slot")
                starts = self._dispatch()
            self._start(starts)

    def _raise_late(self, request: Request) -> None:
        with self.lock:
            self.tally.expired += 1
            self.tally.abandoned -= 1  # as which it is counted when the error passes `call`
        raise DeadlineExceeded(
            "the answer could not be ready by the deadline", deadline=request.deadline
        )


def _locked() -> _thread.LockType:
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


def _left(deadline: float | None) -> float:
    return -1 if deadline is None else min(threading.TIMEOUT_MAX, max(0.0, deadline - clock()))
