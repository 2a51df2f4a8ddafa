"""Which device and how many threads: the decisions as tables, and what the installed onnxruntime makes of them."""

import logging

import pytest

import modelkit as mk
from modelkit.errors import DeviceError, UsageError
from modelkit.runtimes import devices as decide
from modelkit.runtimes import machine, sessions
from modelkit.runtimes.onnx import OnnxModel

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

AZURE = "AzureExecutionProvider"


NOT_DEVICES = [
    "",
    "CPU",
    "Cuda",
    "gpu",
    "gpu0",
    "cuda:",
    "cuda:-1",
    "cuda:01",
    "cuda:1:2",
    "cuda: 1",
    "cuda:\u0663",
    "cpu:0",
]
NOT_DEVICES += ["openvino:gpu", "azure", AZURE, CUDA, None, 0, b"cpu", ["auto"], [["cpu"]], [], ()]


@pytest.mark.parametrize("name", NOT_DEVICES)
def test_what_is_no_device_is_an_error(boosting_mk, name):
    with pytest.raises(UsageError, match="'auto'") as caught:
        mk.load(boosting_mk, device=name)
    assert hasattr(caught.value, "device")


def test_the_placement_says_why():
    cpu, cuda = decide.parse_device("cpu"), decide.parse_device("cuda")
    assert decide.reason_for(cpu, "cpu", {}) == "as asked"
    assert "knows no GPU" in decide.reason_for(cpu, "auto", {})
    assert "cuda: broken" in decide.reason_for(cpu, "auto", {"cuda": "broken"})
    assert "next in the list (cuda: broken)" in decide.reason_for(
        cpu, ["cuda", "cpu"], {"cuda": "broken"}
    )
    assert "first usable" in decide.reason_for(cuda, "auto", {})
    placement = mk.types.Placement(
        CUDA, "cuda", 1, split=False, nodes=((CPU, 1), (CUDA, 4)), reason="as asked"
    )
    assert "nodes: 1 on CPUExecutionProvider, 4 on CUDAExecutionProvider" in str(placement)


# What this machine has.


@pytest.fixture(scope="module")
def devices():
    return mk.devices()


def test_every_device_is_listed_with_a_reason(devices):
    assert tuple(device.name for device in devices) == decide.DEVICE_NAMES
    assert devices[0].usable
    for device in devices:
        assert isinstance(device, mk.types.Device)
        assert device.provider == decide.parse_device(device.name).provider != AZURE
        assert device.reason
        assert device.usable or device.name != "cpu"
    assert AZURE not in sessions.providers()


def test_cuda_is_refused_with_the_real_reason(devices, dense_mk):
    cuda = next(device for device in devices if device.name == "cuda")
    if cuda.usable:
        with pytest.raises(DeviceError, match=r"the last one is cuda:\d"):
            mk.load(dense_mk, device="cuda:99")
    elif CUDA in sessions.providers():
        assert "driver" in cuda.reason or "librar" in cuda.reason or "CUDA device" in cuda.reason
    else:
        assert "not compiled into" in cuda.reason
        assert "onnxruntime-gpu" in cuda.reason


def test_a_list_takes_the_first_that_is_usable(devices, dense_mk):
    refused = [device.name for device in devices if not device.usable]
    with mk.load(dense_mk, device=[*refused, "cpu"]) as model:
        assert model.placement.device == "cpu"
        assert model.placement.requested == next(iter([*refused, "cpu"]))
        assert all(f"{name}: " in model.placement.reason for name in refused)
    if len(refused) > 1:
        with pytest.raises(DeviceError) as caught:
            mk.load(dense_mk, device=tuple(refused))
        assert list(caught.value.obstacles) == refused


def test_an_explicit_cpu_warns_of_nothing(dense_mk, caplog):
    with (
        caplog.at_level(logging.WARNING),
        mk.load(dense_mk, device="cpu"),
        mk.load(dense_mk, device=["cuda", "cpu"]),
    ):
        assert not caplog.records


def test_packages_are_proven_on_the_cpu(dense_mk):
    with mk.load(dense_mk, device="cpu") as model:
        assert (
            OnnxModel(model.graph[0], model.signature, weights=model.graph[1]).placement.device
            == "cpu"
        )


def test_the_placement_tells_the_threads_in_force(dense_mk, monkeypatch):
    usable = machine.usable_cpus()
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    with mk.load(dense_mk, device="cpu") as model:
        assert model.placement.threads == usable
    monkeypatch.setenv("WEB_CONCURRENCY", str(usable))
    with mk.load(dense_mk, device="cpu") as model:
        assert model.placement.threads == 1
        assert usable == 1 or model.placement.threads_reason.endswith("(WEB_CONCURRENCY)")
    with mk.load(dense_mk, device="cpu", threads=3) as model:
        assert (model.placement.threads, model.placement.threads_reason) == (3, "as asked")
