"""A Rollout within an App and a Collector: which version answered, and what both say of it."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.client import Client
from helpers.rollouts import COLUMNS, ROWS, model
from prometheus_client.parser import text_string_to_metric_families
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit import events
from modelkit.errors import UsageError
from modelkit.integrations.prometheus import Collector

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
NAMES = ("x0", "x1", "x2")
PREDICT = "/models/churn/predict"
INFER = "/v2/models/churn/infer"
ROW = {"rows": [dict(zip(NAMES, X[0].tolist(), strict=True))]}
TENSOR = {"name": "X", "shape": [1, 3], "datatype": "FP64", "data": X[0].tolist()}
GUARDS = (mk.Guard("errors", floor=0.05),)
HALF = mk.RolloutPolicy((mk.RolloutStage(0.5),), GUARDS, tick=1e-6)
KEYS = [f"customer-{i}" for i in range(40)]
SLOPE = {"1.0.0": 1, "1.1.0": -1}  # the two versions say the opposite of each other
LOSS = (mk.Guard("loss", margin=0.02),)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return save(tmp_path_factory.mktemp("packages"), "churn")


def save(folder, name):
    for version, slope in SLOPE.items():
        model = LogisticRegression().fit(X, (slope * X[:, 0] > 0).astype(int))
        mk.save(
            model, folder / f"{version}.mk", example=X, name=name, version=version, background=X
        )
    return folder


def layers(path):
    return mk.Meter(mk.Batcher(mk.load(path, threads=1)))


@pytest.fixture
def rollout(packages):
    with mk.Rollout(
        layers(packages / "1.0.0.mk"), layers(packages / "1.1.0.mk"), policy=HALF, seed=1
    ) as rollout:
        yield rollout
        for model in rollout.models:
            inner = model.inner
            model.close()
            inner.close()


@pytest.fixture
def client(rollout):
    with Client(mk.App({"churn": rollout})) as client:
        yield client


def version_of(answer):
    """The version in the header, which is the one in the body, and the one that really answered."""
    assert answer.status == 200, answer.body
    told = answer.json()
    version = answer.headers["model-version"]
    assert told["model_version"] == version
    outputs = told["outputs"]
    label = outputs["label"] if isinstance(outputs, dict) else outputs[0]["data"]
    assert label == [int(SLOPE[version] * X[0, 0] > 0)]
    return version


def test_header_and_body_name_the_version_that_answered(client, rollout):
    found = {}
    for key in KEYS:
        found[key] = version_of(client.post(PREDICT, json={**ROW, "key": key}))
        request = {"inputs": [TENSOR], "parameters": {"key": key}, "outputs": [{"name": "label"}]}
        assert version_of(client.post(INFER, json=request)) == found[key]
        assert version_of(client.post(PREDICT, json=ROW, headers={"x-key": key})) == found[key]
        assert rollout.run(X[:1], key=key).served_by.version == found[key]
    assert {*found.values()} == {*SLOPE}


def test_a_body_of_bytes_alone_is_routed_by_the_header(client, rollout):
    for key in KEYS[:10]:
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": "0",
            "x-key": key,
        }
        answer = client.post(INFER, body=X[:1].tobytes(), headers=headers)
        assert answer.status == 200
        assert answer.headers["model-version"] == rollout.run(X[:1], key=key).served_by.version


def test_a_key_in_two_places_is_one_key(client):
    assert client.post(PREDICT, json={**ROW, "key": "a"}, headers={"x-key": "a"}).status == 200
    answer = client.post(PREDICT, json={**ROW, "key": "a"}, headers={"x-key": "b"})
    assert answer.status == 400
    assert "X-Key" in answer.json()["error"]
    assert client.post(PREDICT, json=ROW, headers={"x-key": "\xff"}).status == 400


def test_a_path_with_a_version_is_answered_by_that_version(client):
    request = {"inputs": [TENSOR], "outputs": [{"name": "label"}]}
    for key in KEYS:
        path = "/v2/models/churn/versions/1.0.0/infer"
        assert (
            version_of(client.post(path, json={**request, "parameters": {"key": key}})) == "1.0.0"
        )
    assert client.post("/v2/models/churn/versions/1.1.0/infer", json=request).status == 404
    assert client.get("/v2/models/churn").json()["versions"] == ["1.0.0"]


def test_an_error_names_no_version_that_did_not_answer(client):
    answer = client.post(PREDICT, json={"rows": [{"x0": 1.0}]})
    assert answer.status == 422
    assert "model-version" not in answer.headers


def test_promotion_is_seen_by_the_next_request(client, rollout):
    rollout.promote()
    assert {version_of(client.post(PREDICT, json={**ROW, "key": key})) for key in KEYS} == {"1.1.0"}
    assert client.get("/v2/models/churn").json()["versions"] == ["1.1.0"]
    rollout.rollback()
    assert version_of(client.post(PREDICT, json=ROW)) == "1.0.0"


def test_a_rollout_is_not_replaced(rollout, packages):
    app = mk.App({"churn": rollout})
    with pytest.raises(UsageError, match=r"promote\(\).*rollback\(\).*set_alias\(\)"):
        app.replace("churn", packages / "1.1.0.mk")
    app.close()
    assert not rollout.closed


def test_ready_while_it_is_open(rollout):
    with Client(mk.App({"churn": rollout})) as client:
        assert client.get("/v2/health/ready").status == 200
        rollout.close()
        assert client.get("/v2/health/ready").status == 503
        assert client.post(PREDICT, json=ROW).status == 503


def test_an_explanation_is_of_the_version_that_answers_the_key(client, rollout):
    for key in KEYS[:10]:
        answer = client.post("/models/churn/explain", json={**ROW, "key": key})
        version = answer.headers["model-version"]
        assert version == rollout.run(X[:1], key=key).served_by.version
        assert np.sign(np.ravel(answer.json()["values"])[0] * X[0, 0]) == SLOPE[version]
    rollout.promote()
    assert client.post("/models/churn/explain", json=ROW).headers["model-version"] == "1.1.0"


def test_handled_names_the_version(client, rollout):
    seen = []
    stop = events.subscribe(seen.append, events.Handled)
    for key in KEYS[:10]:
        client.post(PREDICT, json={**ROW, "key": key})
    stop()
    assert [event.version for event in seen] == [
        rollout.run(X[:1], key=key).served_by.version for key in KEYS[:10]
    ]


def test_each_arm_counts_under_its_own_version(client, rollout):
    before = [model.totals().calls["ok"] for model in rollout.models]
    found = [version_of(client.post(PREDICT, json={**ROW, "key": key})) for key in KEYS]
    after = [model.totals().calls["ok"] for model in rollout.models]
    assert [one - other for one, other in zip(after, before, strict=True)] == [
        found.count("1.0.0"),
        found.count("1.1.0"),
    ]


def figures(collector):
    found = {}
    for family in text_string_to_metric_families(collector.text()[0].decode()):
        for sample in family.samples:
            found[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return found


def figure(collector, name, **labels):
    return figures(collector).get((name, tuple(sorted({"model": "churn", **labels}.items()))))


def test_a_collector_shows_every_arm_and_where_the_rollout_stands(rollout):
    collector = Collector(rollout)
    for key in KEYS:
        rollout.run(X[:1], key=key)
    for version in SLOPE:
        assert figure(collector, "modelkit_model_ready", version=version) == 1
        assert figure(collector, "modelkit_queue_rows", version=version) == 0
    labels = {"version": "1.1.0"}
    assert figure(collector, "modelkit_rollout_stage", **labels) == 1
    assert figure(collector, "modelkit_rollout_share", **labels) == 0.5
    worse = {**labels, "guard": "errors", "decision": "rollback"}
    assert figure(collector, "modelkit_rollout_evidence", **worse) < 1
    assert figure(collector, "modelkit_rollout_decision", **labels, decision="continue") == 1
    rollout.rollback()
    assert figure(collector, "modelkit_rollout_stage", **labels) == 0
    assert figure(collector, "modelkit_rollout_decision", **labels, decision="rollback") == 1
    assert figure(collector, "modelkit_rollout_failures_total", version="1.0.0") == 0
    candidate = figure(collector, "modelkit_rollout_units", **labels, arm="candidate")
    champion = figure(collector, "modelkit_rollout_units", **labels, arm="champion")
    assert candidate + champion == len(KEYS)


def test_a_collector_follows_a_registry(tmp_path):
    save(tmp_path, "lead")
    registry = mk.Registry(tmp_path / "models")
    for version in SLOPE:
        registry.register(tmp_path / f"{version}.mk")
    registry.set_alias("lead", "champion", "1.0.0", expected=None, reason="first")
    with mk.Rollout(
        registry, "lead", wrap=lambda model: mk.Meter(mk.Batcher(model)), keep=0
    ) as rollout:
        collector = Collector(rollout)
        assert figure(collector, "modelkit_model_ready", model="lead", version="1.1.0") is None
        policy = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), GUARDS)
        registry.start_rollout("lead", "1.1.0", policy, reason="test")
        rollout.refresh()
        assert figure(collector, "modelkit_model_ready", model="lead", version="1.1.0") == 1
        assert figure(collector, "modelkit_rollout_share", model="lead", version="1.1.0") == 0.5
        rollout.promote()
        assert figure(collector, "modelkit_rollout_share", model="lead", version="1.1.0") == 0
        rollout.run(X)
        counted = figure(collector, "modelkit_rows_total", model="lead", version="1.1.0")
        assert counted >= len(X)
    assert figure(collector, "modelkit_model_ready", model="lead", version="1.1.0") == 0


def test_arms_of_two_names_are_both_shown():
    signature = mk.Signature(
        (mk.TensorSpec("X", "float64", ("batch", 3), COLUMNS),),
        (mk.TensorSpec("y", "float64", ("batch",)),),
    )

    class Other(mk.Wrapper):
        __slots__ = ()

    def fn(feeds):
        return {"y": feeds["X"].sum(axis=1)}

    model = mk.FunctionModel(fn, signature)
    rollout = mk.Rollout(Other(model), mk.FunctionModel(fn, signature), policy=HALF, seed=1)
    rollout.run(X[:1])
    shown = figures(Collector(rollout))
    assert any(name == "modelkit_rollout_share" for name, _ in shown)
    with pytest.raises(ValueError, match="two Models are named"):
        Collector(rollout, model)


def test_a_meter_around_a_rollout_is_refused(rollout):
    """It would count the calls of all versions as those of the first."""
    with pytest.raises(UsageError, match=r"wrap=mk\.Meter"):
        mk.Meter(rollout)


@pytest.mark.parametrize("verb", ["promote", "rollback"])
def test_a_process_that_did_not_decide_says_how_it_ended(packages, tmp_path, verb):
    registry = mk.Registry(tmp_path / "models")
    for version in SLOPE:
        registry.register(packages / f"{version}.mk")
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    policy = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), GUARDS)
    with (
        mk.Rollout(registry, "churn", threads=1) as one,
        mk.Rollout(mk.Registry(registry.url), "churn", threads=1) as other,
    ):
        registry.start_rollout("churn", "1.1.0", policy, reason="test")
        one.refresh()
        other.refresh()
        getattr(one, verb)("by one of them")
        other.refresh()
        for rollout in (one, other):
            status = rollout.status()
            assert (status.decision, status.reason) == (verb, "by one of them")
            assert not status.under_way


def test_two_rollouts_of_two_models_in_one_app_take_their_own_losses():
    rollouts = {
        name: mk.Rollout(
            model(at),
            model(at + 1),
            policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), LOSS, tick=0.02),
            seed=at,
        )
        for at, name in ((1, "a"), (3, "b"))
    }
    with Client(mk.App(rollouts)) as client:
        for number in range(2000):
            for name, bad in (("a", 2), ("b", 0)):
                key = f"k{number}"
                body = {"inputs": {"X": ROWS.tolist()}, "key": key}
                answer = client.post(f"/models/{name}/predict", json=body).json()
                loss = 0.9 if answer["outputs"]["who"][0] == bad else 0.1
                client.post(f"/models/{name}/outcome", json={"key": key, "loss": loss})
            if not rollouts["a"].under_way:
                break
        answer = client.post("/models/a/outcome", json={"key": key, "loss": 0})
        assert answer.status == 409
        assert (
            client.post("/models/b/outcome", json={"key": "?", "loss": 0}).json()["left_out"] == 1
        )
    assert rollouts["a"].status().decision == "rollback"
    assert rollouts["b"].status().decision != "rollback"
