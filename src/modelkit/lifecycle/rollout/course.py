"""A rollout under way in this process: its trial, its counters, and the lineup of each stage."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import final

from modelkit.errors import UsageError
from modelkit.lifecycle.rollout.answering import Arm
from modelkit.lifecycle.rollout.counting import Counters
from modelkit.lifecycle.rollout.counts import Counts, Label, Posted
from modelkit.lifecycle.rollout.guards import LATE_LOSSES
from modelkit.lifecycle.rollout.labels import PATIENT, LossEvidence
from modelkit.lifecycle.rollout.latency import Latency
from modelkit.lifecycle.rollout.lineup import Routed, Shadowed
from modelkit.lifecycle.rollout.outcomes import Outcomes
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.routing import hash_of
from modelkit.lifecycle.rollout.shadow import Shadow
from modelkit.lifecycle.rollout.trial import Trial
from modelkit.model.identity import identity_of
from modelkit.model.model import Model, Outputs

Loss = float | Callable[[Outputs], float]
MOST_WAITING_LOSSES = 100_000  # to be weighed; no more are taken then
# Losses that wait here until another process says that it has answered their keys: whoever may post
# could fill the log with keys of their own.
MOST_UNKNOWN = 50_000


@final
class Course:
    """What belongs to one candidate, from its first call to its last, in this process.

    Args:
        champion: the Model that answers now.
        candidate: the other.
        policy: how it goes.
        salt: of the hashes of keys; at most 64 bytes.
        seed: of the draws for calls without a key.
        rescue: whether the champion answers what the candidate fails at.
        began: the time, in seconds of the clock that the trial goes by.
        stage: the stage to begin with.
        joint: whether other processes take part in it, which may have answered a key.

    Attributes:
        room: how many losses may wait; fewer where what was counted before cannot be handed on.
        turned_away: the losses that came when so many waited.
        lost: the ticks of which nothing counts, for which there was no room.
        odd: what was reported of its files and clocks.
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
        began: float,
        stage: int = 0,
        joint: bool = False,
    ) -> None:
        self.policy = policy
        self.trial = Trial(policy, began)
        self.stage = stage  # that calls are in; the trial follows with what is counted
        self.identities = (identity_of(champion), identity_of(candidate))
        self.outcomes: Outcomes | None = None
        if any(guard.name == LATE_LOSSES for guard in policy.guards):
            self.outcomes = Outcomes(policy.horizon)
        self.shadow: Shadow | None = None
        marked = any(guard.mark is not None for guard in policy.guards)
        self._arms: tuple[Arm, ...] = (Arm(champion, marked=marked), Arm(candidate, marked=marked))
        self._salt = salt
        self._seed = seed
        self._random = random.Random(seed)  # noqa: S311 - it draws arms
        self._rescue = rescue
        self._joint = joint
        # Not of the draws of arms, which would depend on how long calls take.
        self._draws = random.Random(seed)  # noqa: S311
        self._latency = Latency(policy.guards, self._draws.random)
        self._counters = Counters(policy, self._latency)
        # Of no stage's counters: what is told while a stage ends counts in the next tick.
        self._told: deque[Label | Posted | float] = deque()
        self._unknown: dict[int, tuple[Posted, int]] = {}  # by key, and in which tick they came
        self._posted: set[int] = set()  # the keys of those that were handed on
        self._ticks = 0
        self._kept = Counts()  # of ticks that are left out
        self.room = MOST_WAITING_LOSSES
        self.turned_away = 0
        self.lost = 0
        self.odd: list[str] = []

    @property
    def models(self) -> tuple[Model, ...]:
        """The champion and the candidate; neither when it has ended."""
        return tuple(arm.model for arm in self._arms)

    def lineup(self) -> Routed | Shadowed:
        """The lineup of the stage that calls are in, with counters of its own."""
        stage = self.policy.stages[self.stage]
        champion, candidate = self._arms
        counters = Counters(self.policy, self._latency)
        self._counters = counters
        self._end_shadow()
        if stage.shadow:
            self.shadow = Shadow(
                candidate.asked,
                counters,
                guards=self.policy.guards,
                salt=self._salt,
                outcomes=self.outcomes,
            )
            return Shadowed(champion, candidate, counters, self.shadow)
        return Routed(
            champion,
            candidate,
            share=stage.share,
            salt=self._salt,
            random=self._random.random,
            counters=counters,
            outcomes=self.outcomes,
            stage=self.stage,
            rescue=self._rescue,
        )

    @property
    def waiting(self) -> int:
        """About how many events wait to be weighed."""
        return self._counters.waiting + len(self._told)

    def collect(self) -> Counts:
        """What was counted since the last time. For one thread at once."""
        self._post_known()
        told = [self._told.popleft() for _ in range(len(self._told))]
        kept = self._kept
        self._kept = Counts()
        return replace(
            kept + self._counters.collect(),
            labels=tuple(each for each in told if isinstance(each, Label)),
            posted=tuple(each for each in told if isinstance(each, Posted)),
            differences=tuple(each for each in told if isinstance(each, float)),
        )

    def leave_out(self) -> None:
        """Let what was counted since the last time count no more.

        That a tick is left out has to be clear before it begins, so that nothing that either arm
        does is a reason. Losses are kept, and so are the keys: a loss is of the stage in
        which its key was answered.
        """
        counts = self._counters.collect()
        self._kept += Counts(keys=counts.keys, missing=counts.missing)
        self.lost += 1

    def enter(self, stage: int) -> Routed | Shadowed:
        """The lineup of another stage."""
        self.stage = stage
        return self.lineup()

    def outcome(self, key: str, loss: Loss) -> bool:
        """Count a loss; see `Rollout.outcome`."""
        if self.outcomes is None:
            raise UsageError(
                "no guard watches losses: give the rollout mk.Guard('loss', margin=...)"
            )
        if not callable(loss):
            loss = check_loss(loss)
        if len(self._told) >= self.room:
            self.turned_away += 1
            return False
        unit = hash_of(key, self._salt)
        if self._joint and not self.outcomes.knows(unit):
            return self._post(unit, loss, self.outcomes)
        found = self.outcomes.take(unit, by_function=callable(loss))
        if found is None:
            return False
        losses = _losses(loss, found.answers)
        if found.served is None:
            one, other = losses
            self._told.append(other - one)
        else:
            of = found.served
            self._told.append(Label(losses[0], unit, of.candidate, of.stage))
        return True

    def _post(self, unit: int, loss: Loss, outcomes: Outcomes) -> bool:
        """Hand on the loss of a key that another process may have answered."""
        if callable(loss):
            outcomes.unheard += 1
            return False
        if self.policy.stages[self.stage].shadow:
            outcomes.one_sided += 1
            return False
        if unit in self._posted or unit in self._unknown:
            return False  # told again
        if not self._is_known(unit) and len(self._unknown) >= MOST_UNKNOWN:
            self.turned_away += 1
            return False
        self._unknown[unit] = (Posted(loss, unit), self._ticks)
        return True

    def _is_known(self, unit: int) -> bool:
        """Whether a process that takes part has said that it answered this key."""
        evidence = self.trial.evidence
        return any(isinstance(each, LossEvidence) and each.keys.knows(unit) for each in evidence)

    def _post_known(self) -> None:
        """Hand on the losses whose keys are known by now, and forget those that have waited too long."""
        self._ticks += 1
        for unit, (posted, came) in self._unknown.copy().items():
            if self._is_known(unit):
                self._hand_on(unit, posted)
            elif self._ticks - came > PATIENT:
                del self._unknown[unit]
                if self.outcomes is not None:
                    self.outcomes.unknown += 1

    def _hand_on(self, unit: int, posted: Posted) -> None:
        self._posted.add(unit)
        self._told.append(posted)
        del self._unknown[unit]

    def post_unknown(self) -> None:
        """Hand on all losses, as this process ends: others may know their keys."""
        for unit, (posted, _) in self._unknown.copy().items():
            self._hand_on(unit, posted)

    def end(self) -> None:
        """Stop what runs beside the calls, and let go of the Models and of what they answered.

        What was counted is left, for who asks how it ended.
        """
        self._end_shadow()
        self._arms = ()
        if self.outcomes is not None:
            self.outcomes.forget()

    def _end_shadow(self) -> None:
        if self.shadow is not None:
            self.shadow.stop()

    def after_fork(self) -> None:
        """Begin anew in the child of a fork, with other draws, and nothing counted yet."""
        self._unknown.clear()
        self.collect()
        self._random.seed(None if self._seed is None else self._seed + random.getrandbits(64))
        self._draws.seed(random.getrandbits(64))
        if self.shadow is not None:
            self.shadow.after_fork()
        if self.outcomes is not None:
            self.outcomes.after_fork()


def _losses(loss: Loss, answers: Sequence[Outputs]) -> list[float]:
    """The loss of each of the answers; a number is that of the only one."""
    if callable(loss):
        return [check_loss(loss(outputs)) for outputs in answers]
    return [loss]


def check_loss(loss: float) -> float:
    """A loss as a float. Raises UsageError for one beyond 0 to 1, and TypeError for what is no number."""
    try:
        within = bool(0 <= loss <= 1)
    except (TypeError, ValueError):
        raise TypeError(f"a loss is a number from 0 to 1, not {loss!r:.80}") from None
    if not within:
        raise UsageError(f"a loss is from 0 to 1, not {loss!r}: divide by the largest, or clip it")
    return float(loss)
