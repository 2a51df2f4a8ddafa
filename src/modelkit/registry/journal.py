"""The log of one model in a store: read what was added, and add."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import final

from modelkit.registry.log import (
    KEPT_EVERY,
    Entry,
    State,
    entry_name,
    read_entry,
    read_state,
    state_name,
    write_entry,
    write_state,
)
from modelkit.registry.store import Store


@final
class Journal:
    """Follows the log of one model. Safe from any thread; another process sees each entry whole."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._folder = f"models/{name}"
        self._lock = threading.Lock()
        self._state: State | None = None

    def refresh(self) -> State:
        """What holds now. Where nothing was added, that takes one read of a file that is absent."""
        with self._lock:
            state = self._state or self._newest_kept()
            while (entry := self._entry(state.generation + 1)) is not None:
                state = state.after(entry)
            self._state = state
            return state

    def append(self, decide: Callable[[State], Entry]) -> Entry:
        """Add the entry that `decide` makes of what holds now.

        Where another one was added meanwhile, it decides anew. What it raises is raised.
        """
        while True:
            entry = decide(self.refresh())
            data = write_entry(entry)
            path = self._entry_path(entry.generation)
            # The answer of a store may be lost, so what is there is compared: an entry has an id.
            if self._store.create(path, data) or self._store.read(path) == data:
                break
        state = self.refresh()
        if entry.generation % KEPT_EVERY == 0 and state.generation == entry.generation:
            self._store.create(self._state_path(state.generation), write_state(state))
        return entry

    def entries(self) -> tuple[Entry, ...]:
        """Every entry, the oldest first."""
        last = self.refresh().generation
        with ThreadPoolExecutor(self._store.concurrent) as pool:
            found = pool.map(self._entry, range(1, last + 1))
            return tuple(entry for entry in found if entry is not None)

    def _newest_kept(self) -> State:
        """The newest state that was kept, from which fewer entries are left to read."""
        for name in self._store.names(f"{self._folder}/states", most=1):
            path = f"{self._folder}/states/{name}"
            data = self._store.read(path)
            if data is not None:
                return read_state(data, path)
        return State()

    def _entry(self, generation: int) -> Entry | None:
        path = self._entry_path(generation)
        data = self._store.read(path)
        if data is None:
            return None
        return replace(read_entry(data, path), generation=generation)

    def _entry_path(self, generation: int) -> str:
        return f"{self._folder}/log/{entry_name(generation)}"

    def _state_path(self, generation: int) -> str:
        return f"{self._folder}/states/{state_name(generation)}"
