"""Counts what calls come to, in the threads of the callers, without a lock.

Everything that is rare is put into queues, from which the next tick takes it. Calls are counted
when their arm is drawn, so no end of theirs can change the split.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from math import isfinite
from typing import Any, final

import numpy as np

from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded, SignatureError
from modelkit.lifecycle.rollout.answering import whole_of
from modelkit.lifecycle.rollout.counts import (
    NO_EVENTS,
    ByArm,
    CompleteKey,
    Counts,
    EventCounts,
    Unit,
)
from modelkit.lifecycle.rollout.guards import (
    ERROR_EVENTS,
    NONFINITE_EVENTS,
    REFUSED_EVENTS,
    UNANSWERED,
)
from modelkit.lifecycle.rollout.keyed import MOST_KEYS
from modelkit.lifecycle.rollout.latency import Latency, no_times
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.model.model import Outputs

MOST_ADDED_UP = 16  # numbers, which Python has added up before numpy has begun
# Of neither the model nor the rows: of the queue, of the caller's haste, of who closed what.
NOT_ERRORS = (Overloaded, DeadlineExceeded, ClosedError)
NO_KEY = -1


# A call whose arm was drawn: the hash of its key, or `NO_KEY`; whether the candidate answers it; and
# its number among the calls of its key that count for a promotion, from 1, or 0 for any other call.
# A tuple, which is made in a sixth of the time that an object takes.
CountedCall = tuple[int, bool, int]
WITHOUT_KEY = ((NO_KEY, False, 0), (NO_KEY, True, 0))


def kind_of_error(error: BaseException) -> str | None:
    """The kind of event that an error of a call is, if it is one."""
    if isinstance(error, SignatureError):
        return REFUSED_EVENTS
    if isinstance(error, NOT_ERRORS) or not isinstance(error, Exception):
        return None
    return ERROR_EVENTS


def is_finite(answers: Outputs) -> bool:
    """Whether no output has NaN or infinities."""
    for array in answers.values():
        if array.dtype.kind != "f":
            continue
        # Either total is finite for nearly all that is, and takes a fraction of the time.
        few = array.size <= MOST_ADDED_UP
        total = sum(array.ravel().tolist()) if few else np.vdot(array, array)
        if not isfinite(total) and not np.isfinite(array).all():
            return False
    return True


@final
class ArmCounter:
    """Counts in both arms, from any thread.

    Attributes:
        arms: the champion's count and the candidate's, which False and True are the places of. `next`
            of one adds 1, and is atomic.
    """

    __slots__ = ("_taken", "arms")

    def __init__(self) -> None:
        self.arms = (itertools.count(), itertools.count())
        self._taken = (0, 0)

    def take(self) -> ByArm:
        """What was added since the last time. Reading a count adds 1 to it, which is taken off again."""
        champion, candidate = next(self.arms[False]), next(self.arms[True])
        found = ByArm(candidate - self._taken[True], champion - self._taken[False])
        self._taken = (champion + 1, candidate + 1)
        return found


@final
class EventCounter:
    """Counts calls, or events of one kind, in both arms: of calls without a key, and of others."""

    __slots__ = ("keyed", "plain")

    def __init__(self) -> None:
        self.plain = ArmCounter()
        self.keyed = ArmCounter()

    def take(self, keys: tuple[Unit, ...] = ()) -> EventCounts:
        """What was added since the last time; these keys had such an event."""
        return EventCounts(self.plain.take(), keys, self.keyed.take())


@final
class KeyCalls:
    """The calls of keys in one stage: of each, the first `most` count for a promotion.

    Such a call has a number from 1; any other one has 0, and of these only the first event of each
    key counts. Keys count again in the next stage, as they may be drawn again; see `keyed.Keys`.
    """

    __slots__ = ("_bad", "_began", "_complete", "_ended", "_events", "_had", "_most", "_new")

    def __init__(self, most: int) -> None:
        self._most = most
        self._began: dict[int, int] = {}  # calls that count, by key
        self._ended: dict[int, int] = {}
        self._had: dict[str, set[int]] = defaultdict(set)  # keys with an event, by kind
        # Of the calls of each key that count, how many had an event, by kind.
        self._bad: dict[int, Counter[str]] = defaultdict(Counter)
        # Queues.
        self._new: deque[tuple[int, bool]] = deque()
        self._events: deque[tuple[str, CountedCall]] = deque()
        self._complete: deque[tuple[int, bool]] = deque()

    def begin(self, key: int, candidate: bool) -> CountedCall:
        """Count a call."""
        before = self._began.get(key)
        if before is None:
            if len(self._began) >= MOST_KEYS:
                return key, candidate, 0
            self._new.append((key, candidate))
            before = 0
        elif before == self._most:
            return key, candidate, 0
        number = before + 1
        self._began[key] = number
        return key, candidate, number

    def note(self, key: int) -> None:
        """Count a key that the champion answered in shadow, once, and none of its calls."""
        if key not in self._began and len(self._began) < MOST_KEYS:
            self._began[key] = 0
            self._new.append((key, False))

    def event(self, kind: str, call: CountedCall) -> None:
        """Count an event of a call."""
        had = self._had[kind]
        key, _, number = call
        if number or (key not in had and len(had) < MOST_KEYS):
            had.add(key)
            self._events.append((kind, call))

    def end(self, key: int, candidate: bool) -> None:
        """Count the end of a call that counts; calls may end in another order than they began."""
        ended = self._ended.get(key, 0) + 1
        if ended < self._most:
            self._ended[key] = ended
            return
        self._ended.pop(key, None)
        self._complete.append((key, candidate))

    @property
    def waiting(self) -> int:
        """The number of entries in the queues."""
        return len(self._new) + len(self._events) + len(self._complete)

    def take(self) -> tuple[dict[str, tuple[Unit, ...]], tuple[CompleteKey, ...], tuple[Unit, ...]]:
        """The keys with events, by kind; the keys whose calls that count have all ended; the new keys."""
        complete = taken(self._complete)  # first: what a key did is there before it is complete
        found: dict[str, dict[Unit, None]] = defaultdict(dict)
        for kind, (key, candidate, number) in taken(self._events):
            found[kind][Unit(key, candidate)] = None
            if number:
                self._bad[key][kind] += 1
        keys = {kind: (*units,) for kind, units in found.items()}
        done = tuple(self._done(*unit) for unit in complete)
        return keys, done, tuple(Unit(*each) for each in taken(self._new))

    def _done(self, key: int, candidate: bool) -> CompleteKey:
        counts = self._bad.pop(key, Counter())
        bad = {kind: min(count / self._most, 1.0) for kind, count in counts.items()}
        return CompleteKey(key, candidate, bad)


@final
class Counters:
    """Counts the calls of one stage.

    Attributes:
        keys: the calls of keys.
    """

    __slots__ = (
        "_calls",
        "_checks_finite",
        "_copies",
        "_events",
        "_failed_marks",
        "_latency",
        "_marks",
        "_missing",
        "_times",
        "keys",
    )

    def __init__(self, policy: RolloutPolicy, latency: Latency) -> None:
        self._checks_finite = NONFINITE_EVENTS in policy.kinds
        self._marks = [(guard.name, guard.mark) for guard in policy.guards if guard.mark]
        self._failed_marks: set[str] = set()
        self._latency = latency
        self._times = no_times()
        self._calls = EventCounter()
        self._events = {kind: EventCounter() for kind in policy.kinds}
        self.keys = KeyCalls(policy.key_calls)
        # Queues: what was bad about each copy of the candidate, and marks whose function raised an error.
        self._copies: deque[set[str]] = deque()
        self._missing: deque[str] = deque()

    def begin(self, key: int | None, candidate: bool) -> CountedCall:
        """Count a call, by the hash of its key and by whether the candidate answers it."""
        if key is None:
            next(self._calls.plain.arms[candidate])
            return WITHOUT_KEY[candidate]
        next(self._calls.keyed.arms[candidate])
        return self.keys.begin(key, candidate)

    def answered(self, call: CountedCall, answers: Outputs, took: int) -> None:
        """Count what is bad about an answer, which took so many nanoseconds."""
        key, candidate, number = call
        if took > self._latency.least:
            for kind in self._latency.kinds(took, in_candidate=candidate):
                self._event(kind, call)
        self._times[candidate].append(took)
        if self._marks or (self._checks_finite and not is_finite(answers)):
            for kind in self.bad_answers(answers):
                self._event(kind, call)
        if number:
            self.keys.end(key, candidate)

    def failed(self, call: CountedCall, error: BaseException) -> str | None:
        """Count an error; returns the kind of event that it is, if it is one of the Model."""
        kind = kind_of_error(error)
        self._event(kind or UNANSWERED, call)
        key, candidate, number = call
        if number:
            self.keys.end(key, candidate)
        return kind

    def _event(self, kind: str, call: CountedCall) -> None:
        counter = self._events.get(kind)
        if counter is None:
            return  # no guard wants it
        key, candidate, _ = call
        if key == NO_KEY:
            next(counter.plain.arms[candidate])
            return
        next(counter.keyed.arms[candidate])
        self.keys.event(kind, call)

    def bad_answers(self, answers: Outputs) -> list[str]:
        """The kinds of events that an answer is."""
        found = []
        if self._checks_finite and not is_finite(answers):
            found.append(NONFINITE_EVENTS)
        for name, mark in self._marks:
            try:
                if mark(whole_of(answers)):
                    found.append(name)
            except Exception:  # it must not reach the caller
                if name not in self._failed_marks:
                    self._failed_marks.add(name)
                    self._missing.append(name)
        return found

    def shadowed(self, kinds: set[str], known: Iterable[str] = ()) -> None:
        """Count a copy that the candidate ran, with what was bad about it alone.

        What was bad about the champion's answer is `known`.
        """
        self._copies.append(kinds)
        for kind in known:
            self._event(kind, WITHOUT_KEY[False])

    def failed_in_shadow(self, error: BaseException) -> None:
        """Count an error of the champion, which leaves nothing to run."""
        kind = kind_of_error(error)
        if kind is not None:
            self._event(kind, WITHOUT_KEY[False])

    def answered_in_shadow(self, took: int) -> None:
        """Note how long the champion took, from which the next stage begins."""
        self._times[False].append(took)

    @property
    def waiting(self) -> int:
        """The number of entries in the queues."""
        return self.keys.waiting + len(self._copies)

    def collect(self) -> Counts:
        """What was counted since the last time. For one thread at once."""
        calls = self._calls.take()
        arms = calls.plain + calls.keyed
        keys, done, new = self.keys.take()
        copies = taken(self._copies)
        found = {kind: each.take(keys.get(kind, ())) for kind, each in self._events.items()}
        self._latency.learn(arms, self._times)
        return Counts(
            calls=arms,
            plain=calls.plain,
            keys=new,
            events={kind: each for kind, each in found.items() if each != NO_EVENTS},
            done=done,
            shadowed=len(copies),
            shadow_events=dict(Counter(itertools.chain.from_iterable(copies))),
            missing=(*sorted(taken(self._missing)),),
        )


def taken(queue: deque[Any]) -> list[Any]:
    """What is in a queue now, to which other threads may add."""
    return [queue.popleft() for _ in range(len(queue))]
