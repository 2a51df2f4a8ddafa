"""What becomes of a rollout now; pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Literal, final

from modelkit.lifecycle.rollout.policy import RolloutPolicy

Kind = Literal["continue", "advance", "rollback", "promote", "hold"]
FURTHER_KEYS = "there are more keys than are counted, so that further ones give none"
WORSENING = 2.3  # the logarithm of 10: nothing is promoted whose newest evidence is against it


@final
@dataclass(frozen=True)
class GuardEvidence:
    """The evidence of one guard, as logarithms: 0 is none.

    Attributes:
        name: the name of the guard.
        worse: that the candidate is worse than is allowed: the largest there was.
        better: that it is within what is allowed for a promotion; None where the guard does not
            decide it.
        now: that it is worse, now.
        pauses: whether `worse` only holds the rollout, as the guard of disagreement does.
        void: why nothing can be said, or "".
    """

    name: str
    worse: float
    better: float | None
    now: float = 0.0
    pauses: bool = False
    void: str = ""


@final
@dataclass(frozen=True)
class TrialState:
    """Where a rollout stands.

    Attributes:
        stage: the number of its stage, from 0.
        in_stage: the seconds since the stage began.
        in_all: the seconds since the rollout began.
        units: the calls that the candidate had in the stage.
        split: the logarithm of the evidence that units are not split as they should be.
        guards: the evidence of each guard.
        unanswered: the logarithm of the evidence that more calls of the candidate end without an
            answer or an error of its own: overloaded, out of time, cancelled, or closed.
        full: whether there are more keys than are counted.
    """

    stage: int
    in_stage: float
    in_all: float
    units: int
    split: float
    guards: tuple[GuardEvidence, ...]
    unanswered: float = 0.0
    full: bool = False


@final
@dataclass(frozen=True)
class Decision:
    """What becomes of a rollout, and why.

    Attributes:
        kind: "continue", "advance" to the next stage, "rollback", "promote" or "hold".
        reason: why.
        state: where the rollout stood.
    """

    kind: Kind
    reason: str
    state: TrialState


def decide(policy: RolloutPolicy, state: TrialState) -> Decision:
    """What becomes of a rollout. What is missing is never a success, and never a failure."""
    return Decision(*_decide(policy, state), state)


def _decide(policy: RolloutPolicy, state: TrialState) -> tuple[Kind, str]:
    broken = _broken(policy, state)
    if broken:
        return "hold", broken
    for guard in state.guards:
        if guard.worse >= policy.to_roll_back and not guard.pauses and not guard.void:
            return "rollback", f"{guard.name}: the candidate is shown to be worse"
    paused = _paused(policy, state)
    if paused:
        return "hold", paused
    missing = unmet(policy, state)
    if not missing:
        last = state.stage == len(policy.stages) - 1
        if not last:
            return "advance", "the stage had its time and calls, and no guard objects"
        missing = lacks(policy, state)
        if not missing:
            return "promote", "every guard has shown that the candidate is within what is allowed"
    if state.in_all >= policy.horizon:
        return "hold", f"the time is over, undecided: {'; '.join(missing)}"
    return "continue", "; ".join(missing)


def _broken(policy: RolloutPolicy, state: TrialState) -> str:
    """Why the evidence cannot be believed, or ""."""
    values = [state.split, state.in_stage, state.in_all, state.unanswered]
    for guard in state.guards:
        values += [guard.worse, guard.now, guard.better or 0.0]
    if any(map(isnan, values)):
        return "some evidence is not a number"
    if state.split >= policy.to_promote:
        return (
            "calls are not split between the arms as they should be, so that nothing can be "
            "compared"
        )
    return ""


def _paused(policy: RolloutPolicy, state: TrialState) -> str:
    if state.unanswered >= policy.to_promote:
        return (
            "more calls of the candidate than of the champion do not answer, as they are overloaded, "
            "out of time, cancelled or closed, so that nothing speaks for it"
        )
    for guard in state.guards:
        if guard.void:
            return f"{guard.name}: {guard.void}"
        if guard.pauses and guard.worse >= policy.to_promote:
            return f"{guard.name}: the candidate answers otherwise more often than is allowed"
    return ""


def unmet(policy: RolloutPolicy, state: TrialState) -> list[str]:
    """What a stage still needs before it ends."""
    stage = policy.stages[state.stage]
    found = []
    if state.in_stage < stage.seconds:
        found.append(f"{stage.seconds - state.in_stage:.0f} s of this stage are left")
    if state.units < stage.calls:
        found.append(f"{stage.calls - state.units:,} calls of the candidate are left")
    elif not state.units and state.stage < len(policy.stages) - 1:
        # Time that passes without traffic is no reason for a larger share.
        found.append("the candidate has had no call in this stage")
    return found


def lacks(policy: RolloutPolicy, state: TrialState) -> list[str]:
    """What a promotion still needs, guard by guard."""
    found = []
    for guard in state.guards:
        if guard.better is None:
            continue
        if guard.better < policy.to_promote:
            what = f"{guard.name}: too little evidence for a promotion"
            found.append(f"{what}, and {FURTHER_KEYS}" if state.full else what)
        elif guard.now >= WORSENING:
            found.append(f"{guard.name}: it became worse of late")
    return found
