"""Who runs what next: what waits for one model, its slots and its counts, under one lock.

Nothing keeps a thread at rest. A batch is run by a thread that asked for one of its rows; when it
is done it wakes the thread that has waited longest, which takes what has come in meanwhile. Calls
that no thread waits for, from event loops and `submit`, are run by a runner: a thread that is
started when it is needed and ends when it is idle. The main thread runs nobody's rows but its own,
for a signal handler may raise there; where others wait as well, a runner takes them all.

Only the Scheduler takes its lock; public attributes are read without it. A signal handler may raise
in the main thread whenever a function is called, so what belongs together is changed without a call
in between. A handler, or a finalizer, may also make a call in a thread that it interrupted: the lock
lets it in, to read the counts, and `interrupts.is_within` says that it would wait for itself.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from modelkit.errors import BatchError, ClosedError
from modelkit.serving.batching.choice import first_in_time, next_batch, overdue
from modelkit.serving.batching.interrupts import in_main_thread
from modelkit.serving.batching.isolation import Outcome
from modelkit.serving.batching.planner import Planner
from modelkit.serving.batching.policy import opens
from modelkit.serving.batching.queue import Queue, overloaded
from modelkit.serving.batching.requests import (
    IN_QUEUE,
    PROMOTED,
    RUNNING,
    Request,
    Turn,
    clock,
    deliver,
    locked,
    not_ready,
)
from modelkit.serving.batching.stats import RunningStats, Stats

IDLE = 0.05  # seconds after which a runner without work ends


class Scheduler:
    """Queues requests, puts batches together, and gives slots to those who run them.

    A slot is the right to run a batch. `active` slots are taken: by threads that run a batch or were
    promoted and wake up, and by runners that wake up or, `starting` of them, are to be started.
    `running` is the size of what is run, and `usual` the mean of what waits and runs together.
    `returning` runners lack a slot and look for work next. `runs` holds the size and start of each
    run.
    `start` starts so many runners, and a watch where it is needed; it is called without the lock.
    """

    def __init__(self, planner: Planner, max_queue: int, start: Callable[[int], None]) -> None:
        self.planner = planner
        self.max_queue = max_queue
        self.start = start
        self.closed = False
        self.tally = RunningStats(planner.max_rows)
        self.reset()

    def reset(self) -> None:
        """Forget all work: at first, and in the child of a fork, where no other thread lives on."""
        self.watched = False  # whether a thread looks again
        self._lock = _thread.RLock()
        self.queue = Queue(self.max_queue)
        self.active = 0
        self.running = 0
        self.starting = 0
        self.returning = 0
        self.usual = 1.0
        self.runs: dict[int, tuple[int, float]] = {}
        self._parked: list[_thread.LockType] = []  # runners that sleep
        self._closers: list[_thread.LockType] = []  # threads in `close`

    @property
    def interrupted(self) -> bool:
        """Whether the calling thread is in the middle of a step."""
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # as in Condition
        return owned

    def acquire(self, turn: Turn, size: int) -> bool:
        """Try to take a slot for `size` rows on this thread. False if calls are waiting."""
        if self.interrupted:
            return False
        now = clock()
        with self._lock:
            if self.queue.waiting or self.closed or not self._opens(size):
                return False
            self.active += 1
            self.running += size
            turn.size = size
            turn.has_slot = True
            self.runs[_thread.get_ident()] = size, now
            return True

    def release(self, turn: Turn, size: int, seconds: float, calls: int, reason: str) -> None:
        """Count a batch that answered `calls`, and release the slot if `acquire` took one."""
        starts = 0
        with self._lock:
            if turn.has_slot:
                self._release(turn)
                if self.queue.waiting or self._closers:
                    starts = self._dispatch()
            tally = self.tally
            tally.counts["calls"] += calls
            tally.batch(size, reason)
            tally.answered(seconds, calls)
            self.planner.time(size, seconds)
        if starts or self.queue.waiting:
            self.start(starts)

    def sample(self, size: int, seconds: float, *, learn: bool) -> None:
        """Note one of many calls that ran at once, and `learn` what a run of its size takes."""
        # Threads that queue for it would cost what they came to save.
        if self.interrupted or not self._lock.acquire(blocking=False):
            return
        try:
            self.tally.answered(seconds)
            if learn:
                self.planner.observe(size, seconds)
        finally:
            self._lock.release()

    def enter(self, request: Request, turn: Turn) -> int:
        """Admit a thread's own request: to its turn if a slot is free, to the queue if not.

        Returns how many runners to start. Raises ClosedError and Overloaded.
        """
        with self._lock:
            self._admit(request)
            if not self.queue.waiting and self._opens(request.size):
                self.active += 1
                turn.has_slot = True
                self._fill(turn, "idle")
                return 0
            request.waiter = locked()
            request.leads = not in_main_thread()
            self.queue.put(request)
            return self._dispatch()

    def enqueue(self, requests: Sequence[Request]) -> list[Request]:
        """Queue requests for runners. Returns those that were not admitted, with their errors."""
        refused = []
        try:
            with self._lock:
                for request in requests:
                    try:
                        self._admit(request)
                        self.queue.put(request)
                    except BatchError as error:
                        request.end(error)
                        refused.append(request)
                starts = self._dispatch()
            self.start(starts)
        except BaseException:
            self.give_back(Turn())
            raise
        return refused

    def put(self, request: Request) -> None:
        """Queue one request for runners. Raises Overloaded and ClosedError."""
        if self.enqueue([request]):
            request.result()

    def _admit(self, request: Request) -> None:
        if self.closed:
            raise ClosedError("the batcher was closed; make another one to go on")
        later = request.first > 0  # a piece of a large call, which finds room however full it is
        if not later and self.queue.full(request.size, low=request.low):
            self.tally.counts["shed"] += 1
            raise overloaded(self.queue.waiting, self.max_queue)
        self.tally.counts["calls"] += not later
        request.arrived = clock()

    def drop(self, request: Request, reason: str = "abandoned") -> bool:
        """Leave out a request, which is "abandoned" or "expired". False if it was answered before."""
        with self._lock:
            dropped = self.queue.drop(request)
            self.tally.counts[reason] += dropped
            return dropped

    def look_again(self) -> int:
        """Run what waits for a run that is overdue. Returns how many runners to start."""
        with self._lock:
            return self._dispatch()

    def begin(self, turn: Turn) -> int:
        """Fill the turn of a thread that was given a slot. Returns how many runners to start."""
        own = turn.own
        with self._lock:
            if own is None and not turn.has_slot:  # a runner, for which a slot was taken
                turn.has_slot = self.starting > 0
                self.starting -= turn.has_slot
            elif own is not None and own.state is PROMOTED:
                self.running -= own.size  # it was counted when its thread was woken
                own.state = RUNNING
                turn.has_slot = True
            if not turn.has_slot:
                return 0
            self._fill(turn, "slot")
            return self._dispatch()

    def finish(self, turn: Turn, outcomes: list[Outcome], began: float) -> int:
        """Settle a batch and give its slot on; a runner may keep it. Returns the runners to start."""
        now = clock()
        with self._lock:
            failed = turn.settle(outcomes)
            self.tally.counts["failed"] += failed
            for request in turn.done:
                self.tally.answered(now - request.arrived)
            turn.done += turn.late
            turn.late = []
            if turn.batch and not failed:
                self.planner.compare(turn.size, now - began)
                self.planner.time(turn.size, now - began)
            self._release(turn)
            # Others go their way: the callbacks of Futures, which have own batches, may take long.
            if turn.own is None and not (turn.done and turn.done[0].has_future):
                if self._opens(self.queue.waiting):
                    self.active += 1
                    turn.has_slot = True
                    self._fill(turn, "slot")
                elif turn.runner:
                    turn.returning = True
                    self.returning += 1
            return self._dispatch()

    def give_back(self, turn: Turn) -> None:
        """The calling thread fails: put back what it ran for others, and release its slot."""
        own = turn.own
        with self._lock:
            if own is not None and own.state is PROMOTED:
                self.active -= 1
                self.running -= own.size
            for request in reversed(turn.batch):
                if request is not own and request.state is RUNNING:
                    self.queue.put(request, in_front=True)
            self._release(turn)
            if own is not None and own.arrived:
                self.tally.counts["abandoned"] += self.queue.drop(own)
            starts = self._dispatch()
            if in_main_thread():  # those as well that it had not started when a handler raised
                starts = self.starting
        deliver(turn.done + turn.late)
        self.start(starts)

    def park(self, turn: Turn) -> bool:
        """Let a runner sleep until it is given a slot. False if none came, and it is to end."""
        lock = locked()
        with self._lock:
            self._release(turn)
            if self._opens(self.queue.waiting):
                self.active += 1
                turn.has_slot = True
                return True
            self._parked.append(lock)
        lock.acquire(timeout=IDLE)
        with self._lock:
            turn.has_slot = lock not in self._parked  # it may be woken at the last moment
            if not turn.has_slot:
                self._parked.remove(lock)
            return turn.has_slot

    def close(self, timeout: float | None) -> list[tuple[int, float]] | None:
        """Refuse new calls, and return when all that were admitted are answered.

        After `timeout`, refuse what waits too, and return the size and seconds of the runs under way.
        """
        with self._lock:
            self.closed = True
            self.planner.close()
            if not self.active:
                return None
            done = locked()
            self._closers.append(done)
        if done.acquire(timeout=-1 if timeout is None else timeout):
            return None
        error = ClosedError("the batcher was closed while this call waited behind a run that hangs")
        with self._lock:
            refused = self._begun(self.queue.clear(RUNNING))
            for request in refused:
                request.end(error)
            now = clock()
            runs = [(size, now - began) for size, began in self.runs.values()]
        deliver(refused)
        return runs

    def _opens(self, waiting: int) -> bool:
        """Whether something waits and should be run now; it waits for no run that is overdue."""
        if waiting <= 0 or not self.active:
            return waiting > 0
        plan = self.planner.plan
        if self.active >= plan.slots:
            return False
        if opens(waiting, self.running, self.active, self.usual, plan):
            return True
        late = overdue(self.runs.values(), clock(), plan)
        running = self.running - sum(late)
        return opens(waiting, running, self.active - len(late), self.usual, plan)

    def _dispatch(self) -> int:
        """Give free slots to those who have waited longest. Returns how many runners to start."""
        starts = 0
        queue = self.queue
        while self._opens(queue.waiting) and (requests := queue.oldest()):
            ready = clock() + self.planner.longest(queue.waiting, self.running)
            heir = first_in_time((each for each in requests if each.state is IN_QUEUE), ready)
            leads = heir.leads or heir.size == queue.waiting  # the main thread for itself alone
            if leads and isinstance(heir.waiter, _thread.LockType):
                queue.take(heir, PROMOTED)
                self.active += 1
                self.running += heir.size
                heir.waiter.release()
                continue
            # A runner takes its part when it wakes, and sees then whether there is work for others.
            if self._parked:
                self.active += 1
                self._parked.pop().release()
            elif not self.returning:
                self.active += 1
                self.starting += 1
                starts = 1
            break
        if not self.active:
            while self._closers:
                self._closers.pop().release()
        return starts

    def _fill(self, turn: Turn, reason: str) -> None:
        """Fill a turn with the next batch; it stays empty where its own had better not be run."""
        now = clock()
        queue = self.queue
        own = turn.own
        oldest = queue.oldest() if own is None else [own]
        if not oldest:
            return
        key = oldest[0].key
        work = queue.waiting
        offers: Iterable[Request] = queue.alike(key)
        if own is not None:
            work += own.size
            offers = chain([own], offers if own.leads else ())
        self.usual += (work + self.running - self.usual) / 8
        planner = self.planner
        room = planner.room(work, self.running, self.tally.counts["batches"])
        run, late = next_batch(offers, room, now, planner.plan.curve, planner.caution)
        if own is not None and own not in run:
            return
        queue.take_all(key, run + late, RUNNING)
        turn.late = self._begun(late)
        for request in turn.late:
            request.end(not_ready(request.due))
        self.tally.counts["expired"] += len(turn.late)
        batch = self._begun(run)
        size = sum(request.size for request in batch)
        self.running += size  # and the batch at once, without a call in between
        turn.size = size
        turn.batch = batch
        if batch:
            self.runs[_thread.get_ident()] = size, now
            self.tally.batch(size, "cap" if size >= planner.plan.cap else reason)

    def _begun(self, requests: list[Request]) -> list[Request]:
        begun = [request for request in requests if request.begin()]
        self.tally.counts["abandoned"] += len(requests) - len(begun)
        return begun

    def _release(self, turn: Turn) -> None:
        """Release what a turn has. Twice is fine."""
        self.runs.pop(_thread.get_ident(), None)
        self.active -= turn.has_slot
        self.running -= turn.size
        self.returning -= turn.returning
        turn.has_slot = turn.returning = False
        turn.size = 0
        turn.batch = []

    def shrink(self, size: int) -> None:
        """Make smaller batches from now on: one of `size` was too large for memory."""
        with self._lock:
            self.tally.counts["out_of_memory"] += 1
            self.planner.shrink(size)

    def use_slots(self, slots: int) -> None:
        """Run so many batches at a time from now on."""
        with self._lock:
            self.planner.use_slots(slots)

    def count(self, **calls: int) -> None:
        """Count calls that ended elsewhere, by how: `failed`, `abandoned`, `expired` or `shed`."""
        with self._lock:
            for end, change in calls.items():
                self.tally.counts[end] += change

    def stats(self) -> Stats:
        """The counts as a value."""
        with self._lock:
            return self.tally.stats(self.queue)
