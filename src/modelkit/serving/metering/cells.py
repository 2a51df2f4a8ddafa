"""The file in which one process counts: cells of 64 aligned words of 8 bytes.

Every count is a store into memory that the kernel keeps: a process that is killed loses nothing that
it had counted. The blocks of a file are written before they are mapped, since a store into a file
that a full disk cannot hold would end the process.

Cell 0 has MAGIC and the number of cells in use. Any other cell begins with one of these words:

- 0: not in use, or not any more;
- n: a slab, whose label is in cell n;
- -n: a label, with the time of its retirement, 0 or FORGOTTEN, and n bytes of JSON; it goes on in
  the cells that follow. The cells of a label that was forgotten are its own if it comes again.

A word is published after what it announces: a label before its slabs, a cell before it is in use.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

from modelkit.errors import PackageError
from modelkit.serving.metering.totals import WIDTH, Label, Slab, checked_label

SUFFIX = ".slabs"
CELL = 64  # words
CHUNK = 128  # cells by which a file grows: 64 KiB, the largest page that systems have
CHUNK_BYTES = 8 * CELL * CHUNK
MAGIC = int.from_bytes(b"mkmeter1", "little")
USED = 1
RETIRED = 1
FORGOTTEN = -1
JSON_BEGINS = 16  # bytes


@final
class OwnFile:
    """The file of this process, which only it writes.

    Raises OSError where the folder or the disk does not take it.
    """

    def __init__(self, folder: Path) -> None:
        self._file, path = _locked_file(folder)
        self._chunks: list[memoryview[int]] = []
        self._next = 1
        self._labels: dict[Label, int] = {}
        self._slabs: dict[int, list[int]] = {}  # the cells of slabs, by that of their label
        self._unused: list[int] = []
        try:
            self._grow()
        except OSError:
            path.unlink()
            os.close(self._file)
            raise
        self._cell(0)[0] = MAGIC
        self._cell(0)[USED] = self._next

    def slab(self, label: Label) -> Slab:
        """A new slab of zeros."""
        owner = self.label(label)
        at = self._unused.pop() if self._unused else self._take(1)
        cell = self._cell(at)
        slab = cell[1 : 1 + WIDTH]
        for column in range(WIDTH):
            slab[column] = 0
        cell[0] = owner
        self._cell(0)[USED] = self._next
        self._slabs.setdefault(owner, []).append(at)
        return slab

    def forget(self, label: Label) -> None:
        """Use the slabs of a label, which nobody writes any more, for others."""
        if label in self._labels:
            self.mark(label, FORGOTTEN)
            slabs = self._slabs.pop(self._labels[label], [])
            for at in slabs:
                self._cell(at)[0] = 0
            self._unused += slabs

    def label(self, label: Label) -> int:
        """The cell of a label, which is written if it is new."""
        if label not in self._labels:
            text = json.dumps(label).encode()
            at = self._take(_cells_of(len(text)))
            chunk = self._chunks[at // CHUNK].cast("B")
            begins = 8 * CELL * (at % CHUNK) + JSON_BEGINS
            chunk[begins : begins + len(text)] = text
            self._cell(at)[0] = -len(text)
            self._cell(0)[USED] = self._next
            self._labels[label] = at
        return self._labels[label]

    def mark(self, label: Label, retired: int) -> None:
        """Say when a label was retired, in nanoseconds since 1970; 0 while it is in use.

        FORGOTTEN where it is not shown any more.
        """
        if label in self._labels:
            self._cell(self._labels[label])[RETIRED] = retired

    def is_removed(self) -> bool:
        """Whether somebody has removed the file, so that nobody reads it any more."""
        return os.fstat(self._file).st_nlink == 0

    def abandon(self) -> None:
        """Let go of the file in the child of a fork, where it is the parent's."""
        os.close(self._file)

    def _take(self, count: int) -> int:
        if count > CHUNK:
            raise OSError(f"a label is longer than {CHUNK_BYTES} bytes")
        if self._next % CHUNK + count > CHUNK:
            self._next += CHUNK - self._next % CHUNK  # a label lies in one chunk
        while self._next + count > CHUNK * len(self._chunks):
            self._grow()
        at = self._next
        self._next = at + count
        return at

    def _grow(self) -> None:
        begins = CHUNK_BYTES * len(self._chunks)
        written = os.pwrite(self._file, bytes(CHUNK_BYTES), begins)
        if written < CHUNK_BYTES:
            raise OSError(f"the disk took {written} of {CHUNK_BYTES} bytes")
        mapped = mmap.mmap(self._file, CHUNK_BYTES, offset=begins)
        if CHUNK_BYTES * len(self._chunks) == begins:  # or a signal handler has grown it meanwhile
            self._chunks.append(memoryview(mapped).cast("q"))

    def _cell(self, at: int) -> memoryview[int]:
        begins = CELL * (at % CHUNK)
        return self._chunks[at // CHUNK][begins : begins + CELL]


def _locked_file(folder: Path) -> tuple[int, Path]:
    """A new file with a lock on it.

    Until it has its lock it is empty, and whoever reads the folder may remove it.
    """
    while True:
        path = folder / f"{os.getpid()}-{time.time_ns()}{SUFFIX}"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # a reader is looking at it
            path.unlink(missing_ok=True)
        if os.fstat(file).st_nlink:
            return file, path
        os.close(file)


@final
@dataclass(frozen=True)
class Slabs:
    """What a file holds of one label: when it was retired, and its slabs."""

    retired: int
    slabs: list[list[int]]


def read_cells(file: int, path: Path) -> dict[Label, Slabs]:
    """What a file holds, by label.

    Its words are read from a mapping, as whole as they are written. Raises OSError and PackageError.
    """
    size = os.fstat(file).st_size
    size -= size % (8 * CELL)  # a full disk may have taken a part of a cell
    if size == 0:
        return {}
    words = memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))
    if words[:8] == bytes(8):
        return {}  # it was just begun
    try:
        if words.cast("q")[0] != MAGIC:
            raise ValueError("it begins otherwise")
        return _slabs_in(words)
    except (ValueError, TypeError, RecursionError) as error:
        raise PackageError(
            f"{path} was not written by this version of modelkit: {error}; move it away, or give "
            "each version a folder of its own",
            folder=path.parent,
        ) from error


