"""`modelkit serve`: one command from a package to a URL, from its settings to its end."""

import argparse
import asyncio
import hashlib
import http.client
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
import uvicorn
from helpers.apps import ask, summed, uvicorn_of
from helpers.certificates import authority, needs_openssl, signed
from helpers.processes import run
from helpers.servers import modelkit_serve, wait_until

import modelkit as mk
from modelkit.cli import server as cli_server
from modelkit.cli.serve import add_serve, asked_locally, read_tokens
from modelkit.cli.server import (
    DrainingServer,
    GuardedProtocol,
    bound,
    holder_of,
    most_connections,
    now_and_then,
)
from modelkit.cli.settings import Settings, settings_of
from modelkit.errors import ModelkitError
from modelkit.testing import Client

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


# The settings.


def settings(*arguments, **environ):
    parser = argparse.ArgumentParser()
    add_serve(parser.add_subparsers())
    return settings_of(parser.parse_args(["serve", *arguments]), environ)


def test_arguments_come_before_the_environment_and_that_before_the_defaults():
    assert settings("a.mk") == Settings("a.mk")
    environ = {
        "MODELKIT_PACKAGE": "b.mk",
        "MODELKIT_DIGEST": "d",
        "MODELKIT_TOKENS": "t",
        "HOST": "0.0.0.0",  # noqa: S104 - nothing listens there
        "PORT": "81",
        "WEB_CONCURRENCY": "3",
    }
    told = Settings("b.mk", digest=("d",), host=environ["HOST"], port=81, workers=3, tokens="t")
    assert settings(**environ) == told
    asked = settings(
        "a.mk", "--digest", "e", "--tokens", "u", "--host", "::1", "--port", "82", "--workers", "1",
        "--allow", "joblib", "--allow", "com.example", "--name", "n", "--drain", "0.5", **environ,
    )  # fmt: skip
    changed = {
        "digest": ("e",),
        "tokens": "u",
        "host": "::1",
        "port": 82,
        "workers": 1,
        "drain": 0.5,
    }
    allow = frozenset(["joblib", "com.example"])
    assert asked == replace(told, package="a.mk", name="n", allow=allow, **changed)


def test_an_empty_variable_is_none():
    assert settings("a.mk", PORT="", HOST="", WEB_CONCURRENCY="") == Settings("a.mk")


def test_vertex_says_where(tmp_path):
    (tmp_path / "model").mkdir()
    package = tmp_path / "model" / "a.mk"
    package.touch()
    environ = {
        "AIP_HTTP_PORT": "8080",
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_PREDICT_ROUTE": "/predict",
        "AIP_STORAGE_URI": str(tmp_path),
    }
    found = settings(**environ)
    everywhere = "0.0.0.0"  # noqa: S104 - nothing listens there
    assert found == Settings(
        str(package), host=everywhere, port=8080, health_route="/health", predict_route="/predict"
    )
    assert settings("b.mk", **environ).package == "b.mk"
    remote = {**environ, "AIP_STORAGE_URI": "gs://bucket/model"}
    assert settings(MODELKIT_PACKAGE="b.mk", **remote).package == "b.mk"
    with pytest.raises(ModelkitError, match=r"'gs://bucket/model'.*opens local paths only"):
        settings(**remote)


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        ((), {}, "set MODELKIT_PACKAGE"),
        (("a.mk",), {"PORT": "http"}, "PORT is a whole number, 0 or more; got 'http'"),
        (("a.mk",), {"PORT": "-1"}, "got '-1'"),
        (("a.mk",), {"PORT": "70000"}, "from 0 to 65535; got 70000"),
        (("a.mk", "--workers", "0"), {}, "at least one worker"),
        (("a.mk", "--drain", "nan"), {}, "in seconds, 0 or more; got nan"),
        (("a.mk", "--name", "a/b"), {}, "without '/'; got 'a/b'"),
        (("a.mk", "--ssl-keyfile", "k"), {}, "need --ssl-certfile"),
        (("a.mk", "--ssl-ca-certs", "k"), {}, "need --ssl-certfile"),
        (("a.mk",), {"AIP_PREDICT_ROUTE": "predict"}, "begin with '/'; got 'predict'"),
    ],
)
def test_settings_that_cannot_be_used(arguments, environ, words):
    with pytest.raises(ModelkitError, match=words):
        settings(*arguments, **environ)


