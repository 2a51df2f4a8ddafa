"""`modelkit registry`: what it prints, what it refuses, and its exit status."""

from __future__ import annotations

import json
from functools import partial

import pytest
from helpers.churn import VERSIONS, registry_at

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import NotFound


@pytest.fixture
def registry(tmp_path, packages):
    return registry_at(tmp_path / "models", packages)


def modelkit(capsys, *arguments):
    """The status, the output and the errors of a command."""
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, printed.out.strip(), printed.err.strip()


def test_the_command_line_goes_the_same_way(tmp_path, packages, capsys):
    where = tmp_path / "models"
    ask = partial(modelkit, capsys, "registry", where)
    for version in VERSIONS:
        status, out, _ = ask("register", packages / f"{version}.mk", "--parent", "0.9", "--json")
        assert status == 0
        assert json.loads(out)["version"] == version
    alias = ("alias", "churn@champion")
    set_to = (*alias, "1.0.0", "--expected", "none", "--reason", "first")
    assert ask(*set_to) == (0, "churn@champion is 1.0.0, generation 1", "")
    status, _, err = ask(*set_to)
    assert (status, "first" in err) == (3, True)
    assert ask(*alias, "1.1.0", "--expected", "#1", "--reason", "gate")[0] == 0
    assert ask("list")[1] == "churn: champion 1.1.0; versions 1.0.0, 1.1.0"
    assert ask("retire", "churn@1.0.0", "--reason", "old")[0] == 0
    first, second = json.loads(ask("list", "churn", "--json")[1])
    assert (first["aliases"], first["retired"]) == ([], "old")
    assert (second["aliases"], second["retired"]) == (["champion"], None)
    first, second = ask("list", "churn")[1].splitlines()
    assert (first.endswith("; retired: old"), second.endswith("; champion")) == (True, True)
    assert json.loads(ask("show", "churn@champion", "--json")[1])["aliases"] == ["champion"]
    assert "before 1.0.0: gate" in ask("history", "churn@champion")[1]
    status, path, _ = ask("fetch", "churn@champion", "--output", tmp_path / "here")
    assert mk.inspect(path).version == "1.1.0"
    for expected, wrong in (
        (2, ("show", "churn")),
        (2, (*alias, "1.0.0", "--expected", "#x", "--reason", "r")),
        (2, (*alias, "1.0.0", "--reason", "r")),
        (1, ("show", "churn@9")),
        (1, ("register", tmp_path / "absent.mk")),
    ):
        status, _, err = ask(*wrong)
        assert (status, err[:10]) == (expected, "modelkit: ")


WORDS = (
    ("list",),
    ("list", "churn"),
    ("show", "churn@champion"),
    ("history", "churn"),
    ("fetch", "churn@champion"),
    ("alias", "churn@champion", "1.0.0", "--expected", "none", "--reason", "r"),
    ("retire", "churn@1.0.0", "--reason", "r"),
    ("keep", "churn@1.0.0", __file__),
)


@pytest.mark.parametrize("words", WORDS)
def test_where_there_is_no_registry_the_command_line_says_so(tmp_path, capsys, words):
    there = tmp_path / "modles"
    status, out, err = modelkit(capsys, "registry", there, *words)
    assert (status, out) == (1, "")
    assert err.startswith(f"modelkit: there is no registry at {there}: no package was ever")
    with pytest.raises(NotFound, match="there is no registry at"):
        mk.Rollout(mk.Registry(there), "churn")
    assert not there.exists()  # who only reads makes none


def test_the_command_line_retires_keeps_and_forces(registry, tmp_path, capsys):
    ask = partial(modelkit, capsys, "registry", registry.url)
    alias = ("alias", "churn@champion", "1.1.0", "--expected", "1.0.0", "--reason", "r")
    assert ask("alias", "churn@champion", "1.0.0", "--expected", "none", "--reason", "r")[0] == 0
    policy = mk.RolloutPolicy((mk.RolloutStage(0.5),))
    underway = registry.start_rollout("churn", "1.1.0", policy, reason="try")
    registry.decide_rollout("churn", underway, "rollback", reason="it was bad")
    status, _, err = ask(*alias)
    assert (status, "was rolled back: it was bad" in err) == (3, True)
    assert ask(*alias, "--force")[1] == "churn@champion is 1.1.0, generation 4"
    retire = ("retire", "churn@1.0.0", "--reason", "old")
    assert json.loads(ask(*retire, "--json")[1]) == {"name": "churn", "retired": "1.0.0"}
    assert registry.state("churn").retired == {"1.0.0": "old"}
    status, _, err = ask("retire", "churn@1.1.0", "--reason", "r")
    assert (status, "let the alias name another version first" in err) == (3, True)
    assert ask("retire", "churn@champion", "--reason", "r")[0] == 2
    report = tmp_path / "report.json"
    report.write_text("{}")
    kept = {"name": "churn", "version": "1.1.0", "key": "report.json"}
    assert json.loads(ask("keep", "churn@champion", report, "--json")[1]) == kept
    assert registry.kept("churn", "1.1.0", "report.json") == b"{}"
    assert ask("keep", "churn@1.1.0", report, "--key", "r")[1] == "r is kept beside churn 1.1.0"
    report.write_text("[]")
    status, _, err = ask("keep", "churn@champion", report)
    assert (status, "never changes" in err) == (3, True)
    for wrong in (("keep", "churn@9", report), ("keep", "churn@1.1.0", tmp_path / "absent")):
        status, _, err = ask(*wrong)
        assert (status, err[:10]) == (1, "modelkit: ")
