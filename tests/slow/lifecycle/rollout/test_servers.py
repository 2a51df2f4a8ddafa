"""Real servers of two processes follow one alias under load, and no request notices."""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from helpers.processes import PATIENCE
from helpers.rollouts import FOLLOWED_BY_TWO
from helpers.servers import modelkit_serve, other_server, wait_until
from sklearn.linear_model import LinearRegression

import modelkit as mk
from modelkit.lifecycle.rollout.routing import hash_of, limit_of
from modelkit.lifecycle.rollout.status import progress_afar

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="they are servers of POSIX")
VERSIONS = ("1.0.0", "2.0.0", "3.0.0")
CHANGES = 10
CLIENTS = 12
PREDICT = "/models/constant/predict"
X = np.random.default_rng(0).normal(size=(20, 2))
GUNICORN = (
    sys.executable, "-m", "gunicorn", "-k", "asgi", "--workers", "2", "--bind", "127.0.0.1:PORT",
    "--log-level", "error", "followed_app:app",
)  # fmt: skip


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Versions of a model that answers with the first number of its version."""
    folder = tmp_path_factory.mktemp("packages")
    for version in VERSIONS:
        model = LinearRegression().fit(X, np.full(len(X), float(version[0])))
        mk.save(model, folder / f"{version}.mk", example=X, name="constant", version=version)
    return folder


@pytest.fixture
def registry(packages, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    for version in VERSIONS:
        registry.register(packages / f"{version}.mk")
    registry.set_alias("constant", "champion", VERSIONS[0], expected=None, reason="first")
    return registry


@contextmanager
def gunicorn(registry):
    with other_server(*GUNICORN, environ={"FOLLOWED": registry.url}) as served:
        yield served


@contextmanager
def modelkit_command(registry):
    with modelkit_serve("constant", "--registry", registry.url, *FOLLOWED_BY_TWO) as served:
        yield served


@pytest.fixture(params=[gunicorn, modelkit_command])
def served(request, registry):
    with request.param(registry) as served:
        yield served


class Clients:
    """Clients that ask over connections of their own for as long as they are wanted.

    A connection stays with one process, so that all of them together show every process.

    Attributes:
        last: the version that each client was answered by last; for each key, of a client.
        wrong: what went wrong.
        calls: how many answers there were.
    """

    def __init__(self, port, keys=(None,)):
        self.port = port
        self.keys = keys
        self.last = {}
        self.wrong = []
        self.calls = itertools.count()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.ask_on, args=(i,)) for i in range(CLIENTS)]

    def ask_on(self, number):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            for key in itertools.cycle(self.keys):
                if self.stop.is_set():
                    return
                self.last[number, key] = self.ask(connection, key)
                next(self.calls)
        except BaseException as error:
            self.wrong.append(error)
            raise
        finally:
            connection.close()

    def ask(self, connection, key):
        body = {"inputs": {"X": X[:1].tolist()}, **({} if key is None else {"key": key})}
        headers = {"content-type": "application/json"}
        connection.request("POST", PREDICT, json.dumps(body).encode(), headers)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        version = answer.headers["model-version"]
        value = told["outputs"]["prediction"][0]
        if version != told["model_version"] or round(value) != int(version[0]):
            self.wrong.append((version, told))
        return version

    def all_on(self, version):
        """Whether every client was answered by this version last."""
        return (
            not self.wrong
            and len(self.last) == CLIENTS * len(self.keys)
            and {*self.last.values()} == {version}
        )

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def test_an_alias_is_changed_ten_times_under_load(registry, served):
    with Clients(served.port) as clients:
        wait_until(lambda: clients.wrong or clients.all_on(VERSIONS[0]), served.process)
        now = VERSIONS[0]
        for change in range(1, CHANGES + 1):
            newer = VERSIONS[change % len(VERSIONS)]
            registry.set_alias(
                "constant", "champion", newer, expected=now, reason=f"change {change}"
            )
            wait_until(
                lambda version=newer: clients.wrong or clients.all_on(version), served.process
            )
            now = newer
    assert clients.wrong == []
    assert next(clients.calls) > CHANGES * CLIENTS
    assert served.end() == 0, served.process.stderr.read()


def test_a_canary_is_the_same_in_every_process_and_ends_by_the_command_line(registry, served):
    policy = mk.RolloutPolicy(
        (mk.RolloutStage(0.5, seconds=3600),), (mk.Guard("errors", floor=0.05),)
    )
    keys = [f"customer-{i}" for i in range(8)]
    champion, candidate = VERSIONS[:2]
    with Clients(served.port, keys) as clients:
        wait_until(lambda: clients.wrong or clients.all_on(champion), served.process)
        rollout = registry.start_rollout("constant", candidate, policy, reason="test")
        expected = {}
        for key in keys:
            chosen = hash_of(key, rollout.id.encode()[:64]) < limit_of(0.5)
            expected[key] = candidate if chosen else champion

        def routed():
            return all(version == expected[key] for (_, key), version in [*clients.last.items()])

        wait_until(lambda: clients.wrong or routed(), served.process)
        command(registry, "rollback")
        wait_until(lambda: clients.wrong or clients.all_on(champion), served.process)
        registry.start_rollout("constant", candidate, policy, reason="again", force=True)
        command(registry, "promote")
        wait_until(lambda: clients.wrong or clients.all_on(candidate), served.process)
    assert clients.wrong == []
    assert served.end() == 0, served.process.stderr.read()


def test_two_processes_add_up_what_they_count_and_decide_once(registry):
    guards = (mk.Guard("errors", floor=0.05), mk.Guard("refused", floor=0.05))
    stages = (mk.RolloutStage(0.4, calls=20), mk.RolloutStage(0.6, calls=20))
    champion, candidate = VERSIONS[:2]
    with gunicorn(registry) as served, Clients(served.port) as clients:
        wait_until(lambda: clients.wrong or clients.all_on(champion), served.process)
        policy = mk.RolloutPolicy(stages, guards, tick=0.1)
        registry.start_rollout("constant", candidate, policy, reason="test")

        def promoted():  # a share of answers may all be the candidate's by chance
            return registry.aliases("constant")["champion"].version == candidate

        wait_until(lambda: clients.wrong or promoted(), served.process)
        wait_until(lambda: clients.wrong or clients.all_on(candidate), served.process)
    assert clients.wrong == []
    decided = [entry for entry in registry.history("constant") if entry.kind == "decided"]
    assert [entry.about["decision"] for entry in decided] == ["advance", "promote"]
    progress = progress_afar(registry, "constant")
    assert progress.decision == "promote"
    assert not progress.under_way
    assert all(guard.better >= guard.promotes_at for guard in progress.guards)


def test_a_rollout_that_was_made_before_the_fork(registry):
    """With gunicorn's --preload, the processes begin with one Rollout, and follow on their own."""
    environ = {"FOLLOWED": registry.url}
    with (
        other_server(*GUNICORN, "--preload", environ=environ) as served,
        Clients(served.port) as clients,
    ):
        wait_until(lambda: clients.wrong or clients.all_on(VERSIONS[0]), served.process)
        registry.set_alias("constant", "champion", VERSIONS[1], expected=VERSIONS[0], reason="test")
        wait_until(lambda: clients.wrong or clients.all_on(VERSIONS[1]), served.process)
    assert clients.wrong == []


def command(registry, verb):
    done = subprocess.run(
        [sys.executable, "-m", "modelkit", "rollout", registry.url, verb, "constant", "--reason", "test"],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
