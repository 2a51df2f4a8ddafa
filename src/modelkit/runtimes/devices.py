"""Which device a graph runs on: decisions, without I/O."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from modelkit.errors import DeviceError, UsageError

DeviceName = str | list[str] | tuple[str, ...]

CPU = "CPUExecutionProvider"

# Short names, in the order in which `devices()` lists them. AzureExecutionProvider has none: it
# sends rows to a server, so it is never used, although every wheel brings it.
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "directml": "DmlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "webgpu": "WebGpuExecutionProvider",
}

# What brings each provider; all of these install files of the same names, so one replaces the
# other.
REPLACE = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install"
WHEELS = {
    "cuda": "onnxruntime-gpu  # on Linux x86-64 and Windows",
    "tensorrt": "onnxruntime-gpu tensorrt  # on Linux x86-64 and Windows",
    "rocm": "onnxruntime-rocm  # from AMD's package index",
    "migraphx": "onnxruntime-migraphx  # from AMD's package index",
    "directml": "onnxruntime-directml  # on Windows",
    "openvino": "onnxruntime-openvino",
    "coreml": "onnxruntime  # on macOS",
    "qnn": "onnxruntime-qnn",
    "webgpu": "onnxruntime-webgpu",
}

# Answers must not get less exact without being asked: CUDA would round float32 to TF32 in matrix
# products, OpenVINO computes in float16 on a GPU, and so does Core ML with its older format.
OPTIONS = {
    "cuda": {"use_tf32": "0"},
    "openvino:GPU": {"device_type": "GPU", "precision": "ACCURACY"},
    "openvino:NPU": {"device_type": "NPU"},
    "coreml": {"ModelFormat": "MLProgram"},
}

# What "auto" tries before the CPU. TensorRT compiles for minutes, an NPU rounds, WebGPU is young:
# by name only.
AUTO = ("cuda", "rocm", "migraphx", "directml", "openvino:GPU", "coreml")

DEVICE_NAMES = tuple(
    sorted(
        {*PROVIDERS, *OPTIONS}, key=lambda name: ([*PROVIDERS].index(name.partition(":")[0]), name)
    )
)

CUDA_ERRORS = {
    3: "CUDA was in use when this process was forked; load the model after the fork, or start "
    "processes by spawn",
    35: "the NVIDIA driver is too old; update the driver",
    100: "this machine lacks a CUDA device, or CUDA_VISIBLE_DEVICES hides it",
    803: "the NVIDIA driver and its library differ in version; restart the machine or reinstall "
    "the driver",
}


@dataclass(frozen=True)
class Target:
    """One device as asked for: the name, its provider, and the options that make it this one."""

    name: str
    provider: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """The name without an index or kind."""
        return self.name.partition(":")[0]

    @property
    def index(self) -> int:
        """The number of the CUDA device."""
        return int(dict(self.options).get("device_id", 0))


def parse_device(name: object) -> Target:
    """The device that a name stands for. Raises UsageError for anything else."""
    short, _, which = name.partition(":") if isinstance(name, str) else ("", "", "")
    if short == "cuda" and re.fullmatch("0|[1-9][0-9]{0,3}", which):
        return Target(str(name), PROVIDERS[short], (*OPTIONS[short].items(), ("device_id", which)))
    if name not in DEVICE_NAMES:
        raise UsageError(
            f"{name!r} is not a device; there are 'auto', {', '.join(map(repr, DEVICE_NAMES))} and "
            "'cuda:1' and so on, or a list of them, of which the first that is usable is taken; "
            "mk.devices() shows which are",
            device=name,
        )
    return Target(str(name), PROVIDERS[short], tuple(OPTIONS.get(str(name), {}).items()))


AUTO_TARGETS = tuple(map(parse_device, (*AUTO, "cpu")))


def device_chain(device: DeviceName, compiled: Collection[str]) -> tuple[Target, ...]:
    """The devices to try, in this order.

    `compiled` are the providers in the installed onnxruntime. Raises UsageError.
    """
    if device == "auto":
        return tuple(t for t in AUTO_TARGETS if t.provider in compiled or t.provider == CPU)
    if isinstance(device, list | tuple):
        if not device:
            raise UsageError("the list of devices is empty; name one, or use 'auto'", device=device)
        return tuple(map(parse_device, device))
    return (parse_device(device),)


def not_compiled(target: Target, compiled: Collection[str], version: str) -> str | None:
    """Why the installed onnxruntime lacks the device, and what to install; None if it has it."""
    if target.provider in compiled:
        return None
    return (
        f"{target.provider} is not compiled into the installed onnxruntime {version}; to have it: "
        f"{REPLACE} {WHEELS.get(target.short, '')}"
    )


def cuda_obstacle(
    answer: int | None, driver: int, built: str, count: int, index: int
) -> str | None:
    """Why this CUDA device does not exist, or None if it does.

    Args:
        answer: what `cuInit` gave; None where the driver's library is not there.
        driver: the CUDA version that the driver supports, as 1000 * major + 10 * minor.
        built: the CUDA version that onnxruntime was built with.
        count: how many devices there are.
        index: the one that was asked for.
    """
    if answer is None:
        return (
            "the NVIDIA driver is not installed (no libcuda); install it, or give the container "
            "access to the GPU"
        )
    if answer != 0:
        return CUDA_ERRORS.get(
            answer, f"the NVIDIA driver answers with error {answer}; see what nvidia-smi says"
        )
    major = built.partition(".")[0]
    if major.isdigit() and 0 < driver < 1000 * int(major):
        supported = f"{driver // 1000}.{driver % 1000 // 10}"
        return (
            f"the NVIDIA driver is too old: it supports CUDA {supported}, "
            f"and onnxruntime was built with CUDA {built}; update the driver"
        )
    if count == 0:
        return CUDA_ERRORS[100]
    if index >= count:
        return f"cuda:{index} does not exist; the last one is cuda:{count - 1}"
    return None


def missing_libraries(printed: str) -> str | None:
    """The shared libraries that were not found, and what installs them; None if all were.

    `printed` is what `onnxruntime.preload_dlls` printed.
    """
    missing = re.findall(r"^Failed to load (.+?): ", printed, re.MULTILINE)
    if not missing:
        return None
    names = ", ".join(name.replace("\\", "/").rpartition("/")[2] for name in missing)
    return f"missing shared libraries: {names}; pip install 'onnxruntime-gpu[cuda,cudnn]'"


def dishonest(target: Target, first: str, nodes: Mapping[str, int]) -> str | None:
    """Why a session is not what was asked for; None if it is.

    `nodes` is empty where the runtime does not say.
    """
    if first != target.provider:
        return (
            f"onnxruntime could not start {target.provider} and took {first}; its message is on "
            "standard error"
        )
    if nodes and not nodes.get(target.provider):
        return (
            f"no node of this graph runs on {target.provider}: it lacks kernels for them (usual "
            "for tree models)"
        )
    return None


def reason_for(target: Target, device: DeviceName, obstacles: Mapping[str, str]) -> str:
    """Why this device was taken; `obstacles` says why each one before was not."""
    before = "; ".join(f"{name}: {obstacle}" for name, obstacle in obstacles.items())
    if device == "auto":
        if target.provider == CPU:
            return f"auto took the CPU ({before or 'the installed onnxruntime knows no GPU'})"
        return f"auto took the first usable one{f' ({before})' if before else ''}"
    return f"the next in the list ({before})" if before else "as asked"


def refusal(device: DeviceName, obstacles: Mapping[str, str]) -> str:
    """The message for a device that cannot be had."""
    reasons = "".join(f"\n  {name}: {obstacle}" for name, obstacle in obstacles.items())
    return f"device {device!r} cannot be had:{reasons}\nuse device='auto' to run on what is usable"


def refuse_version(version: str) -> None:
    """Raise DeviceError for a release of onnxruntime that gives wrong answers on every device.

    1.26.0 gave binary classifiers of tree ensembles other probabilities by up to 1.0 (measured on
    forests).
    """
    if version.split("+", maxsplit=1)[0] == "1.26.0":
        raise DeviceError(
            "onnxruntime 1.26.0 computes wrong probabilities for binary tree ensembles; install "
            "another release: pip install 'onnxruntime!=1.26.0' (or 'onnxruntime-gpu!=1.26.0')",
            device="cpu",
        )
