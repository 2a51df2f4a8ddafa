"""What an App answers: paths, health, who asks, the status page; alone, mounted, and with or without a lifespan."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from helpers.apps import (
    EXPLAIN,
    INFER,
    PREDICT,
    ROW,
    summed,
    tensor,
    uvicorn_of,
    wait_for,
    without_lifespan,
)
from sklearn.neural_network import MLPRegressor

import modelkit as mk
from modelkit import events
from modelkit.errors import ClosedError
from modelkit.testing import Client
from modelkit.types import Limits
from modelkit.web.explainers import MOST_NUMBERS, check_size
from modelkit.web.reply import Refused
from modelkit.web.routes import route_of

TOKEN = "a long secret"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def app():
    return mk.App({"sum": summed(), "other": summed()})


@pytest.fixture
def client(app):
    with Client(app) as client:
        yield client


# Paths.

HEALTH_PATHS = ["/v2/health/live", "/v2/health/ready"]
LOOKS = ["/v2", *HEALTH_PATHS, "/v2/models", "/v2/models/sum", "/v2/models/sum/ready", "/"]


@pytest.mark.parametrize("path", LOOKS)
def test_what_is_looked_at_is_there_with_get_and_head(client, path):
    looked = client.get(path)
    head = client.request("HEAD", path)
    assert looked.status == head.status == 200
    assert looked.headers == head.headers
    assert int(looked.headers["content-length"]) == len(looked.body) > 0
    assert head.body == b""


def test_the_server_names_its_extensions_and_models(client):
    about = client.get("/v2").json()
    assert about["name"] == "modelkit"
    assert "binary_tensor_data" in about["extensions"]
    assert client.get("/v2/models").json() == {"models": ["sum", "other"]}
    assert client.get("/v2/models/sum/ready").json() == {"name": "sum", "ready": True}


def test_rows_are_answered_in_both_formats(client):
    assert client.post(PREDICT, json=ROW).json()["outputs"] == {"prediction": [3.0]}
    (output,) = client.post(INFER, json=tensor([(1.0, 2.0), (3.0, 4.0)])).json()["outputs"]
    assert output == {"name": "prediction", "datatype": "FP64", "shape": [2], "data": [3.0, 7.0]}


def test_there_are_fifteen_templates_whatever_is_asked():
    templates = set()
    heads = (
        "",
        "/v2",
        "/v2/models",
        "/models",
        "/v2/models/m",
        "/models/m",
        "/v2/models/m/versions",
    )
    tails = (
        "",
        "/",
        "/x",
        "/ready",
        "/infer",
        "/predict",
        "/1/infer",
        "/1",
        "/1/ready",
        "/health/live",
    )
    for head in heads:
        for tail in tails:
            route = route_of(head + tail)
            if route is not None:
                templates.add(route.template)
    assert len(templates) <= 15
    assert all(re.sub(r"{\w+}", "", template).isascii() for template in templates)


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", 7])
def test_a_name_that_cannot_be_in_a_path_is_refused(name):
    with pytest.raises(ValueError, match="part of a path"):
        mk.App({name: summed()})


def test_names_may_be_in_any_language():
    with Client(mk.App({"größe %": summed()})) as client:
        assert client.get("/v2/models/größe %").json()["name"] == "größe %"
        assert client.post("/models/größe %/predict", json=ROW).status == 200


def test_what_cannot_be_served_is_refused_at_once():
    with pytest.raises(ValueError, match="at least one model"):
        mk.App({})
    with pytest.raises(ValueError, match="429 or 503"):
        mk.App({"sum": summed()}, overloaded=500)
    with pytest.raises(TypeError, match="not dict"):
        mk.App({"sum": {}})


# Health.

HEALTH = [
    # draining, closed model, full, live, ready
    (False, False, False, 200, 200),
    (True, False, False, 200, 503),
    (False, True, False, 200, 503),
    (False, False, True, 200, 200),
    (True, True, True, 200, 503),
]


@pytest.mark.parametrize(("draining", "closed", "full", "live", "ready"), HEALTH)
def test_health_needs_no_model_no_permission_and_no_room(draining, closed, full, live, ready):
    def nobody(headers):
        raise AssertionError("health was asked for a permission")

    ran = []
    first, second = summed(ran.append), summed(ran.append)
    app = mk.App({"first": first, "second": second}, auth=nobody, limits=Limits(requests=1))
    if draining:
        app.drain()
    if closed:
        second.close()
    if full:
        app._edge.visits |= {object()}
    with Client(app) as client:
        answers = [client.get(f"/v2/health/{what}") for what in ("live", "ready")]
        app._edge.visits.clear()
    assert [answer.status for answer in answers] == [live, ready]
    assert answers[0].json()["live"] is True
    assert answers[1].json()["ready"] is (ready == 200)
    assert not ran


def test_a_model_is_ready_if_it_is(app):
    app._edge.served["other"].active.now.value.model.close()
    with Client(app) as client:
        assert client.get("/v2/models/other/ready").status == 503


# Who asks.


def test_tokens_know_callers_by_digests_as_bearer_or_key():
    auth = mk.tokens(
        DIGEST, {"alice": hashlib.sha256(b"hers").hexdigest(), "bob": "sha256:" + "0" * 64}
    )
    assert auth({"authorization": f"Bearer {TOKEN}"}) == f"sha256:{DIGEST[:8]}"
    assert auth({"authorization": "bearer hers"}) == "alice"
    assert auth({"x-api-key": "hers"}) == "alice"
    assert auth({}) is None
    assert auth({"authorization": "Basic hers"}) is None
    for key in ("", "Hers", "\udc80\u00e9"):
        assert auth({"x-api-key": key}) is None


@pytest.mark.parametrize("wrong", [(), (TOKEN,), ("0" * 63,), ({"alice": "hers"},), (7,), ({},)])
def test_tokens_take_digests_only_and_repeat_no_secret(wrong):
    with pytest.raises(ValueError, match="sha256") as info:
        mk.tokens(*wrong)
    assert TOKEN not in str(info.value)


def test_every_digest_is_compared_whatever_is_found(monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append(a) or a == b)
    auth = mk.tokens(*(hashlib.sha256(bytes([n])).hexdigest() for n in range(5)))
    auth({"x-api-key": "\0"})
    auth({"x-api-key": "none"})
    assert len(compared) == 10


def test_nobody_is_asked_before_the_body_is_read():
    def parts():
        raise AssertionError("the body was read")
        yield

    with Client(mk.App({"sum": summed()}, auth=mk.tokens(DIGEST))) as client:
        assert client.post(PREDICT, body=parts()).status == 401
        assert client.post("/models/none/predict", body=parts()).status == 401
        for path in {*LOOKS, "/openapi.json"} - {*HEALTH_PATHS}:
            assert client.get(path).status == 401
            assert client.get(path, headers=BEARER).status == 200
        assert client.post(PREDICT, json=ROW, headers=BEARER).status == 200


@pytest.mark.parametrize("is_async", [False, True])
def test_the_principal_is_in_the_scope_and_in_the_events(is_async):
    def plain(headers):
        return headers.get("X-Who")

    async def slow(headers):
        await asyncio.sleep(0)
        return headers.get("x-who")

    seen = []
    app = mk.App({"sum": summed()}, auth=slow if is_async else plain)
    around = []

    async def middleware(scope, receive, send):
        await app(scope, receive, send)
        if scope["type"] == "http":
            around.append(scope["state"].get("principal"))

    stop = events.subscribe(seen.append, events.Handled)
    try:
        with Client(middleware) as client:
            headers = {"x-who": "alice", "x-request-id": "r-1"}
            assert client.post(PREDICT, json=ROW, headers=headers).status == 200
            assert client.post(PREDICT, json=ROW).status == 401
            client.get("/4711")
    finally:
        stop()
    first, second, third = seen
    assert around == ["alice", None, None]
    assert (first.principal, first.request_id, first.model) == ("alice", "r-1", "sum")
    assert (first.route, first.method, first.status) == ("/models/{model}/predict", "POST", 200)
    assert 0 < first.seconds < 60
    assert (second.principal, second.status) == (None, 401)
    assert (third.route, third.model) == ("unmatched", "")
    assert "4711" not in repr(third)


# Metrics, the status page, OpenAPI, explanations.


def test_metrics_are_there_if_asked_for_and_made_beside_the_loop():
    threads = []

    def text(accept):
        threads.append(threading.current_thread())
        return accept.encode(), "text/plain; version=0.0.4"

    with Client(mk.App({"sum": summed()}, metrics=text)) as client:
        answer = client.get("/metrics", headers={"accept": "text/plain"})
    assert (answer.status, answer.body) == (200, b"text/plain")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4"
    assert threads[0] is not threading.current_thread()


def test_the_status_page_has_cards_and_no_script():
    with Client(mk.App({"<b>&": summed()})) as client:
        answer = client.get("/")
    page = answer.body.decode()
    policy = answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert "<script" not in page
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&" not in page
    assert not re.search(r"\b(?:src|href|on\w+)=", page)
    assert ">ready<" in page


def test_explanations_are_made_without_being_counted(tmp_path):
    from sklearn.linear_model import LogisticRegression

    X = np.random.default_rng(0).normal(size=(60, 2))
    path = tmp_path / "m.mk"
    mk.save(
        LogisticRegression().fit(X, X[:, 0] > 0),
        path,
        example=X,
        name="m",
        version="3.1",
        background=X[:20],
    )
    app = mk.App({"m": path})
    body = {"columns": {"x0": X[:3, 0].tolist(), "x1": X[:3, 1].tolist()}}
    with Client(app) as client:
        answers = [client.post("/models/m/explain", json=body) for _ in range(2)]
        served = app._edge.served["m"].active.now.value
        assert served.model.totals().rows == 0
    assert [answer.status for answer in answers] == [200, 200], answers[0].body
    assert answers[0].headers["model-version"] == "3.1"
    assert answers[0].body == answers[1].body


@pytest.fixture(scope="module")
def explained_mk(tmp_path_factory):
    """A model that is explained by sampling."""
    X = np.random.default_rng(0).normal(size=(60, 13))
    path = tmp_path_factory.mktemp("explained") / "m.mk"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=20).fit(X, X[:, 0])
        mk.save(model, path, example=X, name="m", version="1", background=X[:20])
    return path


def explain_body(rows):
    return {"columns": {f"x{column}": [0.5] * rows for column in range(13)}}


def test_explanations_beyond_those_that_may_wait_are_429(explained_mk):
    """Two run and sixteen wait; one that its client left waits no longer, and nothing stops the end."""
    app = mk.App({"m": explained_mk})
    gate = threading.Event()
    with Client(app) as client:
        apart = app._threads.apart
        works = [apart.submit(gate.wait) for _ in range(2)]
        wait_for(lambda: all(work.running() for work in works))
        works += [apart.submit(gate.wait) for _ in range(16)]
        refused = client.post("/models/m/explain", json=explain_body(1))
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        assert "16 explanations wait" in refused.json()["error"]
        assert client.post("/models/m/predict", json=explain_body(1)).status == 200
        assert works[5].cancel()
        works[5] = apart.submit(gate.wait)
    assert [work.cancelled() for work in works] == [False] * 2 + [True] * 16
    gate.set()
    assert [work.result(10) for work in works[:2]] == [True, True]
    wait_for(lambda: not apart._threads)
    with pytest.raises(ClosedError):
        apart.submit(gate.wait)


def test_an_explanation_ends_at_its_deadline(explained_mk):
    """This one would take minutes; the next one does not find it still at work."""
    app = mk.App({"m": explained_mk})
    with Client(app) as client:
        assert client.post("/models/m/explain", json=explain_body(1)).status == 200
        late = client.post(
            "/models/m/explain", json=explain_body(10_000), headers={"request-timeout": "0.3"}
        )
        assert late.status == 504, late.body
        wait_for(lambda: not app._threads.apart._threads)


@pytest.mark.parametrize(
    "X", [np.zeros((3, 1)), {"a": [1, 2, 3]}, {"t": np.zeros((3, 2))}, [{"a": 1}] * 3]
)
def test_an_explanation_of_too_many_numbers_is_413(X):
    check_size(X, MOST_NUMBERS // 3)
    with pytest.raises(Refused, match="3 rows are more than 2") as refused:
        check_size(X, MOST_NUMBERS // 2)
    assert refused.value.status == 413
    check_size(X[:1] if not isinstance(X, dict) else {}, 2 * MOST_NUMBERS)


def test_what_has_no_background_is_not_explained(client):
    answer = client.post(EXPLAIN, json=ROW)
    assert answer.status == 501


# Alone and mounted.


def test_a_lifespan_closes_what_the_app_opened_and_no_other(tmp_path):
    from sklearn.linear_model import LinearRegression

    path = tmp_path / "m.mk"
    X = np.arange(20.0).reshape(10, 2)
    mk.save(LinearRegression().fit(X, X.sum(axis=1)), path, example=X, name="m", version="1")
    mine = summed()
    app = mk.App({"opened": path, "mine": mine})
    opened = app._edge.served["opened"].active.now.value.model
    with Client(app):
        assert not opened.closed
    assert opened.closed
    assert not mine.closed


@pytest.mark.parametrize("prefix", ["/ml", "/a/b"])
def test_mounted_in_fastapi_and_starlette(prefix):
    import fastapi
    from fastapi.testclient import TestClient

    app = mk.App({"sum": summed()})
    api = fastapi.FastAPI(lifespan=app.lifespan)
    api.mount(prefix, app)

    @api.get("/mine")
    def mine():
        return {"is": "mine"}

    with TestClient(api) as client:
        assert client.get("/mine").json() == {"is": "mine"}
        assert client.post(prefix + PREDICT, json=ROW).json()["outputs"] == {"prediction": [3.0]}
        assert client.get(prefix + "/v2/health/ready").status_code == 200
        assert client.get(prefix + "/").status_code == 200
        assert client.get(prefix + "/nothing").status_code == 404
        assert client.post(PREDICT, json=ROW).status_code == 404
    assert app._edge.closed


def test_mounted_without_a_lifespan_and_behind_middleware():
    """A mounted App gets no lifespan, and starts when it is first asked."""
    import fastapi
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.testclient import TestClient

    async def principal(request, call_next):
        response = await call_next(request)
        response.headers["x-who"] = request.state.principal
        return response

    app = mk.App({"sum": summed()}, auth=lambda headers: "alice")
    api = fastapi.FastAPI()
    api.mount("/ml", app)
    api.add_middleware(BaseHTTPMiddleware, dispatch=principal)
    answer = TestClient(api).post("/ml" + PREDICT, json=ROW)
    assert answer.status_code == 200
    assert answer.headers["x-who"] == "alice"


ROOTS = [
    ("/ml", "/ml/v2", 200),
    ("/ml", "/mlx/v2", 404),
    ("/ml", "/v2", 200),
    ("/v2", "/v2/v2", 200),
    ("/ml", "/ml", 200),
]


@pytest.mark.parametrize(("root", "path", "status"), ROOTS)
def test_a_root_path_is_taken_off_where_it_stands(root, path, status):
    app = mk.App({"sum": summed()})

    async def mounted(scope, receive, send):
        await app({**scope, "root_path": root}, receive, send)

    with Client(mounted) as client:
        assert client.get(path).status == status


def test_what_is_no_http_is_left_alone():
    app = mk.App({"sum": summed()})
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(app({"type": "websocket", "path": "/v2"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1000}]


def test_a_version_of_http_without_connections_is_sent_no_such_header():
    app = mk.App({"sum": summed()})
    app.drain()

    async def newer(scope, receive, send):
        await app({**scope, "http_version": "2"}, receive, send)

    with Client(newer) as client:
        assert "connection" not in client.get("/v2").headers


def test_connections_are_kept_by_a_server(app):
    import http.client

    with uvicorn_of(app) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.connect()
        socket = connection.sock
        for _ in range(3):
            connection.request(
                "POST", PREDICT, json.dumps(ROW), {"content-type": "application/json"}
            )
            assert connection.getresponse().read()
            assert connection.sock is socket
        app.drain()
        connection.request("GET", "/v2")
        assert connection.getresponse().read()
        assert connection.sock is None
        connection.close()


def test_several_loops_may_ask_one_app(app):
    """Each request is looked after by its own loop."""

    def rounds():
        with Client(without_lifespan(app)) as client:
            return [client.post(PREDICT, json=ROW).status for _ in range(20)]

    results = []
    threads = [threading.Thread(target=lambda: results.append(rounds())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[200] * 20] * 4
    assert app.in_flight == 0


def test_an_idle_app_has_no_timer():
    app = mk.App({"sum": summed()})

    async def main():
        loop = asyncio.get_running_loop()

        async def receive():
            return {"type": "http.request", "body": json.dumps(ROW).encode()}

        async def send(message):
            pass

        scope = {"type": "http", "method": "POST", "path": PREDICT, "headers": []}
        await app(scope, receive, send)
        lookout = app._lookouts[loop]
        assert lookout.looking
        while lookout.looking:  # nothing else happens here
            await asyncio.sleep(0.01)
        return [handle for handle in loop._scheduled if not handle.cancelled()]

    assert asyncio.run(main()) == []


def test_a_forked_child_begins_without_requests():
    code = """
import os, sys
sys.path.insert(0, "tests")
from helpers.apps import *
from modelkit.testing import Client
app = mk.App({"sum": summed()}, metrics=lambda accept: (b"", "text/plain"))
with Client(without_lifespan(app)) as client:
    assert client.get("/metrics").status == 200
app._edge.visits.add(object())
if os.fork() == 0:
    with Client(without_lifespan(app)) as client:
        assert app.in_flight == 0
        assert client.get("/metrics").status == 200
        assert client.post(PREDICT, json=ROW).status == 200
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
