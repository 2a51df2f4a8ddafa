"""Entries of a log as JSON: each names the one before it, and states what holds after it."""

from __future__ import annotations

import json
from typing import Any, Generic, Protocol, TypeVar, final

from modelkit._internal import fields
from modelkit._internal.json import parse_json
from modelkit.errors import RegistryError
from modelkit.store.log import Log
from modelkit.store.sequence import Sequence


class Chained(Protocol):
    """An entry: a frozen value that can be written as JSON."""

    @property
    def generation(self) -> int:
        """Its number, from 1."""

    @property
    def id(self) -> str:
        """By which equal entries of several writers differ."""

    @property
    def previous(self) -> str:
        """The id of the entry before; "" of the first."""


class Folded(Protocol):
    """What all entries up to one come to, as such a value too."""

    @property
    def generation(self) -> int:
        """The number of that entry; 0 before the first."""

    @property
    def last(self) -> str:
        """Its id."""

    def after(self, entry: Any) -> Any:
        """What holds after one more entry. An entry of a kind that is not known changes nothing."""

    def contradiction(self, stated: Any, entry: Any) -> str:
        """What the entry states otherwise than follows, such as "aliases"; "" for nothing."""


State = TypeVar("State", bound=Folded)
Entry = TypeVar("Entry", bound=Chained)


@final
class EntryForm(Generic[State, Entry]):
    """How the entries of a log are read, written and followed; pure.

    Example:
        log = EntryForm(Entry, State).log(Sequence(store, "log"), State())
    """

    def __init__(self, entry: type[Entry], state: type[State]) -> None:
        self._entry = entry
        self._state = state

    def log(self, files: Sequence, start: State) -> Log[State, Entry]:
        """The log of such entries; `start` is what holds before the first."""
        return Log(files, start, read=self.read, write=self.write, follow=self.follow)

    def follow(self, state: State, entry: Entry, stated: State | None) -> State:
        """What holds after one more entry, which may state it.

        A newer modelkit may know more of it. Raises RegistryError unless the entry follows the last
        one, and states what follows.
        """
        if entry.previous != state.last:
            raise RegistryError(
                f"entry {entry.generation} of the log ({entry}) follows the entry with the id "
                f"{entry.previous!r}, and the one before it has {state.last!r}: entries were lost, "
                "replaced or written by hand; put back the log, from a copy of the registry"
            )
        after: State = state.after(entry)
        if stated is None:
            return after
        other = after.contradiction(stated, entry)
        if other:
            raise RegistryError(
                f"entry {entry.generation} of the log states other {other} than follow from it and "
                "the entries before; put back the log, from a copy of the registry, and find out who "
                "wrote it"
            )
        return stated

    def write(self, entry: Entry, state: State) -> bytes:
        """An entry as JSON, with what holds after it.

        Raises RegistryError for what could not be read again, such as NaN.
        """
        plain = {**fields.write_object(entry), "state": fields.write_object(state)}
        data = json.dumps(plain, indent=1, sort_keys=True).encode()
        # One entry that cannot be read would close the log for ever.
        self.read(data, entry.generation, "the entry")
        return data

    def read(self, data: bytes, number: int, where: str) -> tuple[Entry, State | None]:
        """An entry from JSON, and what it states to hold after it; None if that cannot be read.

        Fields that a newer modelkit added are left out. Raises RegistryError for anything but an
        entry of this number.
        """
        try:
            plain = parse_json(data.decode())
            entry = fields.read_known(self._entry, plain, where)
        except (RecursionError, ValueError) as error:
            raise RegistryError(f"{where} is not an entry of a registry: {error}") from None
        if entry.generation != number:
            raise RegistryError(f"{where} says that it is entry {entry.generation}")
        try:
            state = fields.read_known(self._state, plain.get("state"), where)
        except ValueError:
            return entry, None
        stated = (state.generation, state.last) == (entry.generation, entry.id)
        return entry, state if stated else None
