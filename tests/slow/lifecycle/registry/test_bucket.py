"""The registry in a bucket: the same promises at servers of the protocols of S3 and Azure, by processes that race."""

from __future__ import annotations

import http.server
import pickle
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from helpers.buckets import STORES, why_not
from helpers.churn import VERSIONS, X, registry_at
from helpers.processes import run
from helpers.signers import key_pair

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import Conflict, IntegrityError, NotFound, RegistryError, UntrustedError

pytest.importorskip("obstore")
pytest.importorskip("moto")


@pytest.fixture(scope="module", params=STORES)
def bucket(request, tmp_path_factory):
    """The URL of a bucket, and what the environment of whoever opens it holds."""
    reason = why_not(request.param)
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp(request.param)
    with STORES[request.param](folder) as (url, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield url, environment


@pytest.fixture
def registry(bucket, churn_packages, request):
    return registry_at(f"{bucket[0]}/{request.node.originalname}/team", churn_packages)


def test_the_way_of_a_model(registry, churn_packages, tmp_path):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate")
    with pytest.raises(Conflict, match="gate"):
        registry.set_alias("churn", "champion", "1.0.0", expected="1.0.0", reason="late")
    assert registry.register(churn_packages / "1.0.0.mk") == registry.version("churn", "1.0.0")
    assert registry.names() == ("churn",)
    assert [release.version for release in registry.versions("churn")] == list(VERSIONS)
    path = registry.fetch("churn", "champion", tmp_path)
    assert mk.inspect(path).version == "1.1.0"
    registry.keep("churn", "1.1.0", "report.json", b"{}")
    assert registry.kept("churn", "champion", "report.json") == b"{}"
    with pytest.raises(NotFound):
        registry.load("churn", "2.0.0")
    assert [entry.reason for entry in registry.history("churn")] == ["first", "gate"]


def test_signatures_are_kept_in_a_bucket(registry, churn_packages, tmp_path):
    private, public = key_pair(tmp_path)
    trusting = mk.Registry(registry.url, trust=mk.Trust([public]))
    package = shutil.copy(churn_packages / "1.0.0.mk", tmp_path / "churn.mk")
    with pytest.raises(UntrustedError):
        trusting.load("churn", "1.0.0")
    for hours in (1, 2):
        mk.sign(package, private, expires=datetime.now(UTC) + timedelta(hours=hours))
        registry.register(package)
    trusting.load("churn", "1.0.0").close()
    mk.load(pickle.loads(pickle.dumps(trusting.reference("churn", "1.0.0")))).close()
    path = pickle.loads(pickle.dumps(trusting)).fetch("churn", "1.0.0", tmp_path / "here")
    mk.load(path, trust=mk.Trust([public])).close()
    with pytest.raises(UntrustedError):
        trusting.load("churn", "1.1.0")
    joblib = shutil.copy(churn_packages / "joblib.mk", tmp_path / "pickled.mk")
    mk.sign(joblib, private)
    trusting.register(joblib)
    trusting.load("pickled", "1", allow={"joblib"}).close()


def test_a_model_of_a_bucket_is_pickled_by_reference(registry, bucket):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    with registry.load("churn", "champion", threads=1) as model:
        pickled = pickle.dumps(model)
        registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="gate")
        with pickle.loads(pickled) as again:
            assert again.manifest.digest == model.manifest.digest
            assert (again.predict_proba(X) == model.predict_proba(X)).all()
    code = "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])).manifest.version)"
    assert run(code, pickled.hex(), **bucket[1]).strip() == "1.0.0"


def test_a_package_that_was_exchanged_is_refused(registry, churn_packages):
    import obstore

    release = registry.version("churn", "1.0.0")
    other = (churn_packages / "1.1.0.mk").read_bytes()
    obstore.put(registry._store._store, f"blobs/sha256/{release.digest}.mk", other)
    with pytest.raises(IntegrityError, match="that was asked for"):
        registry.load("churn", "1.0.0")


