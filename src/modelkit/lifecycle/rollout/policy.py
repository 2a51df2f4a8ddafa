"""How a rollout goes: its stages, its guards, and how often it may be wrong. A value."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite, log
from typing import final

from modelkit._internal import fields
from modelkit._internal.json import parse_json
from modelkit.errors import PackageError, UsageError
from modelkit.lifecycle.rollout.guards import (
    DISAGREEMENTS,
    KINDS,
    UNANSWERED,
    USUAL_GUARDS,
    Guard,
    check_numbers,
)

DAY = 86_400.0
KEY_CALLS = 20
LONGEST_TICK = 1e9  # seconds, of which no clock counts many more
LEAST_SHARE = 1e-9  # of an arm that is there: with less, rounding would decide instead of draws


@final
@dataclass(frozen=True)
class RolloutStage:
    """A part of a rollout.

        shadow, tenth = mk.RolloutStage(0, seconds=3600), mk.RolloutStage(0.1)
        mk.RolloutPolicy((shadow, tenth))

    Attributes:
        share: the share of keys, or of calls without one, that the candidate answers. 0 is shadow:
            the candidate runs on rows that the champion answered, and its answers are not used. 1
            is all of them: then there is nothing to compare with, and floors decide. In between,
            each arm has at least a billionth.
        seconds: the least time that it takes; if the traffic is seasonal, at least a full season,
            such as a day, before a promotion.
        calls: the least number of calls that the candidate answers in it. Every stage except the
            last needs one of the two, after which it ends; the last one ends by evidence.

    Raises:
        UsageError: for a number out of range.
    """

    share: float
    seconds: float = 0.0
    calls: int = 0

    def __post_init__(self) -> None:
        check_numbers("a stage", self, ("share", "seconds", "calls"))
        if not 0 <= self.share <= 1:
            raise UsageError(f"the share of a stage is from 0 to 1, not {self.share!r}")
        if self.drawn and not LEAST_SHARE <= self.share <= 1 - LEAST_SHARE:
            raise UsageError(
                f"a share of {self.share!r} leaves less than {LEAST_SHARE:g} of the calls to one of "
                "the arms, from which nothing can be concluded; take 0 for shadow, 1 for all calls, or one "
                f"from {LEAST_SHARE:g} to 1 - {LEAST_SHARE:g}"
            )
        if not (isfinite(self.seconds) and self.seconds >= 0 and self.calls >= 0):
            raise UsageError(
                "a stage takes 0 or more seconds and calls; got "
                f"seconds={self.seconds!r}, calls={self.calls!r}"
            )
        if self.shadow and not (self.seconds or self.calls):
            raise UsageError("a shadow stage needs seconds= or calls=, after which it ends")

    @property
    def shadow(self) -> bool:
        """Whether the candidate runs without its answers being used."""
        return self.share == 0

    @property
    def drawn(self) -> bool:
        """Whether both arms answer, so they can be compared."""
        return 0 < self.share < 1

    def __str__(self) -> str:
        what = "shadow" if self.shadow else f"{self.share:.3g} of the calls"
        least = [f"{self.seconds:g} s"] if self.seconds else []
        least += [f"{self.calls:,} calls of the candidate"] if self.calls else []
        return f"{what}, at least {' and '.join(least)}" if least else what


@final
@dataclass(frozen=True)
class RolloutPolicy:
    """How a rollout goes, and how often it may be wrong.

        mk.RolloutPolicy((mk.RolloutStage(0.05, seconds=86_400), mk.RolloutStage(0.5)))

    Attributes:
        stages: its parts, one after another; shadow comes first, and shares do not fall.
        guards: what is watched.
        alpha: the largest probability that a candidate within what all guards allow is ever rolled
            back, and that a candidate beyond it is promoted. Each holds for the whole rollout.
        horizon: the seconds after which the rollout holds, undecided, and says so.
        tick: the seconds after which events are weighed; at 10 to 300.
        key_calls: for a promotion, each key counts the share of bad calls among its first
            `key_calls`, once it has made so many.

    Raises:
        UsageError: for a number out of range.
    """

    stages: tuple[RolloutStage, ...]
    guards: tuple[Guard, ...] = USUAL_GUARDS
    alpha: float = 0.01
    horizon: float = 7 * DAY
    tick: float = 10.0
    key_calls: int = KEY_CALLS

    __repr__ = fields.brief

    def __post_init__(self) -> None:
        fields.freeze(self, stages=RolloutStage, guards=Guard)
        check_numbers("a rollout", self, ("alpha", "horizon", "tick", "key_calls"))
        _check_stages(self.stages)
        _check_guards(self)
        if not 0 < self.alpha < 1:
            raise UsageError(f"alpha is between 0 and 1, not {self.alpha!r}")
        for name in ("horizon", "tick", "key_calls"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is more than 0, not {getattr(self, name)!r}")
        if self.tick > LONGEST_TICK:
            raise UsageError(f"tick is in seconds, {LONGEST_TICK:,.0f} at most, not {self.tick!r}")

    @property
    def shadow(self) -> bool:
        """Whether it begins with a shadow stage."""
        return self.stages[0].shadow

    @property
    def whole(self) -> bool:
        """Whether all calls go to the candidate at last."""
        return self.stages[-1].share == 1

    def watches(self, name: str) -> bool:
        """Whether there is a guard of this name."""
        return any(guard.name == name for guard in self.guards)

    @property
    def kinds(self) -> list[str]:
        """The kinds of events that are counted, by name."""
        return [*(kind for guard in self.guards for kind in guard.streams), UNANSWERED]

    @property
    def to_roll_back(self) -> float:
        """The logarithm of the evidence at which one guard rolls back: alpha is split over all."""
        deciding = sum(guard.name != DISAGREEMENTS for guard in self.guards)
        return log(max(deciding, 1) / self.alpha)

    @property
    def to_promote(self) -> float:
        """The logarithm of the evidence that every guard needs for a promotion."""
        return -log(self.alpha)

    def to_json(self) -> str:
        """The policy as one JSON object. Raises UsageError for marks of your own."""
        for guard in self.guards:
            if guard.mark is not None:
                raise UsageError(
                    f"guard {guard.name!r} has a function, which no registry can keep; use the known "
                    f"guards there: {', '.join(KINDS)}"
                )
        plain = fields.write_object(self)
        for guard in plain["guards"]:
            del guard["mark"]
        return json.dumps(plain, sort_keys=True)

    @staticmethod
    def from_json(text: str, where: str = "the policy") -> RolloutPolicy:
        """The inverse of `to_json`. Raises PackageError for anything else."""
        try:
            return fields.read_object(RolloutPolicy, parse_json(text), where)
        except (RecursionError, ValueError) as error:
            raise PackageError(f"{where} cannot be read: {error}") from None


def _check_stages(stages: tuple[RolloutStage, ...]) -> None:
    if not stages:
        raise UsageError("a rollout has at least one stage")
    shares = [stage.share for stage in stages]
    if shares != sorted(shares):
        raise UsageError(f"shadow comes first, and shares do not fall; got {shares}")
    if shares.count(0) > 1:
        raise UsageError("a rollout has at most one shadow stage")
    for number, stage in enumerate(stages[:-1], 1):
        if not (stage.seconds or stage.calls):
            raise UsageError(
                f"stage {number} of {len(stages)} ({stage}) has neither seconds nor calls, so that "
                "one call of the candidate would end it; say what it takes, such as "
                f"mk.RolloutStage({stage.share:g}, seconds=3600, calls=500)"
            )


def _check_guards(policy: RolloutPolicy) -> None:
    names = [guard.name for guard in policy.guards]
    if len(set(names)) < len(names):
        raise UsageError(f"guards have different names; got {names}")
    if DISAGREEMENTS in names and not policy.shadow:
        raise UsageError(
            "disagreement is seen in shadow, where both answer: begin with a stage of share 0"
        )
    if not set(names) - {DISAGREEMENTS} and len(policy.stages) > 1:
        raise UsageError("disagreement never promotes alone: add a guard, such as errors")
    if not names:
        raise UsageError("a rollout without guards cannot decide; see mk.Guard")
