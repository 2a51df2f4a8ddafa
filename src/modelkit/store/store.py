"""The one thing a registry asks of a place: create a file of this name, unless there is one."""

from __future__ import annotations

import os
import re
from typing import Protocol

from modelkit.errors import RegistryError, without_credentials

MOST_BYTES = 1 << 30  # of a file that is no package: an entry, a state, what was counted
BUCKETS = ("s3://", "gs://", "az://")
MISSPELT = re.compile(r"(s3|gs|az)(?::|//)[:/]*(.*)", re.IGNORECASE)
URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/")  # of two letters or more: one is a disk of Windows


class Store(Protocol):
    """Files by name, such as "models/churn/log/0000000001". None is ever changed.

    Attributes:
        url: what opens the same place again, on another machine too if it is a bucket.
        concurrent: how many files are read at once where there are many.
    """

    url: str
    concurrent: int

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Make a file, whole or not at all; returns False where there is one of this name."""

    def read(self, name: str, most: float = MOST_BYTES) -> bytes | None:
        """The content of a file, or None where there is none.

        Raises NotAFile for what is no regular file, or has more bytes than `most`.
        """

    def names(self, folder: str, most: int | None = None, after: str = "") -> list[str]:
        """The names of the first `most` files in a folder, without the folder, in their order.

        With `after`, of those that come after this name.
        """

    def remove(self, name: str) -> None:
        """Remove a file that nobody needs any more, such as the last sign of life but two."""

    def folders(self, folder: str) -> list[str]:
        """The names of the folders within a folder, in their order."""

    def path(self, name: str) -> str | None:
        """The path of a file on this machine; None in a bucket."""


def open_store(where: str | os.PathLike[str]) -> Store:
    """The store at a path or a URL. Raises RegistryError for what can only be meant as a URL."""
    text = os.fspath(where)
    if text.startswith(BUCKETS):
        from modelkit.store.bucket import Bucket

        return Bucket(text)
    check_folder(text)
    from modelkit.store.folder import DiskFolder

    return DiskFolder(text)


def check_folder(text: str) -> None:
    """Raise RegistryError for what would be a folder of a strange name, and is a URL that is misspelt."""
    kinds = "a registry is a folder or a bucket (s3://..., gs://..., az://...)"
    if not text:
        raise RegistryError(f"{kinds}, not {text!r}; '.' is the folder that you are in")
    text = without_credentials(text)
    found = MISSPELT.match(text)
    if found is not None:
        scheme, rest = found.groups()
        raise RegistryError(
            f"{kinds}, not {text!r}: is it {scheme.lower()}://{rest}? A pathlib.Path loses a slash "
            f"of a URL, so pass a string. A folder of this name is ./{text}"
        )
    if not URL.match(text):
        return
    fix = (
        "give the path of a folder as it is"
        if text.startswith("file:")
        else (
            "give a bucket by its own URL, such as s3://bucket/path, and the address of its service in "
            "the environment, such as AWS_ENDPOINT_URL"
        )
    )
    raise RegistryError(f"{kinds}, not {text!r}: {fix}")
