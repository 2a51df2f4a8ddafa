"""Events as records of the standard library's `logging`, by the one logger `modelkit`.

Nothing is configured, no handler either: where the application configures none, `logging` itself
writes warnings and errors to stderr, so the reason of a failed request is not lost. Where the
application has not imported `logging`, no handler can wait for a record, and `logging` is not
imported either.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from modelkit._internal.process import watch_forks
from modelkit.errors import public_text

if TYPE_CHECKING:
    import logging

LOGGER = "modelkit"
PREFIX = "modelkit_"  # of every field of a record, so that none has the name of another's
EVERY = 10.0  # seconds from one record to the next of the same matter, at least
INFO = 20  # the levels of `logging`, which is not imported for them
WARNING = 30
LONGEST_CHAIN = 20  # of errors that led to one

_logger: logging.Logger | None = None


class Pace(NamedTuple):
    """The last record of a matter: when it was written, and the number of its event."""

    at: float
    number: int


def stands_for(last: Pace | None, number: int, now: float) -> int:
    """The number of events that one record stands for, if it is written now; 0 if it is not.

    `number` counts the events of the matter from 1, this one included; `now` is in seconds.
    """
    if last is None:
        return number
    if now - last.at < EVERY:
        return 0
    return max(number - last.number, 0)


class Matter:
    """What is recorded at most once in ten seconds. Nobody waits for its lock."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._last: Pace | None = None
        self._lock = threading.Lock()

    def note(self, now: float) -> int:
        """Count one event; returns the number of events to record now, or 0."""
        number = next(self._numbers)
        if not stands_for(self._last, number, now) or not self._lock.acquire(blocking=False):
            return 0
        try:
            count = stands_for(self._last, number, now)
            if count:
                self._last = Pace(now, number)
            return count
        finally:
            self._lock.release()


class Matters:
    """The matters of this process, by whatever distinguishes them."""

    def __init__(self) -> None:
        self._all: dict[Hashable, Matter] = {}
        watch_forks(self)

    def note(self, key: Hashable, now: float) -> int:
        """Count one event of a matter; returns the number of events to record now, or 0."""
        matter = self._all.get(key)
        if matter is None:
            matter = self._all.setdefault(key, Matter())
        return matter.note(now)

    def after_fork(self) -> None:
        """Begin again in the child of a fork, where another thread may have held a lock."""
        self._all = {}


_matters: Matters | None = None


def takes(level: int) -> bool:
    """Whether the logger takes records of this level."""
    logger = _find_logger()
    return logger is not None and logger.isEnabledFor(level)


def log_due(key: Hashable) -> int:
    """The number of events of a matter that a record of this one stands for.

    0 if none is to be written, since the last one is less than ten seconds old.
    """
    return _find_matters().note(key, time.monotonic())


def write_record(
    level: int,
    message: str,
    fields: Mapping[str, Any],
    count: int = 1,
    error: BaseException | None = None,
) -> None:
    """Record what happened, for `count` events of the kind, which is a field as well.

    Of an error, and of those that led to it, the traceback has what `public_text` gives.
    """
    logger = _find_logger()
    if logger is None:
        return
    if count > 1:
        message += f" ({count:,} times since the last record of it)"
    extra = {PREFIX + name: value for name, value in fields.items()}
    extra[PREFIX + "count"] = count
    logger.log(level, "%s", message, extra=extra, exc_info=error and _public(error))


def _public(error: BaseException) -> BaseException:
    """An error with the type and the traceback of another one, and the text that all may read.

    So are those that led to it, each once: one may be both the cause and the context of another.
    """
    made: dict[int, BaseException] = {}

    def copied(own: BaseException | None, most: int) -> BaseException | None:
        if own is None or most < 0:
            return None
        if id(own) in made:
            return made[id(own)]
        kind = type(own)
        about = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        _, _, text = public_text(own).partition(": ")
        public: BaseException = type(kind.__name__, (Exception,), about)(*[text] if text else [])
        made[id(own)] = public
        public.__traceback__ = own.__traceback__
        public.__context__ = copied(own.__context__, most - 1)
        public.__cause__ = copied(own.__cause__, most - 1)
        public.__suppress_context__ = own.__suppress_context__
        return public

    return copied(error, LONGEST_CHAIN) or error


def _find_logger() -> logging.Logger | None:
    """The logger, or None where the application does not log."""
    global _logger  # to ask `logging` for it would take a lock each time
    if _logger is None and "logging" in sys.modules:
        import logging

        _logger = logging.getLogger(LOGGER)
    return _logger


def _find_matters() -> Matters:
    global _matters  # one a process, not made by an import
    if _matters is None:
        _matters = Matters()
    return _matters
