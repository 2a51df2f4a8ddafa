"""In shadow, the candidate answers beside the calls: no caller notices, and only pairs count."""

from __future__ import annotations

import asyncio
import json
import threading

import numpy as np
import pytest
from helpers.rollouts import ROWS, ask, model, until, who

import modelkit as mk
from modelkit.lifecycle.rollout.shadow import MOST_WAITING

ERRORS = (mk.Guard("errors"),)


SHADOW = mk.RolloutStage(0, calls=50)


ROOM = 100  # seconds after which something hangs
X = np.eye(3)
LOSS = (mk.Guard("loss", margin=0.02),)
HALF = mk.RolloutStage(0.5)
SHADOW_OF_ONE = mk.RolloutStage(0, calls=1)


def test_shadow_changes_no_answer_and_raises_nothing(clock):
    gate = threading.Event()

    def slow_and_broken(feeds):
        gate.wait(ROOM)
        raise RuntimeError("only in shadow")

    rollout = mk.Rollout(
        model(1),
        model(2, slow_and_broken),
        policy=mk.RolloutPolicy((SHADOW, mk.RolloutStage(0.5)), ERRORS),
    )
    X = ROWS.copy()
    expected = model(1).run(X)
    for _ in range(MOST_WAITING + 20):  # the candidate hangs: the queue is full, and nobody waits
        answers = rollout.run(X)
        np.testing.assert_array_equal(answers["y"], expected["y"])
    answers = asyncio.run(rollout.arun(X))
    assert answers["who"][0] == 1
    assert "not shadowed" in rollout.status().notes[0]
    gate.set()
    shadow = rollout._switch.session.lineups.shadow
    assert shadow.wait(ROOM)
    clock.go(10)
    status = rollout.status()
    assert status.decision == "rollback"
    assert rollout.failures == 0


def test_shadow_sees_the_rows_as_they_were(clock):
    seen = []
    gate = threading.Event()

    def look(feeds):
        gate.wait(ROOM)
        seen.append(feeds["X"].copy())

    rollout = mk.Rollout(
        model(1), model(2, look), policy=mk.RolloutPolicy((SHADOW, mk.RolloutStage(0.5)), ERRORS)
    )
    X = ROWS.copy()
    answers = rollout.run(X, key="a")
    X[:] = -1
    answers["y"][:] = -1
    gate.set()
    assert rollout._switch.session.lineups.shadow.wait(ROOM)
    np.testing.assert_array_equal(seen[0], ROWS)


def test_disagreement_in_shadow_pauses(clock):
    guards = (*ERRORS, mk.Guard("disagreement", floor=0.05, tolerance=0.1))
    for shift, decision in ((0.05, "advance"), (1.0, "hold")):
        other = model(1, lambda feeds, shift=shift: {"y": feeds["X"].sum(axis=1) + shift})
        rollout = mk.Rollout(
            model(1), other, policy=mk.RolloutPolicy((SHADOW, mk.RolloutStage(0.5)), guards)
        )
        for _ in range(60):
            rollout.run(ROWS)
        assert rollout._switch.session.lineups.shadow.wait(ROOM)
        clock.go(10)
        assert rollout.status().decision == decision


def test_losses_in_shadow_are_pairs(clock):
    guards = (mk.Guard("loss", margin=0.05),)
    rollout = mk.Rollout(
        model(0), model(1), policy=mk.RolloutPolicy((SHADOW, mk.RolloutStage(0.5)), guards)
    )
    for i in range(60):
        rollout.run(ROWS, key=f"u{i}")
    assert rollout._switch.session.lineups.shadow.wait(ROOM)
    counted = [rollout.outcome(f"u{i}", lambda out: float(out["who"][0])) for i in range(60)]
    assert all(counted)
    clock.go(10)
    status = rollout.status()
    assert status.decision == "rollback"
    assert "loss" in status.reason


def loss_of(outputs):
    return float(outputs["who"][0]) / 2


@pytest.mark.parametrize("form", ["number", "function"])
def test_a_job_that_posts_losses_goes_on_from_shadow_to_canary(clock, form):
    """Both forms are taken in every stage; in shadow, a number is the loss of one answer of two."""
    guards = (mk.Guard("loss", margin=0.9),)
    stages = [mk.RolloutStage(0, calls=5), mk.RolloutStage(0.5, calls=10**6)]
    rollout = mk.Rollout(model(1), model(2), policy=mk.RolloutPolicy(stages, guards), seed=0)

    def posted(keys):
        counted = 0
        for key in keys:
            answers = rollout.run(ROWS, key=key)
            if rollout._switch.session.stage == 0:
                assert rollout._switch.session.lineups.shadow.wait(ROOM)
            known = loss_of(answers)
            answers["who"][:] = 0  # the answers are the caller's, who may change them
            counted += rollout.outcome(key, loss_of if form == "function" else known)
        return counted

    assert posted(f"a{i}" for i in range(8)) == (8 if form == "function" else 0)
    notes = " ".join(rollout.status().notes)
    assert ("8 losses left out: in shadow both answered" in notes) is (form == "number")
    # The answers are kept for a function that comes after a number.
    assert rollout.outcome("a0", loss_of) is (form == "number")
    clock.go(10)
    assert rollout.status().stage == 2
    assert posted(f"b{i}" for i in range(40)) == 40
    counts = rollout._switch.session.collect()
    assert {label.candidate: label.loss for label in counts.labels} == {False: 0.5, True: 1.0}
    rollout.predict(ROWS, key="c")
    with pytest.raises(KeyError):  # the function asks for what the call did not ask for
        rollout.outcome("c", loss_of)


