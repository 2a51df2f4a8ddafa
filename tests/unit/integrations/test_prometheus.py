"""The Collector: what Models know of themselves, as Prometheus reads it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import sys
import threading
import weakref

import numpy as np
import pytest
from helpers.alerts import alert_names
from helpers.batchers import PLANS, ROOM, SIGNATURE, Gate, double, row
from helpers.client import Client
from helpers.examples import examples
from helpers.places import GOLDEN, ROOT
from helpers.scrapes import (
    OPENMETRICS,
    Named,
    batched,
    counters,
    named,
    new_name,
    samples,
    value,
    versions,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

import modelkit as mk
from modelkit.errors import ClosedError, DeadlineExceeded, Overloaded, SignatureError
from modelkit.integrations.prometheus import Collector
from modelkit.serving.batching.policy import BATCH
from modelkit.serving.batching.scheduler import Scheduler
from modelkit.serving.metering import requests
from modelkit.serving.metering.totals import OUTCOMES


@pytest.fixture
def name():
    return new_name()


def test_the_text_of_a_model_that_was_not_called_is_known(penguins):
    X, _ = penguins
    loaded = mk.load(GOLDEN / "penguins1.mk", device="cpu", threads=1)
    known = Named(loaded, "penguins-golden")
    with loaded, mk.Batcher(known, max_rows=64, plan="learn") as batcher:
        model = mk.Meter(mk.Monitor(batcher, mk.Profile.fit(X)))
        body, content_type = Collector(model).text()
    assert content_type.startswith("text/plain; version=0.0.4")
    text = re.sub(r"(loaded_timestamp_seconds\{.*\}) \S+", r"\1 ...", body.decode())
    text = re.sub(r"(?m)^.*modelkit_http.*\n", "", text)  # other tests count there
    assert text == (GOLDEN / "metrics1.txt").read_text(encoding="utf-8")


def test_each_layer_says_what_it_knows(penguins):
    X, _ = penguins
    loaded = mk.load(GOLDEN / "penguins1.mk", device="cpu", threads=1)
    version = loaded.manifest.version
    with loaded, mk.Batcher(loaded, plan="learn") as batcher:
        monitor = mk.Monitor(batcher, mk.Profile.fit(X))
        model = mk.Meter(monitor)
        collector = Collector(model)
        before = value(collector, "modelkit_calls_total", outcome="ok", version=version)
        for i in range(10):
            model.predict(X[i : i + 3])
        with pytest.raises(SignatureError):
            model.predict(X.drop(columns="sex"))
        rows = value(collector, "modelkit_rows_total", version=version)
        after = value(collector, "modelkit_calls_total", outcome="ok", version=version)
        refused = value(collector, "modelkit_calls_total", outcome="signature", version=version)
        monitored = value(collector, "modelkit_monitored_rows_total", version=version)
        assert (after - before, rows >= 30, refused >= 1, monitored) == (10, True, True, 30)
        assert value(collector, "modelkit_monitor_failures_total") == 0
        stats = batcher.stats()
        assert value(collector, "modelkit_batch_rows_count") == stats.batches
        assert value(collector, "modelkit_batch_rows_sum") == stats.batched
        assert value(collector, "modelkit_batches_total", reason="idle") == stats.released["idle"]
        assert value(collector, "modelkit_queue_limit_rows") == stats.max_queue == 8192
        since = value(collector, "modelkit_loaded_timestamp_seconds")
        assert since == loaded.placement.since


def test_batches_and_the_queue_are_shown_whole(name):
    gate = Gate()
    with batched(name, fn=gate, max_rows=8, plan=PLANS[BATCH]) as batcher:
        collector = Collector(batcher)
        futures = [batcher.submit(row(i)) for i in range(20)]
        try:
            gate.began_one()
            assert 0 < value(collector, "modelkit_queue_rows") == batcher.stats().queued < 20
        finally:
            gate.open()
        for future in futures:
            future.result(timeout=ROOM)
        found = samples(collector)
        stats = batcher.stats()
        labels = (("model", name), ("version", "1.0.0"))
        assert found["modelkit_batch_rows_sum", *labels] == stats.batched == 20
        assert found["modelkit_batch_rows_count", *labels] == stats.batches == len(gate.sizes)
        bounds = [dict(key[1:])["le"] for key in found if key[0] == "modelkit_batch_rows_bucket"]
        assert bounds == ["1.0", "3.0", "7.0", "15.0", "+Inf"]
        assert stats.seconds > 0
        assert sum(stats.latency.values()) == 20


def test_alarms_are_shown_for_the_features_of_the_profile(name):
    rng = np.random.default_rng(0)
    past = rng.normal(size=(2000, 2)).astype(np.float32)
    profile = mk.Profile.fit({"x": past})
    monitor = mk.Monitor(named(name), profile)
    model = mk.Meter(monitor)
    collector = Collector(model)
    features = [feature.name for feature in profile.features]
    shown = [value(collector, "modelkit_drift_alarm", feature=feature) for feature in features]
    assert shown == [0] * len(features)
    moved = past + np.float32([5, 0])
    for start in range(0, 2000, 50):
        model.predict({"x": moved[start : start + 50]})
    assert monitor.detector.alarms
    assert monitor.alarms == monitor.detector.alarms
    alarmed = {alarm.feature for alarm in monitor.alarms}
    for feature in features:
        shown = value(collector, "modelkit_drift_alarm", feature=feature)
        assert shown == (feature in alarmed)
    monitor.detector.rebase(profile, "moved for good")
    assert monitor.alarms
    shown = [value(collector, "modelkit_drift_alarm", feature=feature) for feature in features]
    assert shown == [0] * len(features)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/html, nonsense;;q", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        (f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
    ],
)
def test_the_text_is_the_one_that_was_asked_for(name, accept, content_type):
    meter = mk.Meter(named(name))
    collector = Collector(meter)
    body, got = collector.text(accept)
    assert got.startswith(content_type)
    assert body.endswith(b"# EOF\n") == ("openmetrics" in got)
    assert samples(collector, OPENMETRICS).keys() == samples(collector).keys()


def test_all_outcomes_are_there_from_the_start(name):
    meter = mk.Meter(named(name))
    found = samples(Collector(meter))
    outcomes = {
        dict(key[1:])["outcome"]: number
        for key, number in found.items()
        if key[0] == "modelkit_calls_total"
    }
    assert outcomes == dict.fromkeys(OUTCOMES, 0)


ERRORS = [SignatureError, Overloaded, DeadlineExceeded, ClosedError, ValueError, KeyError]
TEXTS = st.text(max_size=30)


@settings(max_examples=examples(20), deadline=None)
@given(st.integers(0, 2**32 - 1), TEXTS, TEXTS)
def test_what_is_served_makes_no_new_series(seed, key, message):
    name = new_name()
    rng = np.random.default_rng(seed)
    raising = []

    def fn(feeds):
        if raising:
            raise raising.pop()
        return double(feeds)

    profile = mk.Profile.fit({"x": rng.normal(size=(500, 2)).astype(np.float32)})
    with batched(name, fn=fn) as batcher:
        meter = mk.Meter(mk.Monitor(batcher, profile))
        collector = Collector(meter)
        before = samples(collector).keys()
        for _ in range(500):
            rows = rng.normal(size=(rng.integers(0, 3), 2)) * 10.0 ** rng.integers(-9, 9)
            if rng.random() < 0.2:
                raising.append(rng.choice(ERRORS)(f"{message} {rng.integers(1 << 40)}"))
            with contextlib.suppress(mk.errors.ModelkitError, ValueError, KeyError):
                meter.predict({"x": rows.astype(np.float32)}, key=f"{key}{rng.integers(1 << 40)}")
            raising.clear()
        with pytest.raises(SignatureError):
            meter.predict({message: rng.normal(size=(1, 2)), key: 1, "more": 2})
        assert samples(collector).keys() == before


class Bare(mk.Model):
    """A Model without a manifest, which is shown by the name of its class."""

    signature = SIGNATURE

    def _run(self, feeds, outputs, call):
        return double(feeds)


@pytest.mark.parametrize("strange", ['a "b" \\ c', "two\nlines", "Größe 模型 🎈", "a,b={}", "\\n"])
def test_strange_names_are_written_as_they_are(strange):
    meter = mk.Meter(type(strange, (Bare,), {})())
    collector = Collector(meter)
    meter.predict(row(1))
    for accept in ("", OPENMETRICS):
        found = samples(collector, accept)
        labels = (("model", strange), ("version", ""))
        assert found["modelkit_rows_total", *labels] == 1
        assert {dict(key[1:])["model"] for key in found if "http" not in key[0]} == {strange}


# What is replaced, and what is gone.


@pytest.mark.usefixtures("little_garbage")
def test_what_replaces_a_model_is_found_and_the_last_three_stay(name):
    collector = None
    batched_rows = {}
    for version in "123456":
        meter = mk.Meter(batched(name, version))
        collector = collector or Collector(meter)
        for _ in range(int(version)):
            meter.predict(row(1))
        samples(collector)  # what a Batcher has counted is known from the last scrape
        batched_rows[version] = meter.inner.stats().batched
        gone = weakref.ref(meter)
        meter = None
        gc.collect()
        assert gone() is None
    meter = mk.Meter(batched(name, "7"))
    assert versions(collector, "modelkit_rows_total") == {"4", "5", "6", "7"}
    for version in "456":
        assert value(collector, "modelkit_rows_total", version=version) == int(version)
        shown = value(collector, "modelkit_batch_rows_sum", version=version)
        assert shown == batched_rows[version] > 0
    for gauge in ("model_ready", "model_info", "queue_rows", "queue_limit_rows"):
        assert versions(collector, f"modelkit_{gauge}") == {"7"}
    del meter


@pytest.mark.usefixtures("little_garbage")
def test_no_counter_goes_back_when_a_version_is_loaded_again(name):
    meter = mk.Meter(batched(name))
    collector = Collector(meter)
    before = samples(collector)
    batched_rows = 0
    for _ in range(5):
        for _ in range(5):
            meter.predict(row(1))
        samples(collector)
        batched_rows += meter.inner.stats().batched
        meter = mk.Meter(batched(name))
        gc.collect()
        after = samples(collector)
        assert after.keys() == before.keys()
        assert all(after[key] >= before[key] for key in counters(before))
        before = after
    assert value(collector, "modelkit_rows_total") == 25
    assert value(collector, "modelkit_batch_rows_sum") == batched_rows > 0


def test_two_packages_of_one_version_are_counted_together(name):
    one = mk.Meter(named(name, digest="one"))
    other = mk.Meter(named(name, digest="other"))
    collector = Collector(one)
    one.predict(row(1))
    other.predict(np.ones((2, 2), np.float32))
    assert value(collector, "modelkit_rows_total") == 3
    infos = [dict(key[1:])["digest"] for key in samples(collector) if "_info" in key[0]]
    assert sorted(infos) == ["one", "other"]


@pytest.mark.usefixtures("little_garbage")
def test_a_model_is_not_ready_when_none_of_its_name_is_open(name):
    old = mk.Meter(batched(name, "1"))
    collector = Collector(old)
    assert value(collector, "modelkit_model_ready", version="1") == 1
    new = mk.Meter(batched(name, "2"))
    assert value(collector, "modelkit_model_ready", version="2") == 1
    old.inner.close()  # replaced: the last of its calls was answered
    assert versions(collector, "modelkit_model_ready") == {"2"}
    assert versions(collector, "modelkit_rows_total") == {"1", "2"}
    new.base.close()
    assert value(collector, "modelkit_model_ready", version="2") == 0
    del new
    gc.collect()
    assert value(collector, "modelkit_model_ready") == 0
    assert value(collector, "modelkit_model_info") is None


@pytest.mark.usefixtures("little_garbage")
def test_a_collector_keeps_no_model_alive(name):
    meter = mk.Meter(
        mk.Monitor(batched(name), mk.Profile.fit({"x": np.ones((200, 2), np.float32)}))
    )
    collector = Collector(meter)
    samples(collector)
    layers = [weakref.ref(layer) for layer in (meter, meter.inner, meter.inner.inner)]
    del meter
    gc.collect()
    assert [layer() for layer in layers] == [None] * 3
    assert value(collector, "modelkit_model_ready") == 0


def test_a_model_without_a_meter_is_shown_too(name):
    with batched(name) as batcher:
        collector = Collector(batcher)
        assert value(collector, "modelkit_model_ready") == 1
        assert value(collector, "modelkit_queue_rows") == 0
        assert value(collector, "modelkit_rows_total") is None


# What is refused.


def test_two_models_of_one_name_clash(name):
    meter = mk.Meter(named(name))
    with pytest.raises(ValueError, match=f"two Models are named '{name}'"):
        Collector(meter, named(name, "2"))
    Collector(meter, meter)
    Collector(meter, named(f"{name}-other"))


@pytest.mark.parametrize("wrong", [{"a": 1}, [1], "name", None, mk.Meter])
def test_what_is_no_model_is_refused(wrong):
    with pytest.raises(TypeError, match=r"takes Models, not \w+; .*\*models.values"):
        Collector(wrong)


def test_a_registry_refuses_a_second_collector(name):
    registry = CollectorRegistry()
    meter = mk.Meter(named(name))
    first = Collector(meter)
    registry.register(first)
    with pytest.raises(ValueError, match="modelkit_calls"):
        registry.register(Collector())
    registry.unregister(first)
    registry.register(Collector(meter))


def test_registering_does_not_scrape(name, monkeypatch):
    asked = []
    stats = Scheduler.stats
    monkeypatch.setattr(Scheduler, "stats", lambda *args: asked.append(args) or stats(*args))
    with batched(name) as batcher:
        collector = Collector(batcher)
        assert all(not family.samples for family in collector.describe())
        CollectorRegistry(auto_describe=True).register(collector)
        assert not asked
        samples(collector)
        assert len(asked) == 1


def test_a_registry_knows_which_names_it_has(name):
    registry = CollectorRegistry()
    meter = mk.Meter(named(name))
    registry.register(Collector(meter))
    some = registry.restricted_registry(["modelkit_model_ready"])
    assert [family.name for family in some.collect()] == ["modelkit_model_ready"]
    assert (
        registry.get_sample_value("modelkit_model_ready", {"model": name, "version": "1.0.0"}) == 1
    )


# Threads, loops, processes.


def test_scrapes_side_by_side_never_go_back_while_models_are_replaced(name):
    current = [mk.Meter(batched(name))]
    collector = Collector(current[0])
    over = threading.Event()
    problems = []

    def scrape():
        before = {}
        while not over.is_set():
            now = samples(collector)
            problems.extend(key for key in counters(before) if now.get(key, -1) < before[key])
            before = now

    def call():
        while not over.is_set():
            current[0].predict(row(1))

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=target) for target in (scrape, scrape, call, call)]
    try:
        for each in threads:
            each.start()
        for _ in range(20):
            current[0] = mk.Meter(batched(name))
            for _ in range(20):
                current[0].predict(row(1))
    finally:
        over.set()
        for each in threads:
            each.join()
        sys.setswitchinterval(switch)
    assert problems == []


def test_calls_of_event_loops_are_shown(name):
    async def ask():
        await asyncio.gather(*(meter.apredict(row(i)) for i in range(50)))

    with batched(name) as batcher:
        meter = mk.Meter(batcher)
        collector = Collector(meter)
        asyncio.run(ask())
        assert value(collector, "modelkit_calls_total", outcome="ok") == 50
        assert value(collector, "modelkit_batch_rows_sum") == 50


def test_http_requests_are_shown_by_route():
    route = f"/test/{new_name()}"
    collector = Collector()
    before = value(collector, "modelkit_http_in_flight")
    requests.begun()
    assert value(collector, "modelkit_http_in_flight") == before + 1
    requests.ended(route, 422, 0.003)
    found = samples(collector)
    assert found["modelkit_http_requests_total", ("code", "422"), ("route", route)] == 1
    assert found["modelkit_http_request_duration_seconds_sum", ("route", route)] == 0.003
    up_to = ("le", "0.005"), ("route", route)
    assert found["modelkit_http_request_duration_seconds_bucket", *up_to] == 1
    assert value(collector, "modelkit_http_in_flight") == before


def test_an_app_shows_its_requests_and_no_path_that_a_client_chose(name):
    meter = mk.Meter(named(name))
    app = mk.App({name: meter}, metrics=Collector(meter).text)
    rng = np.random.default_rng(0)
    verbs = ("predict", "explain", "infer", "ready", "versions/1.0.0/infer", "%00", "../..")
    with Client(app) as client:
        statuses = set()
        for _ in range(2000):
            start = rng.choice(["/models/", "/v2/models/", "/", "//"])
            path = f"{start}{rng.integers(1 << 40)}/{rng.choice(verbs)}"
            method = rng.choice(["GET", "POST", "PUT", "HEAD", "BREW"])
            statuses.add(client.request(method, path, body=b"{}").status)
        assert statuses <= {400, 404, 405}
        before = client.get("/metrics").body.decode()
        app.replace(name, mk.Meter(named(name, "2.0.0")))
        after = client.get("/metrics").body.decode()
    routes = {*re.findall(r'route="(.*?)"', before)}
    assert "unmatched" in routes
    assert not any(re.search(r"\d{4,}", route) for route in routes)
    assert f'modelkit_model_ready{{model="{name}",version="2.0.0"}} 1.0' in after


def test_the_page_has_every_family_and_every_alert():
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    for family in Collector().describe():
        total = "_total" if family.type == "counter" else ""
        shown = re.search(
            rf"^\| `{family.name}{total}(\{{.*\}})?` \| {family.type} ", page, re.MULTILINE
        )
        assert shown, family.name
    alerts = (ROOT / "docs" / "reference" / "alerts.md").read_text(encoding="utf-8")
    assert re.findall("^## (Modelkit.*)$", alerts, re.MULTILINE) == alert_names()
