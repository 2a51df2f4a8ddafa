"""Runs the candidate on copies of rows, in a thread of its own that ends when nothing is to do.

Nothing here delays a call or raises into one: where the queue is full, a call is not shadowed, and
counted.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, final

import numpy as np

from modelkit._internal.process import watch_exit
from modelkit.errors import SignatureError
from modelkit.lifecycle.rollout.counting import Counters, kind_of_error
from modelkit.lifecycle.rollout.guards import DISAGREEMENTS, REFUSED_EVENTS, Guard
from modelkit.lifecycle.rollout.outcomes import Outcomes, size_of
from modelkit.lifecycle.rollout.routing import hash_of
from modelkit.model.model import Call, Model, Outputs
from modelkit.signature.signature import Feeds

MOST_WAITING = 64  # calls; a caller of more than it can run is shadowed in part
MOST_HELD = 1 << 26  # bytes of their rows, from which on none is added
IDLE = 0.05  # seconds after which the thread ends
PATIENCE = 10.0  # seconds that the end of the interpreter waits for a run

Job = tuple[Feeds, Outputs, str | None]  # the rows, the champion's answers, and the key


@final
class Shadow:
    """The queue of copies, and its thread.

    Args:
        candidate: the Model that runs.
        counters: count what was bad.
        guards: what is watched.
        salt: of the hashes of keys.
        outcomes: keep both answers of a key; None where no losses will come.

    Attributes:
        dropped: the calls that were not shadowed, since the queue was full.
        failures: the errors of the comparison itself.
    """

    def __init__(
        self,
        candidate: Model,
        counters: Counters,
        guards: tuple[Guard, ...],
        salt: bytes,
        outcomes: Outcomes | None,
    ) -> None:
        self.dropped = 0
        self.failures = 0
        self._signature = candidate.signature
        self._candidate: Model | None = candidate
        self._counters = counters
        self._salt = salt
        self._outcomes = outcomes
        watched = (guard.tolerance for guard in guards if guard.name == DISAGREEMENTS)
        self._tolerance = next(watched, None)
        self._jobs: deque[Job] = deque()
        self._held = 0
        self._open = True
        self._work = threading.Condition()
        self._running = False
        watch_exit(self)

    def copy(self, X: Any) -> Feeds | SignatureError | None:
        """The rows of a call as arrays of our own, or why the candidate refuses them.

        None where the call is not shadowed.
        """
        if len(self._jobs) >= MOST_WAITING or self._held >= MOST_HELD:
            self.dropped += 1
            return None
        try:
            feeds = self._signature.coerce(X)
        except SignatureError as error:
            return error
        except Exception:  # it must not reach the caller
            self.failures += 1
            return None
        return {name: feed.copy() for name, feed in feeds.items()}

    def note(self, key: str | None) -> None:
        """Remember that the champion answered a key.

        A loss of it may come when an arm has answered the key again, whose loss that is not.
        """
        if key is None or self._outcomes is None:
            return
        unit = hash_of(key, self._salt)
        self._outcomes.answered_in_shadow(unit)
        self._counters.keys.note(unit)

    def offer(self, rows: Feeds | SignatureError, answers: Outputs, key: str | None) -> None:
        """Let the candidate run on rows that the champion answered."""
        if isinstance(rows, SignatureError):
            self._counters.shadowed({REFUSED_EVENTS})
            return
        with self._work:
            if not self._open:
                return
            self._jobs.append((rows, answers, key))
            self._held += size_of(rows)
            self._work.notify()
            if self._running:
                return
            self._running = True
        thread = threading.Thread(target=self._run, name="modelkit-shadow", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._running = False

    def stop(self) -> None:
        """Run nothing more; what runs now is not waited for."""
        with self._work:
            self._open = False
            self._candidate = None  # who asks later how it ended keeps no Model
            self._jobs.clear()
            self._held = 0
            self._work.notify_all()

    def at_exit(self) -> None:
        """Run nothing more, and wait for what runs now."""
        self.stop()
        self.wait(PATIENCE)

    def after_fork(self) -> None:
        """Begin again in the child of a fork, which lacks a thread."""
        self._work = threading.Condition()
        self._running = False
        self._jobs.clear()
        self._held = 0

    def wait(self, timeout: float) -> bool:
        """Wait until nothing is left to run; returns whether that is so."""
        with self._work:
            return self._work.wait_for(lambda: not self._running, timeout)

    def _run(self) -> None:
        while True:
            with self._work:
                if self._open and not self._jobs:
                    self._work.wait(IDLE)
                candidate = self._candidate
                if candidate is None or not self._jobs:
                    self._running = False
                    self._work.notify_all()
                    return
                job = self._jobs.popleft()
                self._held -= size_of(job[0])
            try:
                self._compare(candidate, *job)
            except BaseException:  # of the comparison; nobody waits for it
                self.failures += 1

    def _compare(self, candidate: Model, rows: Feeds, answers: Outputs, key: str | None) -> None:
        known = set(self._counters.bad_answers(answers))
        try:
            found = candidate._call(self._signature.columns(rows), (*answers,), Call(None, -1, key))
        except Exception as error:  # it is what is counted
            kind = kind_of_error(error)
            if kind is not None:
                self._counters.shadowed({kind})
            return
        bad = {*self._counters.bad_answers(found)} - known
        if self._tolerance is not None and differs(answers, found, self._tolerance):
            bad.add(DISAGREEMENTS)
        self._counters.shadowed(bad, known)
        if self._outcomes is not None and key is not None:
            self._outcomes.both_answered(hash_of(key, self._salt), answers, found)


def differs(one: Outputs, other: Outputs, tolerance: float) -> bool:
    """Whether two answers differ in a label, or by more than the tolerance in a number."""
    for name, array in one.items():
        against = other[name]
        if array.shape != against.shape:
            return True
        if array.dtype.kind != "f":
            if not np.array_equal(array, against):
                return True
        elif not np.allclose(array, against, rtol=0, atol=tolerance, equal_nan=True):
            return True
    return False
