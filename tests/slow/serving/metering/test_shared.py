"""A Meter in several processes: one folder, exact whoever is forked, spawned or killed."""

from __future__ import annotations

import ast
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from helpers.kinds import wine
from helpers.processes import PATIENCE, bounded, forks, passes_in_a_child, run
from helpers.servers import free_port
from helpers.sums import ROW, SIGNATURE, answered, metered, save_wines, slabs, summed

import modelkit as mk
from modelkit.errors import PackageError, UsageError
from modelkit.integrations.prometheus import Collector
from modelkit.serving.metering import book, shared

pytestmark = [forks, pytest.mark.usefixtures("own_counts")]

COUNTED = """
import os, signal, sys, threading
import numpy as np
import modelkit as mk

signature = mk.Signature(
    (mk.TensorSpec("x", "float64", ("batch", 2)),),
    (mk.TensorSpec("prediction", "float64", ("batch",)),),
)
model = mk.FunctionModel(lambda feeds: {"prediction": feeds["x"].sum(axis=1)}, signature)
"""


def until(true, what):
    """Wait for a condition."""
    late = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < late, what
        time.sleep(0.01)


@contextmanager
def children(count, work):
    """Forked children that do some work, and have all succeeded at the end."""
    found = []
    for at in range(count):
        child = os.fork()
        if child == 0:
            try:
                work(at)
            finally:
                os._exit(1)
        found.append(child)
    yield found
    for child in found:
        with bounded(child):
            assert os.waitpid(child, 0)[1] == 0


def twenty_calls(meter):
    """What a child does."""
    for _ in range(20):
        meter.predict(ROW)
    os._exit(0)


def test_forks_add_up_while_others_read(tmp_path):
    meter = mk.Meter(summed(), shared=tmp_path)
    meter.predict(ROW)

    def work(at):
        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with suppress(mk.errors.SignatureError):
            meter.predict("text")
        meter.totals()
        os._exit(0)

    def call():
        for _ in range(250):
            meter.predict(np.ones((2, 2)))

    seen = []
    for _ in range(2):
        with children(4, work):
            for _ in range(20):
                totals = meter.totals()
                seen.append((totals.calls["ok"], totals.calls["signature"]))
    totals = meter.totals()
    assert totals.calls["ok"] == 1 + 2 * 4 * 4 * 250
    assert totals.rows == 1 + 2 * (totals.calls["ok"] - 1)
    assert totals.calls["signature"] == 8
    assert seen == sorted(seen)
    assert len(slabs(tmp_path)) == 1
    assert mk.Meter(summed(), shared=tmp_path).totals() == totals


def test_a_call_that_forks_is_counted_in_the_parent(tmp_path):
    inside = []

    def forking(feeds):
        inside.append(os.fork())
        return {"prediction": feeds["x"].sum(axis=1)}

    meter = mk.Meter(mk.FunctionModel(forking, SIGNATURE), shared=tmp_path)
    meter.predict(ROW)
    if inside[0] == 0:
        os._exit(0)
    with bounded(inside[0]):
        assert os.waitpid(inside[0], 0)[1] == 0
    assert meter.totals().calls["ok"] == 1


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    return save_wines(tmp_path_factory.mktemp("versions"), "wine-here")


def test_a_spawned_process_counts_with_its_parent(tmp_path, versions):
    X, _ = wine()
    folder = tmp_path / "counts"
    folder.mkdir()
    meter = mk.Meter(mk.load(versions / "1.mk"), shared=folder)
    meter.predict(X[:2])
    (tmp_path / "meter").write_bytes(pickle.dumps(meter))
    np.save(tmp_path / "X.npy", X[:3])
    run(
        """
        import pathlib, pickle, sys
        import numpy as np
        folder = pathlib.Path(sys.argv[1])
        meter = pickle.loads((folder / "meter").read_bytes())
        meter.predict(np.load(folder / "X.npy"))
        assert meter.totals().rows == 5
        """,
        tmp_path,
    )
    assert meter.totals().rows == 5
    assert meter.totals().calls["ok"] == 2


def test_a_killed_process_loses_no_call(tmp_path):
    """Each answered call is told to the parent; one more may have been counted and not told."""
    meter = mk.Meter(summed(), shared=tmp_path)
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reads)
            while True:
                meter.predict(ROW)
                os.write(writes, b".")
        finally:
            os._exit(1)
    os.close(writes)
    with bounded(child):
        told = sum(len(os.read(reads, 100)) for _ in range(50))
        os.kill(child, signal.SIGKILL)
        while found := os.read(reads, 1 << 16):
            told += len(found)
        os.waitpid(child, 0)
    os.close(reads)
    assert meter.totals().calls["ok"] in (told, told + 1)
    assert len(slabs(tmp_path)) == 1
    assert meter.totals().rows in (told, told + 1)


