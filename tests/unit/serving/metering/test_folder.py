"""A folder in which a Meter counts with those of other processes: what it may hold, and how much room it takes."""

import threading

import pytest
from helpers.processes import forks, passes_in_a_child
from helpers.sums import ROW, answered, metered, slabs, summed

import modelkit as mk
from modelkit.errors import PackageError, UsageError
from modelkit.serving.metering import cells, folder
from modelkit.serving.metering.totals import KEPT_VERSIONS, OK

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


@pytest.mark.parametrize("name", ["0.slabs", "x.slabs"])
def test_a_file_that_another_version_wrote_is_said(tmp_path, name):
    (tmp_path / name).write_bytes(b"{}" * 400)
    with pytest.raises(PackageError, match=rf"{name}.*move it away"):
        mk.Meter(summed(), shared=tmp_path)
    assert (tmp_path / name).read_bytes() == b"{}" * 400


@pytest.mark.parametrize("size", [100, 1000, 40_000])
def test_a_file_that_was_cut_short_is_said(tmp_path, size):
    assert passes_in_a_child(lambda: metered(tmp_path))
    (path,) = slabs(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    with pytest.raises(PackageError, match=r"0\.slabs.*it was cut short; move it away"):
        mk.Meter(summed(), shared=tmp_path)
    assert path.read_bytes() == whole[:size]
    path.write_bytes(whole + bytes(1000))  # a disk that is full took a part of what came next
    assert answered(metered(tmp_path)) == 2


def test_a_file_that_lost_its_first_word_is_not_begun_anew(tmp_path):
    assert passes_in_a_child(lambda: metered(tmp_path))
    (path,) = slabs(tmp_path)
    damaged = bytes(8) + path.read_bytes()[8:]
    path.write_bytes(damaged)
    with pytest.raises(PackageError, match="it begins otherwise"):
        mk.Meter(summed(), shared=tmp_path)
    assert path.read_bytes() == damaged


def test_threads_that_come_and_go_take_no_more_room(tmp_path):
    meter = mk.Meter(summed(), shared=tmp_path)
    for _ in range(300):
        thread = threading.Thread(target=meter.predict, args=(ROW,))
        thread.start()
        thread.join()
    assert meter.totals().calls["ok"] == 300
    assert slabs(tmp_path)[0].stat().st_size == 1 << 16


@pytest.mark.parametrize("size", [0, 1000, 1 << 16])
def test_a_file_that_was_made_and_never_begun_is_taken_up(tmp_path, size):
    """Its process was killed before it had the lock, or the room."""
    (tmp_path / "0.slabs").write_bytes(bytes(size))
    assert answered(metered(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["0.slabs"]


def test_a_reader_changes_nothing(tmp_path):
    assert passes_in_a_child(lambda: metered(tmp_path))
    before = [(path.name, path.read_bytes()) for path in slabs(tmp_path)]
    seen = folder.SharedFolder(tmp_path).read()
    assert [kept.sums[OK] for kept in seen.values()] == [1]
    assert [(path.name, path.read_bytes()) for path in slabs(tmp_path)] == before


def test_a_handler_of_logging_that_fails_reaches_no_caller(tmp_path, monkeypatch):
    """A thread that begins while the disk is full says so, whatever becomes of that."""
    meter = metered(tmp_path)

    def full(_file, _label):
        raise OSError(28, "No space left on device")

    def failing(*_):
        raise RuntimeError("a filter")

    monkeypatch.setattr(cells.OwnFile, "slab", full)
    monkeypatch.setattr(folder._log, "warning", failing)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(len(meter.predict(ROW))))
    thread.start()
    thread.join()
    assert outcomes == [1]
    assert answered(meter) == 2


def model_label(version):
    return ("model", "churn", str(version), "")


def test_a_label_that_no_cell_holds_is_said(tmp_path):
    shared = folder.SharedFolder(tmp_path)
    shared.begin(("model", "n" * 475, "", ""))  # as JSON 496 bytes
    with pytest.raises(UsageError, match="a label is longer than 496 bytes"):
        shared.begin(("model", "n" * 476, "", ""))
    assert {len(label[1]) for label in shared.read()} == {475}


def test_versions_that_come_and_go_take_no_more_room(tmp_path):
    shared = folder.SharedFolder(tmp_path)
    used = []
    for _ in range(20):
        for version in range(20):
            shared.begin(model_label(version))
            shared.slab(model_label(version))[OK] += 1
            shared.retire(model_label(version))
        used.append(shared._file._next)
    assert len({*used[1:]}) == 1
    assert len(shared.read()) == KEPT_VERSIONS
    shared.after_fork()  # as a process that ends lets go of it
    assert [kept.sums[OK] for kept in shared.read().values()] == [1] * KEPT_VERSIONS


def test_versions_of_ended_processes_take_no_more_room(tmp_path):
    """Whoever takes up a file frees what is shown no more, and goes on with the rest."""
    for version in range(60):
        shared = folder.SharedFolder(tmp_path)
        for _ in range(4):
            shared.begin(model_label(version))
            shared.slab(model_label(version))[OK] += 1
        shared.after_fork()
    (path,) = slabs(tmp_path)
    own = cells.OwnFile(path)
    assert sum(len(held.slabs) for held in own._held.values()) <= 4 * (KEPT_VERSIONS + 1)
    own.close()
    assert {label[2]: kept.sums[OK] for label, kept in shared.read().items()} == {
        "57": 4,
        "58": 4,
        "59": 4,
    }


def test_a_version_that_one_process_has_replaced_stays_while_another_has_it(tmp_path):
    """Five versions later it was forgotten in the file of the first, and its counts went back."""
    first, second = (folder.SharedFolder(tmp_path) for _ in range(2))
    for shared in (second, first):
        shared.begin(model_label(0))
        shared.slab(model_label(0))[OK] += 1
    for version in range(1, 6):
        first.begin(model_label(version))
        first.retire(model_label(version - 1))
    found = second.read()
    assert found[model_label(0)].sums[OK] == 2
    assert not found[model_label(0)].retired


def test_a_version_that_comes_again_goes_on_in_its_slabs(tmp_path):
    shared = folder.SharedFolder(tmp_path)
    for _ in range(300):
        shared.begin(model_label(1))
        shared.slab(model_label(1))[OK] += 1
        shared.retire(model_label(1))
    assert shared.read()[model_label(1)].sums[OK] == 300
    assert slabs(tmp_path)[0].stat().st_size == 1 << 16


def test_versions_that_ended_long_ago_do_not_hide_one_that_ends_now(tmp_path):
    """An ended process says not when it ended: whoever begins next does, in files that nobody takes up."""
    ended = [folder.SharedFolder(tmp_path) for _ in range(KEPT_VERSIONS)]
    alive = folder.SharedFolder(tmp_path)
    for version, shared in enumerate((*ended, alive)):
        shared.begin(model_label(version))
    for shared in ended:
        shared.after_fork()
    alive.begin(model_label(8))
    alive.retire(model_label(KEPT_VERSIONS))
    assert {label[2] for label in alive.read()} == {"1", "2", "3", "8"}


def test_a_version_that_is_in_use_again_is_not_forgotten(tmp_path):
    """Another thread has begun it since the folder was read."""
    shared = folder.SharedFolder(tmp_path)
    shared.begin(model_label(1))
    shared.slab(model_label(1))[OK] += 1
    shared._file.forget_all_but({})
    assert shared.read()[model_label(1)].sums[OK] == 1


def test_whoever_is_killed_while_it_forgets_a_version_leaves_no_count_of_it(tmp_path):
    shared = folder.SharedFolder(tmp_path)
    shared.begin(model_label(1))
    shared.slab(model_label(1))[OK] += 1
    shared._file._cell(shared._file._held[model_label(1)].at)[cells.RETIRED] = cells.FORGOTTEN
    shared.after_fork()
    shared.begin(model_label(1))
    assert shared.read()[model_label(1)].sums[OK] == 0
