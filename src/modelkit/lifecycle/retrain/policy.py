"""When a model is trained again, as a value, and the decision; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Literal, NamedTuple, final

from modelkit.errors import UsageError
from modelkit.lifecycle.rollout.policy import DAY, RolloutPolicy

HOUR = 3600.0
PERFORMANCE = "performance"
ASKED_FOR = "asked for: "  # a reason of somebody begins with this
WINDOW = 30 * DAY  # seconds in which a budget counts
LEAST = dict.fromkeys(("persist", "fresh", "cooldown", "schedule", "lease"), 0)
LEAST |= dict.fromkeys(("budget", "failures", "labels"), 1)
AGREEING = 2  # kinds of alarms that are a reason at once, however young


@final
@dataclass(frozen=True)
class RetrainPolicy:
    """When a model is trained again, and what becomes of the candidate.

        mk.RetrainPolicy(rollout=None, fresh=3000, schedule=30 * 86_400)

    Attributes:
        rollout: how to try a candidate that the gate promotes; None to make it the champion at
            once, as for a model that only scores batches.
        persist: how many seconds an alarm must stand before it is a reason.
        fresh: the least number of rows that were labelled since the newest change began, and since
            the last retraining for it: from older rows a model cannot learn the change.
        labels: the number of rows labelled since the champion that is a reason; None for never.
        schedule: the age of a champion, in seconds, that is a reason; None for never.
        cooldown: the least number of seconds between the starts of two retrainings.
        budget: the most retrainings that start within 30 days.
        failures: after so many retrainings in a row for one reason without a promotion, the next
            one for it has to be asked for, so that somebody looks. Each alarm is a reason of its
            own.
        lease: the seconds of silence after which another process takes a retraining over.

    Raises:
        UsageError: for a number out of range.
        TypeError: for another `rollout` than a RolloutPolicy or None.
    """

    rollout: RolloutPolicy | None
    persist: float = HOUR
    fresh: int = 1000
    labels: int | None = None
    schedule: float | None = None
    cooldown: float = DAY
    budget: int = 4
    failures: int = 2
    lease: float = 600.0

    def __post_init__(self) -> None:
        if self.rollout is not None and not isinstance(self.rollout, RolloutPolicy):
            raise TypeError(
                f"rollout is a mk.RolloutPolicy, or None to promote at once, not {self.rollout!r}"
            )
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is None and name in ("labels", "schedule"):
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            more = name in ("schedule", "lease")
            if not is_number or not isfinite(value) or value < least or (more and value == least):
                bound = f"more than {least}" if more else f"at least {least}"
                raise UsageError(f"{name} is a number, {bound}; not {value!r}")

    def due(self, state: RetrainState, now: float) -> Due:
        """Whether to train a model again now, in POSIX seconds, and why or why not.

            policy = mk.RetrainPolicy(rollout=None, schedule=30 * 86_400)
            policy.due(mk.types.RetrainState(trained=0.0), now=40 * 86_400.0).reason  # "schedule"

        If somebody asks for a retraining, it waits only for one that is under way. Everything else
        waits: after failures in a row for a person, and for the cooldown, the budget, alarms that
        persist, and labels of what has changed.
        """
        if state.busy:
            return Due("", "busy", state.busy)
        if state.asked:
            return Due(f"{ASKED_FOR}{state.asked}")
        timed = _by_time(self, state, now)
        alarms = due_alarms(self, state.standing)
        reason = " + ".join(sorted({alarm.kind for alarm in alarms}))
        if timed and state.failed < self.failures:
            reason = timed
        if not reason and (timed or state.standing):
            failed = max([state.failed, *(alarm.tried for alarm in state.standing)])
            message = (
                f"{failed} retrainings in a row led to no promotion: see why (modelkit retrain WHERE history "
                "NAME), then ask for the next one: mk.retrain(..., asked='why')"
            )
            return Due("", "failures", message)
        if not reason:
            message = "no alarm stands, and nothing else is due"
            return Due("", "quiet", f"{message}; {state.closed}" if state.closed else message)
        held = _held_back(self, state, now)
        if not held.refusal and reason != timed:
            held = _waiting(self, state, alarms, now)
        return held if held.refusal else Due(reason)


@final
@dataclass(frozen=True)
class StandingAlarm:
    """An alarm that stands.

    Attributes:
        kind: "changed", "material" or "performance".
        feature: what it is about.
        stratum: the part of the rows that it is about; None for all.
        since: when it was raised, in POSIX seconds; when it was first seen, if it does not say.
        began: when the change began, as far as is known; the last one of several.
        tried: how many retrainings in a row were made for it, without a promotion.
    """

    kind: str
    feature: str
    stratum: str | None
    since: float
    began: float
    tried: int = 0

    @property
    def key(self) -> tuple[str, str, str | None]:
        """By which alarms are one: several workers may raise it about one thing."""
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
        labelled: the number of rows that were labelled since the change that is due began.
        labelled_in_all: the number of those since the champion was trained.
        trained: when the champion was trained, in POSIX seconds.
        starts: when each retraining started.
        failed: how many retrainings in a row, for labels or by the schedule, led to no promotion.
        busy: what is under way, or "".
        asked: why somebody asks for a retraining, or "".
        closed: which alarms are older than the champion, or "".
    """

    standing: tuple[StandingAlarm, ...] = ()
    labelled: int = 0
    labelled_in_all: int = 0
    trained: float = 0.0
    starts: tuple[float, ...] = ()
    failed: int = 0
    busy: str = ""
    asked: str = ""
    closed: str = ""


