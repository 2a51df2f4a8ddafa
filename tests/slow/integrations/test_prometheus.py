"""A Prometheus scrapes models under load; its answers fill the dashboard, and its alerts reach an Alertmanager."""

import asyncio
import json
import shutil
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from math import isnan

import numpy as np
import pytest
import yaml
from helpers.alerts import rules_of
from helpers.apps import ask, uvicorn_of
from helpers.programs import listening, needs, until
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from sklearn.linear_model import LinearRegression

import modelkit as mk
from modelkit.errors import SignatureError
from modelkit.integrations.grafana import Objectives, dashboard
from modelkit.integrations.prometheus import Collector

SCRAPES = 20  # one a second
FIRING = {
    ("ModelkitDrift", "watched"),
    ("ModelkitErrorsFast", "FunctionModel"),
    ("ModelkitErrorsSlow", "FunctionModel"),
    ("ModelkitNotReady", "breast-cancer"),
    ("ModelkitOnCpu", "watched"),
    ("ModelkitRowsRefused", "watched"),
}
ELSEWHERE = ["qnn", "cpu"]  # no runtime that runs these tests knows the first
JSON = {"Content-Type": "application/json"}
ONE_ROW = np.ones((1, 1), np.float32)
SCRAPING = {
    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
    "rule_files": ["alerts.yml"],
}


def answer_of(url, path, **asked):
    """The JSON that an API answers with."""
    port = urllib.parse.urlsplit(url).port
    status, _, body = ask(port, "GET", f"{path}?{urllib.parse.urlencode(asked)}")
    assert status == 200, body
    return json.loads(body)


def answers(prometheus, expr):
    """The numbers that an expression has now."""
    found = answer_of(prometheus, "/api/v1/query", query=expr)
    numbers = [float(series["value"][1]) for series in found["data"]["result"]]
    return [number for number in numbers if not isnan(number)]


@contextmanager
def busy(work):
    """Repeat some work in a thread until the block ends; what it gives raises if the work failed."""
    over = threading.Event()

    def repeat():
        while not over.wait(0.02):  # a load, and not all of two cores
            work()

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(repeat)
        try:
            yield lambda: working.done() and working.result()
        finally:
            over.set()
        working.result()


