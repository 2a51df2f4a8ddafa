"""How contenders treat the other callers of a batch, and a machine at rest.

`manners.py MODE CONTENDER` answers a few hundred calls, says so, and rests: its parent counts how
often it wakes up.
"""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from benchmarks.batching.contenders import LOOP, THREADS, Make, Subject, contenders

import modelkit as mk

PAUSE = 0.03  # seconds that a run takes, so that calls gather meanwhile
PATIENCE = 2.0  # seconds after which a call that is not answered counts as lost
POISON = -1.0
SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float32", ("n", 4)),), (mk.TensorSpec("y", "float32", ("n",)),)
)


def subject_of(run: Callable[[np.ndarray], np.ndarray], rows: int) -> Subject:
    model = mk.FunctionModel(lambda feeds: {"y": run(feeds["x"])}, SIGNATURE, batchable=True)
    return Subject(run, model, [np.full((1, 4), value, np.float32) for value in range(rows)])


def add(block: np.ndarray) -> np.ndarray:
    return block.sum(1)


def picky(block: np.ndarray) -> np.ndarray:
    time.sleep(PAUSE)
    if (block == POISON).any():
        raise ValueError("poison")
    return add(block)


def victims_in_threads(make: Make, callers: int, bad: int) -> int:
    """How many of the other callers got no answer, or a wrong one, since the row of one is poison."""
    subject, answers = subject_of(picky, callers), dict.fromkeys(range(callers))
    subject.rows[bad] = np.full((1, 4), POISON, np.float32)
    with make(subject) as contender:

        def work(caller):
            answers[caller] = float(np.squeeze(contender.call(subject.rows[caller])))

        def work_quietly(caller):
            try:
                work(caller)
            except Exception:  # whatever it is, there is no answer
                answers[caller] = None

        first = threading.Thread(
            target=contender.call, args=(np.zeros((1, 4), np.float32),), daemon=True
        )
        threads = [
            threading.Thread(target=work_quietly, args=(caller,), daemon=True)
            for caller in range(callers)
        ]
        first.start()
        time.sleep(PAUSE / 3)
        end = time.monotonic() + PATIENCE
        for thread in threads:
            thread.start()
        for thread in [first, *threads]:
            thread.join(max(0, end - time.monotonic()))
    return sum(answers[caller] != 4 * caller for caller in range(callers) if caller != bad)


async def victims_on_loop(make: Make, callers: int, bad: int, *, cancel: bool) -> int:
    """The same on a loop; with `cancel`, one caller is cancelled while its batch runs."""
    subject = subject_of(picky, callers)
    if not cancel:
        subject.rows[bad] = np.full((1, 4), POISON, np.float32)
    with make(subject) as contender:
        first = asyncio.ensure_future(contender.call(np.zeros((1, 4), np.float32)))
        await asyncio.sleep(PAUSE / 3)
        tasks = [asyncio.ensure_future(contender.call(row)) for row in subject.rows]
        if cancel:
            await asyncio.sleep(PAUSE * 1.3)
            tasks[bad].cancel()
        await asyncio.wait([first, *tasks], timeout=PATIENCE)
        victims = 0
        for caller, task in enumerate(tasks):
            answered = task.done() and not task.cancelled() and task.exception() is None
            if caller != bad and not (answered and np.squeeze(task.result()) == 4 * caller):
                victims += 1
        for task in [first, *tasks]:
            task.cancel()
        await asyncio.wait([first, *tasks], timeout=PATIENCE)
    return victims


def at_rest(mode: str, name: str, seconds: float = 2.0) -> tuple[float, float]:
    """How often a process wakes up in a second and what part of a core it uses, when it has nothing to do any more."""
    command = [sys.executable, "-m", "benchmarks.batching.manners", mode, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        time.sleep(0.5)
        before = wakeups(child.pid), sum(psutil.Process(child.pid).cpu_times()[:2])
        time.sleep(seconds)
        after = wakeups(child.pid), sum(psutil.Process(child.pid).cpu_times()[:2])
        child.kill()
    return (after[0] - before[0]) / seconds, (after[1] - before[1]) / seconds


def wakeups(pid: int) -> int:
    """How often the threads of a process went to sleep so far."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = status.read_text().splitlines()
        total += next(
            int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches")
        )
    return total


def rest_in_threads(make: Make) -> None:
    subject = subject_of(add, 8)
    with make(subject) as contender:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(contender.call, subject.rows * 25))
        print("at rest", flush=True)
        sys.stdin.read()


async def rest_on_loop(make: Make) -> None:
    subject = subject_of(add, 8)
    with make(subject) as contender:
        for _ in range(25):
            await asyncio.gather(*map(contender.call, subject.rows))
        print("at rest", flush=True)
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    mode, name = sys.argv[1:]
    make = contenders(mode)[name]
    if mode == LOOP:
        asyncio.run(rest_on_loop(make))
    elif mode == THREADS:
        rest_in_threads(make)
