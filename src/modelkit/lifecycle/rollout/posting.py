"""Losses that a job tells a registry, and which the processes of its rollout add up."""

from __future__ import annotations

from collections.abc import Sequence

from modelkit.errors import Conflict, UsageError
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.rollout.counts import Counts, Posted
from modelkit.lifecycle.rollout.course import check_loss
from modelkit.lifecycle.rollout.guards import LATE_LOSSES
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.routing import hash_of, place_of
from modelkit.lifecycle.rollout.shared import SharedCounts

WRITER = "labels"  # whose counts these are; no process has this name
MOST_AT_ONCE = 10_000  # in one file


def post_outcomes(registry: Registry, name: str, outcomes: Sequence[tuple[str, float]]) -> None:
    """Post the losses of answers to every process of the rollout of a model.

    Args:
        registry: the registry.
        name: the name of the model.
        outcomes: keys, with losses from 0, right, to 1. Posting one again changes nothing.

    Raises:
        Conflict: if no rollout is under way.
        UsageError: if it is in shadow, or no guard watches losses; or for a loss beyond 0 to 1.
        NotFound: if there is no such model, or no registry.
        RegistryError: if it was removed after it was read.
    """
    registry.log(name).check()  # or a folder that was removed would be made anew
    rollout = registry.state(name).rollout
    if rollout is None:
        registry.versions(name)  # raises NotFound
        raise Conflict(f"no rollout of {name} is under way, so no loss counts")
    policy = RolloutPolicy.from_json(rollout.policy, f"the policy of {rollout.candidate}")
    if all(guard.name != LATE_LOSSES for guard in policy.guards):
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
    posted = [Posted(check_loss(loss), hash_of(key, salt)) for key, loss in outcomes]
    posted.sort(key=lambda each: place_of(each.key))  # whatever the job has sorted them by
    shared = SharedCounts(registry.rollout_folder(name, rollout), WRITER)
    for start in range(0, len(posted), MOST_AT_ONCE):
        some = tuple(posted[start : start + MOST_AT_ONCE])
        shared.write_beside(rollout.stage, Counts(posted=some))
