"""One call that waits for its answer, and what it takes to make a batch of many and many answers of one."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Iterable
from concurrent import futures
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from modelkit.cast import Array
from modelkit.model import Outputs
from modelkit.signature import Feeds

# Queued; its thread woken to lead, with a slot; its thread leading, with a slot; in a batch that another thread runs;
# answered; given up by its caller.
WAITING, PROMOTED, LEADING, RUNNING, DONE, DEAD = "waiting", "promoted", "leading", "running", "done", "dead"

Waiter = _thread.LockType | futures.Future[Any] | asyncio.Future[Outputs]
Key = tuple[object, ...]


class Request:
    """The rows of one call; `state` and what follows it are guarded by the lock of the lane.

    `key` is what requests of one batch have in common. `waiter` is what the caller waits on, a locked lock or a Future,
    and None while the calling thread runs the request itself.
    """

    __slots__ = ("answer", "arrived", "deadline", "error", "feeds", "key", "low", "outputs", "pick", "size", "state", "waiter")

    def __init__(self, feeds: Feeds, outputs: tuple[str, ...], size: int, deadline: float | None, *, low: bool) -> None:
        self.feeds = feeds
        self.outputs = outputs
        self.key: Key = (outputs, *(feed.shape[1:] for feed in feeds.values()))
        self.size = size
        self.deadline = deadline
        self.low = low
        self.arrived = 0.0
        self.pick: str | None = None  # the output that a Future of `submit` gives; None for all of them
        self.waiter: Waiter | None = None
        self.state = WAITING
        self.answer: Outputs | None = None
        self.error: BaseException | None = None

    def result(self) -> Outputs:
        """The answer, or its error raised."""
        if self.answer is None:
            assert self.error is not None
            raise self.error
        return self.answer


def rows_of(feeds: Feeds) -> int:
    """The number of rows in a batch."""
    return len(next(iter(feeds.values())))


def join(feeds: list[Feeds]) -> Feeds:
    """The rows of several calls as one batch."""
    if len(feeds) == 1:
        return feeds[0]
    return {name: np.concatenate([rows[name] for rows in feeds]) for name in feeds[0]}


# A row that is kept keeps the output of its whole batch alive, up to this size in bytes; beyond it, rows are copied.
PINNED = 1 << 16


def split(answers: Outputs, sizes: list[int]) -> list[Outputs]:
    """The answer to a batch, call by call; the inverse of `join`."""
    if len(sizes) == 1:
        return [answers]
    parts = [_split(array, sizes) for array in answers.values()]
    if len(parts) == 1:
        (name,) = answers
        return [{name: array} for array in parts[0]]
    return [dict(zip(answers, arrays, strict=True)) for arrays in zip(*parts, strict=True)]


def _split(array: Array, sizes: list[int]) -> list[Array]:
    if sizes.count(1) == len(sizes):
        arrays = list(array.reshape(len(array), 1, *array.shape[1:]))  # iterating slices without bytecode
    else:
        arrays = [array[start:stop] for start, stop in pairwise(accumulate(sizes, initial=0))]
    return arrays if array.nbytes <= PINNED else [part.copy() for part in arrays]


def deliver(requests: Iterable[Request]) -> None:
    """Wake the callers of requests that are done; event loops once each, however many of the requests are theirs."""
    loops: dict[asyncio.AbstractEventLoop, list[Request]] = {}
    for request in requests:
        waiter = request.waiter
        if isinstance(waiter, _thread.LockType):
            waiter.release()
        elif isinstance(waiter, futures.Future):
            _resolve([request])
        elif waiter is not None:
            loops.setdefault(waiter.get_loop(), []).append(request)
    for loop, theirs in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, theirs)
        except RuntimeError:  # the loop was closed, and its tasks with it
            continue


def _resolve(requests: list[Request]) -> None:
    for request in requests:
        future = request.waiter
        assert isinstance(future, futures.Future | asyncio.Future)
        if future.done():
            continue
        if request.error is not None:
            future.set_exception(request.error)
        else:
            assert request.answer is not None
            future.set_result(request.answer if request.pick is None else request.answer[request.pick])
