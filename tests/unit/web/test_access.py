"""Whoever asks by HTTP is who a policy decides about: on event loops, in threads and behind WSGI."""

import asyncio
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.apps import EXPLAIN, INFER, PREDICT, ROW, asked_of, summed, tensor, uvicorn_of
from helpers.apps import ask as ask_port
from helpers.client import Client
from helpers.records import hearing
from hypothesis import given, settings
from hypothesis import strategies as st

import modelkit as mk
from modelkit import events
from modelkit.errors import UsageError
from modelkit.model.access import principal

NAMES = ("alice", "bob", "carol", "labels")
INSTANCES = "/models/sum/instances"
OUTCOME = "/models/sum/outcome"
BODIES = {PREDICT: ROW, INFER: tensor(), INSTANCES: {"instances": ROW["rows"]}, EXPLAIN: ROW}


def auth(headers):
    """Who asks is who says so, as behind a proxy that checked it."""
    return headers.get("x-client-name")


def named(name):
    return {"x-client-name": name}


class Book:
    """A policy that notes what it was asked, and lets those do what stands there."""

    def __init__(self, **allowed):
        self.allowed = allowed
        self.asked = []

    def __call__(self, principal, action, about):
        self.asked.append((principal, action))
        return action in self.allowed.get(principal, ()) or f"{action} is not for everybody"


def explained(fn=None):
    """A model that is explained by sampling, over a background of its own."""
    from modelkit.model.golden import BACKGROUND, encode_rows

    inner = summed(fn)

    class WithBackground(mk.Wrapper):
        @property
        def attachments(self):
            feeds = {"x": np.arange(8.0).reshape(4, 2)}
            return {BACKGROUND: memoryview(encode_rows(feeds, {}))}

    return WithBackground(inner)


def environ(path, body, headers):
    data = json.dumps(body).encode()
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(data)),
        "wsgi.input": io.BytesIO(data),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }


def by_wsgi(app, path, body, headers):
    told = []
    parts = app.wsgi(environ(path, body, headers), lambda status, _: told.append(status))
    return int(told[0][:3]), b"".join(parts)


def by_asgi(app, path, body, headers):
    with Client(app) as client:
        answer = client.post(path, json=body, headers=headers)
    return answer.status, answer.body


@pytest.mark.parametrize("ask", [by_asgi, by_wsgi])
@pytest.mark.parametrize("path", BODIES)
def test_a_policy_decides_about_each_way_to_an_answer(ask, path):
    action = "explain" if path == EXPLAIN else "predict"
    other = "predict" if action == "explain" else "explain"
    book = Book(alice=[action], bob=[other])
    for name in ("alice", "bob"):
        app = mk.App({"sum": mk.Guarded(explained(), book)}, auth=auth)
        with hearing(events.Denied, events.Handled) as heard:
            status, body = ask(app, path, BODIES[path], named(name))
        *denials, handled = heard
        assert handled.principal == name
        if name == "alice":
            assert (status, denials) == (200, []), body
            continue
        assert status == handled.status == 403
        why = f"'bob' lacks the permission '{action}' for FunctionModel: {action} is not for everybody"
        assert json.loads(body) == {"error": why}
        [denied] = denials
        assert (denied.principal, denied.action) == ("bob", action)
    assert book.asked == [("alice", action), ("bob", action)]
    assert principal() is None


def test_rows_of_who_may_not_ask_are_not_looked_at():
    """403 and not 422, which would say what the model takes."""
    app = mk.App({"sum": mk.Guarded(summed(), Book(alice=["predict"]))}, auth=auth)
    wrong = {"rows": [{"a": "one", "b": 2.0}]}
    with Client(app) as client:
        answers = [client.post(PREDICT, json=wrong, headers=named(n)) for n in ("alice", "bob")]
    assert [answer.status for answer in answers] == [422, 403]


def test_what_only_looks_asks_no_policy():
    book = Book()
    app = mk.App({"sum": mk.Guarded(summed(), book)}, auth=auth)
    with Client(app) as client:
        for path in (
            "/",
            "/v2",
            "/v2/models",
            "/v2/models/sum",
            "/v2/models/sum/ready",
            "/openapi.json",
        ):
            assert client.get(path, headers=named("bob")).status == 200, path
    assert book.asked == []


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([*BODIES])), max_size=14))
@settings(deadline=None, max_examples=20)
def test_requests_at_once_ask_each_for_its_own_caller(calls):
    """On one event loop, with awaits between the steps of each, and with explanations in threads."""
    seen = []

    def policy(who, action, about):
        seen.append((who, action))
        return who == principal()

    async def slow(headers):
        await asyncio.sleep(0)
        return headers["x-client-name"]

    app = mk.App({"sum": mk.Guarded(explained(), policy)}, auth=slow)

    async def one(name, path):
        body = json.dumps(BODIES[path]).encode()
        sent = []

        async def receive():
            await asyncio.sleep(0)
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"x-client-name", name.encode())]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        await app(scope, receive, send)
        assert principal() == "the host", "the application around it acts as it did before"
        return sent[0]["status"]

    async def together():
        with mk.acting_as("the host"):
            return await asyncio.gather(*(one(*call) for call in calls))

    assert asyncio.run(together()) == [200] * len(calls)
    actions = {EXPLAIN: "explain"}
    assert sorted(seen) == sorted((name, actions.get(path, "predict")) for name, path in calls)
    app.close()


