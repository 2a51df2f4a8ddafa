"""Replicas: equal Models, one for each device or group of threads, the least busy first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, final

from modelkit._internal.process import watch_forks
from modelkit.errors import (
    ClosedError,
    DeadlineExceeded,
    DeviceError,
    Overloaded,
    SignatureError,
    UsageError,
)
from modelkit.model.device import Placement
from modelkit.model.manifest import Manifest
from modelkit.model.model import Call, Model, Outputs
from modelkit.model.wrapper import (
    Wrapper,
    check_is_model,
    check_runs_are_seen,
    has_several_versions,
    layers_of,
)
from modelkit.signature.signature import Feeds, Signature

LOST = (DeviceError, ClosedError)  # errors of the replica, and not of the rows
UNANSWERED = (DeadlineExceeded, Overloaded)  # errors that tell of neither
FIRST_WAIT = 1.0  # seconds until a replica that failed is tried again; doubled at each failure
LONGEST_WAIT = 60.0


@final
@dataclass(frozen=True)
class Replica:
    """One of several equal Models, as it stands.

    Attributes:
        placement: where it runs; None for a function, which decides.
        outstanding: the rows that it is working on.
        calls: the runs that it answered.
        failures: the runs at which it failed as a whole, and another one answered.
        aside: whether it is left out at present.
    """

    placement: Placement | None
    outstanding: int
    calls: int
    failures: int
    aside: bool


@dataclass(slots=True)
class _Place:
    """A replica and its counts, guarded by the lock of the Replicas."""

    model: Model
    outstanding: int = 0
    calls: int = 0
    failures: int = 0
    wait: float = FIRST_WAIT
    retry: float = 0.0  # the time from which it may be asked; 0 where all is well


def least_busy(places: Sequence[_Place], now: float) -> _Place:
    """The replica that is asked next.

    That with the least work of those that may be asked now, the first of equals; where none may be,
    the one whose time comes first.
    """
    ready = [place for place in places if place.retry <= now]
    if not ready:
        return min(places, key=attrgetter("retry"))
    return min(ready, key=attrgetter("outstanding"))


class _Work:
    """A run, counted as work of the replica that it is on: the context of each attempt at it.

    Where the first replica is lost, its error goes no further, and another one may be tried.
    """

    def __init__(self, replicas: Replicas, feeds: Feeds) -> None:
        self._replicas = replicas
        self._rows = next((len(feed) for feed in feeds.values() if feed.ndim), 1)
        self._place: _Place | None = None

    def __enter__(self) -> Model:
        replicas = self._replicas
        with replicas._lock:
            now = replicas._clock()
            others = [place for place in replicas._places if place is not self._place]
            self._retries = self._place is None and len(others) > 1
            self._place = place = least_busy(others, now)
            if place.retry:
                # It failed before: until this run tells, the others go elsewhere.
                place.retry = now + place.wait
            place.outstanding += self._rows
            return place.model

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        place = self._place
        assert place is not None
        with self._replicas._lock:
            place.outstanding -= self._rows
            place.calls += error is None
            if isinstance(error, LOST):
                place.failures += 1
                place.retry = self._replicas._clock() + place.wait
                place.wait = min(2 * place.wait, LONGEST_WAIT)
                return self._retries
            if isinstance(error, Exception | None) and not isinstance(error, UNANSWERED):
                # An error of the rows was found by a replica that works.
                place.retry = 0.0
                place.wait = FIRST_WAIT
        return False


@final
class Replicas(Model):
    """Equal Models that share the work: a run goes to the Model with the fewest rows in progress.

        first, second = (mk.load("churn.mk", threads=1) for _ in range(2))
        mk.Batcher(mk.Replicas([first, second])).predict(X)

    Load the same package once for each device (`mk.load(path, device=f"cuda:{i}")`) or each group
    of threads. `Batcher(Replicas(...))` gathers calls for all of them and runs as many batches at
    once as they do together.

    A replica that raises DeviceError, or was closed, is set aside: the run is tried once on another
    one, and the replica is tried again after a second, then after two, and so on up to a minute.
    Any other error is due to the rows, and goes to the caller.

    `placement`, `manifest` and `attachments` come from the first; `replicas` shows each. Closing it
    does not close the models, which it did not open.

    Args:
        models: one or more Models of the same package, or of the same signature if they have none.

    Raises:
        SignatureError: if they are not equal, with the first difference.
        TypeError: for anything but a Model.
        UsageError: without a model, and for one that is given twice, is a Rollout, or has a Monitor
            or a Meter.
    """

    __slots__ = (
        "__weakref__",
        "_clock",
        "_in_threads",
        "_lock",
        "_places",
        "attachments",
        "base",
        "manifest",
        "signature",
    )

    attachments: Mapping[str, memoryview]
    base: Model  # the innermost Model of the first
    manifest: Manifest | None
    signature: Signature

    def __init__(self, models: Sequence[Model]) -> None:
        models = [*models]
        if not models:
            raise UsageError("Replicas takes at least one Model")
        for place, model in enumerate(models):
            check_is_model(model, "Replicas")
            _check_equal(models[0], model, place)
            _check_alone(models[:place], model, place)
            check_runs_are_seen("Replicas", model)
        first = models[0]
        self.signature, self.base = first.signature, first.base
        self.manifest, self.attachments = first.manifest, first.attachments
        self._places = [_Place(model) for model in models]
        self._in_threads = all(_runs_in_thread(model) for model in models)
        self._lock = threading.RLock()
        self._clock: Callable[[], float] = time.monotonic
        watch_forks(self)

    @property
    def replicas(self) -> tuple[Replica, ...]:
        """Each replica as it stands, in the order in which they were given."""
        with self._lock:
            now = self._clock()
            return tuple(
                Replica(
                    place.model.placement,
                    place.outstanding,
                    place.calls,
                    place.failures,
                    place.retry > now,
                )
                for place in self._places
            )

    @property
    def placement(self) -> Placement | None:
        """Where the first runs."""
        return self._places[0].model.placement

    @property
    def closed(self) -> bool:
        """Whether all were closed."""
        return all(place.model.closed for place in self._places)

    @property
    def batchable(self) -> bool:
        """Whether a row's answer was shown not to depend on its batch, for each of them."""
        return all(place.model.batchable for place in self._places)

    @property
    def runs_at_once(self) -> int:
        """The number of runs that all do side by side."""
        return sum(place.model.runs_at_once for place in self._places)

    @property
    def endless(self) -> bool:
        """Whether a run of one of them ends only by a deadline, for some rows."""
        return any(place.model.endless for place in self._places)

    def _use_threads(self, threads: int) -> None:
        for place in self._places:
            place.model._use_threads(threads)

    def _why_not_batchable(self) -> str:
        refused = [place.model for place in self._places if not place.model.batchable]
        return refused[0]._why_not_batchable()

    def _prepare(self, feeds: Feeds) -> tuple[Feeds, int]:
        return self._places[0].model._prepare(feeds)

    def _run(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        work = _Work(self, feeds)
        while True:
            with work as model:
                return model._run(feeds, outputs, call)

    async def _arun(self, feeds: Feeds, outputs: tuple[str, ...], call: Call) -> Outputs:
        if self._in_threads:
            # Such a run goes on where its caller gives up, and keeps the replica busy.
            return await super()._arun(feeds, outputs, call)
        work = _Work(self, feeds)
        while True:
            with work as model:
                return await model._arun(feeds, outputs, call)

    def after_fork(self) -> None:
        """In the child of a fork, no run is under way, and no thread holds the lock."""
        self._lock = threading.RLock()
        # Anew, since a run that forked gives back to the place that it took.
        self._places = [replace(place, outstanding=0) for place in self._places]

    def __reduce__(self) -> tuple[Any, ...]:
        return Replicas, ([place.model for place in self._places],)

    def _facts(self) -> list[tuple[str, str]]:
        facts = []
        for number, replica in enumerate(self.replicas):
            where = replica.placement or "a function"
            state = "set aside" if replica.aside else f"{replica.outstanding} rows under way"
            told = f"{where}; {replica.calls} runs, {replica.failures} failures, {state}"
            facts.append((f"replica {number}", told))
        return facts


def _check_equal(first: Model, other: Model, place: int) -> None:
    ours, theirs = (
        (model.signature, model.manifest and model.manifest.digest) for model in (first, other)
    )
    for what, own, given in zip(("signature", "digest"), ours, theirs, strict=True):
        if given != own:
            raise SignatureError(
                f"replicas are equal Models, and number {place} has another {what} than the first: "
                f"{given}, not {own}"
            )


def _check_alone(others: Sequence[Model], model: Model, place: int) -> None:
    if any(model is other for other in others):
        raise UsageError(f"replica {place} was given before: open the package once for each")
    if has_several_versions(model):
        raise UsageError(
            f"replica {place} is a Rollout, of which no two need answer with the same version; put the "
            "Replicas into it: Rollout(registry, name, wrap=...), or Rollout(Replicas(champion), "
            "Replicas(candidate), ...)"
        )
    if model.unobserved is not model:
        raise UsageError(
            f"replica {place} has a Monitor or a Meter, which would see a part of the calls, or "
            "none; put it outside: Meter(Monitor(Replicas(models)))"
        )


def _runs_in_thread(model: Model) -> bool:
    """Whether a Model lacks its own way to run on an event loop."""
    own = (layer for layer in layers_of(model) if type(layer)._arun is not Wrapper._arun)
    return type(next(own))._arun is Model._arun
