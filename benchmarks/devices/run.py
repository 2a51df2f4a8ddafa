"""Measure several processes that share the cores, each with a session of its own, and print Markdown tables.

make bench NAME=devices                              every section
.venv/bin/python -m benchmarks.devices.run --write  the same, and write benchmarks/results/devices.md

`devices.py worker CONTENDER GRAPH PACKAGE ROWS OUTPUT SECONDS` is one of the processes.
"""

import argparse
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

os.environ |= {"ORT_DISABLE_TELEMETRY": "1"}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import numpy as np
from benchmarks.common.measure import bare, judge, log, report, table, write

import modelkit as mk

LIBRARIES = ("numpy", "onnxruntime", "onnx", "scikit-learn")
PROCESSES, BATCH, ROUNDS, SECONDS = 4, 32, 7, 2.0
DEFAULT, SINGLE, UNTOLD, TOLD = (
    "bare, default",
    "bare, 1 thread",
    "modelkit, not told",
    "modelkit, told of 4",
)
CONTENDERS = (DEFAULT, SINGLE, UNTOLD, TOLD)


def work(contender: str, graph: str, package: str, rows: str, output: str, seconds: str) -> None:
    """Say that all is loaded, wait for the others, and print the microseconds of each call."""
    x = np.load(rows)
    if contender.startswith("bare"):
        session = bare(Path(graph), 1 if contender == SINGLE else 0)
        call = partial(session.run, [output], {session.get_inputs()[0].name: x})
    else:
        model = mk.load(package, device="cpu")
        call = partial(model.predict_proba if output == "probabilities" else model.predict, x)
    for _ in range(20):
        call()
    print("ready", flush=True)
    sys.stdin.readline()
    times, now = [], time.perf_counter()
    end = now + float(seconds)
    while now < end:
        call()
        before, now = now, time.perf_counter()
        times.append(now - before)
    print(*(round(t * 1e6) for t in times))


def together(contender: str, *arguments: object) -> tuple[float, float]:
    """Rows a second of all processes together, and the p99 of their calls in milliseconds."""
    told = {"WEB_CONCURRENCY": str(PROCESSES)} if contender == TOLD else {}
    environment = {
        name: value for name, value in os.environ.items() if name != "WEB_CONCURRENCY"
    } | told
    module = "benchmarks.devices.run"
    told_to = ["worker", contender, *map(str, arguments), str(SECONDS)]
    command = [sys.executable, "-m", module, *told_to]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    children = [subprocess.Popen(command, **pipes) for _ in range(PROCESSES)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    times = [np.array(child.communicate()[0].split(), float) for child in children]
    rate = sum(BATCH * len(part) / part.sum() * 1e6 for part in times)
    return rate, float(np.quantile(np.concatenate(times), 0.99)) / 1000


def cases() -> dict[str, tuple[Path, Path, np.ndarray, str]]:
    """Graph, package, rows and output of each model."""
    from benchmarks.common.cases import classifiers, dense

    trained = classifiers()
    found = {
        name: (trained[name].graph, trained[name].package, trained[name].rows, "probabilities")
        for name in ("MLP 128-512-256-10", "GradientBoosting, 200 trees")
    }
    rows = np.random.default_rng(0).normal(size=(BATCH, 256)).astype(np.float32)
    graph, package = dense("raw_data")
    return found | {"dense, 192 layers, 48 MiB": (graph, package, rows, "r191")}


def processes() -> str:
    """Four processes, each with a model of its own; batches of 32"""
    from benchmarks.common.cases import FOLDER

    rows = []
    for name, (graph, package, x, output) in cases().items():
        np.save(FOLDER / "rows.npy", x[:BATCH])
        figures = {contender: [] for contender in CONTENDERS}
        for _ in range(ROUNDS):
            for contender in CONTENDERS:
                figures[contender].append(
                    together(contender, graph, package, FOLDER / "rows.npy", output)
                )
        base = np.array(figures[DEFAULT])
        for contender, pairs in figures.items():
            rate, p99 = np.median(pairs, axis=0)
            faster, shorter = np.median(np.array(pairs) / base, axis=0)
            wanted = 1.8 if contender == TOLD and name.startswith("MLP") else None
            cells = [f"{rate / 1000:.1f}", f"{faster:.2f}", *judge(faster, "at least", wanted)]
            rows.append([f"{name}: {contender}", *cells, f"{p99:.2f}", f"{1 / shorter:.1f}"])
            log(f"  {rows[-1]}")
    header = "| thousand rows/s | of bare, default | target | reached | p99, ms | times shorter"
    return table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/devices.md")
    args = parser.parse_args()
    text = report([processes], LIBRARIES)
    print(text)
    if args.write:
        write(text, "devices")


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        work(*sys.argv[2:])
    else:
        main()