def test_a_folder_has_one_package(tmp_path):
    with pytest.raises(ModelkitError, match=r"has 0 packages \(none\)"):
        settings(str(tmp_path))
    for name in ("a.mk", "b.mk"):
        (tmp_path / name).touch()
    with pytest.raises(ModelkitError, match=r"has 2 packages \(a.mk, b.mk\)"):
        settings(str(tmp_path))


def sha256(token):
    return hashlib.sha256(token.encode()).hexdigest()


def test_tokens_are_read_by_their_names(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# who may ask\n\nbilling {sha256('a')}\n sha256:{sha256('b')} \n")
    assert read_tokens(path) == {"billing": sha256("a"), f"sha256:{sha256('b')[:8]}": sha256("b")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no token"),
        ("billing secret\n", "line 1: .* never the token"),
        (f"a b {'0' * 64}", "line 1: "),
        (f"a {'0' * 64}\na {'1' * 64}\n", "line 2: the name 'a' stands there twice"),
    ],
)
def test_what_is_no_digest_is_refused_without_being_shown(tmp_path, text, words):
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ModelkitError, match=words) as caught:
        read_tokens(path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("certificate", "holder"),
    [
        (None, None),
        ({}, None),
        ({"subject": ((("commonName", "a"),),)}, "a"),
        ({"subject": ((("organizationName", "o"), ("commonName", "a")),)}, "a"),
        ({"subject": ((("commonName", "a"),), (("commonName", "b"),))}, None),
        ({"subjectAltName": (("DNS", "d"), ("URI", "spiffe://x/y"))}, "spiffe://x/y"),
        ({"subjectAltName": (("URI", "u"), ("URI", "v"))}, None),
    ],
)
def test_who_holds_a_certificate(certificate, holder):
    assert holder_of(certificate) == holder


# What a client may do before anybody knows it.


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
    monkeypatch.setattr(cli_server, "HEAD_SECONDS", 0.2)
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
        await asyncio.wait_for(serving, 20)

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


def test_what_clients_cause_is_recorded_now_and_then():
    records = [
        logging.LogRecord(
            "uvicorn.error", logging.WARNING, "", 0, f"clients of {os.getpid()}", (), None
        )
        for _ in range(100)
    ]
    assert [now_and_then(record) for record in records] == [True] + [False] * 99


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"localhost", 200), (b"LOCALHOST:8000", 200), (b"a.localhost", 200), (b"127.0.0.1:80", 200),
        (b"[::1]:8000", 200),
        (b"evil.example", 421), (b"localhost.evil.example", 421), (b"127.0.0.1.evil.example", 421),
        (b"192.168.1.2", 421), (b"evil.example:8000", 421),
    ],
)  # fmt: skip
def test_a_server_without_tokens_answers_to_localhost_alone(host, status):
    """A page of another site reached it by a name of that site that led to this machine."""
    with Client(asked_locally(mk.App({"sum": summed()}))) as client:
        answer = client.get("/v2/models", headers={"host": host.decode()})
    assert answer.status == status
    assert status == 200 or "--tokens" in answer.json()["error"]


# The command.


@pytest.fixture(scope="module")
def rows(breast_cancer):
    return json.loads(breast_cancer[0][:2].to_json(orient="records"))


@pytest.fixture(scope="module")
def expected(boosting_mk, breast_cancer):
    with mk.load(boosting_mk) as model:
        outputs = model.run(breast_cancer[0][:2])
    return {name: array.tolist() for name, array in outputs.items()}


