"""The files in which processes count: cells of 64 aligned words of 8 bytes.

Every count is a store into memory that the kernel keeps: a process that is killed loses nothing that
it had counted. The blocks of a file are written before they are mapped, since a store into a file
that a full disk cannot hold would end the process.

Cell 0 has MAGIC and the number of cells in use. Any other cell begins with one of these words:

- 0: not in use, or not any more;
- n: a slab, whose label is in cell n;
- -n: a label, with the time of its retirement, 0 or FORGOTTEN, and n bytes of JSON. The cell of a
  label that was forgotten is its own if it comes again.

A word is published after what it announces: a label before its slabs, a cell before it is in use.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import stat
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import final

from modelkit.errors import PackageError
from modelkit.serving.metering.totals import (
    FLIGHT,
    OF_A_MODEL,
    WIDTH,
    AllCounts,
    Label,
    LabelCounts,
    Slab,
    added,
    checked_label,
)

CELL = 64  # words
CHUNK = 128  # cells by which a file grows: 64 KiB, the largest page that systems have
CHUNK_BYTES = 8 * CELL * CHUNK
MAGIC = int.from_bytes(b"mkmeter1", "little")
USED = 1
RETIRED = 1
FORGOTTEN = -1
JSON_BEGINS = 16  # bytes
MOST_LABEL = 8 * CELL - JSON_BEGINS  # bytes of JSON


@dataclass
class LabelCells:
    """What a file holds of one label.

    Attributes:
        at: the cell of the label.
        retired: when it was retired, in nanoseconds since 1970; 0 while it is in use.
        slabs: the numbers in each slab when it was read, by its cell.
        left: the cells of the slabs that nobody writes.
    """

    at: int
    retired: int
    slabs: dict[int, list[int]] = field(default_factory=dict)
    left: list[int] = field(default_factory=list)


@final
class OwnFile:
    """A file in which this process alone writes: one that an ended process left, or a new one.

    What was in use there is retired, and nothing is in flight. Raises OSError where it is another
    process's, or the folder does not take it, and PackageError.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_plain(path, os.O_RDWR | os.O_CREAT)
        self._chunks: list[memoryview[int]] = []
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._held, self._unused, self._next = read_cells(self._file, path)
            while CHUNK_BYTES * (len(self._chunks) + 1) <= os.fstat(self._file).st_size:
                self._map()
        except BaseException:
            self.let_go()
            raise
        for label, held in self._held.items():
            if label[0] == FLIGHT:
                self._forget(held)
            elif not held.retired:
                self.retire(label)
            held.left = [*held.slabs]

    def slab(self, label: Label) -> Slab:
        """A slab that nobody writes: one that was left, or a new one of zeros."""
        held = self.use(label)
        if held.left:
            return self._cell(held.left.pop())[1 : 1 + WIDTH]
        at = self._take()
        slab = self._cell(at)[1 : 1 + WIDTH]
        for column in range(WIDTH):
            slab[column] = 0
        self._publish(at, held.at)
        held.slabs[at] = []
        return slab

    def use(self, label: Label) -> LabelCells:
        """A label that is in use from now on; it is written if it is new."""
        if label not in self._held:
            text = json.dumps(label).encode()
            if len(text) > MOST_LABEL:
                raise OSError(f"a label is longer than {MOST_LABEL} bytes")
            at = self._take()
            cell = self._cell(at)
            cell[RETIRED] = 0
            cell.cast("B")[JSON_BEGINS : JSON_BEGINS + len(text)] = text
            self._publish(at, -len(text))
            self._held[label] = LabelCells(at, 0)
        held = self._held[label]
        self._cell(held.at)[RETIRED] = 0
        return held

    def retire(self, label: Label) -> None:
        """Say that a label is in use no more, and have its slabs for those that come."""
        if label in self._held:
            held = self._held[label]
            self._cell(held.at)[RETIRED] = time.time_ns()
            held.left = [*held.slabs]

    def forget_all_but(self, shown: AllCounts) -> None:
        """Use the slabs of models that were retired, and are shown no more, for others."""
        for label, held in self._held.items():
            retired = self._cell(held.at)[RETIRED]
            if label[0] == OF_A_MODEL and retired and label not in shown:
                self._forget(held)

    def _forget(self, held: LabelCells) -> None:
        self._cell(held.at)[RETIRED] = FORGOTTEN
        for at in held.slabs:
            self._cell(at)[0] = 0
        self._unused += held.slabs
        held.slabs = {}
        held.left = []

    def is_removed(self) -> bool:
        """Whether somebody has removed the file, so that nobody reads it any more."""
        return os.fstat(self._file).st_nlink == 0

    def let_go(self) -> None:
        """Let others have the file, which the child of a fork may have open as well."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self.close()

    def close(self) -> None:
        """Close the file; in the child of a fork, where it stays the parent's."""
        os.close(self._file)

    def _take(self) -> int:
        """A cell that is not in use."""
        if self._unused:
            return self._unused.pop()
        while self._next >= CHUNK * len(self._chunks):
            self._grow()
        at = self._next
        self._next = at + 1
        return at

    def _publish(self, at: int, word: int) -> None:
        """Let readers see a cell, which begins with this word."""
        self._cell(at)[0] = word
        self._cell(0)[USED] = self._next

    def _grow(self) -> None:
        chunks = len(self._chunks)
        written = os.pwrite(self._file, bytes(CHUNK_BYTES), CHUNK_BYTES * chunks)
        if written < CHUNK_BYTES:
            raise OSError(f"the disk took {written} of {CHUNK_BYTES} bytes")
        if len(self._chunks) == chunks:  # or a signal handler has grown it meanwhile
            self._map()

    def _map(self) -> None:
        begins = CHUNK_BYTES * len(self._chunks)
        mapped = mmap.mmap(self._file, CHUNK_BYTES, offset=begins)
        self._chunks.append(memoryview(mapped).cast("q"))
        self._cell(0)[0] = MAGIC

    def _cell(self, at: int) -> memoryview[int]:
        begins = CELL * (at % CHUNK)
        return self._chunks[at // CHUNK][begins : begins + CELL]


def counted_in(path: Path) -> AllCounts:
    """What a file holds that counts: of an ended process, all is retired and nothing in flight."""
    file = open_plain(path, os.O_RDONLY)
    try:
        ended = 0
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)  # at once, for a process that takes the file up
            ended = time.time_ns()
        every = read_cells(file, path)[0]
    finally:
        os.close(file)
    return {
        label: LabelCounts(added([*held.slabs.values()]), held.retired or ended)
        for label, held in every.items()
        if held.retired != FORGOTTEN and not (ended and label[0] == FLIGHT)
    }


