"""Split a large batch into chunks, and run them side by side on threads that end with the call."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any


def chunk_bounds(rows: int, size: int) -> list[tuple[int, int]]:
    """Split `rows` into the fewest chunks of at most `size` rows, as equal as they can be."""
    count = max(1, -(-rows // size))
    edges = [rows * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def run_all(run: Callable[..., None], todo: Iterable[tuple[Any, ...]], helpers: int) -> None:
    """Call `run` with all that is to do, in this thread and `helpers` more; raises the first failure.

    What is to do may be made as it is asked for: one thread at a time does that, while the others
    run.
    """
    failures: list[BaseException] = []
    rest, turn = iter(todo), _thread.allocate_lock()

    def work() -> None:
        try:
            while not failures:
                with turn:
                    arguments = next(rest, None)
                if arguments is None:
                    return
                run(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
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
