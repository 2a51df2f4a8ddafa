"""A bucket of an object store, by obstore, as the store of a registry.

A put with the condition "unless there is one" is atomic at S3 (If-None-Match), Google and Azure.
Credentials and the address of the service come from the environment of whoever opens it, as obstore
reads it; none is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, final
from urllib.parse import urlsplit

from modelkit.errors import NotAFile, RegistryError, UsageError, importing, without_credentials
from modelkit.store.store import MOST_BYTES

METADATA_SERVICE = "169.254.169.254"  # which is asked where the environment has no credentials
_user: int | None = None  # the process that used a bucket first


@final
class Bucket:
    """The files under the URL of a bucket, such as "s3://models/of-the-team"."""

    concurrent = 16

    def __init__(self, url: str) -> None:
        with importing("obstore", "a registry in a bucket", "store"):
            from obstore.store import from_url
        parts = urlsplit(url)
        if "@" in parts.netloc or parts.query:
            raise UsageError(
                f"the address of a bucket has a user, a password or a query, {without_credentials(url)}: "
                "leave them out, and give credentials in the environment, such as AWS_ACCESS_KEY_ID"
            )
        self.url = url.rstrip("/")
        with _refusals(self.url):
            self._store: Any = from_url(self.url)

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Make a file; returns False where there is another one of this name."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._request():
            try:
                obstore.put(self._store, name, data, mode="create")
            except AlreadyExistsError:
                return self.read(name, inf) == data
        return True

    def read(self, name: str, most: float = MOST_BYTES) -> bytes | None:
        """The content of a file, or None. Raises NotAFile for one of more bytes."""
        import obstore
        from obstore.exceptions import NotFoundError

        with self._request():
            try:
                found = obstore.get(self._store, name)
                if found.meta["size"] > most:
                    size = f"{found.meta['size']:,} bytes, which no record has"
                    raise NotAFile(f"{self.url}/{name} has {size}; remove it")
                return bytes(found.bytes())
            except (FileNotFoundError, NotFoundError):
                return None

    def names(self, folder: str, after: str = "") -> list[str]:
        """The names of the files in a folder, in one request for each thousand."""
        import obstore

        found: list[str] = []
        start = f"{folder}/{after}" if after else None
        with self._request():
            for page in obstore.list(self._store, f"{folder}/", offset=start, chunk_size=1000):
                found += [item["path"].removeprefix(f"{folder}/") for item in page]
        return sorted(name for name in found if "/" not in name)

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""
        import obstore

        with self._request():
            found = obstore.list_with_delimiter(self._store, f"{folder}/")
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])

    def remove(self, name: str) -> None:
        """Remove a file."""
        import obstore

        with self._request():
            obstore.delete(self._store, name)

    def path(self, name: str) -> None:
        """None: an object in a bucket is not at a path here."""
        return

    @contextmanager
    def _request(self) -> Iterator[None]:
        """A block that uses the bucket. Raises RegistryError."""
        global _user  # the threads of obstore belong to the process as well
        _user = _user or os.getpid()
        if os.getpid() != _user:
            raise RegistryError(
                f"{self.url} cannot be asked: this process was forked from process {_user}, which "
                "used a bucket, and would wait for threads that only that one has. Open the "
                "registry after the fork, and not before; or start workers by spawn"
            )
        with _refusals(self.url):
            yield


@contextmanager
def _refusals(url: str) -> Iterator[None]:
    """Raise RegistryError with what obstore says."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, FileNotFoundError) as error:  # the latter for a bucket that is not there
        told = str(error).partition("\n\nDebug source")[0]  # which is for who debugs obstore
        # The answer of the store, which has the reason, is on further lines.
        reason = without_credentials(" ".join(told.splitlines()))
        if METADATA_SERVICE in reason:
            reason = f"the environment lacks credentials, such as AWS_ACCESS_KEY_ID: {reason}"
        raise RegistryError(f"the bucket of {url} cannot be asked: {reason}") from error
