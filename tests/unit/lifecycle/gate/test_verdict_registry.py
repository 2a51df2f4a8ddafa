"""A Verdict and a Registry: gates on the same rows are counted, and of two on one champion one wins."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from math import fsum

import numpy as np
import pytest
from helpers.judged import drawn_rows, save_pair, save_reading
from helpers.rival_gates import promote, use
from hypothesis import given
from hypothesis import strategies as st

import modelkit as mk
from modelkit.cli import main
from modelkit.errors import Conflict, GateError, NotFound, RegistryError
from modelkit.lifecycle.gate.holdout import counted_use, share_of_alpha

CHAMPION = "registry:churn@champion"
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def place(tmp_path):
    """A registry with a champion, and two candidates that are not yet in it."""
    candidate, champion = save_pair(tmp_path)
    registry = mk.Registry(tmp_path / "models")
    registry.register(champion)
    registry.set_alias("churn", "champion", "1.0.0", expected=None, reason="first")
    other = save_reading(tmp_path / "c.mk", "b", "1.2.0")
    return registry, candidate, other


@pytest.fixture(scope="module")
def rows():
    return drawn_rows(np.random.default_rng(0), 3000)


def judged(registry, candidate, rows, **asked):
    return mk.gate(candidate, CHAMPION, *rows, **{"margin": 0.03, "registry": registry, **asked})


def test_an_alias_moves_by_a_verdict_on_what_it_named(place, rows):
    registry, candidate, _ = place
    verdict = judged(registry, candidate, rows)
    assert (verdict.decision, verdict.alias, verdict.generation) == ("promote", "champion", 1)
    release = registry.register(candidate, verdict=verdict)
    assert mk.Verdict.from_json(registry.kept("churn", "1.1.0", "verdict.json").decode()) == verdict
    now = registry.set_alias(
        "churn", "champion", "1.1.0", expected=1, reason="gate", verdict=verdict
    )
    assert now.version == "1.1.0"
    assert registry.history("churn")[-1].about == {"verdict": release.verdict}


def test_a_verdict_is_added_once_by_registering_again(place, rows, tmp_path, capsys):
    registry, candidate, _ = place
    plain = registry.register(candidate, parents=["1.0.0"])
    verdict = judged(registry, "registry:churn@1.1.0", rows)
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
    release = registry.release("churn", "1.1.0")
    assert replace(release, verdict="") == plain
    assert registry.kept("churn", "1.1.0", "verdict.json") == verdict.to_json().encode()
    assert registry.register(candidate) == release == registry.versions("churn")[-1]
    with pytest.raises(Conflict, match="is registered with verdict"):
        registry.register(candidate, verdict=replace(verdict, seed=9))
    assert registry.release("churn", "1.1.0") == release


def test_an_alias_moves_by_no_other_verdict(place, rows):
    registry, candidate, other = place
    verdict = judged(registry, candidate, rows)
    registry.register(candidate)
    lone = mk.gate(candidate, registry.fetch("churn", "1.0.0"), *rows, margin=0.03)
    inconclusive = judged(registry, candidate, rows, margin=0)
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


def test_a_champion_that_was_set_to_another_version_and_back_is_judged_again(place, rows):
    registry, candidate, _ = place
    verdict = judged(registry, candidate, rows)
    registry.register(candidate)
    registry.set_alias("churn", "champion", "1.1.0", expected="1.0.0", reason="by hand")
    registry.set_alias("churn", "champion", "1.0.0", expected="1.1.0", reason="and back")
    with pytest.raises(Conflict, match="generation 3, and the verdict judged"):
        registry.set_alias(
            "churn", "champion", "1.1.0", expected="1.0.0", reason="gate", verdict=verdict
        )


def test_a_rollout_begins_by_a_verdict_too(place, rows):
    registry, candidate, _ = place
    verdict = judged(registry, candidate, rows)
    registry.register(candidate)
    policy = mk.RolloutPolicy(stages=(mk.RolloutStage(share=0.1),))
    stale = replace(verdict, generation=9)
    with pytest.raises(Conflict, match="gate again"):
        registry.start_rollout("churn", "1.1.0", policy, reason="gate", verdict=stale)
    registry.start_rollout("churn", "1.1.0", policy, reason="gate", verdict=verdict)
    assert "verdict" in registry.history("churn")[-1].about


def test_of_two_gates_on_one_champion_one_wins(place, rows):
    registry, candidate, other = place
    verdicts = [judged(registry, path, rows).to_json() for path in (candidate, other)]
    for path in (candidate, other):
        registry.register(path)
    ready = SPAWN.Barrier(4)
    results = SPAWN.Queue()
    workers = []
    for at in range(4):
        version = ("1.1.0", "1.2.0")[at % 2]
        arguments = (registry.url, version, verdicts[at % 2], ready, results)
        workers.append(SPAWN.Process(target=promote, args=arguments))
    for worker in workers:
        worker.start()
    found = [results.get(timeout=100) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert sorted(outcome for _, outcome in found) == ["lost", "lost", "lost", "won"]
    ((winner, _),) = [each for each in found if each[1] == "won"]
    assert registry.aliases("churn")["champion"].version == winner
    assert registry.generation("churn") == 2


def test_each_further_gate_on_the_same_rows_has_less_of_alpha(place, rows):
    registry, candidate, _ = place
    X, y = rows
    first = judged(registry, candidate, rows)
    assert (first.uses, first.spent) == (1, 0.025)
    assert judged(registry, candidate, rows) == first  # the same gate again is the same use
    order = np.random.default_rng(0).permutation(len(y))
    shuffled = judged(registry, candidate, (X.iloc[order], y[order]), margin=0.02)
    assert (shuffled.uses, shuffled.data_digest) == (2, first.data_digest)
    assert shuffled.spent == pytest.approx(0.05 / 6)
    assert shuffled["accuracy"].alpha == shuffled.spent
    assert "alpha / (2 * 3)" in shuffled.notes[0]
    fresh = judged(registry, candidate, (X[:2000], y[:2000]))
    assert fresh.uses == 1
    alone = mk.gate(candidate, registry.fetch("churn", "1.0.0"), X, y, margin=0.03)
    assert (alone.uses, alone.spent) == (0, 0.05)


def test_harm_is_tested_at_all_of_alpha_however_often(place, rows):
    registry, candidate, _ = place
    _, y = rows
    for margin in (0.031, 0.032, 0.033):
        found = judged(registry, candidate, rows, margin=margin, slices={"all": np.zeros(len(y))})
    assert found["accuracy where all is 0.0"].alpha == 0.05
    assert found["accuracy"].alpha == pytest.approx(0.05 / 12)


def test_gates_of_several_processes_are_told_apart(tmp_path):
    digest = "ab" * 32
    url = str(tmp_path / "models")
    results = SPAWN.Queue()
    gates = [[f"{worker}-{at}" for at in range(5)] for worker in range(3)]
    workers = [SPAWN.Process(target=use, args=(url, digest, own, results)) for own in gates]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=100) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert sorted(use for own in found for use in own) == list(range(1, 16))
    again = [counted_use(mk.Registry(url).hold_out(digest), gate) for gate in gates[0]]
    assert sorted(again) == sorted(next(each for each in found if set(each) == set(again)))


@given(st.floats(1e-6, 0.49), st.integers(1, 400))
def test_the_parts_of_all_uses_never_exceed_alpha(alpha, uses):
    parts = [share_of_alpha(alpha, number) for number in range(1, uses + 1)]
    assert fsum(parts) <= alpha * (uses / (uses + 1)) * (1 + 1e-12)
    assert parts == sorted(parts, reverse=True)


def test_versions_and_what_is_not_there(place, rows):
    registry, candidate, _ = place
    by_version = mk.gate(candidate, "registry:churn@1.0.0", *rows, margin=0.03, registry=registry)
    assert (by_version.alias, by_version.generation) == ("", None)
    for wrong in ("registry:churn", "registry:@champion"):
        with pytest.raises(GateError, match="NAME@ALIAS"):
            mk.gate(candidate, wrong, *rows, margin=0.03, registry=registry)
    with pytest.raises(NotFound):
        mk.gate(candidate, "registry:churn@latest", *rows, margin=0.03, registry=registry)
