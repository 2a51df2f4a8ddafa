"""Rows on their way from the calls of a Monitor to its Detector."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, final

import numpy as np

from modelkit import forks
from modelkit.cast import Array
from modelkit.drift.current import Current
from modelkit.drift.detector import Detector, detector_of
from modelkit.drift.outputs import ServedCall
from modelkit.drift.row_budget import RowBudget
from modelkit.drift.served_form import BufferedCells, ServedForm
from modelkit.drift.units import PERIODS, together
from modelkit.drift.watch import Watch
from modelkit.errors import DriftError
from modelkit.identity import identity_of
from modelkit.model import Model, Outputs

BUFFER = 256  # rows that are made into cells at once
SAMPLE_ROWS = 64  # rows that one call shows at most, drawn at random; all where units are judged
MOST_WAITING = 32  # steps that may wait for calls to do them, three for 256 rows
OF_MONITOR = "monitor"  # the part of a state that a Monitor has and a Detector has not


@final
class Intake:
    """The calls that were served and not looked at yet, and the steps that look at them.

    A lock guards it, which is taken before that of the Watch. `served` and `shown` are the numbers
    of rows, `failures` that of the errors of watching.

    Args:
        model: the Model whose calls are watched.
        watch: what looks at their rows.
        budget: rows a second that may be looked at.
        clock: tells the time of rows, in POSIX seconds.
    """

    __slots__ = (
        "__weakref__",
        "_accounted",
        "_budget",
        "_buffer",
        "_current",
        "_filled",
        "_form",
        "_lock",
        "_rng",
        "_untold",
        "_waiting",
        "clock",
        "detector",
        "failures",
        "last_failure",
        "served",
        "shown",
    )

    def __init__(
        self,
        model: Model,
        watch: Watch,
        budget: float,
        clock: Callable[[], float],
    ) -> None:
        watch.ignored = tuple(model.signature.ignored)
        watch.untold.name, watch.untold.version, _ = identity_of(model)
        self._untold = watch.untold
        self._current = Current(watch)
        self._current.caught_up = self.caught_up
        self.detector = detector_of(self._current)
        self.clock = clock
        self._form = ServedForm(model.signature, watch.profile.wanted())
        self._budget = RowBudget(budget, BUFFER + SAMPLE_ROWS)
        self._rng = np.random.default_rng([watch.seed, 1])  # draws the rows of large calls
        self._lock = threading.Lock()
        self._buffer: list[ServedCall] = []
        self._filled = 0
        self._accounted = 0  # rows served until the buffer was last emptied
        self._waiting: deque[Callable[[], object]] = deque()
        self.served = 0
        self.shown = 0
        self.failures = 0
        self.last_failure: str | None = None
        forks.watch(self)

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self._lock = threading.Lock()

    @property
    def watch(self) -> Watch:
        """What the detector knows; `Detector.rebase` puts another in its place."""
        return self._current.watch

    @property
    def budget(self) -> float:
        """Rows a second that may be looked at."""
        return self._budget.rate

    def sampled(self, rows: int) -> Array:
        """The numbers of the rows that a large call shows, in their order of arrival."""
        chosen: Array = self._rng.choice(rows, SAMPLE_ROWS, replace=False, shuffle=False)
        if self.watch.thins:  # which goes by that order
            chosen.sort()
        return chosen

    def take(
        self,
        call: ServedCall,
        seen: int,
    ) -> None:
        """Take a call that shows so many rows, and do one of the steps that wait."""
        with self._lock:
            self.served += call[2]
            self._buffer.append(call)
            self._filled += seen
            if self._filled >= BUFFER:
                self._account()
            elif self._waiting:
                self._waiting.popleft()()
            else:  # nothing was looked at, so that there is no alarm to tell of
                return
        self._untold.tell()

    @contextmanager
    def caught_up(self) -> Iterator[None]:
        """Look at all that was served until now, and take no other call meanwhile."""
        with self._lock:
            try:
                self._account()
                while self._waiting:
                    self._waiting.popleft()()
                self._close_units()
            except Exception as error:  # noqa: BLE001 - as in `failed`
                self._fail(error)
            yield

    def up_to_date(self) -> Detector:
        """The detector, with all that was served until now."""
        try:
            with self.caught_up():
                pass
            self._untold.tell()
        except Exception as error:  # noqa: BLE001 - as in `failed`
            self.failed(error)
        return self.detector

    def failed(self, error: Exception) -> None:
        """Count an error of watching, which must reach nobody who asked the model."""
        with self._lock:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        self.last_failure = f"{type(error).__name__}: {error}"
        self._buffer = []
        self._filled = 0
        self._accounted = self.served

    # The rows of the buffer: counted at once, and looked at in steps within the budget.

    def _account(self) -> None:
        """Make cells of the buffered rows and count them; within the budget, queue them."""
        buffer = self._buffer
        self._buffer = []
        self._filled = 0
        before = self._accounted
        self._accounted = self.served
        if not buffer:
            return
        watch = self.watch
        found = self._form.made_into_cells(watch.profile, buffer, before)
        n = len(found.places)
        watch.count(found.cells, found.strata, found.places[:, 1])
        if watch.profile.unit is not None:
            self.shown += n
            watch.push_units(found.cells, found.strata, together(found.parts))
            self._queue_estimates(found.answers)
            return
        if self._budget.allows(n) and len(self._waiting) < MOST_WAITING:
            self.shown += n
            sizes = [len(arrays[0]) for _, arrays, _, _ in buffer]
            self._queue(found, sizes)

    def _queue(
        self,
        found: BufferedCells,
        sizes: Sequence[int],
    ) -> None:
        """Let the steps that show rows to the detector wait for calls to do them."""
        self._queue_estimates(found.answers)
        self._waiting.extend(found.steps(self.watch, sizes))

    def _queue_estimates(self, shown: Sequence[Outputs]) -> None:
        watch = self.watch
        if watch.profile.calibration is None or len(self._waiting) >= MOST_WAITING:
            return
        for answers in shown:
            if "probabilities" in answers:
                self._waiting.append(partial(watch.expect, answers))

    # Days and weeks, which the clock tells.

    def begin(self) -> None:
        """Leave out the day or the week that is under way, of which earlier rows were not seen."""
        watch = self.watch
        if watch.profile.unit in PERIODS:
            watch.of_units().stream.begin(watch.chronicle.now())

    def _close_units(self) -> None:
        watch = self.watch
        if watch.profile.unit in PERIODS:
            with watch.lock:
                watch.judged(watch.of_units().stream.come_to(watch.chronicle.now()))

    # To go on from later.

    def state(self) -> bytes:
        """Everything that changes: the state of the detector, with a part for the Monitor."""
        with self.caught_up():
            own = {
                "served": self.served,
                "shown": self.shown,
                "failures": self.failures,
                "at": self.watch.chronicle.now(),
                "sample": self._rng.bit_generator.state,
            }
            packed = self.watch.state({OF_MONITOR: own})
        self._untold.tell()
        return packed

    def restore(self, about: Mapping[str, Any]) -> None:
        """Go on from what `state` packed beside the detector's own part.

        Raises DriftError where a Detector packed it.
        """
        own = about.get(OF_MONITOR)
        if own is None:
            raise DriftError(
                "this is the state of a Detector, which does not say how many rows a Monitor had "
                "served: take that of monitor.state()"
            )
        try:
            self.served = int(own["served"])
            self.shown = int(own["shown"])
            self.failures = int(own["failures"])
            self._rng.bit_generator.state = own["sample"]
            since = float(own["at"])
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise DriftError(f"this is no state of a Monitor: {error!r}") from error
        self._accounted = self.served
        watch = self.watch
        if watch.profile.unit in PERIODS:
            watch.of_units().stream.go_on(since, watch.chronicle.now())
