"""Who listens to which events, and how listeners are called; `modelkit.events` has the kinds."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from typing import Any, ClassVar

from modelkit._internal.logs import WARNING, log_due, takes, write_record

Listener = Callable[[Any], object]


class Event:
    """What happened; a kind of event is a frozen dataclass that inherits from this class.

    Its records are logged at `log_level`; 0 logs none. `limited_by` names the fields that
    distinguish matters which are recorded at most once in ten seconds; empty where every event is
    recorded.
    """

    __slots__ = ()

    log_level: ClassVar[int] = 0
    limited_by: ClassVar[tuple[str, ...]] = ()


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

    The thread in which the event happens calls it, which may be the thread of an event loop, and
    whoever made it happen waits for it: hand slow work on, for example to a queue. An error that it
    raises is recorded by the logger `modelkit` the first time, and reaches nobody else.

    Args:
        listener: takes the event; what it returns is ignored.
        kinds: classes of events.

    Returns:
        A function that ends the subscription, and does nothing when it is called again.

    Raises:
        TypeError: for a listener that cannot be called or is async, and for anything but a kind of
            event.
    """
    if not callable(listener) or inspect.iscoroutinefunction(listener):
        raise TypeError(f"a listener is a plain function of one event; got {listener!r}")
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise TypeError(f"{kind!r} is not a kind of event; pass classes such as events.Loaded")
    number = next(_numbers)
    _subscriptions[number] = Subscription(listener, kinds or (Event,))
    return lambda: _forget(number)


def _forget(number: int) -> None:
    _subscriptions.pop(number, None)


def wanted(kind: type[Event]) -> bool:
    """Whether an event of this kind would reach a listener or may be recorded: else make none."""
    if kind.log_level > 0 and takes(kind.log_level):
        return True
    if not _subscriptions:
        return False
    for subscription in _subscriptions.copy().values():  # noqa: SIM110 - `any` takes four times as long
        if issubclass(kind, subscription.kinds):
            return True
    return False


def anybody(level: int) -> bool:
    """Whether an event of this level may be wanted: else the module of its kind need not be imported."""
    return bool(_subscriptions) or takes(level)


class Aside(Exception):  # it says where a traceback was cut, and is no error
    """What listeners and handlers of logging see as the error that is being handled."""


def emit(event: Event) -> None:
    """Call the logger and the listeners that want it. Catches what they raise, waits for no lock.

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
    except BaseException as error:  # it must not reach whoever made this happen
        if not subscription.told:
            subscription.told = True
            _complain(subscription.listener, error)


def _complain(listener: Listener, error: BaseException) -> None:
    who = getattr(listener, "__qualname__", type(listener).__qualname__)
    what = type(error).__name__
    message = f"the listener {who} raised {what}; it is still called, and this message comes once"
    with suppress(Exception):  # as in _record
        if takes(WARNING):
            values = {"event": "listener", "listener": who, "error": what}
            write_record(WARNING, message, values, error=error)
