"""A Spark cluster of two executors scores and compares: `python -m helpers.spark_cluster FOLDER`.

It is a process of its own, because a process has one Java machine, and that one the settings of the
first session.
"""

import json
import os
import sys
import warnings
from pathlib import Path

import pyarrow as pa

from helpers.engines import INPUTS, Packages, customers, local, profile_of

ROWS = 400


def home(folder):
    """Where Spark finds itself, so that its executors leave their files in this folder."""
    import pyspark

    place = folder / "spark"
    place.mkdir()
    for part in ("bin", "jars"):
        (place / part).symlink_to(Path(pyspark.__file__).parent / part)
    return str(place)


def process_of(batches):
    """Where batches are mapped: the process that started the one of Python."""
    for batch in batches:
        yield pa.record_batch({"process": pa.array([os.getppid()] * batch.num_rows)})


def main(folder):
    import pyspark.sql

    import modelkit as mk
    from modelkit.integrations import spark

    packages = Packages(folder)
    session = (
        pyspark.sql.SparkSession.builder.master("local-cluster[2,1,1024]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.scheduler.minRegisteredResourcesRatio", "1.0")  # both, or it waits
        .config("spark.scheduler.maxRegisteredResourcesWaitingTime", "120s")
        .getOrCreate()
    )
    frame = customers(ROWS, 5)[["id", *INPUTS]]
    rows = session.createDataFrame(pa.Table.from_pandas(frame, preserve_index=False)).repartition(8)
    found = rows.select("id").mapInArrow(process_of, "process long").toArrow()
    places = found["process"].to_pylist()
    scored = spark.score(rows, packages.churn, keep=["id", *INPUTS])
    found = scored.toArrow().sort_by("id")
    profile = profile_of(packages.churn)
    report = spark.drift(scored, profile, scores=["label", "probabilities"])
    session.stop()
    served = local(packages.churn, frame[INPUTS])
    own = mk.Detector(profile).test(frame[INPUTS], served)
    same = found["probabilities"].to_pylist() == served["probabilities"].tolist()
    said = {"processes": len({*places}), "same": same, "drift": report.features == own.features}
    (folder / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    target = Path(sys.argv[1])
    os.environ["SPARK_HOME"] = home(target)
    main(target)
