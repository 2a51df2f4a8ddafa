"""Which Models answer between one change and the next, and which of them answers a call.

A lineup is the value of one Activation. Each has `answer` and `aanswer`, which differ in `await`
alone: that of an event loop holds the activation across its waits.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import final

from modelkit.errors import SignatureError
from modelkit.lifecycle.rollout.answering import Arm, SignedAnswers, copied
from modelkit.lifecycle.rollout.counting import Counters
from modelkit.lifecycle.rollout.guards import ERROR_EVENTS, REFUSED_EVENTS
from modelkit.lifecycle.rollout.outcomes import AnsweredIn, Outcomes
from modelkit.lifecycle.rollout.routing import hash_of, limit_of
from modelkit.lifecycle.rollout.shadow import Shadow
from modelkit.model.model import Call, Outputs
from modelkit.signature.signature import Feeds

# The arm of a call, its key, whether that is the candidate, its number, and when it began.
Drawn = tuple[Arm, int | None, bool, int, int]
RESCUED = (ERROR_EVENTS, REFUSED_EVENTS)


@final
class Alone:
    """The champion answers everything."""

    __slots__ = ("champion",)

    def __init__(self, champion: Arm) -> None:
        self.champion = champion

    def pick(self, key: str | None) -> Arm:
        """The Model that answers a key."""
        del key
        return self.champion

    def answer(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """Answer a call."""
        arm = self.champion
        return arm.sign(arm.call(X, outputs, call))

    async def aanswer(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """As `answer`."""
        arm = self.champion
        return arm.sign(await arm.acall(X, outputs, call))


@final
class Routed:
    """A share of the keys, and of the calls without one, goes to the candidate.

    Args:
        champion: the one arm.
        candidate: the other.
        share: of the candidate.
        salt: of the hashes of keys.
        random: draws from 0 to 1 for calls without a key.
        counters: count what becomes of the calls.
        outcomes: remember which arm answered a key; None where no losses will come.
        stage: the number of the stage, from 0.
        rescue: whether the champion answers what the candidate fails at.
    """

    __slots__ = (
        "_limit",
        "_outcomes",
        "_random",
        "_rescue",
        "_salt",
        "_served",
        "_share",
        "candidate",
        "champion",
        "counters",
    )

    def __init__(
        self,
        champion: Arm,
        candidate: Arm,
        *,
        share: float,
        salt: bytes,
        random: Callable[[], float],
        counters: Counters,
        outcomes: Outcomes | None,
        stage: int,
        rescue: bool,
    ) -> None:
        self.champion = champion
        self.candidate = candidate
        self.counters = counters
        self._share = share
        self._limit = limit_of(share)
        self._salt = salt
        self._random = random
        self._outcomes = outcomes
        self._served = (
            AnsweredIn(candidate=False, stage=stage),
            AnsweredIn(candidate=True, stage=stage),
        )
        self._rescue = rescue

    def pick(self, key: str | None) -> Arm:
        """The Model that answers a key; the champion for none."""
        if key is None:
            return self.champion
        return self.candidate if hash_of(key, self._salt) < self._limit else self.champion

    def answer(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """Answer a call."""
        drawn = self._draw(call.key)
        try:
            answers = drawn[0].call(X, outputs, call)
        except BaseException as error:
            if not self._failed(drawn, error):
                raise
        else:
            return self._answered(drawn, answers)
        champion = self.champion
        return champion.sign(champion.call(X, outputs, call))

    async def aanswer(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """As `answer`."""
        drawn = self._draw(call.key)
        try:
            answers = await drawn[0].acall(X, outputs, call)
        except BaseException as error:
            if not self._failed(drawn, error):
                raise
        else:
            return self._answered(drawn, answers)
        champion = self.champion
        return champion.sign(await champion.acall(X, outputs, call))

    def _draw(self, key: str | None) -> Drawn:
        """Draw the arm of a call, and count it."""
        unit = None if key is None else hash_of(key, self._salt)
        chosen = self._random() < self._share if unit is None else unit < self._limit
        number = self.counters.begin(unit, chosen)
        return self.candidate if chosen else self.champion, unit, chosen, number, perf_counter_ns()

    def _answered(self, drawn: Drawn, answers: Outputs) -> SignedAnswers:
        arm, unit, chosen, number, began = drawn
        self.counters.answered(unit, chosen, number, answers, perf_counter_ns() - began)
        if self._outcomes is not None and unit is not None:
            self._outcomes.answered(unit, self._served[chosen], answers)
        return arm.sign(answers)

    def _failed(self, drawn: Drawn, error: BaseException) -> bool:
        """Count an error; returns whether the champion shall answer."""
        _, unit, chosen, number, _ = drawn
        if not isinstance(error, Exception):
            self.counters.gave_up(unit, chosen, number)
            return False
        kind = self.counters.failed(unit, chosen, number, error)
        return chosen and self._rescue and kind in RESCUED


@final
class Shadowed:
    """The champion answers everything, and the candidate runs on copies of the rows.

    Args:
        champion: the arm that answers.
        candidate: the other.
        counters: count what was bad.
        shadow: runs the candidate.
    """

    __slots__ = ("_shadow", "candidate", "champion", "counters")

    def __init__(self, champion: Arm, candidate: Arm, counters: Counters, shadow: Shadow) -> None:
        self.champion = champion
        self.candidate = candidate
        self.counters = counters
        self._shadow = shadow

    def pick(self, key: str | None) -> Arm:
        """The Model that answers a key."""
        del key
        return self.champion

    def answer(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """Answer a call."""
        arm = self.champion
        rows = self._shadow.copy(X)
        began = perf_counter_ns()
        try:
            answers = arm.call(X, outputs, call)
        except Exception as error:
            if rows is not None:
                self.counters.failed_in_shadow(error)
            raise
        self._shadow.note(call.key)
        if rows is not None:
            self._offer(rows, outputs, answers, call, perf_counter_ns() - began)
        return arm.sign(answers)

    async def aanswer(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """As `answer`."""
        arm = self.champion
        rows = self._shadow.copy(X)
        began = perf_counter_ns()
        try:
            answers = await arm.acall(X, outputs, call)
        except Exception as error:
            if rows is not None:
                self.counters.failed_in_shadow(error)
            raise
        self._shadow.note(call.key)
        if rows is not None:
            self._offer(rows, outputs, answers, call, perf_counter_ns() - began)
        return arm.sign(answers)

    def _offer(
        self,
        rows: Feeds | SignatureError,
        outputs: tuple[str, ...],
        answers: Outputs,
        call: Call,
        took: int,
    ) -> None:
        self.counters.answered_in_shadow(took)
        self._shadow.offer(rows, outputs, copied(answers), call.key)


Lineup = Alone | Routed | Shadowed
