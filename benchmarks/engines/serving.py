"""Calls of Ray Serve: a Batcher in a replica, and a Model behind Ray's own way to gather calls."""

import asyncio
import statistics
import time

import pyarrow.parquet as pq

import modelkit as mk

CALLS = 300
SINGLE_CALLS = 50
ROUNDS_OF_CALLS = 7
HALF_A_CPU = {"num_cpus": 0.5}
BATCH_WAIT = 0.005  # of the rival's @serve.batch, in seconds


def compared(package, path):
    """Seconds of one call and of all at once, for both."""
    from ray import serve

    from modelkit.integrations import ray as integration

    frame = pq.read_table(path).drop_columns("id").slice(0, CALLS).to_pandas()
    rows = [frame[i : i + 1] for i in range(CALLS)]
    serve.start(proxy_location="Disabled")
    ours = integration.deployment(package, ray_actor_options=HALF_A_CPU)
    handles = {
        "batcher": serve.run(ours, name="batcher", route_prefix=None),
        "rival": serve.run(rival_app(package), name="rival", route_prefix=None),
    }
    times = asyncio.run(calls_in_turns(handles, rows))
    serve.shutdown()
    figures = {}
    for what, own in times.items():
        one, burst = (statistics.median(each) for each in zip(*own, strict=True))
        figures[what] = {"one": one, "burst": burst}
    return figures


def rival_app(package):
    """A Model behind `@serve.batch`."""
    import pandas as pd
    from ray import serve

    @serve.deployment(max_ongoing_requests=1000, ray_actor_options=HALF_A_CPU)
    class Rival:
        def __init__(self):
            self.model = mk.load(package, threads=1)

        @serve.batch(max_batch_size=64, batch_wait_timeout_s=BATCH_WAIT)
        async def run(self, frames):
            found = self.model.run(pd.concat(frames))
            return [{name: found[name][i : i + 1] for name in found} for i in range(len(frames))]

        async def __call__(self, row):
            return await self.run(row)

    return Rival.bind()


async def calls_in_turns(handles, rows):
    """Seconds of one call, as the mean of many, and of all at once, for each round and handle."""
    times = {what: [] for what in handles}
    for handle in handles.values():
        await asyncio.gather(*[handle.remote(row) for row in rows])
    for _ in range(ROUNDS_OF_CALLS):
        for what, handle in handles.items():
            start = time.perf_counter()
            for row in rows[:SINGLE_CALLS]:
                await handle.remote(row)
            one = (time.perf_counter() - start) / SINGLE_CALLS
            start = time.perf_counter()
            await asyncio.gather(*[handle.remote(row) for row in rows])
            times[what].append((one, time.perf_counter() - start))
    return times
