"""What answers now: one Activation after another, each kept alive by its own calls.

A call counts nothing: it holds a reference to the Activation that it read. An Activation that was
replaced is drained when a weak reference to it dies. That is never early. It is late where a
coroutine or generator that holds one is never finished.
"""

from __future__ import annotations

import _thread
import weakref
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class Activation(Generic[T]):
    """What answers from one replacement to the next; `generation` counts them from 0.

    A call reads `Active.now` once, keeps it in a local name for as long as it runs, and lets go of
    it in a `finally` (`activation = None`), since a traceback that is kept would keep the name as
    well.
    """

    __slots__ = ("__weakref__", "generation", "value")

    def __init__(self, value: T, generation: int) -> None:
        self.value = value
        self.generation = generation


@final
class Draining:
    """An Activation that was replaced, and may still have calls in flight."""

    __slots__ = ("_gone", "_left", "generation")

    def __init__(self, activation: Activation[T]) -> None:
        self.generation = activation.generation
        # A bare lock, since its release is all that may run when a reference dies in the middle of
        # anything.
        left = _thread.allocate_lock()
        left.acquire()
        self._left = left
        self._gone = weakref.ref(activation, lambda _: left.release())

    @property
    def drained(self) -> bool:
        """Whether the last call has ended."""
        return self._gone() is None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the last call, at most `timeout` seconds; returns whether it has ended."""
        if not self._left.acquire(timeout=-1 if timeout is None else timeout):
            return self.drained
        self._left.release()
        return True


@final
class Active(Generic[T]):
    """Holds what answers now. Reading `now` is lock-free; replacing it is safe from any thread."""

    __slots__ = ("_replacing", "now")

    def __init__(self, value: T) -> None:
        self.now = Activation(value, 0)
        self._replacing = _thread.allocate_lock()

    def replace(self, value: T) -> Draining:
        """Let `value` answer the calls from now on. Those under way end where they began."""
        with self._replacing:
            before = self.now
            self.now = Activation(value, before.generation + 1)
        return Draining(before)

    def after_fork(self) -> None:
        """Begin again in the child of a fork, where another thread may have held the lock."""
        self._replacing = _thread.allocate_lock()
