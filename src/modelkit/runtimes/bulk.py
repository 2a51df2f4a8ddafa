"""Split a large batch into chunks, and run them side by side on threads that end with the call."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

from modelkit._internal.arrays import Array


def chunk_bounds(rows: int, size: int) -> list[tuple[int, int]]:
    """Start and stop of the fewest chunks of at most `size` rows, as equal as they can be."""
    count = max(1, -(-rows // size))
    edges = [rows * i // count for i in range(count + 1)]
    return list(pairwise(edges))


class Gathered:
    """The answers to all rows of a bulk, written side by side as its parts are done."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._whole: dict[str, Array] = {}

    def put(self, start: int, stop: int, parts: Iterable[tuple[str, Array]]) -> None:
        """Write the answers to the rows from `start` to `stop`, by output; safe from any thread."""
        for name, part in parts:
            whole = self._whole.get(name)
            if whole is None:
                empty = np.empty((self._rows, *part.shape[1:]), part.dtype)
                whole = self._whole.setdefault(name, empty)  # of several threads, one is first
            whole[start:stop] = part

    def answers(self, outputs: Iterable[str]) -> dict[str, Array]:
        """The answers by output, once all parts are written."""
        return {name: self._whole[name] for name in outputs}


def run_all(run: Callable[..., None], todo: Iterable[tuple[Any, ...]], helpers: int) -> None:
    """Call `run` with each of `todo`, in this thread and `helpers` more; raises the first failure.

    `todo` may be a generator: one thread at a time advances it, while the others run.
    """
    failures: list[BaseException] = []
    rest = iter(todo)
    turn = _thread.allocate_lock()

    def work() -> None:
        try:
            while not failures:
                with turn:
                    arguments = next(rest, None)
                if arguments is None:
                    return
                run(*arguments)
        except BaseException as error:  # raised again in the caller's thread
            failures.append(error)

    def help_out(done: _thread.LockType) -> None:
        try:
            work()
        finally:
            done.release()

    # threading.Thread.start waits for the new thread to begin, which puts it on the caller's core:
    # on two cores both then shared one for several milliseconds, a whole bulk run of a linear
    # model.
    locks = [_thread.allocate_lock() for _ in range(helpers)]
    for lock in locks:
        lock.acquire()
        _thread.start_new_thread(help_out, (lock,))
    work()
    for lock in locks:
        lock.acquire()
    if failures:
        raise failures[0]