def test_threads_of_wsgi_ask_each_for_its_own_caller():
    book = Book(alice=["predict"], carol=["predict"])
    app = mk.App({"sum": mk.Guarded(mk.Batcher(summed()), book)}, auth=auth)
    names = [NAMES[place % 3] for place in range(60)]
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda name: by_wsgi(app, PREDICT, ROW, named(name))[0], names)
        assert [*found] == [403 if name == "bob" else 200 for name in names]
        assert [*pool.map(lambda _: principal(), range(6))] == [None] * 6


def test_a_real_server_denies_too():
    book = Book(alice=["predict"])
    app = mk.App({"sum": mk.Guarded(summed(), book)}, auth=auth)
    with uvicorn_of(app) as server:
        for name, status in (("alice", 200), ("bob", 403), ("alice", 200)):
            headers = {"content-type": "application/json", **named(name)}
            body = json.dumps(ROW).encode()
            assert ask_port(server.port, "POST", PREDICT, body, headers)[0] == status


def test_without_auth_the_host_says_who_asks():
    book = Book(alice=["predict"])
    app = mk.App({"sum": mk.Guarded(summed(), book)})

    async def host():
        statuses = []
        for name in ("alice", None):
            with mk.acting_as(name):

                async def receive():
                    return {"type": "http.request", "body": json.dumps(ROW).encode()}

                async def send(message):
                    statuses.append(message.get("status"))

                await asked_of(app, receive, send)
        return statuses[::2]

    assert asyncio.run(host()) == [200, 403]


def test_a_policy_that_fails_is_403_and_tells_nothing():
    def policy(principal, action, about):
        raise LookupError("secret of the policy")

    app = mk.App({"sum": mk.Guarded(summed(), policy)}, auth=auth)
    status, body = by_asgi(app, PREDICT, ROW, named("alice"))
    assert status == 403
    assert b"secret" not in body


# Outcomes decide a rollout.

LOSSES = mk.RolloutPolicy((mk.RolloutStage(0.5),), (mk.Guard("loss", margin=0.1),), tick=1e-6)


@pytest.fixture
def rollout():
    with mk.Rollout(summed(), summed(), policy=LOSSES, seed=0) as rollout:
        yield rollout


def ask_and_post(app, name):
    """The status of an outcome of a row that was asked for, and what counts of it."""
    with Client(app) as client:
        for key in ("k", "l"):
            answer = client.post(PREDICT, json=ROW | {"key": key}, headers=named("alice"))
            assert answer.status == 200, answer.body
        body = {"key": "k", "loss": 1.0}
        answers = [client.post(OUTCOME, json=body, headers=named(name))]
        long = {"outcomes": [{"key": "l", "loss": 1.0}] + [body] * 2000}
        answers.append(client.post(OUTCOME, json=long, headers=named(name)))
    return answers


def test_who_may_predict_may_not_post_outcomes_by_that_alone(rollout):
    with hearing(events.Denied) as heard:
        answers = ask_and_post(mk.App({"sum": rollout}, auth=auth), "alice")
    assert [answer.status for answer in answers] == [403, 403]
    assert "serve it in a mk.Guarded" in answers[0].json()["error"]
    assert [(event.principal, event.action) for event in heard] == [("alice", "outcome")] * 2


def test_without_auth_outcomes_are_taken_as_ever(rollout):
    answers = ask_and_post(mk.App({"sum": rollout}), "alice")
    assert [answer.json()["counted"] for answer in answers] == [1, 1]


@pytest.mark.parametrize("known", [True, False])
def test_a_policy_says_who_may_post_outcomes(known):
    """With `auth` and without: then a policy decides about nobody, or whom the host names."""
    for name, statuses in (("alice", [403, 403]), ("labels", [200, 200])):
        with mk.Rollout(summed(), summed(), policy=LOSSES, seed=0) as rollout:
            book = Book(alice=["predict"], labels=["outcome"])
            book.allowed[None] = ["predict"]
            guarded = mk.Guarded(rollout, book)
            app = mk.App({"sum": guarded}, auth=auth if known else None)
            answers = ask_and_post(app, name)
            assert [answer.status for answer in answers] == (statuses if known else [403, 403])
            if 200 in statuses and known:
                assert [answer.json()["counted"] for answer in answers] == [1, 1]


def test_what_is_no_rollout_has_no_outcomes_for_anybody():
    for model in (summed(), mk.Guarded(summed(), Book())):
        app = mk.App({"sum": model}, auth=auth)
        status, _ = by_asgi(app, OUTCOME, {"key": "k", "loss": 0}, named("alice"))
        assert status == 404


# A Guarded around what changes.


@pytest.fixture
def two_versions(numbered_packages):
    with mk.Rollout(
        *(mk.load(numbered_packages / f"{n}.mk", threads=1) for n in (1, 2)), share=0.5, seed=0
    ) as rollout:
        yield rollout


