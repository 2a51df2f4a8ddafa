"""`modelkit rollout` of a registry: what it prints, what it refuses, and its exit status."""

from __future__ import annotations

import json
import re

import pytest
from helpers.churn import X

import modelkit as mk
from modelkit.cli import main
from modelkit.lifecycle.rollout.status import progress_afar

START = ("start", "churn@1.1.0", "--stage", "0.5:0:20", "--stage", "0.6:1h", "--reason", "test")
ERRORS = ("--guard", "errors:floor=0.05")


@pytest.fixture
def registry(packages, tmp_path):
    registry = mk.Registry(tmp_path / "models")
    for version in ("1.0.0", "1.1.0", "narrow"):
        registry.register(packages / f"{version}.mk")
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return registry


@pytest.fixture
def command(registry, capsys):
    """Runs a command, and gives its status and what it printed, the JSON of it if asked for."""

    def run(*words):
        status = main(["rollout", registry.url, *words])
        out, err = capsys.readouterr()
        return status, json.loads(out) if "--json" in words and not status else out + err

    return run


def test_start_says_how_many_requests_it_may_take(command, registry):
    status, told = command(*START, *ERRORS, "--json")
    assert status == 0
    assert told["candidate"] == "1.1.0"
    assert told["champion"] == "1.0.0"
    assert {need["share"] for need in told["plan"]} == {0.5, 0.6}
    policy = mk.RolloutPolicy.from_json(registry.state("churn").rollout.policy)
    assert policy.stages == (mk.RolloutStage(0.5, calls=20), mk.RolloutStage(0.6, seconds=3600))
    assert policy.guards == (mk.Guard("errors", floor=0.05),)
    _, text = command("status", "churn")
    assert "stage: 1 of 2, share 0.5" in text
    note = "note: no call is counted yet: calls are added up every 10 s, with the first call after that"
    assert note in text


def test_start_shows_little(command):
    """With the usual guards it was 14 lines, one of them for each regression that could be."""
    status, text = command(*START)
    assert status == 0
    lines = text.splitlines()
    assert lines[:3] == [
        "churn 1.1.0 is on trial, generation 3",
        "0.5 of the calls, at least 20 calls of the candidate",
        "0.6 of the calls, at least 3600 s",
    ]
    _, told = command("status", "churn", "--json")
    assert (len(lines), told["under_way"]) == (6, True)
    assert re.match(
        r"refused at share 0.6: an equal candidate, at a rate of .* is promoted after", lines[3]
    )
    assert re.match(
        r"refused at share 0.6: 2 times the rate of 0.01 is rolled back after", lines[4]
    )
    assert lines[5].endswith("models status churn")


@pytest.mark.parametrize("guard", ["disagreement:floor=0.1", "loss:margin=0.1"])
def test_a_rollout_without_a_plan_says_why(command, guard):
    words = ("--stage", "0:1h", "--guard", guard, "--reason", "test")
    _, text = command("start", "churn@1.1.0", *words)
    assert "depends on how much single answers differ" in text
    assert len(text.splitlines()) == 4


def test_a_policy_comes_from_a_file(command, registry, tmp_path):
    policy = mk.RolloutPolicy((mk.RolloutStage(0.25),), (mk.Guard("refused"),), alpha=0.02)
    file = tmp_path / "policy.json"
    file.write_text(policy.to_json(), "utf-8")
    words = ("start", "churn@1.1.0", "--policy", str(file), "--reason", "test")
    assert command(*words, "--alpha", "0.1")[0] == 2
    assert command(*words)[0] == 0
    assert mk.RolloutPolicy.from_json(registry.state("churn").rollout.policy) == policy


def test_the_usual_guards_and_times(command, registry):
    words = ("--stage", "0.05", "--alpha", "0.05", "--horizon", "2d", "--reason", "test")
    assert command("start", "churn@1.1.0", *words)[0] == 0
    policy = mk.RolloutPolicy.from_json(registry.state("churn").rollout.policy)
    assert policy == mk.RolloutPolicy((mk.RolloutStage(0.05),), alpha=0.05, horizon=2 * 86_400.0)


