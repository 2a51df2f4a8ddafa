"""Who is compared: bare onnxruntime, modelkit, and three libraries that batch, each behind one call a row.

A contender is made by a context manager; those for asyncio are entered on a running loop.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

import batched
import numpy as np
from async_batcher.batcher import AsyncBatcher
from batched.aio import AsyncBatchProcessor
from benchmarks.common.cases import Case
from benchmarks.common.measure import bare
from bentoml._internal.marshal.dispatcher import CorkDispatcher, NonBlockSema

import modelkit as mk


class Subject(NamedTuple):
    """What everybody runs: `run` turns a block of rows into answers, `model` does the same as a Model."""

    run: Callable[[np.ndarray], np.ndarray]
    model: mk.Model
    rows: list[np.ndarray]  # blocks of one row


class Contender(NamedTuple):
    """`call` answers one row, or is awaited for that; `seen` is how many rows were run so far, and in how many runs."""

    call: Callable[[np.ndarray], Any]
    seen: Callable[[], tuple[int, int]] = lambda: (0, 0)


THREADS, LOOP = "threads", "asyncio"
Make = Callable[[Subject], AbstractContextManager[Contender]]


def subject_of(case: Case, rows: int = 4096) -> Subject:
    """A saved model, beside its graph in a bare session with one thread that is asked for the same output."""
    session, model = bare(case.graph, 1), mk.load(case.package)
    name, outputs = session.get_inputs()[0].name, [main_output(model)]

    def run(block):
        return session.run(outputs, {name: block})[0]

    return Subject(run, model, [row[None].copy() for row in case.rows[:rows]])


def main_output(model: mk.Model) -> str:
    return "probabilities" if model.signature.has_probabilities else model.signature.output_names[0]


class Counted:
    """The function that the other libraries batch: a list of rows in, a list of answers out."""

    def __init__(self, run: Callable[[np.ndarray], np.ndarray]) -> None:
        self.run = run
        self.rows = self.runs = 0

    def answer(self, batch):
        self.rows += len(batch)
        self.runs += 1
        return list(self.run(np.concatenate(batch)))

    async def answer_on_loop(self, batch):
        return self.answer(batch)

    def seen(self) -> tuple[int, int]:
        return self.rows, self.runs


@contextmanager
def bare_in_thread(subject: Subject) -> Iterator[Contender]:
    yield Contender(subject.run)


@contextmanager
def bare_on_loop(subject: Subject) -> Iterator[Contender]:
    async def call(row):
        return subject.run(row)

    yield Contender(call)


@contextmanager
def bare_in_executor(subject: Subject) -> Iterator[Contender]:
    yield Contender(partial(asyncio.get_running_loop().run_in_executor, None, subject.run))


@contextmanager
def modelkit(
    subject: Subject, prefix: str, batcher: mk.Batcher | None = None, **settings: Any
) -> Iterator[Contender]:
    """A new Batcher, or one that is kept; `prefix` is "a" for asyncio."""
    made = batcher or mk.Batcher(subject.model, **settings)
    method = "predict_proba" if subject.model.signature.has_probabilities else "predict"

    def seen() -> tuple[int, int]:
        stats = made.stats()
        return stats.calls, stats.batches + stats.direct

    yield Contender(getattr(made, prefix + method), seen)
    if made is not batcher:
        made.close()


@contextmanager
def batched_in_thread(subject: Subject, **settings: Any) -> Iterator[Contender]:
    counted = Counted(subject.run)
    processor = batched.BatchProcessor(counted.answer, **settings)
    yield Contender(processor, counted.seen)
    processor.shutdown()


@contextmanager
def batched_aio(subject: Subject, *, on_loop: bool = False, **settings: Any) -> Iterator[Contender]:
    counted = Counted(subject.run)
    processor = AsyncBatchProcessor(
        counted.answer_on_loop if on_loop else counted.answer, **settings
    )
    yield Contender(processor, counted.seen)
    stop(processor._task)  # it polls for ever, and has no other way to end


class AsyncBatch(AsyncBatcher):
    process_batch = None  # a function or a coroutine function is set on the instance


@contextmanager
def async_batcher(
    subject: Subject, *, on_loop: bool = False, **settings: Any
) -> Iterator[Contender]:
    counted = Counted(subject.run)
    batcher = AsyncBatch(**settings)
    batcher.process_batch = counted.answer_on_loop if on_loop else counted.answer
    yield Contender(batcher.process, counted.seen)
    stop(batcher._current_task)  # its own way waits for calls that it has lost


@contextmanager
def bentoml(
    subject: Subject,
    *,
    on_loop: bool = False,
    size: int = 100,
    latency: int = 60_000,
    runs: int = 1,
) -> Iterator[Contender]:
    """Defaults of `@bentoml.api(batchable=True)`."""
    counted = Counted(subject.run)
    dispatcher = CorkDispatcher(
        latency,
        size,
        shared_sema=NonBlockSema(runs),
        fallback=lambda: None,
        get_batch_size=lambda _: 1,
    )
    yield Contender(dispatcher(counted.answer_on_loop if on_loop else counted.answer), counted.seen)
    dispatcher.shutdown()


def stop(task: asyncio.Task | None) -> None:
    if task is not None:
        task.cancel()


def contenders(
    mode: str, batcher: mk.Batcher | None = None, *, long: bool = False, callers: int = 8
) -> dict[str, Make]:
    """Who takes part, by name. modelkit runs as `batcher`, or anew each time.

    The best settings of the others were found by trying: batches of 4 to 512, waits of 0 to 10 ms,
    on the loop and in threads, one and two at a time, latencies of 10 ms to a minute, for 1 to 512
    callers of each model. No wait at all was the best everywhere, and running on the loop itself.
    Only `long` runs for many callers were faster in threads, two at a time, with half of the
    callers in each. (BentoML drops calls that took longer than its latency, and answers them with
    its fallback; its default lets all of them live.)
    """
    if mode == THREADS:
        return {
            "bare": bare_in_thread,
            "modelkit": partial(modelkit, prefix="", batcher=batcher),
            "batched": batched_in_thread,
            "batched, best": partial(batched_in_thread, batch_size=32, timeout_ms=0),
        }
    makes = {
        "bare": bare_on_loop,
        "modelkit": partial(modelkit, prefix="a", batcher=batcher),
        "batched": batched_aio,
        "batched, best": partial(batched_aio, on_loop=True, batch_size=512, timeout_ms=0),
        "async-batcher": async_batcher,
        "async-batcher, best": partial(async_batcher, on_loop=True, max_queue_time=0),
        "BentoML": bentoml,
        "BentoML, best": partial(bentoml, on_loop=True, size=512),
    }
    if long:
        makes["bare, executor"] = bare_in_executor
    if long and callers > 2:
        half = min(32, callers // 2)
        makes["async-batcher, best"] = partial(
            async_batcher, max_queue_time=0, max_batch_size=half, concurrency=2
        )
        makes["BentoML, best"] = partial(bentoml, size=half, runs=2)
    return makes
