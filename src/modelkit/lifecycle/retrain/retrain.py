"""Train a model again when it is time, and let the registry decide who does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from modelkit.errors import NotFound, UsageError
from modelkit.lifecycle.registry.log import CHAMPION
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.retrain.log import OpenRun, at_work
from modelkit.lifecycle.retrain.policy import Due, RetrainPolicy, RetrainState
from modelkit.lifecycle.retrain.records import NotAllowed, RunRecords, emit_run
from modelkit.lifecycle.retrain.run import RetrainRun
from modelkit.lifecycle.retrain.state import (
    CountLabelled,
    Watched,
    alarms_of,
    close_with,
    retrain_state,
    watched_of,
)
from modelkit.lifecycle.retrain.work import Judge, RunWork, Train

FIRST = -2_208_988_800  # 1900, in POSIX seconds
LAST = 32_503_680_000  # 3000; the milliseconds of today are beyond it
REFUSALS = 10  # other refusals than the last that are recorded in the time that an alarm must stand
REFUSALS_EVERY = 600.0  # seconds between them, where it need not stand


def retrain(
    registry: Registry,
    name: str,
    train: Train,
    *,
    judge: Judge,
    policy: RetrainPolicy,
    drift: Watched | Sequence[Watched] = (),
    labelled: CountLabelled | None = None,
    asked: str = "",
    folder: Path | str | None = None,
    clock: Callable[[], float] = time.time,
) -> RetrainRun:
    """Train a model again if it is time, and try what the gate promotes in a rollout.

        def train(training):
            about = {"name": training.name, "version": training.version}
            mk.save(pipeline.fit(X_new, y_new), training.package, example=X_new, **about)

        def judge(training):
            rows = {"X": X_test, "y": y_test, "margin": 0.05}
            return mk.gate(training.package, "registry:churn@champion", **rows, registry=registry)

        policy = mk.RetrainPolicy(rollout=None, fresh=0)
        mk.retrain(registry, "churn", train, judge=judge, policy=policy, asked="a new plan")

    A retraining goes through five steps: train, save, gate, register, rollout. Each is recorded
    once in the registry, so the next call continues where a process ended, and if many call at
    once, one trains. Nothing runs in the background: a cron job, an orchestrator or your
    application calls this.

    Args:
        registry: where the model is, which has a champion.
        name: the name of the model.
        train: a function of a `Training`, which saves a package at `Training.package`, by `mk.save`
            with the name and the version of the `Training`. If a process ends in the middle of it,
            the next call calls it again with the same `Training`, except for the path of the
            package.
        judge: a function of a `Training`, which returns the `Verdict` of `mk.gate` on the package
            there, by labelled rows that it was not trained on.
        policy: when to train, and how a candidate is tried.
        drift: the Detector or DriftReport of the champion, or several, one from each worker.
            Acknowledged alarms do not count.
        labelled: a function that gives the number of rows that were labelled since a time in POSIX
            seconds; required if `policy.fresh` or `policy.labels` is set.
        asked: why you want a retraining now; it then only waits for one in progress.
        folder: where packages and checkpoints are made on this machine; by default
            `~/.cache/modelkit/retrainings`.
        clock: gives the time in POSIX seconds.

    Returns:
        The retraining that this call made or continued, or a refusal with its reason. A retraining
        that is on trial ends with its rollout: the next call, or `modelkit retrain WHERE status
        NAME`, says how.

    Raises:
        RetrainError: if `train` or `judge` return something wrong; the retraining has failed.
        UsageError: for an argument out of range, and for `labelled` missing where the policy needs it.
        TypeError: for an argument of another type.
        NotFound: if the model lacks a champion.
        Exception: what `train` or `judge` raise; the retraining is recorded as failed, without the
            text of the error, which may hold a row.
    """
    if not isinstance(registry, Registry):
        raise TypeError(f"registry is a mk.Registry, not {registry!r:.80}")
    if not isinstance(asked, str):
        raise TypeError(f"asked says why, in a text, and not {asked!r:.80}")
    watched = watched_of(drift)
    clock = partial(_seconds, clock)
    _check_labelled(labelled, policy)
    place = Path.home() / ".cache" / "modelkit" / "retrainings" if folder is None else Path(folder)
    records = RunRecords(registry, name)
    own = _turn(records, policy, watched, labelled, asked, clock())
    if isinstance(own, RetrainRun):
        return own
    emit_run(at_work(own, own.claim.at, own.claim.at))
    RunWork(records, own, place, train=train, judge=judge, policy=policy, clock=clock).go_on()
    (run,) = (run for run in records.settled(clock()).runs if run.number == own.number)
    if run.state == "on trial":
        emit_run(run)
    close_with([run], watched)
    return run


def _seconds(clock: Callable[[], float]) -> float:
    """The time of a clock. Raises UsageError for one that could not be read as a date again."""
    now = clock()
    if not FIRST <= now < LAST:
        raise UsageError(f"clock gives the time in POSIX seconds, not {now!r}")
    return now


def _check_labelled(labelled: CountLabelled | None, policy: RetrainPolicy) -> None:
    """Raise UsageError where the policy needs a count of rows, and TypeError for what gives none."""
    if labelled is None and (policy.fresh or policy.labels is not None):
        raise UsageError(
            "policy.fresh and policy.labels count labelled rows: pass labelled=, a function of a "
            "time in POSIX seconds, or a policy with fresh=0 and labels=None"
        )
    if not (labelled is None or callable(labelled)):
        raise TypeError(
            "labelled is a function that gives the number of rows that were labelled since a time in "
            f"POSIX seconds; not {labelled!r:.80}"
        )


def _turn(
    records: RunRecords,
    policy: RetrainPolicy,
    watched: Sequence[Watched],
    labelled: CountLabelled | None,
    asked: str,
    now: float,
) -> OpenRun | RetrainRun:
    """The retraining that this caller does; or a refusal."""
    registry, name = records.registry, records.name
    model = registry.state(name)
    champion = model.aliases.get(CHAMPION) or no_champion(registry, name)
    past = records.settled(now)
    release = registry.version(name, champion.version)
    close_with(past.runs, watched)
    state = RetrainState()
    try:
        if past.open is not None and past.open.run.state == "interrupted":
            return records.take_over(past.open, now, policy.lease)
        alarms = alarms_of(watched)
        state = retrain_state(policy, model, release, past, now, alarms, labelled, asked)
        answer = policy.due(state, now)
        if not answer.refusal:
            run = RetrainRun(
                name,
                past.number + 1,
                "running",
                answer.reason,
                "",
                now,
                champion=champion.version,
                alarms=state.standing,
            )
            return records.begin(run, champion.generation, policy.lease)
    except NotAllowed:
        answer = Due("", "busy", "somebody else took the retraining a moment ago")
    every = policy.persist / REFUSALS or REFUSALS_EVERY
    refusal = RetrainRun(
        name, 0, "refused", answer.refusal, answer.message, now, alarms=state.standing
    )
    records.refuse(refusal, champion.generation, every=every)
    return refusal


def no_champion(registry: Registry, name: str) -> NoReturn:
    """Raise NotFound for a model without a champion."""
    registry.versions(name)  # raises it where the model does not exist
    raise NotFound(
        f"{registry.url} lacks the alias {name}@{CHAMPION}, which names the model to train again; set it first",
        name=name,
        which=CHAMPION,
    )
