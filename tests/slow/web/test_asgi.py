"""An App behind a server in a thread: connections, clients that leave or stand still, and forks."""

import asyncio
import json
import socket
import subprocess
import sys

import pytest
from helpers.apps import PREDICT, ROW, Gate, ask, summed, uvicorn_of, wait_for

import modelkit as mk
from modelkit.types import Limits


@pytest.fixture
def app():
    return mk.App({"sum": summed(), "other": summed()})


def test_connections_are_kept_by_a_server(app):
    import http.client

    with uvicorn_of(app) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.connect()
        socket = connection.sock
        for _ in range(3):
            connection.request(
                "POST", PREDICT, json.dumps(ROW), {"content-type": "application/json"}
            )
            assert connection.getresponse().read()
            assert connection.sock is socket
        app.drain()
        connection.request("GET", "/v2")
        assert connection.getresponse().read()
        assert connection.sock is None
        connection.close()


def test_a_forked_child_begins_without_requests():
    code = """
import os, sys
sys.path.insert(0, "tests")
from helpers.apps import *
from helpers.client import Client
app = mk.App({"sum": summed()}, metrics=lambda accept: (b"", "text/plain"))
with Client(without_lifespan(app)) as client:
    assert client.get("/metrics").status == 200
app._edge.requests.add(object())
if os.fork() == 0:
    with Client(without_lifespan(app)) as client:
        assert app.in_flight == 0
        assert client.get("/metrics").status == 200
        assert client.post(PREDICT, json=ROW).status == 200
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=280)


# Clients that leave, stand still, or send too much.


def request_bytes(body, *lines):
    head = [f"POST {PREDICT} HTTP/1.1", "host: here", "content-type: application/json", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_of_a_server_that_leaves(loop):
    gate = Gate()
    meter = mk.Meter(gate.model)
    app = mk.App({"sum": meter})
    body = json.dumps(ROW).encode()
    with uvicorn_of(app, loop=loop) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request_bytes(body, f"content-length: {len(body)}"))
            assert gate.begun.acquire(timeout=30)
        wait_for(lambda: meter.totals().calls["cancelled"] == 1)
        gate.open()
        assert ask(server.port, "POST", PREDICT, body)[0] == 200
    assert app.in_flight == 0


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_slow_body_is_ended_by_a_server(http):
    app = mk.App({"sum": summed()}, limits=Limits(seconds=0.3))
    with (
        uvicorn_of(app, http=http) as server,
        socket.create_connection(("127.0.0.1", server.port)) as connection,
    ):
        connection.sendall(request_bytes(b"{", "content-length: 50"))
        answer = b""
        while part := connection.recv(1000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("size", [(2 << 20) + 1, 24 << 20])
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_client_that_sends_too_much_is_told_so_by_a_server(http, size):
    app = mk.App({"sum": summed()})
    with uvicorn_of(app, http=http) as server:
        status, headers, body = ask(server.port, "POST", PREDICT, b" " * size)
    assert status == 413
    assert headers["connection"] == "close"
    assert "2,097,152 bytes" in json.loads(body)["error"]


def test_health_is_answered_while_the_queue_is_full_and_a_large_body_is_parsed():
    """No time is asserted: what is shown is that an answer came while both were the case."""
    gate = Gate()
    app = mk.App({"sum": gate.model}, limits=Limits(requests=2))
    body = json.dumps({"rows": [{"a": 0.123456789, "b": 1.0}] * 9_000}).encode()

    async def main(server):
        loop = asyncio.get_running_loop()
        asking = [
            loop.run_in_executor(None, ask, server.port, "POST", PREDICT, body) for _ in range(2)
        ]
        seen = set()
        while gate.calls < 2:
            seen.add((await asyncio.to_thread(ask, server.port, "GET", "/v2/health/live"))[0])
        assert (await asyncio.to_thread(ask, server.port, "POST", PREDICT, body))[0] == 429
        seen.add((await asyncio.to_thread(ask, server.port, "GET", "/v2/health/ready"))[0])
        gate.open()
        return seen, [answer[0] for answer in await asyncio.gather(*asking)]

    with uvicorn_of(app) as server:
        seen, statuses = asyncio.run(main(server))
    assert seen == {200}
    assert statuses == [200, 200]
