"""The one thing a registry asks of a place: create a file of this name, unless there is one."""

from __future__ import annotations

import os
from typing import Protocol

from modelkit.errors import RegistryError

BUCKETS = ("s3://", "gs://", "az://")


class Store(Protocol):
    """Files by name, such as "models/churn/log/0000000001". None is ever changed or removed.

    Attributes:
        url: what opens the same place again, on another machine too if it is a bucket.
        concurrent: how many files are read at once where there are many.
    """

    url: str
    concurrent: int

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Make a file, whole or not at all; returns False where there is one of this name."""

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""

    def names(self, folder: str, most: int | None = None) -> list[str]:
        """The names of the first `most` files in a folder, without the folder, in their order."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders within a folder, in their order."""

    def path(self, name: str) -> str | None:
        """The path of a file on this machine; None in a bucket."""


def open_store(where: str | os.PathLike[str]) -> Store:
    """The store at a path or a URL. Raises RegistryError for a URL of another kind."""
    text = os.fspath(where)
    if text.startswith(BUCKETS):
        from modelkit.registry.bucket import Bucket

        return Bucket(text)
    if "://" in text:
        known = ", ".join(BUCKETS)
        raise RegistryError(f"a registry is a folder or a bucket ({known}...), not {text!r}")
    from modelkit.registry.folder import DiskFolder

    return DiskFolder(text)
