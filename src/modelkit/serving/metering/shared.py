"""A folder in which the processes of one server count together.

Each process writes one file of its own, named by its process id and the time at which it began to
write, since ids come again. It holds an flock on that file for as long as it lives. The kernel lets
go of the lock when the process ends, however it ends: a lock that can be had says that the process
is gone, across containers as well, where ids say nothing.

Whoever reads adds up all files, and waits for nobody: a reader may be stopped, or interrupted by a
signal whose handler reads as well. What ended processes left is moved into `gone.json`, so that their
files do not pile up, by the reader that holds an flock on the file `lock`. Other readers move nothing,
and read again if `gone.json` was replaced meanwhile.

Without a global interpreter lock this holds as well: a thread has slabs of its own, a process has a
file of its own, and words of 8 bytes are read and written whole.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import final

from modelkit._internal.process import watch_forks
from modelkit.errors import PackageError, UsageError
from modelkit.serving.metering.cells import SUFFIX, OwnFile, read_cells
from modelkit.serving.metering.gone import (
    GONE_FILE,
    Found,
    Gone,
    Kept,
    left_by,
    open_plain,
    opened_gone,
    summed,
    without_the_old,
    write_gone,
)
from modelkit.serving.metering.totals import Label, Slab, added, zeros

LOCK = "lock"

_log = logging.getLogger("modelkit")


@final
class SharedFolder:
    """A folder of shared counts, as this process sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: OwnFile | None = None
        self._reading: set[int] = set()
        self._told = False
        self._renew_lock()
        watch_forks(self)

    def _renew_lock(self) -> None:
        # Taken again by the thread that has it: the garbage collector may run a finalizer anywhere.
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        """Begin a file of its own in the child of a fork, when it first counts."""
        self._renew_lock()
        if self._file is not None:
            self._file.abandon()
        self._file = None
        for lock in self._reading:  # or the parent's lock would be held here when it is killed
            os.close(lock)
        self._reading = set()
        self._told = False

    def begin(self, label: Label) -> None:
        """Have a file with room for a label; raises UsageError where the folder cannot be used."""
        _check_files(self.path)
        with self._lock:
            try:
                self._opened().label(label)
                self._opened().mark(label, 0)
            except OSError as error:
                raise UsageError(
                    f"the folder {self.path} cannot hold shared counts: {error}; it must be "
                    "writable, with some hundred KiB of room for each process",
                    folder=self.path,
                ) from error
        self.read()

    def slab(self, label: Label) -> Slab:
        """A slab for a thread that begins; in the memory of this process if there is no room."""
        with self._lock:
            try:
                return self._opened().slab(label)
            except OSError as error:
                self._tell_once(error)
                return zeros()

    def _tell_once(self, error: OSError) -> None:
        if self._told:
            return
        self._told = True
        with suppress(Exception):  # of a filter or a handler of the application
            _log.warning(
                "some calls are counted in this process only, which others do not see: the folder "
                "%s has no room: %s",
                self.path,
                error,
            )

    def retire(self, label: Label) -> None:
        """Say that this process has no Meter of a label any more."""
        with self._lock:
            if self._file is not None:
                self._file.mark(label, time.time_ns())

    def forget(self, label: Label) -> None:
        """Let others have the room of a label that is shown no more."""
        with self._lock:
            if self._file is not None:
                self._file.forget(label)

    def read(self) -> Found:
        """What all processes have counted until now, by label."""
        try:
            with self._first_reader() as first:
                found = None
                while found is None:
                    found = self._read(move=first)
        except OSError as error:
            raise PackageError(
                f"the folder {self.path} of shared counts cannot be read: {error}", folder=self.path
            ) from error
        if self._file is not None and self._file.is_removed():
            raise PackageError(
                f"the file in which this process counts was removed from {self.path}; empty the "
                "folder before a server starts, and restart this process",
                folder=self.path,
            )
        return found

    def _read(self, *, move: bool) -> Found | None:
        """What is in all files; None if another reader has moved some of them meanwhile.

        Counts are moved into `gone.json` before their file goes, so that they were read in one of
        the two if the former is the same at the end.
        """
        with opened_gone(self.path) as same:
            gone = same.gone
            alive: list[Found] = []
            dead: dict[str, Found] = {}
            for path in sorted(self.path.glob(f"*{SUFFIX}")):
                try:
                    found, lives = _read_file(path)
                except FileNotFoundError:
                    continue
                if lives:
                    alive.append(found)
                else:
                    moved = path.name in gone.files
                    dead[path.name] = {} if moved else left_by(found, time.time_ns())
            if not same.is_in_place():
                return None
        past = summed([dict(gone.found), *dead.values()])
        every = without_the_old(summed([past, *alive]))
        if dead and move:
            shown = {label: kept for label, kept in past.items() if label in every}
            self._bury(Gone(shown, tuple(dead)))
        return every

    def _bury(self, gone: Gone) -> None:
        """Move the counts of ended processes; killed at any point, it counts none twice."""
        try:
            write_gone(self.path, gone)
        except OSError:
            return  # a full disk: their files stay, and are added up as they are
        for name in gone.files:
            with suppress(OSError):  # it is another user's, and stays; its counts are not read
                (self.path / name).unlink()

    def _opened(self) -> OwnFile:
        if self._file is None:
            self._file = OwnFile(self.path)
        return self._file

    @contextmanager
    def _first_reader(self) -> Iterator[bool]:
        """Gives whether nobody else reads as the first; that one may move files."""
        lock = open_plain(self.path / LOCK, os.O_RDONLY | os.O_CREAT)
        self._reading.add(lock)
        try:
            yield _is_had(lock, fcntl.LOCK_EX)
        finally:
            self._reading.discard(lock)
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


def _read_file(path: Path) -> tuple[Found, bool]:
    """What is in the file of a process, and whether the process lives."""
    file = open_plain(path, os.O_RDONLY)
    try:
        lives = not _is_had(file, fcntl.LOCK_SH)
        if not lives and os.fstat(file).st_size == 0:
            # Whoever made it was killed before it wrote, or makes another one if this is gone.
            path.unlink(missing_ok=True)
        found = {
            label: Kept(added(slabs.slabs), slabs.retired)
            for label, slabs in read_cells(file, path).items()
        }
        return found, lives
    finally:
        os.close(file)


def _is_had(file: int, lock: int) -> bool:
    """Whether a lock on a file could be had at once."""
    try:
        fcntl.flock(file, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_files(path: Path) -> None:
    """Raise UsageError for anything but a folder, and for one with other files than shared counts."""
    try:
        names = [found.name for found in path.iterdir()]
    except OSError as error:
        raise UsageError(
            f"{str(path)!r}, as shared= or MODELKIT_METRICS_DIR names it, must be a folder that "
            f"exists: {error}",
            folder=path,
        ) from error
    known = {LOCK, GONE_FILE, f"{GONE_FILE}.new"}
    foreign = sorted(name for name in names if name not in known and not name.endswith(SUFFIX))
    if foreign:
        raise UsageError(
            f"the folder {path} holds {foreign[0]!r}, which is not of shared counts; give them a "
            "folder of their own",
            folder=path,
        )


_folders: dict[Path, SharedFolder] = {}


def shared_folder(path: str | os.PathLike[str]) -> SharedFolder:
    """The folder at a path; there is one for each in a process."""
    resolved = Path(path).resolve()
    return _folders.setdefault(resolved, SharedFolder(resolved))
