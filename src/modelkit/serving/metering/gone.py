"""What processes that have ended left behind: `gone.json` in a folder of shared counts."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, final

from modelkit.errors import PackageError
from modelkit.serving.metering.totals import FLIGHT, OF_A_MODEL, WIDTH, Label, added, checked_label

GONE_FILE = "gone.json"
KEPT_VERSIONS = 3  # versions of a name that are still shown after their last Meter is gone


@final
@dataclass(frozen=True)
class Kept:
    """What was counted of one label.

    Attributes:
        sums: the numbers, by column.
        retired: when it was retired, in nanoseconds since 1970; 0 while it is in use.
    """

    sums: list[int]
    retired: int

    def __add__(self, other: Kept) -> Kept:
        """Both; in use if one of them is."""
        in_use = not (self.retired and other.retired)
        return Kept(
            added([self.sums, other.sums]), 0 if in_use else max(self.retired, other.retired)
        )


Found = dict[Label, Kept]


class Folder(Protocol):
    """A folder of shared counts."""

    def read(self) -> Found:
        """What all processes have counted until now, by label."""


@final
class FoldersRead:
    """What is in folders of shared counts: each is read once, for a scrape that asks twice."""

    def __init__(self) -> None:
        self._found: dict[Folder, Found] = {}

    def of(self, folder: Folder) -> Found:
        """What is in a folder; raises PackageError where it cannot be read."""
        if folder not in self._found:
            self._found[folder] = folder.read()
        return self._found[folder]


def summed(parts: Iterable[Found]) -> Found:
    """What several processes have counted, by label."""
    found: Found = {}
    for part in parts:
        for label, kept in part.items():
            found[label] = found[label] + kept if label in found else kept
    return found


def without_the_old(found: Found) -> Found:
    """All but the models of a name that were retired before its last `KEPT_VERSIONS`."""
    retired: dict[str, list[tuple[int, Label]]] = {}
    for label, kept in found.items():
        if label[0] == OF_A_MODEL and kept.retired:
            retired.setdefault(label[1], []).append((kept.retired, label))
    old = {label for each in retired.values() for _, label in sorted(each)[:-KEPT_VERSIONS]}
    return {label: kept for label, kept in found.items() if label not in old}


def left_by(found: Found, now: int) -> Found:
    """What an ended process leaves: retired now at the latest, and nothing in flight."""
    return {
        label: Kept(kept.sums, kept.retired or now)
        for label, kept in found.items()
        if label[0] != FLIGHT
    }


@final
@dataclass(frozen=True)
class Gone:
    """What is in `gone.json`.

    Attributes:
        found: the counts of ended processes.
        files: names of the files that are in these counts, and may not be deleted yet.
    """

    found: Mapping[Label, Kept] = field(default_factory=dict)
    files: tuple[str, ...] = ()


@final
class OpenedGone:
    """The `gone.json` of a folder, open so that no later one is taken for it.

    Attributes:
        gone: what is in it; nothing if there is no such file.
    """

    def __init__(self, path: Path, file: int | None) -> None:
        self._path = path
        self._file = file
        self.gone = Gone() if file is None else _gone_in(file, path)

    def is_in_place(self) -> bool:
        """Whether it has not been replaced."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return self._file is None
        return self._file is not None and os.path.samestat(os.fstat(self._file), now)


@contextmanager
def opened_gone(folder: Path) -> Iterator[OpenedGone]:
    """What ended processes left in a folder; raises OSError and PackageError."""
    path = folder / GONE_FILE
    try:
        file = open_plain(path, os.O_RDONLY)
    except FileNotFoundError:
        yield OpenedGone(path, None)
        return
    try:
        yield OpenedGone(path, file)
    finally:
        os.close(file)


def _gone_in(file: int, path: Path) -> Gone:
    try:
        with os.fdopen(os.dup(file), "rb") as opened:
            data = json.load(opened)
        found = {
            checked_label(label): Kept([*map(int, sums)], int(retired))
            for label, sums, retired in data["found"]
        }
        widths = {len(kept.sums) for kept in found.values()}
        if widths - {WIDTH}:
            raise ValueError(f"rows of {widths} numbers, not {WIDTH}")
        return Gone(found, tuple(data["files"]))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PackageError(
            f"{path} cannot be read: {error}; move it away, and counts of ended processes begin "
            "at 0",
            folder=path.parent,
        ) from error


def write_gone(folder: Path, gone: Gone) -> None:
    """Replace `gone.json` at once; raises OSError where that fails, and leaves the old one."""
    found = [[label, kept.sums, kept.retired] for label, kept in gone.found.items()]
    text = json.dumps({"files": gone.files, "found": found})
    path = folder / f"{GONE_FILE}.new"
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(file, "w", encoding="utf-8") as opened:
        opened.write(text)
    path.replace(folder / GONE_FILE)


def open_plain(path: Path, flags: int) -> int:
    """Open a plain file; raises OSError, and PackageError for what is none, such as a pipe."""
    # Opening a pipe would wait for a writer, and a link may lead to any file.
    file = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise PackageError(f"{path} is not a plain file; move it away", folder=path.parent)
    return file
