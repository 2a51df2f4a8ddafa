"""The handler of docs/recipes/lambda_handler.py, run by Lambda's own runtime for Python.

The runtime asks an HTTP API for events and posts its answers there; the other side of that API stands here.
"""

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers.places import ROOT
from helpers.programs import needs_library

import modelkit as mk

RECIPE = ROOT / "docs" / "recipes" / "lambda_handler.py"
API = "/2018-06-01/runtime"
PATIENCE = 280
pytestmark = [needs_library("awslambdaric"), needs_library("mangum")]


class Lambda(ThreadingHTTPServer):
    """Lambda's side of the runtime API: gives events one at a time, and takes what comes back."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Invocations)
        self.events = queue.Queue()
        self.came = queue.Queue()

    def invoke(self, event):
        """What the function answers to an event: the path that it posts to, and the value."""
        self.events.put(event)
        return self.came.get(timeout=PATIENCE)


class Invocations(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        assert self.path == f"{API}/invocation/next"
        body = json.dumps(self.server.events.get()).encode()
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", str(uuid.uuid4()))
        self.send_header("Lambda-Runtime-Deadline-Ms", str(2**42))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:local:0:function:m")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.came.put((self.path.removeprefix(API), json.loads(body)))
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def aws():
    with Lambda() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def function(aws, tumour_mk):
    """The process of the runtime, begun with variables of the function."""
    begun = []

    def begin(**changed):
        environ = {
            **os.environ,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{aws.server_port}",
            "LAMBDA_TASK_ROOT": str(RECIPE.parent),
            "MODELKIT_PACKAGE": str(tumour_mk),
            "MODELKIT_DIGEST": mk.inspect(tumour_mk).digest,
            **changed,
        }
        command = [sys.executable, "-m", "awslambdaric", "lambda_handler.handler"]
        process = subprocess.Popen(command, cwd=RECIPE.parent, env=environ)
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.wait(PATIENCE)


def of_url(body, kind="application/json", path="/models/tumour/predict", method="POST"):
    """An event of a function URL, or of an HTTP API: the payload of version 2.0."""
    context = {"http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4", "userAgent": "x"},
               "domainName": "x.example", "stage": "$default"}  # fmt: skip
    encoded = isinstance(body, bytes)
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"content-type": kind, "host": "x.example", "x-forwarded-port": "443", "x-forwarded-proto": "https"},
        "requestContext": context,
        "body": base64.b64encode(body).decode() if encoded else body,
        "isBase64Encoded": encoded,
    }  # fmt: skip


def of_rest_api(body, kind="application/json", path="/models/tumour/predict"):
    """An event of a REST API: the payload of version 1.0."""
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": "POST",
        "headers": {"Content-Type": kind, "Host": "x.example"},
        "multiValueHeaders": {"Content-Type": [kind], "Host": ["x.example"]},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"resourcePath": "/{proxy+}", "httpMethod": "POST", "path": path, "stage": "prod",
                           "identity": {"sourceIp": "1.2.3.4"}},
        "body": body,
        "isBase64Encoded": False,
    }  # fmt: skip


def answered(came):
    """The status and the body of an answer."""
    path, answer = came
    assert path.endswith("/response"), came
    return answer["statusCode"], answer["headers"]["content-type"], answer["body"]


def test_events_are_answered_as_requests_to_an_app_are(aws, function, tumour_mk, rows, expected):
    asked = json.dumps({"inputs": {"X": rows.tolist()}})
    function()
    for event in (of_url(asked), of_rest_api(asked), of_url(asked.encode())):
        status, kind, body = answered(aws.invoke(event))
        assert (status, kind) == (200, "application/json")
        assert json.loads(body)["outputs"] == expected
    lines = "\n".join(",".join(map(str, row)) for row in rows.tolist())
    status, kind, body = answered(aws.invoke(of_url(lines, "text/csv", "/invocations")))
    assert (status, kind) == (200, "text/csv")
    labels = [line.partition(",")[0] for line in body.splitlines()]
    assert labels == expected["label"]
    status, _, body = answered(aws.invoke(of_url('{"rows": [{"mean_radius": 1}]}')))
    assert (status, "missing column" in json.loads(body)["error"]) == (422, True)
    assert answered(aws.invoke(of_url("", path="/v2/health/ready", method="GET")))[0] == 200
    assert answered(aws.invoke(of_url(asked, path="/models/other/predict")))[0] == 404
    path, error = aws.invoke({"rows": []})  # of `aws lambda invoke`, which is no request of HTTP
    assert path.endswith("/error")
    assert "unable to infer a handler" in error["errorMessage"]
    assert answered(aws.invoke(of_url(asked)))[0] == 200


def test_another_package_ends_the_start(aws, function):
    process = function(MODELKIT_DIGEST="sha256:" + "0" * 64)
    path, error = aws.came.get(timeout=PATIENCE)
    assert path == "/init/error"
    assert error["errorType"] == "IntegrityError"
    assert process.wait(PATIENCE) != 0


def test_a_cold_start_is_taken_apart(tumour_mk, rows):
    environ = {
        **os.environ,
        "MODELKIT_PACKAGE": str(tumour_mk),
        "MODELKIT_DIGEST": mk.inspect(tumour_mk).digest,
    }
    body = json.dumps({"instances": rows.tolist()})
    command = [sys.executable, RECIPE.with_name("cold_start.py"), body, "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environ, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    parts = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(parts) == 6
    assert parts[-1] == pytest.approx(sum(parts[:4]), abs=0.3)
