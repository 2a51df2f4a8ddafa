"""The Watch that a Detector has now: rows, labels and times are taken by it, or by its successor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, final

from modelkit._internal.process import watch_forks
from modelkit.drift import continued
from modelkit.drift.call_marks import call_answers, call_columns, marks_of
from modelkit.drift.encoding import to_cells
from modelkit.drift.labelled_rows import LabelledCall
from modelkit.drift.order import Order
from modelkit.drift.profile import Profile
from modelkit.drift.row_times import given_seconds
from modelkit.drift.values import Alarm
from modelkit.drift.watch import Watch
from modelkit.errors import UsageError

Turn = Callable[[], AbstractContextManager[Watch]]


@final
class Current:
    """The Watch of one Detector, and the one lock of it. `rebase` puts another in its place.

    What is read by the profile of one Watch is never given to another one. In a context of
    `caught_up` nothing waits to be taken, and nothing comes in: an Intake sets it. `busy` says that
    a thread is changing what is known; a signal handler or a finalizer that interrupts it there
    gets the lock, and may read, but not change anything.
    """

    __slots__ = ("__weakref__", "busy", "caught_up", "lock", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.lock = threading.RLock()
        self.busy = False
        self.caught_up: Turn = self.changing
        watch_forks(self)

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self.lock = threading.RLock()
        self.busy = False

    @contextmanager
    def turn(self, *, wait: bool = True) -> Iterator[Watch | None]:
        """The Watch, for this thread to change.

        None where another thread changes it and this one does not `wait`, and where this thread is
        changing it already.
        """
        if not self.lock.acquire(blocking=wait):
            yield None
            return
        try:
            busy = self.busy
            try:
                self.busy = True
                yield None if busy else self.watch
            finally:
                self.busy = busy
        finally:
            self.lock.release()

    @contextmanager
    def changing(self) -> Iterator[Watch]:
        """The Watch, for this thread to change.

        Raises UsageError where it is changing it already.
        """
        with self.turn() as watch:
            if watch is None:
                raise UsageError(
                    "a signal handler or a finalizer interrupted this Detector while it took rows "
                    "or labels: show it others, take its state or change its reference after the "
                    "handler"
                )
            yield watch

    def copied(self) -> Watch:
        """What is known now, as a Watch that nobody changes: to report on without the lock."""
        with self.lock:
            return self.watch.copied()

    def take(self, X: Any, scores: Any, order: Order, at: Any) -> list[Alarm]:
        """Take the rows of one call; see `Detector.update`."""
        while True:
            watch = self.watch
            marks = marks_of(watch.profile, call_columns(watch.profile, X, scores), at)
            cells, strata = to_cells(watch.profile, marks.columns)
            estimate = watch.label_free.of(call_answers(watch.profile, scores))  # may refuse them
            now = watch.chronicle.now() if marks.seconds is None else marks.seconds
            with self.changing() as current:  # so that no state or reference has a part of a call
                if watch is not current:
                    continue
                if marks.parts is not None:  # which may be refused
                    watch.of_units().check_ahead(marks.parts)
                    new = watch.push_units(cells, strata, marks.parts, order)
                watch.label_free.add(estimate)
                watch.count(cells, strata, now)
                if marks.parts is None:
                    new = watch.push(cells, strata, order, now)
                return new

    def take_labels(
        self, y: Any, predicted: Any, losses: Any, order: Order, at: Any
    ) -> list[Alarm]:
        """Take the labels of one call; see `Detector.update_labels`."""
        while True:
            watch = self.watch
            labels = LabelledCall.read(watch.profile, y, predicted, losses)
            given = None if at is None else given_seconds(at, labels.rows)
            times = watch.times_of(given, labels.rows)
            with self.changing() as current:
                if watch is current:
                    return watch.push_labels(labels, times, order)

    def come_to(self, second: float) -> list[Alarm]:
        """Judge the day or the week that has ended by a second."""
        with self.changing() as watch:
            watch.of_units().come_to(second)
            return watch.settle()

    def rebase(self, profile: Profile, reason: str, alpha: float | None) -> None:
        """Compare with another reference from now on; what waits is compared with the old one."""
        with self.caught_up() as watch:
            self.watch = continued.rebased(watch, profile, reason, alpha)