def test_shadow_outlives_what_is_no_exception(clock):
    def leave(feeds):
        raise SystemExit(3)

    shadow = mk.RolloutStage(0, calls=50)
    rollout = mk.Rollout(
        model(1),
        model(2, leave),
        policy=mk.RolloutPolicy((shadow, mk.RolloutStage(0.5)), [mk.Guard("errors")]),
    )
    for _ in range(5):
        ask(rollout)
        assert rollout._switch.session.lineups.shadow.wait(ROOM)
    assert rollout._switch.session.lineups.shadow.failures == 5
    assert rollout._switch.session.lineups.shadow.dropped == 0


def test_shadow_is_counted_by_all_processes(registry):
    stages = (mk.RolloutStage(0, calls=20), mk.RolloutStage(0.5, seconds=3600))
    policy = mk.RolloutPolicy(stages, (mk.Guard("errors"),), tick=0.05)
    registry.start_rollout("m", "2", policy, reason="try")
    rollout = mk.Rollout(registry, "m", poll=0.01, threads=1)

    def advances():
        rollout.run(np.eye(3))
        return rollout.status().stage == 2

    until(advances)
    rollout.close()


def test_rows_that_wait_in_shadow_are_bounded_in_bytes(clock, monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.shadow.MOST_HELD", 1000)
    gate = threading.Event()
    shadow = mk.RolloutStage(0, calls=50)
    rollout = mk.Rollout(
        model(1),
        model(2, lambda feeds: gate.wait(ROOM) and None),
        policy=mk.RolloutPolicy((shadow, mk.RolloutStage(0.5))),
    )
    rows = np.zeros((30, 3))
    for _ in range(10):
        rollout.run(rows)
    beside = rollout._switch.session.lineups.shadow
    assert len(beside._jobs) <= 2
    assert beside.dropped >= 7
    gate.set()
    assert beside.wait(ROOM)
    assert beside._held == 0


def test_late_losses_of_shadow_promote_nothing(clock):
    """A candidate whose answers are all wrong; labels come when the customer has called again."""
    rollout = mk.Rollout(
        model(1),
        model(2),
        policy=mk.RolloutPolicy(
            (SHADOW_OF_ONE, mk.RolloutStage(0.5)), (mk.Guard("loss", margin=0.3),)
        ),
        seed=0,
    )
    keys = [f"k{i}" for i in range(500)]
    for key in keys:
        assert who(rollout, key) == 1  # which was right
    until(
        lambda: (
            rollout._switch.session.lineups.shadow.wait(0.1)
            and not rollout._switch.session.lineups.shadow._jobs
        )
    )
    clock.go(10)
    assert rollout.status().stage == 2
    assert {who(rollout, key) for key in keys} == {1, 2}
    assert not any(rollout.outcome(key, 0.0) for key in keys[:250])
    assert not any(rollout.outcome(key, lambda outputs: 0.0) for key in keys[250:])
    clock.go(10)
    status = rollout.status()
    assert (status.decision, status.guards[0].better) == ("continue", 1.0)
    assert "500 losses left out: their keys were answered in two stages" in status.notes
    new = [key for key in ("a", "b", "c", "d") if who(rollout, key)]
    assert all(rollout.outcome(key, 0.0) for key in new)


def test_a_registry_is_told_which_keys_were_answered_in_shadow(registry):
    policy = mk.RolloutPolicy((SHADOW_OF_ONE, HALF), LOSS, tick=3600)
    rollout = registry.start_rollout("m", "2", policy, reason="try")
    with mk.Rollout(registry, "m", threads=1) as served:
        for key in ("k1", "k1", "k2", None):
            served.predict(X[:1], key=key)
    folder = registry.rollout_folder("m", rollout)
    (process,) = folder.folders("counts")
    counts = json.loads(folder.read(f"counts/{process}/0000000001"))["counts"]
    assert [arm for _, arm in counts["keys"]] == [False, False]
    assert "calls" not in counts  # none was drawn


def test_in_shadow_a_number_says_that_it_does_not_count_in_any_process(registry):
    policy = mk.RolloutPolicy((SHADOW_OF_ONE, HALF), LOSS, tick=3600)
    registry.start_rollout("m", "2", policy, reason="try")
    with mk.Rollout(registry, "m", threads=1) as is_told:
        assert not is_told.outcome("of another process", 0.5)
        assert "in shadow both answered" in is_told.status().notes[0]


def test_a_function_for_a_call_that_was_not_shadowed_does_not_count(monkeypatch):
    monkeypatch.setattr("modelkit.lifecycle.rollout.shadow.MOST_WAITING", 0)
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((SHADOW_OF_ONE, mk.RolloutStage(0.5)), LOSS)
    )
    assert who(rollout, "k") == 1
    assert not rollout.outcome("k", lambda outputs: 0.5)
    assert "1 losses left out: no answer to their keys is known" in rollout.status().notes
