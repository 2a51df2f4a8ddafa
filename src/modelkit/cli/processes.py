"""Several processes that answer at one port."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType

from modelkit.cli.settings import Settings

Work = Callable[[Settings, socket.socket, Connection], None]


@dataclass
class Worker:
    """A process that answers; `told` gets a message when it begins, and its end when it ends."""

    process: SpawnProcess
    told: Connection
    started: bool = False


class Processes:
    """Equal processes. One that ends unasked is replaced; one that cannot begin ends them all.

    Args:
        work: what each of them does, given the settings, the socket and where to tell that it
            has begun.
        settings: how many there are, and what they serve.
        listener: the socket that all of them listen at.
        started: called once, when all have begun.
    """

    def __init__(
        self,
        work: Work,
        settings: Settings,
        listener: socket.socket,
        started: Callable[[], object],
    ) -> None:
        self._work = work
        self._settings = settings
        self._listener = listener
        self._says_started = started
        self._workers: list[Worker] = []
        self._ending = False
        self._failed = False

    def run(self) -> bool:
        """Run until a signal ends it; returns whether all could begin."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_signal)
        for _ in range(self._settings.workers):
            self._start()
        starting = True
        while self._workers:
            for connection in wait([worker.told for worker in self._workers]):
                self._hear(connection)
            if starting and not self._ending and all(each.started for each in self._workers):
                starting = False
                self._says_started()
        return not self._failed

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        told, tell = context.Pipe(duplex=False)
        process = context.Process(
            target=_run, args=(self._work, self._settings, self._listener, tell)
        )
        process.start()
        tell.close()  # the process holds the other end, so that its end is heard
        self._workers.append(Worker(process, told))
        if self._ending:  # a signal came meanwhile
            process.terminate()

    def _hear(self, connection: object) -> None:
        worker = next(each for each in self._workers if each.told is connection)
        try:
            worker.told.recv()
        except EOFError:
            self._replace(worker)
        else:
            worker.started = True

    def _replace(self, worker: Worker) -> None:
        worker.process.join()
        worker.told.close()
        self._workers.remove(worker)
        if self._ending:
            return
        if worker.started:
            self._start()
            return
        self._failed = True
        self._end()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._ending = True
        self._listener.close()  # the port is closed as soon as the workers have closed it
        for worker in list(self._workers):
            worker.process.terminate()


def _run(work: Work, settings: Settings, listener: socket.socket, tell: Connection) -> None:
    """What a worker does, until it is told to end or has lost its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends it
    threading.Thread(target=_follow_parent, daemon=True).start()
    work(settings, listener, tell)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
