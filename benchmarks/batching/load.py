"""The load: callers in a closed loop, in threads and on an event loop; a Poisson stream; and limits to compare with."""

import asyncio
import gc
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
from benchmarks.batching.contenders import Contender, Subject

from modelkit.errors import Overloaded

clock = time.perf_counter
TIMED = 3  # of its calls a caller times one in four: looking at the clock takes longer than some of what is measured


class Sample(NamedTuple):
    """What one contender did in one turn; times in seconds."""

    rate: float  # requests a second
    p50: float = 0.0
    p99: float = 0.0
    cpu: float = 0.0  # of one request
    batch: float = 0.0  # rows a run, where the contender counts them


Turn = Callable[[], Awaitable[Sample]]


async def interleave(turns: dict[str, Turn], rounds: int) -> dict[str, Sample]:
    """The medians of what all did in their turns."""
    samples: dict[str, list[Sample]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            gc.collect()
            samples[name].append(await turn())
            await asyncio.sleep(0)  # what was stopped ends now
    return {
        name: Sample(*map(statistics.median, zip(*found, strict=True)))
        for name, found in samples.items()
    }


class Meter:
    """Started before the callers; `sample` is called when the last one is done."""

    def __init__(self, contender: Contender) -> None:
        self.contender, self.seen = contender, contender.seen()
        self.cpu, self.start = time.process_time(), clock()

    def sample(self, times: list[list[float]], count: int, end: float) -> Sample:
        cpu, seconds = time.process_time() - self.cpu, end - self.start
        rows, runs = (
            after - before for after, before in zip(self.contender.seen(), self.seen, strict=True)
        )
        p50, p99 = np.percentile(np.concatenate(times), (50, 99))
        return Sample(count / seconds, p50, p99, cpu / count, rows / runs if runs else 0)


def rows_of(subject: Subject, caller: int) -> Iterator[np.ndarray]:
    """The same rows for every caller, from a place of its own on."""
    return islice(cycle(subject.rows), caller * 61 % len(subject.rows), None)


async def in_threads(
    contender: Contender, subject: Subject, callers: int, seconds: float
) -> Sample:
    """So many threads call, wait for the answer and call again, for so long.

    The running loop waits for them.
    """
    call, gate, times = contender.call, threading.Event(), [[] for _ in range(callers)]
    calls, ends = [0] * callers, [0.0] * callers

    def work(caller):
        took, made = times[caller].append, 0
        gate.wait()
        for row in rows_of(subject, caller):
            if made & TIMED:
                call(row)
            else:
                start = clock()
                if start > until:
                    break
                call(row)
                took(clock() - start)
            made += 1
        calls[caller], ends[caller] = made, clock()

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    meter = Meter(contender)
    until = meter.start + seconds
    gate.set()
    for thread in threads:
        thread.join()
    return meter.sample(times, sum(calls), max(ends))


async def on_loop(contender: Contender, subject: Subject, callers: int, seconds: float) -> Sample:
    """As `in_threads`, with tasks of the running loop."""
    call, times = contender.call, [[] for _ in range(callers)]

    async def work(caller):
        took, made = times[caller].append, 0
        for row in rows_of(subject, caller):
            if made & TIMED:
                await call(row)
            else:
                start = clock()
                if start > until:
                    break
                await call(row)
                took(clock() - start)
            made += 1
        return made, clock()

    meter = Meter(contender)
    until = meter.start + seconds
    calls, ends = zip(*await asyncio.gather(*map(work, range(callers))), strict=True)
    return meter.sample(times, sum(calls), max(ends))


async def fixed(subject: Subject, size: int, at_once: int, seconds: float) -> Sample:
    """Full batches of `size` rows, made beforehand and all different, run in a loop by so many threads at once."""
    starts = range(0, len(subject.rows) // size * size, size)
    blocks = [np.concatenate(subject.rows[start : start + size]) for start in starts]
    counts, begin = [0] * at_once, clock()

    def work(worker):
        for block in islice(cycle(blocks), worker * len(blocks) // at_once, None):
            subject.run(block)
            counts[worker] += size
            if clock() > begin + seconds:
                break

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(1, at_once)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    return Sample(sum(counts) / (clock() - begin), batch=size)


async def round_trip(callers: int, seconds: float) -> Sample:
    """What asyncio takes by itself: each task waits for a Future, and all of these are resolved in the next tick."""
    loop, waiting, counts, begin = asyncio.get_running_loop(), [], [], clock()
    over = False

    def flush():
        nonlocal over
        over = clock() > begin + seconds
        for future in waiting:
            future.set_result(None)
        waiting.clear()

    async def work():
        count = 0
        while not over:
            future = loop.create_future()
            if not waiting:
                loop.call_soon(flush)
            waiting.append(future)
            await future
            count += 1
        counts.append(count)

    await asyncio.gather(*(work() for _ in range(callers)))
    return Sample(sum(counts) / (clock() - begin))


class Requests:
    """Requests that are sent without waiting for the answers, each in a task, and what became of them."""

    def __init__(self, contender: Contender) -> None:
        self.call, self.create_task = contender.call, asyncio.get_running_loop().create_task
        self.times: list[float] = []
        self.sent = self.refused = self.few = 0
        self.last = 0.0
        self.progress = asyncio.Event()

    def send(self, row: np.ndarray, due: float) -> None:
        self.sent += 1
        self.create_task(self.ask(row, due))

    async def ask(self, row: np.ndarray, due: float) -> None:
        try:
            await self.call(row)
        except Overloaded:
            self.refused += 1
        else:
            self.last = clock()
            self.times.append(self.last - due)
        if self.under_way <= self.few:
            self.progress.set()

    @property
    def under_way(self) -> int:
        return self.sent - len(self.times) - self.refused

    async def until(self, few: int) -> None:
        """Wait until no more than so many are under way."""
        self.few = few
        self.progress.clear()
        if self.under_way > few:
            await self.progress.wait()


async def flood(contender: Contender, subject: Subject, seconds: float, most: int = 512) -> Sample:
    """As many requests as are answered, for there are always between half of `most` and `most` under way."""
    requests, rows, begin = Requests(contender), cycle(subject.rows), clock()
    while clock() < begin + seconds:
        for row in islice(rows, most - requests.under_way):
            requests.send(row, clock())
        await requests.until(most // 2)
    rate = len(requests.times) / (clock() - begin)
    await requests.until(0)
    return Sample(rate)


class Stream(NamedTuple):
    """What became of a stream of requests; times in seconds, from when each was due to be sent."""

    goodput: float  # answers a second
    p50: float
    p99: float
    shed: float  # the part that was refused
    lost: int


async def poisson(
    contender: Contender, subject: Subject, rate: float, seconds: float, *, spin: bool
) -> Stream:
    """Send requests at random moments that were fixed before, whatever becomes of those before them.

    The timers of asyncio are a millisecond coarse. With `spin` the loop turns around instead, which
    needs a core.
    """
    requests, count, begin = Requests(contender), int(rate * seconds), clock() + 0.01
    due = (begin + np.random.default_rng().exponential(1 / rate, count).cumsum()).tolist()
    for row, at in zip(cycle(subject.rows), due, strict=False):
        while (wait := at - clock()) > 0:  # there is no event but the time
            await asyncio.sleep(0 if spin else wait)
        requests.send(row, at)
    with suppress(TimeoutError):
        await asyncio.wait_for(requests.until(0), 5)
    p50, p99 = np.percentile(requests.times, (50, 99))
    goodput = len(requests.times) / (max(requests.last, due[-1]) - begin)
    return Stream(goodput, p50, p99, requests.refused / count, requests.under_way)
