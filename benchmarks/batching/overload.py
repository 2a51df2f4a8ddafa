"""More calls than a model can answer, each with a deadline: how many are in time of those that could be.

python benchmarks/batching/overload.py    the table alone, of modelkit as it is installed or on PYTHONPATH
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
from benchmarks.common.measure import judge, log, table

import modelkit as mk
from modelkit.errors import BatchError

clock = time.perf_counter
START, ROW, MOST = 5e-3, 1e-3, 8  # seconds of a run, and of each of its rows, of at most so many
CAPACITY = MOST / (START + MOST * ROW)  # rows a second at best
DEADLINE = 0.05
GRACE = 2e-3  # seconds in which a task goes on that was answered in time
SECONDS = 4.0
THREADS = 150
LEAST = {0.8: 0.95, 1.2: 0.95, 1.5: 0.95, 3.0: 0.6}  # of what can be in time, by load
SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float32", ("n", 2)),), (mk.TensorSpec("y", "float32", ("n", 2)),)
)
X = np.ones((1, 2), np.float32)


class Sleeper:
    """A model that sleeps. On a busy machine it oversleeps, which `capacity` counts with."""

    def __init__(self) -> None:
        self.runs = 0
        self.seconds = 0.0

    def __call__(self, feeds: dict) -> dict:
        rows = len(feeds["x"])
        begun = clock()
        time.sleep(START + ROW * rows)
        if rows == MOST:
            self.runs += 1
            self.seconds += clock() - begun
        return {"y": feeds["x"]}

    def capacity(self) -> float:
        """Rows a second in full batches without a pause."""
        return MOST * self.runs / self.seconds if self.runs else CAPACITY


def moments(load: float, callers: int, seed: int) -> Iterator[float]:
    """When one of so many callers calls, in seconds from the start."""
    pauses = np.random.default_rng(seed)
    at = 0.0
    while (at := at + pauses.exponential(callers / (load * CAPACITY))) < SECONDS:
        yield at


async def on_loop(batcher: mk.Batcher, load: float) -> Counter:
    """Each call is a task, sent at a random moment whatever became of those before."""
    found = Counter()

    async def call() -> None:
        begun = clock()
        try:
            await batcher.apredict(X, deadline=DEADLINE)
            found["in time" if clock() - begun <= DEADLINE + GRACE else "late"] += 1
        except BatchError:
            found["refused"] += 1

    await asyncio.gather(*(batcher.apredict(X) for _ in range(300)))  # it learns what runs take
    tasks = []
    begin = clock()
    for at in moments(load, 1, 0):
        while (wait := begin + at - clock()) > 0:  # there is no event but the time
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(call()))
    await asyncio.gather(*tasks)
    return found


def in_threads(batcher: mk.Batcher, load: float) -> Counter:
    """As many threads, each of which calls at random moments unless it still waits for its last answer."""
    found = Counter()
    lock = threading.Lock()

    def call(caller: int) -> None:
        for at in moments(load, THREADS, caller):
            wait = begin + at - clock()
            if wait > 0:
                time.sleep(wait)
            begun = clock()
            if begun > begin + SECONDS:
                return
            try:
                batcher.predict(X, deadline=DEADLINE)
                what = "in time" if clock() - begun <= DEADLINE + GRACE else "late"
            except BatchError:
                what = "refused"
            with lock:
                found[what] += 1

    for future in [batcher.submit(X) for _ in range(300)]:
        future.result()
    begin = clock()
    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def overload() -> str:
    rows = []
    for mode in ("event loop", "threads"):
        for load, least in LEAST.items():
            sleeper = Sleeper()
            model = mk.FunctionModel(sleeper, SIGNATURE, batchable=True)
            with mk.Batcher(model, max_rows=MOST) as batcher:
                found = (
                    asyncio.run(on_loop(batcher, load))
                    if mode == "event loop"
                    else in_threads(batcher, load)
                )
            could = min(found.total(), sleeper.capacity() * (SECONDS + DEADLINE))
            part = found["in time"] / could
            log(f"  {mode}, {load}: {dict(found)}, {part:.0%}")
            counts = [f"{found[what]:,}" for what in ("in time", "late", "refused")]
            rows.append(
                [
                    f"{mode}, {load} times the capacity",
                    *counts,
                    f"{part:.0%}",
                    *judge(part, "at least", least),
                ]
            )
    return table(
        f"deadline of {DEADLINE} s | in time | late | refused | of what could be | target | reached",
        rows,
    )


if __name__ == "__main__":
    print(overload())
