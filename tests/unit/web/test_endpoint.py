"""Models are replaced under load: nothing fails, calls end where they began, and what was opened is closed."""

from __future__ import annotations

import asyncio
import gc
import json
import threading

import numpy as np
import pytest
from helpers.apps import INFER, PREDICT, ROW, Gate, summed, tensor, wait_for
from helpers.client import Client

import modelkit as mk
from modelkit import errors, events
from modelkit.errors import ClosedError


def constant(value):
    return summed(lambda feeds: {"prediction": np.full(len(feeds["x"]), value)})


def prediction(answer):
    assert answer.status == 200, answer.body
    return answer.json()["outputs"]["prediction"]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Two versions of a package, with what a rule of thumb would give 1 and 2."""
    from sklearn.linear_model import LinearRegression

    folder = tmp_path_factory.mktemp("replace")
    X = np.random.default_rng(0).normal(size=(50, 2))
    paths = []
    for version in ("1.0.0", "2.0.0"):
        estimator = LinearRegression().fit(X, X.sum(axis=1) * int(version[0]))
        path = folder / f"{version}.mk"
        mk.save(estimator, path, example=X, name="sum", version=version)
        paths.append(path)
    return paths


def test_another_model_answers_from_now_on():
    app = mk.App({"sum": constant(1.0)})
    with Client(app) as client:
        assert prediction(client.post(PREDICT, json=ROW)) == [1.0]
        app.replace("sum", constant(2.0))
        assert prediction(client.post(PREDICT, json=ROW)) == [2.0]


def test_a_call_under_way_ends_where_it_began():
    gate = Gate()
    app = mk.App({"sum": gate.model})

    def replace():
        assert gate.begun.acquire(timeout=30)
        app.replace("sum", constant(2.0))
        gate.open()

    replacing = threading.Thread(target=replace)
    replacing.start()
    with Client(app) as client:
        assert prediction(client.post(PREDICT, json=ROW)) == [3.0]
        replacing.join()
        assert prediction(client.post(PREDICT, json=ROW)) == [2.0]


def test_what_the_app_opened_is_closed_after_its_last_call_and_nothing_else(packages):
    first, second = packages
    mine = mk.load(first)
    app = mk.App({"sum": first, "mine": mine})
    opened = app._edge.endpoints["sum"].deployment.model
    layers = [type(layer).__name__ for layer in (opened, opened.inner)]
    assert layers == ["Meter", "Batcher"]
    with Client(app) as client:
        assert client.post(PREDICT, json={"columns": {"x0": [1.0], "x1": [2.0]}}).status in (
            200,
            422,
        )
        app.replace("sum", second)
        app.replace("mine", second)
        wait_for(lambda: opened.closed)
        assert client.get("/v2/models/sum").json()["versions"] == ["2.0.0"]
        assert client.get("/v2/models/sum/versions/1.0.0").status == 404
        now = app._edge.endpoints["sum"].deployment.model
    assert now.closed
    assert not mine.closed


def test_an_open_package_is_kept_while_a_call_is_under_way(packages):
    """The Activation of a call that waits keeps what it began with open."""
    app = mk.App({"sum": packages[0]})
    endpoint = app._edge.endpoints["sum"]
    held = endpoint.active.now
    app.replace("sum", packages[1])
    assert not held.value.model.closed
    model = held.value.model
    del held
    gc.collect()
    wait_for(lambda: model.closed)
    app.close()


def test_a_package_that_does_not_open_or_prove_itself_changes_nothing(packages, tmp_path):
    broken = tmp_path / "broken.mk"
    broken.write_bytes(packages[1].read_bytes()[:-100])
    app = mk.App({"sum": packages[0]})
    with pytest.raises(errors.PackageError):
        app.replace("sum", broken)
    with pytest.raises(FileNotFoundError):
        app.replace("sum", tmp_path / "nothing.mk")
    with pytest.raises(TypeError, match="paths of packages"):
        app.replace("sum", 7)
    with pytest.raises(ValueError, match="'other'"):
        app.replace("other", packages[1])
    with Client(app) as client:
        assert client.get("/v2/models/sum").json()["versions"] == ["1.0.0"]
    with pytest.raises(errors.ClosedError):
        app.replace("sum", packages[1])


class Lying(mk.Wrapper):
    """Answers other than its package proved, as on a machine that computes otherwise."""

    _call, _acall, _arun = mk.Model._call, mk.Model._acall, mk.Model._arun
    base = property(lambda self: self)

    def _run(self, feeds, outputs, call):
        return {name: values + 1 for name, values in self._inner._run(feeds, outputs, call).items()}


def test_a_model_that_does_not_compute_what_was_proven_is_refused(packages):
    app = mk.App({"sum": packages[0]})
    with mk.load(packages[1]) as model, pytest.raises(errors.IntegrityError):
        app.replace("sum", Lying(model))
    app.close()


def test_a_rollout_proves_its_champion_and_no_draw_counts(packages):
    ours, theirs = map(mk.load, packages)
    rollout = mk.Rollout(ours, theirs, share=0.9, seed=0)
    app = mk.App({"sum": constant(1.0)})
    app.replace("sum", rollout)
    for _ in range(20):  # golden rows of the champion are answered by the champion
        assert rollout.verify() == 0
        rollout.warmup()
    assert rollout.status().calls == (0, 0)


def test_who_closes_the_old_model_too_early_is_forgiven():
    """Its owner replaces it and closes it at once, while a call is on its way to it."""
    old = constant(1.0)
    app = mk.App({"sum": old})

    class Early(mk.Wrapper):
        _call = None  # an App calls the async verbs

        async def _acall(self, X, outputs, call):
            await asyncio.to_thread(app.replace, "sum", constant(2.0))
            old.close()
            return await self._inner._acall(X, outputs, call)

    app.replace("sum", Early(old))
    with Client(app) as client:
        assert prediction(client.post(PREDICT, json=ROW)) == [2.0]


def test_a_path_with_a_version_is_not_answered_by_another_that_came_while_the_body_did(packages):
    app = mk.App({"sum": packages[0]})
    body = json.dumps(tensor(name=app_input(app))).encode()

    def parts():
        yield body[:9]
        app.replace("sum", packages[1])
        yield body[9:]

    with Client(app) as client:
        path = "/v2/models/sum/versions/{}/infer"
        assert client.post(path.format("1.0.0"), body=body).status == 200
        assert client.post(path.format("1.0.0"), body=parts()).status == 404
        assert client.post(path.format("2.0.0"), body=body).status == 200


def test_a_replacement_is_an_event(packages):
    seen = []
    app = mk.App({"sum": packages[0]})
    stop = events.subscribe(seen.append, events.Swapped)
    try:
        app.replace("sum", packages[1])
    finally:
        stop()
        app.close()
    (event,) = seen
    assert (event.name, event.before_version, event.version) == ("sum", "1.0.0", "2.0.0")
    assert event.digest != event.before_digest


def test_ten_replacements_under_load_fail_no_call(packages):
    """Every answer is of one version, whole: no answer mixes two."""
    app = mk.App({"sum": packages[0]})
    request = {"method": "POST", "path": INFER, "json": tensor(name=app_input(app))}
    done = threading.Event()

    def replace():
        for turn in range(10):
            app.replace("sum", packages[(turn + 1) % 2])
        done.set()

    answers = []
    with Client(app) as client:
        replacing = threading.Thread(target=replace)
        replacing.start()
        while not done.is_set():
            answers += client.concurrently([request] * 16)
        replacing.join()
    assert {answer.status for answer in answers} == {200}
    seen = {
        (
            answer.json()["model_version"],
            answer.headers["model-version"],
            round(answer.json()["outputs"][0]["data"][0], 3),
        )
        for answer in answers
    }
    assert seen <= {("1.0.0", "1.0.0", 3.0), ("2.0.0", "2.0.0", 6.0)}
    assert len(seen) == 2


def app_input(app):
    return app._edge.endpoints["sum"].deployment.model.signature.inputs[0].name


# Draining.


def test_draining_turns_readiness_and_closes_connections_but_answers():
    app = mk.App({"sum": summed()})
    with Client(app) as client:
        before = client.get("/v2/health/ready")
        app.drain()
        ready = client.get("/v2/health/ready")
        live = client.get("/v2/health/live")
        model = client.get("/v2/models/sum/ready")
        answer = client.post(PREDICT, json=ROW)
    assert before.status == 200
    assert before.json() == {"ready": True, "live": True}
    assert "connection" not in before.headers
    assert (ready.status, ready.json()["ready"]) == (503, False)
    assert live.status == 200
    assert model.status == 503
    assert answer.status == 200
    assert {one.headers["connection"] for one in (ready, live, answer)} == {"close"}


def test_a_closed_model_replaces_none():
    """It did, and each request was answered with 503 from then on."""
    closed = summed()
    closed.close()
    app = mk.App({"sum": summed()})
    with Client(app) as client:
        with pytest.raises(ClosedError):
            app.replace("sum", closed)
        assert client.post(INFER, json=tensor()).status == 200


def test_all_is_closed_although_one_cannot_be(boosting_mk):
    """What came after the first that failed stayed open."""

    class Failing(mk.Wrapper):
        def close(self):
            raise OSError("the disk is full")

    app = mk.App({"first": boosting_mk, "second": boosting_mk})
    opened = [each.deployment.opened for each in app._edge.endpoints.values()]
    for each in opened:
        each.model = Failing(each.model)
    with pytest.raises(OSError, match="the disk is full"):
        app.close()
    assert [each.model.closed for each in opened] == [True, True]
