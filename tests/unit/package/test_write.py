"""A file that is saved is there whole or not at all, and one that is loaded is what was hashed."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.forge import members_of, save_pair, save_toy

import modelkit as mk

ROWS = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)


@pytest.fixture
def pair(tmp_path):
    return save_pair(tmp_path)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    return path


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
    """Weights of more than 4 MiB stay in the file: see docs/explanation/security.md."""
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
