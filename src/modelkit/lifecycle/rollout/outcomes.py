"""What was last answered to a key, and by whom, for losses that come late: bounded maps that forget."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, final

from modelkit.model.model import Outputs
from modelkit.signature.signature import Feeds

MOST = 100_000
SHADOW_STAGE = 0  # which comes first
MOST_BYTES = 1 << 28  # of the answers that are kept, for losses that are functions of them


@final
@dataclass(frozen=True)
class AnsweredIn:
    """Which arm answered a key, and in which stage."""

    candidate: bool
    stage: int


class AnsweredUnit(NamedTuple):
    """What a loss is of.

    Attributes:
        served: who answered, and when; None in shadow, where both did.
        answers: what was answered; in shadow, by the champion and by the candidate. It is empty
            where the answers are not kept any more.
    """

    served: AnsweredIn | None
    answers: tuple[Outputs, ...]


@final
@dataclass(slots=True)
class _Key:
    """Who last answered a key, and whether an earlier answer was of another stage."""

    at: float = 0.0
    served: AnsweredIn | None = None
    open: bool = False  # whether its last answer waits for a loss
    first: int | None = None  # the stage of its first answer
    changed: bool = False


@final
class Outcomes:
    """Remembers, for the last 100,000 keys, the arm that last answered, and the last answers.

    It keeps at most 256 MiB of answers, for the last keys.

    Args:
        seconds: after which an answer is forgotten.

    Attributes:
        left_out: the losses of keys that were answered in two stages. Of these, one cannot say
            which arm a loss is of; and those that stayed with their arm would be other keys in the
            one arm than in the other.
        unknown: the losses of keys that were never seen, or were forgotten; and the functions for
            calls that were not shadowed.
        one_sided: the numbers for keys that both answered, in shadow. They are of one answer alone.
        unheard: the functions of outputs that are not here: another process answered, or it is so
            long ago that they are not kept any more.
    """

    def __init__(self, seconds: float) -> None:
        self.left_out = 0
        self.unknown = 0
        self.one_sided = 0
        self.unheard = 0
        self._seconds = seconds
        self._keys: dict[int, _Key] = {}
        self._answers: dict[int, tuple[Outputs, ...]] = {}
        self._bytes = 0
        self._clock: Callable[[], float] = monotonic
        self._lock = threading.RLock()

    def answered(self, unit: int, served: AnsweredIn, answers: Outputs) -> None:
        """An arm answered a key; its answers are copied, as the caller may change them."""
        copies = {name: array.copy() for name, array in answers.items()}
        with self._lock:
            self._keep(unit, served, (copies,))

    def answered_in_shadow(self, unit: int) -> None:
        """The champion answered a key in shadow; what the candidate says may come, or never will."""
        with self._lock:
            if unit not in self._keys:
                self._keep(unit, None, ())

    def both_answered(self, unit: int, champion: Outputs, candidate: Outputs) -> None:
        """Both answered a key, in shadow."""
        with self._lock:
            self._keep(unit, None, (dict(champion), dict(candidate)))

    def _keep(self, unit: int, served: AnsweredIn | None, answers: tuple[Outputs, ...]) -> None:
        keys = self._keys
        key = keys.pop(unit, None) or _Key()
        keys[unit] = key
        key.at = self._clock()
        key.served = served
        key.open = True
        stage = SHADOW_STAGE if served is None else served.stage
        if key.first is None:
            key.first = stage
        elif key.first != stage:
            key.changed = True
        self._forget(unit)
        if answers:
            self._answers[unit] = answers
        size = size_of(*answers)
        self._bytes += size  # in one step, in which no handler of a signal answers another key
        while self._bytes > MOST_BYTES and len(self._answers) > 1:
            self._forget(next(iter(self._answers)))
        if len(keys) > MOST:
            oldest = next(iter(keys))
            del keys[oldest]
            self._forget(oldest)

    def _forget(self, unit: int) -> tuple[Outputs, ...]:
        """Keep the answers to a key no longer."""
        answers = self._answers.pop(unit, ())
        size = size_of(*answers)
        self._bytes -= size
        return answers

    def knows(self, unit: int) -> bool:
        """Whether it remembers an answer to this key, whose loss may have come."""
        return unit in self._keys

    def take(self, unit: int, *, by_function: bool) -> AnsweredUnit | None:
        """What a loss of this key is of, once for each answer; None where it does not count.

        Args:
            unit: the hash of the key.
            by_function: whether the loss is a function of the answers. A number, in shadow, does
                not count, and leaves the answers to a function that may come; as does a function
                without answers, to a number.
        """
        with self._lock:
            key = self._keys.get(unit)
            if key is None or self._clock() - key.at > self._seconds:
                self.unknown += 1
                return None
            if not key.open:
                return None  # it came before
            if key.served is None and not by_function:
                self.one_sided += 1
                return None
            if by_function and not self._answers.get(unit):
                if key.served is None:  # in shadow, there may have been no copy
                    self.unknown += 1
                else:
                    self.unheard += 1
                return None
            key.open = False
            answers = self._forget(unit)
            if key.changed:
                self.left_out += 1
                return None
            return AnsweredUnit(key.served, answers)

    def forget(self) -> None:
        """Forget every answer: no more losses will come."""
        with self._lock:
            self._keys.clear()
            self._answers.clear()
            self._bytes = 0

    def after_fork(self) -> None:
        """Make the lock again in the child of a fork."""
        self._lock = threading.RLock()


def size_of(*answers: Feeds) -> int:
    """The bytes of arrays by name."""
    return sum(array.nbytes for outputs in answers for array in outputs.values())
