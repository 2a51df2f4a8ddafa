"""Numbered files that are each made once: the form of every log here, in a folder or a bucket.

Whoever has read up to a number makes the next file, and of several who do, one succeeds. So the
numbers are without gaps, and every reader sees the same files in the same order.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import final

from modelkit.errors import RegistryError
from modelkit.store.store import Store

# A name may be taken by a file that cannot be seen yet, in a folder of NFS for up to a minute.
UNSEEN = 90.0  # seconds
PAUSE = 0.01  # seconds until such a file is looked for again
NAME = re.compile("[0-9]{10}")


@final
class Sequence:
    """The numbered files in one folder of a store, from 1. Safe from any thread and process.

    Example:
        uses = Sequence(store, "uses")
        uses.append(b"first")  # 1
        [*uses.after(0)]  # [(1, b"first")]
    """

    def __init__(self, store: Store, folder: str) -> None:
        self.store = store
        self.folder = folder

    def path(self, number: int) -> str:
        """The name of a file in the store."""
        return f"{self.folder}/{number:010d}"

    def read(self, number: int) -> bytes | None:
        """The content of a file, or None where it is not there, or cannot be seen yet."""
        return self.store.read(self.path(number))

    def after(self, number: int) -> Iterator[tuple[int, bytes]]:
        """The files behind a number, each with its own, until one is not there."""
        while (data := self.read(number + 1)) is not None:
            number += 1
            yield number, data

    def numbers(self, after: int = 0) -> list[int]:
        """The numbers of the files behind one, in their order, by a listing.

        A listing may miss a file that is made meanwhile, and have one that was made after it.
        """
        names = self.store.names(self.folder, after=f"{after:010d}")
        return [int(name) for name in names if NAME.fullmatch(name)]

    def last(self) -> int:
        """The last number of a listing; 0 without one."""
        return max(self.numbers(), default=0)

    def create(self, number: int, data: bytes) -> bool:
        """Make a file; returns False where there is another one, which may not be seen yet."""
        return self.store.create(self.path(number), data)

    def put(self, number: int, data: bytes) -> bool:
        """Make a file; where there is another one, wait until it can be seen, and return False.

        Raises RegistryError where the name is taken, and no file can be read there.
        """
        if self.create(number, data):
            return True
        end = time.monotonic() + UNSEEN
        while (there := self.read(number)) is None:
            path = self.path(number)
            place = self.store.path(path)
            leads_nowhere = place is not None and os.path.islink(place)
            if leads_nowhere or time.monotonic() > end:
                raise RegistryError(
                    f"{self.store.url}: the name {path} is taken, and no file can be read there; "
                    "remove it"
                )
            time.sleep(PAUSE)
        return there == data

    def append(self, data: bytes, after: int = 0) -> int:
        """The number of the file of this content: of the first behind `after`, or of a new one.

        Of several who append the same at once, one makes the file, and all get its number. Raises
        RegistryError as `put` does.
        """
        number = after + 1
        while not self.put(number, data):
            number += 1
        return number
