"""The Models that Scorers of this process share: one for each package and way of opening it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable
from itertools import count
from typing import Any, TypeVar, cast, final

from modelkit._internal.process import watch_forks

T = TypeVar("T")
MOST_PACKAGES = 8  # whose values a process keeps: those that it used last


@final
class OncePerProcess:
    """Values that are made once a process, however many threads ask for them.

    Each belongs to the package or profile of a digest. The values of the last 8 digests that were
    asked for are kept, so a worker that lives long and scores many packages does not keep all. A
    child of a fork makes its own: a model on another device than the CPU does not survive one.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[int, str, Hashable], Any] = {}
        self._used: dict[str, int] = {}  # when each digest was asked for last, by a count
        self._count = count()
        self._lock = threading.RLock()
        watch_forks(self)

    def after_fork(self) -> None:
        """In the child of a fork: another thread may have held the lock."""
        self._lock = threading.RLock()

    def get(self, digest: str, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key of what has this digest; `make` makes it where there is none yet."""
        place = (os.getpid(), digest, key)
        self._used[digest] = next(self._count)
        found = self._values.get(place)
        if found is None:
            with self._lock:
                found = self._values.get(place)
                if found is None:
                    found = self._values[place] = make()
                    self._used[digest] = next(self._count)  # others were asked for meanwhile
                    self._forget()
        return cast("T", found)

    def _forget(self) -> None:
        """Drop what belongs to none of the digests that were asked for last."""
        by_use = sorted([*self._used], key=self._used.__getitem__)
        for digest in by_use[:-MOST_PACKAGES]:
            del self._used[digest]
        for place in [*self._values]:
            if place[1] not in self._used:
                del self._values[place]
