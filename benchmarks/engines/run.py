"""What Ray, Spark and Dask cost beside the local run; see README.md.

CPU seconds of the whole process tree are what is compared: wall times depend on who else uses the cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk

WIDTH = 20
FILES = 8
JOBS = Path(__file__).with_name("jobs.py")
TARGETS = {"ray": 2.5, "spark": 2.5, "dask": 1.3}  # of the CPU seconds of the local run


def prepare(folder, rows):
    """Packages of a forest and of a linear model, the linear one for MLflow too, and rows in files."""
    import mlflow

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
    mlflow.sklearn.save_model(
        linear, folder / "mlflow", input_example=train[:5], serialization_format="cloudpickle"
    )
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
    print(
        f"tally: {spent / X.size * 1e9:.0f} ns a value (at most 50), {len(whole.to_bytes())} bytes"
    )


def measured(engine, folder, rounds):
    """The measures of an engine, as its process prints them."""
    python = sys.executable
    settings = {"PYSPARK_PYTHON": python, "SPARK_LOCAL_IP": "127.0.0.1", "RAY_USAGE_STATS_ENABLED": "0",
                "MLFLOW_DISABLE_TELEMETRY": "true"}  # fmt: skip
    done = subprocess.run(
        [python, str(JOBS), engine, str(folder), str(rounds)],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def show(engine, measures):
    for own in measures:
        if own["engine"] == "serve":
            print(
                f"serve {own['what']:8} one call {own['one'] * 1e3:.1f} ms, 300 calls {own['burst']:.2f} s"
            )
        else:
            print(
                f"{engine:6} {own['model']:7} {own['what']:6} CPU {own['cpu']:6.2f} s, wall {own['wall']:6.2f} s"
            )
    cpu = {(own["model"], own["what"]): own.get("cpu") for own in measures}
    for model in ("forest", "linear"):
        ratio = cpu[model, engine] / cpu[model, "local"]
        print(f"{engine:6} {model:7} {ratio:.2f} times local (forest at most {TARGETS[engine]})")
    if ("linear", "mlflow") in cpu:
        ratio = cpu["linear", "label"] / cpu["linear", "mlflow"]
        print(f"spark  linear  {ratio:.2f} times MLflow's spark_udf (at most 0.6)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=["dask", "ray", "spark"])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkit-bench-") as place:
        where = Path(place)
        tallies(*prepare(where, options.rows))
        for chosen in options.only:
            show(chosen, measured(chosen, where, options.rounds))
