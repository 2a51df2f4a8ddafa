"""The log of one model in a store: read what was added, and add."""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import final

from modelkit._internal.process import watch_forks
from modelkit.errors import RegistryError
from modelkit.lifecycle.registry.log import (
    KEPT_EVERY,
    LAST_NUMBER,
    Entry,
    State,
    check_aliases,
    check_follows,
    entry_name,
    read_entry,
    read_state,
    state_name,
    write_entry,
    write_state,
)
from modelkit.store.store import Store

TRIED = 4  # kept states that are looked at; where none can be used, the log is read from its start
# A name may be taken by a file that cannot be seen yet, in a folder of NFS for up to a minute.
UNSEEN = 90.0  # seconds
PAUSE = 0.01  # seconds until such a file is looked for again
ENTRY = re.compile("[0-9]{10}")


@final
class Journal:
    """Follows the log of one model. Safe from any thread; another process sees each entry whole."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._folder = f"models/{name}"
        self._lock = threading.Lock()
        self._state: State | None = None
        watch_forks(self)

    def refresh(self) -> State:
        """What holds now. Where nothing was added, that takes one read of a file that is absent."""
        with self._lock:
            state = self._state
            if state is None:
                state = self._read_on(self._newest_kept())
                self._check_end(state)
            self._state = self._read_on(state)
            return self._state

    def _read_on(self, state: State) -> State:
        while (entry := self._entry(state.generation + 1)) is not None:
            check_follows(entry, state.last)
            state = state.after(entry)
        return state

    def check(self) -> None:
        """Raise RegistryError if the log that was read, or the next entry, is gone: this looks like no news."""
        with self._lock:
            if self._state is not None:
                self._check_same_log(self._state)
                self._check_end(self._state)

    @property
    def gone(self) -> bool:
        """Whether the last entry that was read is gone from a folder; that is seen in a moment.

        In a bucket, only `check` can tell.
        """
        state = self._state
        if state is None or state.generation == 0:
            return False
        place = self._store.path(self._entry_path(state.generation))
        return place is not None and not os.path.exists(place)  # thrice as fast

    def append(self, decide: Callable[[State], Entry]) -> Entry:
        """Add the entry that `decide` makes of what holds now.

        Where another one was added meanwhile, it decides anew. What it raises is raised.
        """
        end = time.monotonic() + UNSEEN
        while True:
            state = self.refresh()
            entry = decide(state)
            data = write_entry(entry)
            self._check_same_log(state)
            self._check_end(state)
            path = self._entry_path(entry.generation)
            if self._store.create(path, data):
                break
            # The answer of a store may be lost, so what is there is compared: an entry has an id.
            there = self._store.read(path)
            if there == data:
                break
            if there is None:
                self._wait_for(path, end)
        if entry.generation % KEPT_EVERY == 0:
            self._keep(state.after(entry))
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """Every entry, the oldest first. Raises RegistryError where one is gone."""
        state = self.refresh()
        with ThreadPoolExecutor(self._store.concurrent) as pool:
            found = tuple(pool.map(self._entry_there, range(1, state.generation + 1)))
        for before, entry in itertools.pairwise(found):
            check_follows(entry, before.id)
        check_aliases(state, found, self._where())
        return found

    def after_fork(self) -> None:
        """In the child of a fork, no thread holds the lock."""
        self._lock = threading.Lock()

    def _keep(self, state: State) -> None:
        """Keep a state, for those who open the log; where that fails, they read more entries."""
        with suppress(OSError, RegistryError):
            self._store.create(self._state_path(state.generation), write_state(state))

    def _check_same_log(self, state: State) -> None:
        """Raise RegistryError if the log that was read is gone, or another one is in its place."""
        if state.generation == 0:
            return
        last = self._entry(state.generation)
        if last is None or last.id != state.last:
            raise RegistryError(
                f"{self._where()}: the log was removed, or replaced by another one, after it was "
                f"read up to entry {state.generation}; nothing was changed. Open the registry again"
            )

    def _check_end(self, state: State) -> None:
        """Raise RegistryError where entries follow the next one, and that one is gone."""
        following = state.generation + 1
        names = self._store.names(f"{self._folder}/log", after=entry_name(following))
        # Of what was written meanwhile, the next entry was there before those after it.
        if any(map(ENTRY.fullmatch, names)) and self._entry(following) is None:
            raise self._gone(following)

    def _gone(self, generation: int) -> RegistryError:
        return RegistryError(
            f"{self._where()}: entry {generation} of the log is gone; put it back, from a copy of "
            "the registry. Without it nobody knows what holds, and nothing is changed"
        )

    def _wait_for(self, path: str, end: float) -> None:
        place = self._store.path(path)
        leads_nowhere = place is not None and Path(place).is_symlink()
        if leads_nowhere or time.monotonic() > end:
            raise RegistryError(
                f"{self._store.url}: the name {path} is taken, and no file can be read there; "
                "remove it"
            )
        time.sleep(PAUSE)

    def _newest_kept(self) -> State:
        """The newest state that was kept, from which fewer entries are left to read."""
        for name in self._store.names(f"{self._folder}/states", most=TRIED):
            state = self._kept(name)
            if state is not None:
                return state
        return State()

    def _kept(self, name: str) -> State | None:
        """A kept state; None for another file, or a state of another log than this one.

        Raises RegistryError where the last entry that it holds is gone.
        """
        path = f"{self._folder}/states/{name}"
        try:
            state = read_state(self._store.read(path) or b"", path)
        except RegistryError:
            return None
        if name != state_name(state.generation) or not 0 < state.generation < LAST_NUMBER:
            return None
        return state if self._entry_there(state.generation).id == state.last else None

    def _entry_there(self, generation: int) -> Entry:
        entry = self._entry(generation)
        if entry is None:
            raise self._gone(generation)
        return entry

    def _entry(self, generation: int) -> Entry | None:
        path = self._entry_path(generation)
        data = self._store.read(path)
        if data is None:
            return None
        entry = read_entry(data, path)
        if entry.generation != generation:
            raise RegistryError(f"{path} says that it is entry {entry.generation}")
        return entry

    def _where(self) -> str:
        return f"{self._store.url}/{self._folder}"

    def _entry_path(self, generation: int) -> str:
        return f"{self._folder}/log/{entry_name(generation)}"

    def _state_path(self, generation: int) -> str:
        return f"{self._folder}/states/{state_name(generation)}"
