"""Several processes run one rollout: every count is added up once, and all come to the same decision."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from helpers.rollouts import ledger_on, next_sum, until
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit import events
from modelkit.lifecycle.rollout.trial import Trial
from modelkit.types import Underway

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
GUARDS = (mk.Guard("errors", floor=0.05),)
LONG = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), GUARDS, tick=0.05)
STAGED = mk.RolloutPolicy(
    (mk.RolloutStage(0.3, calls=100), mk.RolloutStage(0.5, calls=100)),
    (mk.Guard("errors", floor=0.1),),
    tick=0.05,
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    for i, version in enumerate(("1", "2")):
        model = LogisticRegression(C=1.0 + i).fit(X, Y)
        mk.save(model, folder / f"{version}.mk", example=X, name="churn", version=version)
    return folder


@pytest.fixture
def registry(packages, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    for version in ("1", "2"):
        registry.register(packages / f"{version}.mk")
    registry.set_alias("churn", "champion", "1", expected=None, reason="first")
    return registry


@pytest.fixture
def clock(monkeypatch):
    """The clock of a Rollout, in seconds, by hand."""
    now = [0.0]
    monkeypatch.setattr(
        "modelkit.lifecycle.rollout.rollout.perf_counter_ns", lambda: int(now[0] * 1_000_000_000)
    )
    return now


def over(rollout):
    """Let a tick come to its end."""
    rollout.predict(X[:1])
    thread = rollout._source._session._thread
    if thread is not None:
        thread.join()


@pytest.mark.parametrize("skew", [-8 * 86400, -7200, 20, 600, 8 * 86400])
def test_the_clock_of_who_began_a_rollout_and_of_a_worker_do_not_matter(
    registry, monkeypatch, clock, skew
):
    began = (datetime.now(UTC) + timedelta(seconds=skew)).isoformat()
    stages = (mk.RolloutStage(0.5, seconds=50), mk.RolloutStage(0.9, seconds=3600))
    policy = mk.RolloutPolicy(stages, GUARDS, tick=10)
    told = []
    stop = events.subscribe(told.append, events.Noticed)
    with monkeypatch.context() as patched:
        patched.setattr("modelkit.lifecycle.registry.authors.time_now", lambda: began)
        registry.start_rollout("churn", "2", policy, reason="try")
        one = mk.Rollout(registry, "churn", poll=0.5, threads=1)
        other = mk.Rollout(registry, "churn", poll=0.5, threads=1)
    stop()
    ages = []
    for rollout in (one, other):
        rollout.predict(X[:1])  # something is counted
    for _ in range(8):
        clock[0] += 10
        for rollout in (one, other):
            over(rollout)
        ages.append(one.status().seconds)
        assert one.status().decision in ("continue", "advance")
    assert ages == pytest.approx([10, 20, 30, 40, 50, 60, 70, 80])
    assert one.status().stage == 2
    ahead = [note for note in one.status().notes if "in the future, by the clock of" in note]
    assert len(ahead) == len(told) / 2 == (skew > 0)
    for rollout in (one, other):
        rollout.close()


def test_time_that_nobody_saw_pass_ends_no_stage(registry, clock):
    registry.start_rollout("churn", "2", LONG, reason="try")
    for _ in range(3):
        rollout = mk.Rollout(registry, "churn", poll=0.5, threads=1)
        rollout.predict(X[:1])
        clock[0] += 10
        over(rollout)
        rollout.close()
        clock[0] += 100_000
    again = mk.Rollout(registry, "churn", poll=0.5, threads=1)
    assert again.status().seconds == pytest.approx(30)
    again.close()


def test_a_service_that_starts_again_goes_on_with_all_evidence(registry):
    rollout = mk.Rollout(registry, "churn", poll=1e-3, threads=1)
    registry.start_rollout("churn", "2", LONG, reason="try")

    def counts_there():
        rollout.predict(X[:1])
        status = rollout.status()
        return sum(status.calls) >= 200

    until(counts_there)
    rollout.close()
    again = mk.Rollout(registry, "churn", poll=1e-3, threads=1)
    assert sum(again.status().calls) >= 200
    assert again.status().guards[0].better > 1
    again.close()


WORKER = """
import sys
import numpy as np
import modelkit as mk

class Broken(mk.Wrapper):
    __slots__ = ()

    _acall = None  # only the sync verbs are called

    def _call(self, X, outputs, call):
        if self.manifest.version == sys.argv[2]:
            raise RuntimeError("broken")
        return self._inner._call(X, outputs, call)

rollout = mk.Rollout(mk.Registry(sys.argv[1]), "churn", wrap=Broken, rescue=True, poll=.01, threads=1)
X = np.zeros((1, 3))
print("ready", flush=True)
number = 0
while True:
    number += 1
    rollout.predict(X, key=f"u{number % 500}" if number % 2 else None)
    if number % 20 == 0:
        print(rollout.manifest.version, flush=True)
"""


def start(registry, broken):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, registry.url, broken],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")
@pytest.mark.parametrize(("broken", "decision"), [("none", "promote"), ("2", "rollback")])
def test_processes_that_are_killed_leave_one_decision(registry, broken, decision):
    workers = [start(registry, broken) for _ in range(3)]
    try:
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        registry.start_rollout("churn", "2", STAGED, reason="try")
        seen = [set() for _ in workers]

        def read(place):
            for line in workers[place].stdout:
                seen[place].add(line.strip())

        readers = [threading.Thread(target=read, args=(place,)) for place in range(3)]
        for reader in readers:
            reader.start()
        until(lambda: list(registry._store.folders("models/churn/rollouts")), "nothing counted")
        workers[0].send_signal(signal.SIGKILL)
        until(lambda: registry.state("churn").rollout is None, "undecided")
        if decision == "promote":
            until(lambda: all("2" in seen[place] for place in (1, 2)), "not followed")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for reader in readers:
            reader.join()
        for worker in workers:
            worker.stdout.close()
    decisions = [e.about["decision"] for e in registry.history("churn") if e.kind == "decided"]
    assert decisions.count(decision) == 1
    assert decisions[-1] == decision
    assert decisions.count("advance") <= 1
    expected = "2" if decision == "promote" else "1"
    assert registry.aliases("churn")["champion"].version == expected
    # Whoever adds up again comes to the same decision.
    history = registry.history("churn")
    entry = next(each for each in history if each.kind == "rollout")
    underway = Underway("2", "1", "", entry.generation, entry.id, 0, "", "", "", "")
    shared = ledger_on(registry.rollout_folder("churn", underway), "reader")
    trial = Trial(STAGED, 0.0)
    while (found := next_sum(shared)) is not None and not trial.over:
        trial.tick(found.counts, found.at, found.stage)
    assert trial.decision.kind == decision
