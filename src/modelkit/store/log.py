"""What holds by a sequence of entries: read what was added, and add.

What holds after an entry is a pure function of what held before it and of the entry. Each entry names
the one before it, and states what holds after it, so a long log is opened by its newest entries;
every reader of an entry compares the two.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, final

from modelkit._internal import fields
from modelkit._internal.json import parse_json
from modelkit._internal.process import watch_forks
from modelkit.errors import RegistryError
from modelkit.store.sequence import Sequence


class LogEntry(Protocol):
    """An entry: a frozen value that can be written as JSON."""

    @property
    def generation(self) -> int:
        """Its number, from 1."""

    @property
    def id(self) -> str:
        """By which equal entries of several writers differ."""

    @property
    def previous(self) -> str:
        """The id of the entry before; "" of the first."""


class LogState(Protocol):
    """What all entries up to one come to, as such a value too."""

    @property
    def generation(self) -> int:
        """The number of that entry; 0 before the first."""

    @property
    def last(self) -> str:
        """Its id."""

    def after(self, entry: Any) -> Any:
        """What holds after one more entry. An entry of a kind that is not known changes nothing."""

    def contradiction(self, stated: Any, entry: Any) -> str:
        """What the entry states otherwise than follows, such as "aliases"; "" for nothing."""


State = TypeVar("State", bound=LogState)
Entry = TypeVar("Entry", bound=LogEntry)


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
        entry: the class of an entry.
        start: what holds before the first entry.

    Example:
        log = Log(Sequence(store, "log"), Entry, State())
        log.append(lambda state: {"kind": "alias", "version": "1.0.0"})  # by what holds
        log.state()
    """

    def __init__(self, files: Sequence, entry: type[Entry], start: State) -> None:
        self._files = files
        self._entry = entry
        self._start = _Seen(0, b"", start)
        self._lock = threading.Lock()
        self._seen: _Seen[State] | None = None
        watch_forks(self)

    def state(self) -> State:
        """What holds now. Where nothing was added, that takes one read of a file that is absent."""
        return self._refresh().state

    def append(self, decide: Callable[[State], Mapping[str, Any]]) -> Entry:
        """Add an entry with the fields that `decide` gives by what holds now.

        Where another one was added meanwhile, it decides again. What it raises is raised.
        """
        make: Callable[..., Entry] = self._entry
        while True:
            seen = self._refresh()
            values = decide(seen.state)
            entry = make(
                generation=seen.number + 1, id=uuid.uuid4().hex, previous=seen.state.last, **values
            )
            data = write_entry(entry, after(seen.state, entry, None))
            self._check(seen)
            if self._files.put(seen.number + 1, data):
                with self._lock:
                    if self._seen is seen:
                        _, self._seen = self._next(seen, data)
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
        entry, stated = self._read(data, number)
        return entry, _Seen(number, data, after(seen.state, entry, stated))

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
            _, stated = self._read(data, number)
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

    def _read(self, data: bytes, number: int) -> tuple[Entry, State | None]:
        kind = type(self._start.state)
        return read_entry(self._entry, kind, data, number, self._files.path(number))

    @property
    def _where(self) -> str:
        return f"{self._files.store.url}/{self._files.folder}"


def after(state: State, entry: LogEntry, stated: State | None) -> State:
    """What holds after one more entry, which may state it.

    A newer modelkit may know more of it. Raises RegistryError unless the entry follows the last one,
    and states what follows.
    """
    if entry.previous != state.last:
        raise RegistryError(
            f"entry {entry.generation} of the log ({entry}) follows the entry with the id "
            f"{entry.previous!r}, and the one before it has {state.last!r}: entries were lost, "
            "replaced or written by hand; put back the log, from a copy of the registry"
        )
    follows: State = state.after(entry)
    if stated is None:
        return follows
    other = follows.contradiction(stated, entry)
    if other:
        raise RegistryError(
            f"entry {entry.generation} of the log states other {other} than follow from it and "
            "the entries before; put back the log, from a copy of the registry, and find out who "
            "wrote it"
        )
    return stated


def write_entry(entry: LogEntry, state: LogState) -> bytes:
    """An entry as JSON, with what holds after it.

    Raises RegistryError for what could not be read again, such as NaN.
    """
    plain = {**fields.write_object(entry), "state": fields.write_object(state)}
    data = json.dumps(plain, indent=1, sort_keys=True).encode()
    # One entry that cannot be read would close the log for ever.
    read_entry(type(entry), type(state), data, entry.generation, "the entry")
    return data


def read_entry(
    entry_type: type[Entry], state_type: type[State], data: bytes, number: int, where: str
) -> tuple[Entry, State | None]:
    """An entry from JSON, and what it states to hold after it; None if that cannot be read.

    Fields that a newer modelkit added are left out. Raises RegistryError for anything but an
    entry of this number.
    """
    try:
        plain = parse_json(data.decode())
        entry = fields.read_known(entry_type, plain, where)
    except (RecursionError, ValueError) as error:
        raise RegistryError(f"{where} is not an entry of a registry: {error}") from None
    if entry.generation != number:
        raise RegistryError(f"{where} says that it is entry {entry.generation}")
    try:
        state = fields.read_known(state_type, plain.get("state"), where)
    except ValueError:
        return entry, None
    stated = (state.generation, state.last) == (entry.generation, entry.id)
    return entry, state if stated else None
