"""`modelkit serve`: one command from a package to a URL, from its settings to its end."""

import hashlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys

import pytest
from helpers.certificates import authority, needs_openssl, signed
from helpers.processes import run
from helpers.rollouts import registry_of_numbers
from helpers.servers import modelkit_serve, wait_until
from helpers.signers import key_pair

import modelkit as mk

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")


def sha256(token):
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture(scope="module")
def rows(breast_cancer):
    return json.loads(breast_cancer[0][:2].to_json(orient="records"))


@pytest.fixture(scope="module")
def expected(boosting_mk, breast_cancer):
    with mk.load(boosting_mk) as model:
        outputs = model.run(breast_cancer[0][:2])
    return {name: array.tolist() for name, array in outputs.items()}


@pytest.fixture(scope="module")
def on_vertex(boosting_mk, tmp_path_factory):
    """A server that Vertex AI asks, and whoever else."""
    folder = tmp_path_factory.mktemp("vertex")
    shutil.copy(boosting_mk, folder)
    environ = {
        "AIP_HTTP_PORT": "0",
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_PREDICT_ROUTE": "/v1/predict:now",
        "AIP_STORAGE_URI": str(folder),
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
        from helpers.client import Client
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
        PYTHONPATH=os.pathsep.join(sys.path),
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
    command = [sys.executable, "-m", "modelkit", "serve", "--port", "0", *map(str, arguments)]
    environ = {**os.environ, **(environ or {})}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return done.stderr


@posix
def test_who_may_post_outcomes_has_the_word_for_it(numbered_packages, tmp_path):
    """Whoever may predict may not decide a rollout by that alone, with one process and with two."""
    registry = registry_of_numbers(numbered_packages, tmp_path / "models")
    loss = (mk.Guard("loss", margin=0.1),)
    policy = mk.RolloutPolicy((mk.RolloutStage(0.5),), loss)
    registry.start_rollout("m", "2", policy, reason="try")
    lines = [f"billing {sha256('one')}", f"labels {sha256('two')} outcome"]
    (tmp_path / "tokens").write_text("\n".join(lines))
    options = ("--registry", registry.url, "m", "--tokens", tmp_path / "tokens")
    tokens = [{"authorization": f"Bearer {token}"} for token in ("one", "two")]
    row = {"columns": {"x0": [0.0], "x1": [0.0], "x2": [1.0]}, "key": "k"}
    for workers in (1, 2):
        with modelkit_serve(*options, "--workers", workers) as served:
            for token, status in zip(tokens, (403, 200), strict=True):
                assert served.post("/models/m/predict", row, token)[0] == 200
                got = served.post("/models/m/outcome", {"key": "k", "loss": 0.5}, token)
                assert got[0] == status, got
            assert "'billing' lacks the permission 'outcome' for m 1" in told_of(served, tokens[0])


@posix
def test_what_answers_is_signed(numbered_packages, tmp_path):
    """With one process and with two; an alias that somebody else sets leads to nothing unsigned."""
    packages = shutil.copytree(numbered_packages, tmp_path / "packages")
    private, public = key_pair(tmp_path)
    mk.sign(packages / "1.mk", private)
    registry = registry_of_numbers(packages, tmp_path / "models")
    row = {"columns": {"x0": [0.0], "x1": [0.0], "x2": [1.0]}}
    options = ("--key", public, "--poll", "0.01")
    for workers in (1, 2):
        with (
            modelkit_serve(packages / "1.mk", *options, "--workers", workers) as alone,
            modelkit_serve(
                "m", "--registry", registry.url, *options, "--workers", workers
            ) as served,
        ):
            assert alone.post("/models/m/predict", row)[1]["model_version"] == "1"
            assert served.post("/models/m/predict", row)[1]["model_version"] == "1"
            registry.set_alias("m", "champion", "2", expected="1", reason="by somebody else")
            for _ in range(20):
                assert served.post("/models/m/predict", row)[1]["model_version"] == "1"
            assert "no signature counts" in served.process.stderr.readline()
        assert "no signature counts" in fails("m", "--registry", registry.url, *options)
        registry.set_alias("m", "champion", "1", expected="2", reason="back")


def told_of(served, token):
    return served.post("/models/m/outcome", {"key": "k", "loss": 0.5}, token)[1]["error"]


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
        assert (
            f"cannot listen on 127.0.0.1, port {served.port}: Address already in use; --host and --port name"
            in told
        )
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


def test_the_command_writes_warnings_to_the_standard_error(boosting_mk):
    with modelkit_serve(boosting_mk, "--drain", "0") as served:
        assert served.post("/models/breast-cancer/predict", {"rows": [{"a": 1}]})[0] == 422
        assert served.end() == 0
        told = served.process.stderr.read()
    assert "WARNING breast-cancer 1.0.0: rows refused" in told
    assert told.count("\n") == 1