def test_the_file_of_a_used_pid_is_that_of_a_dead_process(tmp_path):
    """This process has the pid in the name, but not the lock on the file."""
    run(COUNTED + "mk.Meter(model, shared=sys.argv[1]).predict(np.ones((3, 2)))", tmp_path)
    (dead,) = slabs(tmp_path)
    dead.rename(tmp_path / f"{os.getpid()}-1.slabs")
    meter = mk.Meter(summed(), shared=tmp_path)
    meter.predict(ROW)
    assert meter.totals().rows == 4
    assert not (tmp_path / f"{os.getpid()}-1.slabs").exists()
    assert meter.totals().rows == 4


def test_a_reader_that_is_killed_counts_nothing_twice(tmp_path):
    """Killed after it has written `gone.json`, and before it has deleted the file."""
    run(COUNTED + "mk.Meter(model, shared=sys.argv[1]).predict(np.ones((3, 2)))", tmp_path)
    (dead,) = slabs(tmp_path)
    kept = dead.read_bytes()
    meter = mk.Meter(summed(), shared=tmp_path)
    assert not dead.exists()
    dead.write_bytes(kept)
    assert meter.totals().rows == 3
    assert not dead.exists()
    run(COUNTED + "mk.Meter(model, shared=sys.argv[1]).predict(np.ones((2, 2)))", tmp_path)
    assert meter.totals().rows == 5


def test_readers_that_are_killed_at_any_point_count_nothing_twice(tmp_path):
    meter = mk.Meter(summed(), shared=tmp_path)

    rounds = 20
    for at in range(rounds):
        reader = os.fork()
        if reader == 0:
            while True:
                meter.totals()
        with children(2, lambda _: twenty_calls(meter)):
            pass
        time.sleep(2e-4 * at)  # it is killed at another point each time
        os.kill(reader, signal.SIGKILL)
        os.waitpid(reader, 0)
    assert meter.totals().calls["ok"] == rounds * 40


def test_forks_in_the_middle_of_everything_add_up(tmp_path):
    """Threads call, come and go, and read, while the main thread forks."""
    meter = mk.Meter(summed(), shared=tmp_path)
    done = threading.Event()
    made = [0, 0]
    seen = []

    def call():
        while not done.is_set():
            meter.predict(ROW)
            made[0] += 1

    def come_and_go():
        while not done.is_set():
            thread = threading.Thread(target=meter.predict, args=(ROW,))
            thread.start()
            thread.join()
            made[1] += 1

    def read():
        while not done.is_set():
            seen.append(meter.totals().calls["ok"])

    threads = [threading.Thread(target=each) for each in (call, come_and_go, read)]
    for thread in threads:
        thread.start()
    try:
        with_children = [children(1, lambda _: twenty_calls(meter)) for _ in range(30)]
        for child in with_children:
            with child:
                pass
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert meter.totals().calls["ok"] == sum(made) + 30 * 20
    assert seen == sorted(seen)


def test_a_parent_that_is_killed_while_it_reads_blocks_nobody(tmp_path):
    """The child of a fork does not hold on to the lock of its parent."""
    meter = mk.Meter(summed(), shared=tmp_path)

    def parent():
        with meter._ledger.folder._first_reader():
            assert passes_in_a_child(child)

    def child():
        assert not meter._ledger.folder._reading

    parent()
    assert meter.totals().rows == 0


def test_requests_are_counted_in_the_folder_of_the_first_meter(tmp_path):
    printed = run(
        COUNTED
        + textwrap.dedent("""
        from modelkit.serving.metering import requests
        requests.begun()
        requests.ended("/v2", 200, 0.5)
        requests.begun()
        meter = mk.Meter(model, shared=sys.argv[1])
        child = os.fork()
        if child == 0:
            requests.begun()
            requests.begun()
            requests.ended("/v2", 404, 0.25)
            os._exit(0)
        os.waitpid(child, 0)
        found = requests.totals()
        print(dict(found.requests), found.seconds, found.in_flight, sum(found.durations["/v2"]))
        """),
        tmp_path,
    )
    assert printed.strip() == "{('/v2', 200): 1, ('/v2', 404): 1} {'/v2': 0.75} 1 2"


def test_versions_are_retired_when_no_process_has_them(tmp_path, versions):
    folder = tmp_path / "counts"
    folder.mkdir()
    last = mk.Meter(mk.load(versions / "6.mk"), shared=folder)
    code = """
        import os, sys
        import numpy as np
        import modelkit as mk
        for version in "12345":
            meter = mk.Meter(mk.load(f"{sys.argv[1]}/{version}.mk"), shared=sys.argv[2])
            meter.predict(np.ones((int(version), 13)))
        from modelkit.serving.metering import book
        print([(one.version, one.retired, one.totals.rows) for one in book.counted("wine-here")])
        """
    printed = run(code, versions, folder)
    alive = ("5", False, 5), ("6", False, 0)
    assert sorted(ast.literal_eval(printed)) == [
        ("2", True, 2),
        ("3", True, 3),
        ("4", True, 4),
        *alive,
    ]
    found = {one.version: (one.retired, one.totals.rows) for one in book.counted("wine-here")}
    found.pop("1", None)  # of another test, which has a folder of its own
    assert found == {"3": (True, 3), "4": (True, 4), "5": (True, 5), "6": (False, 0)}
    assert last.totals().rows == 0


