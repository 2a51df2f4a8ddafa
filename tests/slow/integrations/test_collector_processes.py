"""Several processes of one server: whoever is scraped shows what all of them have counted."""

from __future__ import annotations

import concurrent.futures
import os
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

PATIENCE = 60  # seconds until a server must have answered
APPLICATION = """
    import os

    import numpy as np

    import modelkit as mk

    SIGNATURE = mk.Signature(
        (mk.TensorSpec("x", "float64", ("n", 2)),),
        (mk.TensorSpec("y", "float64", ("n",)),),
    )


    def add(feeds):
        return {"y": feeds["x"].sum(axis=1)}


    batcher = mk.Batcher(mk.FunctionModel(add, SIGNATURE, batchable=True), plan="learn")
    model = mk.Meter(batcher)
    collector = mk.Collector(model)


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


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
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
            process.wait(timeout=20)
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
