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
SINGLE_CALLS = 100
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


def compare(name, folder, rounds, job, rival=None):
    """Costs of a job and of the local run in turns, for both models; the first job starts workers."""
    for kind in ("forest", "linear"):
        package = folder / f"{kind}.mk"
        first = cost(lambda kind=kind: job(folder / f"{kind}.mk"))
        local(package, folder / "rows")
        costs = {"local": [], name: []}
        if rival is not None and kind == "linear":
            costs["rival"] = []
            rival()
        for _ in range(rounds):
            costs["local"].append(cost(lambda p=package: local(p, folder / "rows")))
            costs[name].append(cost(lambda p=package: job(p)))
            if "rival" in costs:
                costs["rival"].append(cost(rival))
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
    """Calls of one row: ours, and a Model behind @serve.batch."""
    from ray import serve as serving

    from modelkit.integrations import ray as integration

    frame = pq.read_table(path).drop_columns("id").slice(0, CALLS).to_pandas()
    rows = [frame[i : i + 1] for i in range(CALLS)]
    options = {"ray_actor_options": {"num_cpus": 0.5}}

    @serving.deployment(max_ongoing_requests=1000, **options)
    class Rival:
        def __init__(self):
            self.model = mk.load(package, threads=1)

        @serving.batch(max_batch_size=64, batch_wait_timeout_s=BATCH_WAIT)
        async def run(self, frames):
            import pandas as pd

            found = self.model.run(pd.concat(frames))
            return [
                {name: values[i : i + 1] for name, values in found.items()}
                for i in range(len(frames))
            ]

        async def __call__(self, row):
            return await self.run(row)

    async def measured(handle):
        await handle.remote(rows[0])
        singles = []
        for row in rows[:SINGLE_CALLS]:
            start = time.perf_counter()
            await handle.remote(row)
            singles.append(time.perf_counter() - start)
        start = time.perf_counter()
        await asyncio.gather(*[handle.remote(row) for row in rows])
        return statistics.median(singles), time.perf_counter() - start

    serving.start(proxy_location="Disabled")
    for what, app in {
        "batcher": integration.deployment(package, **options),
        "rival": Rival.bind(),
    }.items():
        handle = serving.run(app, name=what, route_prefix=None)
        p50, burst = asyncio.run(measured(handle))
        told(engine="serve", model="linear", what=what, p50=p50, burst=burst)
        serving.delete(what)
    serving.shutdown()


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

    def rival():
        scored = read().select("id", udf(*columns).alias("label"))
        scored.write.format("noop").mode("overwrite").save()

    compare("spark", folder, rounds, job, rival)
    session.stop()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    _, chosen, where, times = sys.argv
    {"dask": dask, "ray": ray, "spark": spark}[chosen](Path(where), int(times))
