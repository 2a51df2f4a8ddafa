"""A file that is saved is there whole or not at all, whatever becomes of the process that saves."""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from helpers.forge import save_pair
from helpers.places import TESTS

import modelkit as mk

PRELUDE = """
import os, resource, signal, sys
from pathlib import Path
sys.path.insert(0, os.environ["TESTS"])
from helpers.forge import members_of
from modelkit.package.write import replace_file
path, old, new = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), Path(sys.argv[3]).read_bytes()
members = members_of(new)
"""


@pytest.fixture
def pair(tmp_path):
    return save_pair(tmp_path)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    return path


def start(code, *arguments):
    environment = {
        **os.environ,
        "TESTS": str(TESTS),
        "PYTHONPATH": str(Path(mk.__file__).parent.parent),
    }
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run(code, *arguments):
    child = start(code, *arguments)
    out, err = child.communicate()
    assert child.returncode == 0, err
    return out


def test_killed_at_any_point_it_leaves_the_old_file_or_the_new_one(pair, folder):
    """A child is killed at its first call of a C function, another at its second, and so on until one is done."""
    out = run(
        """
        step, seen = 0, set()
        while True:
            path.write_bytes(old)
            step += 1
            child = os.fork()
            if child == 0:
                left = step

                def kill(frame, event, argument):
                    global left
                    left -= event in ("c_call", "c_return")
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

                sys.setprofile(kill)
                replace_file(path, members)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            found = path.read_bytes()
            assert found in (old, new), (step, len(found))
            seen.add(found == new)
            if os.WIFEXITED(status):
                assert found == new and os.WEXITSTATUS(status) == 0
                break
            for other in path.parent.iterdir():
                assert other == path or (other.name.startswith(".") and other.name.endswith(".tmp")), other
        assert seen == {True, False}
        print(step)
        """,
        folder / "toy.mk",
        *pair,
    )
    assert int(out) > 40


def test_a_full_disk_leaves_the_old_file(pair, folder):
    (folder / "toy.mk").write_bytes(pair[0].read_bytes())
    run(
        """
        for limit in (0, 1, 4096, len(new) - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                replace_file(path, members)
            except OSError as error:
                assert error.errno, error
            else:
                raise SystemExit("it was written")
            assert [p.name for p in path.parent.iterdir()] == ["toy.mk"]
            assert path.read_bytes() == old
        """,
        folder / "toy.mk",
        *pair,
    )


def test_a_folder_that_may_not_be_written_to(pair):
    """Root may write everywhere, so the child becomes somebody else, once all is imported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "toy.mk").write_bytes(pair[0].read_bytes())
        folder.chmod(0o555)
        run(
            """
            os.getuid() or os.setuid(65534)
            try:
                replace_file(path, members)
            except PermissionError as error:
                assert str(path.parent) in str(error)
            else:
                raise SystemExit("it was written")
            assert path.read_bytes() == old and len(list(path.parent.iterdir())) == 1
            """,
            folder / "toy.mk",
            *pair,
        )
        folder.chmod(0o755)


def test_two_processes_that_save_to_one_path(pair, folder):
    loop = """
        for _ in range(100):
            replace_file(path, members)
            assert path.read_bytes() in (old, new)
        """
    children = [start(loop, folder / "toy.mk", *order) for order in (pair, pair[::-1])]
    for child in children:
        _, err = child.communicate()
        assert child.returncode == 0, err
    assert (folder / "toy.mk").read_bytes() in [path.read_bytes() for path in pair]
    assert [path.name for path in folder.iterdir()] == ["toy.mk"]
