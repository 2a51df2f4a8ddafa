"""What is known when it is decided whether to train again: which alarms stand, and what was tried for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from modelkit.drift.detector import Detector
from modelkit.drift.report import DriftReport
from modelkit.drift.values import Alarm
from modelkit.errors import UsageError
from modelkit.lifecycle.registry.log import CHAMPION, State
from modelkit.lifecycle.registry.releases import ModelVersion
from modelkit.lifecycle.retrain.log import Retrainings
from modelkit.lifecycle.retrain.policy import (
    RetrainPolicy,
    RetrainState,
    StandingAlarm,
    due_alarms,
    is_asked_for,
    waited_for,
)
from modelkit.lifecycle.retrain.run import RetrainRun, moment, posix_of

Watched = Detector | DriftReport
CountLabelled = Callable[[float], int]
BY_TIME = ("labels", "schedule")
NO_PROMOTION = ("blocked", "inconclusive", "failed", "rolled back")


def retrain_state(
    policy: RetrainPolicy,
    model: State,
    release: ModelVersion,
    past: Retrainings,
    now: float,
    alarms: Sequence[Alarm],
    labelled: CountLabelled | None,
    asked: str,
) -> RetrainState:
    """What is decided by.

    Args:
        policy: when to train.
        model: what the registry says of the model, which has a champion.
        release: the champion.
        past: the retrainings.
        now: in POSIX seconds.
        alarms: those that nobody has acknowledged.
        labelled: gives the number of rows that were labelled since a time.
        asked: why somebody asks for a retraining, or "".
    """
    champion = model.aliases[CHAMPION]
    trained, closed = posix_of(release.at), posix_of(champion.at)
    for run in past.runs:
        if run.version == champion.version:  # it made the champion
            trained, closed = run.at, run.ended
    failures = _in_a_row(past.runs)
    before = _stood(past, failures, champion.generation)
    standing = tuple(
        replace(alarm, tried=len(_tries(failures, alarm)))
        for alarm in standing_of(alarms, before, closed, now)
    )
    changes = _changes(failures, waited_for(due_alarms(policy, standing)))
    return RetrainState(
        standing=standing,
        labelled=_count(labelled, max(changes)) if changes and policy.fresh else 0,
        labelled_in_all=0 if policy.labels is None else _count(labelled, trained),
        trained=trained,
        starts=tuple(run.at for run in past.runs),
        failed=sum(run.reason in BY_TIME or is_asked_for(run.reason) for run in failures),
        busy=_busy(past, model),
        asked=asked,
        closed=_closed(alarms, champion.version, closed, now),
    )


def _stood(
    past: Retrainings, failures: Iterable[RetrainRun], generation: int
) -> list[StandingAlarm]:
    """The alarms that stood when this champion was last looked at, and when it was to be replaced."""
    found = [alarm for run in failures for alarm in run.alarms]
    refusal = past.refusal
    if refusal is None or refusal.run is None or refusal.champion_generation != generation:
        return found
    return [*found, *refusal.run.alarms]


def _busy(past: Retrainings, model: State) -> str:
    """What is under way, or ""."""
    if past.open is not None:
        run = past.open.run
        return f"retraining {run.number} is {run.state}, {run.message}"
    if model.rollout is not None:
        return f"a rollout of {model.rollout.candidate} is under way, since {model.rollout.at}"
    return ""


def _in_a_row(runs: Sequence[RetrainRun]) -> list[RetrainRun]:
    """The last retrainings, which led to no promotion, since somebody looked."""
    found: list[RetrainRun] = []
    for run in reversed(runs):
        if run.state not in NO_PROMOTION:
            break
        found.append(run)
        if is_asked_for(run.reason):
            break
    return found


def _tries(failures: Iterable[RetrainRun], alarm: StandingAlarm) -> list[RetrainRun]:
    """The retrainings that were made while an alarm stood."""
    return [
        run
        for run in failures
        if run.at >= alarm.began and alarm.key in {each.key for each in run.alarms}
    ]


def _changes(failures: Sequence[RetrainRun], alarms: Iterable[StandingAlarm]) -> list[float]:
    """When the changes of these alarms began, and the retrainings for them."""
    return [
        time
        for alarm in alarms
        for time in (alarm.began, *(run.at for run in _tries(failures, alarm)))
    ]


def _count(labelled: CountLabelled | None, since: float) -> int:
    if labelled is None:
        return 0
    count = labelled(since)
    if isinstance(count, bool) or not hasattr(count, "__index__") or count < 0:
        raise UsageError(f"labelled gives a number of rows, 0 or more, not {count!r}")
    return int(count)


def _closed(alarms: Iterable[Alarm], champion: str, since: float, now: float) -> str:
    """Which alarms are older than the champion, or ""."""
    older = [alarm.time for alarm in alarms if alarm.time is not None and alarm.time <= since]
    if not older:
        return ""
    message = (
        f"{len(older)} alarms, the newest of {moment(max(older))}, are closed with the champion "
        f"{champion} of {moment(since)}, which is newer"
    )
    if now < since:
        message += "; clock= gives an earlier time: let a replay begin after the champion"
    return message


def watched_of(drift: Watched | Sequence[Watched]) -> tuple[Watched, ...]:
    """Detectors and reports as a tuple. Raises TypeError for anything else."""
    found = tuple(drift) if isinstance(drift, Iterable) else (drift,)
    for each in found:
        if not isinstance(each, Watched):
            raise TypeError(
                "drift is a Detector, as monitor.detector, a DriftReport, or several of them; not "
                f"{each!r:.80}"
            )
    return found


def alarms_of(watched: Iterable[Watched]) -> list[Alarm]:
    """The alarms that nobody has acknowledged."""
    found = []
    for each in watched:
        report = each.report() if isinstance(each, Detector) else each
        known = {note.alarm for note in report.acknowledged}
        found += [alarm for alarm in report.alarms if alarm not in known]
    return found


def standing_of(
    alarms: Iterable[Alarm], before: Iterable[StandingAlarm], closed: float, now: float
) -> tuple[StandingAlarm, ...]:
    """The alarms that stand, each once.

    Args:
        alarms: those that are known now, of several workers too.
        before: those that stood when last looked at: an alarm without a time, such as one about a
            batch, stands since then.
        closed: when the champion was promoted, in POSIX seconds: earlier ones are closed.
        now: in POSIX seconds.
    """
    seen = {alarm.key: alarm for alarm in before}
    found: dict[tuple[str, str, str | None], StandingAlarm] = {}
    for alarm in alarms:
        known = seen.get((alarm.kind, alarm.feature, alarm.stratum))
        since = alarm.time
        if since is None:
            since = now if known is None else known.since
        elif since <= closed:
            continue
        began = since if alarm.began_time is None else alarm.began_time
        if alarm.time is None and known is not None:
            began = known.began
        one = StandingAlarm(alarm.kind, alarm.feature, alarm.stratum, since, began)
        other = found.get(one.key, one)
        since, began = min(since, other.since), max(began, other.began)
        found[one.key] = replace(one, since=since, began=began)
    return tuple(sorted(found.values(), key=lambda one: (one.since, str(one))))


def close_with(runs: Iterable[RetrainRun], watched: Iterable[Watched]) -> None:
    """Acknowledge, in each Detector, the alarms that a promotion has answered."""
    promoted = [run for run in runs if run.state == "promoted"]
    detectors = [each for each in watched if isinstance(each, Detector)]
    for run in promoted:
        reason = f"retraining {run.number} promoted {run.version}"
        for detector in detectors:
            for alarm in alarms_of([detector]):
                if alarm.time is not None and alarm.time <= run.ended:
                    detector.acknowledge(alarm, reason)
