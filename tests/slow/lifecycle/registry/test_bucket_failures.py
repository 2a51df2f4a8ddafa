"""What was done to a registry in a bucket on purpose: answers that are lost, forks, and nobody who answers."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from contextlib import contextmanager

import pytest
from helpers.buckets import moto
from helpers.churn import VERSIONS, X, registry_at
from helpers.processes import forks, passes_in_a_child, run

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import Conflict, RegistryError
from modelkit.store.bucket import Bucket

pytest.importorskip("obstore")
pytest.importorskip("moto")


class Line:
    """Passes on what a client and a server say; where told so, it swallows an answer to a put."""

    def __init__(self, port):
        self.port = port
        self.swallow = 0
        self.swallowed = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def _accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            thread = threading.Thread(target=self._pass_on, args=(client,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _pass_on(self, client):
        put = False
        with client, socket.create_connection(("127.0.0.1", self.port)) as server:
            while True:
                ready = select.select([client, server], [], [], 60)[0]
                for end in ready:
                    data = end.recv(1 << 16)
                    if end is client and data.partition(b" ")[0] in (b"PUT", b"GET", b"HEAD"):
                        put = data.startswith(b"PUT") and b"/log/" in data.partition(b"\r\n")[0]
                    if end is server and put and self.swallow > 0:
                        self.swallow -= 1
                        self.swallowed += 1
                        data = b""
                    if not data:
                        return
                    (server if end is client else client).sendall(data)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@contextmanager
def a_line(tmp_path_factory):
    with moto(tmp_path_factory.mktemp("moto")) as (url, environment):
        line = Line(int(environment["AWS_ENDPOINT_URL"].rpartition(":")[2]))
        port = line.listener.getsockname()[1]
        try:
            yield line, url, {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
        finally:
            line.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with (
        a_line(tmp_path_factory) as (line, url, environment),
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        yield line, url


@pytest.fixture
def registry(place, churn_packages, request):
    registry = registry_at(f"{place[1]}/{request.node.originalname}", churn_packages)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return registry


def test_a_change_whose_answer_is_lost_is_made_once_and_is_no_conflict(registry, place):
    line, _ = place
    for i in range(10):
        line.swallow = 1 + i % 2
        registry.set_alias(
            "churn", "champion", VERSIONS[(i + 1) % 2], expected=VERSIONS[i % 2], reason=str(i)
        )
    assert line.swallowed > 8
    assert [entry.reason for entry in registry.history("churn")[1:]] == [str(i) for i in range(10)]
    line.swallow = 1
    with pytest.raises(Conflict):
        registry.set_alias("churn", "champion", "1.0.0", expected="9", reason="late")
    line.swallow = 0


@forks
def test_a_child_of_a_fork_is_told_and_does_not_wait_for_ever(registry):
    """The threads of obstore are those of the parent: whatever the child asked, no answer came."""

    def check():
        signal.alarm(30)
        for ask in (
            lambda: registry.aliases("churn"),
            lambda: mk.Registry(registry.url).load("churn", "champion"),
            lambda: registry.set_alias("churn", "b", "1.0.0", expected=None, reason="x"),
        ):
            with pytest.raises(RegistryError, match="forked from process"):
                ask()

    assert passes_in_a_child(check)
    assert registry.aliases("churn")["champion"].version == "1.0.0"


@forks
def test_what_was_loaded_before_a_fork_answers_after_it(registry):
    with (
        registry.load("churn", "champion", threads=1) as model,
        mk.Rollout(registry, "churn", poll=0.01, threads=1) as rollout,
    ):
        expected = model.predict(X)
        assert (rollout.predict(X) == expected).all()

        def check():
            signal.alarm(30)
            for _ in range(50):
                assert (model.predict(X) == expected).all()
                assert (rollout.predict(X) == expected).all()

        assert passes_in_a_child(check)


@forks
def test_a_registry_opened_before_a_fork_and_used_after_it(registry):
    code = """
    import os, sys
    import modelkit as mk
    registry = mk.Registry(sys.argv[1])
    child = os.fork()
    if child == 0:
        os._exit(0 if registry.aliases("churn")["champion"].version == "1.0.0" else 1)
    print(os.waitpid(child, 0)[1], registry.generation("churn"))
    """
    assert run(code, registry.url).split() == ["0", "1"]


def test_where_nobody_answers_the_reason_is_told_in_few_words(monkeypatch, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert main(["registry", "s3://models/nobody", "list"]) == 1
    told = capsys.readouterr().err
    assert "the bucket of s3://models/nobody cannot be asked" in told
    assert len(told.splitlines()) < 4
    for url in ("s3://", "s3:///models", "s3://a b", "az://"):
        with pytest.raises((RegistryError, ValueError)):
            mk.Registry(url).names()


def test_foreign_files_in_a_bucket_are_read_over(registry):
    for name in (
        "models/churn/log/.DS_Store",
        "models/churn/log/0",
        "models/churn/versions/README",
        "models/churn/versions/deep/1.0.0.json",
        "models/Lost Found/x",
        "models/stray",
    ):
        registry._store.create(name, b"x")
    cold = mk.Registry(registry.url)
    assert cold.names() == ("churn",)
    assert cold.aliases("churn")["champion"].version == "1.0.0"
    assert [release.version for release in cold.versions("churn")] == list(VERSIONS)


def test_a_package_of_many_parts_of_memory_goes_there_and_back(registry):
    data = memoryview(os.urandom(20_000_000))
    assert registry._store.create("blobs/large", data[1:])
    assert registry._store.read("blobs/large") == data[1:]


def test_a_bucket_that_is_not_there_is_told_without_a_dump(tmp_path, monkeypatch, capsys):
    with moto(tmp_path) as (_, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(RegistryError, match=r"nowhere/models cannot be asked.*NoSuchBucket"):
            mk.Registry("s3://nowhere/models").names()
        for ask in (lambda bucket: bucket.create("a", b"b"), lambda bucket: bucket.names("a")):
            with pytest.raises(RegistryError, match="NoSuchBucket"):
                ask(Bucket("s3://nowhere/models"))
        assert main(["registry", "s3://nowhere/models", "list"]) == 1
        told = capsys.readouterr().err
        assert "NoSuchBucket" in told
        assert "Debug source" not in told
