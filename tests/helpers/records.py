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
    """The records of the logger, as they are written, from a fresh start of all limits."""
    logger = logging.getLogger("modelkit")
    handler = Keeping()
    before = logger.level
    matters = logs._matters
    logs._matters = None
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logs._matters = matters


def own(record):
    """The fields of a record that are ours."""
    return {
        name.removeprefix("modelkit_"): value
        for name, value in vars(record).items()
        if name.startswith("modelkit_")
    }