@pytest.mark.parametrize("audited", [False, True])
def test_a_version_in_the_path_is_the_champion_of_a_guarded_rollout(
    two_versions, tmp_path, audited
):
    served = two_versions
    if audited:
        log = mk.AuditLog(tmp_path / "audit")
        served = log.answers(served)
    app = mk.App({"m": mk.Guarded(served, Book(alice=["predict"]))}, auth=auth)
    body = {"columns": {"x0": [0.0], "x1": [0.0], "x2": [1.0]}}
    path = "/v2/models/m/versions/1/infer"
    data = {"name": "X", "shape": [1, 3], "datatype": "FP64", "data": [0.0, 0.0, 1.0]}
    with Client(app) as client:
        for name, status in (("alice", 200), ("bob", 403)):
            for _ in range(20):
                answer = client.post(path, json={"inputs": [data]}, headers=named(name))
                assert answer.status == status, answer.body
        versions = set()
        for _ in range(40):
            answer = client.post("/models/m/predict", json=body, headers=named("alice"))
            versions.add(answer.headers["model-version"])
    assert versions == {"1", "2"}
    if audited:
        log.close()
        events = [record.event for record in mk.AuditLog.read(tmp_path / "audit")]
        assert events.count("audit.answer") == 20 + 40


@pytest.mark.parametrize("audited", [False, True])
def test_explainers_are_kept_for_versions_and_permission_is_not(tmp_path, audited):
    """Who may explain makes the Explainer, and another one who asks next is still denied."""
    from sklearn.linear_model import LogisticRegression

    X = np.random.default_rng(0).normal(size=(60, 2))
    models = []
    for version, slope in (("1", 1), ("2", -1)):
        path = tmp_path / version
        fitted = LogisticRegression().fit(X, slope * X[:, 0] > 0)
        mk.save(fitted, path, example=X, name="m", version=version, background=X[:20])
        models.append(mk.load(path, threads=1))
    book = Book(alice=["explain"])
    log = mk.AuditLog(tmp_path / "audit")
    with log, mk.Rollout(*models, share=0.5, seed=0) as rollout:
        served = log.answers(rollout) if audited else rollout
        app = mk.App({"m": mk.Guarded(served, book)}, auth=auth)
        serving = app._edge.endpoints["m"].deployment
        body = {"columns": {"x0": [0.5], "x1": [0.1]}}
        versions = set()
        with Client(app) as client:
            for number in range(20):
                asked = body | {"key": f"k{number}"}
                for name, status in (("alice", 200), ("bob", 403)):
                    answer = client.post("/models/m/explain", json=asked, headers=named(name))
                    assert answer.status == status, answer.body
                    versions.add(answer.headers.get("model-version"))
        assert versions - {None} == {"1", "2"}
        assert {*serving.explainers._explainers} == {*models}
        assert len(book.asked) == 40


def test_requests_for_explanations_are_recorded_where_you_ask_for_it(tmp_path):
    with mk.AuditLog(tmp_path / "audit") as audit:
        stop = events.subscribe(audit.record, events.Handled)
        served = mk.Guarded(audit.answers(explained()), Book(alice=["explain"]))
        with Client(mk.App({"sum": served}, auth=auth)) as client:
            assert client.post(EXPLAIN, json=ROW, headers=named("alice")).status == 200
        stop()
    (found,) = (r.fields for r in mk.AuditLog.read(tmp_path / "audit") if r.event == "handled")
    assert (found["principal"], found["status"], found["model"]) == ("alice", 200, "sum")
    assert "explain" in found["route"]


def test_a_guarded_model_is_replaced_by_a_guarded_one(numbered_packages):
    path = numbered_packages / "1.mk"
    with mk.load(path, threads=1) as model:
        app = mk.App({"m": mk.Guarded(model, Book()), "open": model}, auth=auth)
        for newer in (path, model):
            with pytest.raises(UsageError, match="guarded by a policy, and what was passed is not"):
                app.replace("m", newer)
        app.replace("m", mk.Guarded(model, Book(alice=["predict"])))
        app.replace("open", mk.Guarded(model, Book()))
        with pytest.raises(UsageError, match="guarded by a policy"):
            app.replace("open", model)
        body = {"columns": {"x0": [0.0], "x1": [0.0], "x2": [1.0]}}
        with Client(app) as client:
            for name, status in (("alice", 200), ("bob", 403)):
                answer = client.post("/models/m/predict", json=body, headers=named(name))
                assert answer.status == status, answer.body


def test_tokens_are_who_a_policy_knows():
    digest = hashlib.sha256(b"secret of alice").hexdigest()
    app = mk.App(
        {"sum": mk.Guarded(summed(), Book(alice=["predict"]))},
        auth=mk.bearer_tokens({"alice": digest}),
    )
    with Client(app) as client:
        headers = {"authorization": "Bearer secret of alice", **named("bob")}
        assert client.post(PREDICT, json=ROW, headers=headers).status == 200
        assert client.post(PREDICT, json=ROW, headers=named("alice")).status == 401
