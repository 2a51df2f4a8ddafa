"""A folder in which the processes of one server count together.

Each process counts in one file, and holds an flock on it for as long as it lives. The kernel lets go
of the lock when the process ends, however it ends: a lock that can be had says that the process is
gone, across containers as well, where ids say nothing. A process that begins takes up such a file and
goes on adding there, as a thread does in the slab of one that ended. No count is ever moved, and
there are about as many files as there were processes at once. A reader adds up what is there, writes
nothing and waits for nobody.

Without a global interpreter lock this holds as well: a thread has slabs of its own, a process has a
file of its own, and words of 8 bytes are read and written whole.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import final

from modelkit._internal.process import watch_forks
from modelkit.errors import PackageError, UsageError
from modelkit.serving.metering.cells import OwnFile, counted_in
from modelkit.serving.metering.totals import (
    AllCounts,
    Label,
    LabelCounts,
    Slab,
    add_up,
    without_the_old,
    zeros,
)

SUFFIX = ".slabs"

_log = logging.getLogger("modelkit")


@final
class SharedFolder:
    """A folder of shared counts, as this process sees it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: OwnFile | None = None
        self._warned = False
        self._renew_lock()
        watch_forks(self)

    def _renew_lock(self) -> None:
        # Taken again by the thread that has it: the garbage collector may run a finalizer anywhere.
        self._lock = threading.RLock()

    def after_fork(self) -> None:
        """Take up a file in the child of a fork, when it first counts."""
        self._renew_lock()
        if self._file is not None:
            self._file.close()
        self._file = None
        self._warned = False

    def begin(self, label: Label) -> None:
        """Have a file with room for a label; raises UsageError where the folder cannot be used."""
        paths = self._own_paths()
        with self._lock:
            try:
                self._opened().use(label)
            except OSError as error:
                raise UsageError(
                    f"the folder {self.path} cannot hold shared counts: {error}; it must be "
                    "writable, with some hundred KiB of room for each process",
                    folder=self.path,
                ) from error
        for path in paths:
            # What an ended process had is retired from now on, though nobody takes up its file.
            with suppress(OSError, PackageError):  # its process lives, or `read` says what it is
                OwnFile(path).let_go()
        shown = self.read()
        with self._lock:
            self._opened().forget_all_but(shown)

    def _own_paths(self) -> list[Path]:
        """What is in the folder; raises UsageError for any other folder."""
        try:
            paths = sorted(self.path.iterdir())
        except OSError as error:
            raise UsageError(
                f"{str(self.path)!r}, as shared= or MODELKIT_METRICS_DIR names it, must be a "
                f"folder that exists: {error}",
                folder=self.path,
            ) from error
        for path in paths:
            if path.suffix != SUFFIX:
                raise UsageError(
                    f"the folder {self.path} holds {path.name!r}, which is not of shared counts; "
                    "give them a folder of their own",
                    folder=self.path,
                )
        return paths

    def slab(self, label: Label) -> Slab:
        """A slab for a thread that begins; in the memory of this process if the folder is full."""
        with self._lock:
            try:
                return self._opened().slab(label)
            except OSError as error:
                self._warn_once(error)
                return zeros()

    def _warn_once(self, error: OSError) -> None:
        if self._warned:
            return
        self._warned = True
        with suppress(Exception):  # of a filter or a handler of the application
            _log.warning(
                "some calls are counted in this process only, which others do not see: the folder "
                "%s is full: %s",
                self.path,
                error,
            )

    def retire(self, label: Label) -> None:
        """Say that the last Meter of a label in this process is gone, and that none of its slabs is written."""
        with self._lock:
            if self._file is not None:
                self._file.retire(label)

    def read(self) -> AllCounts:
        """What all processes have counted until now, by label."""
        found = self._read()
        if self._file is not None and self._file.is_removed():
            raise PackageError(
                f"the file in which this process counts was removed from {self.path}; empty the "
                "folder before a server starts, and restart this process",
                folder=self.path,
            )
        return found

    def _read(self) -> AllCounts:
        pairs: list[tuple[Label, LabelCounts]] = []
        try:
            names = [name for name in os.listdir(self.path) if name.endswith(SUFFIX)]
            for name in names:
                pairs += counted_in(self.path / name).items()
        except OSError as error:
            raise PackageError(
                f"the folder {self.path} of shared counts cannot be read: {error}", folder=self.path
            ) from error
        return without_the_old(add_up(pairs))

    def _opened(self) -> OwnFile:
        if self._file is None:
            self._file = self._taken_up()
            with suppress(PackageError):  # of another file, which `read` says
                self._file.forget_all_but(self._read())
        return self._file

    def _taken_up(self) -> OwnFile:
        """The first file that can be had."""
        number = 0
        while True:
            path = self.path / f"{number}{SUFFIX}"
            try:
                return OwnFile(path)
            except (OSError, PackageError):  # of another process, user or version
                if not os.path.lexists(path):
                    raise
            number += 1


_folders: dict[Path, SharedFolder] = {}


def shared_folder(path: str | os.PathLike[str]) -> SharedFolder:
    """The folder at a path; there is one for each in a process."""
    resolved = Path(path).resolve()
    return _folders.setdefault(resolved, SharedFolder(resolved))
