"""Processes at one registry in a folder: killed, stopped, forked, with another umask, on a disk that is full."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.churn import registry_at
from helpers.processes import forks, passes_in_a_child

import modelkit as mk

COUNT_UP = """
import sys
from pathlib import Path
import modelkit as mk
registry = mk.Registry(sys.argv[1])
while not Path(sys.argv[2]).exists():
    now = registry.aliases("churn")["count"]
    number = int(now.reason)
    try:
        registry.set_alias("churn", "count", "1.0.0", expected=now.generation, reason=str(number + 1))
    except mk.errors.Conflict:
        pass
"""


def test_processes_that_are_killed_lose_nothing_and_tear_nothing(tmp_path, churn_packages):
    registry = registry_at(tmp_path / "models", churn_packages)
    registry.set_alias("churn", "count", "1.0.0", expected=None, reason="0")
    over = tmp_path / "over"
    rng = random.Random(0)

    def start():
        return subprocess.Popen([sys.executable, "-c", COUNT_UP, registry.url, over])

    workers = [start() for _ in range(4)]
    for _ in range(20):
        seen = registry.generation("churn")
        while registry.generation("churn") < seen + 5:
            assert all(worker.poll() is None for worker in workers)
        place = rng.randrange(4)
        workers[place].kill()
        workers[place].wait()
        workers[place] = start()
    over.touch()
    assert [worker.wait(280) for worker in workers] == [0] * 4
    history = registry.history("churn")
    assert len(history) > 20 * 5
    assert [int(entry.reason) for entry in history] == [*range(len(history))]
    assert [entry.generation for entry in history] == [*range(1, len(history) + 1)]


@pytest.fixture
def registry(tmp_path, churn_packages):
    registry = registry_at(tmp_path / "models", churn_packages)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return registry


@forks
def test_a_fork_while_a_registry_is_in_use_hangs_nobody(registry):
    stop = threading.Event()

    def poll():
        while not stop.is_set():
            registry.generation("churn")

    def check():
        signal.alarm(100)
        assert registry.aliases("churn")["champion"].version == "1.0.0"

    threads = [threading.Thread(target=poll) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert all(passes_in_a_child(check) for _ in range(10))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.skipif(os.name != "posix", reason="needs a umask")
@pytest.mark.parametrize(("umask", "modes"), [(0o022, (0o444, 0o755)), (0o077, (0o400, 0o700))])
def test_files_are_read_by_whom_the_umask_says(tmp_path, churn_packages, umask, modes):
    code = (
        "import os, sys, modelkit as mk\n"
        "os.umask(int(sys.argv[3]))\n"
        "registry = mk.Registry(sys.argv[1])\n"
        "registry.register(sys.argv[2])\n"
        "print(registry.fetch('churn', '1.0.0', sys.argv[1] + '-copy'))"
    )
    where = tmp_path / "models"
    command = [sys.executable, "-c", code, str(where), str(churn_packages / "1.0.0.mk"), str(umask)]
    copy = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    found = [path for path in where.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in found} == {modes[0]}
    assert {path.parent.stat().st_mode & 0o777 for path in found} == {modes[1]}
    assert copy.stat().st_mode & 0o777 == 0o666 & ~umask


REGISTER = """
import sys
import modelkit as mk
registry = mk.Registry(sys.argv[1])
sys.stdin.readline()
try:
    print(registry.register(sys.argv[2], parents=[sys.argv[3]]).digest)
except mk.errors.Conflict as error:
    print("conflict")
"""


def test_of_two_packages_of_one_version_one_is_registered(tmp_path, churn_packages):
    where = tmp_path / "models"
    command = [sys.executable, "-c", REGISTER, str(where)]
    names = ("1.0.0.mk", "other.mk")
    workers = [
        subprocess.Popen(
            [*command, str(churn_packages / name), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [worker.communicate(timeout=280)[0].strip() for worker in workers]
    assert sorted(told).count("conflict") == 1
    release = mk.Registry(where).version("churn", "1.0.0")
    won = told.index(release.digest)
    assert release.parents == (names[won],)
    with mk.Registry(where).load("churn", "1.0.0") as model:
        assert model.manifest.digest == release.digest


COUNT = """
import sys
import modelkit as mk
registry = mk.Registry(sys.argv[1])
done = 0
while done < 40:
    now = registry.aliases("churn")["champion"]
    reason = "1" if now.reason == "first" else str(int(now.reason) + 1)
    try:
        registry.set_alias("churn", "champion", "1.0.0", expected=now.generation, reason=reason)
        done += 1
    except mk.errors.Conflict:
        pass
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals and links")
def test_processes_that_are_stopped_and_see_it_by_other_paths_lose_nothing(registry, tmp_path):
    """The folder as it is, by a symbolic link, and as a relative path."""
    (tmp_path / "link").symlink_to(registry.url)
    paths = (registry.url, str(tmp_path / "link"), "models")
    workers = [
        subprocess.Popen([sys.executable, "-c", COUNT, path], cwd=tmp_path) for path in paths
    ]
    rng = random.Random(0)
    seen = 1
    while any(worker.poll() is None for worker in workers):
        worker = rng.choice(workers)
        worker.send_signal(signal.SIGSTOP)
        others = [other for other in workers if other is not worker]
        until = seen + 10
        while registry.generation("churn") < until:
            if all(other.poll() is not None for other in others):
                break
        seen = registry.generation("churn")
        worker.send_signal(signal.SIGCONT)
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    reasons = [entry.reason for entry in registry.history("churn", "champion")[1:]]
    assert reasons == [str(number + 1) for number in range(120)]


def test_a_disk_that_is_full_changes_nothing_and_leaves_nothing(registry, churn_packages, tmp_path):
    """The system says no in the middle of a file that is larger than the process may write."""
    code = """
import resource, signal, sys
import modelkit as mk
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
registry = mk.Registry(sys.argv[1])
for act in (
    lambda: registry.register(sys.argv[2]),
    lambda: registry.set_alias("churn", "b", "1.0.0", expected=None, reason="x" * 400),
    lambda: registry.fetch("churn", "1.0.0", sys.argv[3]),
):
    try:
        act()
    except OSError as error:
        print(error.errno)
"""
    pytest.importorskip("resource")
    before = sorted(Path(registry.url).rglob("*"))
    command = [sys.executable, "-c", code, registry.url, str(churn_packages / "joblib.mk")]
    done = subprocess.run(
        [*command, str(tmp_path / "copy")], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["27"] * 3
    assert sorted(Path(registry.url).rglob("*")) == before
    assert list((tmp_path / "copy").iterdir()) == []
