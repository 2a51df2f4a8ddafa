"""`modelkit serve` with several processes, and its end under load."""

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from contextlib import suppress

import psutil
import pytest
from helpers.processes import run
from helpers.servers import crowd, modelkit_serve, request_of, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


@pytest.fixture(scope="module")
def rows(breast_cancer):
    return json.loads(breast_cancer[0][:2].to_json(orient="records"))


@pytest.fixture(scope="module")
def other(boosting_mk):
    """A server that stays."""
    with modelkit_serve(boosting_mk) as served:
        yield served
        served.end(signal.SIGINT)


def children(served):
    """The workers of a server that live."""
    found = []
    for child in psutil.Process(served.process.pid).children():
        with suppress(psutil.Error):  # it is gone meanwhile
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


def total_of(served, family):
    _, _, text = served.ask("GET", "/metrics")
    line = next(line for line in text.decode().splitlines() if line.startswith(family))
    return float(line.rpartition(" ")[2])


def test_workers_add_up_what_they_served_and_are_replaced(boosting_mk, rows, tmp_path):
    environ = {"TMPDIR": str(tmp_path)}
    with modelkit_serve(boosting_mk, "--workers", "2", "--drain", "0", environ=environ) as served:
        assert [path.name for path in tmp_path.iterdir()]
        body = json.dumps({"rows": rows}).encode()
        request = request_of("/models/breast-cancer/predict", body)
        left = iter(range(400))
        counts = asyncio.run(crowd([served.port], request, lambda: next(left, None) is not None))
        assert counts == {200: 400}
        for _ in range(3):
            assert total_of(served, "modelkit_rows_total") == 800
        first, second = children(served)
        first.kill()
        wait_until(
            lambda: second in (now := children(served)) and len(now) == 2 and first not in now
        )
        wait_until(lambda: served.post("/models/breast-cancer/predict", {"rows": rows})[0] == 200)
        assert total_of(served, "modelkit_rows_total") >= 802
        workers = children(served)
        assert served.end() == 0
        assert not any(worker.is_running() for worker in workers)
        told = served.process.stderr.read()
        assert f"worker {first.pid} ended with the status -9, and is replaced in 0.5 s\n" in told
        assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_workers_end_with_their_parent(boosting_mk):
    with modelkit_serve(boosting_mk, "--workers", "2", "--drain", "0") as served:
        workers = children(served)
        served.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=280)
        assert not alive


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_drops_nothing(boosting_mk, other, rows, workers):
    """Two servers, as behind a balancer of load; one of them is stopped.

    It says so with each answer, and a second SIGTERM ends it once its clients have gone to the other.
    """
    options = ("--drain", "3600", "--workers", str(workers))
    with modelkit_serve(boosting_mk, *options) as served:
        request = request_of("/models/breast-cancer/predict", json.dumps({"rows": rows}).encode())
        ends = iter([lambda: counts[200] >= 200, lambda: counts["moved"] == 16, lambda: False])
        counts, due = Counter(), next(ends)

        def more():
            nonlocal due
            if due():
                served.process.send_signal(signal.SIGTERM)
                due = next(ends)
            return served.process.poll() is None

        asyncio.run(crowd([served.port, other.port], request, more, 16, counts))
        assert set(counts) == {200, "moved"}
        assert counts["moved"] == 16
        assert served.process.wait() == 0


def test_a_replacement_that_dies_before_it_begins_is_tried_again(tmp_path):
    told = run(
        """
        import logging, socket, sys
        from types import SimpleNamespace
        from helpers.processes import fragile_worker
        from modelkit.cli.processes import Processes

        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        settings = SimpleNamespace(workers=2, folder=sys.argv[1])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            print(Processes(fragile_worker, settings, listener, lambda: print("began")).run())
        """,
        tmp_path,
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    lines = re.sub(r"worker \d+", "worker N", told).splitlines()
    assert lines[-1] == "True", told
    assert "worker N ended with the status 3, and is replaced in 0.5 s" in lines
    for pause in (1, 2):
        assert (
            f"worker N ended with the status 3 before it answered, and is replaced in {pause} s"
            in lines
        )
