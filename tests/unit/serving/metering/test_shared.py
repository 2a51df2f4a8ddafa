"""A folder in which a Meter counts with those of other processes: what it may hold, and how much room it takes."""

import os
import threading

import pytest
from helpers.processes import forks
from helpers.sums import ROW, answered, metered, slabs, summed

import modelkit as mk
from modelkit.errors import PackageError, UsageError
from modelkit.serving.metering import shared

pytestmark = [forks, pytest.mark.usefixtures("own_counts")]


def test_a_folder_that_cannot_be_used_is_said_when_the_meter_is_made(tmp_path):
    for path, match in (
        (tmp_path / "none", "must be a folder that exists"),
        (__file__, "must be a folder that exists"),
    ):
        with pytest.raises(UsageError, match=match):
            mk.Meter(summed(), shared=path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"holds 'notes\.txt'"):
        mk.Meter(summed(), shared=tmp_path)


@pytest.mark.parametrize("name", ["1-1.slabs", "gone.json"])
def test_a_file_that_another_version_wrote_is_said(tmp_path, name):
    (tmp_path / name).write_bytes(b"{}" * 400)
    with pytest.raises(PackageError, match=rf"{name}.*move it away"):
        mk.Meter(summed(), shared=tmp_path)


def test_threads_that_come_and_go_take_no_more_room(tmp_path):
    meter = mk.Meter(summed(), shared=tmp_path)
    for _ in range(300):
        thread = threading.Thread(target=meter.predict, args=(ROW,))
        thread.start()
        thread.join()
    assert meter.totals().calls["ok"] == 300
    assert slabs(tmp_path)[0].stat().st_size == 1 << 16


def test_a_file_that_was_made_and_never_begun_is_removed(tmp_path):
    """Its process was killed before it had the lock."""
    meter = metered(tmp_path)
    empty = tmp_path / "1-1.slabs"
    empty.touch()
    assert answered(meter) == 1
    assert not empty.exists()


def test_a_handler_of_logging_that_fails_reaches_no_caller(tmp_path, monkeypatch):
    """A thread that begins while the disk is full says so, whatever becomes of that."""
    meter = metered(tmp_path)

    def full(_file, _label):
        raise OSError(28, "No space left on device")

    def failing(*_):
        raise RuntimeError("a filter")

    monkeypatch.setattr(shared.OwnFile, "slab", full)
    monkeypatch.setattr(shared._log, "warning", failing)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(len(meter.predict(ROW))))
    thread.start()
    thread.join()
    assert outcomes == [1]
    assert answered(meter) == 2


def test_versions_that_come_again_take_no_more_room(tmp_path):
    pytest.importorskip("fcntl")
    own = shared.OwnFile(tmp_path)
    sizes = []
    for _ in range(60):
        for version in range(20):
            label = ("model", "churn", str(version), "")
            own.label(label)
            own.mark(label, 0)
            own.slab(label)
            own.forget(label)
        sizes.append(own._next)
    assert len({*sizes}) == 1
    path = next(tmp_path.iterdir())
    file = os.open(path, os.O_RDONLY)
    assert shared.read_cells(file, path) == {}
    os.close(file)
    own.abandon()
