"""What a package adds to a call of `mlflow.pyfunc`, in microseconds of CPU and of one row.

MLflow's own part is a call of the same model, whose answer lies ready: its checks of the signature, of the parameters
and of the rows. The package's part is what MLflow calls then: called again and again by itself, and as the difference
of the whole calls. That difference is larger for any model, because a call after a millisecond of MLflow finds the
caches cold; its floor is a session of onnxruntime that runs the same graph on rows that nobody looks at.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from itertools import repeat
from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.common.measure import bare
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk
from modelkit.integrations import mlflow as integration
from modelkit.integrations.mlflow.opened import open_logged

WIDTH = 20
OUTPUTS = ("label", "probabilities")
CALLS = 50  # in one turn
MOST = 60e-6  # seconds that a package may add


class Ready:
    """Answers with what it was given, and keeps what MLflow passed on."""

    def __init__(self, answer):
        self.answer = answer
        self.passed = ()

    def predict(self, rows, params=None):
        self.passed = (rows, params)
        return self.answer


class Session:
    """Runs a graph, and answers with a frame as its arrays give it."""

    def __init__(self, graph):
        self.session = bare(graph, threads=1)
        self.name = self.session.get_inputs()[0].name

    def predict(self, rows, params=None):
        label, probabilities = self.session.run(OUTPUTS, {self.name: rows.to_numpy(np.float64)})
        return pd.DataFrame({"label": label, "probabilities": list(probabilities)}, rows.index)


def measured(folder, rounds):
    """Seconds of each call, of one row."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/store.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("cell", f"file://{folder}/files"))
    names = [f"x{i}" for i in range(WIDTH)]
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(2000, WIDTH)), columns=names)
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    linear.fit(X, np.where(X["x0"] + X["x1"] > 0, "yes", "no"))
    package = folder / "linear.mk"
    mk.save(linear, package, example=X, name="linear", version="1")
    opened = mlflow.pyfunc.load_model(integration.log_model(package).model_uri)
    row = X[:1]
    answer = Ready(opened.predict(row))
    ready = mlflow.pyfunc.PyFuncModel(opened.metadata, answer)
    ready.predict(row)
    model = mk.load(package)
    graph = folder / "linear.onnx"
    graph.write_bytes(model.graph[0])
    session = mlflow.pyfunc.PyFuncModel(opened.metadata, Session(graph))
    called = open_logged(str(package), {"digest": mk.inspect(package).digest})
    rows, params = answer.passed
    mlflow.sklearn.save_model(
        linear,
        folder / "sklearn",
        input_example=X[:5],
        serialization_format="skops",
        pip_requirements=[],
    )
    theirs = mlflow.pyfunc.load_model(str(folder / "sklearn"))
    calls = {
        "pyfunc of the package": lambda: opened.predict(row),
        "MLflow's own part": lambda: ready.predict(row),
        "pyfunc of a bare session": lambda: session.predict(row),
        "the package's part": lambda: called.predict(rows, params),
        "mk.load(...).run": lambda: model.run(row),
        "pyfunc of MLflow's sklearn flavor": lambda: theirs.predict(row),
    }
    return cpu_of(calls, rounds)


def cpu_of(calls, rounds):
    """Median CPU seconds of each call; in every round each has its turn."""
    times = {what: [] for what in calls}
    for _ in range(rounds):
        for what, call in calls.items():
            call()
            start = time.thread_time()
            for _ in repeat(None, CALLS):
                call()
            times[what].append((time.thread_time() - start) / CALLS)
    return {what: statistics.median(own) for what, own in times.items()}


if __name__ == "__main__":
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="modelkit-bench-") as place:
        times = measured(Path(place), options.rounds)
    for what, took in times.items():
        print(f"{what:34} {took * 1e6:7.0f} us")
    added = times["the package's part"]
    verdict = "ok" if added <= MOST else "FAIL"
    print(f"a package adds {added * 1e6:.0f} us (at most {MOST * 1e6:.0f}): {verdict}")
    own = times["MLflow's own part"]
    for what in ("pyfunc of the package", "pyfunc of a bare session"):
        print(f"{what:34} {(times[what] - own) * 1e6:7.0f} us more than MLflow's own part")
