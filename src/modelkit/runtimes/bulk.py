"""Run the chunks of a bulk side by side, on threads that live no longer than the call."""

from __future__ import annotations

import _thread
from collections.abc import Callable


def run_all(run: Callable[[int, int], None], todo: list[tuple[int, int]], helpers: int) -> None:
    """Call `run` on all that is to do, in this thread and up to `helpers` more; raises the first failure."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not failures:
                try:
                    bounds = todo.pop()
                except IndexError:
                    return
                run(*bounds)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)

    def help_out(done: _thread.LockType) -> None:
        try:
            work()
        finally:
            done.release()

    # threading.Thread.start waits for the new thread to begin, which puts it on the caller's core: on two cores both
    # then shared one for several milliseconds, a whole bulk run of a linear model.
    locks = [_thread.allocate_lock() for _ in range(min(helpers, len(todo) - 1))]
    for lock in locks:
        lock.acquire()
        _thread.start_new_thread(help_out, (lock,))
    work()
    for lock in locks:
        lock.acquire()
    if failures:
        raise failures[0]