@pytest.mark.parametrize(
    ("words", "told", "status"),
    [
        (("start", "churn", "--stage", "0.5", "--reason", "r"), "lacks a version", 2),
        (("start", "churn@1.1.0", "--stage", "half", "--reason", "r"), "SHARE", 2),
        (("start", "churn@1.1.0", "--stage", "0.5:soon", "--reason", "r"), "not a time", 2),
        (("start", "churn@1.1.0", "--stage", "2", "--reason", "r"), "from 0 to 1", 2),
        (("start", "churn@1.1.0", "--stage", "0.5", "--guard", "loss", "--reason", "r"), "margin", 2),
        (("start", "churn@1.1.0", "--stage", "0.5", "--guard", "errors:best=1", "--reason", "r"), "best", 2),
        (("start", "churn@9", "--stage", "0.5", "--reason", "r"), "does not have churn@9", 1),
        (("start", "churn@narrow", "--stage", "0.5", "--reason", "r"), "in place of the champion", 2),
        (("promote", "churn", "--reason", "r"), "@champion VERSION --expected VERSION --reason", 3),
        (("rollback", "other", "--reason", "r"), "has no model 'other'", 1),
        (("status", "other"), "has no model 'other'", 1),
    ],
)  # fmt: skip
def test_what_it_refuses(command, registry, words, told, status):
    found, text = command(*words)
    assert (found, told in text) == (status, True)
    assert registry.state("churn").rollout is None


def test_conflicts_have_the_status_3(command):
    assert command(*START)[0] == 0
    assert command(*START)[0] == 3
    assert command("rollback", "churn", "--reason", "no")[0] == 0
    status, told = command(*START)
    assert status == 3
    assert "was rolled back: no" in told
    assert command(*START, "--force")[0] == 0


@pytest.mark.parametrize(("verb", "champion"), [("promote", "1.1.0"), ("rollback", "1.0.0")])
def test_a_decision_by_hand(command, registry, verb, champion):
    command(*START)
    status, told = command(verb, "churn", "--reason", "by hand", "--json")
    assert status == 0
    assert told["about"]["decision"] == verb
    assert registry.aliases("churn")["champion"].version == champion
    _, told = command("status", "churn", "--json")
    assert (told["decision"], told["reason"], told["under_way"]) == (verb, "by hand", False)
    assert told["share"] == 0
    _, text = command("status", "churn")
    ended, note, decision, stage, *_ = text.splitlines()
    assert ended == "ended: churn 1.1.0 against churn 1.0.0"
    assert note == f"note: it has ended, and churn {champion} answers everything"
    assert (decision, stage) == (f"decision: {verb}: by hand", "stage: 1 of 2")


def test_moving_the_champion_by_hand_ends_it(command, registry):
    command(*START)
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="by hand")
    _, told = command("status", "churn", "--json")
    assert not told["under_way"]
    assert told["notes"] == ["it has ended, and churn 1.1.0 answers everything"]
    assert (told["decision"], told["reason"]) == ("none", "the champion was set by hand")


def test_status_is_what_the_processes_counted(command, registry, tmp_path):
    """What a process of the rollout sees is what anybody sees who looks at the registry."""
    policy = mk.RolloutPolicy(
        (mk.RolloutStage(0.5, seconds=3600),), (mk.Guard("errors", floor=0.05),), tick=1e-3
    )
    registry.start_rollout("churn", "1.1.0", policy, reason="test")
    with mk.Rollout(registry, "churn", threads=1, poll=1e-3) as rollout:
        # A line over time takes two points.
        while sum(rollout.status().calls) < 50 or len(progress_afar(registry, "churn").points) < 2:
            rollout.run(X[:1])
        seen = rollout.status()
    found = progress_afar(registry, "churn")
    assert sum(found.calls) >= sum(seen.calls)
    assert found.champion == seen.champion
    assert found.candidate == seen.candidate
    page = tmp_path / "status.html"
    assert command("status", "churn", "--output", str(page))[0] == 0
    assert "evidence of errors over time" in page.read_text("utf-8")


def test_the_command_line_takes_the_calls_of_a_key(registry, capsys):
    words = "start churn@1.1.0 --stage 0.5 --key-calls 1 --reason canary"
    assert main(["rollout", registry.url, *words.split()]) == 0
    assert '"key_calls": 1' in registry.state("churn").rollout.policy
    words = "start churn@1.1.0 --policy p.json --key-calls 1 --reason canary"
    assert main(["rollout", registry.url, *words.split()]) == 2
    assert "--key-calls" in capsys.readouterr().err
