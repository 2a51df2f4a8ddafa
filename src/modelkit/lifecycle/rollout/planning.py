"""How many requests a rollout will need until it decides, known before it starts; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf, log
from typing import final

import numpy as np

from modelkit.errors import UsageError
from modelkit.lifecycle.rollout.arms import units_needed
from modelkit.lifecycle.rollout.guards import DISAGREEMENTS, LATE_LOSSES, SLOW_EVENTS, Guard
from modelkit.lifecycle.rollout.policy import RolloutPolicy
from modelkit.report import html
from modelkit.stats.betting import BELOW, Bets

RATE = 0.01  # of events in the champion, where the caller knows no better
RISKS = (1.5, 2.0, 5.0)
MEDIAN = 0.5


@final
@dataclass(frozen=True)
class Need:
    """How many requests one guard needs at one share.

    Attributes:
        guard: the name of the guard.
        share: of the candidate.
        rate: of events in the champion, for each call.
        risk: how many times the champion's rate the candidate has; 1 for an equal one.
        decision: "rollback", or "promote".
        requests: about how many requests both arms need; infinite where no number does.
    """

    guard: str
    share: float
    rate: float
    risk: float
    decision: str
    requests: float

    @property
    def candidate(self) -> float:
        """How many of these requests the candidate answers."""
        return self.share * self.requests

    def __str__(self) -> str:
        what = f"{self.risk:g} times the rate of {self.rate:g}"
        if self.risk == 1:
            what = f"an equal candidate, at a rate of {self.rate:g},"
        decided = "promoted" if self.decision == "promote" else "rolled back"
        about = f"{self.guard} at share {self.share:g}: {what}"
        if self.rate * self.risk > 1:
            return f"{about} is more than every call"
        if isinf(self.requests):
            return f"{about} is never {decided}"
        return (
            f"{about} is {decided} after about {self.requests:,.0f} requests, "
            f"{self.candidate:,.0f} of them the candidate's"
        )


@final
@dataclass(frozen=True)
class RolloutPlan:
    """How many requests each guard needs, at each share, to find which regression.

    Attributes:
        needs: one for each guard, share and regression.
        notes: the guards that no plan can be made for.
    """

    needs: tuple[Need, ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(map(str, (*self.needs, *self.notes)))

    def _repr_html_(self) -> str:
        rows = [
            (
                need.guard,
                f"{need.share:g}",
                f"{need.rate:g}",
                f"{need.risk:g}",
                need.decision,
                "never" if isinf(need.requests) else f"{need.requests:,.0f}",
                "" if isinf(need.requests) else f"{need.candidate:,.0f}",
            )
            for need in self.needs
        ]
        header = ("guard", "share", "rate", "risk", "decision", "requests", "the candidate's")
        return html.card("Rollout plan", [("note", note) for note in self.notes], header, rows)


def plan_of(
    policy: RolloutPolicy, rates: Mapping[str, float], risks: Sequence[float]
) -> RolloutPlan:
    """The plan of a policy; see `Rollout.plan`. Raises UsageError."""
    names = {guard.name for guard in policy.guards}
    for name, rate in rates.items():
        if name not in names or not 0 < rate < 1:
            raise UsageError(
                f"rates are of guards of this rollout ({', '.join(sorted(names))}), between 0 and "
                f"1; got {name!r}: {rate!r}"
            )
    shares = dict.fromkeys(stage.share for stage in policy.stages if stage.drawn)
    needs: list[Need] = []
    notes = []
    for guard in policy.guards:
        if guard.name in (DISAGREEMENTS, LATE_LOSSES):
            notes.append(f"{guard.name}: depends on how much single answers differ")
            continue
        rate = rates.get(guard.name, MEDIAN if guard.name == SLOW_EVENTS else RATE)
        for share in shares:
            needs += _needs(policy, guard, share, rate, risks)
    return RolloutPlan(tuple(needs), tuple(notes))


def _needs(
    policy: RolloutPolicy, guard: Guard, share: float, rate: float, risks: Sequence[float]
) -> list[Need]:
    alpha = np.exp(-policy.to_roll_back)
    found = []
    for risk in risks:
        requests = inf
        if risk > guard.worse and rate * risk <= 1 and rate * risk > guard.least:
            requests = units_needed(rate, share, risk, guard.worse, float(alpha))
        found.append(Need(guard.name, share, rate, risk, "rollback", requests))
    equal = units_needed(rate, share, 1.0, guard.better, policy.alpha)
    if rate < guard.least:
        equal = min(equal, _below(policy, guard, rate) / share)
    found.append(Need(guard.name, share, rate, 1.0, "promote", equal))
    return found


def _below(policy: RolloutPolicy, guard: Guard, rate: float) -> float:
    """About how many calls of the candidate show a rate to be below the floor."""
    bets = Bets.on_multiples(guard.least, BELOW)
    with np.errstate(invalid="ignore"):
        gains = rate * bets.log_counts(1, 0) + (1 - rate) * bets.log_counts(0, 1)
    gain = float(np.nan_to_num(gains, nan=-inf).max())
    if gain <= 0:
        return inf
    return (policy.to_promote + log(2 * len(BELOW))) / gain
