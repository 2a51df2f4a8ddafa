"""A registry with a champion, and what trains and judges its successors."""

import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

import modelkit as mk
from modelkit.drift.values import Alarm
from modelkit.lifecycle.evaluation.check import GateCheck
from modelkit.lifecycle.gate.verdict import Verdict, decision_of

DAY = 86_400.0
START = 1_800_000_000.0
X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
AT_ONCE = mk.RetrainPolicy(rollout=None, fresh=0, persist=0)
CANARY = mk.RetrainPolicy(
    rollout=mk.RolloutPolicy((mk.RolloutStage(0.5),)), fresh=0, persist=0, lease=60.0
)
SPAWN = multiprocessing.get_context("spawn")


class Clock:
    """A clock in POSIX seconds that goes when it is told to."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now


def registry_at(where, folder):
    """A registry with a champion, 1.0.0."""
    package = folder / "champion.mk"
    if not package.exists():
        save(package, "1.0.0", seed=1)
    registry = mk.Registry(where)
    registry.register(package)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first release")
    return registry


def save(path, version, seed=0):
    path.write_bytes(package_of(version, seed))


@cache
def package_of(version, seed):
    """The bytes of a package, which is trained and saved once, however many retrainings come to it."""
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(seed).permutation(60)[:50]
    model = LogisticRegression(C=1.0 + seed % 7).fit(X[rows], Y[rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "package.mk")
        mk.save(model, path, example=X, name="churn", version=version)
        return path.read_bytes()


def train(training):
    save(training.package, training.version, training.seed)


class Copying:
    """Trains by a copy of what a retraining made before, with the version that it is asked for."""

    def __init__(self, packages):
        self.packages = packages

    def __call__(self, training):
        shutil.copyfile(self.packages / f"{training.version}.mk", training.package)


def judging(registry, outcome="pass", **others):
    """What judges by one check, beside the champion that there is."""

    def judge(training):
        generation = registry.aliases("churn")["champion"].generation
        return verdict(training, outcome, **{"generation": generation} | others)

    return judge


def verdict(training, outcome="pass", **others):
    """A verdict on what was trained, with one check."""
    manifest = mk.inspect(training.package)
    checks = (GateCheck("own", "is it good?", outcome),)
    values = {
        "decision": decision_of(checks),
        "candidate": f"{manifest.name} {manifest.version}",
        "candidate_digest": manifest.model_digest,
        "champion": f"{training.name} {training.champion.version}",
        "champion_digest": training.champion.model_digest,
        "generation": 1,
        "alias": "champion",
        "kind": "binary",
        "metric": "accuracy",
        "margins": {"accuracy": 0.01},
        "alpha": 0.05,
        "spent": 0.05,
        "uses": 1,
        "rows": 60,
        "independent": 60,
        "data_digest": "",
        "policy_digest": "",
        "checks": checks,
    }
    return Verdict(**{**values, **others})


def alarm(kind="material", feature="c0", at=START, stratum=None, row=100):
    """An alarm that was raised at this time."""
    return Alarm(
        kind=kind, feature=feature, stratum=stratum, statistic="", p=1e-9, level=1e-3, row=row,
        began=row - 50, effect=None, guarantee="ever", assumptions=(), time=at, began_time=at,
    )  # fmt: skip


def report(*alarms, acknowledged=()):
    """A report with these alarms."""
    return mk.DriftReport(
        kind="stream", rows=1000, reference_rows=1000, alpha=0.01, guarantee="", assumptions=(),
        alarms=alarms, features=(), checks=(), performance=None, acknowledged=acknowledged,
    )  # fmt: skip


def retrain(registry, folder, *, policy=AT_ONCE, clock=None, **others):
    """A retraining as the tests want it, if nothing else is said."""
    values = {"judge": judging(registry), "folder": folder, "clock": clock or Clock()}
    values |= {"asked": "the tests"} if "drift" not in others else {}
    values |= others
    return mk.retrain(registry, "churn", values.pop("train", train), policy=policy, **values)


def run_until(where, folder, stop_after, copying):
    """A process that is killed right after this step is recorded; or before, where it is "-step"."""
    from modelkit.lifecycle.retrain import records

    add = records.RunRecords.add

    def killed(self, run, kind, at, **values):
        before, _, step = stop_after.rpartition("-")
        if kind == step and before == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = add(self, run, kind, at, **values)
        if kind == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    records.RunRecords.add = killed
    retrain(mk.Registry(where), folder, policy=CANARY, train=copying)


def outcome(run):
    """What a retraining came to, without times and holders."""
    plain = json.loads(run.to_json())
    steps = [(step["name"], step["text"]) for step in plain["steps"] if step["name"] != "train"]
    return run.state, run.version, run.champion, steps
