"""What was counted in one tick of a rollout: values, which several processes can add up.

An event of a call with a key comes with the key's hash, so that whoever adds up counts each key
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

Unit = tuple[int, bool]  # the hash of a key, and whether it goes to the candidate


@final
@dataclass(frozen=True)
class ByArm:
    """How many in each arm."""

    candidate: int = 0
    champion: int = 0

    def __add__(self, other: ByArm) -> ByArm:
        return ByArm(self.candidate + other.candidate, self.champion + other.champion)


@final
@dataclass(frozen=True)
class Happened:
    """The events of one kind.

    Attributes:
        plain: the calls without a key that had one.
        keys: the keys of the other calls that had one, any number of times, but at least once.
        keyed: these other calls.
    """

    plain: ByArm = ByArm()
    keys: tuple[Unit, ...] = ()
    keyed: ByArm = ByArm()

    def __add__(self, other: Happened) -> Happened:
        return Happened(self.plain + other.plain, self.keys + other.keys, self.keyed + other.keyed)


@final
@dataclass(frozen=True)
class KeyDone:
    """A key with all the calls that count for a promotion.

    Attributes:
        key: its hash.
        candidate: whether the candidate answered them.
        bad: the share of them that had an event, by kind; those that are absent are 0.
    """

    key: int
    candidate: bool
    bad: Mapping[str, float]


@final
@dataclass(frozen=True)
class Label:
    """A loss that came for an answer.

    Attributes:
        loss: from 0 to 1.
        key: the hash of the key that was answered.
        candidate: whether the candidate answered.
        stage: the stage in which it did, from 0, however late the loss came.
    """

    loss: float
    key: int
    candidate: bool
    stage: int


@final
@dataclass(frozen=True)
class Posted:
    """A loss that came to somebody who did not answer the key: a process that did will say so.

    Attributes:
        loss: from 0 to 1.
        key: the hash of the key.
    """

    loss: float
    key: int


@final
@dataclass(frozen=True)
class Counts:
    """What was counted in one tick, in one stage.

    Attributes:
        calls: all calls.
        plain: those without a key.
        keys: the keys that were seen for the first time.
        events: the events by kind.
        done: the keys with all the calls that count for a promotion.
        shadowed: the calls of which the candidate ran a copy, that the champion answered.
        shadow_events: the copies that had an event, which the champion's answer had not, by kind.
        labels: the losses of keys that the process answered, in the order in which they came.
        posted: the other losses, likewise.
        differences: losses of the candidate less those of the champion for the same row.
        missing: the guards of which something could not be counted.
    """

    calls: ByArm = ByArm()
    plain: ByArm = ByArm()
    keys: tuple[Unit, ...] = ()
    events: Mapping[str, Happened] = field(default_factory=dict)
    done: tuple[KeyDone, ...] = ()
    shadowed: int = 0
    shadow_events: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[Label, ...] = ()
    posted: tuple[Posted, ...] = ()
    differences: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def entries(self) -> int:
        """How many values it holds: keys, and losses."""
        keys = sum(len(happened.keys) for happened in self.events.values())
        losses = len(self.labels) + len(self.posted) + len(self.differences)
        return keys + losses + len(self.keys) + len(self.done)

    @property
    def anything(self) -> bool:
        """Whether anything was counted."""
        happened = any(each != Happened() for each in self.events.values())
        return happened or replace(self, events={}) != Counts()

    def __add__(self, other: Counts) -> Counts:
        """What two processes counted in the same tick of the same stage."""
        events = dict(self.events)
        for name, happened in other.events.items():
            events[name] = events.get(name, Happened()) + happened
        shadow_events = dict(self.shadow_events)
        for name, count in other.shadow_events.items():
            shadow_events[name] = shadow_events.get(name, 0) + count
        return Counts(
            calls=self.calls + other.calls,
            plain=self.plain + other.plain,
            keys=self.keys + other.keys,
            events=events,
            done=self.done + other.done,
            shadowed=self.shadowed + other.shadowed,
            shadow_events=shadow_events,
            labels=self.labels + other.labels,
            posted=self.posted + other.posted,
            differences=self.differences + other.differences,
            missing=tuple(sorted({*self.missing, *other.missing})),
        )
