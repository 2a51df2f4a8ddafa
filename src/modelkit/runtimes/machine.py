"""What this machine has to run on: CPUs and an NVIDIA driver. Asks the system, decides nothing."""

from __future__ import annotations

import os

from modelkit.device import cuda_obstacle, quota_cpus, quota_files


def usable_cpus() -> int:
    """The CPUs this process may use: its affinity, or less under a cgroup quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    groups = quota_files(_read("/proc/self/cgroup"))
    return min(
        [affinity, *(quota for files in groups if (quota := quota_cpus(" ".join(map(_read, files)))) is not None)]
    )


def _read(path: str) -> str:
    # Several files are looked for each time a model is loaded, and `open` would take five times as long as this.
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(file, 4096).decode("ascii", "replace")
    finally:
        os.close(file)


def nvidia_obstacle(built: str, index: int) -> str | None:
    """Why the NVIDIA driver has no such device for an onnxruntime `built` with this CUDA; None if it has."""
    import ctypes

    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return cuda_obstacle(None, 0, built, 0, index)
    version, count = ctypes.c_int(0), ctypes.c_int(0)
    answer = driver.cuInit(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    if answer == 0:
        driver.cuDeviceGetCount(ctypes.byref(count))
    return cuda_obstacle(answer, version.value, built, count.value, index)
