"""Large calls, which are run in pieces, between which others get their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.serving.batching.checks import Prepare
from modelkit.serving.batching.interrupts import is_interrupt
from modelkit.serving.batching.isolation import own, row_count
from modelkit.serving.batching.requests import Request
from modelkit.serving.batching.scheduler import Scheduler


def in_pieces(scheduler: Scheduler, whole: Request, prepared: Prepare) -> Iterator[Request]:
    """A call in pieces of at most one batch.

    While nobody else waits, a piece may be as large as the plan says.
    """
    feeds = whole.feeds
    size = whole.size
    rows = row_count(feeds)
    start = 0
    while True:
        plan = scheduler.planner.plan
        limit = plan.cap if scheduler.queue.waiting else plan.piece
        stop = rows
        if size * (rows - start) > limit * rows:
            stop = start + max(1, limit * rows // size)
        if stop - start == rows:
            yield whole
        else:
            piece = {name: feed[start:stop] for name, feed in feeds.items()}
            left = size * (rows - start) // rows
            yield Request(*prepared(piece), whole.outputs, whole.call, start, whole.pick, left)
        start = stop
        if start >= rows:
            return


def run_into(future: Future[Array], run: Callable[[], Array]) -> None:
    """Answer a Future here; what the model raises, the Future does."""
    try:
        future.set_result(run())
    except BaseException as error:
        if is_interrupt(error):
            raise
        future.set_exception(own(error))


class Submission:
    """One call of `submit`: its pieces are queued one after another.

    Args:
        scheduler: where to queue them.
        requests: the pieces of one call, each of which picks one output.
        future: what the caller holds.
    """

    def __init__(
        self, scheduler: Scheduler, requests: list[Request], future: Future[Array]
    ) -> None:
        self._scheduler = scheduler
        self._requests = requests
        self._future = future
        self._answers: list[Array] = []

    def begin(self) -> None:
        """Queue the first piece. Raises Overloaded and ClosedError."""
        if len(self._requests) == 1:
            self._queue(self._requests[0], self._future)
            return
        self._queue_next()

    def _queue_next(self) -> None:
        waiter: Future[Any] = Future()
        waiter.add_done_callback(self._go_on)
        self._queue(self._requests[len(self._answers)], waiter)

    def _queue(self, request: Request, waiter: Future[Any]) -> None:
        request.waiter = waiter
        self._scheduler.put(request)

    def _go_on(self, done: Future[Any]) -> None:
        """Queue the next piece, or answer."""
        try:
            if not self._answers and not self._future.set_running_or_notify_cancel():
                return
            self._answers.append(done.result())
            if len(self._answers) < len(self._requests):
                self._queue_next()
            else:
                self._future.set_result(np.concatenate(self._answers))
        except BaseException as error:  # raised by the Future
            self._future.set_exception(error)
