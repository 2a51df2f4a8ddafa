"""One lock for all that changes, which signal handlers and forks do not break."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from modelkit._internal.process import watch_forks
from modelkit.errors import UsageError


class Turns:
    """Turns to change what is known, one after the other.

    `lock` may be taken again by the thread that has it, and `busy` says that this thread is in a
    turn: a signal handler or a finalizer that interrupts it there gets the lock, and may read, but
    not change anything.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.busy = False
        watch_forks(self)

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self.lock = threading.RLock()
        self.busy = False

    @contextmanager
    def try_turn(self, *, wait: bool = True) -> Iterator[bool]:
        """A turn, and whether this thread has it.

        It has none where another thread has it and this one does not `wait`, and where this thread
        is in the middle of one.
        """
        if not self.lock.acquire(blocking=wait):
            yield False
            return
        try:
            busy = self.busy
            try:
                self.busy = True
                yield not busy
            finally:
                self.busy = busy
        finally:
            self.lock.release()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A turn to change what is known. Raises UsageError where this thread is in one already."""
        with self.try_turn() as mine:
            if not mine:
                raise UsageError(
                    "a signal handler or a finalizer interrupted this Detector while it took rows "
                    "or labels: show it others, take its state or change its reference after the "
                    "handler"
                )
            yield
