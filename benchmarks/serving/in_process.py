"""What a request costs in the process itself: its codec, the App around it, and how long an event loop is held."""

import asyncio
import statistics
import time
from functools import partial

import numpy as np
import uvloop
from benchmarks.common.cases import Case
from benchmarks.common.measure import interleave, judge, table
from benchmarks.serving.bodies import as_bytes, as_v2
from benchmarks.serving.servers import MODEL, V2

import modelkit as mk
from modelkit.model.wrapper import Wrapper
from modelkit.web import v2
from modelkit.web.query import Limits
from modelkit.web.request import at_once

ROUNDS = 50
TASKS, EACH = 64, 20
CODEC, HELD = 10, 2.0  # microseconds of the codec of bytes; milliseconds that the loop is held


def report(case: Case, count: int) -> str:
    x = case.rows[:count]
    with mk.load(case.package) as model:
        times = interleave(codecs(model, x), 9)
        held = {name: holds(model, *request) for name, request in requests(x).items()}
    rows = [
        [what, f"{seconds * 1e6:.1f} us", *judge(seconds * 1e6, "at most", limit_of(what))]
        for what, seconds in times.items()
    ]
    rows += [
        [
            f"{count:,} rows as {name}: the loop is held",
            f"{middle * 1000:.2f} ms (worst of {ROUNDS}: {worst * 1000:.2f})",
            *judge(middle * 1000, "at most", HELD),
        ]
        for name, (middle, worst) in held.items()
    ]
    rows[:0] = [
        [f"one row of JSON by the App, {what}", f"{seconds * 1e6:.1f} us", "", ""]
        for what, seconds in small(case).items()
    ]
    return table("in the process | value | target | reached", rows)


def requests(x: np.ndarray) -> dict[str, tuple[bytes, dict[str, str]]]:
    return {"JSON": (as_v2(x), {"content-type": "application/json"}), "bytes": as_bytes(x)}


def codecs(model: mk.Model, x: np.ndarray) -> dict:
    """Reading a request and writing its answer, without the model."""
    calls = {}
    for rows in (x[:1], x):
        answers = model.run(rows)
        for name, (body, headers) in requests(rows).items():
            told = {key.encode(): value.encode() for key, value in headers.items()}
            read = partial(finished, v2.read, body, told, model.signature, Limits())
            query = read()
            assert np.array_equal(query.X, rows)
            write = partial(finished, v2.write, query, answers, MODEL, "1")
            calls[f"{len(rows):,} rows as {name}: read and written"] = partial(both, read, write)
    return calls


def finished(steps, *args) -> object:
    return at_once(steps(*args))


def both(read, write) -> None:
    read()
    write()


def limit_of(what: str) -> float | None:
    return CODEC if "bytes" in what and not what.startswith("1 ") else None


def holds(model: mk.Model, body: bytes, headers: dict[str, str]) -> tuple[float, float]:
    """The longest time between two turns of the loop while a request is answered: median and worst, in seconds."""
    with mk.Batcher(model) as batcher, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        app = mk.App({MODEL: batcher})
        gaps = [runner.run(longest_gap(app, body, headers)) for _ in range(ROUNDS)]
        app.close()
    return statistics.median(gaps), max(gaps)


class AtOnce(Wrapper):
    """Has its answers already: what is left is the App's."""

    _call = None  # an App calls the async verbs

    def __init__(self, inner: mk.Model, x: np.ndarray) -> None:
        super().__init__(inner)
        self.answers = inner.run(x)

    async def _acall(self, X, outputs, call):
        return self.answers


def small(case: Case) -> dict[str, float]:
    """Seconds of a request of one row, without a server: the best of the rounds."""
    body, headers = requests(case.rows[:1])["JSON"]
    found = {}
    with mk.load(case.package) as model, mk.Batcher(model) as batcher:
        known = AtOnce(model, case.rows[:1])
        for what, layers, auth in (
            ("over a model that has its answers", known, None),
            ("the same with auth", known, lambda _headers: "a caller"),
            (f"over a Batcher, {TASKS} tasks", batcher, None),
        ):
            app = mk.App({MODEL: layers}, auth=auth)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found[what] = min(runner.run(asked(app, body, headers)) for _ in range(ROUNDS))
            app.close()
    return found


async def asked(app: mk.App, body: bytes, headers: dict[str, str]) -> float:
    """Seconds of one of many requests by so many tasks."""

    async def ask():
        for _ in range(EACH):
            await request(app, body, headers)

    start = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(TASKS)))
    return (time.perf_counter() - start) / EACH / TASKS


async def request(app: mk.App, body: bytes, headers: dict[str, str]) -> None:
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": V2,
        "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
    }
    statuses = []

    async def receive():
        return {"type": "http.request", "body": body}

    async def send(message):
        statuses.append(message.get("status"))

    await app(scope, receive, send)
    assert statuses[0] == 200, statuses


async def longest_gap(app: mk.App, body: bytes, headers: dict[str, str]) -> float:
    answer = asyncio.ensure_future(request(app, body, headers))
    longest = 0.0
    last = time.perf_counter()
    while not answer.done():
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest = max(longest, now - last)
        last = now
    await answer
    return longest
