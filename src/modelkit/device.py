"""Where a model runs, and with how many threads: decisions without I/O."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from modelkit.errors import DeviceError

# Below this many bytes of weights a run is too short to be worth splitting over threads: waking a second
# thread cost 5 to 15 microseconds on models that take 6 to 20. Bulk runs use all threads either way.
SPLIT_BYTES = 8 << 20


@dataclass(frozen=True)
class Placement:
    """Where a Model really runs.

    `threads` is the number of CPU threads in force; `split` says how they are used: each run split over all of
    them (True), or each run on one thread and the chunks of a bulk run spread over them (False), which keeps
    every row's answer independent of the number of threads.
    """

    provider: str
    device: str
    threads: int
    split: bool

    def __str__(self) -> str:
        how = "each run split over them" if self.split else "one per run, chunks of a bulk run in parallel"
        return f"{self.device} ({self.provider}), {self.threads} thread{'s' if self.threads != 1 else ''}, {how}"


def choose_device(device: str) -> str:
    """The device to run on. Raises DeviceError for anything but the CPU, which is what this version runs on."""
    if device in ("auto", "cpu"):
        return "cpu"
    raise DeviceError(f"device {device!r} is not supported by this version; use 'cpu' or 'auto'", device=device)


def choose_threads(threads: int | str, usable: int) -> int:
    """The number of threads: as asked, or all `usable` CPUs for "auto". Raises DeviceError."""
    if threads == "auto":
        return usable
    if isinstance(threads, int) and not isinstance(threads, bool) and threads > 0:
        return threads
    raise DeviceError(f"threads must be a positive integer or 'auto', got {threads!r}", device=threads)


def split_runs(threads: int, weight_bytes: int) -> bool:
    """Whether one run is split over the threads (large dense models) or kept on one."""
    return threads > 1 and weight_bytes >= SPLIT_BYTES


def quota_cpus(cpu_max: str) -> int | None:
    """The CPUs that a cgroup v2 `cpu.max` file grants, rounded up; None where there is no quota."""
    quota, _, period = cpu_max.partition(" ")
    if not quota.strip().isdigit() or not period.strip().isdigit() or int(period) == 0:
        return None
    return max(1, -(-int(quota) // int(period)))


def chunk_bounds(rows: int, size: int) -> list[tuple[int, int]]:
    """Split `rows` into the fewest chunks of at most `size` rows, as equal as they can be."""
    count = max(1, -(-rows // size))
    edges = [rows * i // count for i in range(count + 1)]
    return list(pairwise(edges))
