"""The Watch that a Detector has now: rows, labels and times are taken by it, or by its successor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

from modelkit.drift import continued
from modelkit.drift.call_marks import call_answers, call_columns, marks_of
from modelkit.drift.encoding import to_cells
from modelkit.drift.labelled_rows import LabelledCall
from modelkit.drift.order import Order
from modelkit.drift.profile import Profile
from modelkit.drift.row_times import given_seconds
from modelkit.drift.values import Alarm
from modelkit.drift.watch import Watch

CaughtUp = Callable[[], AbstractContextManager[None]]


@final
class Current:
    """The Watch of one Detector. `rebase` puts another in its place, from any thread.

    What is read by the profile of one Watch is never given to another one. In a context of
    `caught_up` nothing waits to be taken, and nothing comes in: an Intake sets it.
    """

    __slots__ = ("caught_up", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.caught_up: CaughtUp = nullcontext

    @contextmanager
    def held(self) -> Iterator[Watch]:
        """The Watch, which no other thread changes or replaces meanwhile."""
        while True:
            watch = self.watch
            with watch.lock:
                if watch is self.watch:
                    yield watch
                    return

    def take(
        self,
        X: Any,
        scores: Any,
        order: Order,
        at: Any,
    ) -> list[Alarm]:
        """Take the rows of one call; see `Detector.update`."""
        while True:
            watch = self.watch
            marks = marks_of(watch.profile, call_columns(watch.profile, X, scores), at)
            cells, strata = to_cells(watch.profile, marks.columns)
            estimate = watch.label_free.of(call_answers(watch.profile, scores))  # may refuse them
            now = watch.chronicle.now() if marks.seconds is None else marks.seconds
            with watch.lock:  # so that no state and no new reference has a part of a call
                if watch is not self.watch:
                    continue
                if marks.parts is not None:  # which may be refused
                    watch.of_units().stream.check_ahead(marks.parts)
                    new = watch.push_units(cells, strata, marks.parts, order)
                watch.label_free.add(estimate)
                watch.count(cells, strata, now)
                if marks.parts is None:
                    new = watch.push(cells, strata, order, now)
                return new

    def take_labels(
        self,
        y: Any,
        predicted: Any,
        losses: Any,
        order: Order,
        at: Any,
    ) -> list[Alarm]:
        """Take the labels of one call; see `Detector.update_labels`."""
        while True:
            watch = self.watch
            labels = LabelledCall.read(watch.profile, y, predicted, losses)
            given = None if at is None else given_seconds(at, labels.rows)
            times = watch.times_of(given, labels.rows)
            with watch.lock:
                if watch is self.watch:
                    return watch.push_labels(labels, times, order)

    def come_to(self, second: float) -> list[Alarm]:
        """Judge the day or the week that has ended by a second."""
        with self.held() as watch:
            return watch.judged(watch.of_units().stream.come_to(second))

    def rebase(
        self,
        profile: Profile,
        reason: str,
        alpha: float | None,
    ) -> None:
        """Compare with another reference from now on; what waits is compared with the old one."""
        with self.caught_up(), self.held() as watch:
            self.watch = continued.rebased(watch, profile, reason, alpha)
