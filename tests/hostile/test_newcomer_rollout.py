"""What somebody who knew other registries and rollouts stumbled over."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.buckets import moto
from sklearn.linear_model import LogisticRegression

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import NotFound, RegistryError, RolloutError
from modelkit.store.bucket import Bucket

X = np.random.default_rng(0).normal(size=(60, 2))
Y = (X[:, 0] > 0).astype(int)
ERRORS = [mk.Guard("errors")]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        model = LogisticRegression(C=float(version.replace(".", ""))).fit(X, Y)
        mk.save(model, folder / f"{version}.mk", example=X, name="churn", version=version)
    return folder


@pytest.fixture
def two(packages):
    return [mk.load(packages / f"{version}.mk", threads=1) for version in ("1.0.0", "1.1.0")]


@pytest.fixture
def registry(packages, tmp_path):
    found = mk.Registry(tmp_path / "models")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        found.register(packages / f"{version}.mk", parents=["0.9.0"])
    found.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    return found


def policy(**options):
    return mk.RolloutPolicy((mk.RolloutStage(0.5),), **options)


# How it ended.


def test_status_says_that_somebody_went_back_after_a_promotion(two):
    rollout = mk.Rollout(*two, share=0.5)
    rollout.promote("it looks well")
    assert "churn 1.1.0 answers everything" in str(rollout.status())
    rollout.rollback("orders went down")
    status = rollout.status()
    assert (status.decision, status.reason) == ("rollback", "orders went down")
    assert "churn 1.0.0 answers everything" in str(status)


@pytest.mark.parametrize("decision", ["rollback", "promote"])
def test_a_process_knows_what_somebody_else_decided(registry, decision):
    with mk.Rollout(registry, "churn", poll=1000) as rollout:
        underway = registry.start_rollout("churn", "1.1.0", policy(), reason="canary")
        rollout.refresh()
        registry.decide_rollout("churn", underway, decision, reason="a person says so")
        rollout.refresh()
        status = rollout.status()
        assert (status.decision, status.reason) == (decision, "a person says so")
        assert not status.under_way
        answers = "1.1.0" if decision == "promote" else "1.0.0"
        assert f"churn {answers} answers everything" in str(status)


def test_a_process_says_who_answers_when_the_champion_was_set_by_hand(registry):
    with mk.Rollout(registry, "churn", poll=1000) as rollout:
        registry.start_rollout("churn", "1.1.0", policy(), reason="canary")
        rollout.refresh()
        registry.set_alias("churn", "champion", "1.2.0", expected="1.0.0", reason="hot fix")
        rollout.refresh()
        assert "it has ended, and churn 1.2.0 answers everything" in str(rollout.status())


# Keys.


def run_keys(rollout, count, calls=1):
    for number in range(count):
        for _ in range(calls):
            rollout.predict(X[:1], key=f"customer-{number}")


def test_a_key_that_calls_seldom_counts_for_no_promotion_and_the_status_says_so(two):
    rollout = mk.Rollout(*two, share=0.5, guards=ERRORS, tick=1e-9, seed=0)
    run_keys(rollout, 100)
    told = "a key counts for a promotion once it has had 20 calls: 0 of 100 keys have"
    assert told in rollout.status().missing
    run_keys(rollout, 30, calls=19)
    assert any("30 of 100 keys have" in what for what in rollout.status().missing)


def test_customers_who_call_once_can_promote(two):
    guards = [mk.Guard("errors", floor=0.2)]
    rollout = mk.Rollout(*two, share=0.5, guards=guards, tick=1e-9, key_calls=1, seed=0)
    run_keys(rollout, 400)
    assert rollout.status().decision == "promote"


@pytest.mark.parametrize("key", [7, 7.0, b"seven", np.int64(7)])
def test_a_key_that_is_no_text_is_refused_before_a_rollout_begins(two, key):
    with pytest.raises(TypeError, match=r"str\(customer\)"):
        two[0].predict(X[:1], key=key)


def test_the_command_line_takes_the_calls_of_a_key(registry, capsys):
    words = "start churn@1.1.0 --stage 0.5 --key-calls 1 --reason canary"
    assert main(["rollout", registry.url, *words.split()]) == 0
    assert '"key_calls": 1' in registry.state("churn").rollout.policy
    words = "start churn@1.2.0 --policy p.json --key-calls 1 --reason canary"
    assert main(["rollout", registry.url, *words.split()]) == 2
    assert "--key-calls" in capsys.readouterr().err


def test_a_rollout_without_traffic_gives_the_candidate_no_larger_share(two):
    stages = [mk.RolloutStage(share, seconds=1e-9) for share in (0.01, 0.05, 0.5)]
    rollout = mk.Rollout(*two, stages=stages, tick=1e-9)
    for _ in range(4):
        status = rollout.status()
    assert (status.decision, status.share) == ("continue", 0.01)
    assert status.missing == ("the candidate has had no call in this stage",)


# Options.


def test_options_that_a_rollout_does_not_have(two, registry):
    with pytest.raises(TypeError, match=r"takes no shares; it takes share, stages"):
        mk.Rollout(*two, shares=0.1)
    with pytest.raises(TypeError, match=r"takes no share: .*start_rollout\('churn'"):
        mk.Rollout(registry, "churn", share=0.1)
    with pytest.raises(TypeError, match=r"\[mk\.Guard\('errors'\)\]"):
        mk.Rollout(*two, share=0.1, guards=mk.Guard("errors"))
    with pytest.raises(RolloutError, match=r"such as mk.Guard\('errors'\), not 'slow'"):
        mk.Rollout(*two, share=0.1, guards=["slow"])


def test_one_call_is_no_evidence_for_a_larger_share(two):
    with pytest.raises(
        RolloutError, match=r"stage 1 of 3 .* mk\.RolloutStage\(0\.01, seconds=3600"
    ):
        mk.Rollout(*two, stages=[0.01, 0.05, 0.5])
    assert mk.Rollout(*two, stages=[mk.RolloutStage(0.05, units=9), 0.5]).status().stages == 2


@pytest.mark.parametrize("share", [1e-9, 0.3, 1 - 1e-9])
def test_any_share_that_is_not_refused_has_a_plan(two, share):
    rollout = mk.Rollout(*two, share=share, tick=1e-9)
    assert len(rollout.plan().needs) == 16
    run_keys(rollout, 20)
    rollout.status()
    assert rollout.failures == 0
    with pytest.raises(RolloutError, match=r"0\.9999999999999999 leaves less than"):
        mk.Rollout(*two, share=1 - 1e-16)


def test_a_plan_names_the_rate_it_assumes(two):
    plan = str(mk.Rollout(*two, share=0.5, guards=[mk.Guard("slow")]).plan(risks=[2, 5]))
    assert "2 times the rate of 0.5 is rolled back after about" in plan
    assert "5 times the rate of 0.5 is more than every call" in plan
    assert "an equal candidate, at a rate of 0.5, is promoted after about" in plan


# The registry.


def test_a_model_is_not_a_package(registry):
    with pytest.raises(TypeError, match=r"not LogisticRegression; mk\.save writes"):
        registry.register(LogisticRegression())


def test_a_name_that_is_misspelt(registry, capsys):
    with pytest.raises(NotFound, match="has no model 'chrun'; it has: churn"):
        registry.load("chrun", "champion")
    assert main(["registry", registry.url, "history", "chrun"]) == 1
    assert "has no model 'chrun'; it has: churn" in capsys.readouterr().err


def test_to_register_again_needs_no_parents_and_says_what_differs(registry, packages):
    assert registry.register(packages / "1.0.0.mk").parents == ("0.9.0",)
    with pytest.raises(mk.errors.Conflict, match=r"with parents \('0.9.0',\), not \('0.8.0',\)"):
        registry.register(packages / "1.0.0.mk", parents=["0.8.0"])


def test_a_bucket_that_is_not_there_is_told_without_a_dump(tmp_path, monkeypatch, capsys):
    with moto(tmp_path) as (_, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(RegistryError, match=r"nowhere/models cannot be asked.*NoSuchBucket"):
            mk.Registry("s3://nowhere/models").names()
        for ask in (lambda bucket: bucket.create("a", b"b"), lambda bucket: bucket.names("a")):
            with pytest.raises(RegistryError, match="NoSuchBucket"):
                ask(Bucket("s3://nowhere/models"))
        assert main(["registry", "s3://nowhere/models", "list"]) == 1
        told = capsys.readouterr().err
        assert "NoSuchBucket" in told
        assert "Debug source" not in told
