"""The threads that run the batches of a Batcher: those that asked, and runners."""

from __future__ import annotations

import _thread
import threading
import time

from modelkit.errors import BatchError
from modelkit.model.model import PLAIN, Call, Outputs
from modelkit.serving.batching.choice import OVERDUE_SECONDS
from modelkit.serving.batching.interrupts import is_interrupt
from modelkit.serving.batching.isolation import Names, Outcome, Run, attempt
from modelkit.serving.batching.planner import Planner
from modelkit.serving.batching.requests import (
    DONE,
    PROMOTED,
    Request,
    Turn,
    clock,
    deliver,
    joint_call,
    not_ready,
    seconds_left,
)
from modelkit.serving.batching.scheduler import Scheduler
from modelkit.signature.signature import Feeds


class Workers:
    """Runs batches with the threads that ask for them, and with runners for what none waits for.

    Args:
        run: runs a batch: (feeds, outputs, call) -> answers.
        planner: holds the plan.
        max_queue: the size that may wait.
    """

    def __init__(self, run: Run, planner: Planner, max_queue: int) -> None:
        self.run = run
        self.scheduler = Scheduler(planner, max_queue, self._start_and_watch)

    def call(self, request: Request) -> Outputs:
        """Answer in the calling thread: it runs a batch with its rows, or waits for one that does."""
        turn = Turn(request)
        scheduler = self.scheduler
        try:
            self.start(scheduler.enter(request, turn))
            self._wait(request, turn)
        except BaseException:
            scheduler.give_back(turn)
            raise
        return request.result()

    def attempt(
        self,
        calls: list[Feeds],
        size: int,
        outputs: Names,
        call: Call = PLAIN,
        *,
        mine: bool = False,
    ) -> list[Outcome]:
        """Run calls of `size` in all as a batch, as `call` says. Returns an outcome for each.

        A batch that is too large for memory is remembered. `mine` is whether the only call is that
        of this thread, which then raises everything that is not an Exception.
        """
        outcomes, too_large = attempt(self.run, calls, outputs, call, mine=mine)
        if too_large:
            self.scheduler.shrink(size)
        return outcomes

    def start(self, runners: int) -> None:
        """Start runners."""
        for _ in range(runners):
            try:
                # Not a daemon: the interpreter waits for it at exit, and so for all that was
                # admitted.
                threading.Thread(target=self._run_batches, name="modelkit-batcher").start()
            except RuntimeError:  # no thread can be started, or the interpreter is shutting down
                self._run_batches(stay=False)

    def _start_and_watch(self, runners: int) -> None:
        self.start(runners)
        self._watch()

    def _watch(self) -> None:
        """See to it that a thread looks again, where a batch waits beside a free slot."""
        scheduler = self.scheduler
        if scheduler.watched or not self._holds_back():
            return
        try:
            scheduler.watched = True
            # Not by `threading`, which waits until the thread has begun.
            _thread.start_new_thread(self._look_again, ())
        except BaseException as error:
            scheduler.watched = False  # the next call starts one
            if not isinstance(error, RuntimeError):  # no thread can be started
                raise

    def _holds_back(self) -> bool:
        scheduler = self.scheduler
        return scheduler.queue.waiting > 0 and scheduler.active < scheduler.planner.plan.slots

    def _look_again(self) -> None:
        """Look now and then whether a run is overdue for which others wait, while some do."""
        scheduler = self.scheduler
        while scheduler.watched:
            time.sleep(OVERDUE_SECONDS)
            self.start(scheduler.look_again())
            scheduler.watched = False  # before it looks, so that nobody relies on it in between
            if self._holds_back():
                scheduler.watched = True

    def _run_batches(self, *, stay: bool = True) -> None:
        """What a runner does. It is to `stay` until there were no batches for a while."""
        scheduler = self.scheduler
        turn = Turn(runner=stay)
        try:
            self.work(turn)
            while stay and scheduler.park(turn):
                self.work(turn)
        except BaseException:  # nobody must wait for this thread in vain
            scheduler.give_back(turn)
            raise

    def work(self, turn: Turn) -> None:
        """Run batches until there are none."""
        self.start(self.scheduler.begin(turn))
        self._lead(turn)

    def _lead(self, turn: Turn) -> None:
        """Run the batch of a turn, then give the slot to others; a runner goes on itself."""
        while turn.has_slot:
            started = clock()
            starts = self.scheduler.finish(turn, self.outcomes(turn, turn.size), started)
            deliver(turn.done)
            self._start_and_watch(starts)

    def outcomes(self, turn: Turn, size: int) -> list[Outcome]:
        """Run the batch of a turn, of `size` in all. Returns an outcome for each of its requests."""
        batch = turn.batch
        if not batch:
            return []
        try:
            calls = [request.feeds for request in batch]
            call = joint_call([request.call for request in batch])
            mine = batch == [turn.own]
            return self.attempt(calls, size, batch[0].outputs, call, mine=mine)
        except BaseException as error:
            if turn.own is not None or is_interrupt(error):
                raise  # it is meant for this thread: others' rows are run again by others
            failed = "the batch could not be run"
            return [BatchError(f"{failed}: {error!r}", public=failed) for _ in batch]

    def _wait(self, request: Request, turn: Turn) -> None:
        """Wait until a request is done, and run it if this thread has a slot or is given one.

        Raises DeadlineExceeded.
        """
        scheduler = self.scheduler
        while True:
            if turn.has_slot and not turn.batch:
                self._raise_late(request)
            self._lead(turn)
            if request.state is DONE:
                return
            self._watch()
            left = seconds_left(request.due)
            if not request.waiter.acquire(timeout=left):  # type: ignore[union-attr]
                if request.state in (DONE, PROMOTED):  # at the last moment
                    continue
                self._raise_late(request)
            self.start(scheduler.begin(turn))

    def _raise_late(self, request: Request) -> None:
        self.scheduler.count(expired=1, abandoned=-1)  # as it will be when the error passes `call`
        raise not_ready(request.due)
