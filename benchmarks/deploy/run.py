"""Weigh what serves one model, and time its start, beside BentoML, KServe and MLflow; print Markdown tables.

make bench NAME=deploy                                            both tables
.venv-bench-deploy/bin/python -m benchmarks.deploy.run --rounds 9  the same, with more starts
"""

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

os.environ |= {
    "ORT_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",
}

import numpy as np
from benchmarks.common.measure import command, table
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import modelkit as mk
from modelkit.integrations.deploy import exported

ROOT = Path(__file__).parents[2]
OWN = Path(sys.prefix)
RIVALS = ("bentoml", "kserve", "mlflow")
NAMES = {"modelkit": "modelkit", "bentoml": "BentoML", "kserve": "KServe", "mlflow": "MLflow"}
# What installs, which no image needs when it runs.
INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
PATIENCE = 120.0  # seconds in which a server has to answer
MLFLOW_MODEL = """
import sys, mlflow.sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
X, y = load_breast_cancer(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
mlflow.sklearn.save_model(model, sys.argv[1], serialization_format="cloudpickle")
"""


class Server(NamedTuple):
    """A command, the path that it answers, and what is asked."""

    command: list[object]
    path: str
    body: dict[str, object]


@cache
def folder() -> Path:
    """The model in the form that each server opens, and an environment of the exported requirements."""
    found = Path(tempfile.mkdtemp(prefix="modelkit-deploy-"))
    X, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    mk.save(model, found / "cancer.mk", example=X.astype(np.float32), name="cancer")
    with zipfile.ZipFile(found / "cancer.mk") as file:
        (found / "model.onnx").write_bytes(file.read("model/model.onnx"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = ["--find-links", str(found)]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", found, ROOT], check=True)
    needed = exported("docker", found / "cancer.mk")["requirements.txt"]
    (found / "requirements.txt").write_bytes(needed)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", found / "modelkit"], check=True)
    target = ["--python", found / "modelkit", "install", *wheels, "-r", found / "requirements.txt"]
    subprocess.run([*pip, *target], check=True)
    save = [home("mlflow") / "bin" / "python", "-c", MLFLOW_MODEL, found / "mlflow"]
    subprocess.run(save, check=True, capture_output=True)
    return found


def home(name: str) -> Path:
    """The environment of a server."""
    return folder() / "modelkit" if name == "modelkit" else Path(f"{OWN}-{name}")


def sizes(_: object) -> str:
    """What is installed to serve a linear model, without pip and setuptools, with and without .pyc"""
    rows = []
    for name, title in NAMES.items():
        (packages,) = (home(name) / "lib").glob("python*/site-packages")
        files = [
            path
            for path in packages.rglob("*")
            if path.is_file() and not path.relative_to(packages).parts[0].startswith(INSTALLERS)
        ]
        whole = sum(path.stat().st_size for path in files)
        source = sum(path.stat().st_size for path in files if path.suffix != ".pyc")
        count = sum(path.name == "METADATA" for path in files)
        rows.append([title, str(count), f"{whole / 2**20:.0f}", f"{source / 2**20:.0f}"])
    return table("server | packages | MiB | MiB without .pyc", rows)


def servers(port: int) -> dict[str, Server]:
    rows = load_breast_cancer().data[:1].tolist()
    tensor = {"name": "X", "shape": [1, 30], "datatype": "FP32", "data": rows[0]}
    v2: dict[str, object] = {"id": "1", "inputs": [tensor]}
    at = ["--port", port]
    bento = ["serve", "benchmarks.serving.rival_bentoml:Plain", *at, "--working-dir", ROOT]
    mlflow = ["models", "serve", "--env-manager", "local", "--model-uri", folder() / "mlflow", *at]
    path = "/v2/models/cancer/infer"
    return {
        "modelkit": Server(["modelkit", "serve", folder() / "cancer.mk", *at], path, v2),
        "bentoml": Server(["bentoml", *bento], "/infer", {"x": rows}),
        "kserve": Server(["python", "-m", "benchmarks.serving.rival_kserve"], path, v2),
        "mlflow": Server(["mlflow", *mlflow], "/invocations", {"inputs": rows}),
    }


def started(name: str) -> float:
    """Seconds from the start of a server's process to its first answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = servers(port)[name]
    own = {"PORT": str(port), "GRAPH": str(folder() / "model.onnx"), "PYTHONPATH": str(ROOT)}
    own["PATH"] = f"{home(name) / 'bin'}:{os.environ['PATH']}"
    program, *arguments = map(str, server.command)
    begun = time.perf_counter()
    process = subprocess.Popen(
        [home(name) / "bin" / program, *arguments],
        env=os.environ | own,
        cwd=folder(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return until_answered(port, server) - begun
    finally:
        os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def until_answered(port: int, server: Server) -> float:
    """When a request was answered for the first time."""
    url = f"http://127.0.0.1:{port}{server.path}"
    body, headers = json.dumps(server.body).encode(), {"content-type": "application/json"}
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10):
                return time.perf_counter()
        except OSError:
            time.sleep(0.01)
    raise TimeoutError(f"{server.command[0]} has not answered")


def starts(args: object) -> str:
    """From the start of the process to the first answer of a prediction, seconds; warm files, in turns"""
    rounds = int(args.rounds)  # type: ignore[attr-defined]
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    for turn in range(rounds + 1):
        for name in NAMES:
            seconds = started(name)
            if turn:  # the first one reads files from the disk
                times[name].append(seconds)
    rows = [
        [NAMES[name], f"{statistics.median(each):.2f}", f"{min(each):.2f} to {max(each):.2f}"]
        for name, each in times.items()
    ]
    return table("server | median | least and most", rows)


SECTIONS: dict[str, Callable[..., str]] = {"sizes": sizes, "starts": starts}

if __name__ == "__main__":
    try:
        command(__doc__, SECTIONS, ("numpy", "onnxruntime", "scikit-learn"), "deploy", rounds=5)
    finally:
        shutil.rmtree(folder(), ignore_errors=True)
