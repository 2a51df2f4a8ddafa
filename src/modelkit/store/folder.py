"""A folder of this machine, or one that machines share, as the store of a registry.

A file is written under another name, flushed to the disk, and linked to its own name. The link
fails where the name is taken, and is atomic on NFS too. There, the answer to a link that was made
may be lost: the file then has two names, which shows it. An NFS client may go on for up to a minute
not to see a new file. Nothing is locked or replaced, and only what a dead writer left is removed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import final

from modelkit.errors import NotAFile, RegistryError, UsageError
from modelkit.store.store import MOST_BYTES

READ_ONLY = 0o444  # less what the umask of the writer takes away
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")  # what a file is called until it is whole
A_DAY = 86_400.0
# A pipe or a device is not waited for.
READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
READ |= getattr(os, "O_NOCTTY", 0)
# What a path says that leads to no file: a circle of links, a file in place of a folder, a device.
NO_FILE = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV}
# What a file system without hard links says to a link.
NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@final
class DiskFolder:
    """The files under a folder, which is made when the first file is created."""

    concurrent = 1

    def __init__(self, root: str) -> None:
        self.url = os.path.abspath(root)  # a string, which is faster to add to
        if os.path.exists(self.url) and not os.path.isdir(self.url):
            raise UsageError(f"{self.url!r} is a file; a registry is a folder or a bucket")
        self._swept: set[Path] = set()

    def create(self, name: str, data: bytes | memoryview) -> bool:
        """Make a file; returns False where there is another one of this name.

        Raises RegistryError where the file system lacks hard links.
        """
        target = Path(self.path(name))
        if target.exists():
            return self.read(name, inf) == data
        _make_folder(target.parent)
        if target.parent not in self._swept:
            self._swept.add(target.parent)
            _sweep(target.parent)
        temporary = str(target.parent / f".{uuid.uuid4().hex}.tmp")
        try:
            with open(temporary, "xb", opener=_read_only) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            made = _link(temporary, target)
        except OSError as error:  # what is said of a full disk names no file
            raise OSError(error.errno, error.strerror, str(target)) from None
        finally:
            with suppress(OSError):  # it is not there, or nothing can be removed
                os.unlink(temporary)
        flush_folder(target.parent)
        return made or self.read(name, inf) == data

    def read(self, name: str, most: float = MOST_BYTES) -> bytes | None:
        """The content of a file, or None. Raises NotAFile for anything but a regular file."""
        path = f"{self.url}/{name}"
        try:
            handle = os.open(path, READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in NO_FILE:
                raise
            raise NotAFile(f"{path} leads to no file: {error.strerror}; remove it") from None
        try:
            seen = os.fstat(handle)
            if not stat.S_ISREG(seen.st_mode):
                kind = "a folder" if stat.S_ISDIR(seen.st_mode) else "a pipe or a device"
                raise NotAFile(f"{path} is {kind} in place of a file; remove it")
            if seen.st_size > most:
                size = f"{seen.st_size:,} bytes, which no record has"
                raise NotAFile(f"{path} has {size}; remove it")
        except BaseException:
            os.close(handle)
            raise
        with os.fdopen(handle, "rb") as file:
            return file.read()

    def names(self, folder: str, after: str = "") -> list[str]:
        """The names of the files in a folder; of those that are being written, none."""
        entries = self._entries(folder)
        return sorted(each.name for each in entries if each.name > after and _is(each.is_file))

    def remove(self, name: str) -> None:
        """Remove a file; nothing where it is not there."""
        Path(self.path(name)).unlink(missing_ok=True)

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""
        return sorted(entry.name for entry in self._entries(folder) if _is(entry.is_dir))

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.path(folder)) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except FileNotFoundError:
            return []

    def path(self, name: str) -> str:
        """The path of a file, which need not exist."""
        return f"{self.url}/{name}"


def _is(asked: Callable[[], bool]) -> bool:
    """What an entry of a folder is; a link in a circle is nothing."""
    try:
        return asked()
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        return False


def _read_only(path: str, flags: int) -> int:
    return os.open(path, flags, READ_ONLY)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, and flush each one that got a new name."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    flush_folder(folder.parent)


def _sweep(folder: Path) -> None:
    """Remove what writers left who died more than a day ago, so no upload still goes on."""
    with os.scandir(folder) as entries:
        left = [entry for entry in entries if TEMPORARY.fullmatch(entry.name)]
    for entry in left:
        with suppress(OSError):  # somebody else removes it, or may not
            if entry.stat().st_mtime < time.time() - A_DAY:
                os.unlink(entry)


def _link(temporary: str, target: Path) -> bool:
    """Give a file its name, unless that is taken. Windows does without links: see os.rename."""
    try:
        if os.name == "nt":
            os.rename(temporary, target)  # fails there if the target exists
        else:
            os.link(temporary, target)
    except FileExistsError:
        return os.name != "nt" and os.stat(temporary).st_nlink == 2  # see above
    except (NotImplementedError, OSError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in NO_LINKS:
            raise
        raise RegistryError(
            f"{str(target.parent)!r} cannot hold a registry: its file system does not support hard links "
            f"({error}); use a folder on another one"
        ) from error
    return True


def flush_folder(folder: Path) -> None:
    """Let the names of the files in a folder outlive a power cut, where the system can do that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
