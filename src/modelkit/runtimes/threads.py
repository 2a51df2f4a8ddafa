"""How many threads and processes share the CPUs: decisions without I/O."""

from __future__ import annotations

import re

from modelkit.errors import UsageError

# Below this many bytes of weights a run is too short to be worth splitting over threads: waking a
# second thread cost 5 to 15 microseconds on models that take 6 to 20. Bulk runs use all threads
# either way.
SPLIT_BYTES = 8 << 20


def choose_threads(
    threads: int | str, usable: int, workers: int = 1, *, on_cpu: bool = True
) -> tuple[int, str]:
    """The number of threads, and the reason for it.

    For "auto" it is this process's share of the usable CPUs, and one on another device, which does
    the work. Raises UsageError.
    """
    if threads == "auto":
        if not on_cpu:
            return 1, "the device does the work"
        cpus = f"{usable} usable CPU{'s' if usable != 1 else ''}"
        if workers == 1:
            return usable, cpus
        return max(1, usable // workers), f"{cpus} for {workers} workers (WEB_CONCURRENCY)"
    if isinstance(threads, int) and not isinstance(threads, bool) and threads > 0:
        return threads, "as asked"
    raise UsageError(f"threads must be a positive integer or 'auto', got {threads!r}")


def split_runs(threads: int, weight_bytes: int) -> bool:
    """Whether one run is split over the threads (large dense models) or kept on one."""
    return threads > 1 and weight_bytes >= SPLIT_BYTES


def worker_count(concurrency: str | None) -> int:
    """The number of worker processes in WEB_CONCURRENCY; 1 unless it is a positive integer."""
    text = (concurrency or "").strip()
    return max(1, int(text)) if re.fullmatch("[0-9]{1,6}", text) else 1


def quota_cpus(cpu_max: str) -> int | None:
    """The CPUs that a cgroup v2 `cpu.max` file grants, rounded up; None without a quota.

    The two files of version 1, joined by a space, are of the same form.
    """
    quota, _, period = cpu_max.partition(" ")
    if not quota.strip().isdigit() or not period.strip().isdigit() or int(period) == 0:
        return None
    return max(1, -(-int(quota) // int(period)))


def quota_files(memberships: str) -> list[tuple[str, ...]]:
    """The quota files of the group of a process and of all groups above, from /proc/self/cgroup.

    The contents of one group's files, joined by a space, are what `quota_cpus` reads. Inside a
    container the path may be the host's, and not exist; then the root of the mount is the
    container's group.
    """
    files: list[tuple[str, ...]] = []
    for line in memberships.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = "/sys/fs/cgroup/cpu" if controllers else "/sys/fs/cgroup"
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = "/".join([root, *parts[:depth]])
            files.append(tuple(f"{folder}/{name}" for name in names))
    return files