def test_a_folder_that_is_not_writable_is_said(tmp_path):
    def child():
        tmp_path.chmod(0o555)
        if os.getuid() == 0:
            os.setuid(65534)
        with pytest.raises(UsageError, match="cannot hold shared counts"):
            mk.Meter(summed(), shared=tmp_path)

    for path in (tmp_path, *tmp_path.parents):
        if (
            path.owner() == tmp_path.owner()
            and path.stat().st_uid == os.getuid()
            and len(path.parts) > 2
        ):
            path.chmod(0o755)
    assert passes_in_a_child(child)


def test_a_full_disk_is_said_when_the_meter_is_made_and_reaches_no_caller_later(tmp_path):
    def child():
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit))
        with pytest.raises(UsageError, match="room"):
            mk.Meter(summed(), shared=tmp_path)
        assert slabs(tmp_path) == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, limit))
        meter = mk.Meter(summed(), shared=tmp_path)
        barrier = threading.Barrier(200)

        def call():
            meter.predict(ROW)
            barrier.wait(PATIENCE)
            meter.predict(ROW)

        threads = [threading.Thread(target=call) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert meter.totals().calls["ok"] == 400

    assert passes_in_a_child(child)


SERVED = (
    COUNTED
    + """
from modelkit.serving.metering import requests
meter = mk.Meter(model)

async def app(scope, receive, send):
    if scope["type"] != "http":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    requests.begun()
    if scope["path"] == "/totals":
        body = f'[{meter.totals().calls["ok"]}, {requests.totals().requests.get(("/", 200), 0)}, {os.getpid()}]'
    else:
        await meter.apredict(np.ones((1, 2)))
        body = f"[{os.getpid()}]"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body.encode()})
    requests.ended(scope["path"], 200, 1e-3)
"""
)


@contextmanager
def server(folder, counts, *arguments):
    (folder / "served.py").write_text(SERVED)
    environment = {
        **os.environ,
        "MODELKIT_METRICS_DIR": str(counts),
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
    }
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", *arguments], env=environment, stdout=log, stderr=log, cwd=folder
        )
    try:
        yield started
    finally:
        started.terminate()
        with bounded(started.pid):
            started.wait()


@pytest.mark.parametrize(
    "arguments",
    [
        ("gunicorn", "--preload", "-w", "2", "-k", "asgi", "-b", "127.0.0.1:{port}", "served:app"),
        ("uvicorn", "--workers", "2", "--port", "{port}", "served:app"),
    ],
    ids=["gunicorn --preload", "uvicorn --workers"],
)
def test_whichever_worker_is_scraped_says_the_same(tmp_path, arguments):
    counts = tmp_path / "counts"
    counts.mkdir()
    port = free_port()

    def get(path):
        url = f"http://127.0.0.1:{port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)

    def answers():
        with suppress(OSError):
            return get("/totals")

    with server(tmp_path, counts, *(part.format(port=port) for part in arguments)):
        until(answers, (tmp_path / "log").read_text())
        workers = set()
        calls = 0
        while len(workers) < 2 or calls < 100:
            workers |= set(get("/"))
            calls += 1
            assert calls < 3000, "one worker takes all"
        until(lambda: get("/totals")[:2] == [calls, calls], "the last answer to be counted")
        scrapes = [get("/totals") for _ in range(20)]
        assert {tuple(scrape[:2]) for scrape in scrapes} == {(calls, calls)}
        os.kill(workers.pop(), signal.SIGKILL)
        until(lambda: (answers() or [0])[:2] == [calls, calls], "the counts of the killed worker")
    after = mk.Meter(summed(), shared=counts)
    assert after.totals().calls["ok"] == calls


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


def test_a_signal_handler_reads_within_a_read(tmp_path, monkeypatch):
    meter = metered(tmp_path)
    assert passes_in_a_child(lambda: meter.predict(ROW))  # leaves a file to be moved
    collector = Collector(meter)
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


def test_a_folder_that_was_emptied_is_said(tmp_path):
    folder = tmp_path / "counts"
    folder.mkdir()

    def child():
        meter = metered(folder)
        shutil.rmtree(folder)
        folder.mkdir()
        meter.predict(ROW)
        with pytest.raises(PackageError, match="was removed"):
            meter.totals()
        with pytest.raises(PackageError, match="was removed"):
            mk.Meter(summed(), shared=folder)

    assert passes_in_a_child(child)


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


def test_a_scrape_reads_a_folder_once(tmp_path):
    printed = run(
        """
import sys
import modelkit as mk
from modelkit.integrations.prometheus import Collector
from modelkit.serving.metering.shared import SharedFolder

signature = mk.Signature(
    (mk.TensorSpec("x", "float64", ("batch", 2)),),
    (mk.TensorSpec("prediction", "float64", ("batch",)),),
)
model = mk.FunctionModel(lambda feeds: {"prediction": feeds["x"].sum(axis=1)}, signature)
collector = Collector(mk.Meter(model, shared=sys.argv[1]))
read = SharedFolder.read
SharedFolder.read = lambda folder: [print("read"), read(folder)][1]
collector.text()
""",
        tmp_path,
    )
    assert printed.split() == ["read"]
