"""The one thing a registry asks of a place: create a file of this name, unless there is one."""

from __future__ import annotations

from typing import Protocol

MOST_BYTES = 1 << 30  # of a file that is no package: an entry, a state, what was counted


class Store(Protocol):
    """Files by name, such as "models/churn/log/0000000001". None is ever changed.

    Attributes:
        url: what opens the same place again, on another machine too if it is a bucket.
        concurrent: how many files are read at once where there are many.
    """

    url: str
    concurrent: int

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Make a file, whole or not at all; returns False where there is another one of this name.

        An answer may be lost on its way, so a file that has this content was made, by whomever.
        """

    def read(self, name: str, most: float = MOST_BYTES) -> bytes | None:
        """The content of a file, or None where there is none.

        Raises NotAFile for anything but a regular file, and for one of more bytes than `most`.
        """

    def names(self, folder: str, after: str = "") -> list[str]:
        """The names of the files in a folder, without the folder, in their order.

        With `after`, of those that come after this name.
        """

    def remove(self, name: str) -> None:
        """Remove a file that nobody needs any more, such as the last sign of life but two."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders within a folder, in their order."""

    def path(self, name: str) -> str | None:
        """The path of a file on this machine; None in a bucket."""
