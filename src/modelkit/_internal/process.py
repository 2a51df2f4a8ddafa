"""Notify objects with locks or threads that the process was forked, or that the interpreter ends.

Locks and threads do not survive in the child of a fork. Python cuts off daemon threads as it ends,
and native code that is cut off ends the process with SIGABRT in place of its own status.
"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Has locks or threads, which do not survive in the child of a fork."""

    def after_fork(self) -> None:
        """Make the locks and threads again, in the child."""


class Ending(Protocol):
    """Has threads that run, or load, a model."""

    def at_exit(self) -> None:
        """Begin nothing more, and wait for what runs, but not for long."""


_forked: weakref.WeakSet[Forked] = weakref.WeakSet()
_ending: weakref.WeakSet[Ending] = weakref.WeakSet()
_registered: set[str] = set()  # once a process each, and not before there is something to watch


def watch_forks(forked: Forked) -> None:
    """Call its `after_fork` in the child of every fork, for as long as it lives."""
    if "fork" not in _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
        _registered.add("fork")
    _forked.add(forked)


def watch_exit(ending: Ending) -> None:
    """Call its `at_exit` when the interpreter ends, if it lives then."""
    if "exit" not in _registered:
        atexit.register(_at_exit)
        _registered.add("exit")
    _ending.add(ending)


def _after_fork() -> None:
    for forked in list(_forked):
        forked.after_fork()


def _at_exit() -> None:
    for ending in list(_ending):
        ending.at_exit()