class Due(NamedTuple):
    """Whether to train now: `reason` says why, or `refusal` with `message` why not."""

    reason: str
    refusal: Literal["", "busy", "quiet", "failures", "cooldown", "budget", "persist", "labels"] = (
        ""
    )
    message: str = ""


def is_asked_for(reason: str) -> bool:
    """Whether somebody asked for the retraining that has this reason."""
    return reason.startswith(ASKED_FOR)


def due_alarms(
    policy: RetrainPolicy, standing: Sequence[StandingAlarm]
) -> tuple[StandingAlarm, ...]:
    """The alarms that are a reason: those for which the fewest retrainings were made, and not too many.

    So an old alarm that no training answers hides no new one. And no new one hides a performance
    that fell, for which there may be further retrainings.
    """
    least = min([alarm.tried for alarm in standing], default=0)
    return tuple(
        alarm
        for alarm in standing
        if alarm.tried < policy.failures and (alarm.tried == least or alarm.kind == PERFORMANCE)
    )


def waited_for(alarms: Sequence[StandingAlarm]) -> tuple[StandingAlarm, ...]:
    """The alarms, among those that are a reason, whose rows have to be labelled.

    They are those about the performance, where there are some: else columns that change one after
    the other would put off a retraining for it, each by `fresh` rows.
    """
    return tuple(alarm for alarm in alarms if alarm.kind == PERFORMANCE) or tuple(alarms)


def _by_time(policy: RetrainPolicy, state: RetrainState, now: float) -> str:
    """What else than an alarm speaks for a retraining, or ""."""
    if policy.schedule is not None and now - state.trained >= policy.schedule:
        return "schedule"
    if policy.labels is not None and state.labelled_in_all >= policy.labels:
        return "labels"
    return ""


def _held_back(policy: RetrainPolicy, state: RetrainState, now: float) -> Due:
    """What speaks against any retraining."""
    if now - max(state.starts, default=-inf) < policy.cooldown:
        past = f"the last retraining started less than {span(policy.cooldown)} ago"
        return Due("", "cooldown", f"{past}; pass asked='why' if you cannot wait")
    recent = [start for start in state.starts if now - start < WINDOW]
    if len(recent) >= policy.budget:
        message = f"the budget of {policy.budget} retrainings in {span(WINDOW)} is spent"
        return Due("", "budget", message)
    return Due("")


def _waiting(
    policy: RetrainPolicy, state: RetrainState, alarms: Sequence[StandingAlarm], now: float
) -> Due:
    """What alarms have to wait for."""
    kinds = {alarm.kind for alarm in alarms}
    stood = now - min(alarm.since for alarm in alarms)
    at_once = PERFORMANCE in kinds or len(kinds) >= AGREEING
    if not at_once and stood < policy.persist:
        return Due("", "persist", f"the alarm has not stood for {span(policy.persist)} yet")
    if state.labelled < policy.fresh:
        message = f"{state.labelled:,} rows labelled since the change, {policy.fresh:,} needed"
        return Due("", "labels", message)
    return Due("")


def span(seconds: float) -> str:
    """A span of time in days, hours or seconds, whichever reads best."""
    if seconds >= DAY:
        return f"{seconds / DAY:g} days"
    return f"{seconds / HOUR:g} h" if seconds >= HOUR else f"{seconds:g} s"