@contextmanager
def serving(model, *others):
    """The port of an App that serves a model, and shows it, other Models and the process."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(Collector(model, *others))

    def figures(accept):
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    with uvicorn_of(mk.App({"penguins": model}, metrics=figures)) as server:
        yield server.port


@contextmanager
def alertmanager(folder):
    """The URL of an Alertmanager that sends nothing anywhere."""
    config = {
        "route": {"receiver": "nobody", "group_wait": "1s"},
        "receivers": [{"name": "nobody"}],
    }
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    command = (
        shutil.which("prometheus-alertmanager"),
        f"--config.file={path}",
        f"--storage.path={folder / 'alerts'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
    )
    with listening(folder / "alertmanager.log", *command) as url:
        yield url


@contextmanager
def prometheus(folder, port, alerts):
    """The URL of a Prometheus with our rules; each alert fires within a second, not within minutes."""
    document = rules_of(Objectives(p99=30.0))  # a busy machine is no reason for an alert here
    for rule in document["groups"][1]["rules"]:
        rule["for"] = "1s"
    (folder / "alerts.yml").write_text(yaml.safe_dump(document))
    config = SCRAPING | {
        "scrape_configs": [
            {"job_name": "web", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alerts]}]}]},
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    command = (
        shutil.which("prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    )
    with listening(folder / "prometheus.log", *command) as url:
        yield url


def queries():
    """Every query of the dashboard, as Grafana would ask it with all models chosen."""
    for shown in json.loads(dashboard())["panels"]:
        for panel in [shown, *shown.get("panels", [])]:
            for target in panel.get("targets", []):
                expr = target["expr"].replace("$__rate_interval", "5s")
                yield panel["title"], expr.replace("$model", ".*").replace("$version", ".*")


@pytest.fixture
def watched_mk(pipeline, penguins, tmp_path):
    path = tmp_path / "watched.mk"
    mk.save(
        pipeline,
        path,
        example=penguins[0],
        name="watched",  # which no other test of this process counts
        version="1.0.0",
        profile=mk.Profile.fit(penguins[0]),
    )
    return path


@contextmanager
def trying(folder):
    """A Rollout of two versions, which goes on for as long as the test."""
    X = np.arange(40.0).reshape(20, 2)
    with ExitStack() as stack:
        arms = []
        for version in ("1.0.0", "1.1.0"):
            path = folder / f"trial-{version}.mk"
            fitted = LinearRegression().fit(X, X[:, 0])
            mk.save(fitted, path, example=X, name="trial", version=version)
            arms.append(mk.Meter(stack.enter_context(mk.load(path))))
        rollout = mk.Rollout(
            *arms, policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), [mk.Guard("errors")]), seed=0
        )
        yield stack.enter_context(rollout)


def work_on(model, failing, rollout, rows, port):
    """A round of calls: of a thread, of an event loop and over HTTP; rows that drifted, refused rows, and failures."""
    drifted = rows.assign(body_mass_g=3 * rows["body_mass_g"])
    one_row = json.dumps({"rows": json.loads(rows[:1].to_json(orient="records"))})

    async def together():
        await asyncio.gather(*(model.apredict(drifted[i : i + 1]) for i in range(32)))

    def round_of_calls():
        model.predict(drifted[:64])
        asyncio.run(together())
        for _ in range(4):
            with pytest.raises(SignatureError):
                model.predict(rows.drop(columns="island"))
        rollout.predict(np.ones((1, 2)))
        with pytest.raises(ZeroDivisionError):
            failing.predict(ONE_ROW)
        assert ask(port, "POST", "/models/penguins/predict", one_row, JSON)[0] == 200
        assert ask(port, "POST", "/models/nobody/predict", one_row, JSON)[0] == 404

    return round_of_calls


def fail(feeds):
    raise ZeroDivisionError("it always fails")


@needs("prometheus", "prometheus-alertmanager")
def test_a_prometheus_fills_the_dashboard_and_its_alerts_arrive(
    watched_mk, boosting_mk, penguins, tmp_path
):
    signature = mk.Signature(
        (mk.TensorSpec("x", "float32", ("n", 1)),), (mk.TensorSpec("y", "float32", ("n", 1)),)
    )
    failing = mk.Meter(mk.FunctionModel(fail, signature))
    closed = mk.load(boosting_mk)
    closed.close()
    with (
        mk.load(watched_mk, threads=1, device=ELSEWHERE) as loaded,
        mk.Batcher(loaded) as batcher,
        trying(tmp_path) as rollout,
        serving(model := mk.Meter(mk.Monitor(batcher)), failing, closed, rollout) as port,
        alertmanager(tmp_path) as alerts,
        prometheus(tmp_path, port, urllib.parse.urlsplit(alerts).netloc) as asked,
    ):
        with busy(work_on(model, failing, rollout, penguins[0], port)) as failed:
            scraped = f"count_over_time(up[1h]) >= {SCRAPES}"
            until(lambda: failed() or answers(asked, scraped), "scrapes")
            for title, expr in queries():
                until(lambda expr=expr: failed() or answers(asked, expr), f"{title}: {expr}")
            until(lambda: failed() or arrived(alerts) == FIRING, "alerts")
        counted = model.totals()
        calls = 'modelkit_calls_total{model="watched", outcome="%s"}'
        for outcome, number in counted.calls.items():
            until(lambda o=outcome, n=number: answers(asked, calls % o) == [n], outcome)
        rows = 'modelkit_rows_total{model="watched"}'
        until(lambda: answers(asked, rows) == [counted.rows], "rows")
        assert counted.calls["ok"] > 0


def arrived(alerts):
    """The alerts that an Alertmanager has and the models they are of; each links to its section."""
    found = set()
    for alert in answer_of(alerts, "/api/v2/alerts"):
        labels = alert["labels"]
        said = alert["annotations"]
        assert said["runbook_url"].endswith(f"#{labels['alertname'].lower()}")
        assert said["summary"].startswith(labels["model"])
        found.add((labels["alertname"], labels["model"]))
    return found
