"""The threads of an App: for what would hold up an event loop."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock, Thread, current_thread
from time import monotonic
from typing import Any, TypeVar, final

from modelkit._internal.process import watch_exit
from modelkit.errors import ClosedError, Overloaded

T = TypeVar("T")
_GENERAL = 4
_EXPLAINED = 2  # works that take seconds, and run at once
_WAITING = 16  # and that wait for these
_EXIT = 2.0  # seconds that the interpreter waits for one that runs


@final
class ExplainPool:
    """Runs works that take seconds, such as explanations: two at once, while up to 16 more wait.

    Its threads are daemons that end when their work is done: the process ends whatever they do.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[Future[Any], Callable[[], Any]] = {}
        self._threads: set[Thread] = set()
        self._closed = False
        watch_exit(self)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run it in its turn, unless its Future is cancelled before. Raises Overloaded."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise ClosedError("the App is closed")
            waiting = len(self._waiting)
            if waiting >= _WAITING:
                raise Overloaded(
                    f"{waiting} explanations wait, and no more may: try again later",
                    queued=waiting,
                    max_queue=_WAITING,
                )
            if len(self._threads) < _EXPLAINED:
                thread = Thread(target=self._run, name="modelkit-explain", daemon=True)
                thread.start()  # it waits for the lock
                self._threads.add(thread)
            self._waiting[future] = work
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future: Future[Any]) -> None:
        """Nobody waits for it any more, so that another one has its place."""
        with self._lock:
            self._waiting.pop(future, None)

    def _run(self) -> None:
        """Do the work that has waited longest; without any, the thread ends."""
        while True:
            with self._lock:
                future = next(iter(self._waiting), None)
                if future is None:
                    self._threads.discard(current_thread())
                    return
                work = self._waiting.pop(future)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # it belongs to who asked
                    future.set_exception(error)
            del future, work  # they hold rows

    def close(self) -> None:
        """Begin nothing more; what runs is not waited for."""
        with self._lock:
            self._closed = True
            waiting = [*self._waiting]
        for future in waiting:
            future.cancel()

    def at_exit(self) -> None:
        """Wait for what runs, but not for long."""
        self.close()
        end = monotonic() + _EXIT
        for thread in [*self._threads]:
            thread.join(max(0.0, end - monotonic()))


@final
class Threads:
    """The threads of an App.

    Attributes:
        explain: two, for explanations.
        general: four, for metrics, and for bodies that are inflated.
        parse: one, for large bodies. JSON is parsed without a turn for any other thread, so
            two of them at once would hold up an event loop for as long as both take.
    """

    __slots__ = ("explain", "general", "parse")

    def __init__(self) -> None:
        self.explain = ExplainPool()
        self.general = ThreadPoolExecutor(_GENERAL, "modelkit-web")
        self.parse = ThreadPoolExecutor(1, "modelkit-read")

    def close(self) -> None:
        """End them, once they have nothing to do."""
        self.explain.close()
        self.general.shutdown(wait=False)
        self.parse.shutdown(wait=False)
