"""Several processes, forks, processes that are killed, and disks that are full."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest
from helpers.apps import PREDICT, ROW
from helpers.audits import KEY, files_of, pem, write_log
from helpers.processes import forks, passes_in_a_child
from helpers.programs import until
from helpers.servers import other_server

import modelkit as mk
from modelkit import events

SET = events.AliasSet("churn", "champion", "1.1.0", "1.0.0", "gate")
ENDLESS = """
import sys
import modelkit as mk
from modelkit import events

audit = mk.AuditLog(sys.argv[1], sys.argv[2], checkpoint_every=50, rotate_bytes=20_000)
n = 0
while True:
    audit.record(events.AliasSet(str(n), "", "", "", "x" * (n % 300)))
    n += 1
    print(n, flush=True)  # was recorded
"""
LIMITED = """
import resource
import sys

import numpy as np

import modelkit as mk
from modelkit import events
from modelkit.errors import AuditError

folder, key = sys.argv[1:]
SIGNATURE = mk.Signature(
    [mk.TensorSpec("x", "float64", ("n",))], [mk.TensorSpec("y", "float64", ("n",))]
)
answered = []
model = mk.FunctionModel(lambda feeds: answered.append(1) or {"y": feeds["x"]}, SIGNATURE)
SET = events.AliasSet("churn", "champion", "1.1.0", "1.0.0", "gate")


def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


with mk.AuditLog(folder, key, checkpoint_every=5) as audit:
    served = audit.answers(model)
    given = refused = 0
    served.predict(np.ones(1))
    for size in range(2000, 6000, 333):  # as a disk that is full at any place of a line
        limit(size)
        for _ in range(20):
            try:
                served.predict(np.ones(1))
                given += 1
            except AuditError as error:
                assert "cannot be written" in str(error), error
                refused += 1
                events.emit(SET)  # is lost, and raises nothing
                break
    limit(resource.RLIM_INFINITY)
    events.emit(SET)
    served.predict(np.ones(1))
    assert len(answered) == given + refused + 2
    print(given + 2, refused)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "audit"


@pytest.fixture
def key(tmp_path):
    (tmp_path / "key.pem").write_bytes(pem(KEY)[0])
    return tmp_path / "key.pem"


def verify(folder, *checkpoints):
    return mk.AuditLog.verify(folder, [KEY.public_key()], checkpoints)


def test_what_was_recorded_outlives_a_kill_and_a_torn_line_is_no_tampering(folder, key):
    for _ in range(6):
        command = [sys.executable, "-c", ENDLESS, str(folder), str(key)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if int(line) >= 150:
                    break
            process.kill()
            last = [*process.stdout, line]
        known = max(int(text) for text in last if text.endswith("\n"))
        assert process.returncode == -signal.SIGKILL
        report = verify(folder)
        assert report.problems == ()
        logs = {path.name.partition(".")[0] for path in files_of(folder)}
        names = [r.fields["name"] for r in mk.AuditLog.read(folder) if r.event == "aliasset"]
        assert set(map(str, range(known))) <= {*names}
        assert report.logs == len(logs)
        assert sum("was not closed" in note for note in report.notes) == len(logs)
    path = files_of(folder)[-1]
    data = path.read_bytes()
    for size in range(
        max(1, len(data) - 400), len(data)
    ):  # a power cut may leave any part of a line
        path.write_bytes(data[:size])
        report = verify(folder)
        assert report.problems == ()
        torn = any("is torn" in note for note in report.notes)
        assert torn == (data[size - 1 : size] != b"\n")


def test_a_full_disk_gives_no_answer_that_is_not_recorded(folder, key):
    command = [sys.executable, "-c", LIMITED, str(folder), str(key)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    given, refused = map(int, done.stdout.split())
    assert min(given, refused) > 5
    report = verify(folder)
    assert report.problems == ()
    records = [*mk.AuditLog.read(folder)]
    assert [record.event for record in records].count("audit.answer") == given
    heard = [record.event for record in records].count("aliasset")  # a shorter line may still fit
    (note,) = report.notes
    assert f"{records[-1].fields['lost']} records could not be written" in note
    assert records[-1].fields["lost"] == refused + (refused + 1 - heard)


@forks
def test_the_child_of_a_fork_begins_a_log_of_its_own(folder):
    with mk.AuditLog(folder, KEY) as audit:
        audit.record(SET)

        def work():
            assert not any(f"-{os.getpid()}-" in path.name for path in files_of(folder))
            events.emit(events.AliasSet("child", "", "", "", ""))
            checkpoint = audit.checkpoint()
            audit.close()
            assert verify(folder, checkpoint).problems == ()

        for _ in range(3):
            assert passes_in_a_child(work)
        assert passes_in_a_child(audit.close)  # it recorded nothing
        audit.record(SET)
    assert len(files_of(folder)) == 4
    assert verify(folder).problems == ()
    assert verify(folder).notes == ()
    pids = {
        record.log: record.fields.get("name")
        for record in mk.AuditLog.read(folder)
        if record.event == "aliasset"
    }
    assert sorted(pids.values()) == ["child", "child", "child", "churn"]


@forks
def test_a_fork_in_the_middle_of_a_record_stops_neither(folder):
    with mk.AuditLog(folder, KEY) as audit:
        stop = threading.Event()

        def write():
            while not stop.is_set():
                audit.record(SET)

        threads = [threading.Thread(target=write) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                assert passes_in_a_child(lambda: audit.record(SET))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    report = verify(folder)
    assert report.problems == ()
    assert report.logs == 31


def test_processes_write_side_by_side_and_are_read_together(folder):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=write_log, args=(folder, [SET] * 200), kwargs={"rotate_bytes": 9000})
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    report = mk.AuditLog.verify(folder)
    assert (report.logs, report.problems) == (4, ())
    records = [*mk.AuditLog.read(folder)]
    assert len(records) == report.records
    assert [record.event for record in records].count("aliasset") == 800
    for log in {record.log for record in records}:
        numbers = [record.number for record in records if record.log == log]
        assert numbers == [*range(1, len(numbers) + 1)]


def test_a_log_is_checked_while_it_is_written(folder, key):
    command = [sys.executable, "-c", ENDLESS, str(folder), str(key)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "1\n"
            for _ in range(20):
                for _ in range(10):
                    known = int(process.stdout.readline())
                report = verify(folder)
                assert report.problems == ()
                assert report.records > known
        finally:
            process.kill()
    until(lambda: process.poll() is not None, "it ends")


def test_a_process_that_ends_closes_its_log(folder, key):
    code = (
        "import sys, modelkit as mk; audit = mk.AuditLog(sys.argv[1], sys.argv[2]); "
        "audit.record(mk.events.AliasSet('', '', '', '', ''))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), str(key)], check=True)
    assert verify(folder).notes == ()
    assert [record.event for record in mk.AuditLog.read(folder)][-1] == "audit.closed"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_closes_its_log_in_its_lifespan(folder, key, workers):
    """uvicorn ends itself by the signal that it got, so nothing runs at the exit of the interpreter."""
    environ = {"AUDITED": str(folder), "AUDIT_KEY": str(key)}
    command = (sys.executable, "-m", "uvicorn", "audited_app:api", "--port", "PORT")
    with other_server(*command, "--workers", workers, environ=environ) as served:
        for _ in range(20):
            assert served.post(PREDICT, ROW)[0] == 200
        served.end()
    report = verify(folder)
    assert report.notes == ()
    events = [record.event for record in mk.AuditLog.read(folder)]
    assert (events.count("audit.answer"), events.count("audit.closed")) == (20, int(workers))
