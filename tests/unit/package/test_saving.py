"""A file that is saved is there whole or not at all, and one that is loaded is what was hashed."""

import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.forge import members_of, save_toy
from helpers.places import TESTS

import modelkit as mk

ROWS = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)
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
    """Two packages of one model, which differ in their version."""
    old = save_toy(tmp_path / "old" / "toy.mk")
    new = save_toy(tmp_path / "new" / "toy.mk", version="2")
    assert old.read_bytes() != new.read_bytes()
    return old, new


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


def test_a_target_that_is_a_folder_is_left_alone(folder):
    (folder / "toy.mk").mkdir()
    with pytest.raises(OSError, match="toy"):
        save_toy(folder / "toy.mk")
    assert [path.name for path in folder.iterdir()] == ["toy.mk"]


def test_a_symbolic_link_stays_and_its_target_is_replaced(pair, folder):
    _, new = pair
    target = folder / "versions" / "toy-1.mk"
    target.parent.mkdir()
    for existing in (False, True):
        if existing:
            target.write_bytes(b"old")
        link = folder / f"current-{existing}.mk"
        link.symlink_to(Path("versions") / "toy-1.mk")  # relative to the folder of the link
        save_toy(link, version="2")
        assert link.is_symlink()
        assert not target.is_symlink()
        assert target.read_bytes() == new.read_bytes()
        assert mk.inspect(link).version == "2"
    assert [path.name for path in target.parent.iterdir()] == ["toy-1.mk"]


def test_a_file_that_is_replaced_stays_what_was_loaded(wide_mk, tmp_path):
    path = tmp_path / "wide.mk"
    path.write_bytes(wide_mk.read_bytes())
    rows = np.ones((2, 1088), np.float32)
    with mk.load(path) as model:
        expected = model.predict(rows)
        save_toy(path)
        np.testing.assert_array_equal(model.predict(rows), expected)
        assert model.verify() == 0
    assert mk.inspect(path).name == "toy"


@pytest.mark.parametrize("how", ["overwritten", "truncated"])
def test_a_small_file_that_is_written_to_stays_what_was_loaded(pair, how):
    """Weights of more than 4 MiB stay in the file: see docs/security.md."""
    path = pair[0]
    with mk.load(path) as model:
        expected = model.predict(ROWS)
        attached = bytes(model.attachments["golden"])
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(b"\xff" * (100_000 if how == "overwritten" else 0))
        np.testing.assert_array_equal(model.predict(ROWS), expected)
        assert model.verify() == 0
        assert bytes(model.attachments["golden"]) == attached


class Drip:
    """A file object with nothing but `read`, which gives a little at a time."""

    def __init__(self, data, most):
        self.data, self.most = data, most

    def read(self):
        part, self.data = self.data[: self.most], self.data[self.most :]
        return part


@pytest.mark.parametrize("most", [1000, 1 << 30])
def test_a_package_from_an_object_that_can_only_read(pair, most):
    data = pair[0].read_bytes()
    with mk.load(Drip(data, most)) as model:
        assert model.verify() == 0
    assert mk.inspect(Drip(data, most)) == mk.inspect(data)
    with pytest.raises(mk.errors.ContainerError, match="truncated"):
        mk.load(Drip(data[:-1], most))
    with pytest.raises(mk.errors.ContainerError):
        mk.load(Drip(b"", most))


def test_a_package_from_a_pipe(pair):
    data = pair[0].read_bytes()
    out, into = os.pipe()

    def write():
        with os.fdopen(into, "wb") as file:
            file.write(data)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(out, "rb", buffering=0) as file, mk.load(file) as model:
        assert model.verify() == 0
    writer.join()


def test_a_saved_package_is_for_others_to_read(pair):
    assert pair[0].stat().st_mode & 0o777 == 0o644
    assert members_of(pair[0].read_bytes())
