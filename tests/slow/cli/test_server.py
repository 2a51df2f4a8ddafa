"""What a client may do before anybody knows it: heads, bodies and connections have limits."""

import asyncio
import json
import socket
import sys
import threading
from contextlib import suppress
from functools import partial

import pytest
import uvicorn
from helpers.apps import ask, summed, uvicorn_of

import modelkit as mk
from modelkit.cli import connections as cli_connections
from modelkit.cli import server as cli_server
from modelkit.cli.connections import GuardedProtocol
from modelkit.cli.server import DrainingServer, bound, most_connections


def connected(port, data=b""):
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(data)
    return connection


def what_comes(connection):
    """All that comes until a connection is closed."""
    found = b""
    with suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            found += part
    connection.close()
    return found


def guarded(most=100):
    return uvicorn_of(mk.App({"sum": summed()}), http=partial(GuardedProtocol, {}, most))


ASKED = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
BODYLESS = (
    b"POST /models/sum/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
    b"Content-Type: application/json\r\n\r\n"
)

CHUNKED = ASKED + b"Transfer-Encoding: chunked\r\n\r\n1"
HEADS = {
    "a value": (ASKED + b"A: " + b"a" * 40_000, 431),
    "a path": (b"GET /" + b"a" * 40_000, 431),
    "a whole head": (ASKED + b"A: " + b"a" * 40_000 + b"\r\n\r\n", 431),
    "fields": (ASKED + b"A: a\r\n" * 150, 431),
    "a whole head of fields": (ASKED + b"A: a\r\n" * 150 + b"\r\n", 431),
    "a head after another": (ASKED + b"\r\n" + ASKED + b"A: " + b"a" * 40_000, None),
    "a chunk's extension": (CHUNKED + b";" + b"a" * 40_000, None),
    "trailers": (CHUNKED + b"\r\na\r\n0\r\n" + b"A: a\r\n" * 8_000, None),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_has_a_limit_of_bytes_and_fields(head):
    data, status = HEADS[head]
    with guarded() as server:
        answer = what_comes(connected(server.port, data))
        assert ask(server.port, "GET", "/v2/health/live")[0] == 200
    if status is not None:
        assert answer.startswith(b"HTTP/1.1 %d" % status)


def test_usual_heads_long_bodies_and_many_requests_pass():
    body = json.dumps({"columns": {"a": [0.123456789] * 9000, "b": [1.0] * 9000}}).encode()
    head = b"Content-Type: application/json\r\nA: " + b"a" * 8000 + b"\r\n"
    data = b"POST /models/sum/predict HTTP/1.1\r\nHost: localhost\r\n" + head
    whole = data + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    with guarded() as server:
        connection = connected(server.port, whole * 3 + ASKED + b"Connection: close\r\n\r\n")
        assert what_comes(connection).count(b"HTTP/1.1 200") == 4
        chunked = data + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
        assert what_comes(connected(server.port, chunked)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("body", [b"", b'{"columns": {"a": [1.0], "b": [2.0]}}'])
def test_of_many_requests_on_a_connection_few_wait(body):
    waiting = []

    class Watched(GuardedProtocol):
        def _read_on(self):
            super()._read_on()
            waiting.append((len(self.pipeline), len(self._unread)))

    path = b"POST /models/sum/predict" if body else b"GET /v2/health/live"
    head = path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    asked = head + b"Content-Length: %d\r\n" % len(body)
    data = (asked + b"\r\n" + body) * 5_000 + asked + b"Connection: close\r\n\r\n" + body
    app = mk.App({"sum": summed()})
    with uvicorn_of(app, http=partial(Watched, {}, 100)) as server:
        connection = connected(server.port)
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        assert what_comes(connection).count(b"HTTP/1.1 200") == 5_001
        sender.join()
    most = max(requests for requests, _ in waiting), max(unread for _, unread in waiting)
    assert most[0] <= 128
    assert most[1] <= 1 << 18


def test_what_follows_a_body_says_nothing_of_who_asks():
    asked = []
    app = mk.App({"sum": summed()}, auth=lambda headers: asked.append(dict(headers)) or "me")
    body = b'{"columns": {"a": [1.0], "b": [2.0]}}'
    head = b"POST /models/sum/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(body), body)
    trailers = b"Host: another\r\nX-Client-Name: admin\r\n\r\n"
    data = head + b"Content-Type: application/json\r\n" + chunks + trailers
    with uvicorn_of(app, http=partial(GuardedProtocol, {}, 100)) as server:
        assert what_comes(connected(server.port, data)).startswith(b"HTTP/1.1 200")
    assert asked[0]["host"] == "localhost"
    assert "x-client-name" not in asked[0]


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nA: "])
def test_a_head_that_does_not_come_ends_its_connection(head, monkeypatch):
    monkeypatch.setattr(cli_connections, "HEAD_SECONDS", 0.2)
    with guarded() as server:
        what_comes(connected(server.port, head))


@pytest.mark.parametrize("data", [b"", ASKED, BODYLESS, BODYLESS + b"{"])
def test_connections_that_are_idle_make_room(data):
    with guarded(most=4) as server:
        idle = [connected(server.port, data) for _ in range(10)]
        assert ask(server.port, "GET", "/v2/health/live")[0] == 200
        assert [what_comes(connection) for connection in idle[:6]] == [b""] * 6
        for connection in idle:
            connection.close()


def test_clients_who_knock_for_ever_keep_no_server_from_ending(monkeypatch):
    monkeypatch.setattr(cli_server, "_knocks", lambda sockets: True)
    monkeypatch.setattr(cli_server, "KNOCKING_SECONDS", 0.1)
    config = uvicorn.Config(mk.App({"sum": summed()}), log_level="warning")
    server = DrainingServer(config, lambda: None, 0.0, lambda: None)

    async def serve_and_end(listener):
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # it tells nobody
            await asyncio.sleep(0.01)
        server.should_exit = True
        await asyncio.wait_for(serving, 60)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        asyncio.run(serve_and_end(listener))


def test_files_are_left_for_other_things_than_connections():
    assert 0 < most_connections() <= 10_240
    if sys.platform == "linux":
        import resource

        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert most_connections() <= files - 64
        with socket.socket() as listener:
            bound(listener)
            assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
