"""What is known of a model and of its retrainings when it is decided whether to train again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from modelkit.drift.values import Alarm
from modelkit.errors import NotFound, UsageError
from modelkit.lifecycle.registry.log import CHAMPION, Alias, Underway
from modelkit.lifecycle.registry.releases import ModelVersion
from modelkit.lifecycle.retrain.log import OpenRun, Retrainings
from modelkit.lifecycle.retrain.policy import (
    RetrainPolicy,
    RetrainState,
    StandingAlarm,
    due_alarms,
    is_asked_for,
    waited_for,
)
from modelkit.lifecycle.retrain.records import RunRecords
from modelkit.lifecycle.retrain.run import RetrainRun, moment, posix_of
from modelkit.lifecycle.retrain.standing import standing_of

CountLabelled = Callable[[float], int]
BY_TIME = ("labels", "schedule")
NO_PROMOTION = ("blocked", "inconclusive", "failed", "rolled back")


class Past(NamedTuple):
    """What is known of a model and of its retrainings.

    Attributes:
        now: when this was so, in POSIX seconds.
        champion: what the alias "champion" names.
        release: that version.
        trial: the rollout that is under way, or None.
        retrainings: what is recorded of them.
        runs: the last retrainings, the first one first.
    """

    now: float
    champion: Alias
    release: ModelVersion
    trial: Underway | None
    retrainings: Retrainings
    runs: tuple[RetrainRun, ...]

    @property
    def made_by(self) -> RetrainRun | None:
        """The retraining that made the champion, if it is one of the last ones."""
        made = [run for run in self.runs if run.version == self.champion.version]
        return made[-1] if made else None

    @property
    def interrupted(self) -> OpenRun | None:
        """The retraining whose holder is gone, or None."""
        gone = self.runs and self.runs[-1].state == "interrupted"
        return self.retrainings.open if gone else None


def past_of(records: RunRecords, now: float) -> Past:
    """What is known now, in POSIX seconds; a retraining whose rollout has ended is ended with it.

    Raises NotFound where the model has no champion.
    """
    registry = records.registry
    state = registry.state(records.name)
    champion = state.aliases.get(CHAMPION)
    if champion is None:
        registry.versions(records.name)  # raises NotFound where there is no such model
        raise NotFound(
            f"{registry.url} has no {records.name}@{CHAMPION} that could be trained again; set this "
            "alias first",
            name=records.name,
            which=CHAMPION,
        )
    retrainings, runs = records.settled(now)
    return Past(
        now=now,
        champion=champion,
        release=registry.version(records.name, champion.version),
        trial=state.rollout,
        retrainings=retrainings,
        runs=runs,
    )


def retrain_state(
    past: Past,
    alarms: Iterable[Alarm],
    policy: RetrainPolicy,
    labelled: CountLabelled | None,
    asked: str,
) -> RetrainState:
    """What is decided by."""
    made_by = past.made_by
    trained = posix_of(past.release.at) if made_by is None else made_by.at
    closed = posix_of(past.champion.at) if made_by is None else made_by.ended
    known = tuple(alarms)
    standing = tuple(
        replace(alarm, tried=len(_tries(past, alarm)))
        for alarm in standing_of(known, _stood(past), closed, past.now)
    )
    return RetrainState(
        standing=standing,
        labelled=_fresh(past, waited_for(due_alarms(policy, standing)), policy, labelled),
        labelled_in_all=0 if policy.labels is None else _count(labelled, trained),
        trained=trained,
        starts=tuple(run.at for run in past.runs),
        failed=sum(run.reason in BY_TIME or is_asked_for(run.reason) for run in _in_a_row(past)),
        busy=_busy(past),
        asked=asked,
        closed=_closed([each.time for each in known if each.time is not None], closed, past),
    )


def _fresh(
    past: Past,
    alarms: Iterable[StandingAlarm],
    policy: RetrainPolicy,
    labelled: CountLabelled | None,
) -> int:
    """The rows that were labelled since the newest change of these, and the last retraining for one."""
    times = [alarm.began for alarm in alarms]
    times += [run.at for alarm in alarms for run in _tries(past, alarm)]
    return _count(labelled, max(times)) if times and policy.fresh else 0


def _tries(past: Past, alarm: StandingAlarm) -> list[RetrainRun]:
    """The retrainings in a row without a promotion that were made when an alarm stood."""
    return [
        run
        for run in _in_a_row(past)
        if run.at >= alarm.began and alarm.key in {each.key for each in run.alarms}
    ]


def _closed(times: list[float], closed: float, past: Past) -> str:
    """Which alarms are older than the champion, or ""."""
    older = [time for time in times if time <= closed]
    if not older:
        return ""
    message = (
        f"{len(older)} alarms, the newest of {moment(max(older))}, are closed with the champion "
        f"{past.champion.version} of {moment(closed)}, which is newer"
    )
    if past.now < closed:
        message += "; clock= gives an earlier time: let a replay begin after the champion"
    return message


def _stood(past: Past) -> tuple[StandingAlarm, ...]:
    """The alarms that stood when this champion was last looked at, and when it was to be replaced."""
    refusal = past.retrainings.refusal
    tried = [alarm for run in _in_a_row(past) for alarm in run.alarms]
    if refusal is None or refusal.run is None:
        return tuple(tried)
    anew = refusal.champion_generation != past.champion.generation
    return tuple(tried) if anew else (*tried, *refusal.run.alarms)


def _busy(past: Past) -> str:
    """What is under way, or ""."""
    if past.runs and past.runs[-1].under_way:
        last = past.runs[-1]
        return f"retraining {last.number} is {last.state}, {last.message}"
    if past.trial is not None:
        return f"a rollout of {past.trial.candidate} is under way, since {past.trial.at}"
    return ""


def _in_a_row(past: Past) -> list[RetrainRun]:
    """The last retrainings, which led to no promotion, since somebody looked."""
    found: list[RetrainRun] = []
    for run in reversed(past.runs):
        if run.state not in NO_PROMOTION:
            break
        found.append(run)
        if is_asked_for(run.reason):
            break
    return found


def _count(labelled: CountLabelled | None, since: float) -> int:
    if labelled is None:
        return 0
    count = labelled(since)
    if isinstance(count, bool) or not hasattr(count, "__index__") or count < 0:
        raise UsageError(f"labelled gives a number of rows, 0 or more, not {count!r}")
    return int(count)
