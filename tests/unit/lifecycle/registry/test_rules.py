"""An alias moves by the Verdict on what it names, and by no other."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from helpers.churn import VERSIONS, Record
from helpers.judged import judged

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import Conflict, NotFound, RegistryError, UsageError


def test_an_alias_moves_by_a_verdict_on_what_it_named(judged_place, judged_rows):
    registry, candidate, _ = judged_place
    verdict = judged(registry, candidate, judged_rows)
    assert (verdict.decision, verdict.alias, verdict.generation) == ("promote", "champion", 1)
    release = registry.register(candidate, verdict=verdict)
    assert mk.Verdict.from_json(registry.kept("churn", "1.1.0", "verdict.json").decode()) == verdict
    now = registry.set_alias(
        "churn", "champion", "1.1.0", expected=1, reason="gate", verdict=verdict
    )
    assert now.version == "1.1.0"
    assert registry.history("churn")[-1].about == {"verdict": release.verdict}


def test_a_verdict_is_added_once_by_registering_again(judged_place, judged_rows, tmp_path, capsys):
    registry, candidate, _ = judged_place
    plain = registry.register(candidate, parents=["1.0.0"])
    verdict = judged(registry, "registry:churn@1.1.0", judged_rows)
    with pytest.raises(RegistryError, match="the verdict is about the model"):
        registry.register(registry.fetch("churn", "champion"), verdict=verdict)
    file = tmp_path / "verdict.json"
    file.write_text(verdict.to_json(), "utf-8")
    for _ in range(2):  # the second time changes nothing
        assert (
            main(["registry", registry.url, "register", str(candidate), "--verdict", str(file)])
            == 0
        )
    capsys.readouterr()
    release = registry.version("churn", "1.1.0")
    assert replace(release, verdict="") == plain
    assert registry.kept("churn", "1.1.0", "verdict.json") == verdict.to_json().encode()
    assert registry.register(candidate) == release == registry.versions("churn")[-1]
    with pytest.raises(Conflict, match="is registered with verdict"):
        registry.register(candidate, verdict=replace(verdict, seed=9))
    assert registry.version("churn", "1.1.0") == release


def test_an_alias_moves_by_no_other_verdict(judged_place, judged_rows):
    registry, candidate, other = judged_place
    verdict = judged(registry, candidate, judged_rows)
    registry.register(candidate)
    lone = mk.gate(candidate, registry.fetch("churn", "1.0.0"), *judged_rows, margin=0.03)
    inconclusive = judged(registry, candidate, judged_rows, margin=0)
    with mk.load(other) as model:
        assert model.manifest.model_digest == verdict.candidate_digest  # other, but equal, versions
    strange = replace(verdict, candidate_digest="0" * 64)
    for wrong, message in (
        (inconclusive, "'inconclusive', not 'promote'"),
        (strange, "is about the model 000000000000"),
        (lone, "a champion of no alias"),
        (replace(verdict, alias="staging"), "judged the alias 'staging'"),
    ):
        with pytest.raises(RegistryError, match=message):
            registry.set_alias(
                "churn", "champion", "1.1.0", expected=1, reason="gate", verdict=wrong
            )
    for stale in (replace(verdict, generation=7), replace(verdict, champion_digest="0" * 64)):
        with pytest.raises(Conflict, match="gate again"):
            registry.set_alias(
                "churn", "champion", "1.1.0", expected=1, reason="gate", verdict=stale
            )
    assert registry.aliases("churn")["champion"].version == "1.0.0"
    assert registry.generation("churn") == 1


def test_a_champion_that_was_set_to_another_version_and_back_is_judged_again(
    judged_place, judged_rows
):
    registry, candidate, _ = judged_place
    verdict = judged(registry, candidate, judged_rows)
    registry.register(candidate)
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="by hand")
    registry.set_alias("churn", "champion", "1.0.0", expected="1.1.0", reason="and back")
    with pytest.raises(Conflict, match="generation 3, and the verdict judged"):
        registry.set_alias(
            "churn", "champion", "1.1.0", expected="1.0.0", reason="gate", verdict=verdict
        )


def test_a_rollout_begins_by_a_verdict_too(judged_place, judged_rows):
    registry, candidate, _ = judged_place
    verdict = judged(registry, candidate, judged_rows)
    registry.register(candidate)
    policy = mk.RolloutPolicy(stages=(mk.RolloutStage(share=0.1),))
    stale = replace(verdict, generation=9)
    with pytest.raises(Conflict, match="gate again"):
        registry.start_rollout("churn", "1.1.0", policy, reason="gate", verdict=stale)
    registry.start_rollout("churn", "1.1.0", policy, reason="gate", verdict=verdict)
    assert "verdict" in registry.history("churn")[-1].about


def test_a_verdict_belongs_to_its_release(tmp_path, churn_packages):
    registry = mk.Registry(tmp_path / "models")
    # Its writer died before it made the release.
    digest = hashlib.sha256(b'{"a": 1}').hexdigest()
    registry._store.create(f"blobs/sha256/{digest}.verdict.json", b'{"a": 1}')
    model = mk.inspect(churn_packages / "1.0.0.mk").model_digest
    release = registry.register(churn_packages / "1.0.0.mk", verdict=Record('{"b": 2}', model))
    assert registry.kept("churn", "1.0.0", "verdict.json") == b'{"b": 2}'
    assert release.verdict == hashlib.sha256(b'{"b": 2}').hexdigest()
    with pytest.raises(Conflict, match="registered with verdict"):
        registry.register(churn_packages / "1.0.0.mk", verdict=Record('{"a": 1}', model))
    assert registry.kept("churn", "1.0.0", "verdict.json") == b'{"b": 2}'
    registry.register(churn_packages / "1.1.0.mk")
    with pytest.raises(NotFound):
        registry.kept("churn", "1.1.0", "verdict.json")
    for version in VERSIONS:
        with pytest.raises(UsageError, match="registered with"):
            registry.keep("churn", version, "verdict.json", b"{}")
