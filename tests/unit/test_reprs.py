"""What a public call gives prints on one screen, and says what it holds."""

import numpy as np
import pandas as pd
import pytest
from helpers.places import GOLDEN
from sklearn.linear_model import LogisticRegression

import modelkit as mk

NAMES = (
    "manifest", "signature", "spec", "parity", "file", "model", "placement", "device", "batcher", "stats",
    "batch plan", "meter", "totals", "monitor", "profile", "detector", "report", "alarm", "feature",
    "performance", "history", "explainer", "explain plan", "explanation", "app",
    "scorer", "registry", "version", "entry", "state", "underway", "rollout", "progress", "policy",
    "evaluation", "confusion", "curve", "class", "verdict", "check",
    "question", "cells",
)  # fmt: skip


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """A value of each kind, of a model with many columns and classes that have long names."""
    folder = tmp_path_factory.mktemp("shown")
    r = np.random.default_rng(0)
    columns = [f"the column of number {i}" for i in range(40)]
    X = pd.DataFrame(r.normal(size=(400, 40)), columns=columns)
    y = np.array([f"the class {k}" for k in r.integers(0, 12, 400)])
    for version, c in ("1", 1.0), ("2", 0.1):
        fitted = LogisticRegression(C=c, max_iter=20, tol=0.1).fit(X, y)
        manifest = mk.save(
            fitted, folder / f"{version}.mk", example=X, name="wide", version=version,
            profile=mk.Profile.fit(X), background=X[:20], metadata={"about": "b" * 300},
        )  # fmt: skip
    model, other = (mk.load(folder / f"{version}.mk", device="cpu") for version in "12")
    batcher = mk.Batcher(model)
    monitor = mk.Monitor(batcher)
    meter = mk.Meter(monitor)
    meter.predict(X[:9])
    golden = mk.Profile.from_bytes((GOLDEN / "watched1.npz").read_bytes())
    detector = mk.Detector.resume(golden, (GOLDEN / "detector1.npz").read_bytes())
    report = detector.report()
    explainer = mk.Explainer(model)
    registry = mk.Registry(folder / "models")
    registry.register(folder / "1.mk")
    version = registry.register(folder / "2.mk")
    registry.set_alias("wide", "champion", "1", expected=None, reason="r" * 300)
    policy = mk.RolloutPolicy(stages=(mk.RolloutStage(0.1, calls=9), mk.RolloutStage(1.0)))
    underway = registry.start_rollout("wide", candidate="2", policy=policy, reason="r" * 300)
    rollout = mk.Rollout(registry, "wide")
    evaluation = mk.evaluate(model, X, y)
    verdict = mk.gate(other, champion=model, X=X, y=y, margin=0.05)
    found = (
        manifest, manifest.signature, manifest.signature.inputs[0], manifest.parity, manifest.files[0],
        model, model.placement, mk.devices()[0], batcher, batcher.stats(), batcher.plan, meter,
        meter.totals(), monitor, monitor.detector.profile, detector, report, report.alarms[0],
        report.features[0], report.performance, detector.history, explainer,
        explainer.plan(), explainer.explain(X[:1]), mk.App({"wide": model}),
        mk.Scorer(folder / "1.mk"), registry, version, registry.history("wide")[-1], registry.state("wide"),
        underway, rollout, rollout.status(), policy, evaluation, evaluation.confusion, evaluation.curves[0],
        evaluation.classes[0], verdict, verdict.checks[0],
        max(verdict.checks, key=lambda check: len(check.text)), monitor.detector.profile.features[0],
    )  # fmt: skip
    yield dict(zip(NAMES, found, strict=True))
    for each in (rollout, meter, monitor, batcher, model, other):
        each.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_value_prints_on_one_screen(name, values):
    shown = repr(values[name])
    assert len(shown) <= 500
    assert shown.count("\n") < 12
    assert " object at 0x" not in shown


def test_a_manifest_prints_in_twelve_lines(values):
    lines = str(values["manifest"]).splitlines()
    assert lines[0].startswith("wide 2: (X: float64[batch, 40])")
    assert f"  digest: sha256:{values['manifest'].digest}" in lines
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 102


@pytest.mark.parametrize(
    ("name", "holds"), [("explainer", "wide 1"), ("app", "['wide']"), ("registry", "models")]
)
def test_what_holds_models_says_which(name, holds, values):
    assert holds in repr(values[name])


def test_a_manifest_in_print_drives_no_terminal(tmp_path):
    """The metadata of a package is whatever its author wrote: here, what some terminals obey."""
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    path, rows = tmp_path / "m.mk", np.array([[0.0], [1.0]])
    said = mk.save(model, path, example=rows, metadata={"about": "\x9b2J\u202e"})
    assert "\\x9b2J\\u202e" in str(said)
    assert "\x9b" not in repr(said)


@pytest.mark.parametrize(
    "name", ["model", "batcher", "meter", "monitor", "rollout", "registry", "explainer"]
)
def test_what_an_object_lists_can_be_had(name, values):
    names = [each for each in dir(values[name]) if not each.startswith("_")]
    assert "fit" not in names
    for each in names:
        getattr(values[name], each)
