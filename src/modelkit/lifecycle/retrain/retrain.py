"""Train a model again when it is time, and let the registry decide who does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from modelkit.errors import UsageError
from modelkit.events import NotRetrained, emit
from modelkit.lifecycle.registry.registry import Registry
from modelkit.lifecycle.retrain.desk import Desk, Look, holder_here, tell_of
from modelkit.lifecycle.retrain.past import CountLabelled, Past, past_of, retrain_state, settled_run
from modelkit.lifecycle.retrain.policy import Due, RetrainPolicy, RetrainState, due
from modelkit.lifecycle.retrain.run import Claim, RetrainRun, RunFiles
from modelkit.lifecycle.retrain.standing import Watched, alarms_of, close_with, watched_of
from modelkit.lifecycle.retrain.training import training_of
from modelkit.lifecycle.retrain.work import Judge, RunWork, Train

# The number of a retraining, and the claim by which it is this caller's.
RunTurn = tuple[int, Claim]
FIRST = -2_208_988_800  # 1900, in POSIX seconds
LAST = 32_503_680_000  # 3000; the milliseconds of today are beyond it
LOOKS = 10  # other refusals than the last that are recorded in the time that an alarm must stand
LOOKS_EVERY = 600.0  # seconds between them, where it need not stand


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
    """Train a model again if it is time, and put what the gate promotes on trial.

    A retraining goes through five steps: train, save, gate, register, rollout. Each is recorded once in
    the registry, so whoever calls next goes on where a process ended, and of many who call at once
    one trains. Nothing runs by itself: a cron job, an orchestrator or the host calls this.

    Args:
        registry: where the model is, which has a champion.
        name: the name of the model.
        train: a function of a `Training`, which saves a package at `Training.package`, by `mk.save`
            with the name and the version of the `Training`. A process that ends in the middle of it
            leaves the retraining to the next call, which calls it again with the same `Training` but for
            the path of the package.
        judge: a function of a `Training`, which returns the `Verdict` of `mk.gate` on the package
            there, by labelled rows that it was not trained on.
        policy: when to train, and how a candidate is tried.
        drift: what watches the champion: a Detector, a DriftReport, or several, one
            from each worker. Alarms that were acknowledged do not count.
        labelled: a function that gives the number of rows that were labelled since a time in POSIX
            seconds; needed where `policy.fresh` or `policy.labels` is.
        asked: why somebody asks for a retraining now; it waits for nothing but what is under way.
        folder: where packages and checkpoints are made on this machine; by default
            `~/.cache/modelkit/retrainings`.
        clock: gives the time in POSIX seconds.

    Returns:
        The retraining that was made or gone on with, or a refusal with its reason. A retraining that is on trial
        ends with its rollout: the next call, or `modelkit retrain WHERE status NAME`, says how.

    Raises:
        RetrainError: if `train` or `judge` do not give what they have to; the retraining has failed.
        UsageError: for an argument out of range, and for `labelled` missing where the policy needs it.
        TypeError: for an argument of another type.
        NotFound: if the model has no champion.
        Exception: what `train` or `judge` raise; the retraining has failed, and says so without the words
            of the error, which may hold a row.
    """
    if not isinstance(registry, Registry):
        raise TypeError(f"registry is a mk.Registry, not {registry!r:.80}")
    if not isinstance(asked, str):
        raise TypeError(f"asked says why, in a text, and not {asked!r:.80}")
    watched = watched_of(drift)
    clock = partial(_seconds, clock)
    if labelled is None and (policy.fresh or policy.labels is not None):
        raise UsageError(
            "policy.fresh and policy.labels count labelled rows: pass labelled=, a function of a "
            "time in POSIX seconds, or a policy with fresh=0 and labels=None"
        )
    place = Path.home() / ".cache" / "modelkit" / "retrainings" if folder is None else Path(folder)
    desk = Desk(registry, name)
    turn = _turn(desk, policy, watched, labelled, asked, clock)
    if isinstance(turn, RetrainRun):
        return turn
    number, claim = turn
    files = desk.files(number)
    tell_of(desk.run(files, clock()))
    champion = registry.version(name, files.first.champion)
    training = training_of(champion, number, files.first, claim, place)
    work = RunWork(
        desk, files, claim, training, train=train, judge=judge, policy=policy, clock=clock
    )
    work.go_on()
    run, _ = settled_run(desk, number, clock())
    if run.state == "on trial":
        tell_of(run)
    close_with([run], watched)
    return run


def _seconds(clock: Callable[[], float]) -> float:
    """The time of a clock. Raises UsageError for one that could not be read as a date again."""
    now = clock()
    if not FIRST <= now < LAST:
        raise UsageError(f"clock gives the time in POSIX seconds, not {now!r}")
    return now


def _turn(
    desk: Desk,
    policy: RetrainPolicy,
    watched: Sequence[Watched],
    labelled: CountLabelled | None,
    asked: str,
    clock: Callable[[], float],
) -> RunTurn | RetrainRun:
    """The retraining that this caller does; or a refusal."""
    past = past_of(desk, policy, clock())
    close_with(past.runs, watched)
    if past.interrupted is not None:
        state = RetrainState()
        turn = _taken_over(desk, past.interrupted, policy, past.now)
    else:
        state = retrain_state(past, alarms_of(watched), policy, labelled, asked)
        answer = due(policy, state, past.now)
        if answer.refusal:
            return _refused(desk, past, answer, state, policy)
        turn = _begun(desk, past, answer, state, policy)
    # What somebody else wrote need not be seen here yet, so it is not looked for.
    message = "somebody else took the retraining a moment ago"
    return turn or _refused(desk, past, Due("", "busy", message), state, policy)


def _begun(
    desk: Desk, past: Past, answer: Due, state: RetrainState, policy: RetrainPolicy
) -> RunTurn | None:
    """A new retraining; None where somebody else began one."""
    number = past.last + 1
    claim = Claim(
        number=1,
        at=past.now,
        holder=holder_here(),
        lease=policy.lease,
        reason=answer.reason,
        asked=bool(state.asked),
        champion=past.champion.version,
        digest=past.release.digest,
        generation=past.champion.generation,
        alarms=state.standing,
    )
    return (number, claim) if desk.claim(number, claim) else None


def _taken_over(desk: Desk, files: RunFiles, policy: RetrainPolicy, now: float) -> RunTurn | None:
    """A retraining whose holder is gone; None where somebody else takes it."""
    last = files.claims[-1]
    claim = replace(
        last,
        number=last.number + 1,
        at=now,
        holder=holder_here(),
        lease=policy.lease,
        id=uuid4().hex,
    )
    return (files.number, claim) if desk.claim(files.number, claim) else None


def _refused(
    desk: Desk, past: Past, answer: Due, state: RetrainState, policy: RetrainPolicy
) -> RetrainRun:
    look = Look(past.now, answer.refusal, answer.message, past.champion.generation, state.standing)
    desk.refuse(look, *past.look, every=policy.persist / LOOKS or LOOKS_EVERY)
    emit(NotRetrained(desk.name, answer.refusal, answer.message))
    return look.run(desk.name)
