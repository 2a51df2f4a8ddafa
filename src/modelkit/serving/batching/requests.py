"""One call that waits for its answer, and how many callers get theirs."""

from __future__ import annotations

import _thread
import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from concurrent import futures
from dataclasses import dataclass, field
from math import inf
from typing import Any

from modelkit.errors import DeadlineExceeded
from modelkit.model.model import Call, Model, Outputs
from modelkit.serving.batching.isolation import Names, Outcome
from modelkit.signature.refusing import moved
from modelkit.signature.signature import Feeds

# The states of a request, and who moves it, under the lock of the Scheduler:
#
#     FRESH -> DONE              an event loop that runs it, or finds it too late
#     FRESH -> IN_QUEUE          Queue.put
#     FRESH -> RUNNING           enter, for a thread that finds a free slot
#     IN_QUEUE -> PROMOTED       _dispatch, which wakes its thread with a slot
#     PROMOTED -> RUNNING        begin, called by that thread
#     IN_QUEUE -> RUNNING        _fill, into a batch
#     RUNNING -> IN_QUEUE        give_back, if the thread that runs it is interrupted
#     RUNNING -> DONE            finish
#     any but DONE -> DEAD       Queue.drop, if its caller waits no longer
FRESH = "fresh"
IN_QUEUE = "in the queue"
PROMOTED = "promoted"
RUNNING = "running"
DONE = "done"
DEAD = "dead"

clock = time.monotonic

Waiter = _thread.LockType | futures.Future[Any] | asyncio.Future[Outputs]
Key = tuple[object, ...]


@dataclass(eq=False, slots=True)
class Request:
    """The rows of one call, or those from `first` on.

    `left` is, of a piece of a large call, the size of what is left of the call with it; 0 for a whole
    call.

    `state` and what follows it are guarded by the lock of the Scheduler.

    `waiter` is what the caller waits on, a locked lock or a Future, and None while the calling
    thread runs the request itself. `leads` is whether that thread may run others' along with its
    own. `due` is the deadline as a number, infinity for none. `pick` is the output that a Future of
    `submit` gives, None for all of them.
    """

    feeds: Feeds
    size: int
    outputs: Names
    call: Call
    first: int = 0
    pick: str | None = None
    left: int = 0
    leads: bool = False
    arrived: float = 0.0
    waiter: Waiter | None = None
    state: str = FRESH
    outcome: Outcome | None = None
    due: float = field(init=False)

    def __post_init__(self) -> None:
        deadline = self.call.deadline
        self.due = inf if deadline is None else deadline

    @property
    def key(self) -> Key:
        """What requests of one batch have in common.

        A Future of `submit` runs the callbacks that its caller added, so it shares no batch with
        threads that could be held up.
        """
        return (self.outputs, self.pick, *[feed.shape[1:] for feed in self.feeds.values()])

    @property
    def low(self) -> bool:
        """Whether the priority is -1."""
        return self.call.priority < 0

    def begin(self) -> bool:
        """Whether it is to be run: not if its Future was cancelled."""
        future = self.waiter
        if isinstance(future, futures.Future) and not (
            future.running() or future.set_running_or_notify_cancel()
        ):
            self.state = DEAD
            return False
        self.state = RUNNING
        return True

    def end(self, outcome: Outcome) -> bool:
        """Take the outcome. False if its caller waits no longer."""
        if self.state is DEAD:
            return False
        if self.first and isinstance(outcome, BaseException):
            outcome = moved(outcome, self.first)
        self.outcome = outcome
        self.state = DONE
        return True

    @property
    def has_future(self) -> bool:
        """Whether the caller holds a Future of `submit`, whose callbacks may take long."""
        return isinstance(self.waiter, futures.Future)

    def result(self) -> Outputs:
        """The answer, or its error raised."""
        outcome: Any = self.outcome
        if isinstance(outcome, BaseException):
            raise outcome
        answer: Outputs = outcome
        return answer


