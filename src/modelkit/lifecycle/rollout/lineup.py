"""Which Models answer between one change and the next, and which of them answers a call.

A lineup is the value of one Activation. `answer` and `aanswer` differ in `await` alone: a call in an
event loop holds the activation across its waits.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from time import perf_counter_ns
from typing import Generic, TypeVar, final

from modelkit.errors import SignatureError
from modelkit.lifecycle.rollout.answering import Arm, copied
from modelkit.lifecycle.rollout.counting import CountedCall, Counters
from modelkit.lifecycle.rollout.guards import LATE_LOSSES
from modelkit.lifecycle.rollout.latency import Latency
from modelkit.lifecycle.rollout.outcomes import AnsweredIn, Outcomes
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.routing import hash_of, limit_of
from modelkit.lifecycle.rollout.shadow import Shadow
from modelkit.model.model import Call, Model, Outputs
from modelkit.signature.signature import Feeds

Begun = TypeVar("Begun")  # what a lineup knows of a call that has begun
Rows = Feeds | SignatureError | None  # copies for the candidate; see `Shadow.copy`


class Lineup:
    """The champion answers everything; the base of the lineups of a rollout."""

    __slots__ = ("champion",)

    def __init__(self, champion: Arm) -> None:
        self.champion = champion

    def pick(self, key: str | None) -> Arm:
        """The arm that answers a key."""
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


class TwoArms(Lineup, Generic[Begun]):
    """Two arms are compared by the calls that they answer; `_begin` says which one answers."""

    __slots__ = ()

    def answer(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """Answer a call; where the candidate fails, the champion may."""
        arm, begun = self._begin(X, call.key)
        began = perf_counter_ns()
        try:
            answers = arm.call(X, outputs, call)
        except BaseException as error:
            if not self._failed(begun, error):
                raise
        else:
            self._answered(begun, answers, perf_counter_ns() - began, call.key)
            return arm.sign(answers)
        arm = self.champion
        return arm.sign(arm.call(X, outputs, call))

    async def aanswer(self, X: object, outputs: tuple[str, ...], call: Call) -> Outputs:
        """As `answer`."""
        arm, begun = self._begin(X, call.key)
        began = perf_counter_ns()
        try:
            answers = await arm.acall(X, outputs, call)
        except BaseException as error:
            if not self._failed(begun, error):
                raise
        else:
            self._answered(begun, answers, perf_counter_ns() - began, call.key)
            return arm.sign(answers)
        arm = self.champion
        return arm.sign(await arm.acall(X, outputs, call))

    @abstractmethod
    def _begin(self, X: object, key: str | None) -> tuple[Arm, Begun]:
        """Pick the arm of a call, and count the call."""

    @abstractmethod
    def _failed(self, begun: Begun, error: BaseException) -> bool:
        """Count an error; returns whether the champion shall answer."""

    @abstractmethod
    def _answered(self, begun: Begun, answers: Outputs, took: int, key: str | None) -> None:
        """Count an answer, which took so many nanoseconds."""


@final
class SplitLineup(TwoArms[CountedCall]):
    """A share of the keys, by their hashes, and of the calls without one, by draws, goes to the candidate."""

    __slots__ = (
        "_limit",
        "_outcomes",
        "_random",
        "_rescue",
        "_salt",
        "_served",
        "_share",
        "candidate",
        "counters",
    )

    def __init__(self, lineups: Lineups, stage: int, counters: Counters) -> None:
        self.champion, self.candidate = lineups.arms
        self.counters = counters
        self._share = lineups.policy.stages[stage].share
        self._limit = limit_of(self._share)
        self._salt = lineups.salt
        self._random = lineups.random.random
        self._outcomes = lineups.outcomes
        self._served = (AnsweredIn(False, stage), AnsweredIn(True, stage))
        self._rescue = lineups.rescue

    def pick(self, key: str | None) -> Arm:
        """The arm that answers a key; the champion for None."""
        if key is None:
            return self.champion
        return self.candidate if hash_of(key, self._salt) < self._limit else self.champion

    def _begin(self, X: object, key: str | None) -> tuple[Arm, CountedCall]:
        unit = None if key is None else hash_of(key, self._salt)
        chosen = self._random() < self._share if unit is None else unit < self._limit
        return self.candidate if chosen else self.champion, self.counters.begin(unit, chosen)

    def _failed(self, begun: CountedCall, error: BaseException) -> bool:
        _, candidate, _ = begun
        kind = self.counters.failed(begun, error)  # which counts it, whoever answered
        return candidate and self._rescue and kind is not None

    def _answered(self, begun: CountedCall, answers: Outputs, took: int, key: str | None) -> None:
        self.counters.answered(begun, answers, took)
        if self._outcomes is not None and key is not None:
            unit, candidate, _ = begun
            self._outcomes.answered(unit, self._served[candidate], answers)


@final
class ShadowLineup(TwoArms[Rows]):
    """The champion answers everything, and the candidate runs on copies of the rows."""

    __slots__ = ("_shadow", "counters")

    def __init__(self, champion: Arm, counters: Counters, shadow: Shadow) -> None:
        self.champion = champion
        self.counters = counters
        self._shadow = shadow

    def _begin(self, X: object, key: str | None) -> tuple[Arm, Rows]:
        return self.champion, self._shadow.copy(X)

    def _failed(self, begun: Rows, error: BaseException) -> bool:
        if begun is not None:
            self.counters.failed_in_shadow(error)
        return False

    def _answered(self, begun: Rows, answers: Outputs, took: int, key: str | None) -> None:
        self._shadow.note(key)
        if begun is not None:
            self.counters.answered_in_shadow(took)
            self._shadow.offer(begun, copied(answers), key)


@final
class Lineups:
    """Makes the lineups of a rollout, one after another, each with counters of its own.

    Args:
        champion: the Model that answers now.
        candidate: the other.
        policy: how the rollout goes.
        salt: of the hashes of keys; at most 64 bytes.
        seed: of the draws for calls without a key.
        rescue: whether the champion answers what the candidate fails at.

    Attributes:
        arms: the champion and the candidate; empty when the rollout has ended.
        outcomes: remember which arm answered a key; None where no losses will come.
        counters: of the lineup that was made last.
        shadow: runs the candidate on copies of rows, or did.
    """

    def __init__(
        self,
        champion: Model,
        candidate: Model,
        policy: RolloutPolicy,
        *,
        salt: bytes,
        seed: int | None,
        rescue: bool,
    ) -> None:
        marked = any(guard.mark is not None for guard in policy.guards)
        self.arms: tuple[Arm, ...] = (Arm(champion, marked=marked), Arm(candidate, marked=marked))
        self.policy = policy
        self.outcomes = Outcomes(policy.horizon) if policy.watches(LATE_LOSSES) else None
        self.salt = salt
        self.random = random.Random(seed)  # noqa: S311 - it draws arms
        self.rescue = rescue
        self._seed = seed
        # Apart from the draws of arms, which would else depend on how long calls take.
        self._draws = random.Random(seed)  # noqa: S311
        self._latency = Latency(policy.guards, self._draws.random)
        self.counters = Counters(policy, self._latency)
        self.shadow: Shadow | None = None

    def begin(self, stage: int) -> Lineup:
        """Begin a stage, from 0: end the shadow of the last one; returns the lineup that answers now."""
        self._end_shadow()
        self.counters = Counters(self.policy, self._latency)
        if not self.policy.stages[stage].shadow:
            return SplitLineup(self, stage, self.counters)
        champion, candidate = self.arms
        self.shadow = Shadow(
            candidate.asked, self.counters, self.policy.guards, self.salt, self.outcomes
        )
        return ShadowLineup(champion, self.counters, self.shadow)

    def end(self) -> None:
        """Stop what runs beside the calls, and let go of the Models."""
        self._end_shadow()
        self.arms = ()

    def _end_shadow(self) -> None:
        if self.shadow is not None:
            self.shadow.stop()

    def after_fork(self) -> None:
        """Go on in the child of a fork, with other draws."""
        self.random.seed(None if self._seed is None else self._seed + random.getrandbits(64))
        self._draws.seed(random.getrandbits(64))
        if self.shadow is not None:
            self.shadow.after_fork()
