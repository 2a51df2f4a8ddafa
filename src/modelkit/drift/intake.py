"""Rows on their way from the calls of a Monitor to its Detector."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import Any, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.detector import Detector, detector_of
from modelkit.drift.served import ServedCall, ServedForm, ServedRows, sizes_of
from modelkit.drift.state import Frozen
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import PERIODS
from modelkit.errors import PackageError, public_text
from modelkit.model.identity import identity_of
from modelkit.model.model import Model, Outputs

BUFFER = 256  # rows that are made into cells at once
SAMPLE_ROWS = 64  # rows that one call shows at most, drawn at random; all where units are judged
MOST_WAITING = 32  # steps that may wait for calls to do them, three for 256 rows
# Rows that may wait; a call that finds more does steps until they are fewer.
MOST_BUFFERED = 1 << 14
COUNTED_AT_ONCE = 1 << 17  # values of a large call, so that a step takes about a millisecond
STEP_ROWS = 256  # rows that are ranked at once: a step that takes no longer than to count them
BURST = 2.0  # seconds of the budget that may be saved up
OF_MONITOR = "monitor"  # the part of a state that a Monitor has and a Detector has not


@final
class Intake:
    """The calls that were served and not looked at yet, and the steps that look at them.

    Calls come in without a lock, and their steps are done under that of the Detector, by whoever
    finds it free: no call waits for another one's step, nor a signal handler for the thread that it
    interrupted. `shown` is the number of rows that are looked at, `failures` that of the errors of
    watching.

    Args:
        model: the Model whose calls are watched.
        tracker: what looks at their rows.
        budget: rows a second that may be looked at.
        monotonic: seconds of a clock that never goes back, for the budget.
    """

    __slots__ = (
        "__weakref__",
        "_accounted",
        "_arrived",
        "_budget",
        "_filled",
        "_form",
        "_monotonic",
        "_rng",
        "_served",
        "_waiting",
        "detector",
        "failures",
        "last_failure",
        "shown",
        "tracker",
    )

    def __init__(
        self,
        model: Model,
        tracker: Tracker,
        budget: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        tracker.ignored = tuple(model.signature.ignored)
        tracker.outbox.name, tracker.outbox.version, _ = identity_of(model)
        tracker.caught_up = self.caught_up
        self.tracker = tracker
        self.detector = detector_of(tracker)
        self._form = ServedForm(model.signature, tracker.profile.layout.wanted())
        self._monotonic = monotonic
        self._budget = RowBudget(budget, BUFFER + SAMPLE_ROWS, monotonic())
        self._rng = np.random.default_rng([tracker.seed, 1])  # draws the rows of large calls
        self._arrived: deque[ServedCall] = deque()
        self._filled = 0  # rows of them: only when a step is due goes by it
        self._accounted = 0  # rows of the calls that were taken from there
        self._waiting: deque[Callable[[], object]] = deque()
        self._served = 0
        self.shown = 0
        self.failures = 0
        self.last_failure: str | None = None

    @property
    def budget(self) -> float:
        """Rows a second that may be looked at."""
        return self._budget.rate

    @property
    def served(self) -> int:
        """The number of rows that were served; a handler that interrupts a step sees that before."""
        with self.tracker.lock:
            if not self.tracker.busy:
                self._served = self._accounted + sum(call.rows for call in self._arrived.copy())
            return self._served

    def sampled(self, rows: int) -> Array:
        """The numbers of the rows that a large call shows, in their order of arrival."""
        chosen: Array = self._rng.choice(rows, SAMPLE_ROWS, replace=False, shuffle=False)
        if self.tracker.thins:  # which goes by that order
            chosen.sort()
        return chosen

    def take(self, call: ServedCall) -> None:
        """Take a call, and do one of the steps that wait; more of them where too many rows wait."""
        self._arrived.append(call)
        self._filled += len(call.arrays[0])
        if self._filled < BUFFER and not self._waiting:
            return  # nothing was looked at, so that there is no alarm to send
        crowded = self._filled >= MOST_BUFFERED
        while self._turn(BUFFER, wait=crowded) and crowded:
            crowded = self._filled >= MOST_BUFFERED

    def count(self, call: ServedCall) -> None:
        """Count all rows of a large call, a part at a time, of which `take` takes those drawn."""
        first = call.arrays[0]
        values = first[:1].size + len(call.arrays)
        rows = max(COUNTED_AT_ONCE // values, 1)
        for start in range(0, len(first), rows):
            arrays = tuple([array[start : start + rows] for array in call.arrays])
            part = call._replace(arrays=arrays, rows=len(arrays[0]))
            with self.tracker.try_turn() as mine:
                if mine:
                    self._count(part)
                    continue
            # This thread is in the middle of a step, which a handler interrupted: count them later.
            copies = part._replace(arrays=tuple(map(np.ndarray.copy, arrays)))
            self._waiting.append(partial(self._count, copies))

    def _count(self, part: ServedCall) -> None:
        tracker = self.tracker
        try:
            found = self._form.encode(tracker.profile.layout, [part], 0)
            tracker.count(found.cells, found.strata, part.time)
        except Exception as error:  # as in `failed`
            self._lose(part, error)

    # Steps, which whoever calls has a turn for.

    def _turn(self, least: float, *, wait: bool) -> bool:
        """Do a step, and send the alarms that it raised; whether there was one to do.

        Nothing is done where another thread does one and this one does not `wait` for it, and where
        this thread is in the middle of one.
        """
        with self.tracker.try_turn(wait=wait) as mine:
            if not mine:
                return False
            done = self._step(least)
        self.tracker.outbox.send()
        return done

    def _step(self, least: float) -> bool:
        """Make cells of the next rows, where at least so many are buffered, or do what waits."""
        if self._arrived and self._filled >= least and len(self._waiting) < MOST_WAITING:
            self._account()
        elif self._waiting:
            try:
                self._waiting.popleft()()
            except Exception as error:  # as in `failed`
                self._fail(error)
        else:
            return False
        return True

    def _catch_up(self) -> None:
        """Look at what was served until now, step by step, and let calls come in between."""
        until = self.served
        while self._accounted < until and self._turn(0, wait=True):
            pass
        with self.tracker.try_turn() as mine:
            if mine:
                self._close_units()
        done: list[None] = []
        self._waiting.append(partial(done.append, None))  # after all steps that wait now
        while not done and self._turn(inf, wait=True):
            pass

    @contextmanager
    def caught_up(self) -> Iterator[None]:
        """Look at all that was served until now, and take no other call meanwhile.

        Raises UsageError where this thread is in the middle of a step.
        """
        self._catch_up()
        with self.tracker.turn():
            while self._step(0):
                pass
            yield

    def up_to_date(self) -> Detector:
        """The detector, with all that was served until now."""
        self._catch_up()
        return self.detector

    def failed(self, error: Exception) -> None:
        """Count an error of watching, which must reach nobody who asked the model."""
        with self.tracker.lock:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failures += 1
        self.last_failure = public_text(error)

    def _lose(self, call: ServedCall, error: Exception) -> None:
        """Count an error of reading a call, whose rows have their numbers all the same."""
        self._fail(error)
        if not call.counted:
            self.tracker.counted += call.rows

    # The rows of the buffer: counted at once, and looked at in steps within the budget.

    def _account(self) -> None:
        """Make cells of the next buffered rows and count them; within the budget, queue them."""
        calls: list[ServedCall] = []
        rows = 0
        while self._arrived and rows < BUFFER:
            call = self._arrived.popleft()
            calls.append(call)
            rows += len(call.arrays[0])
        self._filled = sum(sizes_of(self._arrived.copy()))
        before = self._accounted
        self._accounted += sum(call.rows for call in calls)
        self._look_at(calls, before)

    def _look_at(self, calls: list[ServedCall], before: int) -> None:
        """Take calls; where they cannot be read together, those that can be read by themselves."""
        try:
            found = self._read(calls, before)
        except Exception as error:  # as in `failed`
            if len(calls) == 1:
                self._lose(calls[0], error)
                return
            for call in calls:
                self._look_at([call], before)
                before += call.rows
            return
        try:
            self._take_in(found, calls)
        except Exception as error:  # as in `failed`
            self._fail(error)

    def _read(self, calls: list[ServedCall], before: int) -> ServedRows:
        """The cells of calls. Raises what their rows raise; nothing is changed."""
        tracker = self.tracker
        found = self._form.encode(tracker.profile.layout, calls, before)
        if tracker.units is not None:
            tracker.units.strata_of(found.units, found.strata)
        return found

    def _take_in(self, found: ServedRows, calls: Sequence[ServedCall]) -> None:
        tracker = self.tracker
        sizes = sizes_of(calls)
        n = len(found.places)
        new: slice | Array = slice(None)
        if any(call.counted for call in calls):
            new = np.repeat([not call.counted for call in calls], sizes)
        strata = None if found.strata is None else found.strata[new]
        tracker.count(found.cells[new], strata, found.places[new, 1])
        if tracker.units is not None:
            self.shown += n
            tracker.units.take(found.cells, found.strata, found.units)
            self._judge_later()
            self._queue_estimates(found.answers)
        elif self._budget.allows(n, self._monotonic()):
            self.shown += n
            self._queue_estimates(found.answers)
            self._queue_rows(found, sizes)

    def _queue_rows(self, found: ServedRows, sizes: Sequence[int]) -> None:
        """Queue what it takes to look at rows; `sizes` are those of their calls."""
        tracker = self.tracker
        cells, order = tracker.arrange(found.cells, found.strata, sizes)
        places = found.places
        strata = found.strata
        if order is not None:
            cells = cells[order]
            places[:, 1] = places[order, 1]
            strata = None if strata is None else strata[order]
        for start in range(0, len(cells), STEP_ROWS):
            part = slice(start, start + STEP_ROWS)
            own = None if strata is None else strata[part]
            self._waiting.append(partial(tracker.rank, cells[part], own, places[part]))
            self._waiting.append(tracker.settle)

    def _queue_estimates(self, shown: Sequence[Outputs]) -> None:
        tracker = self.tracker
        if tracker.profile.calibration is None:
            return
        for answers in shown:
            if "probabilities" in answers:
                self._waiting.append(partial(tracker.expect, answers))

    # Days and weeks, by the clock.

    def begin(self) -> None:
        """Leave out the day or the week that is under way, of which earlier rows were not seen."""
        tracker = self.tracker
        if tracker.profile.unit in PERIODS:
            tracker.of_units().begin(tracker.now())

    def _close_units(self) -> None:
        tracker = self.tracker
        if tracker.profile.unit in PERIODS:
            try:
                tracker.of_units().come_to(tracker.now())
            except Exception as error:  # as in `failed`
                self._fail(error)
            self._judge_later()

    def _judge_later(self) -> None:
        """Queue what it takes to judge the units that are complete, a part a step."""
        if self.tracker.of_units().waits:
            self._waiting.append(self._judge)

    def _judge(self) -> None:
        if self.tracker.of_units().waits:
            self.tracker.judge_part()
            self._waiting.appendleft(self._judge)

    # To go on from later.

    def state(self) -> bytes:
        """Everything that changes: the state of the detector, with a part for the Monitor."""
        tracker = self.tracker
        with self.caught_up():
            own = {
                "served": self._accounted,
                "shown": self.shown,
                "failures": self.failures,
                "at": tracker.now(),
                "sample": self._rng.bit_generator.state,
            }
            tracker.settle()
            known = Frozen.of(tracker)
        tracker.outbox.send()
        return known.packed({OF_MONITOR: own})

    def restore(self, about: Mapping[str, Any]) -> None:
        """Go on from what `state` packed beside the detector's own part.

        Raises PackageError where a Detector packed it, or it cannot be read.
        """
        own = about.get(OF_MONITOR)
        if own is None:
            raise PackageError(
                "this is the state of a Detector, which does not say how many rows a Monitor had "
                "served: take that of monitor.state()"
            )
        try:
            self._accounted = int(own["served"])
            self.shown = int(own["shown"])
            self.failures = int(own["failures"])
            self._rng.bit_generator.state = own["sample"]
            since = float(own["at"])
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise PackageError(f"this is not a state of a Monitor: {error!r}") from error
        tracker = self.tracker
        if tracker.profile.unit in PERIODS:
            tracker.of_units().go_on(since, tracker.now())


@final
class RowBudget:
    """Rows a second; what is not used is saved up for two seconds.

    Args:
        rate: rows a second, 0 for none at all.
        at_once: the most rows that are asked for at once, of which none would be seen otherwise.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, rate: float, at_once: int, now: float) -> None:
        self.rate = rate
        self._saved = rate * BURST
        self._since = now
        self._most = max(rate * BURST, at_once) if rate else 0.0

    def allows(self, rows: int, now: float) -> bool:
        """Whether so many rows may be looked at now; they are then spent."""
        earned = (now - self._since) * self.rate
        self._saved = min(self._saved + earned, self._most)
        self._since = now
        if self._saved < rows:
            return False
        self._saved -= rows
        return True
