"""Explanations: made without being counted, bounded in number, time and size."""

import asyncio
import json
import threading
import warnings

import numpy as np
import pytest
from helpers.apps import EXPLAIN, ROW, SIGNATURE, Still, asked_of, summed, wait_for
from helpers.client import Client
from sklearn.neural_network import MLPRegressor

import modelkit as mk
from modelkit.errors import ClosedError
from modelkit.web.endpoint import MOST_NUMBERS, check_size
from modelkit.web.replies import Refused


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
        served = app._edge.endpoints["m"].deployment
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
        apart = app._threads.explain
        works = [apart.submit(gate.wait) for _ in range(2)]
        wait_for(lambda: all(work.running() for work in works))
        works += [apart.submit(gate.wait) for _ in range(16)]
        refused = client.post("/models/m/explain", json=explain_body(1))
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 30  # by what runs were measured to take
        assert "16 explanations wait" in refused.json()["error"]
        assert client.post("/models/m/predict", json=explain_body(1)).status == 200
        assert works[5].cancel()
        works[5] = apart.submit(gate.wait)
    assert [work.cancelled() for work in works] == [False] * 2 + [True] * 16
    gate.set()
    assert [work.result(60) for work in works[:2]] == [True, True]
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
        wait_for(lambda: not app._threads.explain._threads)


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


def test_a_version_that_takes_over_while_a_body_is_read_leaves_its_outputs_alone():
    """The outputs of the newer version were compared: 'leave out outputs', which were left out."""
    signature = mk.Signature(SIGNATURE.inputs, SIGNATURE.outputs)
    newer = mk.FunctionModel(lambda feeds: {"prediction": feeds["x"].sum(axis=1)}, signature)
    rollout = mk.Rollout(summed(), newer, share=0.5)
    body = json.dumps({"rows": ROW["rows"] * 5_000}).encode()
    client = Still(body, more=False)

    async def main():
        asked = asyncio.ensure_future(
            asked_of(mk.App({"sum": rollout}), client.receive, client.send, path=EXPLAIN)
        )
        while client.parts:
            await asyncio.sleep(0)
        rollout.promote()
        await asked

    asyncio.run(main())
    assert rollout.signature is signature
    assert client.status == 501  # neither of them is explained
