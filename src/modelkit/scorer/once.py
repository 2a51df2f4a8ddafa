"""The Models that Scorers of this process share: one for each package and way of opening it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from typing import Any, final

from modelkit import forks


@final
class OncePerProcess:
    """Values that are made once a process, however many threads ask for them.

    A child of a fork makes its own: a model on another device than the CPU does not survive one.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}
        self._lock = threading.RLock()
        forks.watch(self)

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key; `make` makes it where there is none yet."""
        place = (os.getpid(), key)
        found = self._values.get(place)
        if found is not None:
            return found
        with self._lock:
            if place not in self._values:
                self._values[place] = make()
            return self._values[place]
