"""nginx and haproxy in front of two replicas, as docs/recipes has them: what is lost when one ends, dies or is full."""

import asyncio
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import servers
from helpers.apps import PREDICT, ROW, Gate, uvicorn_of
from helpers.apps import ask as ask_directly
from helpers.certificates import authority, needs_openssl, signed
from helpers.places import ROOT
from helpers.programs import PATIENCE, needs
from helpers.servers import free_port, modelkit_serve, request_of, started, wait_until

import modelkit as mk
from modelkit.types import Limits

pytestmark = [needs("nginx", "haproxy"), needs_openssl]
RECIPES = ROOT / "docs" / "recipes"
PLACES = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # that nginx wants for itself


@dataclass
class Edge:
    """A balancer under way, which is asked over TLS."""

    kind: str
    port: int
    log: Path
    context: ssl.SSLContext
    process: object

    def ask(self, method, path, body=None, headers=None, source="127.0.0.1"):
        """The status, the headers and the body of an answer, over a connection of its own."""
        connection = http.client.HTTPSConnection(
            "127.0.0.1",
            self.port,
            timeout=PATIENCE,
            context=self.context,
            source_address=(source, 0),
        )
        try:
            told = {"content-type": "application/json", **(headers or {})}
            connection.request(method, path, body, told)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def retried(self):
        """The number of requests that were sent again."""
        asked_twice = {"nginx": r"\[127[\d.:]+, ", "haproxy": r"/\+?[1-9]\d* \d+/\d+ "}
        return len(re.findall(asked_twice[self.kind], self.log.read_text()))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The paths of an authority, and of a certificate and a key of localhost."""
    folder = tmp_path_factory.mktemp("tls")
    known = authority(folder)
    return known[0], *signed(folder, known, "/CN=localhost")


@pytest.fixture(params=["nginx", "haproxy"])
def balanced(request, certificate, tmp_path):
    """`with balanced(ports, change)` is the balancer of a recipe; `change` is a line of it and what takes its place."""
    context = ssl.create_default_context(cafile=str(certificate[0]))

    @contextmanager
    def balanced(ports, change=None):
        port = free_port()
        fill = {"nginx": fill_nginx, "haproxy": fill_haproxy}[request.param]
        check, command = fill(tmp_path, port, ports, certificate[1:], change)
        with started(check) as checking:
            said = checking.communicate(timeout=PATIENCE)
            assert checking.returncode == 0, said
        log = tmp_path / "access.log"
        with log.open("w") as written, started(command, stdout=written) as process:
            edge = Edge(request.param, port, log, context, process)
            try:
                wait_until(lambda: answers(edge), process)
                yield edge
            finally:  # killed, nginx would leave its workers behind
                process.terminate()
                process.wait(PATIENCE)

    return balanced


def answers(edge):
    try:
        return edge.ask("GET", "/v2/health/live")[0] != 503  # haproxy has not seen a replica yet
    except OSError:
        return False


def recipe(name, *changes):
    """The text of a recipe with other words in the place of some."""
    text = (RECIPES / name).read_text("utf-8")
    for before, after in filter(None, changes):
        assert before in text, before
        text = text.replace(before, after)
    return text


def fill_nginx(folder, port, ports, certificate, change):
    for path, name in zip(certificate, ("tls.crt", "tls.key"), strict=True):
        shutil.copy(path, folder / name)
    own = "".join(f" {place}_temp_path {folder}/{place};" for place in PLACES)
    text = recipe(
        "nginx.conf",
        change,
        ("127.0.0.1:8001", f"127.0.0.1:{ports[0]}"),
        ("127.0.0.1:8002", f"127.0.0.1:{ports[-1]}"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("/run/", f"{folder}/"),
        ("/var/log/nginx/", f"{folder}/"),
        ("http {", f"http {{{own}"),
    )
    (folder / "nginx.conf").write_text(text)
    user = "user root;" if os.getuid() == 0 else ""  # another could not enter the folder
    command = ["nginx", "-e", folder / "error.log", "-c", folder / "nginx.conf", "-g"]
    return [*command, user, "-t"], [*command, f"daemon off; {user}"]


def fill_haproxy(folder, port, ports, certificate, change):
    (folder / "tls.pem").write_text("".join(path.read_text() for path in certificate))
    text = recipe(
        "haproxy.cfg",
        change,
        ("127.0.0.1:8001", f"127.0.0.1:{ports[0]}"),
        ("127.0.0.1:8002", f"127.0.0.1:{ports[-1]}"),
        ("bind :443 ", f"bind 127.0.0.1:{port} "),
        ("crt tls.pem", f"crt {folder}/tls.pem"),
    )
    (folder / "haproxy.cfg").write_text(text)
    command = ["haproxy", "-f", folder / "haproxy.cfg"]
    return [*command, "-c"], [*command, "-db"]


@pytest.fixture(scope="module")
def body(breast_cancer):
    return json.dumps({"rows": json.loads(breast_cancer[0][:2].to_json(orient="records"))}).encode()


@contextmanager
def crowd(edge, body):
    """Clients that ask without a pause until the block ends, and what they saw so far."""
    request = request_of("/models/breast-cancer/predict", body)
    seen, ended = Counter(), threading.Event()
    tls = {"ssl": edge.context, "server_hostname": "localhost"}

    def more():
        return not ended.is_set()

    def ask():
        asyncio.run(servers.crowd([edge.port], request, more, 8, seen, **tls))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_until(lambda: seen[200] > 100)
        yield seen
        before = seen[200]
        wait_until(lambda: seen[200] > before + 200)
    finally:
        ended.set()
        thread.join(PATIENCE)


def replica(package, port):
    return modelkit_serve(package, "--port", port, "--drain", "1.5")


def has_answered(served):
    """Whether a replica has answered for its model since it was started."""
    counted = re.search(
        rb"^modelkit_rows_total\{.*\} (.*)$", served.ask("GET", "/metrics")[2], re.MULTILINE
    )
    return counted is not None and float(counted[1]) > 0


def test_a_rolling_update_loses_nothing(balanced, boosting_mk, body):
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        before = [stack.enter_context(replica(boosting_mk, port)) for port in ports]
        edge = stack.enter_context(balanced(ports))
        with crowd(edge, body) as seen:
            for served, port in zip(before, ports, strict=True):
                assert served.end() == 0
                newer = stack.enter_context(replica(boosting_mk, port))
                wait_until(lambda newer=newer: has_answered(newer))
        assert set(seen) == {200}


def test_what_a_killed_replica_had_in_its_hands_is_sent_again(balanced, boosting_mk, body):
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        first, second = (stack.enter_context(replica(boosting_mk, port)) for port in ports)
        edge = stack.enter_context(balanced(ports))
        with crowd(edge, body) as seen:
            wait_until(lambda: has_answered(first))  # haproxy may have seen the other one first
            os.kill(first.process.pid, signal.SIGSTOP)  # it takes requests, and answers none
            before = seen[200]
            wait_until(lambda: seen[200] > before + 200)  # by the other one
            assert edge.retried() == 0
            os.kill(first.process.pid, signal.SIGKILL)
        assert set(seen) == {200}
        assert edge.retried() > 0
        assert second.end() == 0


def test_who_is_full_or_closes_is_not_asked_alone(balanced):
    """A full replica is passed over; where both are, the answer is theirs, with the time to wait."""
    gates = Gate(), Gate()
    apps = [mk.App({"sum": gate.model}, limits=Limits(requests=1)) for gate in gates]
    body = json.dumps(ROW).encode()
    with ExitStack() as stack:
        ports = [stack.enter_context(uvicorn_of(app)).port for app in apps]
        edge = stack.enter_context(balanced(ports))
        holding = [
            threading.Thread(target=ask_directly, args=(port, "POST", PREDICT, body))
            for port in ports
        ]
        for thread, gate in zip(holding, gates, strict=True):
            thread.start()
            wait_until(gate.was_begun)
        status, headers, text = edge.ask("POST", PREDICT, body)
        assert (status, "error" in json.loads(text)) == (429, True)
        assert int(headers["retry-after"]) >= 1
        gates[1].open()
        holding[1].join()
        before = edge.retried()
        assert [edge.ask("POST", PREDICT, body)[0] for _ in range(10)] == [200] * 10
        assert edge.retried() > before
        gates[0].open()
        holding[0].join()
        apps[0].close()
        assert [edge.ask("POST", PREDICT, body)[0] for _ in range(10)] == [200] * 10


def test_a_request_that_was_late_is_not_sent_again(balanced):
    gate = Gate()
    body = json.dumps({**ROW, "timeout": 0.05}).encode()
    app = mk.App({"sum": gate.model}, limits=Limits(requests=1))
    with uvicorn_of(app) as first, balanced([first.port]) as edge:
        status, _, text = edge.ask("POST", PREDICT, body)
        gate.open()
        assert (status, "error" in json.loads(text)) == (504, True)
        assert edge.retried() == 0


class Dying(BaseHTTPRequestHandler):
    """A replica that is ready, and dies with each request for a model."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.asked[self.path] += 1
        self.close_connection = True

    def log_message(self, *_):
        pass