class Turn:
    """What a thread that runs a batch owes to others.

    `own` is the request that it waits for, and `batch` what it runs with its slot, of `size` in all;
    `late` are the requests that were given up for it, and `done` those whose callers it has to wake.
    A `runner` that is `returning` lacks a slot and looks for work next.
    """

    __slots__ = ("batch", "done", "has_slot", "late", "own", "returning", "runner", "size")

    def __init__(self, own: Request | None = None, *, runner: bool = False) -> None:
        self.own = own
        self.runner = runner
        self.batch: list[Request] = []
        self.done: list[Request] = []
        self.late: list[Request] = []
        self.has_slot = False
        self.returning = False
        self.size = 0

    def settle(self, outcomes: list[Outcome]) -> int:
        """Give the requests of the batch their outcomes. Returns how many failed."""
        pairs = zip(self.batch, outcomes, strict=True)
        self.done = [request for request, outcome in pairs if request.end(outcome)]
        return len([0 for request in self.done if isinstance(request.outcome, BaseException)])


def joint_call(calls: list[Call]) -> Call:
    """How to run a batch of calls: with their latest deadline and their highest priority.

    The batch has a deadline only if every call has one, and a key only if all have the same.
    """
    first = calls[0]
    if calls.count(first) == len(calls):  # by identity first, so plain calls cost next to nothing
        return first
    deadlines = [call.deadline for call in calls if call.deadline is not None]
    latest = max(deadlines) if len(deadlines) == len(calls) else None
    priority = max(call.priority for call in calls)
    same_key = all(call.key == first.key for call in calls)
    return Call(latest, priority, first.key if same_key else None)


def too_late(deadline: float) -> DeadlineExceeded:
    """The error for rows that were not run in time."""
    return DeadlineExceeded("the deadline passed before the rows were run", deadline=deadline)


def not_ready(deadline: float) -> DeadlineExceeded:
    """The error for rows whose answer would come too late."""
    return DeadlineExceeded("the answer could not be ready by the deadline", deadline=deadline)


def still_running(
    model: Model, runs: list[tuple[int, float]], timeout: float | None
) -> DeadlineExceeded:
    """The error for a Batcher that was closed and whose runs, of (size, seconds), go on."""
    lasting = "; ".join(f"a batch of {size:,} for {seconds:.1f} s" for size, seconds in runs)
    return DeadlineExceeded(
        f"after {timeout} s {model!r} still runs {lasting or 'a batch'}: only the end of the process "
        "ends a run that hangs; the calls that waited behind it got ClosedError",
        deadline=timeout,
    )


def locked() -> _thread.LockType:
    """A lock that is held, for a thread to wait on."""
    lock = _thread.allocate_lock()
    lock.acquire()
    return lock


def seconds_left(due: float) -> float:
    """The seconds until a deadline, as a lock takes them."""
    return min(threading.TIMEOUT_MAX, max(0.0, due - clock()))


def deliver(requests: Iterable[Request]) -> None:
    """Wake the callers of requests that are done, each event loop once for all of its requests.

    May be done twice. The Futures of `submit` run their callbacks here.
    """
    loops: dict[asyncio.AbstractEventLoop, list[Request]] = {}
    for request in requests:
        waiter = request.waiter
        if isinstance(waiter, _thread.LockType):
            if waiter.locked():
                waiter.release()
        elif isinstance(waiter, futures.Future):
            _resolve(request, waiter)
        elif waiter is not None:
            loops.setdefault(waiter.get_loop(), []).append(request)
    for loop, theirs in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve_on_loop, loop, theirs)
        except RuntimeError:  # the loop was closed, and its tasks with it
            continue


def _resolve_on_loop(loop: asyncio.AbstractEventLoop, requests: list[Request]) -> None:
    try:
        for request in requests:
            _settle(request, request.waiter)
    except BaseException:
        # From a signal handler, for nothing here raises: the others are told all the same.
        loop.call_soon(_resolve_on_loop, loop, requests)
        raise


def _resolve(request: Request, future: futures.Future[Any]) -> None:
    try:
        _settle(request, future)
    except BaseException:
        # From a callback that was added to the Future; an Exception does not even come here.
        logging.getLogger("modelkit").exception("a callback of a Future of submit failed")


def _settle(request: Request, future: Any) -> None:
    if future.done():
        return
    outcome: Any = request.outcome
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome if request.pick is None else outcome[request.pick])
