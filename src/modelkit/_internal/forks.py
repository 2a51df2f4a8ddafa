"""Tell objects with locks or threads that the process was forked."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Has locks or threads, which do not survive in the child of a fork."""

    def after_fork(self) -> None:
        """Make the locks and threads again, in the child."""


_all: weakref.WeakSet[Forked] = weakref.WeakSet()
_watching = False


def watch(forked: Forked) -> None:
    """Call its `after_fork` in the child of every fork, for as long as it lives."""
    global _watching  # noqa: PLW0603 - once a process, and not before there is something to watch
    if not _watching and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    _watching = True
    _all.add(forked)


def _after_fork() -> None:
    for forked in list(_all):
        forked.after_fork()
