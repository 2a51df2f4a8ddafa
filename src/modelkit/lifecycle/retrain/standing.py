"""Which alarms stand: those of Detectors and reports, each once, that are newer than the champion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from modelkit.drift.detector import Detector
from modelkit.drift.report import DriftReport
from modelkit.drift.values import Alarm
from modelkit.lifecycle.retrain.policy import StandingAlarm
from modelkit.lifecycle.retrain.run import RetrainRun

Watched = Detector | DriftReport


def watched_of(drift: Watched | Sequence[Watched]) -> tuple[Watched, ...]:
    """Detectors and reports as a tuple. Raises TypeError for anything else."""
    found = (drift,) if isinstance(drift, Watched | None) else tuple(drift)
    for each in found:
        if not isinstance(each, Watched):
            raise TypeError(f"drift is a Detector, a DriftReport, or several, not {each!r:.80}")
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
        before: those that stood when last looked at: an alarm without a time, such as that of one
            batch, stands since then.
        closed: when the champion was promoted, in POSIX seconds: earlier ones are closed.
        now: in POSIX seconds.
    """
    seen = {alarm.key: alarm for alarm in before}
    found: dict[tuple[str, str, str | None], StandingAlarm] = {}
    for alarm in alarms:
        one = _standing(alarm, seen, now)
        if alarm.time is not None and one.since <= closed:
            continue
        other = found.get(one.key, one)
        since, began = min(one.since, other.since), max(one.began, other.began)
        found[one.key] = replace(one, since=since, began=began)
    return tuple(sorted(found.values(), key=lambda one: (one.since, str(one))))


def _standing(
    alarm: Alarm, seen: dict[tuple[str, str, str | None], StandingAlarm], now: float
) -> StandingAlarm:
    known = seen.get((alarm.kind, alarm.feature, alarm.stratum))
    since = alarm.time
    if since is None:
        since = now if known is None else known.since
    began = since if alarm.began_time is None else alarm.began_time
    if alarm.time is None and known is not None:
        began = known.began
    return StandingAlarm(alarm.kind, alarm.feature, alarm.stratum, since, began)


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