@pytest.fixture(scope="module")
def on_vertex(boosting_mk):
    """A server that Vertex AI asks, and whoever else."""
    environ = {
        "AIP_HTTP_PORT": "0",
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_PREDICT_ROUTE": "/v1/predict:now",
        "AIP_STORAGE_URI": str(boosting_mk.parent),
        "HOST": "127.0.0.1",
    }
    with modelkit_serve("--name", "cancer", "--drain", "0", environ=environ) as served:
        yield served
        assert served.end() == 0
        assert not [line for line in served.process.stderr if "rows refused" not in line]


@posix
def test_a_row_is_answered_and_what_is_asked_is_counted(on_vertex, rows, expected):
    status, answer = on_vertex.post("/models/cancer/predict", {"rows": rows})
    assert (status, answer["outputs"]) == (200, expected)
    assert on_vertex.post("/models/breast-cancer/predict", {"rows": rows})[0] == 404
    status, headers, text = on_vertex.ask("GET", "/metrics")
    assert status == 200
    assert 'modelkit_rows_total{model="breast-cancer",version="1.0.0"} 2.0' in text.decode()
    assert "server" not in headers


@posix
def test_vertex_asks_for_predictions(on_vertex, rows, expected):
    assert on_vertex.ask("GET", "/health")[0] == 200
    status, answer = on_vertex.post("/v1/predict:now", {"instances": rows})
    outputs = zip(*expected.values(), strict=True)
    predictions = [dict(zip(expected, row, strict=True)) for row in outputs]
    assert (status, answer) == (200, {"predictions": predictions})
    options = {"outputs": ["label"]}
    status, answer = on_vertex.post("/v1/predict:now", {"instances": rows, "parameters": options})
    assert (status, answer) == (200, {"predictions": expected["label"]})
    status, answer = on_vertex.post("/v1/predict:now", {"instances": [{"a": 1}]})
    assert status == 422
    assert answer["problems"]


def test_serving_needs_a_runtime_and_orjson_alone(boosting_mk, rows):
    run(
        """
        import json, sys
        for library in ("scipy", "onnx", "joblib", "sklearn", "pandas", "pyarrow", "flask", "prometheus_client"):
            sys.modules[library] = None
        import modelkit as mk
        from modelkit.testing import Client
        with Client(mk.App({"m": sys.argv[1]})) as client:
            body = {"rows": json.loads(sys.argv[2])}
            answer = client.post("/models/m/predict", json=body)
            assert answer.status == 200, answer.body
            assert client.get("/openapi.json").status == 200
            assert client.get("/").status == 200
            answer = client.post("/models/m/explain", json=body)
            assert answer.status == 501 and b"pip install onnx" in answer.body, answer.body
        """,
        boosting_mk,
        json.dumps(rows),
    )


@posix
def test_ctrl_c_ends_it_at_once(boosting_mk):
    with modelkit_serve(boosting_mk, "--drain", "1000") as served:
        assert served.end(signal.SIGINT) == 0
        assert served.process.stderr.read() == ""


@posix
def test_a_second_sigterm_ends_the_draining(boosting_mk):
    with modelkit_serve(boosting_mk, "--drain", "1000") as served:
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: served.ask("GET", "/v2/health/ready")[0] == 503)
        status, headers, _ = served.ask("GET", "/v2/health/live")
        assert (status, headers["connection"]) == (200, "close")
        assert served.end() == 0


@posix
def test_who_has_a_token_may_ask(boosting_mk, rows, tmp_path):
    (tmp_path / "tokens").write_text(f"billing {sha256('secret')}\n")
    with modelkit_serve(
        boosting_mk, environ={"MODELKIT_TOKENS": str(tmp_path / "tokens")}
    ) as served:
        path, body = "/models/breast-cancer/predict", {"rows": rows}
        assert served.ask("GET", "/v2/health/ready")[0] == 200
        assert served.post(path, body)[0] == 401
        assert served.post(path, body, {"authorization": "Bearer other"})[0] == 401
        assert served.post(path, body, {"authorization": "Bearer secret"})[0] == 200
        assert served.post(path, body, {"x-api-key": "secret"})[0] == 200
        served.end(signal.SIGINT)


