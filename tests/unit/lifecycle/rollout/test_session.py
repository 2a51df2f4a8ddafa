"""What a rollout remembers has a bound, also of a log that is gone; what it then lacks, it says."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.processes import PATIENCE
from helpers.rollouts import ROWS, Clock, model, until, who

import modelkit as mk
from modelkit.lifecycle.rollout import labels, losses, session
from modelkit.lifecycle.rollout.counts import ByArm, Counts, Label, Unit
from modelkit.lifecycle.rollout.decide import decide, lacks
from modelkit.lifecycle.rollout.labels import PATIENT
from modelkit.lifecycle.rollout.ledger import MemoryLedger, RegistryLedger
from modelkit.lifecycle.rollout.lineup import Lineups
from modelkit.lifecycle.rollout.routing import hash_of
from modelkit.lifecycle.rollout.session import Session
from modelkit.lifecycle.rollout.switch import Switch
from modelkit.lifecycle.rollout.trial import Trial

X = np.eye(3)
LOSS = (mk.Guard("loss", margin=0.02), mk.Guard("errors"))
STAGES = (mk.RolloutStage(0.5, seconds=3600),)
POLICY = mk.RolloutPolicy(STAGES, LOSS, tick=1e-3)
LOSSES = (mk.Guard("loss", margin=0.02),)
POLICY_OF_LOSSES = mk.RolloutPolicy((mk.RolloutStage(0.5, seconds=3600),), LOSSES, tick=0.05)


@pytest.fixture
def registry(registry):
    registry.start_rollout("m", "2", POLICY, reason="try")
    return registry


def note_of(rollout, part):
    return [note for note in rollout.status().notes if part in note]


def test_what_waits_for_a_log_that_is_gone_is_bounded(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "MOST_WAITING", 40)
    served = mk.Rollout(registry, "m", threads=1, poll=0.01)
    until(lambda: served.predict(X[:1]) is not None and served.under_way)
    of = served._source._session
    Path(registry.url).rename(tmp_path / "gone")

    def goes_on(number=iter(range(10**6))):  # noqa: B008 - of all calls
        key = f"k{next(number)}"
        served.predict(X[:1], key=key)
        return served.outcome(key, 0.5)

    until(lambda: not goes_on())
    assert of.losses.turned_away == 1
    until(lambda: [goes_on() for _ in range(10)] and of.lost >= 3)
    assert sum(counts.entries for _, counts in of._unposted) < 400
    assert note_of(served, "losses were not taken")
    assert note_of(served, "nothing counts of")
    (tmp_path / "gone").rename(registry.url)
    until(lambda: goes_on() and not of._unposted)  # and losses are taken again
    served.close()
    told = served._switch.past.trial.evidence[0]
    assert told.keys.unknown == 0


def test_ticks_without_end_that_cannot_be_written_are_bounded(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "MOST_TICKS", 3)
    with mk.Rollout(registry, "m", threads=1, poll=3600) as served:
        of = served._source._session
        Path(registry.url).rename(tmp_path / "gone")
        until(lambda: served.predict(X[:1]) is not None and of.lost >= 5)
        assert 1 <= len(of._unposted) <= 3
        (tmp_path / "gone").rename(registry.url)
        until(lambda: served.predict(X[:1]) is not None and not of._unposted)
        assert of.losses.room == losses.MOST_WAITING_LOSSES


def test_what_came_before_a_log_hangs_for_long_is_not_left_out(registry, monkeypatch):
    """A log that hangs: what was counted when that was not known to be for long still counts."""
    monkeypatch.setattr(session, "MOST_TICKS", 5)
    goes_on = threading.Event()
    post = RegistryLedger.post

    def hang(ledger, stage, counts):
        goes_on.wait(PATIENCE)
        post(ledger, stage, counts)

    monkeypatch.setattr(RegistryLedger, "post", hang)
    with mk.Rollout(registry, "m", threads=1, poll=3600) as served:
        of = served._source._session
        calls = [0]

        def call():
            served.predict(X[:1])
            calls[0] += 1

        until(lambda: call() or of._missed >= 1)
        until(lambda: call() or of._missed >= 5)
        before = calls[0]
        until(lambda: call() or of.lost >= 3)
        assert of.trial.all_calls == ByArm()
        goes_on.set()
        until(lambda: call() or not of._unposted)
    all_calls = served._switch.past.trial.all_calls
    assert before - 1 <= all_calls.candidate + all_calls.champion < calls[0]


def test_a_tick_that_is_left_out_keeps_its_keys_and_what_was_told():
    guards = (*LOSS, mk.Guard("odd", mark=lambda outputs: 1 / 0))
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), guards), seed=0
    )
    of = rollout._switch.session
    who(rollout, key="a")
    rollout.outcome("a", 0.5)
    of.leave_out()
    who(rollout, key="b")
    counts = of.collect()
    assert len(counts.keys) == 2
    assert len(counts.labels) == 1
    assert counts.missing == ("odd",)
    assert sum((counts.calls.candidate, counts.calls.champion)) == 1
    assert of.collect() == Counts()


def test_losses_that_come_faster_than_they_are_weighed_are_turned_away(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("modelkit.lifecycle.rollout.rollout.perf_counter_ns", clock)
    monkeypatch.setattr(losses, "MOST_WAITING_LOSSES", 2)
    rollout = mk.Rollout(
        model(1), model(2), policy=mk.RolloutPolicy((mk.RolloutStage(0.5),), LOSS), seed=0
    )
    for key in "abc":
        rollout.run(ROWS, key=key)
    assert [rollout.outcome(key, 0.5) for key in "abc"] == [True, True, False]
    assert note_of(rollout, "1 losses were not taken")
    clock.go(10)
    rollout.run(ROWS)
    assert rollout.outcome("c", 0.5)  # told again, it counts


def test_a_rollout_that_has_more_keys_than_it_counts_says_why_it_holds(monkeypatch):
    monkeypatch.setattr(labels, "MOST_KEYS", 10)
    policy = mk.RolloutPolicy((mk.RolloutStage(0.5),), LOSS[:1], horizon=100.0)
    trial = Trial(policy, 0.0)
    for tick in range(20):
        keys = tuple((10 * tick + place, bool(place % 2)) for place in range(10))
        told = tuple(Label(0.5, key, arm, 0) for key, arm in keys)
        decision = trial.tick(Counts(keys=keys, labels=told), 1.0 + tick)
    assert decision.kind == "continue"
    assert "more keys than are counted" in decision.reason
    held = trial.tick(Counts(), 200.0)
    assert held.kind == "hold"
    assert "the time is over" in held.reason
    assert "more keys than are counted" in held.reason
    assert decide(policy, trial.state()) == held
    assert lacks(policy, Trial(policy, 0.0).state()) == [
        "loss: too little evidence for a promotion"
    ]


def joint_session(monkeypatch):
    monkeypatch.setattr(MemoryLedger, "shared", True)
    ledger = MemoryLedger(Clock())
    lineups = Lineups(model(1), model(2), POLICY_OF_LOSSES, salt=b"s", seed=0, rescue=False)
    return Session(ledger, lineups, Switch(model(1), Clock(), None), lambda: None)


def answered_elsewhere(session, *keys):
    units = tuple(Unit(hash_of(key, b"s"), False) for key in keys)
    session.trial.tick(Counts(keys=units), 1.0, 0)


def test_losses_of_keys_that_nobody_answered_are_not_written(monkeypatch):
    """They wait here for a process that says it has answered them, each once, and not for ever."""
    monkeypatch.setattr("modelkit.lifecycle.rollout.losses.MOST_UNKNOWN", 500)
    session = joint_session(monkeypatch)
    assert [session.outcome(f"k{i}", 0.5) for i in range(500)] == [True] * 500
    assert not session.outcome("k7", 0.5)  # told again
    assert not session.outcome("more", 0.5)
    assert session.losses.turned_away == 1
    assert session.collect().posted == ()
    answered_elsewhere(session, "k7", "k8", "known")
    assert session.outcome("known", 0.25)  # although so many others wait
    posted = session.collect().posted
    assert [each.loss for each in posted] == [0.5, 0.5, 0.25]
    assert {each.key for each in posted} == {hash_of(key, b"s") for key in ("k7", "k8", "known")}
    assert not session.outcome("known", 0.25)
    assert session.collect().posted == ()
    for _ in range(PATIENT):
        assert session.collect().posted == ()
    assert session.losses.outcomes.unknown == 500 - 2
    assert session.outcome("more", 0.5)


def test_losses_that_wait_are_written_when_a_process_ends(monkeypatch):
    session = joint_session(monkeypatch)
    assert session.outcome("a", 0.5)
    session.losses.hand_on_all()
    assert [each.loss for each in session.collect().posted] == [0.5]
    assert session.losses.outcomes.unknown == 0
