"""The queue of one model: who waits, who runs the next batch, and how a failure stays with the call that caused it.

There is no thread at rest. A batch is run by a thread that asked for one of its rows; when it is done it wakes the
thread that has waited longest, which takes what has come in meanwhile. Calls that no thread waits for, those of event
loops and of `submit`, are run by a runner: a thread that is started when it is needed and ends when it is idle.

Every field is guarded by `lock`. A slot is the right to run a batch; `active` of them are held, by a thread that runs
one, by a promoted thread that is waking up, or by a runner that is.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent import futures

from modelkit.batching.isolation import Outcome, Run, attempt, rows_of
from modelkit.batching.policy import PARALLEL, Plan, learn, make_plan, opens, share
from modelkit.batching.requests import DEAD, DONE, LEADING, PROMOTED, RUNNING, WAITING, Key, Request, deliver
from modelkit.batching.stats import Tally
from modelkit.errors import BatchError, ClosedError, DeadlineExceeded, Overloaded
from modelkit.model import Outputs
from modelkit.signature import Feeds

IDLE = 0.05  # seconds after which a runner without work ends
OBSERVE = 7  # one run in eight is learned from, those whose number ends in three zero bits
LEARN = 32  # of those, so many of one size until the plan is made anew from the fastest
clock = time.monotonic


class Lane:
    """Queues requests for `run` and gathers them as `plan` says.

    Args:
        run: runs a batch: (feeds, outputs) -> answers.
        plan: what batches are like; made anew as runs are timed.
        max_rows: the largest batch there may be.
        max_queue: the size that may wait.
        block: admit everything, for a call waits for its answer anyway; False to refuse what finds the queue full.
    """

    def __init__(self, run: Run, plan: Plan, max_rows: int, max_queue: int, *, block: bool) -> None:
        self.run = run
        self.plan = plan
        self.parallel = plan.mode == PARALLEL  # threads run their calls at once; False when closed
        self.max_rows = max_rows
        self.max_queue = max_queue
        self.block = block
        self.closed = False
        self._curve = plan.curve
        self._timed = 0
        self._seen: dict[int, tuple[float, int, int]] = {}  # by bits of size: the fastest run, its size, how many
        self.tally = Tally()
        self.reset()

    def reset(self) -> None:
        """Forget all work: at first, and in the child of a fork, where no other thread lives on."""
        self.lock = _thread.allocate_lock()
        self._queues: tuple[dict[Key, deque[Request]], dict[Key, deque[Request]]] = ({}, {})  # by priority
        self.waiting = 0  # the size of what is queued
        self._running = 0  # the size of what is run
        self._active = 0
        self._parked: list[_thread.LockType] = []  # runners without work
        self._room: deque[_thread.LockType] = deque()  # threads in `submit` that wait for it
        self._closers: list[_thread.LockType] = []  # threads in `close`

    # What callers do.

    def hold(self, size: int) -> bool:
        """Take a slot to run so much in this thread, if nobody waits; `let_go` returns it."""
        with self.lock:
            if self.waiting or self._active >= self.plan.slots or self.closed:
                return False
            if self._active and not opens(size, self._running, self._active, self.plan):
                return False
            self._active += 1
            self._running += size
            return True

    def let_go(self, size: int, seconds: float, calls: int = 1, reason: str = "idle") -> None:
        """Return a slot that `hold` took, after calls of so much were answered in so long."""
        with self.lock:
            tally = self.tally
            tally.calls += calls
            tally.batch(size, reason)
            tally.answered(seconds, calls)
            self._running -= size
            self._active -= 1
            starts = self._dispatch() if self.waiting or self._closers else 0
            self._timed += 1
            if self._timed & OBSERVE == 0:
                self.observe(size, seconds)
        if starts:
            self._start(starts)

    def call(self, request: Request, *, admitted: bool = False) -> Outputs:
        """Answer in the calling thread, which may run others' rows along with its own, or wait for a thread that does.

        `admitted` is for the later pieces of a large call, which are not refused.
        """
        try:
            with self.lock:
                self._admit(request, admitted=admitted)
                if opens(self.waiting + request.size, self._running, self._active, self.plan):
                    request.state = LEADING
                    self._active += 1
                    batch, expired = self._seal(request, "idle")
                else:
                    request.waiter = _locked()
                    self._enqueue(request)
            if request.state is LEADING:
                self._lead(batch, expired, request)
            self._wait(request)
        except BaseException:
            self.abandon(request)
            raise
        return request.result()

    def enqueue(self, requests: Sequence[Request], *, admitted: bool = False) -> None:
        """Queue requests for runners. What is not admitted is answered with the reason."""
        refused = []
        with self.lock:
            for request in requests:
                try:
                    self._admit(request, admitted=admitted)
                except BatchError as error:
                    request.error, request.state = error, DONE
                    refused.append(request)
                else:
                    self._enqueue(request)
            starts = self._dispatch()
        self._start(starts)
        deliver(refused)

    def submit(self, request: Request, *, admitted: bool = False) -> None:
        """Queue a request whose caller holds a Future. Raises Overloaded and ClosedError; blocks if it is to."""
        if self.block and not admitted:
            self._wait_for_room(request.size, request.deadline)
        with self.lock:
            self._admit(request, admitted=admitted)
            self._enqueue(request)
            starts = self._dispatch()
        self._start(starts)

    def expire(self, request: Request) -> bool:
        """Give up a request whose deadline has passed; false where it was answered before."""
        with self.lock:
            dropped = self._drop(request)
            self.tally.expired += dropped
            return dropped

    def _wait_for_room(self, size: int, deadline: float | None) -> None:
        """Block until so much may be queued. Raises DeadlineExceeded."""
        while True:
            with self.lock:
                if self.closed or not self._full(size):
                    return
                lock = _locked()
                self._room.append(lock)
            if not lock.acquire(timeout=_left(deadline)):
                raise DeadlineExceeded("the queue stayed full until the deadline", deadline=deadline)

    def abandon(self, request: Request) -> None:
        """The caller waits no more: what becomes of the request is nobody's, and its thread leads no more."""
        with self.lock:
            leads = request.state in (PROMOTED, LEADING)  # and has not led, or a turn would have settled it
            self.tally.abandoned += self._drop(request)
            starts = 0
            if leads:
                self._active -= 1
                self._running -= request.size
                starts = self._dispatch()
        self._start(starts)

    def close(self) -> None:
        """Refuse new calls, and return when all that were admitted are answered."""
        with self.lock:
            self.closed, self.parallel = True, False
            while self._room:
                self._room.popleft().release()
            if not self._active:
                return
            done = _locked()
            self._closers.append(done)
        done.acquire()

    # Decisions, under the lock.

    def _full(self, size: int) -> bool:
        return self.waiting > 0 and self.waiting + size > self.max_queue

    def _admit(self, request: Request, *, admitted: bool = False) -> None:
        if not admitted:
            if self.closed:
                raise ClosedError("the batcher was closed")
            self._check_room(request.size)
        self.tally.calls += not admitted
        request.arrived = clock()

    def _check_room(self, size: int) -> None:
        """Raise Overloaded where so much may not be queued."""
        if not self.block and self._full(size):
            self.tally.shed += 1
            raise Overloaded(
                f"{self.waiting} rows wait, and at most {self.max_queue} may: try again later, raise max_queue, or "
                f'wait with on_full="block"',
                queued=self.waiting,
                max_queue=self.max_queue,
            )

    def _enqueue(self, request: Request, *, in_front: bool = False) -> None:
        queue = self._queues[request.low].setdefault(request.key, deque())
        if in_front:
            queue.appendleft(request)
        else:
            queue.append(request)
        self.waiting += request.size
        self.tally.deepest = max(self.tally.deepest, self.waiting)

    def _take(self, queue: deque[Request]) -> Request:
        request = queue.popleft()
        self.waiting -= request.size
        return request

    def _drop(self, request: Request) -> bool:
        """Mark a request that nobody waits for; false where it was answered, dropped or refused before."""
        if request.state in (DONE, DEAD) or not request.arrived:
            return False
        if request.state is WAITING:
            self.waiting -= request.size
        request.state = DEAD
        return True

    def _oldest(self, low: bool) -> deque[Request] | None:  # noqa: FBT001 - an index
        """The queue whose first request is the oldest of a priority; the dead are dropped on the way."""
        queues = self._queues[low]
        for key in [*queues]:
            queue = queues[key]
            while queue and queue[0].state is DEAD:
                queue.popleft()
            if not queue:
                del queues[key]
        return min(queues.values(), key=lambda queue: queue[0].arrived, default=None)

    def _seal(self, own: Request | None, reason: str) -> tuple[list[Request], list[Request]]:
        """The next batch, which begins with `own`, and what has expired before anything was run for it."""
        now, batch, expired = clock(), [own] if own is not None else [], list[Request]()
        first = own or (self._oldest(False) or self._oldest(True) or [None])[0]  # noqa: FBT003
        if first is None:
            return batch, expired
        size = 0 if own is None else own.size
        if own is not None and own.state is PROMOTED:
            self._running -= size  # counted when it was woken, and again below
        room = share(self.waiting + size, self._running, self.plan)
        for queues in self._queues:
            queue = queues.get(first.key, deque())
            while queue and (not batch or size + queue[0].size <= room):
                if queue[0].state is DEAD:
                    queue.popleft()
                    continue
                request = self._take(queue)
                if self._expired(request, now):
                    expired.append(request)
                else:
                    request.state = RUNNING
                    batch.append(request)
                    size += request.size
        while self._room and not self._full(1):
            self._room.popleft().release()
        self._running += size
        if batch:
            self.tally.batch(size, "cap" if size >= self.plan.cap else reason)
        return batch, expired

    def _expired(self, request: Request, now: float) -> bool:
        """Whether nobody needs the answer any more: the deadline has passed, or the Future was cancelled."""
        future = request.waiter
        if isinstance(future, futures.Future) and not (future.running() or future.set_running_or_notify_cancel()):
            request.state = DEAD
            self.tally.abandoned += 1
            return True
        if request.deadline is None or now < request.deadline:
            return False
        request.state = DONE
        request.error = DeadlineExceeded("the deadline passed before the rows were run", deadline=request.deadline)
        self.tally.expired += 1
        return True

    def _dispatch(self) -> int:
        """Give free slots to those who have waited longest, while there is work; returns how many runners to start."""
        starts = 0
        while self.waiting > 0 and opens(self.waiting, self._running, self._active, self.plan):
            queue = self._oldest(False) or self._oldest(True)  # noqa: FBT003
            if queue is None:
                break
            self._active += 1
            if isinstance(queue[0].waiter, _thread.LockType):
                heir = self._take(queue)
                heir.state = PROMOTED
                self._running += heir.size
                heir.waiter.release()  # type: ignore[union-attr]
            elif self._parked:
                self._parked.pop().release()
                break  # it takes its part when it wakes, and looks then whether there is work for another
            else:
                starts += 1
                break
        if not self._active:
            while self._closers:
                self._closers.pop().release()
        return starts

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

    def observe(self, size: int, seconds: float) -> None:
        """Learn from a run that took so long: from the fastest of several of about its size."""
        bits = size.bit_length()
        fastest, of_size, count = self._seen.get(bits, (seconds, size, 0))
        if seconds < fastest:
            fastest, of_size = seconds, size
        self._seen[bits] = fastest, of_size, count + 1
        if count + 1 >= LEARN or not self.plan.curve:
            del self._seen[bits]
            self._curve = learn(self._curve, of_size, fastest)
            self._replan()

    def _replan(self) -> None:
        plan = self.plan
        self.plan = make_plan(self._curve, plan.slots, self.max_rows, bit_identical=plan.bit_identical)
        self.parallel = self.plan.mode == PARALLEL and not self.closed

    # Running.

    def _start(self, runners: int) -> None:
        for _ in range(runners):
            try:
                # Not a daemon: the interpreter waits for it at exit, and so for all that was admitted.
                threading.Thread(target=self._runner, name="modelkit-batcher").start()
            except RuntimeError:  # no thread can be started, or the interpreter is shutting down
                self._work()

    def _runner(self) -> None:
        """A thread that runs batches, and ends when there have been none for a while. It is started with a slot."""
        while True:
            self._work()
            lock = _locked()
            with self.lock:
                self._parked.append(lock)
            if not lock.acquire(timeout=IDLE):
                with self.lock:
                    if lock in self._parked:
                        self._parked.remove(lock)
                        return

    def _work(self) -> None:
        with self.lock:
            batch, expired = self._seal(None, "slot")
            starts = self._dispatch()
        self._start(starts)
        self._lead(batch, expired, None)

    def _lead(self, batch: list[Request], expired: list[Request], own: Request | None) -> None:
        """Run a batch with the slot that this thread holds, then give the slot to others; a runner goes on itself."""
        turn = _Turn(batch, expired)
        try:
            while turn.holds:
                self._run_turn(turn, own)
        except BaseException:  # an interrupt of this thread, which is no affair of the others in the batch
            self._give_back(turn, own)
            raise

    def _run_turn(self, turn: _Turn, own: Request | None) -> None:
        start = clock()
        batch, outcomes = turn.batch, list[Outcome]()
        if batch:
            calls = [request.feeds for request in batch]
            outcomes = self.attempt(calls, [rows_of(feeds) for feeds in calls], batch[0].outputs)
        now = clock()
        with self.lock:
            size = sum(request.size for request in batch)
            for request, outcome in zip(batch, outcomes, strict=True):
                if self._settle(request, outcome, now):
                    turn.done.append(request)
            turn.batch = []
            self._running -= size
            self._timed += 1
            if batch and self._timed & OBSERVE == 0 and not any(isinstance(o, BaseException) for o in outcomes):
                self.observe(size, now - start)
            done, turn.done = turn.done, []
            if own is None:
                turn.batch, turn.done = self._seal(None, "slot")
            if not turn.batch and not turn.done:
                turn.holds = False
                self._active -= 1
            starts = self._dispatch()
        self._start(starts)
        deliver(request for request in done if request is not own)

    def _give_back(self, turn: _Turn, own: Request | None) -> None:
        """Queue again, in front, what an interrupted thread was running for others, and return its slot."""
        with self.lock:
            for request in reversed(turn.batch):
                self._running -= request.size
                if request is own:
                    request.state = DEAD
                elif request.state is RUNNING:
                    request.state = WAITING
                    self._enqueue(request, in_front=True)
            if turn.holds:
                self._active -= 1
            starts = self._dispatch()
        self._start(starts)
        deliver(request for request in turn.done if request is not own)

    def attempt(self, calls: list[Feeds], sizes: list[int], outputs: tuple[str, ...]) -> list[Outcome]:
        """Run calls of so many rows as a batch; an outcome for each."""
        return attempt(self.run, calls, sizes, outputs, self._shrink)

    def _shrink(self, size: int) -> None:
        """So much at once was too much."""
        with self.lock:
            self.tally.out_of_memory += 1
            self.max_rows = max(1, min(self.max_rows, size // 2))
            self._replan()

    def _wait(self, request: Request) -> None:
        """Until the request is done, leading when promoted. Raises DeadlineExceeded."""
        while request.state is not DONE:
            if not request.waiter.acquire(timeout=_left(request.deadline)):  # type: ignore[union-attr]
                with self.lock:
                    if request.state in (DONE, PROMOTED):  # at the last moment
                        continue
                    self.tally.expired += self._drop(request)
                raise DeadlineExceeded("the deadline passed before the answer came", deadline=request.deadline)
            if request.state is PROMOTED:
                if request.deadline is not None and request.deadline <= clock():
                    raise DeadlineExceeded("the deadline passed before the rows were run", deadline=request.deadline)
                with self.lock:
                    batch, expired = self._seal(request, "slot")
                    request.state = LEADING
                    starts = self._dispatch()
                self._start(starts)
                self._lead(batch, expired, request)


class _Turn:
    """What a thread that leads owes to others: the batch it runs, those it has to tell, and its slot."""

    __slots__ = ("batch", "done", "holds")

    def __init__(self, batch: list[Request], done: list[Request]) -> None:
        self.batch = batch
        self.done = done
        self.holds = True


def _locked() -> _thread.LockType:
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


def _left(deadline: float | None) -> float:
    return -1 if deadline is None else max(0.0, deadline - clock())
