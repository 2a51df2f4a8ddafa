"""Equal models on CPUs that are not free: is the one with fewer calls, which is colder, rolled back as slow?"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from benchmarks.common.measure import judge, table
from onnx import TensorProto, helper

import modelkit as mk
from modelkit.lifecycle.rollout.counting import Counters
from modelkit.lifecycle.rollout.latency import Latency
from modelkit.lifecycle.rollout.trial import Trial
from modelkit.model.wrapper import Wrapper

WIDTH, LAYERS = 1024, 2  # 8 MiB of weights
SHARE, CLIENTS, TICK = 0.2, 3, 0.5
BUSY = 3  # processes beside the one that is measured
SECONDS = 11.0  # of a run
MATERIAL = {"0.01, the default": 0.01, "0.001": 0.001, "0": 0.0}
MILLISECOND = 1_000_000  # in nanoseconds

# It asks for an hour, so that nothing is promoted before the run ends.
STAGES = (mk.RolloutStage(SHARE, seconds=3600),)

Took = tuple[float, bool, int]  # when a call ended, whether the candidate answered, and nanoseconds


def overloaded(args) -> str:
    """Two equal MLPs of 8 MiB, share .2, three clients, busy CPUs: rolled back as slow at 1 %"""
    runs = max(1, args.runs // 100)
    found: Counter[str] = Counter()
    times: list[Took] = []
    load = []
    with tempfile.TemporaryDirectory(prefix="modelkit-overloaded-") as folder, busy(BUSY):
        path = saved(Path(folder))
        for _ in range(runs):
            decision, took = rollout_of(path, SECONDS)
            load.append(os.getloadavg()[0])
            times += took
            found["0.01, the default"] += decision == "rollback"
            for name in list(MATERIAL)[1:]:
                found[name] += replayed(took, MATERIAL[name]) == "rollback"
    lines = []
    for place, name in enumerate(MATERIAL):
        wrong = found[name]
        limit = None if place else 0
        lines.append([name, f"{wrong} of {runs}", *judge(wrong, "at most", limit)])
    return f"{table('material, s | rolled back | target | reached', lines)}\n\n{about(times, load)}"


def about(times: list[Took], load: list[float]) -> str:
    """How long calls took in either arm, in milliseconds, and how busy the CPUs were."""
    parts = []
    for name, chosen in (("champion", False), ("candidate", True)):
        took = np.array([each for _, candidate, each in times if candidate == chosen])
        tenth, half, most = np.quantile(took / MILLISECOND, (0.1, 0.5, 0.9))
        parts.append(f"{name} {tenth:.2f}, {half:.2f}, {most:.1f} ms of {len(took):,} calls")
    return f"Quantiles of 10, 50 and 90 %: {'; '.join(parts)}. Load {min(load):.1f} to {max(load):.1f}."


def saved(folder: Path) -> Path:
    """The package of a network of 8 MiB."""
    rng = np.random.default_rng(0)
    nodes = []
    weights = []
    last = "X"
    for layer in range(LAYERS):
        values = rng.normal(0, (2 / WIDTH) ** 0.5, (WIDTH, WIDTH)).astype(np.float32)
        name = f"w{layer}"
        raw = values.tobytes()
        weights.append(helper.make_tensor(name, TensorProto.FLOAT, values.shape, raw, raw=True))
        nodes.append(helper.make_node("MatMul", [last, name], [f"m{layer}"]))
        last = f"r{layer}"
        nodes.append(helper.make_node("Relu", [f"m{layer}"], [last]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH])
        for name in ("X", last)
    ]
    graph = helper.make_graph(nodes, "network", ends[:1], ends[1:], weights)
    opset = helper.make_opsetid("", 19)
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    path = folder / "network.mk"
    mk.save(proto, path, name="network", version="1")
    return path


class Timed(Wrapper):
    """Notes how long each call took."""

    _acall = None  # only the sync verbs are called

    def __init__(self, inner: mk.Model, times: list[Took], *, candidate: bool) -> None:
        super().__init__(inner)
        self._times = times
        self._is_candidate = candidate

    def _call(self, X, outputs, call):
        began = time.perf_counter_ns()
        answers = self._inner._call(X, outputs, call)
        ended = time.perf_counter_ns()
        self._times.append((ended / 1e9, self._is_candidate, ended - began))
        return answers


def rollout_of(path: Path, seconds: float) -> tuple[str, list[Took]]:
    """What becomes of a rollout of two equal models, and how long its calls took."""
    times: list[Took] = []
    models = [mk.load(path, device="cpu", threads=1) for _ in range(2)]
    batchers = [mk.Batcher(model) for model in models]
    arms = [
        Timed(mk.Meter(batcher), times, candidate=bool(place))
        for place, batcher in enumerate(batchers)
    ]
    rollout = mk.Rollout(*arms, policy=mk.RolloutPolicy(STAGES, (mk.Guard("slow"),), tick=TICK))
    stop = threading.Event()
    clients = [
        threading.Thread(target=ask, args=(rollout, stop, number)) for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    stop.wait(seconds)
    stop.set()
    for client in clients:
        client.join()
    decision = rollout.status().decision
    rollout.close()
    for each in (*batchers, *models):
        each.close()
    return decision, times


def ask(rollout: mk.Rollout, stop: threading.Event, number: int) -> None:
    row = np.random.default_rng(number).normal(size=(1, WIDTH)).astype(np.float32)
    while not stop.is_set():
        rollout.run(row)


def replayed(times: list[Took], material: float) -> str:
    """What the same calls would have come to with another floor of latency."""
    guard = mk.Guard("slow", material=material)
    policy = mk.RolloutPolicy(STAGES, guards=(guard,), tick=TICK)
    counters = Counters(policy, Latency(policy.guards, random.Random(0).random))
    ordered = sorted(times)
    began = ordered[0][0]
    trial = Trial(policy, 0.0)
    due = TICK
    for when, candidate, took in ordered:
        if when - began >= due:
            trial.tick(counters.collect(), due)
            due += TICK
        counters.answered(counters.begin(None, candidate), {}, took)
    return trial.decision.kind


SPIN = """
import os, time
parent = os.getppid()
while os.getppid() == parent:
    until = time.monotonic() + 2
    while time.monotonic() < until:
        sum(range(10**5))
    time.sleep(1)
"""


@contextmanager
def busy(count: int):
    """So many processes that compute for two seconds of three, and end with this one at the latest.

    So a call is often judged by thresholds of a time when the CPUs were free.
    """
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
