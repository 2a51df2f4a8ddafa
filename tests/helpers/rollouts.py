"""Models and clocks for the tests of rollouts."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import numpy as np

import modelkit as mk
from helpers.processes import PATIENCE
from modelkit.lifecycle.rollout.latency import A_SECOND
from modelkit.lifecycle.rollout.ledger import RegistryLedger

COLUMNS = tuple(mk.Column(f"c{i}") for i in range(3))
SIGNATURE = mk.Signature(
    (mk.TensorSpec("X", "float64", ("batch", 3), COLUMNS),),
    (mk.TensorSpec("y", "float64", ("batch",)), mk.TensorSpec("who", "int64", ("batch",))),
    primary="y",
)
NUMBERS = ("1", "2", "3")
ROWS = np.arange(9.0).reshape(3, 3)
# Two processes of `modelkit serve` that soon see what a registry says, and stop at once.
FOLLOWED_BY_TWO = ("--poll", "0.05", "--workers", "2", "--drain", "0")


class Clock:
    """A clock in nanoseconds that goes when it is told to."""

    def __init__(self):
        self.now = A_SECOND

    def __call__(self):
        return self.now

    def go(self, seconds):
        self.now += int(seconds * A_SECOND)


def model(number, spoil=None, signature=SIGNATURE):
    """A model that says its number, and may spoil a run: `spoil(feeds)` raises or gives outputs."""

    def fn(feeds):
        X = feeds["X"]
        answer = {"y": X.sum(axis=1), "who": np.full(len(X), number)}
        if spoil is not None:
            answer.update(spoil(feeds) or {})
        return answer

    return mk.FunctionModel(fn, signature)


def fail(feeds):
    raise RuntimeError("it broke")


def nan(feeds):
    return {"y": np.full(len(feeds["X"]), np.nan)}


def tick(rollout, clock, calls=0, key=None):
    """Make calls, and let a tick pass."""
    for _ in range(calls):
        with suppress(RuntimeError):
            rollout.run(ROWS, key=key)
    clock.go(10)
    return rollout.status()


def save_numbered(folder):
    """Packages of three versions of "m", which answer with their number."""
    from sklearn.linear_model import LinearRegression

    folder.mkdir(exist_ok=True)
    for version in NUMBERS:
        estimator = LinearRegression().fit(np.eye(3), np.full(3, float(version)))
        mk.save(estimator, folder / f"{version}.mk", example=np.eye(3), name="m", version=version)
    return folder


def registry_of_numbers(packages, where):
    """A registry of all three versions, the first of which is the champion."""
    registry = mk.Registry(where)
    for version in NUMBERS:
        registry.register(packages / f"{version}.mk")
    registry.set_alias("m", "champion", "1", expected=None, reason="first")
    return registry


def who(rollout, key=None):
    """The number of the model that answers."""
    return int(rollout.run(ROWS, key=key)["who"][0])


def until(condition, what="it did not happen in time"):
    """Ask again until it is so, which takes as long as the machine is busy."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what


def ledger_on(folder, process="", stages=9, stage=8):
    """The ledger of a rollout that keeps its files in this folder, and is in this stage."""
    registry = SimpleNamespace(
        rollout_folder=lambda *_: folder, log=lambda _: SimpleNamespace(check=lambda: None)
    )
    rollout = SimpleNamespace(stage=stage, candidate="2")
    policy = SimpleNamespace(stages=(None,) * stages, tick=10.0)
    return RegistryLedger(registry, "m", rollout, policy, process)


def next_sum(ledger):
    """The next sum that was not read yet, or None."""
    return next(ledger.read(), None)


class Load:
    """Threads and coroutines that ask for all the time, and note what is wrong."""

    def __init__(self, rollout, rows, sound, *, threads, coroutines):
        self.rollout = rollout
        self.rows = rows
        self.sound = sound
        self.coroutines = coroutines
        self.stop = threading.Event()
        self.calls = [0] * (threads + 1)
        self.wrong = []
        self.threads = [
            threading.Thread(target=self.thread, args=(place,)) for place in range(threads)
        ]
        self.threads.append(threading.Thread(target=lambda: asyncio.run(self.loop())))

    def look(self, answers, place):
        if not self.sound(answers):
            self.wrong.append(answers)
        self.calls[place] += 1

    def thread(self, place):
        try:
            while not self.stop.is_set():
                self.look(self.rollout.run(self.rows, key=f"k{self.calls[place] % 50}"), place)
        except BaseException as error:
            self.wrong.append(error)
            raise

    async def coroutine(self):
        while not self.stop.is_set():
            self.look(await self.rollout.arun(self.rows), -1)
            await asyncio.sleep(0)

    async def loop(self):
        tasks = [self.coroutine() for _ in range(self.coroutines)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        self.wrong += [error for error in found if error is not None]

    def __enter__(self):
        self.interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        sys.setswitchinterval(self.interval)


def ask(rollout, key=None, number=0):
    try:
        return rollout.run(np.array([[float(number), 0.0, 0.0]]), key=key)
    except RuntimeError:
        return None


class Strict(mk.Wrapper):
    """Notices when it is asked, or still at work, after it was closed."""

    __slots__ = ("__weakref__", "open")

    def __init__(self, inner):
        super().__init__(inner)
        self.open = True

    def _call(self, X, outputs, call):
        assert self.open
        answers = self._inner._call(X, outputs, call)
        assert self.open
        return answers

    async def _acall(self, X, outputs, call):
        assert self.open
        await asyncio.sleep(0)
        answers = self._inner._call(X, outputs, call)
        assert self.open
        return answers
