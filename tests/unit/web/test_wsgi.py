"""An App behind WSGI and in Flask: the answers of ASGI, on the threads of a server."""

import gzip
import hashlib
import io
import json
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import flask
import pytest
from helpers.apps import INFER, PREDICT, ROW, Gate, summed, tensor, wait_for
from helpers.client import Client

import modelkit as mk
from modelkit import errors
from modelkit.types import Limits

SMALL = Limits(body=2000, rows=4, requests=2, seconds=20.0)
JSON = {"content-type": "application/json"}


class Body(io.BytesIO):
    """An input as the validator of PEP 3333 wants it; `asked` says how much was read at once."""

    def __init__(self, data):
        super().__init__(data)
        self.asked = []

    def read(self, size=-1):
        self.asked.append(size)
        return super().read(size)


def environ_of(method, path, body=b"", headers=None):
    """The environment of a request, as a server of WSGI makes it."""
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": Body(body),
    }
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        environ[key if key.startswith("CONTENT_") and "ENCODING" not in key else f"HTTP_{key}"] = (
            value
        )
    setup_testing_defaults(environ)
    return environ


def call(application, environ, *, checked=True):
    """The status, the headers and the body of an answer; checked against PEP 3333."""
    told = []
    application = validator(application) if checked else application
    parts = application(environ, lambda status, headers, info=None: told.append((status, headers)))
    body = b"".join(parts)
    if hasattr(parts, "close"):
        parts.close()
    ((status, headers),) = told
    return int(status[:3]), {name.lower(): value for name, value in headers}, body


def by_wsgi(app, method, path, body, headers):
    return call(app.wsgi, environ_of(method, path, body, headers))


def by_flask(app, method, path, body, headers):
    host = flask.Flask("host")
    host.register_blueprint(app.blueprint(), url_prefix="/ml")
    answer = host.test_client().open(f"/ml{path}", method=method, data=body, headers=headers)
    return answer.status_code, {k.lower(): v for k, v in answer.headers}, answer.data


WAYS = pytest.mark.parametrize("ask", [by_wsgi, by_flask])


def data(value):
    return json.dumps(value).encode()


FULL = errors.Overloaded("the queue is full", queued=64, max_queue=64)


def failing(error):
    def fail(feeds):
        raise error

    return summed(fail)


def apps():
    digest = hashlib.sha256(b"right").hexdigest()

    def forbid(headers):
        raise PermissionError("not on Sundays")

    async def nobody(headers):
        return None

    async def anybody(headers):
        return headers.get("x-name", "anybody")

    closed = summed()
    closed.close()
    return {
        "plain": mk.App({"sum": summed()}, limits=SMALL),
        "tokens": mk.App({"sum": summed()}, auth=mk.bearer_tokens({"alice": digest})),
        "forbid": mk.App({"sum": summed()}, auth=forbid),
        "nobody": mk.App({"sum": summed()}, auth=nobody),
        "anybody": mk.App({"sum": summed()}, auth=anybody),
        "full": mk.App({"sum": failing(FULL)}),
        "closed": mk.App({"sum": closed}),
        "broken": mk.App({"sum": failing(ZeroDivisionError())}),
        "metrics": mk.App({"sum": summed()}, metrics=lambda accept: (b"# text", f"for {accept}")),
    }


