"""Replicas: two one-thread models beside two bare sessions, and what the death of one costs its callers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from benchmarks.common.cases import products
from benchmarks.common.measure import bare, judge, table

import modelkit as mk

TWO = 2
SECONDS, ROUNDS = 1.5, 7
DEATHS = 20


def replicas(args) -> str:
    """Two one-thread replicas of a model of about 10 ms, called by two threads, beside two bare sessions"""
    case = products()["10 ms"]
    rows = case.rows[:1]
    sessions = [bare(case.graph, 1) for _ in range(TWO)]
    (given,) = sessions[0].get_inputs()
    models = [mk.load(case.package, device="cpu", threads=1) for _ in range(TWO)]
    shared = mk.Replicas(models)
    calls: dict[str, list[Callable[[], object]]] = {
        "bare": [
            lambda session=session: session.run(None, {given.name: rows}) for session in sessions
        ],
        "replicas": [lambda: shared.predict(rows)] * TWO,
        "alone": [lambda: models[0].predict(rows)],
    }
    rates: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(max(3, round(ROUNDS * min(1, args.runs / 100)))):
        for name, threads in calls.items():
            rates[name].append(together(threads, SECONDS * min(1, args.runs / 100)))
    found = {name: np.array(values) for name, values in rates.items()}
    ratio = float(np.median(found["replicas"] / found["bare"]))
    errors, moved = deaths(case.package, rows)
    for model in models:
        model.close()
    lines = [
        [f"{name}, calls a second", f"{np.median(values):.1f}", "", ""]
        for name, values in found.items()
    ]
    lines += [
        ["replicas over bare", f"{ratio:.3f}", *judge(ratio, "at least", 0.95)],
        [
            f"errors of callers as a replica dies under load, {DEATHS} times",
            str(errors),
            *judge(errors, "at most", 0),
        ],
        ["of these, runs that were moved to the other replica", str(moved), "", ""],
    ]
    return table("what | figure | target | reached", lines)


def together(calls: list[Callable[[], object]], duration: float) -> float:
    """Calls a second of threads in closed loops."""
    done = [0] * len(calls)
    start = threading.Barrier(len(calls) + 1)
    end = [0.0]

    def work(place: int) -> None:
        calls[place]()
        start.wait()
        while time.perf_counter() < end[0]:
            calls[place]()
            done[place] += 1

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    end[0] = time.perf_counter() + duration + 60  # until the barrier is passed
    start.wait()
    began = time.perf_counter()
    end[0] = began + duration
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def deaths(package, rows: np.ndarray) -> tuple[int, int]:
    """Close one of two replicas as four threads call both: how many errors they see, and how many runs moved."""
    errors, moved = 0, 0
    for _ in range(DEATHS):
        models = [mk.load(package, device="cpu", threads=1) for _ in range(TWO)]
        shared = mk.Replicas(models)
        closed, seen = threading.Event(), []

        def work(shared=shared, closed=closed, seen=seen) -> None:
            left = 3  # calls after the death
            while left:
                left -= closed.is_set()
                try:
                    shared.predict(rows)
                except mk.errors.ModelkitError as error:
                    seen.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        while min(replica.calls for replica in shared.replicas) < 2:
            time.sleep(0.001)
        models[0].close()
        closed.set()
        for thread in threads:
            thread.join()
        errors += len(seen)
        moved += shared.replicas[0].failures
        models[1].close()
    return errors, moved
