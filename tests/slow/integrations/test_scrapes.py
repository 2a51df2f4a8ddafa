"""Several processes of one server: whoever is scraped shows what all of them have counted."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from helpers.batchers import row
from helpers.processes import forks, passes_in_a_child, run
from helpers.scrapes import OPENMETRICS, batched, counters, new_name, value
from helpers.servers import free_port
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict
from prometheus_client.parser import text_string_to_metric_families as plain

import modelkit as mk
from modelkit.integrations.prometheus import Collector
from modelkit.serving.metering import requests

PATIENCE = 280  # seconds until a server must have answered
APPLICATION = """
    import os

    import numpy as np

    import modelkit as mk
    from modelkit.integrations.prometheus import Collector

    SIGNATURE = mk.Signature(
        (mk.TensorSpec("x", "float64", ("n", 2)),),
        (mk.TensorSpec("y", "float64", ("n",)),),
    )


    def add(feeds):
        return {"y": feeds["x"].sum(axis=1)}


    batcher = mk.Batcher(mk.FunctionModel(add, SIGNATURE, batchable=True), plan="learn")
    model = mk.Meter(batcher)
    collector = Collector(model)


    def answer(path, accept=""):
        if path == "/metrics":
            return collector.text(accept)[0]
        if path == "/wrong":
            try:
                model.predict(np.ones((1, 3)))
            except mk.errors.SignatureError:
                pass
        if path == "/predict":
            model.predict(np.ones((3, 2)))
        return str(os.getpid()).encode()


    def wsgi(environ, start_response):
        body = answer(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", str(len(body))), ("Connection", "close")])
        return [body]


    async def asgi(scope, receive, send):
        assert scope["type"] == "http"
        body = answer(scope["path"])
        headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
"""
SERVERS = {
    "uvicorn": (
        "-m",
        "uvicorn",
        "--workers=2",
        "--lifespan=off",
        "--log-level=error",
        "served:asgi",
    ),
    "gunicorn": ("-m", "gunicorn", "-w2", "--preload", "--log-level=error", "served:wsgi"),
}


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=280) as answer:
        return answer.read().decode()


@contextmanager
def served(server, folder):
    """A server with two processes; its port."""
    (folder / "served.py").write_text(textwrap.dedent(APPLICATION))
    counts = folder / "counts"
    counts.mkdir()
    port = free_port()
    where = [f"--port={port}"] if server == "uvicorn" else [f"--bind=127.0.0.1:{port}"]
    process = subprocess.Popen(
        [sys.executable, *SERVERS[server], *where],
        cwd=folder,
        env={**os.environ, "MODELKIT_METRICS_DIR": str(counts)},
    )
    try:
        wait_for_workers(port)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(timeout=280)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_workers(port):
    """Wait until both processes answer."""
    deadline = time.monotonic() + PATIENCE
    pids = set()
    while len(pids) < 2:
        assert time.monotonic() < deadline, f"only the processes {pids} answer"
        try:
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                pids |= {*pool.map(lambda _: get(port, "/"), range(8))}
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("server", SERVERS)
def test_six_scrapes_of_two_processes_agree(server, tmp_path):
    paths = ["/predict"] * 100 + ["/wrong"] * 10
    pids = set()
    rounds = 0
    deadline = time.monotonic() + PATIENCE
    with served(server, tmp_path) as port, concurrent.futures.ThreadPoolExecutor(8) as pool:
        while rounds < 3 or len(pids) < 2:  # new connections may all go to one process for a while
            assert time.monotonic() < deadline, f"only {pids} was called"
            pids |= {*pool.map(lambda path: get(port, path), paths)}
            rounds += 1
        scrapes = list(pool.map(lambda _: get(port, "/metrics"), range(6)))
    about = 'model="FunctionModel"'
    for text in scrapes:
        lines = text.splitlines()
        ok = f'modelkit_calls_total{{{about},outcome="ok",version=""}} {100.0 * rounds}'
        refused = f'modelkit_calls_total{{{about},outcome="signature",version=""}} {10.0 * rounds}'
        assert ok in lines
        assert refused in lines
        assert f'modelkit_rows_total{{{about},version=""}} {300.0 * rounds}' in lines
        assert f'modelkit_queue_limit_rows{{{about},version=""}} 8192.0' in lines
        assert "modelkit_batches_total" not in text  # of one process, it would differ by scrape
    counted = [[line for line in text.splitlines() if "_call" in line] for text in scrapes]
    assert counted == [counted[0]] * 6


# A server in a thread, a tool, a fork, and a process without the library.


@pytest.fixture
def name():
    return new_name()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_and_the_strict_parser_accept_it(name):
    with batched(name) as batcher:
        meter = mk.Meter(batcher)
        collector = Collector(meter)
        requests.begun()
        requests.ended("/v2/models/{model}/infer", 200, 0.001)
        for _ in range(100):
            meter.predict(row(1))
        body, _ = collector.text()
        done = subprocess.run(
            [shutil.which("promtool"), "check", "metrics"],
            input=body,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_missing_library_is_named():
    said = run("""
        import sys
        sys.modules["prometheus_client"] = None
        import modelkit as mk
        from modelkit.integrations.prometheus import Collector
        try:
            Collector()
        except mk.errors.MissingExtraError as error:
            print(error.extra, error.library)
    """)
    assert said.split() == ["metrics", "prometheus_client"]


def scraped(port, accept=""):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept} if accept else {}
    )
    with urllib.request.urlopen(request, timeout=280) as answer:  # noqa: S310
        return answer.headers["Content-Type"], answer.read().decode()


def called(model, times):
    for _ in range(times):
        model.predict(row(1))


def test_a_real_server_is_scraped_while_threads_call(name):
    registry = CollectorRegistry()
    with batched(name, loop=False) as batcher:
        meter = mk.Meter(batcher)
        registry.register(Collector(meter))
        server, thread = start_http_server(0, "127.0.0.1", registry)
        threads = [threading.Thread(target=called, args=(meter, 500)) for _ in range(4)]
        for each in threads:
            each.start()
        try:
            before = {}
            for scrape in range(20):
                kind, text = scraped(server.server_port, OPENMETRICS if scrape % 2 else "")
                read = strict if "openmetrics" in kind else plain
                now = {
                    (sample.name, *sorted(sample.labels.items())): sample.value
                    for family in read(text)
                    for sample in family.samples
                }
                assert all(now[key] >= before[key] for key in counters(before))
                before = now
            for each in threads:
                each.join()
            _, text = scraped(server.server_port)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
        ok = f'modelkit_calls_total{{model="{name}",outcome="ok",version="1.0.0"}} 2000.0'
        assert ok in text.splitlines()


@forks
def test_a_child_of_a_fork_scrapes_though_another_thread_was_scraping(name):
    meter = mk.Meter(batched(name))
    collector = Collector(meter)
    for _ in range(3):
        meter.predict(row(1))

    def work():
        assert value(collector, "modelkit_rows_total") == 0
        meter.predict(row(1))
        assert value(collector, "modelkit_rows_total") == 1

    with collector._shown._lock:
        assert passes_in_a_child(work)
    assert value(collector, "modelkit_rows_total") == 3