RIGHT = {**JSON, "authorization": "Bearer right"}
ZIPPED = {**JSON, "content-encoding": "gzip"}
REQUESTS = [
    # status, app, method, path, body, headers
    (200, "plain", "POST", PREDICT, data(ROW), JSON),
    (200, "plain", "POST", INFER, data(tensor()), JSON),
    (200, "plain", "POST", "/models/sum/instances", data({"instances": [[1, 2]]}), JSON),
    (404, "plain", "POST", "/models/sum/outcome", data({"key": "k", "loss": 0}), JSON),
    (200, "plain", "POST", PREDICT, gzip.compress(data(ROW)), ZIPPED),
    (
        200,
        "plain",
        "POST",
        PREDICT,
        zlib.compress(data(ROW)),
        {**JSON, "content-encoding": "deflate"},
    ),
    (200, "plain", "GET", "/", b"", {}),
    (200, "plain", "GET", "/v2/health/live", b"", {}),
    (200, "plain", "HEAD", "/v2/health/ready", b"", {}),
    (200, "plain", "GET", "/v2/models/sum", b"", {}),
    (200, "plain", "GET", "/openapi.json", b"", {}),
    (200, "metrics", "GET", "/metrics", b"", {"accept": "text/plain"}),
    (200, "tokens", "POST", PREDICT, data(ROW), RIGHT),
    (200, "anybody", "POST", PREDICT, data(ROW), JSON),
    (400, "plain", "POST", PREDICT, b"{", JSON),
    (400, "plain", "POST", INFER, data(tensor(shape=[-1, 2])), JSON),
    (400, "plain", "POST", PREDICT, b"no gzip", ZIPPED),
    (400, "plain", "POST", PREDICT, data(ROW), {**JSON, "request-timeout": "soon"}),
    (401, "tokens", "POST", PREDICT, data(ROW), JSON),
    (401, "nobody", "POST", PREDICT, data(ROW), JSON),
    (403, "forbid", "POST", PREDICT, data(ROW), JSON),
    (404, "plain", "GET", "/nothing", b"", {}),
    (404, "plain", "GET", "/v2/models/s%C3%BCm", b"", {}),
    (404, "plain", "GET", "/metrics", b"", {}),
    (405, "plain", "GET", INFER, b"", {}),
    (405, "plain", "OPTIONS", PREDICT, b"", {}),
    (405, "plain", "DELETE", "/v2", b"", {}),
    (413, "plain", "POST", PREDICT, b" " * 2001, JSON),
    (413, "plain", "POST", PREDICT, gzip.compress(b" " * 2001), ZIPPED),
    (413, "plain", "POST", PREDICT, data({"rows": 5 * ROW["rows"]}), JSON),
    (415, "plain", "POST", PREDICT, data(ROW), {"content-type": "text/csv"}),
    (415, "plain", "POST", PREDICT, data(ROW), {**JSON, "content-encoding": "br"}),
    (422, "plain", "POST", PREDICT, data({"rows": [{"a": "one"}]}), JSON),
    (429, "full", "POST", PREDICT, data(ROW), JSON),
    (503, "closed", "POST", PREDICT, data(ROW), JSON),
    (504, "plain", "POST", PREDICT, data(ROW), {**JSON, "request-timeout": "0.000001"}),
    (500, "broken", "POST", PREDICT, data(ROW), {**JSON, "x-request-id": "abc"}),
]


@pytest.fixture(scope="module")
def served():
    return apps()


