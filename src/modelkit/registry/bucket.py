"""A bucket of an object store, by obstore, as the store of a registry.

A put with the condition "unless there is one" is atomic at S3 (If-None-Match), Google and Azure.
Credentials and the address of the service come from the environment of whoever opens it, as obstore
reads it; none is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

from modelkit.errors import RegistryError, importing


@final
class Bucket:
    """The files under the URL of a bucket, such as "s3://models/of-the-team".

    Every method raises RegistryError where the bucket cannot be asked.
    """

    concurrent = 16

    def __init__(self, url: str) -> None:
        with importing("obstore", "a registry in a bucket", "store"):
            from obstore.store import from_url
        self.url = url.rstrip("/")
        with self._asking():
            self._store: Any = from_url(self.url)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as error:
            reason = str(error).partition("\n")[0]  # what follows is for who debugs obstore
            raise RegistryError(f"the bucket of {self.url} cannot be asked: {reason}") from error

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Make a file. The answer to a put that was made may be lost: the caller compares."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._asking():
            try:
                obstore.put(self._store, name, bytes(data), mode="create")
            except AlreadyExistsError:
                return False
        return True

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None."""
        import obstore
        from obstore.exceptions import NotFoundError

        with self._asking():
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except (FileNotFoundError, NotFoundError):
                return None

    def names(self, folder: str, most: int | None = None) -> list[str]:
        """The names of the files in a folder, in one request for each thousand."""
        import obstore

        found: list[str] = []
        with self._asking():
            for page in obstore.list(self._store, f"{folder}/", chunk_size=most or 1000):
                found += [item["path"].rpartition("/")[2] for item in page]
                if most is not None and len(found) >= most:
                    break
        return sorted(found)[:most]

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""
        import obstore

        with self._asking():
            found = obstore.list_with_delimiter(self._store, f"{folder}/")
        return sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"])

    def path(self, name: str) -> None:
        """None: what is in a bucket has no path here."""
        return
