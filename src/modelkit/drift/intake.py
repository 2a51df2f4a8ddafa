"""Rows on their way from the calls of a Monitor to its Detector."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import compress
from math import inf
from typing import NamedTuple, final

import numpy as np

from modelkit._internal.arrays import Array
from modelkit.drift.alpha import BLOCK_ROWS
from modelkit.drift.cells import ABSENT
from modelkit.drift.detector import detector_of
from modelkit.drift.labelfree import estimate_of, with_rows
from modelkit.drift.layout import Layout
from modelkit.drift.outputs import output_columns
from modelkit.drift.row_times import clock_seconds
from modelkit.drift.tracker import Tracker
from modelkit.drift.units import PERIODS, UnitRows, together
from modelkit.drift.vectors import expand
from modelkit.errors import public_text
from modelkit.model.identity import identity_of
from modelkit.model.model import Model, Outputs
from modelkit.signature.cast import F4, F8

BUFFER = 256  # rows that are made into cells at once
SAMPLE_ROWS = 64  # rows that one call shows at most, drawn at random; all where units are judged
MOST_WAITING = 32  # steps that may wait for calls to do them
MOST_BUFFERED = 1 << 14  # rows that may wait; a call that finds more does steps
COUNTED_AT_ONCE = 1 << 17  # values of a large call, so that a step takes about a millisecond
BET_AT_ONCE = 20_000  # values, so that a step takes no longer than to count 256 rows
LARGE_CALL = 48  # rows of a call that does two steps, for 256 rows may take more than four
BURST = 2.0  # seconds of the budget that may be saved up


class ServedCall(NamedTuple):
    """A call of a Monitor.

    `names` are the outputs that it asked for, `arrays` its arrays, inputs first, `rows` how many
    it had, and `time` when it was, in POSIX seconds. Where `counted`, all rows are counted already
    and the arrays hold those that were drawn.
    """

    names: tuple[str, ...]
    arrays: tuple[Array, ...]
    rows: int
    time: float
    counted: bool = False


class ServedRows(NamedTuple):
    """The n rows of several calls as cells; `sizes` are the numbers of rows that calls have arrays of.

    `cells`, `strata` and `units` are as in `Rows`, and `places` as `places_of_calls` gives them.
    `answers` has the model's answers by output, for each group of calls with the same outputs.
    """

    sizes: Array
    cells: Array
    strata: Array | None
    places: Array
    units: list[UnitRows]
    answers: list[Outputs]


@final
class Intake:
    """The calls that were served and not looked at yet, and the steps that look at them.

    Calls come in without a lock, and their steps are done under the Detector's lock, by whoever
    finds it free: no call waits for another one's step, nor a signal handler for the thread that it
    interrupted. `shown` counts rows that are looked at, and `since` is when the state was taken.

    Args:
        model: the Model whose calls are watched.
        tracker: what looks at their rows.
        budget: rows a second that may be looked at.
        monotonic: seconds of a clock that never goes back, for the budget.
    """

    changing = ("_accounted", "_rng", "failures", "shown", "since")

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
        self._signature = model.signature
        self._wanted = tracker.profile.layout.wanted()  # as of every reference that may follow
        self._monotonic = monotonic
        self.budget = RowBudget(budget, BUFFER + SAMPLE_ROWS, monotonic())
        self._rng = np.random.default_rng([tracker.seed, 1])  # draws the rows of large calls
        self._arrived: deque[ServedCall] = deque()
        self._filled = 0  # rows of them: only when a step is due goes by it
        self._accounted = 0  # rows of the calls that were taken from there
        self._waiting: deque[Callable[[], object]] = deque()
        self._served = 0
        self.since = 0.0
        self.shown = 0
        self.failures = 0
        self.last_failure: str | None = None

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
        """Take a call, and do a step that waits, or two; more where too many rows wait."""
        rows = len(call.arrays[0])
        self._arrived.append(call)
        self._filled += rows
        if self._filled < BUFFER and not self._waiting:
            return  # nothing was looked at, so that there is no alarm to send
        for _ in range(2 if rows >= LARGE_CALL else 1):
            self._turn(BUFFER, wait=False)
        while self._filled >= MOST_BUFFERED and self._turn(BUFFER, wait=True):
            pass

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
        try:
            rows = self._encode([part], 0)
            self.tracker.count(rows.cells, rows.strata, part.time)
        except Exception as error:  # as in `failed`
            self._lose(part, error)

    # Steps, each in a turn.

    def _turn(self, least: float, *, wait: bool) -> bool:
        """Do a step, and send the alarms that it raised; whether there was one to do.

        Nothing is done while another thread does a step, unless this one may `wait` for it, nor where
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
                self.failed(error)
        else:
            return False
        return True

    def catch_up(self) -> None:
        """Look at what was served until now, step by step, and let calls come in between."""
        until = self.served
        while self._accounted < until and self._turn(0, wait=True):
            pass
        done: list[None] = []
        self._waiting += [self._close_unit, partial(done.append, None)]  # after all that wait now
        while not done and self._turn(inf, wait=True):
            pass

    @contextmanager
    def caught_up(self) -> Iterator[None]:
        """Look at all that was served until now, and let other calls wait.

        Raises UsageError where this thread is in the middle of a step.
        """
        self.catch_up()
        with self.tracker.turn():
            while self._step(0):
                pass
            yield

    def failed(self, error: Exception) -> None:
        """Count an error of watching, which must reach nobody who asked the model."""
        with self.tracker.lock:
            self.failures += 1
            self.last_failure = public_text(error)

    def _lose(self, call: ServedCall, error: Exception) -> None:
        """Count an error of reading a call, whose rows have their numbers all the same."""
        self.failed(error)
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
            served = self._encode(calls, before)
        except Exception as error:  # as in `failed`
            if len(calls) == 1:
                self._lose(calls[0], error)
                return
            for call in calls:
                self._look_at([call], before)
                before += call.rows
            return
        try:
            self._take_in(served, calls)
        except Exception as error:  # as in `failed`
            self.failed(error)

    def _take_in(self, served: ServedRows, calls: Sequence[ServedCall]) -> None:
        """Count rows, and queue what it takes to look at them, within the budget."""
        tracker = self.tracker
        sizes, cells, strata, places, parts, answers = served
        new = np.array([not call.counted for call in calls]).repeat(sizes)
        tracker.count(cells[new], None if strata is None else strata[new], places[new, 1])
        units = tracker.units
        if units is None and not self.budget.allows(len(cells), self._monotonic()):
            return
        self.shown += len(cells)
        if tracker.profile.calibration is not None:
            self._waiting.extend(partial(self._estimate, outputs) for outputs in answers)
        if units is not None:
            units.take(cells, strata, parts)
            self._waiting.append(self._judge)
            return
        blocks = BET_AT_ONCE // (BLOCK_ROWS * len(tracker.profile.features))
        most = BLOCK_ROWS * max(blocks, 1)
        for block in tracker.parts(cells, strata, places, sizes, most):
            self._waiting.append(partial(tracker.bet, *block))

    def _estimate(self, answers: Outputs) -> None:
        estimate = estimate_of(self.tracker.profile.calibration, answers)
        self.tracker.label_free = with_rows(self.tracker.label_free, estimate)

    def _encode(self, calls: list[ServedCall], before: int) -> ServedRows:
        """The rows of calls as cells, after so many others. Raises what they raise; changes nothing."""
        layout, units = self.tracker.profile.layout, self.tracker.units
        sizes = np.array(sizes_of(calls))
        places = places_of_calls(calls, sizes, before)
        cells = np.full((len(places), len(layout.features)), ABSENT, np.uint8)
        strata = None if layout.stratum is None else np.empty(len(places), np.int64)
        timed = layout.timed or layout.unit in PERIODS
        answers = []
        parts: list[UnitRows] = []
        for names, at, arrays in joined(calls, sizes):
            columns, outputs = self._columns(layout, names, arrays)
            rows = layout.encode_columns(columns, places[at, 1] if timed else None)
            cells[at] = rows.cells
            if strata is not None and rows.strata is not None:
                strata[at] = rows.strata
            answers.append(outputs)
            parts += [UnitRows(part.key, at[part.rows]) for part in rows.units or ()]
        if units is not None:
            parts = together(parts)
            units.strata_of(parts, strata)
        return ServedRows(sizes, cells, strata, places, parts, answers)

    def _columns(
        self, layout: Layout, names: tuple[str, ...], arrays: Sequence[Array]
    ) -> tuple[Outputs, Outputs]:
        """The columns of joined calls, but for times (the clock dates rows), and the answers, by name."""
        tensors = self._signature.inputs
        inputs = [laid_out(block, layout) for block in arrays[: len(tensors)]]
        feeds = {spec.name: block for spec, block in zip(tensors, inputs, strict=True)}
        answers = dict(zip(names, arrays[len(tensors) :], strict=True))
        given = self._signature.columns(feeds)
        columns = {name: given[name] for name in given if name != layout.time}
        if answers:
            columns |= output_columns(answers)
            columns = {name: column for name, column in columns.items() if name in self._wanted}
        return expand(columns, layout.bases) if layout.bases else columns, answers

    def _close_unit(self) -> None:
        """Judge the day or the week that has ended by the clock."""
        tracker = self.tracker
        if tracker.profile.unit in PERIODS:
            tracker.of_units().come_to(tracker.now())
            self._judge()

    def _judge(self) -> None:
        """Judge the units that are complete, one a step."""
        if self.tracker.of_units().waits:
            self.tracker.judge()
            self._waiting.appendleft(self._judge)


