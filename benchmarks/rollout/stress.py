"""Millions of calls while the model is swapped thousands of times: is one lost, mixed, or a version kept?"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import tempfile
import threading
import time
import weakref
from collections import Counter
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Self

import numpy as np
import onnx
from benchmarks.common.measure import judge, log, table
from onnx import TensorProto, helper

import modelkit as mk
from modelkit.model.wrapper import Wrapper

THREADS, COROUTINES = 8, 1_000
CALLS, SWAPS = 5_000, 3  # for each of the `--runs`
CANCELLED = 50  # of so many calls of coroutines, one is cancelled
VERSIONS = 12
NAME = "versions"
APART = 10_000  # between the answers of one version and those of the next
ROOM = 30.0  # seconds in which the last calls end
FLAT = 32.0  # MiB
POLICY = mk.RolloutPolicy((mk.RolloutStage(0.5),), guards=(mk.Guard("errors"),), tick=0.2)


def stress(args) -> str:
    """Hot swaps under 8 threads and 1,000 coroutines, with versions that say who they are"""
    calls, swaps = CALLS * args.runs, SWAPS * args.runs
    with tempfile.TemporaryDirectory(prefix="modelkit-stress-") as folder:
        swapped = Swapped(registered(Path(folder)))
        began = time.perf_counter()
        with switching_often(), Load(swapped.rollout) as load:
            memory = swapped.swap(load, calls, swaps)
        took = time.perf_counter() - began
        alive = [swapped.alive(), swapped.close()]
    lines = [
        ["calls that were answered", f"{load.calls:,}", *judge(load.calls, "at least", calls)],
        ["swaps", f"{swapped.swaps:,}", *judge(swapped.swaps, "at least", swaps)],
        ["of these, promotions and rollbacks of rollouts", f"{swapped.by_rollout:,}", "", ""],
        ["calls that failed", f"{load.failed.total():,}", *judge(load.failed.total(), "at most", 0)],
        ["answers of two versions", f"{load.mixed:,}", *judge(load.mixed, "at most", 0)],
        ["calls that met a closed model", f"{swapped.met:,}", *judge(swapped.met, "at most", 0)],
        ["calls that their callers cancelled", f"{load.cancelled:,}", "", ""],
        ["versions that were opened", f"{len(swapped.opened):,}", "", ""],
        ["of these, in memory at the end, with one kept warm", f"{alive[0]}", *judge(alive[0], "at most", 2)],
        ["of these, after `close`", f"{alive[1]}", *judge(alive[1], "at most", 0)],
        ["MiB more than at a third of the swaps", f"{memory:.1f}", *judge(memory, "at most", FLAT)],
        ["seconds", f"{took:,.0f}", "", ""],
    ]  # fmt: skip
    for error, count in load.failed.most_common(5):
        log(f"  {count} times {error}")
    return table("what | figure | target | reached", lines)


def registered(folder: Path) -> mk.Registry:
    """A registry of versions, each of which answers by its number."""
    registry = mk.Registry(folder / "registry")
    for number in range(1, VERSIONS + 1):
        path = folder / f"{number}.mk"
        mk.save(graph(number), path, name=NAME, version=str(number))
        registry.register(path)
    registry.set_alias(NAME, "champion", "1", expected=None, reason="first")
    return registry


def graph(number: int) -> onnx.ModelProto:
    """Adds `number * APART` to a row, and says its number beside it."""
    weights = [
        helper.make_tensor("added", TensorProto.FLOAT, [1], [float(number * APART)]),
        helper.make_tensor("number", TensorProto.FLOAT, [1], [float(number)]),
        helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0]),
    ]
    nodes = [
        helper.make_node("Add", ["X", "added"], ["y"]),
        helper.make_node("Mul", ["X", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "number"], ["version"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])
        for name in ("X", "y", "version")
    ]
    whole = helper.make_graph(nodes, "versions", ends[:1], ends[1:], weights)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


class Watched(Wrapper):
    """Notices a call that comes, or is under way, after it was closed."""

    __slots__ = ("__weakref__", "_met", "_open")

    def __init__(self, model: mk.Model, met: list[str]) -> None:
        super().__init__(model)
        self._met = met
        self._open = True

    def _call(self, X, outputs, call):
        self._look()
        answers = self._inner._call(X, outputs, call)
        self._look()
        return answers

    async def _acall(self, X, outputs, call):
        self._look()
        answers = await self._inner._acall(X, outputs, call)
        self._look()
        return answers

    def _look(self) -> None:
        if not self._open:
            self._met.append(self.manifest.version)

    def close(self) -> None:
        self._open = False


class Swapped:
    """A Rollout that follows a registry, and whoever changes what it names."""

    def __init__(self, registry: mk.Registry) -> None:
        self.registry = registry
        self.opened: list[weakref.ref[Watched]] = []
        self.swaps = 0
        self.by_rollout = 0
        self._met: list[str] = []
        self._plan = None
        self._random = random.Random(0)
        self.rollout = mk.Rollout(
            registry, NAME, wrap=self._wrap, keep=1, poll=1.0, device="cpu", threads=1
        )

    @property
    def met(self) -> int:
        return len(self._met)

    def _wrap(self, model: mk.Model) -> mk.Model:
        plan = {} if self._plan is None else {"plan": self._plan}  # it is measured once
        batcher = mk.Batcher(model, **plan)
        self._plan = batcher.plan
        watched = Watched(batcher, self._met)
        self.opened.append(weakref.ref(watched))
        return watched

    def swap(self, load: Load, calls: int, swaps: int) -> float:
        """Swap as the calls go on, evenly; returns how many MiB the last two thirds took."""
        before = 0.0
        while self.swaps < swaps or load.calls < calls:
            if self.swaps * calls >= load.calls * swaps:
                time.sleep(0.001)
                continue
            if self.swaps % 5 == 4:
                self.try_one()
            else:
                self.set_alias()
            self.rollout.refresh()
            self.swaps += 1
            if self.swaps == swaps // 3:
                before = resident()
            if self.swaps % max(1, swaps // 20) == 0:
                log(f"  {self.swaps:,} swaps, {load.calls:,} calls, {resident():.0f} MiB")
        return resident() - before

    def set_alias(self) -> None:
        """Let the alias name another version, rolled back or not."""
        another = self.another()
        self.registry.set_alias(
            NAME, "champion", another, expected=self.now, reason="a swap", force=True
        )

    def try_one(self) -> None:
        """Let another version answer a half, and then promote it or roll it back."""
        another = self.another()
        self.registry.start_rollout(NAME, another, POLICY, reason="a trial", force=True)
        self.rollout.refresh()
        if self._random.random() < 0.5:
            self.rollout.promote()
        else:
            self.rollout.rollback()
        self.by_rollout += 1

    @property
    def now(self) -> str:
        return self.registry.aliases(NAME)["champion"].version

    def another(self) -> str:
        others = [str(number) for number in range(1, VERSIONS + 1) if str(number) != self.now]
        return self._random.choice(others)

    def alive(self) -> int:
        """How many versions are in memory when the last calls have ended."""
        end = time.monotonic() + ROOM
        while (alive := self._alive()) > 2 and time.monotonic() < end:
            time.sleep(0.05)
        return alive

    def close(self) -> int:
        """Close and drop it; returns how many versions are in memory then."""
        self.rollout.close()
        del self.rollout
        end = time.monotonic() + ROOM
        while (alive := self._alive()) and time.monotonic() < end:
            time.sleep(0.05)
        return alive

    def _alive(self) -> int:
        gc.collect()
        return sum(each() is not None for each in self.opened)


class Load:
    """Threads and coroutines that ask all the time, and check each answer."""

    def __init__(self, rollout: mk.Rollout) -> None:
        self.rollout = rollout
        self.mixed = 0
        self.cancelled = 0
        self.failed: Counter[str] = Counter()
        self._stop = threading.Event()
        self._calls = [0] * (THREADS + 1)
        self._threads = [
            threading.Thread(target=self._thread, args=(place,)) for place in range(THREADS)
        ]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._loop())))

    @property
    def calls(self) -> int:
        return sum(self._calls)

    def _check(self, answers, rows: np.ndarray, place: int) -> None:
        version = answers["version"]
        number = float(answers.served_by.version)
        of_one = (version == number).all() and (answers["y"] - rows == number * APART).all()
        self.mixed += not (of_one and len(version) == len(rows))
        self._calls[place] += 1

    def _thread(self, place: int) -> None:
        rng = random.Random(place)
        while not self._stop.is_set():
            rows = rows_of(rng)
            try:
                answers = self.rollout.run(rows, key=key_of(rng))
                self._check(answers, rows, place)
            except Exception as error:  # they are counted
                self.failed[repr(error)] += 1

    async def _loop(self) -> None:
        await asyncio.gather(*(self._coroutine(number) for number in range(COROUTINES)))

    async def _coroutine(self, number: int) -> None:
        rng = random.Random(100 + number)
        while not self._stop.is_set():
            rows = rows_of(rng)
            try:
                asked = self.rollout.arun(rows, key=key_of(rng))
                if rng.randrange(CANCELLED):
                    self._check(await asked, rows, -1)
                else:
                    await self._cancel(asked, rows, rng)
            except Exception as error:
                self.failed[repr(error)] += 1

    async def _cancel(self, asked, rows: np.ndarray, rng: random.Random) -> None:
        """Give up after no, one or two steps of the loop, which may be too late."""
        task = asyncio.create_task(asked)
        for _ in repeat(None, rng.randrange(3)):
            await asyncio.sleep(0)
        task.cancel()
        try:
            self._check(await task, rows, -1)
        except asyncio.CancelledError:
            self.cancelled += 1

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        del self.rollout


def rows_of(rng: random.Random) -> np.ndarray:
    """One to three rows of a number of their own, which is exact in float32."""
    return np.full((rng.randrange(1, 4), 1), rng.randrange(APART), np.float32)


def key_of(rng: random.Random) -> str | None:
    """A key, or none."""
    return f"customer-{rng.randrange(5_000)}" if rng.randrange(2) else None


@contextmanager
def switching_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def resident() -> float:
    """MiB of memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
