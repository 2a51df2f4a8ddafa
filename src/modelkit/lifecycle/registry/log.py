"""What was decided about the versions of a model, one numbered entry after another; pure.

The number of an entry is the generation that it makes. Whoever has read up to an entry writes the
next one, and of several who do, one succeeds. What holds now is the sum of all entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from textwrap import shorten
from typing import Any, final

from modelkit._internal import fields
from modelkit.errors import RegistryError
from modelkit.store.log import Log
from modelkit.store.sequence import Sequence
from modelkit.store.store import Store

ALIAS = "alias"  # an alias names another version
ROLLOUT = "rollout"  # a candidate is on trial
DECIDED = "decided"  # what became of it
CHAMPION = "champion"  # the alias that a rollout is about
RETIREMENT = "retired"  # a version gets no alias any more
NAMED = "named"  # a version has a name that an alias could have
MOST_REASON = 72  # letters in a table
KINDS = {ALIAS, ROLLOUT, DECIDED, RETIREMENT, NAMED}


@final
@dataclass(frozen=True)
class Entry:
    """One decision, as it stands in the log of a model.

    Attributes:
        generation: its number, from 1.
        kind: "alias", "retired", "named", "rollout", "decided", or what a newer modelkit wrote.
        at: when it was written, in ISO 8601 and UTC, by the clock of the writer.
        actor: who wrote it: user and machine.
        reason: why, in the writer's words.
        alias: the alias that was set, or "".
        version: the version that it is about.
        was: the version that the alias named before; None if there was none.
        id: by which equal entries of several writers differ.
        previous: the id of the entry before, "" of the first.
        about: further values, by name.
    """

    generation: int
    kind: str
    at: str
    actor: str
    reason: str
    version: str
    alias: str = ""
    was: str | None = None
    id: str = ""
    previous: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    __repr__ = fields.brief

    def __str__(self) -> str:
        return f"{self.generation} {self.at} {self.actor}: {self._what()}: {self.reason}"

    def _what(self) -> str:
        if self.alias:
            before = "" if self.was is None else f", before {self.was}"
            return f"{self.alias} is {self.version}{before}"
        if self.kind == DECIDED:
            return f"{self.about.get('decision')} of {self.version}"
        return f"{self.kind} {self.version}"

    def _cells(self) -> dict[str, str]:
        return {
            "generation": str(self.generation),
            "at": self.at[:19].replace("T", " "),
            "by": self.actor,
            "what": self._what(),
            "reason": shorten(self.reason, MOST_REASON, placeholder="..."),
        }


@final
@dataclass(frozen=True)
class Alias:
    """What an alias names now.

    Attributes:
        version: the version.
        generation: the number of the entry that set it.
        at: when that was.
        actor: who set it.
        reason: why.
    """

    version: str
    generation: int
    at: str
    actor: str
    reason: str

    def _cells(self) -> tuple[str, ...]:
        """Version, time, author and reason, as tables show them."""
        return self.version, self.at[:19].replace("T", " "), self.actor, self.reason


@final
@dataclass(frozen=True)
class Underway:
    """A rollout that is under way.

    Attributes:
        candidate: the version on trial.
        champion: the version that answered when it began.
        policy: how it goes, as JSON.
        generation: the number of the entry that began it.
        id: its own, by which keys are hashed.
        stage: the number of its stage, from 0.
        at: when it began, in ISO 8601 and UTC.
        stage_at: when its stage began.
        actor: who began it.
        reason: why.
    """

    candidate: str
    champion: str
    policy: str
    generation: int
    id: str
    stage: int
    at: str
    stage_at: str
    actor: str
    reason: str

    __repr__ = fields.brief

    @property
    def salt(self) -> bytes:
        """What keys are hashed with, the same in every process."""
        return self.id.encode()[:64]


@final
@dataclass(frozen=True)
class State:
    """What all entries up to one come to.

    Attributes:
        generation: the number of the last entry; 0 before the first.
        aliases: what each alias names.
        retired: the versions that get no alias any more, each with the reason.
        rollout: the rollout that is under way, or None.
        rolled_back: the versions that were rolled back, each with the reason.
        last: the id of the last entry: a log with another one is not the log that was read.
        names: the versions whose names an alias could have, so that none gets them.
    """

    generation: int = 0
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    retired: Mapping[str, str] = field(default_factory=dict)
    rollout: Underway | None = None
    rolled_back: Mapping[str, str] = field(default_factory=dict)
    last: str = ""
    names: tuple[str, ...] = ()

    __repr__ = fields.brief

    def after(self, entry: Entry) -> State:
        """What holds after one more entry. An entry of a kind that is not known changes nothing."""
        state = replace(self, generation=entry.generation, last=entry.id)
        if entry.kind == NAMED:
            return replace(state, names=(*self.names, entry.version))
        if entry.kind == RETIREMENT:
            return replace(state, retired={**self.retired, entry.version: entry.reason})
        if entry.kind == ROLLOUT:
            return replace(state, rollout=underway(entry))
        if entry.kind == DECIDED:
            state = _decided(state, entry)
        elif entry.kind != ALIAS:
            return state
        return _with_alias(state, entry) if entry.alias else state

    def contradiction(self, stated: State, entry: Entry) -> str:
        """What an entry of a known kind states otherwise than follows."""
        return "aliases" if entry.kind in KINDS and stated.aliases != self.aliases else ""


def alias_of(entry: Entry) -> Alias:
    """The alias as an entry sets it."""
    return Alias(entry.version, entry.generation, entry.at, entry.actor, entry.reason)


def _with_alias(state: State, entry: Entry) -> State:
    """An alias names another version. Whoever moves the champion by hand ends a rollout."""
    rollout = None if entry.alias == CHAMPION else state.rollout
    aliases = {**state.aliases, entry.alias: alias_of(entry)}
    return replace(state, aliases=aliases, rollout=rollout)


def underway(entry: Entry) -> Underway:
    """The rollout that an entry begins."""
    about = entry.about
    return Underway(
        candidate=entry.version,
        champion=str(about.get("champion")),
        policy=str(about.get("policy")),
        generation=entry.generation,
        id=entry.id,
        stage=0,
        at=entry.at,
        stage_at=entry.at,
        actor=entry.actor,
        reason=entry.reason,
    )


def _decided(state: State, entry: Entry) -> State:
    rollout = state.rollout
    decision = entry.about.get("decision")
    if rollout is None:
        return state
    if decision == "advance":
        stage = entry.about.get("stage")
        if type(stage) is not int:
            raise RegistryError(f"entry {entry.generation} advances to no stage: {stage!r}")
        moved = replace(rollout, stage=stage, stage_at=entry.at)
        return replace(state, rollout=moved)
    if decision == "rollback":
        rolled_back = {**state.rolled_back, entry.version: entry.reason}
        return replace(state, rollout=None, rolled_back=rolled_back)
    return state


def log_of(store: Store, name: str) -> Log[State, Entry]:
    """The log of a model in the store of a registry."""
    return Log(Sequence(store, f"models/{name}/log"), Entry, State())
