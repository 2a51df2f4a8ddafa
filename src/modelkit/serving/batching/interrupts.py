"""Distinguish an exception of the application's signal handlers from a failure of the model.

Python calls signal handlers in the main thread, between any two instructions of whatever that
thread runs: a handler that raises (SystemExit on SIGTERM, the soft time limit of Celery) raises in
the middle of a model's run.
"""

from __future__ import annotations

import inspect
import signal
import threading
from types import CodeType, FrameType, TracebackType
from typing import Any

# Where a thread of a Batcher has a slot, waits for one, or takes the lock.
WITHIN = frozenset(
    f"modelkit.serving.batching.{name}" for name in ("batcher", "scheduler", "ticks", "workers")
)


def is_within(scheduler: Any) -> bool:
    """Whether the call that asks was made in the middle of another one, in its thread."""
    if scheduler.interrupted:
        return True
    frame: Any = inspect.currentframe()
    frame = frame.f_back.f_back  # what made the call
    while frame is not None:
        if frame.f_globals.get("__name__") in WITHIN:
            owner = frame.f_locals.get("self")
            places = (getattr(owner, name, None) for name in ("scheduler", "_scheduler"))
            if scheduler in (owner, *places):
                return True
        frame = frame.f_back
    return False


def in_main_thread() -> bool:
    """Whether the calling thread is the one in which signal handlers are called."""
    return threading.get_ident() == threading.main_thread().ident


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal handler in this thread raised an exception, or what came instead of it.

    The handler's frame is in the traceback. It is known by its arguments, one of which is the frame
    that it interrupted; or by its code, where it has deleted that argument. KeyboardInterrupt has a
    handler without a frame.
    """
    if not in_main_thread():
        return False
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = _handlers()
    passed = _frames(error.__traceback__)
    if any(_is_handler(frame, handlers) for frame in passed):
        return True
    # What the model raised while it handled the handler's exception. What was handled before the
    # model was called does not count: its traceback begins in a frame that this one does not pass
    # through.
    seen = {id(error)}
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        frames = _frames(cause.__traceback__)
        if frames and frames[0] in passed and any(_is_handler(frame, handlers) for frame in frames):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _frames(traceback: TracebackType | None) -> list[FrameType]:
    frames = []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def _is_handler(frame: FrameType, handlers: set[CodeType]) -> bool:
    if frame.f_code in handlers:
        return True
    interrupted = frame.f_back
    if interrupted is None:
        return False
    given = inspect.getargvalues(frame)
    values = [given.locals.get(name) for name in given.args]
    rest = given.locals.get(given.varargs or "")
    if type(rest) is tuple:
        values += rest
    return any(value is interrupted for value in values)


def _handlers() -> set[CodeType]:
    """The code of the signal handlers that are installed and are functions or methods."""
    handlers = map(signal.getsignal, signal.valid_signals())
    # A method has the code of its function.
    codes = [getattr(handler, "__code__", None) for handler in handlers]
    return {code for code in codes if isinstance(code, CodeType)}
