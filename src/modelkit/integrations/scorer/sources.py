"""References to packages that other processes and machines can resolve."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from modelkit.errors import ContainerError, IntegrityError, PackageError, UntrustedError, importing
from modelkit.package.source import Openable, Reference, check_digest, inspect, open_bytes
from modelkit.package.write import write_file

T = TypeVar("T")
# A reference, an absolute path or a URL, or the bytes themselves.
Whereabouts = Reference | str | bytes


def travelling(source: Openable) -> Whereabouts:
    """A source in the form that is pickled: a path becomes absolute, a file is read.

    Raises TypeError for anything that no package is read from.
    """
    if isinstance(source, Reference | bytes):
        return source
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        return path if is_url(path) else str(Path(path).absolute())
    return bytes(open_bytes(source))


def is_url(source: str) -> bool:
    """Whether a text is the URL of a file elsewhere, and no path."""
    return "://" in source


def open_nearby(source: Whereabouts, digest: str, read: Callable[[Openable], T]) -> T:
    """What `read` makes of a source; one at a URL is copied once to a file named by its digest.

    A copy that was damaged meanwhile, or is sealed for others, is made again, and where none can be
    written the package is read from memory.

    Raises:
        ContainerError: if the URL cannot be read.
        IntegrityError: if there is another package by now.
        MissingExtraError: if fsspec is not installed.
    """
    if not isinstance(source, str) or not is_url(source):
        return read(source)
    place = cached_path(digest)
    if place is not None and _holds(place, digest):
        try:
            return read(place)
        except (IntegrityError, UntrustedError):
            pass  # damaged, or sealed for others: the digest shows neither
    data = read_url(source)
    check_digest(inspect(data), digest, shown_source(source))
    return read(_copied(place, data))


def cached_path(digest: str) -> Path | None:
    """The file on this machine that a package from elsewhere is copied to; None without a home."""
    try:
        return Path.home() / ".cache" / "modelkit" / f"{digest}.mk"
    except RuntimeError:  # as in a container whose user has no name
        return None


def _copied(place: Path | None, data: bytes) -> Openable:
    """A file with these bytes, or the bytes where it cannot be written."""
    if place is None:
        return data
    try:
        write_file(place, data)
    except OSError:  # a home that is read-only or full, or that another user owns
        return data
    return place


def _holds(path: Path, digest: str) -> bool:
    """Whether a file is there, and says that it is this package; opening it checks the rest."""
    try:
        return inspect(path).digest == digest
    except (OSError, PackageError):
        return False


def read_url(url: str) -> bytes:
    """The bytes at a URL that fsspec knows.

    Raises:
        ContainerError: if they cannot be read.
        MissingExtraError: if fsspec, or what it needs for this kind of URL, is not installed.
    """
    shown = without_secrets(url)
    with importing("fsspec", f"reading {shown}", "engines"):
        import fsspec
    try:
        with fsspec.open(url, "rb") as file:
            return bytes(file.read())
    except ImportError as error:
        raise ContainerError(f"{shown} needs a library of fsspec's: {error}") from error
    except Exception as error:  # and none of what it says, which may be the secrets
        raise ContainerError(
            f"{shown} cannot be read ({type(error).__name__}{_said(error, url)}); check the URL, and "
            "the credentials in the environment of this process"
        ) from (error if shown == url else None)


def shown_source(source: Whereabouts) -> Whereabouts:
    """A source as messages show it."""
    if not isinstance(source, str) or not is_url(source):
        return source
    return without_secrets(source)


def without_secrets(url: str) -> str:
    """A URL without its user, password and query, which may sign it."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _said(error: Exception, url: str) -> str:
    """What an error says, where the URL holds none of the secrets that it might repeat."""
    return f": {error}" if without_secrets(url) == url else ""
