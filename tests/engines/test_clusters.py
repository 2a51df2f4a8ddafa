"""Clusters of two nodes or processes on this machine: the same rows, the same counts, GPUs that are not there."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.engines import INPUTS, customers, local, profile_of

import modelkit as mk
from modelkit.errors import DeviceError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of settings that Ray sets itself
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(400),
]
ROWS = 400
SCORES = ["label", "probabilities"]
FRAME = customers(ROWS, 5)[["id", *INPUTS]]


def check_same(answers, report, packages):
    """Scored rows and a report are those of this machine."""
    served = local(packages.churn, FRAME[INPUTS])
    answers = answers.sort_values("id")
    if "probabilities" in answers:
        found = np.stack(answers["probabilities"])
    else:
        found = answers[["probabilities_no", "probabilities_yes"]].to_numpy()
    assert np.array_equal(found, served["probabilities"])
    own = mk.Detector(profile_of(packages.churn)).test(FRAME[INPUTS], served)
    assert report.features == own.features


@pytest.fixture(scope="module")
def nodes():
    """Ray on two nodes of a CPU, and on a third, without one, a GPU that nobody looks for."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=0, num_gpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield ray
    ray.shutdown()
    cluster.shutdown()


def test_two_nodes_of_ray_score_and_compare(nodes, packages, tmp_path):
    from modelkit.integrations import ray as integration

    def node(table):
        own = nodes.get_runtime_context().get_node_id()
        (tmp_path / own).touch()
        deadline = time.monotonic() + 280
        while len([*tmp_path.iterdir()]) < 2:  # else one node would have it done alone
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return table.append_column("node", [[own] * table.num_rows])

    rows = nodes.data.from_pandas(FRAME).repartition(8)
    # One after the other in one task: a row is scored on the node that it names.
    named = rows.map_batches(node, batch_format="pyarrow")
    keep = ["id", "node", *INPUTS]
    scored = integration.score(named, packages.churn, keep=keep, batch_rows=50).materialize()
    answers = scored.to_pandas()
    assert len({*answers["node"]}) == 2
    report = integration.drift(scored, profile_of(packages.churn), scores=SCORES)
    check_same(answers, report, packages)


def test_a_pool_of_one_gpu_scores_where_the_scorer_says(nodes, packages):
    """The GPU is a number to Ray; a Scorer for the CPU runs in its pool all the same."""
    from modelkit.integrations import ray as integration

    scorer = mk.Scorer(packages.churn, keep=["id"], device="cpu")
    rows = nodes.data.from_pandas(FRAME).repartition(4)
    answers = integration.score(rows, scorer, gpus=1).to_pandas().sort_values("id")
    served = local(packages.churn, FRAME[INPUTS])
    assert np.array_equal(np.stack(answers["probabilities"]), served["probabilities"])


def test_a_worker_without_the_gpu_that_was_promised_says_so(nodes, packages):
    if any(device.usable for device in mk.devices() if device.name.startswith("cuda")):
        pytest.skip("there is a GPU here")
    from modelkit.integrations import ray as integration

    rows = nodes.data.from_pandas(FRAME)
    with pytest.raises(Exception, match=r"DeviceError.*cuda"):
        integration.score(rows, packages.churn, gpus=1).take_all()


def test_a_pool_of_more_gpus_than_the_nodes_have_is_refused(nodes, packages):
    from modelkit.integrations import ray as integration

    rows = nodes.data.from_pandas(FRAME)
    with pytest.raises(DeviceError, match=r"gpus=2 needs as many whole GPUs.*have 1"):
        integration.score(rows, packages.churn, gpus=2)


def test_two_processes_of_dask_score_and_compare(packages):
    distributed = pytest.importorskip("distributed")
    frames = pytest.importorskip("dask.dataframe")
    from modelkit.integrations import dask as integration

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        rows = frames.from_pandas(FRAME, npartitions=8)
        scored = integration.score(rows, packages.churn, keep=["id", *INPUTS]).persist()
        distributed.wait(scored)
        assert len({place for places in client.who_has(scored).values() for place in places}) == 2
        report = integration.drift(scored, profile_of(packages.churn), scores=SCORES)
        check_same(scored.compute(), report, packages)


def test_two_executors_of_spark_score_and_compare(tmp_path):
    pytest.importorskip("pyspark")
    words = [sys.executable, "-m", "helpers.spark_cluster", str(tmp_path)]
    path = os.pathsep.join(sys.path)
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": path}, timeout=390)
    said = json.loads((tmp_path / "said.json").read_text())
    assert said == {"processes": 2, "same": True, "drift": True}
