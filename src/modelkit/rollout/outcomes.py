"""Which arm last answered a key, for losses that come late: a bounded map that forgets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import final

from modelkit.model import Outputs

MOST = 100_000
MOST_BYTES = 1 << 28  # of the answers to keys in shadow
Pair = tuple[Outputs, Outputs]  # the answers of the champion, and of the candidate


@final
@dataclass(frozen=True)
class AnsweredIn:
    """Which arm answered a key, and in which stage."""

    candidate: bool
    stage: int


@final
class _Answer:
    """The last answer to a key, and whether an earlier one was of another stage."""

    __slots__ = ("at", "changed", "first", "what")

    def __init__(self) -> None:
        self.at = 0.0
        self.what: AnsweredIn | Pair | None = None
        self.first: int | None = None
        self.changed = False


@final
class Outcomes:
    """Remembers, for the last 100,000 keys, the arm that last answered, or the answers of both.

    Of answers it keeps at most 256 MiB.

    Args:
        seconds: after which an answer is forgotten.

    Attributes:
        left_out: the losses of keys that were answered in two stages. Of these, one cannot say
            which arm a loss is of; and those that stayed with their arm would be other keys in the
            one arm than in the other.
        unknown: the losses of keys that were never seen, or were forgotten.
    """

    def __init__(self, seconds: float) -> None:
        self.left_out = 0
        self.unknown = 0
        self._seconds = seconds
        self._answers: dict[int, _Answer] = {}
        self._bytes = 0
        self._clock: Callable[[], float] = monotonic
        self._lock = threading.Lock()

    def answered(self, unit: int, served: AnsweredIn) -> None:
        """An arm answered a key."""
        with self._lock:
            answer = self._keep(unit, served)
            if answer.first is None:
                answer.first = served.stage
            elif answer.first != served.stage:
                answer.changed = True

    def both_answered(self, unit: int, pair: Pair) -> None:
        """Both answered a key, in shadow."""
        with self._lock:
            self._keep(unit, pair)

    def _keep(self, unit: int, what: AnsweredIn | Pair) -> _Answer:
        answers = self._answers
        answer = answers.pop(unit, None) or _Answer()
        answers[unit] = answer
        answer.at = self._clock()
        self._set(answer, what)
        while len(answers) > MOST or (self._bytes > MOST_BYTES and len(answers) > 1):
            self._set(answers.pop(next(iter(answers))), None)
        return answer

    def _set(self, answer: _Answer, what: AnsweredIn | Pair | None) -> None:
        self._bytes += _size(what) - _size(answer.what)
        answer.what = what

    def knows(self, unit: int) -> bool:
        """Whether it remembers an answer to this key, whose loss may have come."""
        return unit in self._answers

    def take(self, unit: int) -> AnsweredIn | Pair | None:
        """What a loss of this key is of, once for each answer; None where it does not count.

        That is who answered, or the answers of both.
        """
        with self._lock:
            answer = self._answers.get(unit)
            late = answer is not None and self._clock() - answer.at > self._seconds
            if answer is None or answer.what is None or late:
                self.unknown += 1
                return None
            what = answer.what
            self._set(answer, None)
            if answer.changed:
                self.left_out += 1
                return None
            return what

    def forget(self) -> None:
        """Forget every answer: no more losses will come."""
        with self._lock:
            self._answers.clear()
            self._bytes = 0

    def after_fork(self) -> None:
        """Make the lock anew in the child of a fork."""
        self._lock = threading.Lock()


def _size(what: AnsweredIn | Pair | None) -> int:
    """The bytes of the answers of both."""
    if not isinstance(what, tuple):
        return 0
    return sum(array.nbytes for answers in what for array in answers.values())
