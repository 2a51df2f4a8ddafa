"""Which device and how many threads: the decisions as tables, and what the installed onnxruntime makes of them."""

import logging
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.errors import DeviceError
from modelkit.runtimes import devices as decide
from modelkit.runtimes import machine, sessions
from modelkit.runtimes.onnx import OnnxModel
from modelkit.runtimes.threads import choose_threads, quota_cpus, quota_files, worker_count

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
AZURE = "AzureExecutionProvider"
subsets = st.sets(st.sampled_from([*decide.PROVIDERS.values(), AZURE]))


@pytest.mark.parametrize(
    ("name", "provider", "options"),
    [
        ("cpu", CPU, {}),
        ("cuda", CUDA, {"use_tf32": "0"}),
        ("cuda:12", CUDA, {"use_tf32": "0", "device_id": "12"}),
        ("tensorrt", "TensorrtExecutionProvider", {}),
        ("rocm", "ROCMExecutionProvider", {}),
        ("migraphx", "MIGraphXExecutionProvider", {}),
        ("directml", "DmlExecutionProvider", {}),
        ("openvino", "OpenVINOExecutionProvider", {}),
        (
            "openvino:GPU",
            "OpenVINOExecutionProvider",
            {"device_type": "GPU", "precision": "ACCURACY"},
        ),
        ("openvino:NPU", "OpenVINOExecutionProvider", {"device_type": "NPU"}),
        ("coreml", "CoreMLExecutionProvider", {"ModelFormat": "MLProgram"}),
        ("qnn", "QNNExecutionProvider", {}),
        ("webgpu", "WebGpuExecutionProvider", {}),
    ],
)
def test_a_name_stands_for_a_provider(name, provider, options):
    target = decide.parse_device(name)
    assert (target.name, target.provider, dict(target.options)) == (name, provider, options)
    assert decide.device_chain(name, []) == (target,)


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
    with pytest.raises(DeviceError, match="'auto'") as caught:
        mk.load(boosting_mk, device=name)
    assert hasattr(caught.value, "device")


@given(st.text(max_size=12))
def test_any_text_is_a_device_or_an_error(text):
    try:
        target = decide.parse_device(text)
    except DeviceError as error:
        assert repr(text) in str(error)  # noqa: PT017 - both ends are right
    else:
        assert target.short in decide.PROVIDERS


@given(subsets)
def test_auto_tries_what_is_compiled_in_by_rank_and_ends_on_the_cpu(compiled):
    chain = decide.device_chain("auto", compiled)
    names = [target.name for target in chain]
    assert names == [n for n in decide.AUTO if decide.parse_device(n).provider in compiled] + [
        "cpu"
    ]
    assert not {"tensorrt", "qnn", "webgpu", "openvino:NPU"} & set(names)
    assert AZURE not in {target.provider for target in chain}


@given(st.lists(st.sampled_from(decide.DEVICE_NAMES), min_size=1))
def test_a_list_is_tried_in_its_order(names):
    assert [target.name for target in decide.device_chain(names, [])] == names
    assert decide.device_chain(tuple(names), []) == decide.device_chain(names, [])


@given(st.sampled_from(decide.DEVICE_NAMES), subsets)
def test_what_is_not_compiled_in_says_what_to_install(name, compiled):
    target = decide.parse_device(name)
    obstacle = decide.not_compiled(target, compiled, "1.99")
    assert (obstacle is None) == (target.provider in compiled)
    if obstacle is not None:
        assert "onnxruntime 1.99" in obstacle
        assert "pip install" in obstacle
    assert name == "cpu" or target.short in decide.WHEELS


