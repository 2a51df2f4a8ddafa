"""Which device: the decisions as tables."""

import pytest

from modelkit.runtimes import devices as decide

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


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
        (0, 13000, "13.0", 2, 2, "cuda:2 does not exist; the last one is cuda:1"),
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
