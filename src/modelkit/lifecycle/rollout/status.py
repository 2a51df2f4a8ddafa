"""Where a rollout stands: in this process, or by what its processes wrote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import exp
from typing import Any

from modelkit.lifecycle.registry.log import CHAMPION, Entry, State, Underway
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.rollout.counts import ByArm
from modelkit.lifecycle.rollout.decide import GuardEvidence, lacks, unmet
from modelkit.lifecycle.rollout.guards import DISAGREEMENTS, LATE_LOSSES
from modelkit.lifecycle.rollout.labels import KeysAnswered
from modelkit.lifecycle.rollout.ledger import RegistryLedger, start_in_the_future
from modelkit.lifecycle.rollout.outcomes import Outcomes
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.lifecycle.rollout.progress import GuardProgress, RolloutProgress
from modelkit.lifecycle.rollout.session import Session
from modelkit.lifecycle.rollout.switch import Switch
from modelkit.lifecycle.rollout.trial import OVER, Trial
from modelkit.model.identity import Identity, identity_of

ONE_SIDED = (
    "in shadow both answered, and a number is the loss of one answer; pass a function of the "
    "outputs"
)
UNHEARD = (
    "a function needs the outputs, which this process does not have: post to the process that answered "
    "the key, soon after it did, or pass a number"
)
UNCOUNTED = (
    "no call is counted yet: calls are added up every {:g} s, with the first call after that"
)
MOST_SHOWN_LOG = 700.0  # the logarithm of the largest evidence that is shown as a number


def _guard_progress(policy: RolloutPolicy, guard: GuardEvidence) -> GuardProgress:
    """The evidence of a guard, beside what decides."""
    return GuardProgress(
        name=guard.name,
        worse=_shown(guard.worse),
        rolls_back_at=_shown(policy.to_promote if guard.pauses else policy.to_roll_back),
        better=None if guard.better is None else _shown(guard.better),
        promotes_at=_shown(policy.to_promote),
        void=guard.void,
    )


def _missing(trial: Trial) -> list[str]:
    """What a rollout lacks for its next decision."""
    state = trial.state()
    found = unmet(trial.policy, state)
    if trial.stage == len(trial.policy.stages) - 1:
        found += lacks(trial.policy, state)
        found += _keys_missing(trial)
    return found


def _keys_missing(trial: Trial) -> list[str]:
    """How many keys count for a promotion, where calls have keys and guards go by calls."""
    names = {guard.name for guard in trial.policy.guards}
    if trial.whole_keys >= trial.keys or names <= {DISAGREEMENTS, LATE_LOSSES}:
        return []
    calls = trial.policy.key_calls
    had = f"{trial.whole_keys:,} of {trial.keys:,} keys have"
    return [f"a key counts for a promotion once it has had {calls:,} calls: {had}"]


def _shown(logarithm: float) -> float:
    return exp(min(logarithm, MOST_SHOWN_LOG))


def progress_of(
    trial: Trial,
    identities: tuple[Identity, Identity],
    *,
    stage: int,
    under_way: bool,
    notes: Iterable[str],
) -> RolloutProgress:
    """Where the rollout of a trial stands.

    Args:
        trial: the trial, with what was counted.
        identities: of the champion and the candidate.
        stage: that calls are in, from 0.
        under_way: whether it goes on.
        notes: what else should be known.
    """
    state = trial.state()
    champion, candidate = identities
    if under_way and trial.all_calls == ByArm():
        notes = [*notes, UNCOUNTED.format(trial.policy.tick)]
    return RolloutProgress(
        champion=champion,
        candidate=candidate,
        decision=trial.decision.kind,
        reason=trial.decision.reason,
        stage=stage + 1,
        stages=len(trial.policy.stages),
        share=trial.policy.stages[stage].share if under_way else 0.0,
        seconds=state.in_all,
        calls=(trial.all_calls.candidate, trial.all_calls.champion),
        guards=tuple(_guard_progress(trial.policy, guard) for guard in state.guards),
        missing=tuple(_missing(trial)) if under_way and not trial.over else (),
        notes=tuple(notes),
        points=tuple(trial.points),
        under_way=under_way,
    )


def progress_here(switch: Switch) -> RolloutProgress:
    """Where the rollout in this process stands, or how the last one ended."""
    with switch.lock:
        session = switch.session or switch.past
        notes = _notes(switch, session)
        if session is None:
            return RolloutProgress(identity_of(switch.champion), notes=notes)
        return progress_of(
            session.trial,
            session.identities,
            stage=session.stage,
            under_way=session is switch.session,
            notes=notes,
        )


def progress_afar(registry: Registry, name: str) -> RolloutProgress:
    """Where the rollout of a model stands, or how the last one ended, by what its processes wrote.

    Raises NotFound for a model without a champion.
    """
    state = State()
    rollout: Underway | None = None
    end: Entry | None = None
    for entry in registry.history(name):
        before, state = state.rollout, state.after(entry)
        if state.rollout is not None:
            rollout, end = state.rollout, None
        elif before is not None:
            end = entry
    now = _identity(registry, name, CHAMPION)
    if rollout is None:
        return RolloutProgress(now)
    trial, notes = _replayed(registry, name, rollout)
    if end is not None:
        notes.insert(0, ended_note(now))
    versions = (rollout.champion, rollout.candidate)
    champion, candidate = (_identity(registry, name, version) for version in versions)
    progress = progress_of(
        trial, (champion, candidate), stage=rollout.stage, under_way=end is None, notes=notes
    )
    if end is None:
        return progress
    kind = end.about.get("decision")
    if kind in OVER:
        return replace(progress, decision=kind, reason=end.reason)
    return replace(progress, decision="none", reason="the champion was set by hand")


def _replayed(registry: Registry, name: str, rollout: Underway) -> tuple[Trial, list[str]]:
    """The trial as its processes have it, from all sums of what they counted; and what is odd."""
    policy = RolloutPolicy.from_json(rollout.policy, f"the policy of {rollout.candidate}")
    notes = start_in_the_future(rollout)
    trial = Trial(policy, 0.0)
    for found in RegistryLedger(registry, name, rollout, policy).read():
        trial.tick(found.counts, found.at, found.stage)
        notes += found.left_out
    return trial, notes + losses_left_out(trial)


def _identity(registry: Registry, name: str, which: str) -> Identity:
    release = registry.version(name, which)
    return Identity(name, release.version, release.digest)


def _notes(switch: Switch, session: Session[Any] | None) -> tuple[str, ...]:
    """What else should be known."""
    found = []
    if switch.failures:
        found.append(f"{switch.failures:,} failures beside the calls, last {switch.last_failure}")
    if session is None:
        return tuple(found)
    if session is not switch.session and not switch.closed:
        found.append(ended_note(identity_of(switch.champion)))
    found += session.ledger.odd
    if session.trial.full:
        found.append("there are more keys than are counted; the further ones count no more")
    if session.lost:
        found.append(
            f"nothing counts of {session.lost:,} ticks: what was counted before could not be written"
        )
    losses, shadow = session.losses, session.lineups.shadow
    if losses is not None and losses.turned_away:
        found.append(
            f"{losses.turned_away:,} losses were not taken, as too many waited to be weighed: post "
            "them again"
        )
    if shadow is not None and shadow.dropped:
        found.append(f"{shadow.dropped:,} calls were not shadowed: the queue was full")
    if shadow is not None and shadow.failures:
        found.append(f"{shadow.failures:,} copies could not be compared")
    if losses is not None:
        found += losses_left_out(session.trial, losses.outcomes)
    return tuple(found)


def ended_note(champion: Identity) -> str:
    """What is said of a rollout that is over."""
    return f"it has ended, and {champion.title} answers everything"


def losses_left_out(trial: Trial, outcomes: Outcomes | None = None) -> list[str]:
    """How many losses of this process, and of the trial, do not count, and why."""
    kept: list[Outcomes | KeysAnswered] = [] if trial.losses is None else [trial.losses.keys]
    kept += [] if outcomes is None else [outcomes]
    reasons = {
        "their keys were answered in two stages": sum(each.left_out for each in kept),
        "no answer to their keys is known": sum(each.unknown for each in kept),
        ONE_SIDED: sum(each.one_sided for each in kept),
        UNHEARD: 0 if outcomes is None else outcomes.unheard,
    }
    return [f"{count:,} losses left out: {why}" for why, count in reasons.items() if count]
