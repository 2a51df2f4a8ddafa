"""Several processes that answer at one port."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from time import monotonic
from types import FrameType

from modelkit._internal.logs import write_record
from modelkit.cli.settings import Settings

Work = Callable[[Settings, socket.socket, Connection], None]
STEADY = 10.0  # seconds after which a worker that ends counts as one that worked
SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
TURN = 0.2  # seconds between looks at whether a signal came, while a worker is due


@dataclass
class Worker:
    """A process that answers; `told` gets a message when it begins, and its end when it ends.

    Attributes:
        failures: how many before it, one after the other, ended as soon as they were there.
        began: when it began to answer, or None.
    """

    process: SpawnProcess
    told: Connection
    failures: int = 0
    began: float | None = None


def failures_after(failures: int, lived: float | None) -> int:
    """How many workers ended too soon in a row, when one has answered for so many seconds, or never."""
    return 0 if lived is not None and lived >= STEADY else failures + 1


def pause_after(failures: int) -> float:
    """The seconds before the next worker is started: none, or twice as many as the last time."""
    return min(LONGEST_PAUSE, SHORTEST_PAUSE * 2.0 ** min(failures - 1, 10)) if failures else 0.0


class Processes:
    """Equal processes. One that ends is replaced; before any has answered, it ends them all.

    One that ends before it answers, or soon after, is tried again after a pause that grows.

    Args:
        work: what each of them does, given the settings, the socket and where to tell that it
            has begun.
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
        self._due: list[tuple[float, int]] = []  # when to start which others, by their failures
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
        while self._workers or self._due:
            turn = TURN if self._due else None
            for connection in wait([worker.told for worker in self._workers], turn):
                self._hear(connection)
            self._start_due()
            if starting and not self._ending and self._all_answer():
                starting = False
                self._says_started()
        return not self._failed

    def _all_answer(self) -> bool:
        return not self._due and all(each.began is not None for each in self._workers)

    def _start_due(self) -> None:
        """Start the replacements whose pause is over; where none can be started, pause again."""
        now = monotonic()
        due, self._due = self._due, [each for each in self._due if each[0] > now]
        for at, failures in due:
            if at > now or self._ending:
                continue
            try:
                self._start(failures)
            except OSError as error:  # the machine has no room for another process
                self._put_off(failures + 1, f"a worker could not be started ({error})", {})

    def _start(self, failures: int) -> None:
        context = multiprocessing.get_context("spawn")
        told, tell = context.Pipe(duplex=False)
        process = context.Process(
            target=_run, args=(self._work, self._settings, self._listener, tell)
        )
        process.start()
        tell.close()  # the process holds the other end, so that its end is heard
        self._workers.append(Worker(process, told, failures))
        if self._ending:  # a signal came meanwhile
            process.terminate()

    def _hear(self, connection: object) -> None:
        worker = next(each for each in self._workers if each.told is connection)
        try:
            worker.told.recv()
        except EOFError:
            self._replace(worker)
        else:
            worker.began = monotonic()
            self._answered = True

    def _replace(self, worker: Worker) -> None:
        worker.process.join()
        worker.told.close()
        self._workers.remove(worker)
        if self._ending:
            return
        ended = {"pid": worker.process.pid, "status": worker.process.exitcode}
        why = f"worker {ended['pid']} ended with the status {ended['status']}"
        lived = None
        if worker.began is None:
            why += " before it answered"
        else:
            lived = monotonic() - worker.began
        if self._answered:
            self._put_off(failures_after(worker.failures, lived), why, ended)
            return
        write_record(logging.ERROR, f"{why}, and so would the others", {"event": "ended", **ended})
        self._failed = True
        self._end()

    def _put_off(self, failures: int, why: str, about: Mapping[str, object]) -> None:
        """Let a worker be started when the pause after so many failures is over."""
        pause = pause_after(failures)
        when = f" in {pause:g} s" if pause else ""
        write_record(
            logging.WARNING, f"{why}, and is replaced{when}", {"event": "replaced", **about}
        )
        self._due.append((monotonic() + pause, failures))

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._ending = True
        self._due = []
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
