"""Apps over small models, requests to them, and a server in a thread."""

import asyncio
import http.client
import threading
import time
from contextlib import contextmanager

import modelkit as mk

PATIENCE = 100  # seconds after which something hangs
SIGNATURE = mk.Signature(
    inputs=(
        mk.TensorSpec(
            "x", "float64", ("batch", 2), (mk.Column("a", "float64"), mk.Column("b", "float64"))
        ),
    ),
    outputs=(mk.TensorSpec("prediction", "float64", ("batch",)),),
)
INFER = "/v2/models/sum/infer"
PREDICT = "/models/sum/predict"
EXPLAIN = "/models/sum/explain"
ROW = {"rows": [{"a": 1.0, "b": 2.0}]}


def summed(fn=None, *, batchable=True):
    """A model that adds up two columns, or does what `fn` says with the feeds."""
    run = fn or (lambda feeds: {"prediction": feeds["x"].sum(axis=1)})
    return mk.FunctionModel(run, SIGNATURE, batchable=batchable)


def tensor(values=((1.0, 2.0),), **changed):
    """A request of V2 for rows of two values."""
    data = [value for row in values for value in row]
    told = {"name": "x", "shape": [len(values), 2], "datatype": "FP64", "data": data}
    return {"inputs": [told | changed]}


class Gate:
    """A model that says when it was begun, and goes on when it is let.

    A call cannot be answered before `open`, so that whatever happens meanwhile happens in time.
    """

    def __init__(self, *, batchable=False):
        self.begun = threading.Semaphore(0)
        self.calls = 0
        self._opened = threading.Event()
        self.model = summed(self._run, batchable=batchable)

    def _run(self, feeds):
        self.calls += 1
        self.begun.release()
        assert self._opened.wait(PATIENCE)
        return {"prediction": feeds["x"].sum(axis=1)}

    def open(self):
        self._opened.set()

    def was_begun(self):
        """Whether a call began since this was last true."""
        return self.begun.acquire(blocking=False)


def wait_for(happened):
    """Wait for a condition, at most PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@contextmanager
def uvicorn_of(app, **options):
    """The port of a uvicorn that serves an app in a thread of its own, and the server."""
    import uvicorn

    config = uvicorn.Config(
        app, port=0, log_level="warning", access_log=False, ws="none", **options
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started or not thread.is_alive())
    server.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()


def ask(port, method, path, body=None, headers=None):
    """The status, the headers and the body of an answer over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        told = headers or ({} if body is None else {"content-type": "application/json"})
        connection.request(method, path, body, told)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def without_lifespan(app):
    """The same app as a mounted one is called: for requests only."""

    async def mounted(scope, receive, send):
        if scope["type"] == "http":
            await app(scope, receive, send)

    return mounted


async def asked_of(app, receive, send, path=PREDICT):
    """Ask in a task of its own, as a server has it."""
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)


class Still:
    """A client that sends parts of a body, or takes parts of an answer, and then stands still."""

    def __init__(self, *parts, takes=1 << 30, more=True):
        self.parts = [*parts]
        self.more = more
        self.takes = takes
        self.got = []
        self.stands = asyncio.Event()

    async def receive(self):
        if not self.parts:
            await asyncio.get_running_loop().create_future()
        body = self.parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": self.more or bool(self.parts)}

    async def send(self, message):
        self.got.append(message)
        if len(self.got) > self.takes:
            self.stands.set()
            await asyncio.get_running_loop().create_future()

    @property
    def status(self):
        return self.got[0]["status"]
