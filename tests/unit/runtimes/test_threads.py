"""How many threads: the decisions as tables."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.runtimes import machine
from modelkit.runtimes.threads import choose_threads, quota_cpus, quota_files, worker_count

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
