"""What was counted in one tick of a rollout: values, which several processes can add up, as JSON too.

An event of a call with a key comes with the key's hash, so that whoever adds up counts each key
once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self, final

MOST_COUNTED = 1 << 53  # beyond it, a float has not every whole number
A_HASH = 1 << 64


class Unit(NamedTuple):
    """A key whose arm was drawn.

    Attributes:
        key: its hash.
        candidate: whether it goes to the candidate.
    """

    key: int
    candidate: bool


@dataclass(frozen=True)
class Addable:
    """A value of which two are added field by field."""

    def __add__(self, other: Self) -> Self:
        theirs = vars(other)
        return replace(
            self, **{name: _sum(mine, theirs[name]) for name, mine in vars(self).items()}
        )


def _sum(mine: Any, theirs: Any) -> Any:
    """The sum of two fields; of mappings, name by name."""
    if not isinstance(mine, Mapping):
        return mine + theirs
    both = {name: _sum(mine[name], theirs[name]) for name in mine if name in theirs}
    return {**mine, **theirs, **both}


@final
@dataclass(frozen=True)
class ByArm(Addable):
    """How many in each arm."""

    candidate: int = 0
    champion: int = 0


@final
@dataclass(frozen=True)
class EventCounts(Addable):
    """The events of one kind.

    Attributes:
        plain: the calls without a key that had one.
        keys: the keys of the other calls that had one, any number of times, but at least once.
        keyed: these other calls.
    """

    plain: ByArm = ByArm()
    keys: tuple[Unit, ...] = ()
    keyed: ByArm = ByArm()


@final
@dataclass(frozen=True)
class CompleteKey:
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
class PostedLoss:
    """A loss that came to somebody who did not answer the key: a process that did will say so.

    Attributes:
        loss: from 0 to 1.
        key: the hash of the key.
    """

    loss: float
    key: int


@final
@dataclass(frozen=True)
class Counts(Addable):
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
        differences: losses of the candidate less losses of the champion for the same row.
        missing: the guards of which something could not be counted.
    """

    calls: ByArm = ByArm()
    plain: ByArm = ByArm()
    keys: tuple[Unit, ...] = ()
    events: Mapping[str, EventCounts] = field(default_factory=dict)
    done: tuple[CompleteKey, ...] = ()
    shadowed: int = 0
    shadow_events: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[Label, ...] = ()
    posted: tuple[PostedLoss, ...] = ()
    differences: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def entries(self) -> int:
        """How many values it holds: keys, and losses."""
        keys = sum(len(events.keys) for events in self.events.values())
        return keys + sum(len(each) for each in vars(self).values() if isinstance(each, tuple))


NOTHING = Counts()
NO_EVENTS = EventCounts()


def write_value(value: Any) -> Any:
    """One of these values as JSON has it, for `json.dumps(..., default=write_value)`.

    Counts are an object without what is empty, and the others lists of what they hold.
    """
    if not isinstance(value, Counts):
        return [*vars(value).values()]
    empty = vars(NOTHING)
    return {name: held for name, held in vars(value).items() if held != empty[name]}


def read_counts(plain: Any) -> Counts:
    """Counts from JSON; fields that a newer modelkit added are left out.

    Raises AttributeError, TypeError or ValueError for what no process counts.
    """
    known = {name: value for name, value in plain.items() if name in READERS}
    return Counts(**{name: READERS[name](value) for name, value in known.items()})


def read_count(value: Any, below: int = MOST_COUNTED) -> int:
    """A number of what was counted. Raises ValueError for what is none."""
    if type(value) is not int or not 0 <= value < below:
        raise ValueError(f"a count is a whole number from 0 to below {below}, not {value!r:.40}")
    return value


def read_text(value: Any) -> str:
    """A text. Raises ValueError for what is none."""
    if type(value) is not str:
        raise ValueError(f"a name is a text, not {value!r:.40}")
    return value


def _hash(value: Any) -> int:
    return read_count(value, A_HASH)


def _arm(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError(f"an arm is true or false, not {value!r:.40}")
    return bool(value)


def _loss(value: Any, least: int = 0) -> float:
    if type(value) not in (int, float) or not least <= value <= 1:
        raise ValueError(f"a loss is a number from {least} to 1, not {value!r:.40}")
    return float(value)


def _difference(value: Any) -> float:
    return _loss(value, -1)


Reader = Callable[[Any], Any]


def _tuple(read: Reader) -> Reader:
    return lambda plain: tuple(map(read, plain))


def _by_kind(read: Reader) -> Reader:
    return lambda plain: {kind: read(value) for kind, value in plain.items()}


def _value(make: type, *readers: Reader) -> Reader:
    """What reads a value from the list of what it holds."""

    def read(plain: Any) -> Any:
        if len(plain) != len(readers):
            raise ValueError(f"{make.__name__} has {len(readers)} values, not {plain!r:.40}")
        return make(*(read(value) for read, value in zip(readers, plain, strict=True)))

    return read


ARMS = _value(ByArm, read_count, read_count)
UNITS = _tuple(_value(Unit, _hash, _arm))
READERS: Mapping[str, Reader] = {
    "calls": ARMS,
    "plain": ARMS,
    "keys": UNITS,
    "events": _by_kind(_value(EventCounts, ARMS, UNITS, ARMS)),
    "done": _tuple(_value(CompleteKey, _hash, _arm, _by_kind(_loss))),
    "shadowed": read_count,
    "shadow_events": _by_kind(read_count),
    "labels": _tuple(_value(Label, _loss, _hash, _arm, read_count)),
    "posted": _tuple(_value(PostedLoss, _loss, _hash)),
    "differences": _tuple(_difference),
    "missing": _tuple(read_text),
}
