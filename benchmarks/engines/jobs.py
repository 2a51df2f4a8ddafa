"""One engine in a process of its own: `jobs.py ENGINE FOLDER ROUNDS` prints a line of JSON for each measure.

CPU seconds are those of the whole process tree: of this process, of its living descendants, and of
those that have ended.
"""

import asyncio
import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path

import psutil
import pyarrow.parquet as pq

import modelkit as mk

CALLS = 300
SINGLE_CALLS = 50
ROUNDS_OF_CALLS = 7
HALF_A_CPU = {"num_cpus": 0.5}
BATCH_WAIT = 0.005  # of the rival's @serve.batch, in seconds


def cpu_seconds():
    """Of this process tree."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def cost(job):
    """CPU seconds and wall seconds of a job."""
    cpu = cpu_seconds()
    wall = time.perf_counter()
    job()
    return cpu_seconds() - cpu, time.perf_counter() - wall


def told(**measure):
    print(json.dumps(measure), flush=True)


def local(package, folder):
    """Read and run with a thread a core, as one process on this machine does."""
    with mk.load(package, threads=os.cpu_count()) as model:
        for path in sorted(folder.glob("*.parquet")):
            model.run(pq.read_table(path).drop_columns("id"))


def compare(name, folder, rounds, job, of_linear=None):
    """Costs of a job and of the local run in turns, for both models; the first job starts workers.

    Further jobs, by name, are measured beside those of the linear model.
    """
    for kind in ("forest", "linear"):
        package = folder / f"{kind}.mk"
        first = cost(lambda kind=kind: job(folder / f"{kind}.mk"))
        jobs = {
            "local": lambda p=package: local(p, folder / "rows"),
            name: lambda p=package: job(p),
        }
        if kind == "linear":
            jobs |= of_linear or {}
        for run in jobs.values():
            run()
        costs = {what: [] for what in jobs}
        for _ in range(rounds):
            for what, run in jobs.items():
                costs[what].append(cost(run))
        for own, values in costs.items():
            cpu, wall = (statistics.median(each) for each in zip(*values, strict=True))
            told(engine=name, model=kind, what=own, cpu=cpu, wall=wall)
        told(engine=name, model=kind, what="first", cpu=first[0], wall=first[1])


def dask(folder, rounds):
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    from modelkit.integrations import dask as integration

    opened = []

    def start():
        opened.append(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None))

    cpu, wall = cost(start)
    told(engine="dask", model="", what="start", cpu=cpu, wall=wall)
    rows = dd.read_parquet(folder / "rows")

    def job(package):
        scored = integration.score(rows, package, keep=["id"])
        assert scored.map_partitions(len).sum().compute() == len(rows)

    with opened[0] as cluster, Client(cluster):
        compare("dask", folder, rounds, job)


def ray(folder, rounds):
    import ray as engine

    from modelkit.integrations import ray as integration

    cpu, wall = cost(lambda: engine.init(num_cpus=2, include_dashboard=False, log_to_driver=False))
    told(engine="ray", model="", what="start", cpu=cpu, wall=wall)
    context = engine.data.DataContext.get_current()
    context.use_datasource_v2 = False  # the default reader of 2.60 costs more than the models
    context.enable_progress_bars = False

    def job(package):
        rows = engine.data.read_parquet(str(folder / "rows"))
        integration.score(rows, package, keep=["id"]).materialize()

    compare("ray", folder, rounds, job)
    serve(folder / "linear.mk", next((folder / "rows").glob("*.parquet")))
    engine.shutdown()


def serve(package, path):
    """Calls of one row in turns: ours, and a Model behind @serve.batch."""
    from ray import serve as serving

    from modelkit.integrations import ray as integration

    frame = pq.read_table(path).drop_columns("id").slice(0, CALLS).to_pandas()
    rows = [frame[i : i + 1] for i in range(CALLS)]
    serving.start(proxy_location="Disabled")
    ours = integration.deployment(package, ray_actor_options=HALF_A_CPU)
    handles = {
        "batcher": serving.run(ours, name="batcher", route_prefix=None),
        "rival": serving.run(rival_app(package), name="rival", route_prefix=None),
    }
    times = asyncio.run(calls_in_turns(handles, rows))
    for what, own in times.items():
        one, many = (statistics.median(each) for each in zip(*own, strict=True))
        told(engine="serve", model="", what=what, one=one, burst=many)
    serving.shutdown()


def rival_app(package):
    """A Model behind Ray's own way to gather calls."""
    import pandas as pd
    from ray import serve as serving

    @serving.deployment(max_ongoing_requests=1000, ray_actor_options=HALF_A_CPU)
    class Rival:
        def __init__(self):
            self.model = mk.load(package, threads=1)

        @serving.batch(max_batch_size=64, batch_wait_timeout_s=BATCH_WAIT)
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


def spark(folder, rounds):
    import mlflow
    from pyspark.sql import SparkSession

    from modelkit.integrations import spark as integration

    started = []

    def start():
        session = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .getOrCreate()
        )
        started.append(session)

    cpu, wall = cost(start)
    session = started[0]
    session.sparkContext.setLogLevel("ERROR")
    told(engine="spark", model="", what="start", cpu=cpu, wall=wall)

    def read():
        return session.read.parquet(str(folder / "rows"))

    def job(package):
        scored = integration.score(read(), package, keep=["id"])
        scored.write.format("noop").mode("overwrite").save()

    columns = [name for name in read().columns if name != "id"]
    udf = mlflow.pyfunc.spark_udf(
        session, str(folder / "mlflow"), result_type="string", env_manager="local"
    )

    def label_alone():
        scored = integration.score(read(), folder / "linear.mk", outputs=["label"], keep=["id"])
        scored.write.format("noop").mode("overwrite").save()

    def rival():
        scored = read().select("id", udf(*columns).alias("label"))
        scored.write.format("noop").mode("overwrite").save()

    compare("spark", folder, rounds, job, {"label": label_alone, "mlflow": rival})
    session.stop()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    _, chosen, where, times = sys.argv
    {"dask": dask, "ray": ray, "spark": spark}[chosen](Path(where), int(times))
