"""The page of a registry."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.cli import main

R = np.random.default_rng(0)
X = R.normal(size=(400, 2))
Y = X[:, 0] > 0


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Two versions with what was found about each, a rollout, and a reason that is hostile."""
    folder = tmp_path_factory.mktemp("page")
    for version, share in ("1", 0.1), ("2", 1.0):
        path = folder / f"{version}.mk"
        rows = X[: int(200 * share)], Y[: int(200 * share)]
        mk.save(LogisticRegression().fit(*rows), path, example=X, name="signs", version=version)
        mk.attach(path, evaluation=mk.evaluate(path, X[200:], Y[200:]))
    registry = mk.Registry(folder / "models")
    registry.register(folder / "1.mk")
    registry.set_alias("signs", "champion", "1", expected=None, reason="<script>alert(1)</script>")
    verdict = mk.gate(folder / "2.mk", folder / "1.mk", X[200:], Y[200:], margin=0.05)
    registry.register(folder / "2.mk", verdict=verdict)
    report = mk.Detector(mk.Profile.fit(X), clock=lambda: 0.0).test(X + 3)
    registry.keep("signs", "1", "drift.json", report.to_json().encode())
    registry.keep("signs", "1", "notes.txt", b"four")
    policy = mk.RolloutPolicy(stages=(mk.RolloutStage(0.5, calls=9), mk.RolloutStage(1.0)))
    registry.start_rollout("signs", "2", policy, reason="the gate")
    return registry, verdict, report


def test_the_page_holds_what_the_registry_knows(registry, tmp_path, capsys):
    registry, verdict, report = registry
    path = tmp_path / "registry.html"
    assert main(["registry", registry.url, "page", "--output", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    page = path.read_text(encoding="utf-8")
    for found in (
        f"verdict.json: {verdict.decision}",
        "evaluation: 200 rows, accuracy",
        f"drift.json: {report.headline()[:30]}",
        "notes.txt: 4 bytes",
        "signs 2",  # on trial
        "rollout 2",
        "champion is 1",
    ):
        assert found in page
    assert "<script>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_package_that_is_gone_leaves_a_page(registry, tmp_path):
    registry, *_ = registry
    (package,) = [
        p
        for p in tmp_path.parent.parent.glob("**/*.mk")
        if registry.version("signs", "2").digest in p.name
    ]
    data = package.read_bytes()
    package.unlink()
    try:
        assert main(["registry", registry.url, "page", "--output", str(tmp_path / "r.html")]) == 0
    finally:
        package.write_bytes(data)
    assert "the package cannot be read" in (tmp_path / "r.html").read_text(encoding="utf-8")
