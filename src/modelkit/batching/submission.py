"""One call of `submit`: its pieces are queued one after another, and the Future gets all answers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np

from modelkit.batching.lane import Lane
from modelkit.batching.requests import Request
from modelkit.cast import Array


class Submission:
    """Queues requests one after another.

    Args:
        lane: where to queue them.
        requests: the pieces of one call, each of which picks one output.
        future: what the caller holds.
    """

    def __init__(self, lane: Lane, requests: list[Request], future: Future[Array]) -> None:
        self._lane = lane
        self._requests = requests
        self._future = future
        self._answers: list[Array] = []

    def begin(self) -> None:
        """Queue the first piece. Raises Overloaded and ClosedError."""
        if len(self._requests) == 1:
            self._queue(self._requests[0], self._future)
            return
        self._future.set_running_or_notify_cancel()
        self._queue_next()

    def _queue_next(self) -> None:
        waiter: Future[Any] = Future()
        self._queue(self._requests[len(self._answers)], waiter)
        waiter.add_done_callback(self._go_on)

    def _queue(self, request: Request, waiter: Future[Any]) -> None:
        request.waiter = waiter
        self._lane.submit(request, admitted=bool(self._answers))

    def _go_on(self, done: Future[Any]) -> None:
        """Queue the next piece, or answer."""
        try:
            self._answers.append(done.result())
            if len(self._answers) < len(self._requests):
                self._queue_next()
            else:
                self._future.set_result(np.concatenate(self._answers))
        except BaseException as error:  # noqa: BLE001 - raised by the Future
            self._future.set_exception(error)