def _slabs_in(words: memoryview[int]) -> dict[Label, Slabs]:
    used = min(words.cast("q")[USED], len(words) // (8 * CELL))
    # One pass over the words reads them all, each one whole.
    numbers = words.cast("q")[: CELL * used].tolist()
    found: dict[int, tuple[Label, Slabs]] = {}
    slabs = []
    at = 1
    while at < used:
        first = numbers[CELL * at]
        if first < 0 and numbers[CELL * at + RETIRED] != FORGOTTEN:
            begins = 8 * CELL * at + JSON_BEGINS
            text = bytes(words[begins : begins - first])
            found[at] = _label_of(text), Slabs(numbers[CELL * at + RETIRED], [])
        elif first > 0:
            slabs.append(at)
        at += _cells_of(-first)
    again = words.cast("q")
    for at in slabs:
        owner = numbers[CELL * at]
        if owner in found and again[CELL * at] == owner:  # it was not given to another label
            found[owner][1].slabs.append(numbers[CELL * at + 1 : CELL * at + 1 + WIDTH])
    return dict(found.values())


def _cells_of(size: int) -> int:
    """The number of cells of a label whose JSON has a size in bytes; of a slab, 1."""
    return max(1, -(-(JSON_BEGINS + size) // (8 * CELL)))


@lru_cache(1024)
def _label_of(text: bytes) -> Label:
    return checked_label(json.loads(text))
