"""Counts what calls come to, in the threads of the callers, without a lock.

Everything that is rare is put into a queue, from which the next tick takes it. Calls are counted
when their arm is drawn, so that no end of theirs can change the split.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, final

import numpy as np

from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded, SignatureError
from modelkit.lifecycle.rollout.answering import whole_of
from modelkit.lifecycle.rollout.counts import ByArm, Counts
from modelkit.lifecycle.rollout.entries import (
    EVENT,
    KEY_COMPLETE,
    MISSING,
    NEW_KEY,
    SHADOWED,
    TickEntries,
)
from modelkit.lifecycle.rollout.guards import (
    BLAMED_KINDS,
    ERROR_EVENTS,
    LONGER_KINDS,
    NONFINITE_EVENTS,
    QUANTILES,
    REFUSED_EVENTS,
    SLOW_EVENTS,
    SLOW_KINDS,
    UNANSWERED,
)
from modelkit.lifecycle.rollout.keyed import MOST_KEYS
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.stretch import Stretch
from modelkit.model.model import Outputs

WARM_CALLS = 50  # of each arm, which may be slow because it is new
LEAST_TIMES = 100  # of the champion, for quantiles
MOST_TIMES = 2_000
A_SECOND = 1_000_000_000  # in nanoseconds
MOST_ADDED_UP = 16  # numbers, which Python has added up before numpy has begun
# Of neither the model nor the rows: of the queue, of the caller's haste, of who closed what.
NOT_ERRORS = (Overloaded, DeadlineExceeded, ClosedError)

TwoCounts = tuple["itertools.count[int]", "itertools.count[int]"]


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


def _two_counts() -> TwoCounts:
    """Of the champion, and of the candidate, which False and True are the places of."""
    return itertools.count(), itertools.count()


def _two_deques() -> tuple[deque[int], deque[int]]:
    return deque(maxlen=MOST_TIMES), deque(maxlen=MOST_TIMES)


@final
class Memory:
    """What is known from one stage of a rollout to the next.

    Args:
        draw: gives numbers from 0 to 1, which choose the long calls that count.

    Attributes:
        slow: the nanoseconds from which a call is slow, with the names of the kinds of a call that
            is, of one of the candidate that is so by more than what does not matter, and of one of
            either arm that counts for a rollback. The least comes first.
        stretch: of the candidate.
        blamed: the share of its long calls that count against it.
        colder: the nanoseconds by which a usual call of it is longer, where not all of them do.
        arms: the number of calls that each arm had, which is then warm.
    """

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw = draw
        self.slow: tuple[tuple[int, str, str, str], ...] = ()
        self.stretch = Stretch()
        self.blamed = 0.0
        self.colder = 0.0
        self.arms = ByArm()


@final
class Counters:
    """Counts the calls of one stage, in which each key has one arm.

    What keys did counts anew in the next stage, as they may be drawn anew; see `keyed.FreshKeys`.
    """

    __slots__ = (
        "_bad",
        "_calls",
        "_checks_finite",
        "_ended",
        "_entries",
        "_events",
        "_had",
        "_key_calls",
        "_keyed",
        "_keyed_events",
        "_longer",
        "_marks",
        "_memory",
        "_missing",
        "_plain",
        "_policy",
        "_taken",
        "_timed",
        "_times",
    )

    def __init__(self, policy: RolloutPolicy, memory: Memory) -> None:
        names = {guard.name for guard in policy.guards}
        self._policy = policy
        self._memory = memory
        self._calls: dict[int, int] = {}  # of each key
        self._had: dict[str, set[int]] = defaultdict(set)  # keys with an event, by kind
        self._bad: dict[int, Counter[str]] = defaultdict(Counter)  # calls with an event, by key
        self._ended: dict[int, int] = {}  # calls that count, of keys that are not complete
        self._key_calls = policy.key_calls
        self._checks_finite = NONFINITE_EVENTS in names
        self._timed = SLOW_EVENTS in names
        self._longer = sum(int(guard.longer * A_SECOND) for guard in policy.guards)  # of one
        self._missing: set[str] = set()  # whose function raised an error
        self._marks = [guard for guard in policy.guards if guard.mark is not None]
        self._entries: deque[tuple[Any, ...]] = deque()
        self._times = _two_deques()
        # `next` of a count is atomic.
        self._plain = _two_counts()
        self._keyed = _two_counts()
        kinds = [kind for guard in policy.guards for kind in guard.streams]
        kinds.append(UNANSWERED)
        self._events = {kind: _two_counts() for kind in kinds}
        self._keyed_events = {kind: _two_counts() for kind in kinds}
        self._taken: dict[str, tuple[int, int]] = {}

    def begin(self, unit: int | None, in_candidate: bool) -> int:
        """Count a call; returns its number among those of its key that count, or 0."""
        if unit is None:
            next(self._plain[in_candidate])
            return 0
        next(self._keyed[in_candidate])
        calls = self._calls
        before = calls.get(unit)
        if before is None:
            if len(calls) >= MOST_KEYS:
                return 0
            self._entries.append((NEW_KEY, unit, in_candidate))
            before = 0
        elif before == self._key_calls:
            return 0
        number = before + 1
        calls[unit] = number
        return number

    def key_in_shadow(self, unit: int) -> None:
        """Count a key that the champion answered in shadow, once."""
        calls = self._calls
        if unit not in calls and len(calls) < MOST_KEYS:
            calls[unit] = 0
            self._entries.append((NEW_KEY, unit, False))

    def answered(
        self, unit: int | None, in_candidate: bool, number: int, answers: Outputs, took: int
    ) -> None:
        """Count what is bad about an answer, which took so many nanoseconds."""
        if self._timed:
            slow = self._memory.slow
            if slow and took > slow[0][0]:
                self._took_long(unit, in_candidate, number, took)
            self._times[in_candidate].append(took)
        if self._checks_finite and not is_finite(answers):
            self._event(NONFINITE_EVENTS, unit, in_candidate, number)
        if self._marks:
            for kind in self._marked(answers):
                self._event(kind, unit, in_candidate, number)
        if number:
            self._end(unit, in_candidate)

    def _took_long(self, unit: int | None, in_candidate: bool, number: int, took: int) -> None:
        """Count a slow answer."""
        memory = self._memory
        drawn = memory.draw() < memory.blamed
        less = took - self._longer
        for least, slow, longer, weighed in memory.slow:
            if took <= least:
                return
            self._event(slow, unit, in_candidate, number)
            if not in_candidate:
                counts = drawn or less + memory.colder > least
            elif less > least:
                self._event(longer, unit, in_candidate, number)
                counts = drawn
            else:
                return  # nor is it above the next
            if counts:
                self._event(weighed, unit, in_candidate, number)

    def failed(
        self, unit: int | None, in_candidate: bool, number: int, error: Exception
    ) -> str | None:
        """Count an error; returns the kind of event that it is, if it is one."""
        kind = kind_of_error(error)
        if kind is not None:
            self._event(kind, unit, in_candidate, number)
        elif isinstance(error, NOT_ERRORS):
            self._event(UNANSWERED, unit, in_candidate, number)
        if number:
            self._end(unit, in_candidate)
        return kind

    def gave_up(self, unit: int | None, in_candidate: bool, number: int) -> None:
        """Count a call that its caller cancelled."""
        self._event(UNANSWERED, unit, in_candidate, number)
        if number:
            self._end(unit, in_candidate)

    def _end(self, unit: int | None, in_candidate: bool) -> None:
        """Count the end of a call of a key; calls may end in another order than they began."""
        assert unit is not None  # for the type checker: it has a number
        ended = self._ended.get(unit, 0) + 1
        if ended < self._key_calls:
            self._ended[unit] = ended
            return
        self._ended.pop(unit, None)
        self._entries.append((KEY_COMPLETE, unit, in_candidate))

    def _event(self, kind: str, unit: int | None, in_candidate: bool, number: int) -> None:
        """Count an event; of a key, the first one and those of its calls that count."""
        counts = self._events.get(kind)
        if counts is None:
            return  # no guard wants it
        if unit is None:
            next(counts[in_candidate])
            return
        next(self._keyed_events[kind][in_candidate])
        had = self._had[kind]
        if number or (unit not in had and len(had) < MOST_KEYS):
            had.add(unit)
            self._entries.append((EVENT, kind, unit, in_candidate, number))

    def shadowed(self, kinds: set[str], known: Iterable[str] = ()) -> None:
        """Count a copy that the candidate ran, with what was bad about it alone.

        What was bad about the champion's answer is `known`.
        """
        self._entries.append((SHADOWED, kinds))
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
                if guard.name not in self._missing:
                    self._missing.add(guard.name)
                    self._entries.append((MISSING, guard.name))
        return found

    @property
    def waiting(self) -> int:
        """The number of entries in the queue."""
        return len(self._entries)

    def collect(self) -> Counts:
        """What was counted since the last time. For one thread at once."""
        plain = self._newly("", self._plain)
        calls = plain + self._newly("keyed:", self._keyed)
        self._memory.arms += calls
        gathered = TickEntries(self._bad, self._key_calls)
        for _ in range(len(self._entries)):
            gathered.take(self._entries.popleft())
        events = {kind: self._newly(kind, counts) for kind, counts in self._events.items()}
        keyed = {
            kind: self._newly(f"keyed:{kind}", counts)
            for kind, counts in self._keyed_events.items()
        }
        self._set_slow()
        return gathered.counts(calls, plain, events, keyed)

    def _newly(self, name: str, counts: TwoCounts) -> ByArm:
        """What was added to both counts. Reading one adds 1 to it, which is taken off again."""
        champion = next(counts[False])
        candidate = next(counts[True])
        before = self._taken.get(name, (0, 0))
        self._taken[name] = (candidate + 1, champion + 1)
        return ByArm(candidate - before[0], champion - before[1])

    def _set_slow(self) -> None:
        """Say from when on a call of the next tick is slow, which goes by those before it."""
        arms = self._memory.arms
        if min(arms.candidate, arms.champion) < WARM_CALLS:
            return
        for guard in self._policy.guards:
            if guard.name == SLOW_EVENTS and guard.above is not None:
                self._memory.slow = ((int(guard.above * A_SECOND), SLOW_EVENTS, "", ""),)
                return
        champion, candidate = self._times
        if len(champion) >= LEAST_TIMES:
            times = sorted(champion)
            last = len(times) - 1
            limits = [times[last * quantile // 100] for quantile in QUANTILES]
            kinds = zip(limits, SLOW_KINDS, LONGER_KINDS, BLAMED_KINDS, strict=True)
            memory = self._memory
            memory.slow = tuple(kinds)
            memory.stretch.take(tuple(candidate), limits[0])
            memory.blamed = memory.stretch.blamed(limits[0], self._longer)
            memory.colder = limits[0] / memory.blamed - limits[0] if memory.blamed else 0.0
            champion.clear()
            candidate.clear()
