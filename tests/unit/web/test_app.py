"""What an App answers: paths, names, health and metrics; and what it closes at its end."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from helpers.apps import INFER, PREDICT, ROW, summed, tensor
from helpers.client import Client

import modelkit as mk
from modelkit.types import Limits

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


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", 7, ".", ".."])
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
        app._edge.requests |= {object()}
    with Client(app) as client:
        answers = [client.get(f"/v2/health/{what}") for what in ("live", "ready")]
        app._edge.requests.clear()
    assert [answer.status for answer in answers] == [live, ready]
    assert answers[0].json()["live"] is True
    assert answers[1].json()["ready"] is (ready == 200)
    assert not ran


def test_a_model_is_ready_if_it_is(app):
    app._edge.endpoints["other"].deployment.model.close()
    with Client(app) as client:
        assert client.get("/v2/models/other/ready").status == 503


# Metrics.


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


# Its end.


def test_a_lifespan_closes_what_the_app_opened_and_no_other(tmp_path):
    from sklearn.linear_model import LinearRegression

    path = tmp_path / "m.mk"
    X = np.arange(20.0).reshape(10, 2)
    mk.save(LinearRegression().fit(X, X.sum(axis=1)), path, example=X, name="m", version="1")
    mine = summed()
    app = mk.App({"opened": path, "mine": mine})
    opened = app._edge.endpoints["opened"].deployment.model
    with Client(app):
        assert not opened.closed
    assert opened.closed
    assert not mine.closed
