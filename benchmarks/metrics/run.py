"""What counting and timing the calls of a model costs, and whether the counts are exact."""

import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from itertools import repeat
from pathlib import Path

from benchmarks.common.cases import FOLDER, save
from benchmarks.common.measure import command, judge, table
from benchmarks.metrics.watched import CALLS, OpenTelemetry, Prometheus, added, calling, one_row
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import scale

import modelkit as mk
from modelkit.integrations.prometheus import Collector
from modelkit.serving.metering import requests

LIBRARIES = ("onnxruntime", "prometheus-client", "opentelemetry-sdk")
THREADS, PROCESSES = 16, 8


@cache
def package(name="cancer", version="1"):
    X, y = load_breast_cancer(return_X_y=True)
    return save(LogisticRegression().fit(scale(X), y), f"{name}-{version}", scale(X))[0]


@cache
def model():
    return mk.load(package(), threads=1)


def folder():
    return tempfile.mkdtemp(dir=FOLDER)


def multiprocess_mode(rounds):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.metrics.watched", str(package()), str(rounds)],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": folder()},
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(map(float, done.stdout.split()))


def a_request():
    for _ in repeat(None, CALLS):
        requests.begun()
        requests.ended("/v2/models/{name}/infer", 200, 3e-5)


def nothing():
    for _ in repeat(None, CALLS):
        pass


def allowed(_principal, _action, _about):
    return True


def on_a_loop(batcher):
    row = one_row()

    async def calls():
        for _ in repeat(None, CALLS):
            await batcher.apredict(row)

    return lambda: asyncio.run(calls())


def cost(args):
    """What watching adds to a call, in microseconds"""
    watched = {
        "bare model": model(),
        "Meter": mk.Meter(model()),
        "Meter(spans=True), no span is recorded": mk.Meter(model(), spans=True),
        "Meter(shared=folder)": mk.Meter(model(), shared=folder()),
        "Guarded": mk.Guarded(model(), allowed),
        "prometheus_client": Prometheus(model()),
        "OpenTelemetry SDK": OpenTelemetry(model()),
    }
    limits = {"Meter": 0.3, "Meter(shared=folder)": 0.6, "Meter on an event loop": 0.8}
    limits |= {"Guarded": 0.3, "Guarded Rollout": 0.3}
    works = {name: calling(each) for name, each in watched.items()}
    times = added(works, args.rounds)
    times["prometheus_client, multiprocess mode"] = multiprocess_mode(args.rounds)
    with mk.Batcher(model()) as batcher:
        metered = {
            "bare Batcher on an event loop": batcher,
            "Meter on an event loop": mk.Meter(batcher),
        }
        times |= added({name: on_a_loop(each) for name, each in metered.items()}, args.rounds)
    with mk.Rollout(model(), mk.load(package(), threads=1), share=0.5) as rollout:
        rollout.rollback()
        guarded = {"bare Rollout": rollout, "Guarded Rollout": mk.Guarded(rollout, allowed)}
        times |= added({name: calling(each) for name, each in guarded.items()}, args.rounds)
    times |= added({"": nothing, "an HTTP request, counted": a_request}, args.rounds)
    del times[""]
    rows = [
        [name, f"{took:.2f}", f"{more:+.2f}", *judge(more, "at most", limits.get(name))]
        for name, (took, more) in times.items()
    ]
    return table("watched by | a call | added | target | reached", rows)


def exact(args):
    """Whether the counts are exact"""
    row = one_row()
    meter = mk.Meter(model())
    before = meter.totals().calls["ok"]

    def calls():
        for _ in repeat(None, args.calls):
            meter.predict(row)

    threads = [threading.Thread(target=calls) for _ in repeat(None, THREADS)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    by_threads = meter.totals().calls["ok"] - before
    made, by_processes = in_processes(row)
    rows = [
        [f"{THREADS} threads", f"{THREADS * args.calls}", f"{by_threads}"],
        [f"{PROCESSES} processes, killed in the middle of calls", f"{made}", f"{by_processes}"],
    ]
    return table("counted by | calls answered | counted", rows)


def in_processes(row):
    """Calls that were told as answered by processes, and those that are counted.

    A process that is killed may have counted one call more than it told.
    """
    shared = mk.Meter(model(), shared=folder())
    reads, writes = os.pipe()
    children = []
    for _ in range(PROCESSES):
        child = os.fork()
        if child == 0:
            while True:
                shared.predict(row)
                os.write(writes, b".")
        children.append(child)
    os.close(writes)
    made = 0
    while made < 20_000:
        made += len(os.read(reads, 1 << 16))
    for child in children:
        os.kill(child, signal.SIGKILL)
    while found := len(os.read(reads, 1 << 16)):
        made += found
    for child in children:
        os.waitpid(child, 0)
    os.close(reads)
    return made, shared.totals().calls["ok"]


def scrape(args):
    """A scrape, in milliseconds"""
    rows = []
    for count in (1, 10):
        for processes in (1, PROCESSES):
            shared = folder() if processes > 1 else None
            loaded = [mk.load(package(f"m{i}"), threads=1) for i in range(count)]
            meters = [mk.Meter(each, shared=shared) for each in loaded]
            children = [waiting_child(meters) for _ in range(processes - 1)]
            collector = Collector(*meters)
            times = [milliseconds(collector.text) for _ in range(args.rounds)]
            for _, writes in children:
                os.close(writes)
            for child, _ in children:  # each has the pipes of those before it
                os.waitpid(child, 0)
            took = statistics.median(times)
            name = f"{count} models" if count > 1 else "1 model"
            where = f"{processes} processes" if processes > 1 else "1 process"
            rows.append([f"{name}, {where}", f"{took:.2f}", *judge(took / count, "at most", 0.5)])
    return table("| a scrape | target for each model | reached", rows)


def waiting_child(meters):
    """A forked process that has counted, and waits until the other end is closed."""
    waits, writes = os.pipe()
    counted, tells = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writes)
        for meter in meters:
            meter.predict(one_row())
        os.write(tells, b".")
        os.read(waits, 1)
        os._exit(0)
    os.close(waits)
    os.close(tells)
    os.read(counted, 1)
    os.close(counted)
    return child, writes


def milliseconds(call):
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


SECTIONS = {section.__name__: section for section in (cost, exact, scrape)}


if __name__ == "__main__":
    try:
        command(__doc__, SECTIONS, LIBRARIES, "metrics", rounds=401, calls=5000)
    finally:
        shutil.rmtree(Path(FOLDER))
