"""What a cluster can hold: pools of actors, GPUs, names of Spark, and zones of time."""

import pytest

from modelkit.errors import DeviceError, DriftError, SignatureError
from modelkit.integrations.scorer.clusters import check_apart_in_any_case, check_pool, check_zone

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
    with pytest.raises(DriftError, match=r"session zone is Europe/Berlin.*timestamp_ntz"):
        check_zone(["at"], "Europe/Berlin")
