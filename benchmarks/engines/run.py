"""What Ray, Spark and Dask cost beside the local run, and Spark beside MLflow's; see README.md.

CPU seconds of the whole process tree are what is compared: wall times depend on who else uses the cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.engines import rivals
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

WIDTH = 20
FILES = 8
WARM_TURNS = 2  # beside the first, which starts workers: the JVM compiles what is called often
ROOT = Path(__file__).parents[2]
SETTINGS = {
    "SPARK_LOCAL_IP": "127.0.0.1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# What wakes a system for its turn: Spark ends workers that had nothing to do for a minute.
WAKING = {"spark": "linear", "mlflow": "both"}
TARGETS = {"ray": 2.5, "spark": 2.5, "dask": 1.3}  # of the CPU seconds of the local run
OF_MLFLOW = 0.6  # of those of spark_udf
OF_SERVE = 0.45  # of the seconds of one call behind @serve.batch
BURST = 1  # seconds of 300 calls at once
JOBS = {
    "dask": ["forest", "linear", "floor"],
    "ray": [
        "forest",
        "linear",
        "floor",
        *(f"{job}, 2 blocks" for job in ("forest", "linear", "floor")),
    ],
    "spark": ["forest", "linear", "floor", "label", "label floor"],
    "mlflow": ["label", "label at best", "both", "both at best", "package"],
    "local": ["forest", "linear"],
}


def prepare(folder, rows):
    """Packages of a forest and of a linear model, the linear one for MLflow too, and rows in files."""
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(WIDTH)]
    X = pd.DataFrame(rng.normal(size=(rows, WIDTH)).astype(np.float32), columns=names)
    y = np.where(X["x0"] + X["x1"] * X["x2"] > 0, "yes", "no")
    train = X[:5000]
    forest = RandomForestClassifier(100, max_depth=10, random_state=0, n_jobs=2)
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    profile = mk.Profile.fit(train[::2], reference=train[1::2])
    for name, model in {"forest": forest, "linear": linear}.items():
        model.fit(train, y[:5000])
        mk.save(
            model, folder / f"{name}.mk", example=train, name=name, version="1", profile=profile
        )
    rivals.save(linear, train, y[:5000], folder / "linear.mk", folder)
    (folder / "rows").mkdir()
    X.insert(0, "id", np.arange(rows))
    for i, part in enumerate(np.array_split(np.arange(rows), FILES)):
        X.iloc[part].to_parquet(folder / "rows" / f"{i}.parquet", index=False)
    return X[names].to_numpy(), profile


def tallies(X, profile):
    """Nanoseconds of CPU a value, and whether slices add up to the whole."""
    start = time.process_time()
    whole = profile.tally(X)
    spent = time.process_time() - start
    parts = [profile.tally(part) for part in np.array_split(X, FILES)]
    assert mk.types.Tally.total(parts) == whole
    figure = f"{spent / X.size * 1e9:.0f} ns a value, {len(whole.to_bytes())} bytes"
    said("tally", figure, "50; 4,096")


class System:
    """A process that runs the jobs of a system when it is told to, with what each took."""

    def __init__(self, name, folder):
        paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        self.name = name
        self.errors = folder / f"{name}.log"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.engines.jobs", name, str(folder)],
                env=os.environ | SETTINGS | {"PYSPARK_PYTHON": sys.executable, "PYTHONPATH": paths},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.start = self.answer()

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(self.errors.read_text()[-4000:])

    def run(self, job):
        print(job, file=self.process.stdin, flush=True)
        return self.answer()

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def turn(systems):
    """What each job of each system took."""
    took = {}
    for system in systems:
        if system.name in WAKING:
            system.run(WAKING[system.name])
        for job in JOBS[system.name]:
            took[system.name, job] = system.run(job)
    return took


def measured(names, folder, rounds):
    """Median CPU seconds of each job of these systems, which have their turns in every round."""
    systems = [System(name, folder) for name in names]
    costs = {}
    for system in systems:
        print(
            f"{system.name:7} start                  CPU {system.start['cpu']:6.2f} s", flush=True
        )
    for system in systems:
        for job in JOBS[system.name]:
            first = system.run(job)["cpu"]
            print(f"{system.name:7} {job:16} first CPU {first:6.2f} s", flush=True)
    for _ in range(WARM_TURNS):
        turn(systems)
    for _ in range(rounds):
        for what, took in turn(systems).items():
            costs.setdefault(what, []).append(took)
    for system in systems:
        asked_once(system)
        system.stop()
    medians = {}
    for (name, job), took in costs.items():
        cpu = [own["cpu"] for own in took]
        wall = statistics.median(own["wall"] for own in took)
        medians[name, job] = statistics.median(cpu)
        print(
            f"{name:7} {job:16}  warm CPU {medians[name, job]:6.2f} s (least {min(cpu):.2f}), wall {wall:.2f} s"
        )
    return medians


def asked_once(system):
    """Whether the answers are those of the local run, and the calls of Ray Serve."""
    if system.name in TARGETS:
        found = system.run("equal")
        system.answer()  # its cost, of which nothing was asked
        said(f"{system.name}: outputs equal to the local run", f"{found['equal']} of {found['of']}")
    if system.name == "ray":
        serving(system)


def hanging(folder):
    """Ray where there is one CPU: a job that hangs ends its process, and this one."""
    system = System("ray_of_one", folder)
    took = [system.run(job)["wall"] for job in ("forest", "linear")]
    system.stop()
    said("ray: jobs on a cluster of one CPU", f"{sum(took):.1f} s")


def serving(system):
    """Ray Serve beside its own way to gather calls."""
    found = system.run("serve")
    system.answer()  # its cost, of which nothing was asked
    ours = found["batcher"]
    theirs = found["rival"]
    said("serve: one call, over @serve.batch", ratio(ours["one"], theirs["one"]), OF_SERVE)
    said("serve: 300 calls at once", f"{ours['burst']:.2f} s", BURST)


def ratio(cost, other):
    return f"{cost / other:.2f} ({cost:.3g} over {other:.3g} s)"


def said(what, figure, most=None):
    print(f"{what:52} {figure:30}", "" if most is None else f"at most {most}", flush=True)


def over_local(name, cpu):
    """An engine over the local run, and over what it costs without a model."""
    for job in JOBS[name]:
        kind, _, blocks = job.partition(", ")
        if kind not in ("forest", "linear"):
            continue
        said(f"{name}: {job}, over local", ratio(cpu[name, job], cpu["local", kind]), TARGETS[name])
        floor = cpu[name, f"floor, {blocks}" if blocks else "floor"]
        if kind == "linear":
            said("    its floor, without a model", ratio(floor, cpu["local", kind]))
        said("    above the floor", ratio(cpu[name, job] - floor, cpu["local", kind]))


def over_mlflow(cpu):
    """Spark over MLflow's spark_udf with the same outputs, and the floor over its best."""
    for ours, theirs in {"label": "label", "linear": "both"}.items():
        cost = cpu["spark", ours]
        best = cpu["mlflow", f"{theirs} at best"]
        said(f"spark: {theirs}, over spark_udf", ratio(cost, cpu["mlflow", theirs]), OF_MLFLOW)
        said("    over spark_udf at its best", ratio(cost, best), OF_MLFLOW)
        floor = cpu["spark", "label floor" if ours == "label" else "floor"]
        said("    its floor, without a model", ratio(floor, best))
    package = ratio(cpu["spark", "linear"], cpu["mlflow", "package"])
    said("spark: both, over spark_udf of the package", package)


def show(names, cpu):
    for name in TARGETS:
        if name in names:
            over_local(name, cpu)
    if "spark" in names and "mlflow" in names:
        over_mlflow(cpu)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=["dask", "ray", "spark", "mlflow"])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkit-bench-") as place:
        where = Path(place)
        tallies(*prepare(where, options.rows))
        if "ray" in options.only:
            hanging(where)
        show(options.only, measured([*options.only, "local"], where, options.rounds))