def laid_out(block: Array, layout: Layout) -> Array:
    """Columns side by side, doubles as the float32 they are compared as; a stratum keeps its digits."""
    if block.dtype is F8 and layout.stratum is None:
        with np.errstate(over="ignore"):
            block = block.astype(F4)
    return np.asfortranarray(block)


def sizes_of(calls: Iterable[ServedCall]) -> list[int]:
    """The numbers of the rows that calls have arrays of."""
    return [len(call.arrays[0]) for call in calls]


def joined(
    calls: Sequence[ServedCall], sizes: Array
) -> Iterator[tuple[tuple[str, ...], Array, list[Array]]]:
    """The calls that asked for the same outputs: these, the places of their rows, their arrays."""
    for names in dict.fromkeys([call.names for call in calls]):
        same = np.array([call.names == names for call in calls])
        arrays = zip(*[call.arrays for call in compress(calls, same)], strict=True)
        yield names, np.flatnonzero(same.repeat(sizes)), [np.concatenate(parts) for parts in arrays]


def places_of_calls(calls: Sequence[ServedCall], sizes: Array, before: int) -> Array:
    """The numbers of the rows of calls among all that were served, and their times, (n, 2).

    The rows that stand for a larger call are spread over it. Raises UsageError for no time.
    """
    times = clock_seconds([call.time for call in calls])
    served = np.array([call.rows for call in calls])
    call = np.arange(len(calls)).repeat(sizes)
    inside = np.arange(1, len(call) + 1) - (sizes.cumsum() - sizes)[call]
    first = before + served.cumsum() - served
    places = np.empty((len(call), 2))
    places[:, 0] = first[call] + inside * served[call] // sizes[call]
    places[:, 1] = times[call]
    return places


@final
class RowBudget:
    """Rows a second; what is not used is saved up for two seconds.

    Args:
        rate: rows a second, 0 for none at all.
        at_once: the most rows of one call; a lower rate saves up as many, and so admits them at times.
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
