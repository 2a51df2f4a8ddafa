"""The Monitor: a Model that shows a Detector what it serves."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, final

import numpy as np
from numpy import ndarray

from modelkit.cast import F4, F8, Array
from modelkit.drift.cells import ABSENT
from modelkit.drift.detector import Detector
from modelkit.drift.evidence import Guarantee
from modelkit.drift.outputs import output_columns
from modelkit.drift.profile import PROFILE, Profile
from modelkit.drift.vectors import expand
from modelkit.errors import DriftError
from modelkit.forks import watch
from modelkit.model import Call, Model, Outputs
from modelkit.signature import Feeds, Signature
from modelkit.wrapper import Wrapper

BUFFER = 256  # rows that are made into cells at once
STEP = 128  # rows that are ranked at once
SAMPLE = 64  # rows that one call shows at most, evenly spread
WAITING = 32  # steps that may wait for calls to do them, five for 256 rows
BURST = 2.0  # seconds of the budget that may be saved up

copy = np.ndarray.copy


@final
class Monitor(Wrapper):
    """A Model that answers as the one it wraps does, and shows what it served to its `detector`.

    Rows are copied into a buffer in the caller's thread. For each 256 there are a few steps to do:
    count them, and where the budget allows, estimate, rank and bet. A call does one step at most,
    so that none waits long. A call of more than 64 rows shows 64 of them, evenly spread. An error
    in the monitoring is counted in `failures`, and reaches no caller.

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

    Raises:
        DriftError: if there is no profile, or it has columns that the model does not take.
    """

    __slots__ = (
        "__weakref__",
        "_budget",
        "_buffer",
        "_detector",
        "_filled",
        "_listens",
        "_lock",
        "_most",
        "_only",
        "_options",
        "_row_dtype",
        "_row_shape",
        "_saved",
        "_since",
        "_tensors",
        "_waiting",
        "_wanted",
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
        tolerance: float = 0.03,
        guarantee: Guarantee = "ever",
        budget: float = 2000.0,
        seed: int = 0,
    ) -> None:
        if not budget >= 0:
            raise DriftError(f"budget is in rows a second, 0 or more; got {budget!r}")
        if profile is None:
            profile = packaged(model)
        profile.check(model.signature)
        super().__init__(model)
        self.signature = model.signature
        self._options = {
            "alpha": alpha,
            "tolerance": tolerance,
            "guarantee": guarantee,
            "budget": budget,
            "seed": seed,
        }
        self._detector = Detector(
            profile, alpha=alpha, tolerance=tolerance, guarantee=guarantee, seed=seed
        )
        self._budget = budget
        self._most = (
            max(budget * BURST, BUFFER + SAMPLE) if budget else 0.0
        )  # a buffer at least, or none is ever seen
        self._saved, self._since = budget * BURST, time.monotonic()
        self._lock = threading.Lock()
        self._tensors = [spec.name for spec in model.signature.inputs]
        self._wanted = profile.wanted()
        self._listens = profile.calibration is not None or any(
            feature.output for feature in profile.features
        )
        block = model.signature.block
        self._row_shape = None if block is None else block[1]
        self._row_dtype = None if block is None else block[2].target
        self._only = self._tensors[0] if len(self._tensors) == 1 and not self._listens else None
        self._buffer: list[tuple[Any, ...]] = []
        self._filled = 0
        self._waiting: deque[Callable[[], object]] = deque()
        self.served = 0
        self.shown = 0
        self.failures = 0
        self.last_failure: str | None = None
        watch(self)

    @property
    def unobserved(self) -> Model:
        """What answers without being watched."""
        return self._inner.unobserved

    @property
    def detector(self) -> Detector:
        """The detector, with all that was served until now."""
        try:
            with self._lock:
                self._account()
                while self._waiting:
                    self._waiting.popleft()()
        except Exception as error:  # noqa: BLE001 - as in _watch
            self._failed(error)
        return self._detector

    _call = Model._call  # it wants coerced feeds

    def _acall(self, X: object, outputs: tuple[str, ...], call: Call) -> Awaitable[Outputs]:
        # An array of the one tensor's form is its feeds already. It is passed on as it is, for a
        # Batcher checks the rows of many callers in one pass.
        if type(X) is ndarray and X.shape[1:] == self._row_shape and X.dtype is self._row_dtype:
            return self._pass_on(X, outputs, call)
        return self._arun(self.signature.coerce(X), outputs, call)

    async def _pass_on(self, block: Array, outputs: tuple[str, ...], call: Call) -> Outputs:
        answers = await self._inner._acall(block, outputs, call)
        self._watch({self._tensors[0]: block}, answers)
        return answers

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        answers = self._inner._run(feeds, outputs, call)
        self._watch(feeds, answers)
        return answers

    async def _arun(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        answers = await self._inner._arun(feeds, outputs, call)
        self._watch(feeds, answers)
        return answers

    def _watch(self, feeds: Feeds, answers: Outputs) -> None:
        """Copy what was served, for the caller may change its arrays, and do a turn of what waits."""
        try:
            names: tuple[str, ...] = tuple(answers) if self._listens else ()
            arrays: tuple[Array, ...]
            if self._only is not None:
                arrays = (feeds[self._only],)
            elif self._listens:
                arrays = (*feeds.values(), *answers.values())
            else:
                arrays = (*feeds.values(),)
            rows = seen = len(arrays[0])
            if rows > SAMPLE:
                chosen = np.linspace(0, rows - 1, SAMPLE).astype(np.int64)
                kept, seen = (names, *[array[chosen] for array in arrays]), SAMPLE
            elif self._only is not None:  # the common case, without the price of the general one
                kept = (names, arrays[0].copy())
            else:
                kept = (names, *map(copy, arrays))
            with self._lock:
                if not rows:
                    return
                self.served += rows
                self._buffer.append(kept)
                self._filled += seen
                if self._filled >= BUFFER:
                    self._account()
                elif self._waiting:
                    self._waiting.popleft()()
        except Exception as error:  # noqa: BLE001 - monitoring must not reach whoever asked for a prediction
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self.failures += 1
            self.last_failure = f"{type(error).__name__}: {error}"
            self._buffer, self._filled = [], 0

    def _account(self) -> None:
        """Make cells of what is buffered and count them; within the budget, they wait for the detector."""
        buffer = self._buffer
        self._buffer, self._filled = [], 0
        detector, tensors = self._detector, self._tensors
        groups: dict[tuple[str, ...], list[tuple[Array, tuple[Any, ...]]]] = {}
        n = 0
        for (
            names,
            *arrays,
        ) in (
            buffer
        ):  # calls that asked for the same outputs together, rows in their order of arrival
            size = len(arrays[0])
            groups.setdefault(names, []).append((np.arange(n, n + size), tuple(arrays)))
            n += size
        cells = np.full((n, len(detector.profile.features)), ABSENT, np.uint8)
        strata = None if detector.profile.stratum is None else np.empty(n, np.int64)
        shown = []
        for names, calls in groups.items():
            at = np.concatenate([where for where, _ in calls])
            whole = [*map(np.concatenate, zip(*(arrays for _, arrays in calls), strict=True))]
            mine, own, answers = self._encoded(names, whole, tensors)
            cells[at] = mine
            if strata is not None:
                strata[at] = own
            shown.append(answers)
        if not n:
            return
        detector.count(cells, strata)
        if self._affordable(n) and len(self._waiting) < WAITING:
            self.shown += n
            if detector.profile.calibration is not None:
                self._waiting += [
                    partial(self._show, answers) for answers in shown if "probabilities" in answers
                ]
            for start in range(0, n, STEP):
                part = slice(start, start + STEP)
                own = None if strata is None else strata[part]
                self._waiting += [partial(detector.rank, cells[part], own), detector.settle]

    def _encoded(
        self, names: tuple[str, ...], whole: list[Array], tensors: list[str]
    ) -> tuple[Array, Any, Outputs]:
        detector = self._detector
        feeds = dict(zip(tensors, map(self._laid_out, whole[: len(tensors)]), strict=True))
        answers = dict(zip(names, whole[len(tensors) :], strict=True))
        columns = self.signature.columns(feeds)
        if answers:
            columns |= output_columns(answers)
            columns = {name: column for name, column in columns.items() if name in self._wanted}
        bases = detector.profile.bases
        return (*detector.encode(expand(columns, bases) if bases else columns), answers)

    def _laid_out(self, block: Array) -> Array:
        """Columns side by side in memory, doubles as the float32 they are compared as; a stratum keeps its digits."""
        if block.dtype is F8 and self._detector.profile.stratum is None:
            with np.errstate(over="ignore"):
                block = block.astype(F4)
        return np.asfortranarray(block)

    def _show(self, answers: Outputs) -> None:
        self._detector.add(self._detector.estimate(answers))

    def _affordable(self, rows: int) -> bool:
        now = time.monotonic()
        self._saved = min(self._saved + (now - self._since) * self._budget, self._most)
        self._since = now
        if self._saved < rows:
            return False
        self._saved -= rows
        return True

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the locks."""
        self._lock = threading.Lock()
        self._detector.after_fork()

    def _facts(self) -> list[tuple[str, str]]:
        detector = self.detector
        seen = f"{self.served:,} rows served, {self.shown:,} of them shown to the detector"
        facts = [("monitored", seen), ("guarantee", detector.promise)]
        facts += [("alarm", str(alarm)) for alarm in detector.alarms[:5]]
        if self.failures:
            facts.append(("monitoring failed", f"{self.failures} times; last {self.last_failure}"))
        return [*super()._facts(), *facts]

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._inner, self._detector.profile, self._options)


def _again(model: Model, profile: Profile, options: dict[str, Any]) -> Monitor:
    return Monitor(model, profile, **options)


def packaged(model: Model) -> Profile:
    """The profile in a model's package. Raises DriftError where there is none."""
    data = model.attachments.get(PROFILE)
    if data is None:
        raise DriftError(
            "the model's package has no profile: store one with mk.save(..., "
            "profile=mk.Profile.fit(X_train, "
            "reference=X_holdout)), or pass Monitor(model, profile); on the command line, pass "
            "--reference"
        )
    return Profile.from_bytes(data)