@pytest.mark.parametrize(
    ("answer", "driver", "built", "count", "index", "said"),
    [
        (0, 13000, "13.0", 1, 0, None),
        (0, 13010, "12.8", 2, 1, None),
        (0, 12040, "", 1, 0, None),
        (None, 0, "13.0", 0, 0, "driver is not installed"),
        (0, 12040, "13.0", 1, 0, "supports CUDA 12.4, and onnxruntime was built with CUDA 13.0"),
        (35, 0, "13.0", 0, 0, "too old"),
        (100, 13000, "13.0", 0, 0, "CUDA_VISIBLE_DEVICES"),
        (0, 13000, "13.0", 0, 0, "CUDA_VISIBLE_DEVICES"),
        (3, 13000, "13.0", 0, 0, "after the fork"),
        (803, 13000, "13.0", 0, 0, "restart"),
        (999, 13000, "13.0", 0, 0, "error 999"),
        (0, 13000, "13.0", 2, 2, "no CUDA device 2; the last one is cuda:1"),
    ],
)
def test_what_the_nvidia_driver_lacks(answer, driver, built, count, index, said):
    obstacle = decide.cuda_obstacle(answer, driver, built, count, index)
    assert obstacle is None if said is None else said in obstacle


def test_missing_libraries_are_named():
    printed = (
        "Failed to load libcublas.so.13: libcublas.so.13: cannot open shared object file: No such file\n"
        "Failed to load /env/nvidia/libcurand.so.10: too old\n"
        "Please follow https://onnxruntime.ai/docs/install to install CUDA.\n"
    )
    said = decide.missing_libraries(printed)
    assert (
        said
        == "missing shared libraries: libcublas.so.13, libcurand.so.10; pip install 'onnxruntime-gpu[cuda,cudnn]'"
    )
    assert decide.missing_libraries("") is None


@pytest.mark.parametrize(
    ("first", "nodes", "said"),
    [
        (CUDA, {}, None),
        (CUDA, {CUDA: 3}, None),
        (CUDA, {CUDA: 1, CPU: 9}, None),
        (CPU, {}, "took CPUExecutionProvider"),
        (CPU, {CPU: 3}, "took CPUExecutionProvider"),
        (CUDA, {CPU: 3}, "no node of this graph"),
    ],
)
def test_a_session_is_what_was_asked_for_or_says_why_not(first, nodes, said):
    obstacle = decide.dishonest(decide.parse_device("cuda"), first, nodes)
    assert obstacle is None if said is None else said in obstacle


