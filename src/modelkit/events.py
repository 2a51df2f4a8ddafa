"""What happened, as frozen values, and whoever wants to know of it.

    stop = mk.events.subscribe(print, mk.events.Loaded, mk.events.Swapped)
    stop()

Nothing here holds a value of a row. Events with a `log_level` are also recorded by the logger `modelkit`
of the standard library's `logging`; see `docs/events.md`.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, ClassVar, final

from modelkit.logs import INFO, WARNING, log_due, takes, write_record

Listener = Callable[[Any], object]


class Event:
    """What happened; a kind of event is a frozen dataclass that inherits from this class.

    `log_level` is that of its records, 0 for none. `limited_by` names the fields that tell matters
    apart which are recorded at most once in ten seconds; empty where every event is recorded.
    """

    __slots__ = ()

    log_level: ClassVar[int] = 0
    limited_by: ClassVar[tuple[str, ...]] = ()


@final
@dataclass(frozen=True, slots=True)
class Loaded(Event):
    """A package was opened.

    Attributes:
        name: the name in its manifest.
        version: the version in its manifest.
        digest: the sha256 of its manifest.
        device: where the model runs, or "" where it does not say.
        threads: the number of CPU threads in force; 0 where it does not say.
        seconds: the time that it took.
        at: when it was ready, in seconds since 1970, as `time.time()` has them.
    """

    log_level = INFO

    name: str
    version: str
    digest: str
    device: str
    threads: int
    seconds: float
    at: float

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        where = f" on {self.device} with {threads}" if self.device else ""
        return f"loaded {self.name} {self.version}{where} in {self.seconds:.3g} s"


@final
@dataclass(frozen=True, slots=True)
class Swapped(Event):
    """Another model answers under a name.

    Attributes:
        name: the name under which both answer.
        version: the version that answers from now on.
        digest: its digest.
        before_version: the version that answered until now.
        before_digest: its digest.
    """

    log_level = INFO

    name: str
    version: str
    digest: str
    before_version: str
    before_digest: str

    def __str__(self) -> str:
        return f"{self.name}: {self.version} answers now, {self.before_version} did before"


@final
@dataclass(frozen=True, slots=True)
class Decided(Event):
    """A Rollout, or who runs it, decided about a candidate.

    Attributes:
        decision: "advance", "rollback", "promote" or "hold".
        champion: the name and version of the model that answered until now.
        candidate: those of the model on trial.
        stage: the number of the stage, from 1.
        reason: why.
        evidence: the logarithm of the evidence of each guard that the candidate is worse than is
            allowed, and that it is within what is allowed.
    """

    log_level = WARNING

    decision: str
    champion: str
    candidate: str
    stage: int
    reason: str
    evidence: tuple[tuple[str, float, float], ...]

    def __str__(self) -> str:
        return f"rollout of {self.candidate}, stage {self.stage}: {self.decision}: {self.reason}"


@final
@dataclass(frozen=True, slots=True)
class NotFollowed(Event):
    """A Rollout could not do what its registry says; what answered before goes on to.

    Attributes:
        name: the name of the model.
        version: the version that should answer, or "" where the registry itself did not.
        error: what was raised.
    """

    log_level = WARNING
    limited_by = ("name", "version")

    name: str
    version: str
    error: str

    def __str__(self) -> str:
        return f"{self.name}: {self.version or 'the registry'} was not followed: {self.error}"


@final
@dataclass(frozen=True, slots=True)
class Alarmed(Event):
    """A Detector raised an alarm, which `Detector.alarms` describes in full.

    Attributes:
        name: the name of the model; "" for a Detector without a Monitor.
        version: its version, likewise.
        kind: "changed", "material" or "performance".
        feature: the name of the column of the profile.
        p: the p-value of the evidence.
        level: the share of alpha that p fell below.
        row: the number of rows seen until then.
        began: the estimated number of rows before the change, or None.
        unit: the unit that was judged, such as "day 2013-03-09"; None where rows are compared.
    """

    log_level = WARNING

    name: str
    version: str
    kind: str
    feature: str
    p: float
    level: float
    row: int
    began: int | None
    unit: str | None = None

    def __str__(self) -> str:
        whose = f"{self.name} {self.version}: " if self.name else ""
        when = f"with {self.unit}"
        since = ""
        if self.unit is None:
            when = f"at row {self.row:,}"
            since = "" if self.began is None else f", since about row {self.began:,}"
        return f"{whose}{self.feature}: {self.kind} {when}{since}: p {self.p:.2g}"


@final
@dataclass(frozen=True, slots=True)
class Advised(Event):
    """A Profile was fitted, and its reference calls for other units or strata than were asked for.

    Attributes:
        advice: what fits, in one line, as `Profile.advice` has it.
    """

    log_level = WARNING

    advice: str

    def __str__(self) -> str:
        return f"profile: {self.advice}"


@final
@dataclass(frozen=True, slots=True)
class Refusal(Event):
    """A call was refused because its rows do not fit the signature.

    Attributes:
        name: the name of the model.
        version: its version.
        problems: how many things were wrong with the rows.
        columns: the columns of the signature that were at fault, by name.
    """

    log_level = WARNING
    limited_by = ("name", "version")

    name: str
    version: str
    problems: int
    columns: tuple[str, ...]

    def __str__(self) -> str:
        problems = "1 problem" if self.problems == 1 else f"{self.problems:,} problems"
        where = f" in {', '.join(map(repr, self.columns))}" if self.columns else ""
        return f"{self.name} {self.version}: rows refused, with {problems}{where}"


@final
@dataclass(frozen=True, slots=True)
class Overload(Event):
    """A call was refused because the queue was full.

    Attributes:
        name: the name of the model.
        version: its version.
        queued: the size of what waited: rows, or tokens of texts.
        max_queue: the size of what may wait.
    """

    log_level = WARNING
    limited_by = ("name", "version")

    name: str
    version: str
    queued: int
    max_queue: int

    def __str__(self) -> str:
        full = f"{self.queued:,} wait, and at most {self.max_queue:,} may"
        return f"{self.name} {self.version}: call refused, the queue is full: {full}"


@final
@dataclass(frozen=True, slots=True)
class Handled(Event):
    """An HTTP request was answered. Not recorded: subscribe for an access log of your own.

    Attributes:
        route: the template of its path, or "unmatched".
        method: its HTTP method.
        status: the HTTP status of the answer.
        seconds: the time from its arrival to its answer.
        principal: who asked, as `auth` said; None without `auth`, or where nobody was let in.
        request_id: the id under which errors of it are logged.
        model: the name of the model that was asked; "" where none was.
        version: the version that answered; "" where none did, or a Model without a package.
    """

    route: str
    method: str
    status: int
    seconds: float
    principal: str | None
    request_id: str
    model: str
    version: str = ""


class Subscription:
    """A listener, the kinds of events that it wants, and whether its first error was told of."""

    __slots__ = ("kinds", "listener", "told")

    def __init__(self, listener: Listener, kinds: tuple[type[Event], ...]) -> None:
        self.listener = listener
        self.kinds = kinds
        self.told = False


# Both are used by operations that no other thread can interrupt, so that there is no lock.
_subscriptions: dict[int, Subscription] = {}
_numbers = itertools.count()


def subscribe(listener: Listener, *kinds: type[Event]) -> Callable[[], None]:
    """Call `listener` with every event of these kinds, or of any kind where none is named.

    It is called by the thread in which the event happens, which may be that of an event loop, and
    whoever made it happen waits for it: hand slow work on, for example to a queue. An error that it
    raises is recorded by the logger `modelkit` the first time, and reaches nobody else.

    Args:
        listener: takes the event; what it returns is ignored.
        kinds: classes of events.

    Returns:
        A function that ends the subscription, and does nothing when it is called again.

    Raises:
        TypeError: for a listener that cannot be called or is async, and for what is no kind of
            event.
    """
    if not callable(listener) or inspect.iscoroutinefunction(listener):
        raise TypeError(f"a listener is a plain function of one event; got {listener!r}")
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise TypeError(f"{kind!r} is no kind of event; pass classes such as events.Loaded")
    number = next(_numbers)
    _subscriptions[number] = Subscription(listener, kinds or (Event,))
    return lambda: _forget(number)


def _forget(number: int) -> None:
    _subscriptions.pop(number, None)


def wanted(kind: type[Event]) -> bool:
    """Whether an event of this kind would reach a listener or may be recorded: else make none."""
    if kind.log_level > 0 and takes(kind.log_level):
        return True
    for subscription in _subscriptions.copy().values():  # noqa: SIM110 - `any` takes four times as long
        if issubclass(kind, subscription.kinds):
            return True
    return False


class Aside(Exception):  # noqa: N818 - it says where a traceback was cut, and is no error
    """What listeners and handlers of logging see as the error that is being handled."""


def emit(event: Event) -> None:
    """Tell the logger and the listeners that want it. Raises nothing of theirs, waits for no lock.

    KeyboardInterrupt and SystemExit do pass, since handlers of signals raise them anywhere.
    """
    recorded = event.log_level > 0 and takes(event.log_level)
    if not recorded and not _subscriptions:
        return
    if sys.exception() is None:
        _tell_all(event, recorded=recorded)
        return
    # The error that is being handled may quote values of rows, and Python would show it as the
    # context of every error that is raised meanwhile.
    try:
        raise Aside("an error that may quote values of rows was being handled; it is left out here")
    except Aside as aside:
        aside.__context__ = None
        _tell_all(event, recorded=recorded)


def _tell_all(event: Event, *, recorded: bool) -> None:
    if recorded:
        _record(event)
    for subscription in _subscriptions.copy().values():
        if isinstance(event, subscription.kinds):
            _tell(subscription, event)


def _record(event: Event) -> None:
    with suppress(Exception):  # of a filter or a handler of the application
        count = 1
        if event.limited_by:
            count = log_due((type(event), *(getattr(event, name) for name in event.limited_by)))
        if count:
            values = {field.name: getattr(event, field.name) for field in fields(event)}  # type: ignore[arg-type]
            kind = type(event).__name__.lower()
            write_record(event.log_level, str(event), {"event": kind, **values}, count)


def _tell(subscription: Subscription, event: Event) -> None:
    try:
        subscription.listener(event)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - it must not reach whoever made this happen
        if not subscription.told:
            subscription.told = True
            _complain(subscription.listener, error)


def _complain(listener: Listener, error: BaseException) -> None:
    who = getattr(listener, "__qualname__", type(listener).__qualname__)
    what = type(error).__name__
    message = f"the listener {who} raised {what}; it is called on, and this is said once"
    with suppress(Exception):  # as in _record
        if takes(WARNING):
            values = {"event": "listener", "listener": who, "error": what}
            write_record(WARNING, message, values, error=error)
