"""The steps of a retraining as events, and how many refusals are recorded."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from helpers.retrainings import (
    AT_ONCE,
    CANARY,
    START,
    Clock,
    alarm,
    judging,
    outcome,
    report,
    train,
)
from helpers.stores import Killed, deadly

import modelkit as mk
from modelkit import events
from modelkit.lifecycle.registry.log import CHAMPION
from modelkit.lifecycle.retrain import work
from modelkit.lifecycle.retrain.records import retrainings_of

STANDS = report(alarm())


@pytest.fixture
def heard():
    found = []
    stop = events.subscribe(found.append, events.Retraining, events.NotRetrained)
    yield found
    stop()


def retrain(registry, folder, *, outcome="pass", policy=AT_ONCE, drift=STANDS, **others):
    options = {
        "train": train,
        "judge": judging(registry, outcome),
        "clock": Clock(),
        "folder": folder / "retrainings",
    } | others
    return mk.retrain(registry, "churn", policy=policy, drift=drift, **options)


@pytest.mark.parametrize(
    ("outcome", "state"), [("pass", "promoted"), ("fail", "blocked"), ("unclear", "inconclusive")]
)
def test_a_run_tells_that_it_began_and_how_it_ended(registry, tmp_path, heard, outcome, state):
    run = retrain(registry, tmp_path, outcome=outcome)
    assert [(each.number, each.state) for each in heard] == [(1, "running"), (1, state)]
    began, ended = heard
    assert (began.name, began.champion, began.version) == ("churn", "1.0.0", "")
    assert (began.reason, ended.reason) == ("material", "material")
    assert ended.version == run.version
    assert str(ended).startswith(
        f"retraining 1 of churn, material: {state} with {run.version} in place"
    )
    if state != "promoted":  # a gate may name a slice by its value
        assert ended.message == ""
        assert run.message
    retrain(registry, tmp_path, drift=(), clock=Clock(START + 1))
    assert len(heard) == 3  # the end is told once


def test_the_time_of_training_is_its_own_where_the_clock_replays_the_past(
    registry, tmp_path, monkeypatch
):
    """It was 0.0 s: of a clock that stands still while a retraining goes on."""
    monkeypatch.setattr(work, "perf_counter", iter([100.0, 102.5]).__next__)
    step = retrain(registry, tmp_path).steps[0]
    assert (step.name, step.text, step.at) == ("train", "2.5 s", START)


def test_a_run_that_fails_is_told_without_the_words_of_the_error(registry, tmp_path, heard):
    def spoil(training):
        raise ValueError("a row of Ada Lovelace")

    with pytest.raises(ValueError, match="Ada"):
        retrain(registry, tmp_path, train=spoil)
    assert [each.state for each in heard] == ["running", "failed"]
    assert heard[1].message == "ValueError in the step train"
    assert not any("Ada" in str(each) for each in heard)


def test_a_run_on_trial_is_told_and_its_end_when_it_is_noticed(registry, tmp_path, heard):
    clock = Clock()
    run = retrain(registry, tmp_path, policy=CANARY, clock=clock)
    assert [each.state for each in heard] == ["running", "on trial"]
    refused = retrain(registry, tmp_path, policy=CANARY, clock=clock)
    assert heard[2] == events.NotRetrained("churn", "busy", refused.message)
    underway = registry.state("churn").rollout
    registry.decide_rollout("churn", underway, "promote", reason="it is better")
    clock.now += 10
    for _ in range(2):
        retrain(registry, tmp_path, policy=CANARY, drift=(), clock=clock)
    told = [each for each in heard[3:] if isinstance(each, events.Retraining)]
    assert [(each.state, each.version, each.message) for each in told] == [
        ("promoted", run.version, "it is better")
    ]
    assert registry.aliases("churn")[CHAMPION].version == run.version


def test_a_run_that_is_taken_over_is_told_again(registry, tmp_path, heard):
    def ends(training):
        raise KeyboardInterrupt

    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        retrain(registry, tmp_path, train=ends, clock=clock)
    retrain(registry, tmp_path, clock=clock)
    assert [(each.number, each.state) for each in heard] == [
        (1, "running"),
        (1, "running"),
        (1, "promoted"),
    ]


@pytest.mark.parametrize(("persist", "most"), [(7200.0, 11), (0.0, 13)])
def test_refusals_that_alternate_are_recorded_so_often_and_no_more(
    registry, tmp_path, heard, persist, most
):
    """Asked each ten seconds for two hours, while an alarm comes and goes."""
    policy = replace(AT_ONCE, persist=persist, fresh=1)
    clock = Clock()
    for turn in range(720):
        clock.now = START + 10 * turn
        now = STANDS if turn % 2 else ()
        retrain(registry, tmp_path, policy=policy, drift=now, labelled=lambda since: 0, clock=clock)
    recorded = retrainings_of(registry, "churn", clock.now)
    assert 5 < len(recorded) <= most
    assert len(heard) == 720
    assert {each.refusal for each in heard} >= {"quiet"}


def test_an_alarm_that_comes_and_goes_does_not_persist(registry, tmp_path, heard):
    """One of a batch, which has no time, stands since it was first seen; asked each five minutes."""
    policy = mk.RetrainPolicy(rollout=None, fresh=0, persist=7200.0)
    flaps = report(alarm(at=None))
    other = report(alarm(at=None, feature="c1"))
    clock = Clock()
    for turn in range(40):
        clock.now = START + 300 * turn
        retrain(registry, tmp_path, policy=policy, drift=other if turn % 2 else flaps, clock=clock)
    assert {type(each) for each in heard} == {events.NotRetrained}
    assert len(retrainings_of(registry, "churn", clock.now)) < 40
    began = clock.now
    while not any(isinstance(each, events.Retraining) for each in heard):
        clock.now += 300
        retrain(registry, tmp_path, policy=policy, drift=flaps, clock=clock)
    assert 7200 - 720 <= clock.now - began <= 7200 + 720 + 300


def test_a_new_champion_is_looked_at_anew(registry, tmp_path):
    clock = Clock()
    retrain(registry, tmp_path, drift=(), clock=clock)
    clock.now += 1
    retrain(registry, tmp_path, clock=clock)
    clock.now += 1
    retrain(registry, tmp_path, drift=(), clock=clock)
    states = [(run.state, run.reason) for run in retrainings_of(registry, "churn", clock.now)]
    assert states == [("refused", "quiet"), ("promoted", "material"), ("refused", "quiet")]


@pytest.mark.parametrize("policy", [AT_ONCE, CANARY], ids=["at once", "canary"])
def test_whoever_is_killed_between_two_writes_is_gone_on_with(registry, tmp_path, policy):
    """The next call finds a whole registry, goes on, and comes to the same."""

    def does(registry, folder, clock):
        return retrain(registry, folder, policy=policy, clock=clock)

    template = shutil.copytree(registry.url, tmp_path / "before")
    store = deadly(shutil.copytree(template, tmp_path / "undisturbed"), 0, made=False)
    undisturbed = outcome(does(store[0], tmp_path, Clock()))
    writes = -store[1].left
    assert writes > 10
    for number in range(1, writes + 1):
        for made in (False, True):
            where = shutil.copytree(template, tmp_path / f"{number} {made}")
            with pytest.raises(Killed):
                does(deadly(where, number, made=made)[0], where / "here", Clock())
            later = Clock(START + policy.lease)
            run = does(mk.Registry(where), where / "here", later)
            if run.state == "refused":  # it had all but come to its end
                (run,) = [
                    each for each in retrainings_of(mk.Registry(where), "churn") if each.number
                ]
            assert outcome(run) == undisturbed
            entries = mk.Registry(where).history("churn")
            assert [entry.kind for entry in entries].count("rollout") == (policy is CANARY)
