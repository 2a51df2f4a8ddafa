"""The App behind real servers: each answers the same, to the clients of others too, and ends in order."""

import asyncio
import gzip
import http.client
import json
import sys
from contextlib import ExitStack

import numpy as np
import pytest
from helpers.servers import crowd, other_server, request_of

import modelkit as mk

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="they are servers of POSIX"),
    # Of the client of Triton: gevent and its own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(geventhttpclient|tritonclient).*"),
]
PYTHON = (sys.executable, "-m")
GUNICORN = (*PYTHON, "gunicorn", "--bind", "127.0.0.1:PORT", "--log-level", "error")
UVICORN = (*PYTHON, "uvicorn", "--port", "PORT", "--log-level", "warning", "--no-access-log")
SERVERS = {
    "uvicorn with uvloop and httptools": (
        *UVICORN, "--loop", "uvloop", "--http", "httptools", "served_app:app",
    ),
    "uvicorn with asyncio and h11": (*UVICORN, "--loop", "asyncio", "--http", "h11", "served_app:app"),
    "gunicorn with asgi": (*GUNICORN, "-k", "asgi", "served_app:app"),
    "gunicorn with threads": (*GUNICORN, "-k", "gthread", "--threads", "64", "served_app:wsgi"),
    "granian": (
        *PYTHON, "granian", "--interface", "asgi", "--port", "PORT", "--log-level", "error",
        "served_app:app",
    ),
    "hypercorn": (
        *PYTHON, "hypercorn", "--bind", "127.0.0.1:PORT", "--log-level", "error", "served_app:app",
    ),
}  # fmt: skip
PREDICT = "/models/cancer/predict"
INFER = "/v2/models/cancer/infer"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def rows(breast_cancer):
    return breast_cancer[0].to_numpy(np.float32)[:40]


@pytest.fixture(scope="module")
def expected(boosting_mk, rows):
    with mk.load(boosting_mk) as model:
        return model.run(rows)


@pytest.fixture(scope="module", params=SERVERS)
def served(request, boosting_mk):
    environ = {"SERVED": str(boosting_mk)}
    with other_server(*SERVERS[request.param], environ=environ) as served:
        yield served
        # hypercorn tells apart by its status that a signal ended it
        assert served.end() in (0, -15), served.process.stderr.read()


@pytest.fixture(scope="module")
def body_of(breast_cancer):
    """What makes the body of a request of rows."""
    names = breast_cancer[0].columns

    def make(rows):
        columns = dict(zip(names, rows.T.tolist(), strict=True))
        return json.dumps({"columns": columns}).encode()

    return make


def test_triton_s_client_is_answered(served, rows, expected):
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    with ExitStack() as stack:
        client = InferenceServerClient(f"127.0.0.1:{served.port}")
        stack.callback(client.close)
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("cancer", "1.0.0")
        about = client.get_model_metadata("cancer")
        assert (about["versions"], about["inputs"][0]["name"]) == (["1.0.0"], "X")
        for binary in (True, False):
            tensor = InferInput("X", rows.shape, "FP32")
            tensor.set_data_from_numpy(rows, binary_data=binary)
            wanted = [InferRequestedOutput(name, binary_data=binary) for name in expected]
            for compression in (None, "gzip", "deflate"):
                answer = client.infer(
                    "cancer", [tensor], outputs=wanted, request_compression_algorithm=compression
                )
                for name, array in expected.items():
                    np.testing.assert_array_equal(answer.as_numpy(name), array)


def test_errors_keep_their_form(served, body_of):
    late = {**JSON, "request-timeout": "1e-6"}
    for statuses, method, path, body, headers in (
        ({404}, "GET", "/nothing", None, {}),
        ({405}, "GET", INFER, None, {}),
        ({400}, "POST", INFER, b"{", JSON),
        ({415}, "POST", PREDICT, b"{}", {"content-type": "text/csv"}),
        ({422}, "POST", PREDICT, b'{"rows": [{"a": 1}]}', JSON),
        ({408, 504}, "POST", PREDICT, body_of(np.zeros((1, 30))), late),  # 408: before the body
    ):
        got, told, text = served.ask(method, path, body, headers)
        assert got in statuses, text
        assert told["content-type"] == "application/json"
        assert json.loads(text)["error"]


def test_a_body_that_is_too_large_is_refused(served):
    """By its length alone, or when too much of it has come."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=280)
    connection.putrequest("POST", PREDICT)
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(1 << 30))
    connection.endheaders(b"{")
    assert connection.getresponse().status == 413
    connection.close()


def test_head_has_no_body(served):
    status, _, body = served.ask("HEAD", "/v2/health/ready")
    assert (status, body) == (200, b"")


def test_bodies_in_chunks_and_inflated(served, body_of, rows, expected):
    body = body_of(rows)
    parts = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    whole = served.ask("POST", PREDICT, body, JSON)
    chunked = served.ask("POST", PREDICT, iter(parts), JSON, encode_chunked=True)
    zipped = served.ask("POST", PREDICT, gzip.compress(body), {**JSON, "content-encoding": "gzip"})
    assert whole[0] == chunked[0] == zipped[0] == 200
    assert whole[2] == chunked[2] == zipped[2]
    assert json.loads(whole[2])["outputs"]["label"] == expected["label"].tolist()


def test_many_clients_keep_their_connections(served, body_of, rows):
    left = iter(range(500))
    request = request_of(PREDICT, body_of(rows[:1]))
    more = lambda: next(left, None) is not None  # noqa: E731 - it is asked for each request
    assert asyncio.run(crowd([served.port], request, more, clients=50)) == {200: 500}
