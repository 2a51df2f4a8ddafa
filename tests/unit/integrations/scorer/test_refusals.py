"""What is refused before a job runs: pools that a cluster cannot hold, names, zones, and rows in another form."""

import pytest
from helpers.scored import TABLE, X

import modelkit as mk
from modelkit.errors import DeviceError, SignatureError, UsageError
from modelkit.integrations.scorer.refusals import check_apart_in_any_case, check_pool, check_zone

GPU_NODE = {"CPU": 0.0, "GPU": 1.0}
HEAD = {"CPU": 2.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("nodes", "actors"),
    [([HEAD, GPU_NODE], 1), ([{"CPU": 1.0, "GPU": 2.0}], 2), ([HEAD, *[GPU_NODE] * 8], 8)],
)
def test_a_pool_that_a_cluster_can_hold(nodes, actors):
    check_pool(nodes, actors)


@pytest.mark.parametrize(
    ("nodes", "actors", "says"),
    [
        ([HEAD], 1, "have 0"),
        ([HEAD, GPU_NODE], 2, "have 1"),
        ([HEAD, {"GPU": 0.5}, {"GPU": 0.5}], 1, "have 0"),
        ([GPU_NODE], 1, "no node of the cluster has a CPU"),
        ([], 1, "have 0"),
    ],
)
def test_a_pool_that_would_wait_for_ever_is_refused(nodes, actors, says):
    with pytest.raises(DeviceError, match=says):
        check_pool(nodes, actors)


@pytest.mark.parametrize("gpus", [-1, 0.5, "2", None])
def test_a_number_of_gpus_that_is_none_is_told(gpus):
    with pytest.raises(ValueError, match="whole number of GPUs"):
        check_pool([GPU_NODE, HEAD], gpus)


def test_names_that_differ_in_case_alone_and_times_of_another_zone_are_told():
    check_apart_in_any_case(["id", "label"])
    with pytest.raises(SignatureError, match=r"\['Label', 'label'\] of keep and outputs"):
        check_apart_in_any_case(["id", "Label", "label"])
    check_zone(["at"], "UTC")
    check_zone([], "Europe/Berlin")
    with pytest.raises(UsageError, match=r"session zone is Europe/Berlin.*timestamp_ntz"):
        check_zone(["at"], "Europe/Berlin")


# Rows in another form.


@pytest.mark.parametrize(
    ("form", "wrong", "says"),
    [
        ("__call__", X, "DataFrame and no dict of arrays"),
        ("__call__", TABLE, "Table and no dict of arrays"),
        ("__call__", [1, 2], "list and no dict of arrays"),
        ("frame", {"a": [1.0], "b": [2.0]}, "dict and no pandas frame"),
        ("frame", TABLE, "Table and no pandas frame"),
        ("frame", X["a"], "Series and no pandas frame"),
        ("arrow", X, "DataFrame and no Arrow table"),
        ("arrow", {"a": [1.0]}, "dict and no Arrow table"),
        ("batches", TABLE, "record batches has ChunkedArray"),
        ("batches", X, "record batches has str"),
    ],
)
def test_another_form_is_told_with_what_takes_it(package, form, wrong, says):
    with pytest.raises(TypeError, match=f"{says}.*pandas frame by .frame"):
        list(getattr(mk.Scorer(package), form)(wrong))


def test_a_table_is_no_schema(package):
    with pytest.raises(TypeError, match=r"no Arrow schema: .* table.schema"):
        mk.Scorer(package).schema(TABLE)


def test_a_record_batch_is_scored_as_a_table(package):
    scorer = mk.Scorer(package)
    assert scorer.arrow(TABLE.to_batches()[0]).equals(scorer.arrow(TABLE))