def read_cells(file: int, path: Path) -> tuple[dict[Label, LabelCells], list[int], int]:
    """What a file holds by label, the cells that are not in use any more, and the first unused one.

    Its words are read from a mapping, as whole as they are written. Raises OSError and PackageError.
    """
    size = os.fstat(file).st_size
    if size == 0:
        return {}, [], 1
    words = memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))
    if not any(words):
        return {}, [], 1  # it was just begun
    # A full disk may have taken a part of a chunk, of which no cell is in use.
    chunks = words[: size - size % CHUNK_BYTES]
    try:
        if words[:8] != MAGIC.to_bytes(8, sys.byteorder):
            raise ValueError("it begins otherwise")
        if not chunks or (_is_short(chunks) and os.fstat(file).st_size == size):
            raise ValueError("it was cut short")
        return _cells_in(chunks)
    except (ValueError, TypeError, RecursionError) as error:
        raise PackageError(
            f"{path} was not written by this version of modelkit: {error}; move it away, or give "
            "each version a folder of its own",
            folder=path.parent,
        ) from error


def _is_short(words: memoryview[int]) -> bool:
    """Whether more cells are in use than there are, as where the file has grown meanwhile."""
    return words.cast("q")[USED] > len(words) // (8 * CELL)


def _cells_in(words: memoryview[int]) -> tuple[dict[Label, LabelCells], list[int], int]:
    again = words.cast("q")
    used = max(1, min(again[USED], len(again) // CELL))
    # One pass over the words reads them all, each one whole.
    numbers = again[: CELL * used].tolist()
    labels: dict[int, tuple[Label, LabelCells]] = {}
    slabs, unused = [], []
    for at in range(1, used):
        first, retired = numbers[CELL * at : CELL * at + 2]
        if first < 0:
            begins = 8 * CELL * at + JSON_BEGINS
            text = bytes(words[begins : begins - first])
            labels[at] = _label_of(text), LabelCells(at, retired)
        elif first > 0:
            slabs.append(at)
        else:
            unused.append(at)
    for at in slabs:
        owner = numbers[CELL * at]
        if owner in labels and again[CELL * at] == owner:  # it was not given to another label
            labels[owner][1].slabs[at] = numbers[CELL * at + 1 : CELL * at + 1 + WIDTH]
    return dict(labels.values()), unused, used


@lru_cache(1024)
def _label_of(text: bytes) -> Label:
    return checked_label(json.loads(text))


def open_plain(path: Path, flags: int) -> int:
    """Open a plain file; raises OSError, and PackageError for what is none, such as a pipe."""
    # Opening a pipe would wait for a writer, and a link may lead to any file.
    file = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise PackageError(f"{path} is not a plain file; move it away", folder=path.parent)
    return file
