"""The Monitor: a Model that shows a Detector what it serves."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, final

import numpy as np
from numpy import ndarray

from modelkit import forks
from modelkit.cast import Array
from modelkit.drift.buckets import HISTORY_BYTES
from modelkit.drift.detector import Detector, detector_of
from modelkit.drift.outputs import (
    ServedCall,
)
from modelkit.drift.profile import Profile, check_profile
from modelkit.drift.row_budget import RowBudget
from modelkit.drift.served_form import BufferedCells, ServedForm
from modelkit.drift.units import PERIODS, together
from modelkit.drift.untold import OnAlarm
from modelkit.drift.values import Alarm
from modelkit.drift.watch import Watch
from modelkit.drift.watched_model import check_unit, check_watched, packaged
from modelkit.evidence import Guarantee
from modelkit.identity import identity_of
from modelkit.model import Call, Model, Outputs
from modelkit.signature import Feeds, Signature
from modelkit.wrapper import Wrapper

BUFFER = 256  # rows that are made into cells at once
SAMPLE_ROWS = 64  # rows that one call shows at most, drawn at random; all where units are judged
MOST_WAITING = 32  # steps that may wait for calls to do them, three for 256 rows

copy = np.ndarray.copy


@final
class Monitor(Wrapper):
    """A Model that answers as the one it wraps does, and shows what it served to its `detector`.

    Rows are copied into a buffer in the caller's thread. For every 256 rows there are a few steps
    to do: count them, and where the budget allows, estimate, rank and bet. A call does one step at
    most, so that none waits long. A call of more than 64 rows shows 64 of them, drawn at random;
    the rows of a call have no order. An error in the monitoring is counted in `failures`, and
    reaches no caller.

    Args:
        model: the Model to watch; a Batcher, or what it would wrap.
        profile: the past; by default the Profile in the package.
        alpha: see `Detector`.
        tolerance: see `Detector`.
        guarantee: see `Detector`.
        budget: rows a second that the detector may see, however many are served; the others are
            only counted. At 20 columns a row takes about 8 microseconds, so that the 2,000 of the
            default are under 2 % of a core.
        seed: see `Detector`.
        clock: what tells the time of rows, in seconds since 1970; by it rows belong to a day, a
            week, a weekday or an hour, where the profile has these. The day or week in which the
            Monitor is made is not whole, and is not compared. All rows of a unit are counted,
            whatever the budget.
        history: see `Detector`.
        on_alarm: see `Detector`; it is called by the thread of the call whose step raised the
            alarm, after the answer is there. A Monitor that is pickled leaves it behind.

    Raises:
        DriftError: if there is no profile, it has columns that the model does not take, or its
            units are batches, of which a Monitor knows nothing; or if the model is a Rollout.
    """

    __slots__ = (
        "__weakref__",
        "_accounted",
        "_budget",
        "_buffer",
        "_clock",
        "_detector",
        "_filled",
        "_form",
        "_listens",
        "_lock",
        "_only",
        "_rng",
        "_row_dtype",
        "_row_shape",
        "_tensors",
        "_untold",
        "_waiting",
        "_whole",
        "failures",
        "last_failure",
        "served",
        "shown",
        "signature",
    )

    signature: Signature  # a slot, which is read faster than a property

    def __init__(  # noqa: PLR0913 - all but two by keyword
        self,
        model: Model,
        profile: Profile | None = None,
        *,
        alpha: float = 0.01,
        tolerance: float | Mapping[str, float] = 0.03,
        guarantee: Guarantee = "ever",
        budget: float = 2000.0,
        seed: int = 0,
        history: int = HISTORY_BYTES,
        clock: Callable[[], float] = time.time,
        on_alarm: OnAlarm | None = None,
    ) -> None:
        check_watched(model, budget)
        if profile is None:
            profile = packaged(model)
        profile = check_profile(profile).without(model.signature.ignored)
        check_unit(profile)
        profile.check(model.signature)
        super().__init__(model)
        self.signature = model.signature
        watch = Watch(
            profile,
            alpha=alpha,
            tolerance=tolerance,
            guarantee=guarantee,
            seed=seed,
            history=history,
            clock=clock,
            on_alarm=on_alarm,
        )
        watch.ignored = tuple(model.signature.ignored)
        watch.untold.name, watch.untold.version, _ = identity_of(model)
        self._untold = watch.untold
        self._detector = detector_of(watch)
        self._set_clock(profile, clock)
        self._rng = np.random.default_rng([seed, 1])  # draws the rows of large calls
        self._budget = RowBudget(budget, BUFFER + SAMPLE_ROWS)
        self._set_rows(profile)
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

    def _set_clock(self, profile: Profile, clock: Callable[[], float]) -> None:
        self._clock = clock
        # A part of a unit is no unit of the reference's size.
        self._whole = profile.unit is not None
        if profile.unit in PERIODS:
            self._watch.of_units().stream.begin(clock())

    def _set_rows(self, profile: Profile) -> None:
        """The forms that rows come in, and the arrays that are kept of them."""
        self._tensors = [spec.name for spec in self.signature.inputs]
        self._form = ServedForm(self.signature, profile.wanted())
        outputs = any(feature.output for feature in profile.features)
        self._listens = outputs or profile.calibration is not None
        self._only: str | None = None
        if len(self._tensors) == 1 and not self._listens:
            self._only = self._tensors[0]
        self._row_shape = None
        self._row_dtype = None
        block = self.signature.block
        if block is not None:
            self._row_shape = block[1]
            self._row_dtype = block[2].target

    @property
    def _watch(self) -> Watch:
        """What the detector knows; `Detector.rebase` puts another in its place."""
        return self._detector._watch  # noqa: SLF001 - a Monitor feeds it cells

    @property
    def unobserved(self) -> Model:
        """The Model that answers without being watched."""
        return self._inner.unobserved

    @property
    def profile(self) -> Profile:
        """The past that rows are compared with."""
        return self._watch.profile

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms until now; rows that wait are not looked at first, as `detector` does."""
        return self._watch.alarms

    @property
    def detector(self) -> Detector:
        """The detector, with all that was served until now."""
        try:
            with self._lock:
                self._account()
                while self._waiting:
                    self._waiting.popleft()()
                self._close_units()
            self._untold.tell()
        except Exception as error:  # noqa: BLE001 - as in _observe
            self._failed(error)
        return self._detector

    _call = Model._call  # it wants coerced feeds

    def _acall(
        self,
        X: object,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Awaitable[Outputs]:
        # An array of the one tensor's form is its feeds already. It is passed on as it is, for a
        # Batcher checks the rows of many callers in one pass.
        if type(X) is ndarray and X.shape[1:] == self._row_shape and X.dtype is self._row_dtype:
            return self._pass_on(X, outputs, call)
        return self._arun(self.signature.coerce(X), outputs, call)

    async def _pass_on(
        self,
        block: Array,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Outputs:
        answers = await self._inner._acall(block, outputs, call)
        self._observe({self._tensors[0]: block}, answers)
        return answers

    def _run(
        self,
        feeds: Feeds,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Outputs:
        answers = self._inner._run(feeds, outputs, call)
        self._observe(feeds, answers)
        return answers

    async def _arun(
        self,
        feeds: Feeds,
        outputs: tuple[str, ...],
        call: Call,
    ) -> Outputs:
        answers = await self._inner._arun(feeds, outputs, call)
        self._observe(feeds, answers)
        return answers

    # What was served: copied into the buffer by the call, made into cells for 256 rows at a time.

    def _observe(
        self,
        feeds: Feeds,
        answers: Outputs,
    ) -> None:
        """Copy the rows, for the caller may change its arrays, and do one of the waiting steps."""
        try:
            names: tuple[str, ...] = ()
            arrays: tuple[Array, ...]
            if self._only is not None:
                arrays = (feeds[self._only],)
            elif self._listens:
                names = tuple(answers)
                arrays = (*feeds.values(), *answers.values())
            else:
                arrays = (*feeds.values(),)
            rows = len(arrays[0])
            seen = rows
            if rows > SAMPLE_ROWS and not self._whole:
                seen = SAMPLE_ROWS
                chosen = self._sampled(rows)
                kept = tuple([array.take(chosen, axis=0) for array in arrays])
            elif self._only is not None:  # the common case, without the price of the general one
                kept = (arrays[0].copy(),)
            else:
                kept = tuple(map(copy, arrays))
            now = self._clock()
            with self._lock:
                if not rows:
                    return
                self.served += rows
                self._buffer.append((names, kept, rows, now))
                self._filled += seen
                if self._filled >= BUFFER:
                    self._account()
                elif self._waiting:
                    self._waiting.popleft()()
            self._untold.tell()
        except Exception as error:  # noqa: BLE001 - monitoring must not reach whoever asked
            self._failed(error)

    def _close_units(self) -> None:
        watch = self._watch
        if watch.profile.unit in PERIODS:
            with watch.lock:
                watch.judged(watch.of_units().stream.close_before(self._clock()))

    def _sampled(self, rows: int) -> Array:
        """The numbers of the rows that a large call shows, in their order of arrival."""
        chosen: Array = self._rng.choice(rows, SAMPLE_ROWS, replace=False, shuffle=False)
        if self._watch.thins:  # which goes by that order
            chosen.sort()
        return chosen

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self.failures += 1
            self.last_failure = f"{type(error).__name__}: {error}"
            self._buffer = []
            self._filled = 0

    def _account(self) -> None:
        """Make cells of the buffered rows and count them; within the budget, queue them."""
        buffer = self._buffer
        self._buffer = []
        self._filled = 0
        before = self._accounted
        self._accounted = self.served
        if not buffer:
            return
        watch = self._watch
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
        sizes: list[int],
    ) -> None:
        """Let the steps that show rows to the detector wait for calls to do them."""
        watch = self._watch
        self._queue_estimates(found.answers)
        self._waiting.extend(found.steps(watch, sizes))

    def _queue_estimates(self, shown: list[Outputs]) -> None:
        watch = self._watch
        if watch.profile.calibration is None or len(self._waiting) >= MOST_WAITING:
            return
        for answers in shown:
            if "probabilities" in answers:
                self._waiting.append(partial(watch.expect, answers))

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self._lock = threading.Lock()

    def _facts(self) -> list[tuple[str, str]]:
        detector = self.detector
        seen = f"{self.served:,} rows served, {self.shown:,} of them shown to the detector"
        facts = [("monitored", seen), ("guarantee", self._watch.promise)]
        facts += [("alarm", str(alarm)) for alarm in detector.alarms[:5]]
        if self.failures:
            facts.append(("monitoring failed", f"{self.failures} times; last {self.last_failure}"))
        return [*super()._facts(), *facts]

    def __reduce__(self) -> tuple[Any, ...]:
        watch = self._watch
        options = {
            "alpha": watch.alpha,
            "tolerance": watch.tolerance,
            "guarantee": watch.guarantee,
            "budget": self._budget.rate,
            "seed": watch.seed,
            "history": watch.chronicle.most_bytes,
            "clock": self._clock,
        }
        return _again, (self._inner, watch.profile, options)


def _again(
    model: Model,
    profile: Profile,
    options: dict[str, Any],
) -> Monitor:
    return Monitor(model, profile, **options)
