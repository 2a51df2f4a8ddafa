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
from modelkit.serving.metering import book
from modelkit.serving.metering import folder as shared
from modelkit.serving.metering.totals import MORE_ROWS, OK, without_the_old

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
    assert meter.totals().rows in (told, told + 1)


def test_a_process_takes_up_the_file_of_one_that_ended(tmp_path):
    for rows in (3, 2, 4):
        run(
            COUNTED + f"mk.Meter(model, shared=sys.argv[1]).predict(np.ones(({rows}, 2)))", tmp_path
        )
        assert len(slabs(tmp_path)) == 1
    meter = mk.Meter(summed(), shared=tmp_path)
    meter.predict(ROW)
    assert meter.totals().rows == 10
    assert len(slabs(tmp_path)) == 1


KILLED = (
    COUNTED
    + """
import resource
limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
kill, room = int(sys.argv[2]), int(sys.argv[3])
folder = sys.argv[1]
meter = mk.Meter(model, shared=folder)
if room:
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit))  # no file can grow any more
threads = [
    threading.Thread(target=lambda: [meter.predict(np.ones((2, 2))) for _ in range(250)])
    for _ in range(2)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
child = os.fork()
for _ in range(250):
    meter.predict(np.ones((2, 2)))
if child:
    os.waitpid(child, 0)
os.kill(os.getpid(), signal.SIGKILL) if kill else os._exit(0)
"""
)


def test_counts_are_exact_and_never_go_back_whoever_is_killed_and_with_a_full_disk(tmp_path):
    """Each process counts 750 calls, and its fork 250 more; half of them are killed."""
    reading = shared.SharedFolder(tmp_path)
    label = ("model", "FunctionModel", "", "")
    seen = [(0, 0)]

    def look():
        kept = reading.read().get(label)
        if kept is not None:
            calls = kept.sums[OK]
            seen.append((calls, calls + kept.sums[MORE_ROWS]))

    waves, at_once = 3, 4
    for wave in range(waves):
        started = [
            subprocess.Popen(
                [sys.executable, "-c", KILLED, tmp_path, str(at % 2), str((wave % 2) << 16)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            for at in range(at_once)
        ]
        while any(each.poll() is None for each in started):
            look()
            time.sleep(2e-3)
        assert [each.returncode for each in started] == [0, -signal.SIGKILL] * (at_once // 2)
    look()
    assert seen == sorted(seen)
    assert seen[-1][0] == waves * at_once * 1000
    assert seen[-1][1] in range(2 * seen[-1][0] - waves * at_once, 2 * seen[-1][0] + 1)
    assert (
        len(slabs(tmp_path)) <= 2 * 2 * at_once
    )  # a reader may stand in the way of one that begins


def test_what_was_in_flight_ends_with_its_process(tmp_path):
    printed = run(
        COUNTED
        + textwrap.dedent("""
        from modelkit.serving.metering import requests
        meter = mk.Meter(model, shared=sys.argv[1])
        requests.begun()
        for _ in range(3):
            child = os.fork()
            if child == 0:
                requests.begun()
                requests.begun()
                print(requests.totals().in_flight, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(child, 0)
            print(requests.totals().in_flight, flush=True)
        """),
        tmp_path,
    )
    assert printed.split() == ["3", "1"] * 3
    assert len(slabs(tmp_path)) == 2


def test_the_file_of_a_parent_that_ended_is_taken_up_though_its_child_lives(tmp_path):
    """The child of a fork does not hold on to the lock of its parent."""
    reads, writes = os.pipe()
    parent = os.fork()
    if parent == 0:
        meter = metered(tmp_path)
        if os.fork() == 0:
            os.close(writes)
            os.read(reads, 1)
            os._exit(meter.totals().calls["ok"] - 2)
        os.kill(os.getpid(), signal.SIGKILL)
    with bounded(parent):
        os.waitpid(parent, 0)
    assert answered(metered(tmp_path)) == 2
    assert len(slabs(tmp_path)) == 1
    os.close(reads)
    os.close(writes)


def test_a_file_of_another_user_is_read_and_not_taken_up(tmp_path):
    assert passes_in_a_child(lambda: metered(tmp_path))
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and len(path.parts) > 2:
            path.chmod(0o755)
    tmp_path.chmod(0o777)
    (tmp_path / "0.slabs").chmod(0o444)

    def child():
        if os.getuid() == 0:
            os.setuid(65534)
        assert answered(metered(tmp_path)) == 2
        assert [path.name for path in slabs(tmp_path)] == ["0.slabs", "1.slabs"]

    assert passes_in_a_child(child)


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


def by_200_threads(meter):
    """Two calls by each of 200 threads at once."""
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


def test_a_full_disk_is_said_when_the_meter_is_made_and_reaches_no_caller_later(tmp_path):
    def child():
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit))
        with pytest.raises(UsageError, match="room"):
            mk.Meter(summed(), shared=tmp_path)
        (path,) = slabs(tmp_path)
        assert path.stat().st_size <= 1000
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, limit))
        meter = mk.Meter(summed(), shared=tmp_path)
        by_200_threads(meter)
        assert meter.totals().calls["ok"] == 400
        mine = meter._ledger.own_sums()[OK]  # which others do not see
        assert meter._ledger.folder.read()[meter._ledger.label].sums[OK] == 400 - mine
        os.write(writes, bytes([mine]))

    reads, writes = os.pipe()
    assert passes_in_a_child(child)
    seen = 400 - os.read(reads, 1)[0]
    os.close(reads)
    os.close(writes)
    meter = mk.Meter(summed(), shared=tmp_path)  # takes up a file that grew by a part of a block
    assert meter.totals().calls["ok"] == seen
    by_200_threads(meter)
    assert meter.totals().calls["ok"] == seen + 400
    assert len(slabs(tmp_path)) == 1


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
        meter.predict(ROW)
        monkeypatch.setattr(
            shared, "without_the_old", lambda _: os.kill(os.getpid(), signal.SIGSTOP)
        )
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


def test_a_signal_handler_reads_within_a_read(tmp_path, monkeypatch):
    meter = metered(tmp_path)
    assert passes_in_a_child(lambda: meter.predict(ROW))
    collector = Collector(meter)
    inside = []

    def handle(_signal, _frame):
        inside.append(answered(meter))
        inside.append(collector.text())

    def interrupted(found):
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGUSR1)
        return without_the_old(found)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        monkeypatch.setattr(shared, "without_the_old", interrupted)
        assert answered(meter) == 2
        monkeypatch.setattr(shared, "without_the_old", interrupted)
        assert collector.text()[0].startswith(b"# HELP modelkit_calls_total")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert inside[0] == inside[2] == 2
    assert inside[1] == inside[3]
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


def test_a_scrape_reads_a_folder_once(tmp_path):
    printed = run(
        """
import sys
import modelkit as mk
from modelkit.integrations.prometheus import Collector
from modelkit.serving.metering.folder import SharedFolder

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
