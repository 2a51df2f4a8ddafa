"""Ray alone: clusters of one CPU, GPUs that are refused, tensors, and Ray Serve."""

import asyncio
import logging

import numpy as np
import pytest
from helpers.engines import INPUTS, customers, local, profile_of

import modelkit as mk
from modelkit.errors import DeviceError, SignatureError

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of settings that Ray sets itself
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(600),  # a job that waits for itself ends here
]
CALLS = 300


@pytest.fixture(scope="module")
def one_cpu():
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_cluster_of_one_cpu_never_waits_for_itself(one_cpu, packages, tmp_path):
    """Reading, scoring twice, and counting take turns on the one CPU."""
    from modelkit.integrations import ray as integration

    frame = customers(900, 5)[["id", *INPUTS]]
    for part in range(3):
        frame[part::3].to_parquet(tmp_path / f"{part}.parquet", index=False)
    rows = ray.data.read_parquet(str(tmp_path))
    once = integration.score(rows, packages.churn, outputs=["label"], keep=["id", *INPUTS])
    twice = integration.score(
        once, packages.churn, outputs=["probabilities"], keep=["label", *INPUTS]
    )
    report = integration.drift(twice, profile_of(packages.churn), scores=["label", "probabilities"])
    assert report.rows == 900


def test_gpus_that_the_cluster_lacks_are_refused(one_cpu, packages):
    """Ray would wait for them without end."""
    from modelkit.integrations import ray as integration

    rows = ray.data.from_pandas(customers(10, 5)[INPUTS])
    scorer = mk.Scorer(packages.churn)
    with pytest.raises(DeviceError, match="wait for ever"):
        integration.score(rows, scorer, gpus=1)
    for odd in (-1, 0.5):
        with pytest.raises(ValueError, match="whole number of GPUs"):
            integration.score(rows, scorer, gpus=odd)


def test_columns_that_ray_knows_are_told_where_the_job_is_built(one_cpu, packages, tmp_path):
    from modelkit.integrations import ray as integration

    frame = customers(10, 5)[INPUTS].rename(columns={"age": "Age"})
    frame.to_parquet(tmp_path / "rows.parquet")
    for rows in (ray.data.from_pandas(frame), ray.data.read_parquet(str(tmp_path))):
        with pytest.raises(SignatureError, match=r"missing column 'age' \(is it 'Age'\?\)"):
            integration.score(rows, packages.churn)


def test_a_categorical_of_pandas_logs_no_error(one_cpu, packages, caplog, monkeypatch):
    from modelkit.integrations import ray as integration

    frame = customers(10, 5)[INPUTS]
    rows = ray.data.from_pandas(frame.assign(city=frame["city"].astype("category")))
    logger = logging.getLogger("ray.data.dataset")
    monkeypatch.setattr(logger, "handlers", [*logger.handlers, caplog.handler])
    scored = integration.score(rows, packages.churn, outputs=["label"])
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert scored.count() == 10


def test_tensors_that_a_union_lacks_are_refused(one_cpu, packages):
    """Ray puts nulls there, and numbers of its own under them."""
    from modelkit.integrations import ray as integration

    number = np.ones(1, np.float32)
    rows = ray.data.from_items([{"x": number, "id": i} for i in range(3)])
    rows = rows.union(ray.data.from_items([{"id": 7}, {"id": 8}]))
    for own in (rows, rows.repartition(1)):
        with pytest.raises(Exception, match="missing"):
            integration.score(own, packages.narrow, outputs=["u16"], keep=["id"]).take_all()


def test_tensors_of_ray_and_of_arrow_are_scored(one_cpu, packages):
    from modelkit.integrations import ray as integration

    numbers = np.arange(30, dtype=np.float32)[:, None]
    rows = ray.data.from_numpy(numbers).rename_columns({"data": "x"})
    scored = integration.score(rows, packages.narrow, outputs=["u16", "lists"])
    served = local(packages.narrow, {"x": numbers})
    found = scored.take_all()
    assert [row["u16"] for row in found] == served["u16"].tolist()
    assert [list(row["lists"]) for row in found] == served["lists"].tolist()


def test_many_calls_at_once_are_gathered(one_cpu, packages):
    """More calls than a replica holds at once; each gets its own answer."""
    from ray import serve

    from modelkit.integrations import ray as integration

    frame = customers(CALLS, 6)[INPUTS]
    serve.start(proxy_location="Disabled")
    options = {"ray_actor_options": {"num_cpus": 0.1}}
    scorer = mk.Scorer(packages.churn, outputs=["probabilities"])
    handle = serve.run(integration.deployment(scorer, **options), route_prefix=None)

    other = handle.remote(frame[:2].assign(more=1)).result(timeout_s=200)
    assert len(other["probabilities"]) == 2

    async def call_all():
        calls = [handle.remote(frame[i : i + 1]) for i in range(CALLS)]
        return await asyncio.gather(*calls)

    try:
        answers = asyncio.run(call_all())
    finally:
        serve.shutdown()
    assert {tuple(answer) for answer in answers} == {("probabilities",)}
    found = np.concatenate([answer["probabilities"] for answer in answers])
    assert np.allclose(found, local(packages.churn, frame)["probabilities"], atol=1e-6)
    for odd in (0, "8"):
        with pytest.raises(ValueError, match="max_rows is an integer of at least 1"):
            integration.deployment(packages.churn, max_rows=odd)
    with pytest.raises(TypeError, match="outputs alone"):
        integration.deployment(mk.Scorer(packages.churn, keep=["id"]))
