"""What holds by a sequence of entries: read what was added, and add.

What holds after an entry is a pure function of what held before it and of the entry. Each entry says
it too, so that a long log is opened by its newest entries; whoever reads an entry compares the two.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, NamedTuple, TypeVar, final

from modelkit._internal.process import watch_forks
from modelkit.errors import RegistryError
from modelkit.store.sequence import Sequence

State = TypeVar("State")
Entry = TypeVar("Entry")


class _Seen(NamedTuple, Generic[State]):
    """The last entry that was read: its number, its file, and what holds after it."""

    number: int
    data: bytes
    state: State


@final
class Log(Generic[State, Entry]):
    """Follows the entries of a sequence. Safe from any thread; another process sees each entry whole.

    Args:
        files: the sequence.
        start: what holds before the first entry.
        read: gives the entry of a file, and what holds after it, or None where the file does not say
            it; from the content, its number and its path. Raises RegistryError for anything else.
        write: gives the file of an entry, from the entry and what holds after it.
        follow: gives what holds after an entry, from what held before it, the entry, and what it says
            itself or None; pure. Raises RegistryError for an entry that cannot follow.

    Example:
        log = Log(Sequence(store, "log"), 0, read=read, write=write, follow=follow)
        log.append(lambda total: total + 1)  # decide by what holds
        log.state()
    """

    def __init__(
        self,
        files: Sequence,
        start: State,
        *,
        read: Callable[[bytes, int, str], tuple[Entry, State | None]],
        write: Callable[[Entry, State], bytes],
        follow: Callable[[State, Entry, State | None], State],
    ) -> None:
        self._files = files
        self._start = _Seen(0, b"", start)
        self._read = read
        self._write = write
        self._follow = follow
        self._lock = threading.Lock()
        self._seen: _Seen[State] | None = None
        watch_forks(self)

    def state(self) -> State:
        """What holds now. Where nothing was added, that takes one read of a file that is absent."""
        return self._refresh().state

    def append(self, decide: Callable[[State], Entry]) -> Entry:
        """Add the entry that `decide` makes of what holds now.

        Where another one was added meanwhile, it decides anew. What it raises is raised.
        """
        while True:
            seen = self._refresh()
            entry = decide(seen.state)
            data = self._write(entry, self._follow(seen.state, entry, None))
            self._check(seen)
            if self._files.put(seen.number + 1, data):
                return entry

    def entries(self) -> tuple[Entry, ...]:
        """Every entry, the oldest first. Raises RegistryError where one is gone or cannot follow."""
        last = self._refresh().number
        with ThreadPoolExecutor(self._files.store.concurrent) as pool:
            files = list(pool.map(self._there, range(1, last + 1)))
        found = []
        seen = self._start
        for data in files:
            entry, seen = self._next(seen, data)
            found.append(entry)
        return tuple(found)

    def check(self) -> None:
        """Raise RegistryError if the log that was read, or the next entry, is gone: this looks like no news."""
        if self._seen is not None:
            self._check(self._seen)

    @property
    def gone(self) -> bool:
        """Whether the last entry that was read is gone from a folder; that is seen in a moment.

        In a bucket, only `check` can tell.
        """
        seen = self._seen or self._start
        if seen.number == 0:
            return False
        place = self._files.store.path(self._files.path(seen.number))
        return place is not None and not os.path.exists(place)  # thrice as fast

    def after_fork(self) -> None:
        """In the child of a fork, no thread holds the lock."""
        self._lock = threading.Lock()

    def _refresh(self) -> _Seen[State]:
        with self._lock:
            seen = self._opened() if self._seen is None else self._seen
            for _, data in self._files.after(seen.number):
                _, seen = self._next(seen, data)
            self._seen = seen
            return seen

    def _next(self, seen: _Seen[State], data: bytes) -> tuple[Entry, _Seen[State]]:
        """The entry of the next file, and what holds after it."""
        number = seen.number + 1
        entry, stated = self._read(data, number, self._files.path(number))
        return entry, _Seen(number, data, self._follow(seen.state, entry, stated))

    def _opened(self) -> _Seen[State]:
        """What the newest entry but one, or the last before it that does so, says that holds."""
        # The newest entry is not taken at its word: it is read as news, and compared.
        last = 0
        for number in self._files.numbers():
            for missed in range(last + 1, number):
                self._there(missed)  # a listing may miss what is made meanwhile
            last = number
        for number in range(last - 1, 0, -1):
            data = self._there(number)
            _, stated = self._read(data, number, self._files.path(number))
            if stated is not None:
                return _Seen(number, data, stated)
        return self._start

    def _check(self, seen: _Seen[State]) -> None:
        if seen.number and self._files.read(seen.number) != seen.data:
            raise RegistryError(
                f"{self._where}: the log was removed, or replaced by another one, after it was "
                f"read up to entry {seen.number}; nothing was changed. Open the registry again"
            )
        # Of what was written meanwhile, the next entry was there before those after it.
        if self._files.numbers(after=seen.number + 1):
            self._there(seen.number + 1)

    def _there(self, number: int) -> bytes:
        data = self._files.read(number)
        if data is None:
            raise RegistryError(
                f"{self._where}: entry {number} of the log is gone; put it back, from a copy of "
                "the registry. Without it nobody knows what holds, and nothing is changed"
            )
        return data

    @property
    def _where(self) -> str:
        return f"{self._files.store.url}/{self._files.folder}"
