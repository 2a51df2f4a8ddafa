"""Events and log records, as they happen."""

import contextlib
import logging

from modelkit import events
from modelkit._internal import logs

HANDLED = events.Handled("/v2/models/{name}/infer", "POST", 200, 0.01, None, "r1", "m")
SWAPPED = events.Swapped("m", "2", "bb", "1", "aa")
OVERLOAD = events.Overload("m", "1", 30, 32)


@contextlib.contextmanager
def hearing(*kinds):
    """The events of these kinds, as they happen."""
    heard = []
    stop = events.subscribe(heard.append, *kinds)
    try:
        yield heard
    finally:
        stop()


class Keeping(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@contextlib.contextmanager
def recording():
    """The records of the logger, as they are written, from a fresh start of all limits.

    One of a matter is written in an hour, so that it does not matter how long a test takes.
    """
    logger = logging.getLogger("modelkit")
    handler = Keeping()
    before = logger.level, logs.EVERY
    matters = logs._matters
    logs._matters = None
    logs.EVERY = 3600.0
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logs.EVERY = before[1]
        logs._matters = matters


def own(record):
    """The fields of a record that are ours."""
    return {
        name.removeprefix("modelkit_"): value
        for name, value in vars(record).items()
        if name.startswith("modelkit_")
    }
