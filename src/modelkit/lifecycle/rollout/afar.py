"""Where a rollout of a registry stands, for whoever only looks at the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from modelkit.lifecycle.registry.log import DECIDED, ROLLOUT, Entry, State, Underway
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.progress import (
    RolloutProgress,
    ended_note,
    guards_of,
    losses_left_out,
    missing_of,
)
from modelkit.lifecycle.rollout.shared import SharedCounts, start_in_the_future
from modelkit.lifecycle.rollout.trial import Trial
from modelkit.model.identity import Identity

UNWRITTEN = "no process has written what it counted: each does with its first call after {:g} s"


def progress_afar(registry: Registry, name: str) -> RolloutProgress:
    """Where the rollout of a model stands, or how the last one ended, by what its processes wrote.

    Raises NotFound where the model has no champion.
    """
    entries = registry.history(name)
    at = [place for place, entry in enumerate(entries) if entry.kind == ROLLOUT]
    if not at:
        return RolloutProgress(_identity(registry, name, "champion"))
    began = entries[at[-1]]
    rollout = State().after(began).rollout
    assert rollout is not None  # for the type checker: such an entry begins one
    decided = [entry for entry in entries[at[-1] + 1 :] if entry.kind == DECIDED]
    under_way = registry.state(name).rollout
    now = _identity(registry, name, "champion")
    stage = max([0, *(int(entry.about.get("stage", 0)) for entry in decided)])
    policy = RolloutPolicy.from_json(rollout.policy, f"the policy of {rollout.candidate}")
    trial, odd = _replayed(policy, registry, name, rollout)
    standing = trial.standing()
    progress = RolloutProgress(
        champion=_identity(registry, name, rollout.champion),
        candidate=_identity(registry, name, rollout.candidate),
        decision=trial.decision.kind,
        reason=trial.decision.reason,
        stage=stage + 1,
        stages=len(policy.stages),
        share=policy.stages[stage].share if under_way is not None else 0.0,
        seconds=standing.in_all,
        calls=(trial.all_calls.candidate, trial.all_calls.champion),
        guards=guards_of(policy, standing),
        missing=missing_of(trial) if under_way is not None else (),
        notes=(*odd, *losses_left_out(trial)),
        points=tuple(trial.points),
        under_way=under_way is not None,
    )
    if under_way is None:
        return _ended(progress, decided, entries[-1], now)
    if progress.calls == (0, 0):
        return replace(progress, notes=(UNWRITTEN.format(policy.tick), *progress.notes))
    return progress


def _replayed(
    policy: RolloutPolicy, registry: Registry, name: str, rollout: Underway
) -> tuple[Trial, list[str]]:
    """The trial as its processes have it, from all sums of what they counted; and what is odd."""
    odd = start_in_the_future(rollout, datetime.now(UTC))
    trial = Trial(policy, 0.0)
    shared = SharedCounts(registry.shelf(name, rollout), "", len(policy.stages))
    while (found := shared.next_sum()) is not None:
        trial.tick(found.counts, found.at, found.stage)
        odd += found.left_out
    return trial, odd


def _ended(
    progress: RolloutProgress, decided: Sequence[Entry], last: Entry, now: Identity
) -> RolloutProgress:
    """With the decision that ended it; without one where somebody moved the champion."""
    final = decided[-1] if decided else last
    kind = final.about.get("decision")
    progress = replace(progress, notes=(ended_note(now), *progress.notes))
    if kind not in ("rollback", "promote"):
        return replace(progress, decision="none", reason="the champion was set by hand")
    return replace(progress, decision=kind, reason=final.reason)


def _identity(registry: Registry, name: str, which: str) -> Identity:
    release = registry.version(name, which)
    return Identity(name, release.version, release.digest)