def test_the_placement_says_why():
    cpu, cuda = decide.parse_device("cpu"), decide.parse_device("cuda")
    assert decide.reason_for(cpu, "cpu", {}) == "as asked"
    assert "knows no GPU" in decide.reason_for(cpu, "auto", {})
    assert "cuda: broken" in decide.reason_for(cpu, "auto", {"cuda": "broken"})
    assert "next in the list (cuda: broken)" in decide.reason_for(
        cpu, ["cuda", "cpu"], {"cuda": "broken"}
    )
    assert "first usable" in decide.reason_for(cuda, "auto", {})
    placement = mk.Placement(
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
        assert isinstance(device, mk.Device)
        assert device.provider == decide.parse_device(device.name).provider != AZURE
        assert device.reason
        assert device.usable or device.name != "cpu"
    assert AZURE not in sessions.providers()


def test_an_explicit_device_runs_there_or_raises_the_reason(devices, dense_mk):
    x = np.random.default_rng(0).normal(size=(8, 256)).astype(np.float32)
    expected = mk.load(dense_mk, device="cpu").predict(x)
    for device in devices:
        if device.usable:
            with mk.load(dense_mk, device=device.name) as model:
                assert (model.placement.provider, model.placement.device) == (
                    device.provider,
                    device.name,
                )
                np.testing.assert_allclose(model.predict(x), expected, rtol=1e-3, atol=1e-3)
        else:
            with pytest.raises(DeviceError) as caught:
                mk.load(dense_mk, device=device.name)
            assert device.reason in str(caught.value)
            assert list(caught.value.obstacles) == [device.name]


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
        assert model.placement.asked == next(iter([*refused, "cpu"]))
        assert all(f"{name}: " in model.placement.reason for name in refused)
    if len(refused) > 1:
        with pytest.raises(DeviceError) as caught:
            mk.load(dense_mk, device=tuple(refused))
        assert list(caught.value.obstacles) == refused


def test_auto_says_what_it_chose_and_logs_where_a_gpu_was_passed_by(devices, dense_mk, caplog):
    usable = [
        name
        for name in decide.AUTO
        if any(device.name == name and device.usable for device in devices)
    ]
    compiled = len(decide.device_chain("auto", sessions.providers())) > 1
    with caplog.at_level(logging.WARNING), mk.load(dense_mk) as model:
        placement = model.placement
    assert placement.asked == decide.device_chain("auto", sessions.providers())[0].name
    if usable:
        assert placement.device == usable[0]
        assert not caplog.records
        return
    assert (placement.provider, placement.device, placement.nodes) == (CPU, "cpu", ())
    assert placement.reason.startswith("auto took the CPU")
    assert [(record.name, record.levelno) for record in caplog.records] == [
        ("modelkit", logging.WARNING)
    ] * compiled
    assert [record.getMessage() for record in caplog.records] == [placement.reason] * compiled


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


# Threads.


@pytest.mark.parametrize(
    ("threads", "usable", "workers", "on_cpu", "number", "said"),
    [
        ("auto", 7, 1, True, 7, "7 usable CPUs"),
        ("auto", 1, 1, True, 1, "1 usable CPU"),
        ("auto", 8, 4, True, 2, "8 usable CPUs for 4 workers (WEB_CONCURRENCY)"),
        ("auto", 7, 2, True, 3, "7 usable CPUs for 2 workers (WEB_CONCURRENCY)"),
        ("auto", 2, 4, True, 1, "2 usable CPUs for 4 workers (WEB_CONCURRENCY)"),
        ("auto", 8, 1, False, 1, "the device does the work"),
        (3, 8, 4, True, 3, "as asked"),
        (3, 8, 4, False, 3, "as asked"),
    ],
)
def test_threads_and_how_they_came_about(threads, usable, workers, on_cpu, number, said):
    assert choose_threads(threads, usable, workers, on_cpu=on_cpu) == (number, said)


@pytest.mark.parametrize(
    ("concurrency", "workers"),
    [
        (None, 1),
        ("", 1),
        ("4", 4),
        (" 4\n", 4),
        ("1", 1),
        ("0", 1),
        ("-2", 1),
        ("2.5", 1),
        ("many", 1),
        ("\u0664", 1),
    ],
)
def test_web_concurrency_is_a_positive_integer_or_ignored(concurrency, workers):
    assert worker_count(concurrency) == workers


@given(usable=st.integers(1, 512), concurrency=st.text() | st.integers(-5, 600).map(str))
def test_every_process_has_a_thread_and_together_they_have_no_more_than_there_are(
    usable, concurrency
):
    workers = worker_count(concurrency)
    count, _ = choose_threads("auto", usable, workers)
    assert 1 <= count <= usable
    assert count == 1 or count * workers <= usable


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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinity")
def test_affinity_is_respected():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000", None),
        ("150000 100000", 2),
        ("200000 100000\n", 2),
        ("1000 100000", 1),
        ("-1 100000", None),  # version 1 without a quota
        ("100000 0", None),
        ("nonsense", None),
        ("", None),
        (" ", None),
    ],
)
def test_quotas(text, cpus):
    assert quota_cpus(text) == cpus


def test_quotas_are_looked_for_in_the_group_and_those_above():
    assert quota_files("0::/system.slice/app.service\n") == [
        ("/sys/fs/cgroup/system.slice/app.service/cpu.max",),
        ("/sys/fs/cgroup/system.slice/cpu.max",),
        ("/sys/fs/cgroup/cpu.max",),
    ]
    assert quota_files("5:memory:/a\n4:cpu,cpuacct:/docker\n3:cpuset:/b\n") == [
        (
            "/sys/fs/cgroup/cpu/docker/cpu.cfs_quota_us",
            "/sys/fs/cgroup/cpu/docker/cpu.cfs_period_us",
        ),
        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ]
    assert quota_files("0::/../../pod") == [
        ("/sys/fs/cgroup/pod/cpu.max",),
        ("/sys/fs/cgroup/cpu.max",),
    ]
    assert quota_files("") == []


@given(st.text())
def test_any_memberships_give_files_below_the_mount(text):
    for files in quota_files(text):
        assert all(
            file.startswith("/sys/fs/cgroup/") and ".." not in file.split("/") for file in files
        )
