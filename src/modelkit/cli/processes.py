"""Several processes that answer at one port.

uvicorn's own supervisor would do with less code here, but it ends all workers when one fails to
start, replaces those that die at once, for ever, and leaves them behind when it is killed.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic, sleep
from types import FrameType

from modelkit._internal.logs import write_record
from modelkit.cli.settings import Settings

Work = Callable[[Settings, socket.socket, Connection], None]
STEADY = 10.0  # seconds after which a worker that ends counts as one that worked
SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


@dataclass
class Worker:
    """A process that answers.

    Attributes:
        process: the process.
        news: gets a message when it begins, and its end when it ends.
        failures: how many before it, one after the other, ended as soon as they were there.
        began: when it began to answer, or None.
    """

    process: SpawnProcess
    news: Connection
    failures: int
    began: float | None = None


def failures_after(failures: int, lived: float | None) -> int:
    """How many workers ended too soon in a row, when one has answered for so many seconds, or never."""
    return 0 if lived is not None and lived >= STEADY else failures + 1


def pause_after(failures: int) -> float:
    """The seconds before the next worker opens its model: none, or twice as many as the last time."""
    return min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures - 1, 10)) if failures else 0.0


class Processes:
    """Equal processes. One that ends is replaced; before any has answered, it ends them all.

    The replacement of one that ended before it answered, or soon after, waits for a while that
    grows before it opens anything.

    Args:
        work: what each of them does, given the settings, the socket and where to say that it has
            begun.
        settings: how many there are, and what they serve.
        listener: the socket that all of them listen at.
        started: called once, when all have begun.
    """

    def __init__(
        self, work: Work, settings: Settings, listener: socket.socket, started: Callable[[], object]
    ) -> None:
        self._work = work
        self._settings = settings
        self._listener = listener
        self._says_started = started
        self._workers: list[Worker] = []
        self._answered = False  # whether one of them ever did
        self._ending = False
        self._failed = False

    def run(self) -> bool:
        """Run until a signal ends it; returns whether all could begin."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        for _ in range(self._settings.workers):
            self._start(0)
        starting = True
        while self._workers:
            for connection in wait([worker.news for worker in self._workers]):
                self._hear(connection)
            began = [worker.began for worker in self._workers]
            if starting and not self._ending and None not in began:
                starting = False
                self._says_started()
        return not self._failed

    def _start(self, failures: int) -> None:
        context = multiprocessing.get_context("spawn")
        news, tell = context.Pipe(duplex=False)
        pause = pause_after(failures)
        process = context.Process(
            target=_run, args=(self._work, self._settings, self._listener, tell, pause)
        )
        process.start()
        tell.close()  # the process holds the other end, so that its end is heard
        self._workers.append(Worker(process, news, failures))
        if self._ending:  # a signal came meanwhile
            process.terminate()

    def _hear(self, connection: object) -> None:
        worker = next(each for each in self._workers if each.news is connection)
        try:
            worker.news.recv()
        except EOFError:
            self._replace(worker)
        else:
            worker.began = monotonic()
            self._answered = True

    def _replace(self, worker: Worker) -> None:
        worker.process.join()
        worker.news.close()
        self._workers.remove(worker)
        if self._ending:
            return
        about = {"pid": worker.process.pid, "status": worker.process.exitcode}
        why = f"worker {about['pid']} ended with the status {about['status']}"
        lived = None if worker.began is None else monotonic() - worker.began
        if lived is None:
            why += " before it answered"
        if not self._answered:
            why += ", and so would the others"
            write_record(logging.ERROR, why, {"event": "ended", **about})
            self._failed = True
            self._end()
            return
        failures = failures_after(worker.failures, lived)
        pause = pause_after(failures)
        why += f", and is replaced in {pause:g} s" if pause else ", and is replaced"
        write_record(logging.WARNING, why, {"event": "replaced", **about})
        self._start_again(failures)

    def _start_again(self, failures: int) -> None:
        """Start a replacement; where the machine cannot hold another process, try until it can."""
        while not self._ending:
            try:
                self._start(failures)
                return
            except OSError as error:
                why = f"a worker could not be started ({error}), and is tried again"
                write_record(logging.WARNING, why, {"event": "replaced"})
                sleep(SHORTEST_PAUSE)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._ending = True
        self._listener.close()  # the port is closed as soon as the workers have closed it
        for worker in list(self._workers):
            worker.process.terminate()


def _run(
    work: Work, settings: Settings, listener: socket.socket, tell: Connection, pause: float
) -> None:
    """What a worker does, until it is ended or has lost its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends it
    threading.Thread(target=_follow_parent, daemon=True).start()
    sleep(pause)
    work(settings, listener, tell)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
