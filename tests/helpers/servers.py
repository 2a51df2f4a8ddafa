"""Real servers on loopback, and clients that ask them."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from helpers.processes import PATIENCE

HELPERS = Path(__file__).parent
LIFE = 600  # seconds that a server may live, which the tests of a file may share
OK = 200


@dataclass
class Served:
    """A server under way."""

    process: subprocess.Popen
    port: int

    def ask(self, method, path, body=None, headers=None, **how):
        """The status, the headers and the body of an answer, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {}, **how)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def post(self, path, body, headers=None):
        """The status and the value of the answer to a value as JSON."""
        told = {"content-type": "application/json", **(headers or {})}
        status, _, text = self.ask("POST", path, json.dumps(body).encode(), told)
        return status, json.loads(text)

    def end(self, signum=signal.SIGTERM):
        """End it by a signal; returns its status."""
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)


@contextmanager
def started(command, environ=None, stdout=subprocess.PIPE):
    """A process that is ended when the block ends, at the latest, or when it lives too long."""
    process = subprocess.Popen(
        [*map(str, command)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environ or {})},
    )
    timer = threading.Timer(LIFE, process.kill)
    timer.start()
    with process:
        try:
            yield process
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()


@contextmanager
def modelkit_serve(*arguments, environ=None, port="0"):
    """`modelkit serve` at a free port, from the moment that it says where.

    With `port=None`, its environment says at which one.
    """
    ports = () if port is None else ("--port", port)
    command = [sys.executable, "-m", "modelkit", "serve", *ports, *arguments]
    with started(command, environ) as process:
        line = process.stdout.readline()
        assert "://" in line, process.stderr.read()
        yield Served(process, int(line.rpartition(":")[2]))


@contextmanager
def other_server(*command, environ=None):
    """A server whose command has PORT in it, from the moment that it is ready."""
    port = free_port()
    words = [str(word).replace("PORT", str(port)) for word in command]
    path = os.pathsep.join([str(HELPERS), *sys.path])
    with started(words, {"PYTHONPATH": path, **(environ or {})}) as process:
        served = Served(process, port)
        wait_until(lambda: is_ready(served), process)
        yield served


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_ready(served):
    try:
        return served.ask("GET", "/v2/health/ready")[0] == OK
    except OSError:
        return False


def wait_until(happened, process=None):
    """Wait for a condition, at most PATIENCE seconds and while a process lives."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def request_of(path, body):
    """A POST of JSON as it goes over a connection that is kept."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def exchange(reader, writer, request):
    """The status, whether the connection is to be closed, and the body of an answer."""
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    fields = dict(line.split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
    body = await reader.readexactly(int(fields[b"content-length"]))
    return int(head[9:12]), fields.get(b"connection") == b"close", body


async def ask_on(ports, request, more, counts, **tls):
    """Ask while `more()`, over connections that are kept, as a balancer of load does.

    It leaves a port that closes a connection for the next one, if there is one, and counts every
    answer, by status, and every request without one.
    """
    writer = None
    while more():
        if writer is None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", ports[0], **tls)
            except ConnectionRefusedError:
                ports.pop(0)
                counts["refused"] += 1
                if not ports:
                    return
                continue
        try:
            status, closed, _ = await exchange(reader, writer, request)
            counts[status] += 1
        except (OSError, asyncio.IncompleteReadError):
            counts["dropped"] += 1
            closed = True
        if closed:
            await leave(writer)
            writer = None
            if len(ports) > 1:
                ports.pop(0)
                counts["moved"] += 1
    if writer is not None:
        await leave(writer)


async def leave(writer):
    """Close a connection; TLS takes a while for it."""
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def crowd(ports, request, more, clients=32, counts=None, **tls):
    """What `clients` at once saw; `counts` shows it while they ask."""
    counts = Counter() if counts is None else counts
    each = (ask_on(list(ports), request, more, counts, **tls) for _ in range(clients))
    await asyncio.gather(*each)
    return counts
