"""Counts what calls come to, in the threads of the callers, without a lock.

Everything that is rare is put into queues, from which the next tick takes it. Calls are counted
when their arm is drawn, so that no end of theirs can change the split.
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
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Happened, KeyDone, Unit
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
class KeyCalls:
    """The calls of keys in one stage: of each, the first `most` count for a promotion.

    Such a call has a number from 1; any other one has 0, and of these only the first event of each
    key counts. Keys count anew in the next stage, as they may be drawn anew; see `keyed.Keys`.
    """

    __slots__ = ("_bad", "_began", "_complete", "_ended", "_events", "_had", "_most", "_new")

    def __init__(self, most: int) -> None:
        self._most = most
        self._began: dict[int, int] = {}  # calls that count, by key
        self._ended: dict[int, int] = {}
        self._had: dict[str, set[int]] = defaultdict(set)  # keys with an event, by kind
        self._bad: dict[int, Counter[str]] = defaultdict(
            Counter
        )  # calls that count with one, by key
        # Queues.
        self._new: deque[Unit] = deque()
        self._events: deque[tuple[str, Unit, int]] = deque()  # the kind, and the number of the call
        self._complete: deque[Unit] = deque()

    def begin(self, key: int, in_candidate: bool) -> int:
        """Count a call; returns its number."""
        before = self._began.get(key)
        if before is None:
            if len(self._began) >= MOST_KEYS:
                return 0
            self._new.append((key, in_candidate))
            before = 0
        elif before == self._most:
            return 0
        number = before + 1
        self._began[key] = number
        return number

    def note(self, key: int) -> None:
        """Count a key that the champion answered in shadow, once, and none of its calls."""
        if key not in self._began and len(self._began) < MOST_KEYS:
            self._began[key] = 0
            self._new.append((key, False))

    def event(self, kind: str, key: int, in_candidate: bool, number: int) -> None:
        """Count an event of a call."""
        had = self._had[kind]
        if number or (key not in had and len(had) < MOST_KEYS):
            had.add(key)
            self._events.append((kind, (key, in_candidate), number))

    def end(self, key: int, in_candidate: bool) -> None:
        """Count the end of a call that counts; calls may end in another order than they began."""
        ended = self._ended.get(key, 0) + 1
        if ended < self._most:
            self._ended[key] = ended
            return
        self._ended.pop(key, None)
        self._complete.append((key, in_candidate))

    @property
    def waiting(self) -> int:
        """The number of entries in the queues."""
        return len(self._new) + len(self._events) + len(self._complete)

    def take_new(self) -> tuple[Unit, ...]:
        """The keys that are new."""
        return tuple(_taken(self._new))

    def take_events(self) -> tuple[dict[str, tuple[Unit, ...]], tuple[KeyDone, ...]]:
        """The keys with events, by kind, and those of which all calls that count have ended."""
        complete = _taken(self._complete)  # first: what a key did is there before it is complete
        found: dict[str, dict[Unit, None]] = defaultdict(dict)
        for kind, unit, number in _taken(self._events):
            found[kind][unit] = None
            if number:
                self._bad[unit[0]][kind] += 1
        keys = {kind: tuple(units) for kind, units in found.items()}
        return keys, tuple(self._done(*unit) for unit in complete)

    def _done(self, key: int, in_candidate: bool) -> KeyDone:
        counts = self._bad.pop(key, Counter())
        bad = {kind: min(count / self._most, 1.0) for kind, count in counts.items()}
        return KeyDone(key, in_candidate, bad)


@final
class Counters:
    """Counts the calls of one stage.

    A call is given by the hash of its key or None, by whether the candidate answers it, and by the
    number that `begin` returned.
    """

    __slots__ = (
        "_checks_finite",
        "_copies",
        "_events",
        "_failed_marks",
        "_keyed",
        "_keyed_events",
        "_keys",
        "_latency",
        "_marks",
        "_missing",
        "_plain",
        "_times",
    )

    def __init__(self, policy: RolloutPolicy, latency: Latency) -> None:
        self._checks_finite = NONFINITE_EVENTS in policy.kinds
        self._marks = [guard for guard in policy.guards if guard.mark is not None]
        self._failed_marks: set[str] = set()
        self._latency = latency
        self._times = no_times()
        # Calls, and events by kind: of calls without a key, and of those with one.
        self._plain = ArmCounter()
        self._keyed = ArmCounter()
        self._events = {kind: ArmCounter() for kind in policy.kinds}
        self._keyed_events = {kind: ArmCounter() for kind in policy.kinds}
        self._keys = KeyCalls(policy.key_calls)
        # Queues: what was bad about each copy of the candidate, and marks whose function raised an error.
        self._copies: deque[set[str]] = deque()
        self._missing: deque[str] = deque()

    def begin(self, key: int | None, in_candidate: bool) -> int:
        """Count a call; returns its number among those of its key that count for a promotion, or 0."""
        if key is None:
            next(self._plain.arms[in_candidate])
            return 0
        next(self._keyed.arms[in_candidate])
        return self._keys.begin(key, in_candidate)

    def key_in_shadow(self, key: int) -> None:
        """Count a key that the champion answered in shadow, once."""
        self._keys.note(key)

    def answered(
        self, key: int | None, in_candidate: bool, number: int, answers: Outputs, took: int
    ) -> None:
        """Count what is bad about an answer, which took so many nanoseconds."""
        if took > self._latency.least:
            for kind in self._latency.kinds(took, in_candidate=in_candidate):
                self._event(kind, key, in_candidate, number)
        self._times[in_candidate].append(took)
        if self._checks_finite and not is_finite(answers):
            self._event(NONFINITE_EVENTS, key, in_candidate, number)
        if self._marks:
            for kind in self._marked(answers):
                self._event(kind, key, in_candidate, number)
        if number and key is not None:
            self._keys.end(key, in_candidate)

    def failed(
        self, key: int | None, in_candidate: bool, number: int, error: Exception
    ) -> str | None:
        """Count an error; returns the kind of event that it is, if it is one."""
        kind = kind_of_error(error)
        if kind is not None:
            self._event(kind, key, in_candidate, number)
        elif isinstance(error, NOT_ERRORS):
            self._event(UNANSWERED, key, in_candidate, number)
        if number and key is not None:
            self._keys.end(key, in_candidate)
        return kind

    def gave_up(self, key: int | None, in_candidate: bool, number: int) -> None:
        """Count a call that its caller cancelled."""
        self._event(UNANSWERED, key, in_candidate, number)
        if number and key is not None:
            self._keys.end(key, in_candidate)

    def _event(self, kind: str, key: int | None, in_candidate: bool, number: int) -> None:
        if kind not in self._events:
            return  # no guard wants it
        if key is None:
            next(self._events[kind].arms[in_candidate])
            return
        next(self._keyed_events[kind].arms[in_candidate])
        self._keys.event(kind, key, in_candidate, number)

    def shadowed(self, kinds: set[str], known: Iterable[str] = ()) -> None:
        """Count a copy that the candidate ran, with what was bad about it alone.

        What was bad about the champion's answer is `known`.
        """
        self._copies.append(kinds)
        for kind in known:
            self._event(kind, None, in_candidate=False, number=0)

    def failed_in_shadow(self, error: Exception) -> None:
        """Count an error of the champion, which leaves nothing to run."""
        kind = kind_of_error(error)
        if kind is not None:
            self._event(kind, None, in_candidate=False, number=0)

    def bad_answers(self, answers: Outputs) -> set[str]:
        """The kinds of events that an answer is."""
        found = set(self._marked(answers))
        if self._checks_finite and not is_finite(answers):
            found.add(NONFINITE_EVENTS)
        return found

    def answered_in_shadow(self, took: int) -> None:
        """Note how long the champion took, from which the next stage begins."""
        self._times[False].append(took)

    def _marked(self, answers: Outputs) -> list[str]:
        found = []
        answers = whole_of(answers)
        for guard in self._marks:
            try:
                if guard.mark is not None and guard.mark(answers):
                    found.append(guard.name)
            except Exception:  # it must not reach the caller
                if guard.name not in self._failed_marks:
                    self._failed_marks.add(guard.name)
                    self._missing.append(guard.name)
        return found

    @property
    def waiting(self) -> int:
        """The number of entries in the queues."""
        return self._keys.waiting + len(self._copies)

    def collect(self) -> Counts:
        """What was counted since the last time. For one thread at once."""
        plain = self._plain.take()
        calls = plain + self._keyed.take()
        keys, done = self._keys.take_events()
        copies = _taken(self._copies)
        events = {
            kind: Happened(count.take(), keys.get(kind, ()), self._keyed_events[kind].take())
            for kind, count in self._events.items()
        }
        self._latency.learn(calls, self._times)
        return Counts(
            calls=calls,
            plain=plain,
            keys=self._keys.take_new(),
            events=events,
            done=done,
            shadowed=len(copies),
            shadow_events=dict(Counter(itertools.chain.from_iterable(copies))),
            missing=tuple(sorted(_taken(self._missing))),
        )


def _taken(queue: deque[Any]) -> list[Any]:
    """What is in a queue now, to which other threads may add."""
    return [queue.popleft() for _ in range(len(queue))]