@contextmanager
def dying(asked):
    """The port of a replica that counts in `asked` what it was asked."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Dying) as server:
        server.asked = asked
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_loss_is_sent_once_and_a_prediction_again(balanced):
    asked = Counter()
    with dying(asked) as first, dying(asked) as second, balanced([first, second]) as edge:
        for path, body in (("predict", b"{}"), ("outcome", b"{}"), ("explain", b" " * 100_000)):
            assert edge.ask("POST", f"/models/sum/{path}", body)[0] >= 500
    assert asked["/models/sum/outcome"] == 1
    assert asked["/models/sum/predict"] > 1
    # What does not fit into a buffer of haproxy is sent once.
    assert (asked["/models/sum/explain"] > 1) == (edge.kind == "nginx")


def test_what_a_newcomer_sees(balanced, boosting_mk, body):
    """Of who may not ask, of a body that is too long; and where the line with the name of this machine is missing."""
    predict = "/models/breast-cancer/predict"
    port = free_port()
    with replica(boosting_mk, port) as served:
        with balanced([port]) as edge:
            for path in ("/models/m/outcome", "/models/m/%6futcome", "/models/m/outcome?a=b"):
                assert edge.ask("POST", path, b"{}", source="127.0.0.2")[0] == 403
                assert edge.ask("POST", path, b"{}")[0] == 404  # there is no such model
            for path in ("/models/m//outcome", "/models/m/outcome/", "//models/m/outcome"):
                assert edge.ask("POST", path, b"{}", source="127.0.0.2")[0] in (403, 404)
            for path in ("/metrics", "/%6detrics", "/metrics?a=b", "/./metrics", "//metrics"):
                assert edge.ask("GET", path)[0] == 404
            status, _, text = edge.ask("POST", predict, b" " * (3 << 20))
            assert (status, "bytes" in json.loads(text)["error"]) == (413, True)
            assert edge.ask("POST", predict, b" " * (9 << 20))[0] == 413
            assert edge.ask("POST", predict, body, {"accept-encoding": "gzip"})[0] == 200
        line = {
            "nginx": "proxy_set_header Host localhost;",
            "haproxy": "http-request set-header Host localhost",
        }
        with balanced([port], (line[edge.kind], "")) as edge:
            status, _, text = edge.ask("POST", predict, body, {"host": "models.example"})
            assert status == 421
            assert "let your proxy send Host: localhost" in json.loads(text)["error"]
        assert served.end(signal.SIGINT) == 0


@pytest.mark.parametrize(("kind", "name"), [("nginx", "nginx.conf"), ("haproxy", "haproxy.cfg")])
def test_the_page_shows_lines_of_the_recipe(kind, name):
    page = (ROOT / "docs" / "howto" / "deploy" / "load_balancing.md").read_text("utf-8")
    (shown,) = re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = {line.strip() for line in recipe(name).splitlines()}
    assert {line.strip() for line in shown.splitlines()} <= lines
