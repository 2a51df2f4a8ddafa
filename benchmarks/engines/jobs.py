"""One system in a process of its own: `-m benchmarks.engines.jobs SYSTEM FOLDER`.

It reads the name of a job a line, runs it, and prints a line of JSON with its cost. CPU seconds are those of the whole
process tree: of this process, of its living descendants, and of those that have ended.
"""

import json
import os
import signal
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.engines import floors, serving

import modelkit as mk

# Seconds after a job, which are counted with it: the workers of Spark collect their garbage once they have answered, .1
# CPU seconds each where MLflow and scikit-learn are loaded.
AFTERWARDS = 0.3
LONGEST = 300  # seconds of a job
KINDS = ("forest", "linear")


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
    """CPU seconds and wall seconds of a job; one that hangs ends this process."""
    signal.alarm(LONGEST)
    cpu = cpu_seconds()
    start = time.perf_counter()
    job()
    signal.alarm(0)
    wall = time.perf_counter() - start
    time.sleep(AFTERWARDS)
    return {"cpu": cpu_seconds() - cpu, "wall": wall}


def told(measure):
    print(json.dumps(measure), flush=True)


def local(folder):
    """Read and run with a thread a core, as one process on this machine does."""

    def job(package):
        with mk.load(package, threads=os.cpu_count()) as model:
            for path in sorted((folder / "rows").glob("*.parquet")):
                model.run(pq.read_table(path).drop_columns("id"))

    return of_both_models(folder, job)


def of_both_models(folder, job):
    return {kind: partial(job, folder / f"{kind}.mk") for kind in KINDS}


def equal(folder, scored):
    """Tell for how many of the outputs an engine and the local run agree to the bit."""
    rows = pa.concat_tables(map(pq.read_table, sorted((folder / "rows").glob("*.parquet"))))
    same = []
    for kind in KINDS:
        package = folder / f"{kind}.mk"
        found = scored(package).sort_by("id")
        assert found["id"] == rows["id"]
        with mk.load(package, threads=os.cpu_count()) as model:
            expected = model.run(rows.drop_columns("id"))
        probabilities = found["probabilities"].combine_chunks().flatten().to_numpy()
        same.append(found["label"].to_pylist() == expected["label"].tolist())
        same.append(probabilities.tobytes() == expected["probabilities"].tobytes())
    told({"equal": sum(same), "of": len(same)})


def dask(folder):
    import dask.dataframe as dd
    from distributed import Client, LocalCluster

    from modelkit.integrations import dask as integration

    Client(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None))
    rows = dd.read_parquet(folder / "rows")

    def counted(scored):
        assert scored.map_partitions(len).sum().compute() == len(rows)

    def job(package):
        counted(integration.score(rows, package, keep=["id"]))

    constant = floors.of_frames(mk.Scorer(folder / "linear.mk", keep=["id"]))

    def floor():
        counted(
            rows.map_partitions(constant, meta=constant(rows._meta))
        )  # as Dask's own functions do

    def scored(package):
        frame = integration.score(rows, package, keep=["id"]).compute()
        block = np.ascontiguousarray(frame[["probabilities_no", "probabilities_yes"]])
        columns = {"id": frame["id"].to_numpy(), "label": pa.array(frame["label"], pa.string())}
        return pa.table(columns | {"probabilities": pa.array(list(block))})

    return of_both_models(folder, job) | {"floor": floor, "equal": lambda: equal(folder, scored)}


def ray_of_one(folder):
    """Where a pool of actors would take the only CPU, and the job would wait for itself."""
    return ray(folder, cpus=1)


def ray(folder, cpus=2):
    import ray as engine

    from modelkit.integrations import ray as integration

    # Not the cluster of someone else on this machine, which Ray would join.
    engine.init("local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    context = engine.data.DataContext.get_current()
    context.use_datasource_v2 = False  # the default reader of 2.60 costs more than the models
    context.enable_progress_bars = False

    def read(blocks):
        return engine.data.read_parquet(str(folder / "rows"), override_num_blocks=blocks)

    def job(package, blocks=None):
        integration.score(read(blocks), package, keep=["id"]).materialize()

    constant = floors.of_tables(mk.Scorer(folder / "linear.mk", keep=["id"]))
    batches = {"batch_size": integration.BATCH_ROWS, "batch_format": "pyarrow"}

    def floor(blocks=None):
        read(blocks).map_batches(constant, **batches).materialize()

    def scored(package):
        parts = integration.score(read(None), package, keep=["id"]).to_arrow_refs()
        return pa.concat_tables(engine.get(parts))

    path = next((folder / "rows").glob("*.parquet"))
    return of_both_models(folder, job) | {
        "floor": floor,
        "forest, 2 blocks": lambda: job(folder / "forest.mk", 2),
        "linear, 2 blocks": lambda: job(folder / "linear.mk", 2),
        "floor, 2 blocks": lambda: floor(2),
        "equal": lambda: equal(folder, scored),
        "serve": lambda: told(serving.compared(folder / "linear.mk", path)),
    }


def session_of_spark():
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    return session


def written(scored):
    scored.write.format("noop").mode("overwrite").save()


def spark(folder):
    from modelkit.integrations import spark as integration

    session = session_of_spark()
    linear = folder / "linear.mk"

    def read():
        return session.read.parquet(str(folder / "rows"))

    def job(package, outputs=None):
        written(integration.score(read(), package, outputs=outputs, keep=["id"]))

    def floor(outputs=None):
        constant = floors.of_batches(mk.Scorer(linear, outputs=outputs, keep=["id"]))
        schema = integration.score(read(), linear, outputs=outputs, keep=["id"]).schema
        return lambda: written(read().mapInArrow(constant, schema))

    def scored(package):
        return integration.score(read(), package, keep=["id"]).toArrow()

    return of_both_models(folder, job) | {
        "floor": floor(),
        "equal": lambda: equal(folder, scored),
        "label": lambda: job(linear, ["label"]),
        "label floor": floor(["label"]),
    }


def mlflow(folder):
    """What MLflow's spark_udf makes of the same linear model; see README.md."""
    from mlflow.pyfunc import spark_udf

    session = session_of_spark()
    rows = session.read.parquet(str(folder / "rows"))
    columns = [name for name in rows.columns if name != "id"]
    both_by_package = "struct<label string, probabilities array<double>>"
    label = spark_udf(session, str(folder / "mlflow"))
    plain = spark_udf(session, str(folder / "mlflow-arrays"), result_type="string")
    probabilities = spark_udf(session, str(folder / "mlflow-probabilities"))
    both = spark_udf(session, str(folder / "mlflow-both"))
    package = spark_udf(session, str(folder / "mlflow-package"), result_type=both_by_package)

    def job(**udfs):
        scored = session.read.parquet(str(folder / "rows"))
        added = [udf(*columns).alias(name) for name, udf in udfs.items()]
        written(scored.select("id", *added))

    return {
        "label": lambda: job(label=label),
        "label at best": lambda: job(label=plain),
        "both": lambda: job(label=label, probabilities=probabilities),
        "both at best": lambda: job(both=both),
        "package": lambda: job(both=package),
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    _, system, where = sys.argv
    jobs = {}

    def start():
        jobs.update(globals()[system](Path(where)))

    told(cost(start))
    for line in sys.stdin:
        told(cost(jobs[line.strip()]))
