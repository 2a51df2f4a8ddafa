"""Losses that come for answers: to the process that answered, to another one, or from a job."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import final

from modelkit.errors import Conflict, UsageError
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.rollout.counting import taken
from modelkit.lifecycle.rollout.counts import Counts, Label, PostedLoss
from modelkit.lifecycle.rollout.guards import LATE_LOSSES
from modelkit.lifecycle.rollout.labels import PATIENT, KeysAnswered
from modelkit.lifecycle.rollout.ledger import RegistryLedger
from modelkit.lifecycle.rollout.outcomes import Outcomes
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.routing import hash_of, place_of
from modelkit.model.model import Outputs

Loss = float | Callable[[Outputs], float]
MOST_WAITING_LOSSES = 100_000  # to be weighed; no more are taken then
# Losses that wait here until another process says that it has answered their keys: anyone who may
# post could fill the log with keys of their own.
MOST_UNKNOWN = 50_000
WRITER = "labels"  # whose counts the losses of jobs are; no process has this name
MOST_AT_ONCE = 10_000  # in one file


@final
class Losses:
    """The losses that came to this process, and were not weighed yet.

    Args:
        outcomes: what was answered here.
        salt: of the hashes of keys.
        answered: which keys were answered by any process; None where this is the only one.

    Attributes:
        room: how many may wait; fewer where what was counted before cannot be handed on.
        turned_away: those that came when so many waited.
    """

    def __init__(self, outcomes: Outcomes, salt: bytes, answered: KeysAnswered | None) -> None:
        self.room = MOST_WAITING_LOSSES
        self.turned_away = 0
        self.outcomes = outcomes
        self._salt = salt
        self._answered = answered
        self._labels: deque[Label] = deque()
        self._posted: deque[PostedLoss] = deque()
        self._differences: deque[float] = deque()
        self._unknown: dict[int, tuple[PostedLoss, int]] = {}  # by key, and in which tick they came
        self._handed_on: set[int] = set()  # the keys of those that were posted
        self._ticks = 0

    @property
    def waiting(self) -> int:
        """How many wait to be weighed."""
        return len(self._labels) + len(self._posted) + len(self._differences)

    def take(self, key: str, loss: Loss, *, shadow: bool) -> bool:
        """Take the loss of a key, in a shadow stage or not; returns whether it counts, or may."""
        if not callable(loss):
            loss = check_loss(loss)
        if self.waiting >= self.room:
            self.turned_away += 1
            return False
        unit = hash_of(key, self._salt)
        if self._answered is not None and not self.outcomes.knows(unit):
            return self._keep(unit, loss, self._answered, shadow=shadow)
        found = self.outcomes.take(unit, by_function=callable(loss))
        if found is None:
            return False
        losses = [check_loss(loss(each)) if callable(loss) else loss for each in found.answers]
        if found.served is None:
            one, other = losses
            self._differences.append(other - one)
        else:
            of = found.served
            self._labels.append(Label(losses[0], unit, of.candidate, of.stage))
        return True

    def _keep(self, unit: int, loss: Loss, answered: KeysAnswered, *, shadow: bool) -> bool:
        """Keep the loss of a key that another process may have answered."""
        if callable(loss):
            self.outcomes.unheard += 1
            return False
        if shadow:
            self.outcomes.one_sided += 1
            return False
        if unit in self._handed_on or unit in self._unknown:
            return False  # it came before
        if not answered.knows(unit) and len(self._unknown) >= MOST_UNKNOWN:
            self.turned_away += 1
            return False
        self._unknown[unit] = (PostedLoss(loss, unit), self._ticks)
        return True

    def collect(self) -> Counts:
        """What came since the last time; of other keys, the losses of those that are known by now."""
        self._ticks += 1
        for unit, (_, came) in self._unknown.copy().items():
            if self._answered is not None and self._answered.knows(unit):
                self._hand_on(unit)
            elif self._ticks - came > PATIENT:
                del self._unknown[unit]
                self.outcomes.unknown += 1
        return Counts(
            labels=(*taken(self._labels),),
            posted=(*taken(self._posted),),
            differences=(*taken(self._differences),),
        )

    def _hand_on(self, unit: int) -> None:
        self._handed_on.add(unit)
        self._posted.append(self._unknown.pop(unit)[0])

    def hand_on_all(self) -> None:
        """Hand on all losses, as this process ends: others may know their keys."""
        for unit in [*self._unknown]:
            self._hand_on(unit)

    def after_fork(self) -> None:
        """In the child of a fork, forget losses that wait for another process, and make new locks."""
        self._unknown.clear()
        self.outcomes.after_fork()


def check_loss(loss: float) -> float:
    """A loss as a float. Raises UsageError for one beyond 0 to 1, and TypeError for what is not a number."""
    try:
        within = bool(0 <= loss <= 1)
    except (TypeError, ValueError):
        raise TypeError(f"a loss is a number from 0 to 1, not {loss!r:.80}") from None
    if not within:
        raise UsageError(f"a loss is from 0 to 1, not {loss!r}: divide by the largest, or clip it")
    return float(loss)


def post_outcomes(registry: Registry, name: str, outcomes: Sequence[tuple[str, float]]) -> None:
    """Post the losses of answers to every process of the rollout of a model.

    Args:
        registry: the registry.
        name: the name of the model.
        outcomes: keys, with losses from 0, right, to 1. Posting one again changes nothing.

    Raises:
        Conflict: if no rollout is under way.
        UsageError: if it is in shadow, or no guard watches losses; or for a loss beyond 0 to 1.
        NotFound: if the model or the registry does not exist.
        RegistryError: if it was removed after it was read.
    """
    registry.log(name).check()  # or a folder that was removed would be made again
    rollout = registry.state(name).rollout
    if rollout is None:
        registry.versions(name)  # raises NotFound
        raise Conflict(f"no rollout of {name} is under way, so no loss counts")
    policy = RolloutPolicy.from_json(rollout.policy, f"the policy of {rollout.candidate}")
    if not policy.watches(LATE_LOSSES):
        raise UsageError(
            f"no guard of the rollout of {name} {rollout.candidate} watches losses: start one with "
            "mk.Guard('loss', margin=...), or --guard loss:margin=0.01"
        )
    if policy.stages[rollout.stage].shadow:
        raise UsageError(
            f"the rollout of {name} {rollout.candidate} is in shadow, where both answer: only the "
            "process that has the two answers can say the loss of each"
        )
    salt = rollout.salt
    posted = [PostedLoss(check_loss(loss), hash_of(key, salt)) for key, loss in outcomes]
    posted.sort(key=lambda each: place_of(each.key))  # whatever the job has sorted them by
    ledger = RegistryLedger(registry, name, rollout, policy, WRITER)
    for start in range(0, len(posted), MOST_AT_ONCE):
        ledger.post_beside(Counts(posted=tuple(posted[start : start + MOST_AT_ONCE])))
