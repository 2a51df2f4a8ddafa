"""Attacks on what is counted and shown: whoever is stopped, interrupted, or writes into the folder."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import struct
import threading
import weakref
from contextlib import suppress

import numpy as np
import pytest
from helpers.processes import bounded, forks, passes_in_a_child, run

import modelkit as mk
from modelkit.errors import MeterError
from modelkit.integrations.shown import Shown
from modelkit.serving.metering import shared
from modelkit.serving.metering.cells import MAGIC
from modelkit.serving.metering.totals import WIDTH

SIGNATURE = mk.Signature(
    (mk.TensorSpec("x", "float64", ("batch", 2)),),
    (mk.TensorSpec("prediction", "float64", ("batch",)),),
)
ROW = np.ones((1, 2))


def summed():
    return mk.FunctionModel(
        lambda feeds: {"prediction": feeds["x"].sum(axis=1)}, SIGNATURE, batchable=True
    )


def metered(folder):
    """A Meter that has counted one call."""
    meter = mk.Meter(summed(), shared=folder)
    meter.predict(ROW)
    return meter


def answered(meter):
    return meter.totals().calls["ok"]


# Readers.


@forks
def test_a_reader_that_is_stopped_holds_up_no_other(tmp_path, monkeypatch):
    meter = metered(tmp_path)
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(
            shared, "summed", lambda parts: os.kill(os.getpid(), signal.SIGSTOP), raising=True
        )
        meter.predict(ROW)
        with suppress(BaseException):
            meter.totals()
        os._exit(0)
    with bounded(child):
        os.waitpid(child, os.WUNTRACED)
        assert passes_in_a_child(lambda: answered(meter) == 2 or os._exit(1))
        assert answered(meter) == 2
        assert answered(mk.Meter(summed(), shared=tmp_path)) == 2
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert answered(meter) == 2
    assert len([*tmp_path.glob("*.slabs")]) == 1


@forks
def test_a_signal_handler_reads_within_a_read(tmp_path, monkeypatch):
    meter = metered(tmp_path)
    assert passes_in_a_child(lambda: meter.predict(ROW))  # leaves a file to be moved
    collector = mk.Collector(meter)
    inside = []

    def handle(_signal, _frame):
        inside.append(answered(meter))
        inside.append(collector.text())

    def interrupted(parts):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGUSR1)
        return summed_parts(parts)

    summed_parts = shared.summed
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        monkeypatch.setattr(shared, "summed", interrupted)
        assert answered(meter) == 2
        monkeypatch.setattr(shared, "summed", interrupted)
        assert collector.text()[0].startswith(b"# HELP modelkit_calls_total")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert inside[0] == inside[2] == 2
    assert inside[1] == inside[3]
    assert answered(meter) == 2


@forks
def test_files_that_another_reader_moves_meanwhile_are_read_again(tmp_path, monkeypatch):
    """One that was not the first has listed the files, and the first moves one of them."""
    meter = metered(tmp_path)
    folder = meter._ledger.folder
    assert passes_in_a_child(lambda: meter.predict(ROW))
    read_file = shared._read_file
    moved = []

    def moving(path):
        if not moved:
            moved.append(path)
            with monkeypatch.context() as plain:
                plain.setattr(shared, "_read_file", read_file)
                assert folder._read(move=True) is not None
        return read_file(path)

    monkeypatch.setattr(shared, "_read_file", moving)
    assert folder._read(move=False) is None
    moved.clear()
    assert answered(meter) == 2


# What others write into the folder.


def forged(label, word=None):
    """A file with one label and one slab of it."""
    data = bytearray(8 * 64 * 4)
    struct.pack_into("<2q", data, 0, MAGIC, 4)
    struct.pack_into("<q", data, 512, -len(label) if word is None else word)
    data[528 : 528 + len(label)] = label
    struct.pack_into("<2q", data, 1024, 1, 7)
    return bytes(data)


@forks
@pytest.mark.parametrize(
    "data",
    [
        forged(b"not json"),
        forged(b"5"),
        forged(b"[]"),
        forged(b'["model"]'),
        forged(b'["http","x","abc"]'),
        forged(b'["model",["a"],"b","c"]'),
        forged(b"[1,2,3,4]"),
        forged(b'{"model":1}'),
        forged(b"[" * 300),
        forged(b'["model","FunctionModel","",""]', word=-(2**63)),
    ],
)
def test_a_forged_file_is_said(tmp_path, data):
    meter = metered(tmp_path)
    (tmp_path / "1-1.slabs").write_bytes(data)
    with pytest.raises(MeterError, match=r"1-1.slabs was not written by this version"):
        meter.totals()


@forks
@pytest.mark.parametrize(
    "text",
    [
        "null",
        '{"found": [], "files": 5}',
        json.dumps({"found": [[["model"], [0] * WIDTH, 0]], "files": []}),
        '{"found": [[["flight"], [Infinity], 0]], "files": []}',
        "[" * 100_000,
    ],
)
def test_forged_counts_of_ended_processes_are_said(tmp_path, text):
    meter = metered(tmp_path)
    (tmp_path / "gone.json").write_text(text)
    with pytest.raises(MeterError, match=r"gone.json cannot be read"):
        meter.totals()


@forks
@pytest.mark.parametrize("name", ["x.slabs", "gone.json", "lock"])
def test_what_is_no_plain_file_is_said_and_not_waited_for(tmp_path, name):
    meter = metered(tmp_path)
    path = tmp_path / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(MeterError, match=r"is no plain file"):
        meter.totals()
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(MeterError, match=r"cannot be read"):
        meter.totals()


@forks
def test_a_file_that_was_made_and_never_begun_is_removed(tmp_path):
    """Its process was killed before it had the lock."""
    meter = metered(tmp_path)
    empty = tmp_path / "1-1.slabs"
    empty.touch()
    assert answered(meter) == 1
    assert not empty.exists()


@forks
def test_a_folder_that_was_emptied_is_said(tmp_path):
    folder = tmp_path / "counts"
    folder.mkdir()

    def child():
        meter = metered(folder)
        shutil.rmtree(folder)
        folder.mkdir()
        meter.predict(ROW)
        with pytest.raises(MeterError, match="was removed"):
            meter.totals()
        with pytest.raises(MeterError, match="was removed"):
            mk.Meter(summed(), shared=folder)

    assert passes_in_a_child(child)


@forks
def test_files_that_may_not_be_deleted_are_counted_once(tmp_path, monkeypatch):
    """As those of another user are, in a folder with the sticky bit."""
    meter = metered(tmp_path)
    assert passes_in_a_child(lambda: meter.predict(ROW))

    def refused(path, **_):
        raise PermissionError(1, "not permitted", str(path))

    monkeypatch.setattr(shared.Path, "unlink", refused)
    monkeypatch.setattr(shared, "write_gone", write_anew)
    assert [answered(meter) for _ in range(3)] == [2, 2, 2]
    assert len([*tmp_path.glob("*.slabs")]) == 2


def write_anew(folder, gone):
    found = [[label, kept.sums, kept.retired] for label, kept in gone.found.items()]
    new = folder / "gone.json.new"
    new.write_text(json.dumps({"files": gone.files, "found": found}))
    new.replace(folder / "gone.json")


# Models.


def test_a_meter_with_spans_goes_when_it_is_dropped():
    """Or a model that was replaced stays in memory until the garbage collector comes by."""
    pytest.importorskip("opentelemetry")
    gc.collect()
    gc.disable()
    try:
        inner = summed()
        seen = weakref.ref(mk.Meter(inner, spans=True))
        assert seen() is None
    finally:
        gc.enable()


@forks
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


def test_a_scrape_within_a_scrape_ends(monkeypatch):
    meter = mk.Meter(mk.Batcher(summed()))
    shown = Shown([meter])
    of_layers = shown._of_layers
    inner = []

    def within(layers, known):
        if not inner:
            inner.append(None)
            inner[0] = shown.sums()
        return of_layers(layers, known)

    monkeypatch.setattr(shown, "_of_layers", within)
    assert shown.sums().keys() == inner[0].keys()


@forks
def test_a_scrape_reads_a_folder_once(tmp_path):
    printed = run(
        """
import sys
import numpy as np
import modelkit as mk
from modelkit.serving.metering.shared import SharedFolder

signature = mk.Signature(
    (mk.TensorSpec("x", "float64", ("batch", 2)),),
    (mk.TensorSpec("prediction", "float64", ("batch",)),),
)
model = mk.FunctionModel(lambda feeds: {"prediction": feeds["x"].sum(axis=1)}, signature)
collector = mk.Collector(mk.Meter(model, shared=sys.argv[1]))
read = SharedFolder.read
SharedFolder.read = lambda folder: [print("read"), read(folder)][1]
collector.text()
""",
        tmp_path,
    )
    assert printed.split() == ["read"]


def test_versions_that_come_again_take_no_more_room(tmp_path, monkeypatch):
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
