"""The CPUs, the memory and the NVIDIA driver of this machine.

Asks the system, decides nothing.
"""

from __future__ import annotations

import mmap
import os
from functools import cache

from modelkit.runtimes.devices import cuda_obstacle
from modelkit.runtimes.threads import quota_cpus, quota_files


def usable_cpus() -> int:
    """The CPUs this process may use: its affinity, or less under a cgroup quota."""
    affinity = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(affinity, _quota() or affinity)


@cache  # a container keeps its quota, and reading it took 3 % of loading a small model
def _quota() -> int | None:
    files = quota_files(_read_line("/proc/self/cgroup"))
    limits = [quota_cpus(" ".join(map(_read_line, group))) for group in files]
    return min((limit for limit in limits if limit is not None), default=None)


def _read_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:  # pathlib takes 4 ms to import
            return file.read().strip()
    except (OSError, UnicodeError):
        return ""


def nvidia_obstacle(built: str, index: int) -> str | None:
    """Why the NVIDIA driver lacks the device `index`, or None if it has.

    `built` is the CUDA version that onnxruntime was built with.
    """
    import ctypes

    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return cuda_obstacle(None, 0, built, 0, index)
    version = ctypes.c_int(0)
    count = ctypes.c_int(0)
    answer = driver.cuInit(0)
    driver.cuDriverGetVersion(ctypes.byref(version))
    if answer == 0:
        driver.cuDeviceGetCount(ctypes.byref(count))
    return cuda_obstacle(answer, version.value, built, count.value, index)


def release(data: memoryview | None) -> None:
    """Give the pages of a mapped file back to the system, which reads again those that are used."""
    mapped = None if data is None else data.obj
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
