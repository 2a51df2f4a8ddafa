"""The registry: alias changes by processes that race and are killed, and what its calls take."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from benchmarks.common.cases import save
from benchmarks.common.measure import judge, log, seconds, table
from tests.helpers.buckets import STORES, why_not

import modelkit as mk

PROCESSES = 4
EVERY, SELDOM = 0.5, 2.0  # seconds between two kills: in a folder, and in a bucket
FEWER = 10  # times fewer changes in a bucket
COUNT = """
import sys
import modelkit as mk
registry = mk.Registry(sys.argv[1])
while True:
    now = registry.aliases("small")["count"]
    number = int(now.reason)
    if number >= int(sys.argv[2]):
        break
    try:
        registry.set_alias("small", "count", "1", expected=now.generation, reason=str(number + 1))
    except mk.errors.Conflict:
        pass
"""


def registry(args) -> str:
    """The registry: 4 processes that race for one alias and are killed, and what its calls take"""
    lines = []
    with tempfile.TemporaryDirectory(prefix="modelkit-registry-") as folder:
        where = registered(folder)
        lines += raced("folder", where, args.changes, EVERY)
        lines += timed(where, args.changes)
    for name, store in STORES.items():
        reason = why_not(name)
        if reason is not None:
            lines.append([f"{name}: not run", reason, "", ""])
            continue
        with (
            tempfile.TemporaryDirectory() as data,
            store(Path(data)) as (url, environment),
            added(environment),
        ):
            lines += raced(name, registered(url), max(1, args.changes // FEWER), SELDOM)
    return table("what | figure | target | reached", lines)


def registered(where: str) -> mk.Registry:
    """A registry with one small package."""
    place = mk.Registry(where)
    place.register(package())
    place.set_alias("small", "count", "1", expected=None, reason="0")
    return place


_PACKAGE: list[Path] = []


def package() -> Path:
    if not _PACKAGE:
        from sklearn.linear_model import LogisticRegression

        X = np.random.default_rng(0).normal(size=(60, 3))
        _PACKAGE.append(save(LogisticRegression().fit(X, X[:, 0] > 0), "small", X)[0])
    return _PACKAGE[0]


@contextmanager
def added(environment: dict[str, str]) -> Iterator[None]:
    """The environment with what opens a bucket."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def raced(name: str, place: mk.Registry, changes: int, every: float) -> list[list[str]]:
    """Count up to `changes` by the reasons of an alias, in four processes of which one is killed now and then."""
    command = [sys.executable, "-c", COUNT, place.url, str(changes)]
    rng, kills, began = random.Random(0), 0, time.perf_counter()
    workers = [subprocess.Popen(command) for _ in range(PROCESSES)]
    next_kill = began + 2 * every
    while any(worker.poll() is None for worker in workers):
        time.sleep(0.01)
        if time.perf_counter() < next_kill:
            continue
        next_kill = time.perf_counter() + every * (0.5 + rng.random())
        which = rng.randrange(PROCESSES)
        if workers[which].poll() is None:
            workers[which].send_signal(signal.SIGKILL)
            workers[which].wait()
            workers[which] = subprocess.Popen(command)
            kills += 1
    took = time.perf_counter() - began
    history = place.history("small")
    lost = changes + 1 - len(history)
    torn = [int(entry.reason) for entry in history] != [*range(len(history))]
    what = f"{name}: {changes:,} changes, {kills} processes killed, {took:.0f} s"
    log(f"  {what}")
    return [
        [f"{what}: lost", str(lost), *judge(abs(lost), "at most", 0)],
        [f"{name}: entries out of order or torn", str(int(torn)), *judge(int(torn), "at most", 0)],
    ]


def timed(place: mk.Registry, changes: int) -> list[list[str]]:
    """What a change, a look for news and a cold open take in a folder with a log of so many entries."""
    took = []
    for number in range(min(200, changes)):
        now = place.aliases("small")["count"]
        start = time.perf_counter()
        place.set_alias("small", "count", "1", expected=now.generation, reason=str(number))
        took.append(time.perf_counter() - start)
    poll = min(seconds(lambda: place.generation("small"), 1000) for _ in range(7))
    cold = mk.Registry(place.url)
    requests = counted(cold)
    start = time.perf_counter()
    cold.aliases("small")
    opened = time.perf_counter() - start
    entries = cold.generation("small")
    change, number = float(np.median(took)) * 1000, sum(requests.values()) - 1
    return [
        ["folder: an alias is set, ms", f"{change:.1f}", *judge(change, "at most", 10)],
        ["folder: a look for news, us", f"{poll * 1e6:.1f}", *judge(poll * 1e6, "at most", 5)],
        [
            f"requests of a cold open of {entries:,} entries",
            str(number),
            *judge(number, "at most", 20),
        ],
        ["the same in a folder, ms", f"{opened * 1000:.1f}", "", ""],
    ]


def counted(place: mk.Registry) -> Counter[str]:
    """Counts what a registry asks of its store; each is one request in a bucket."""
    found: Counter[str] = Counter()
    store = place._store  # what it asks for is the point

    class Counted:
        url, concurrent = store.url, store.concurrent

        def __getattr__(self, name: str):
            found[name] += 1
            return getattr(store, name)

    place._store = Counted()
    place._versions._store = place._store
    return found
