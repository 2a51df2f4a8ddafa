"""When a model is trained again, as a value, and the decision; pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal, NamedTuple, final

from modelkit.errors import RetrainError
from modelkit.rollout.policy import DAY, RolloutPolicy

HOUR = 3600.0
PERFORMANCE = "performance"
RunRefusal = Literal["", "busy", "quiet", "failures", "cooldown", "budget", "persist", "labels"]


@final
@dataclass(frozen=True)
class RetrainPolicy:
    """When a model is trained again, and what becomes of the candidate.

    Attributes:
        rollout: how a candidate that the gate promotes is tried; None to make it the champion at
            once, as for a model that only scores batches.
        persist: the seconds that an alarm must stand before it is a reason.
        agreeing: so many kinds of alarms at once are a reason at once, and "performance" always is.
        fresh: the least number of rows that were labelled since the change began: a model that is
            trained on older ones learns nothing of it.
        labels: so many rows that were labelled since the champion are a reason; None for never.
        schedule: the age of a champion, in seconds, that is a reason; None for never.
        cooldown: the least number of seconds between the starts of two runs.
        budget: the most runs that start within `window`.
        window: in seconds.
        failures: after so many runs in a row without a promotion, somebody must look: the next run
            has to be asked for.
        lease: the seconds after which a run is taken over from a process of which nothing is heard.

    Raises:
        RetrainError: for values that cannot be meant.
    """

    rollout: RolloutPolicy | None
    persist: float = HOUR
    agreeing: int = 2
    fresh: int = 1000
    labels: int | None = None
    schedule: float | None = None
    cooldown: float = DAY
    budget: int = 4
    window: float = 30 * DAY
    failures: int = 2
    lease: float = 600.0

    def __post_init__(self) -> None:
        if self.rollout is not None and not isinstance(self.rollout, RolloutPolicy):
            raise RetrainError(
                f"rollout is a mk.RolloutPolicy, or None to promote at once, not {self.rollout!r}"
            )
        for name in ("persist", "fresh", "cooldown"):
            self._check(name, least=0)
        for name in ("agreeing", "budget", "failures", "labels"):
            self._check(name, least=1)
        for name in ("schedule", "window", "lease"):
            self._check(name, least=0, more=True)

    def _check(
        self,
        name: str,
        *,
        least: int,
        more: bool = False,
    ) -> None:
        value = getattr(self, name)
        if value is None and name in ("labels", "schedule"):
            return
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not isfinite(value) or value < least or (more and value == least):
            bound = f"more than {least}" if more else f"at least {least}"
            raise RetrainError(f"{name} is {bound}, not {value!r}")


@final
@dataclass(frozen=True)
class StandingAlarm:
    """An alarm that stands.

    Attributes:
        kind: "changed", "material" or "performance".
        feature: what it is about.
        stratum: the part of the rows that it is about; None for all.
        since: when it was raised, in POSIX seconds; when it was first seen, if it does not say.
        began: when the change began, as far as is known.
    """

    kind: str
    feature: str
    stratum: str | None
    since: float
    began: float

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What tells it apart: alarms of several workers about one thing are one."""
        return self.kind, self.feature, self.stratum

    def __str__(self) -> str:
        where = "" if self.stratum is None else f" (stratum {self.stratum})"
        return f"{self.kind} of {self.feature}{where}"


@final
@dataclass(frozen=True)
class RetrainState:
    """What is known when it is decided whether to train again.

    Attributes:
        standing: the alarms that stand.
        labelled: the number of rows that were labelled since the change began.
        labelled_in_all: the number of those since the champion was trained.
        trained: when the champion was trained, in POSIX seconds.
        starts: when each run started.
        failed: how many runs in a row led to no promotion.
        busy: what is under way, or "".
        asked: why somebody asks for a run, or "".
    """

    standing: tuple[StandingAlarm, ...] = ()
    labelled: int = 0
    labelled_in_all: int = 0
    trained: float = 0.0
    starts: tuple[float, ...] = ()
    failed: int = 0
    busy: str = ""
    asked: str = ""


class Due(NamedTuple):
    """Whether to train now: `reason` says why, or `refusal` with `told` why not."""

    reason: str
    refusal: RunRefusal = ""
    told: str = ""


def due(
    policy: RetrainPolicy,
    state: RetrainState,
    now: float,
) -> Due:
    """Whether to train a model again now, in POSIX seconds, and why or why not.

    What somebody asks for waits for nothing but what is under way. Everything else waits for the
    person after failures in a row, for the cooldown, the budget, for alarms that persist, and for
    labels of what has changed.
    """
    if state.busy:
        return Due("", "busy", state.busy)
    if state.asked:
        return Due(f"asked for: {state.asked}")
    reason = _reason(policy, state, now)
    if not reason:
        return Due("", "quiet", "no alarm stands, and nothing else is due")
    held = _held_back(policy, state, now)
    if held.refusal:
        return held
    if reason in ("labels", "schedule"):
        return Due(reason)
    waiting = _waiting(policy, state, now)
    return waiting if waiting.refusal else Due(reason)


def _reason(
    policy: RetrainPolicy,
    state: RetrainState,
    now: float,
) -> str:
    """What speaks for a run, or ""."""
    if policy.schedule is not None and now - state.trained >= policy.schedule:
        return "schedule"
    if policy.labels is not None and state.labelled_in_all >= policy.labels:
        return "labels"
    return " + ".join(sorted({alarm.kind for alarm in state.standing}))


def _held_back(
    policy: RetrainPolicy,
    state: RetrainState,
    now: float,
) -> Due:
    """What speaks against any run."""
    if state.failed >= policy.failures:
        told = (
            f"{state.failed} runs in a row led to no promotion: see why (modelkit retrain WHERE "
            "history NAME), then ask for the next one: mk.retrain(..., asked='why')"
        )
        return Due("", "failures", told)
    rest = policy.cooldown - (now - max(state.starts, default=-inf))
    if rest > 0:
        return Due("", "cooldown", f"the last run started less than {span(policy.cooldown)} ago")
    recent = [start for start in state.starts if now - start < policy.window]
    if len(recent) >= policy.budget:
        told = f"the budget of {policy.budget} runs in {span(policy.window)} is spent"
        return Due("", "budget", told)
    return Due("")


def _waiting(
    policy: RetrainPolicy,
    state: RetrainState,
    now: float,
) -> Due:
    """What alarms have to wait for."""
    kinds = {alarm.kind for alarm in state.standing}
    stood = now - min(alarm.since for alarm in state.standing)
    at_once = PERFORMANCE in kinds or len(kinds) >= policy.agreeing
    if not at_once and stood < policy.persist:
        return Due("", "persist", f"waiting whether it stands for {span(policy.persist)}")
    if state.labelled < policy.fresh:
        told = f"{state.labelled:,} rows labelled since the change, {policy.fresh:,} needed"
        return Due("", "labels", told)
    return Due("")


def span(seconds: float) -> str:
    """A span of time in days, hours or seconds, whichever reads best."""
    if seconds >= DAY:
        return f"{seconds / DAY:g} days"
    return f"{seconds / HOUR:g} h" if seconds >= HOUR else f"{seconds:g} s"
