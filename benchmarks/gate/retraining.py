"""How often a month of flickering alarms trains a model, who does it, and what a look costs."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarks.common.measure import judge, table
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.drift.values import Alarm
from modelkit.lifecycle.retrain.records import NotAllowed, RunRecords
from modelkit.lifecycle.retrain.run import RetrainRun

DAY = 86_400.0
ALARMS = 1402  # in a month, one each half hour
PROCESSES = 6
OCCASIONS = 100
X = np.random.default_rng(0).normal(size=(200, 3))
Y = (X[:, 0] > 0).astype(int)


def registry_with(where: Path) -> mk.Registry:
    """A registry with a champion."""
    mk.save(LogisticRegression().fit(X, Y), where / "one.mk", example=X, name="churn", version="1")
    registry = mk.Registry(where / "models")
    registry.register(where / "one.mk")
    registry.set_alias("churn", "champion", "1", expected=None, reason="first release")
    return registry


def alarm(kind: str, at: float) -> Alarm:
    return Alarm(
        kind=kind, feature="age", stratum=None, statistic="", p=1e-9, level=1e-3, row=1, began=1,
        effect=None, guarantee="", assumptions=(), time=at, began_time=at,
    )  # fmt: skip


def report_of(alarms: list[Alarm]) -> mk.DriftReport:
    return mk.DriftReport(
        kind="stream", rows=1, reference_rows=1, alpha=0.01, guarantee="", assumptions=(),
        alarms=tuple(alarms), features=(), checks=(), performance=None,
    )  # fmt: skip


def months_of(seed: int) -> list[tuple[float, list[Alarm]]]:
    """Moments of a month, each with the alarms that stand: they come and go."""
    rng = np.random.default_rng(seed)
    moments = time.time() + DAY + np.sort(rng.uniform(0, 30 * DAY, ALARMS))
    found = []
    since = moments[0]
    for now in moments:
        since = now if rng.random() < 0.1 else since
        kinds = ["material"] if rng.random() < 0.5 else ["changed", "material"]
        found.append((float(now), [alarm(kind, float(since)) for kind in kinds]))
    return found


def train(training: mk.types.Training) -> None:
    model = LogisticRegression(C=1 + training.seed % 5).fit(X, Y)
    mk.save(model, training.package, example=X, name="churn", version=training.version)


def judge_with(registry: mk.Registry):
    def judge_it(training: mk.types.Training) -> mk.Verdict:
        champion = "registry:churn@champion"
        return mk.gate(training.package, champion, X, Y, margin=0.5, registry=registry)

    return judge_it


def month(seed: int) -> tuple[Counter[str], float]:
    """What became of the looks of a month, and the median milliseconds of a refusal."""
    with tempfile.TemporaryDirectory() as folder:
        registry = registry_with(Path(folder))
        policy = replace(mk.RetrainPolicy(rollout=None), fresh=0)
        states: Counter[str] = Counter()
        times = []
        for now, alarms in months_of(seed):
            began = time.perf_counter()
            run = mk.retrain(
                registry, "churn", train, judge=judge_with(registry), policy=policy,
                drift=report_of(alarms), folder=Path(folder) / "runs", clock=lambda now=now: now,
            )  # fmt: skip
            if run.state == "refused":
                times.append(time.perf_counter() - began)
            states[run.reason if run.state == "refused" else "run"] += 1
    return states, float(np.median(times)) * 1000


def claim_all(where: str, start, results) -> None:
    records = RunRecords(mk.Registry(where), "churn")
    start.wait()
    won = 0
    while (number := records.state().number) < OCCASIONS:
        begun = RetrainRun("churn", number + 1, "running", "alarm", "", 0.0)
        try:
            run = records.begin(begun, 1, 60.0)
        except NotAllowed:  # somebody was faster
            continue
        won += 1
        records.end(run, run.ended("blocked", "", 0.0))
    results.put(won)


def claims() -> int:
    """How many claims all processes make together."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(PROCESSES)
    results = context.Queue()
    with tempfile.TemporaryDirectory() as folder:
        registry = registry_with(Path(folder))
        workers = [
            context.Process(target=claim_all, args=(registry.url, start, results))
            for _ in range(PROCESSES)
        ]
        for worker in workers:
            worker.start()
        won = sum(results.get(timeout=60) for _ in workers)
        for worker in workers:
            worker.join()
    return won


def retraining(_options: object = None) -> str:
    """A month of alarms that come and go, and processes that want to begin the same runs"""
    rows = []
    for seed in range(3):
        states, refusal = month(seed)
        runs = states.pop("run")
        told = ", ".join(f"{name} {count}" for name, count in sorted(states.items()))
        about = f"{ALARMS:,} alarms in a month, seed {seed}: runs"
        rows.append([about, str(runs), *judge(runs, "at most", 4)])
        rows.append([f"a refusal; there were: {told}", f"{refusal:.1f} ms", "", ""])
    won = claims()
    about = f"{PROCESSES} processes, {OCCASIONS} occasions: claims"
    rows.append([about, str(won), *judge(won, "at least", OCCASIONS)])
    return table("what | measured | target | reached", rows)


if __name__ == "__main__":
    print(retraining())