@posix
@needs_openssl
def test_who_has_a_certificate_may_ask(boosting_mk, tmp_path):
    known, other = authority(tmp_path), authority(tmp_path, "other")
    certificate, key = signed(tmp_path, known, "/CN=localhost")
    billing = signed(tmp_path, known, "/O=acme/CN=billing")
    stranger = signed(tmp_path, other, "/CN=stranger")
    pair = ("--ssl-certfile", certificate, "--ssl-keyfile", key)
    with modelkit_serve(boosting_mk, *pair, "--ssl-ca-certs", known[0]) as served:

        def ask(path, holder=None, headers=None):
            context = ssl.create_default_context(cafile=str(known[0]))
            if holder is not None:
                context.load_cert_chain(*map(str, holder))
            connection = http.client.HTTPSConnection("127.0.0.1", served.port, context=context)
            try:
                connection.request("GET", path, headers=headers or {})
                return connection.getresponse().status
            finally:
                connection.close()

        assert ask("/v2/health/ready") == 200  # a probe has none
        assert ask("/v2/models") == 401
        assert ask("/v2/models", headers={"Modelkit-Client-Certificate": "billing"}) == 401
        assert ask("/v2/models", billing) == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask("/v2/models", stranger)
        with pytest.raises(http.client.BadStatusLine):
            served.ask("GET", "/v2/health/live")  # plain HTTP
        served.end(signal.SIGINT)


def fails(*arguments, environ=None):
    """What a command that cannot serve says, and that it took no port."""
    command = [sys.executable, "-m", "modelkit.cli", "serve", "--port", "0", *map(str, arguments)]
    environ = {**os.environ, **(environ or {})}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_does_not_open_is_told_before_a_port_is_bound(boosting_mk, tmp_path):
    assert "No such file" in fails(tmp_path / "none.mk")
    (tmp_path / "no.mk").write_bytes(b"no package")
    assert "modelkit: " in fails(tmp_path / "no.mk")
    assert "not the sha256:00 that was asked for" in fails(boosting_mk, "--digest", "sha256:00")
    other = {"MODELKIT_DIGEST": "0" * 64}
    told = fails(boosting_mk, "--workers", "2", environ=other)
    assert told.count("that was asked for") == 1


def test_what_cannot_be_read_is_told_too(boosting_mk, tmp_path):
    assert "No such file" in fails(boosting_mk, "--tokens", tmp_path / "none")
    (tmp_path / "x.pem").write_text("no certificate")
    for name in ("x.pem", "none.pem"):
        told = fails(boosting_mk, "--ssl-certfile", tmp_path / name)
        assert f"modelkit: the certificates in {tmp_path / name} cannot be read: " in told


@posix
def test_a_port_that_is_taken_is_told(boosting_mk):
    with modelkit_serve(boosting_mk) as served:
        told = fails(boosting_mk, "--port", served.port)
        assert f"cannot listen on 127.0.0.1, port {served.port}: " in told
        served.end(signal.SIGINT)


@posix
def test_a_pickled_package_needs_the_digest_and_the_permission(boosting, breast_cancer, tmp_path):
    path = tmp_path / "pickled.mk"
    manifest = mk.save(
        boosting, path, example=breast_cancer[0], name="pickled", version="1", format="joblib"
    )
    assert "joblib" in fails(path, "--digest", manifest.digest)
    with modelkit_serve(path, "--digest", manifest.digest, "--allow", "joblib") as served:
        assert served.ask("GET", "/v2/models/pickled/ready")[0] == 200
        served.end(signal.SIGINT)


def test_without_uvicorn_it_says_what_to_install(boosting_mk):
    told = run(
        """
        import sys
        sys.modules["uvicorn"] = None
        from modelkit.cli import main
        sys.stderr = sys.stdout
        assert main(["serve", sys.argv[1]]) == 1
        """,
        boosting_mk,
    )
    assert "modelkit serve needs uvicorn" in told
    assert "pip install uvicorn" in told