def test_a_long_log_is_opened_in_a_few_requests(registry):
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    for i in range(24):
        registry.set_alias(
            "churn", "champion", VERSIONS[(i + 1) % 2], expected=VERSIONS[i % 2], reason=str(i)
        )
    cold = mk.Registry(registry.url)
    assert cold.aliases("churn") == registry.aliases("churn")
    assert [entry.reason for entry in cold.history("churn")[1:]] == [str(i) for i in range(24)]


COUNT = """
import sys
import time
import modelkit as mk
registry = mk.Registry(sys.argv[1])
done = 0
while done < int(sys.argv[2]):
    now = registry.aliases("churn")["count"]
    reason = str(int(now.reason) + 1)
    try:
        registry.set_alias("churn", "count", "1.0.0", expected=now.generation, reason=reason)
        done += 1
    except mk.errors.Conflict:
        pass
"""


def test_processes_that_race_lose_nothing(registry):
    registry.set_alias("churn", "count", "1.0.0", expected=None, reason="0")
    command = [sys.executable, "-c", COUNT, registry.url, "10"]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait(280) for worker in workers] == [0] * 4
    history = registry.history("churn")
    assert [int(entry.reason) for entry in history] == list(range(41))


def test_processes_that_are_killed_lose_nothing_and_tear_nothing(registry):
    """Each is killed after some entries, at whatever it does; the last four come to their end."""
    registry.set_alias("churn", "count", "1.0.0", expected=None, reason="0")

    def start(times):
        return subprocess.Popen([sys.executable, "-c", COUNT, registry.url, str(times)])

    workers = [start(1000) for _ in range(4)]
    for _ in range(8):
        seen = registry.generation("churn")
        while registry.generation("churn") < seen + 3:
            assert all(worker.poll() is None for worker in workers)
        killed = workers.pop(0)
        killed.kill()
        killed.wait()
        workers.append(start(1000))
    for worker in workers:
        worker.kill()
        worker.wait()
    last = [start(5) for _ in range(4)]
    assert [worker.wait(280) for worker in last] == [0] * 4
    history = mk.Registry(registry.url).history("churn")
    assert len(history) > 8 * 3 + 4 * 5
    assert [int(entry.reason) for entry in history] == list(range(len(history)))


def test_a_rollout_follows_a_bucket(registry):
    """A canary that begins in the log is tried, and promoted; a thread looks for news."""
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    guards = (mk.Guard("errors", floor=0.05),)
    policy = mk.RolloutPolicy((mk.RolloutStage(0.5, calls=20),), guards, tick=0.05)
    with mk.Rollout(registry, "churn", poll=0.05, threads=1) as rollout:
        registry.start_rollout("churn", "1.1.0", policy, reason="try")
        end = time.monotonic() + 280
        while rollout.manifest.version != "1.1.0":
            assert time.monotonic() < end, rollout.status()
            rollout.predict(X[:1])
        assert registry.aliases("churn")["champion"].version == "1.1.0"
        assert rollout.last_failure == ""


class Forbidding(http.server.BaseHTTPRequestHandler):
    """A server that lets nobody in."""

    def answer(self):
        self.send_response(403)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *args):
        pass


def test_a_bucket_that_lets_nobody_in_is_told_as_such(monkeypatch, churn_packages, capsys):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        values = {"ENDPOINT_URL": address, "ALLOW_HTTP": "true", "REGION": "eu-west-1"}
        for name, value in (values | {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}).items():
            monkeypatch.setenv(f"AWS_{name}", value)
        registry = mk.Registry("s3://models/team")
        asked = (
            registry.names,
            lambda: registry.state("churn"),
            lambda: registry.version("churn", "1.0.0"),
            lambda: registry.register(churn_packages / "1.0.0.mk"),
            lambda: mk.Rollout(registry, "churn"),
        )
        for ask in asked:
            with pytest.raises(RegistryError, match="s3://models/team cannot be asked"):
                ask()
        assert main(["registry", registry.url, "list"]) == 1
        assert capsys.readouterr().err.count("\n") == 1
        server.shutdown()
        thread.join()
