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
WARM_TURNS = 3  # the first starts workers, and the JVM compiles what is called often
ROOT = Path(__file__).parents[2]
SETTINGS = {"SPARK_LOCAL_IP": "127.0.0.1", "RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}  # fmt: skip
TARGETS = {"ray": 2.5, "spark": 2.5, "dask": 1.3}  # of the CPU seconds of the local run
OF_MLFLOW = 0.6  # of those of spark_udf
OF_SERVE = 0.45  # of the seconds of one call behind @serve.batch
BURST = 1  # seconds of 300 calls at once
JOBS = {
    "dask": ["forest", "linear", "floor"],
    "ray": ["forest", "linear", "floor"],
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
    assert mk.Tally.total(parts) == whole
    said("tally", f"{spent / X.size * 1e9:.0f} ns a value, {len(whole.to_bytes())} bytes", "at most 50; 4,096")  # fmt: skip


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


def measured(names, folder, rounds):
    """Medians of the CPU seconds of each job of these systems, which have their turns in every round."""
    systems = [System(name, folder) for name in names]
    costs = {}
    for system in systems:
        print(f"{system.name:7} start                CPU {system.start['cpu']:6.2f} s", flush=True)
    for turn in range(-WARM_TURNS, rounds):
        for system in systems:
            for job in JOBS[system.name]:
                took = system.run(job)
                if turn == -WARM_TURNS:
                    print(f"{system.name:7} {job:14} first CPU {took['cpu']:6.2f} s", flush=True)
                if turn >= 0:
                    costs.setdefault((system.name, job), []).append(took)
    if "ray" in names:
        serving(systems[names.index("ray")])
    for system in systems:
        system.stop()
    medians = {}
    for (name, job), took in costs.items():
        cpu = [own["cpu"] for own in took]
        wall = statistics.median(own["wall"] for own in took)
        medians[name, job] = statistics.median(cpu)
        print(
            f"{name:7} {job:14}  warm CPU {medians[name, job]:6.2f} s (least {min(cpu):.2f}), wall {wall:.2f} s"
        )
    return medians


def serving(system):
    """Ray Serve beside its own way to gather calls."""
    found = system.run("serve")
    system.answer()  # its cost, of which nothing was asked
    ours = found["batcher"]
    said("serve: one call, over @serve.batch", ratio(ours["one"], found["rival"]["one"]), f"at most {OF_SERVE}")  # fmt: skip
    said("serve: 300 calls at once", f"{ours['burst']:.2f} s", f"at most {BURST} s")


def ratio(cost, other):
    return f"{cost / other:.2f} ({cost:.4g} over {other:.4g})"


def said(what, figure, target=""):
    print(f"{what:60} {figure:24} {target}", flush=True)


def show(cpu):
    """Ratios, each beside that of an engine that has no model to run."""
    for name, target in TARGETS.items():
        if (name, "forest") not in cpu:
            continue
        for kind in ("forest", "linear"):
            said(f"{name}: {kind}, over local", ratio(cpu[name, kind], cpu["local", kind]), f"at most {target}")  # fmt: skip
        said(f"{name}: floor without a model, over the linear model locally", ratio(cpu[name, "floor"], cpu["local", "linear"]))  # fmt: skip
        above = cpu[name, "linear"] - cpu[name, "floor"]
        said(f"{name}: linear above the floor, over local", ratio(above, cpu["local", "linear"]))
    if ("mlflow", "label") not in cpu:
        return
    for ours, theirs in {"label": "label", "linear": "both"}.items():
        for rival in (theirs, f"{theirs} at best"):
            said(f"spark: {ours}, over spark_udf of {rival}", ratio(cpu["spark", ours], cpu["mlflow", rival]), f"at most {OF_MLFLOW}")  # fmt: skip
    said("spark: linear, over spark_udf of the package", ratio(cpu["spark", "linear"], cpu["mlflow", "package"]))  # fmt: skip
    for floor, rival in {"label floor": "label at best", "floor": "both at best"}.items():
        said(f"spark: {floor}, over spark_udf of {rival}", ratio(cpu["spark", floor], cpu["mlflow", rival]))  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=["dask", "ray", "spark", "mlflow"])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkit-bench-") as place:
        where = Path(place)
        tallies(*prepare(where, options.rows))
        show(measured([*options.only, "local"], where, options.rounds))
