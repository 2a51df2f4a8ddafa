"""One folder of a store, such as the counts of a rollout, as a store of its own."""

from __future__ import annotations

from typing import final

from modelkit.store.store import MOST_BYTES, Store


@final
class Subfolder:
    """The files within one folder of a store, by names such as "sums/0000000001"."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self.url = f"{store.url}/{folder}"
        self.concurrent = store.concurrent

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Make a file; returns False where there is another one of this name."""
        return self._store.create(f"{self._folder}/{name}", data)

    def read(self, name: str, most: float = MOST_BYTES) -> bytes | None:
        """The content of a file, or None where there is none."""
        return self._store.read(f"{self._folder}/{name}", most)

    def remove(self, name: str) -> None:
        """Remove a file that nobody needs any more."""
        self._store.remove(f"{self._folder}/{name}")

    def names(self, folder: str, after: str = "") -> list[str]:
        """The names of the files within a folder, in their order."""
        return self._store.names(f"{self._folder}/{folder}", after)

    def folders(self, folder: str) -> list[str]:
        """The names of the folders within a folder, in their order."""
        return self._store.folders(f"{self._folder}/{folder}")

    def path(self, name: str) -> str | None:
        """The path of a file on this machine; None in a bucket."""
        return self._store.path(f"{self._folder}/{name}")
