"""Tell objects whose threads run a model that the interpreter ends.

Python cuts off daemon threads as it ends, and native code that is cut off ends the process with
SIGABRT in place of its own status.
"""

from __future__ import annotations

import atexit
import weakref
from typing import Protocol


class Ending(Protocol):
    """Has threads that run, or load, a model."""

    def at_exit(self) -> None:
        """Begin nothing more, and wait for what runs, but not for long."""


_all: weakref.WeakSet[Ending] = weakref.WeakSet()
_watching = False


def tell_at_exit(ending: Ending) -> None:
    """Call its `at_exit` when the interpreter ends, if it lives then."""
    global _watching  # noqa: PLW0603 - once a process, and not before there is something to watch
    if not _watching:
        atexit.register(_at_exit)
    _watching = True
    _all.add(ending)


def _at_exit() -> None:
    for ending in list(_all):
        ending.at_exit()