@pytest.fixture(scope="module")
def clients(served):
    """Clients of the same apps by ASGI."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Client(app)) for name, app in served.items()}


@WAYS
@pytest.mark.parametrize(
    "case", REQUESTS, ids=[f"{case[0]}-{i}" for i, case in enumerate(REQUESTS)]
)
def test_the_answer_is_that_of_asgi(served, clients, ask, case):
    status, name, method, path, body, headers = case
    expected = clients[name].request(method, path, body=body, headers=headers)
    got = ask(served[name], method, path, body, headers)
    assert expected.status == status
    if path == "/openapi.json" and status == 200:  # it names the place where the App is mounted
        told = [json.loads(answer) for answer in (got[2], expected.body)]
        assert [document.pop("servers")[0]["url"][:1] for document in told] == ["/", "/"]
        assert told[0] == told[1]
        return
    kept = {key: value for key, value in expected.headers.items() if key != "connection"}
    assert got == (status, kept, expected.body)


@WAYS
def test_bytes_come_and_go(served, ask):
    told = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64"}]}
    told["inputs"][0]["parameters"] = {"binary_data_size": 16}
    told["parameters"] = {"binary_data_output": True}
    head = data(told)
    import numpy as np

    body = head + np.array([1.0, 2.0]).tobytes()
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    status, answered, body = ask(served["plain"], "POST", INFER, body, headers)
    assert status == 200
    head = int(answered["inference-header-content-length"])
    assert np.frombuffer(body[head:]).tolist() == [3.0]


# Bodies.


def test_a_body_is_read_up_to_its_length(served):
    environ = environ_of("POST", PREDICT, data(ROW), JSON)
    environ["wsgi.input"] = body = Body(data(ROW) + b"the next request")
    assert call(served["plain"].wsgi, environ)[0] == 200
    assert body.read() == b"the next request"


@pytest.mark.parametrize(("size", "status"), [(10, 200), (3000, 413)])
def test_a_body_in_chunks_is_counted_while_it_is_read(served, size, status):
    environ = environ_of("POST", PREDICT, data(ROW) + size * b" ", JSON)
    del environ["CONTENT_LENGTH"]
    environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    assert call(served["plain"].wsgi, environ)[0] == status


def test_a_server_that_takes_no_chunks_is_told_of(served):
    environ = environ_of("POST", PREDICT, data(ROW), JSON)
    del environ["CONTENT_LENGTH"]
    environ["HTTP_TRANSFER_ENCODING"] = "chunked"
    status, _, body = call(served["plain"].wsgi, environ)
    assert status == 411
    assert "Content-Length" in json.loads(body)["error"]


@pytest.mark.parametrize("told", ["many", "-1", "1e3", "²"])
def test_a_length_is_a_number(served, told):
    environ = environ_of("POST", PREDICT, data(ROW), JSON)
    environ["CONTENT_LENGTH"] = told
    status, _, _ = call(served["plain"].wsgi, environ, checked=False)
    assert status == 400


def test_a_body_that_ends_early_is_400(served):
    environ = environ_of("POST", PREDICT, data(ROW), JSON)
    environ["CONTENT_LENGTH"] = "500"
    status, _, body = call(served["plain"].wsgi, environ)
    assert status == 400
    assert "before its Content-Length" in json.loads(body)["error"]


def test_a_body_that_takes_too_long_is_408():
    app = mk.App({"sum": summed()}, limits=Limits(seconds=1e-9))
    body = data(ROW) + b" " * (1 << 16)  # it is read in two parts
    status, _, body = call(app.wsgi, environ_of("POST", PREDICT, body, JSON))
    assert status == 408
    assert "did not come in time" in json.loads(body)["error"]


def test_who_may_not_ask_is_told_before_the_body_is_read(served):
    for headers in (JSON, {**JSON, "authorization": "Bearer wrong"}):
        environ = environ_of("POST", PREDICT, data(ROW), headers)
        body = environ["wsgi.input"]
        assert call(served["tokens"].wsgi, environ)[0] == 401
        assert body.asked == []


def test_a_body_that_the_server_cannot_read_is_400(served):
    class Broken(Body):
        def read(self, size=-1):
            raise ValueError("Invalid chunk size: b'x'")

    environ = environ_of("POST", PREDICT, data(ROW), JSON)
    environ["wsgi.input"] = Broken(b"")
    status, _, body = call(served["plain"].wsgi, environ)
    assert status == 400
    assert json.loads(body)["error"] == "the body cannot be read: ValueError"


def test_the_server_is_told_who_asks(served):
    environ = environ_of("POST", PREDICT, data(ROW), RIGHT)
    call(served["tokens"].wsgi, environ)
    assert environ["REMOTE_USER"] == "alice"


# Threads.


def test_the_requests_of_threads_are_gathered():
    gate = Gate()
    model = mk.FunctionModel(gate._run, gate.model.signature, batchable=True)
    with mk.Batcher(model, plan="learn") as batcher, ThreadPoolExecutor(8) as pool:
        app = mk.App({"sum": batcher})
        ask = [pool.submit(by_wsgi, app, "POST", PREDICT, data(ROW), JSON) for _ in range(8)]
        wait_for(gate.was_begun)
        wait_for(lambda: batcher.stats().queued + gate.calls >= 8)
        gate.open()
        assert {answer.result()[0] for answer in ask} == {200}
        assert batcher.stats().batches < 8


def test_one_request_too_many_is_429_and_health_is_answered():
    gate = Gate()
    app = mk.App({"sum": gate.model}, limits=Limits(requests=1))
    first = threading.Thread(target=by_wsgi, args=(app, "POST", PREDICT, data(ROW), JSON))
    first.start()
    wait_for(gate.was_begun)
    status, headers, _ = by_wsgi(app, "POST", PREDICT, data(ROW), JSON)
    assert status == 429
    assert 1 <= int(headers["retry-after"]) <= 30
    assert by_wsgi(app, "GET", "/v2/health/ready", b"", {})[0] == 200
    gate.open()
    first.join()


def test_an_app_that_drains_is_not_ready():
    app = mk.App({"sum": summed()})
    app.drain()
    assert by_wsgi(app, "GET", "/v2/health/ready", b"", {})[0] == 503
    status, headers, _ = by_wsgi(app, "POST", PREDICT, data(ROW), JSON)
    assert status == 200
    assert "connection" not in headers  # it is the server's, in WSGI


# Flask.


def test_a_host_keeps_its_own_paths(served):
    host = flask.Flask("host")
    host.register_blueprint(served["plain"].blueprint(), url_prefix="/ml")
    host.add_url_rule("/own", view_func=lambda: "own")
    client = host.test_client()
    assert client.get("/own").data == b"own"
    assert client.get("/ml/own").json["error"]
    assert client.get("/other").mimetype == "text/html"
    assert client.get("/ml/").status_code == 200


def test_a_length_of_thousands_of_zeros_is_a_length():
    """It was a 500 behind a server of WSGI."""
    body = json.dumps(ROW).encode()
    app = mk.App({"sum": summed()})
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": PREDICT, "wsgi.input": io.BytesIO(body)}
    environ["CONTENT_TYPE"] = "application/json"
    told = []
    app.wsgi(
        {**environ, "CONTENT_LENGTH": "0" * 5000 + str(len(body))}, lambda *head: told.append(head)
    )
    assert told[0][0] == "200 OK"
    app.close()
