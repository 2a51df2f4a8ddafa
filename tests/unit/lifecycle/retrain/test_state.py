"""What is known when it is decided: cooldown, budget, labels, refusals that are recorded once, and which alarms stand."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from helpers.retrainings import (
    AT_ONCE,
    CANARY,
    DAY,
    START,
    Clock,
    alarm,
    judging,
    registry_at,
    report,
    retrain,
)

import modelkit as mk
from modelkit.drift.values import Acknowledgement
from modelkit.errors import UsageError
from modelkit.lifecycle.retrain.records import retrainings_of
from modelkit.lifecycle.retrain.run import posix_of
from modelkit.lifecycle.retrain.state import alarms_of, standing_of, watched_of


def test_cooldown_and_budget_hold_over_a_restart(retrained_packages, tmp_path):
    registry_at(tmp_path / "models", retrained_packages)
    policy = replace(AT_ONCE, budget=2)
    found = []
    for hour in (0, 5, 25, 50, 730):
        clock = Clock(START + hour * 3600)
        anew = mk.Registry(tmp_path / "models")
        drift = report(alarm(at=clock.now))
        run = retrain(anew, tmp_path, policy=policy, drift=drift, clock=clock)
        found.append((run.state, run.reason))
    assert found == [
        ("promoted", "material"),
        ("refused", "cooldown"),
        ("promoted", "material"),
        ("refused", "budget"),
        ("promoted", "material"),
    ]


def test_after_failures_in_a_row_somebody_has_to_ask(registry, tmp_path):
    clock = Clock()
    found = []
    for ask in ("", "", "", "the labels are repaired", ""):
        drift = report(alarm(at=START))
        run = retrain(
            registry, tmp_path, judge=judging(registry, "fail"), drift=drift, asked=ask, clock=clock
        )
        found.append(run.reason if run.state == "refused" else run.state)
        clock.now += 2 * DAY
    assert found == ["blocked", "blocked", "failures", "blocked", "blocked"]


def test_an_old_alarm_that_no_training_answers_hides_no_new_one(registry, tmp_path):
    """A collapse was refused as "failures", or trained on before its rows were labelled."""
    clock = Clock()
    since = []

    def labelled(time):
        since.append((time - START) / DAY)
        return int(max(0.0, clock.now - time) / DAY) * 200  # a day

    policy = replace(AT_ONCE, fresh=1000, cooldown=DAY, budget=9)
    harmless = alarm(at=START)
    collapse = alarm("performance", "loss", at=START + 20 * DAY)
    again = alarm(at=START + 30 * DAY)  # of the same feature, as its change grew
    found = {}
    for day in range(41):
        clock.now = START + day * DAY
        there = [each for each in (harmless, collapse, again) if each.time <= clock.now]
        run = retrain(registry, tmp_path, policy=policy, judge=judging(registry, "fail"),
                      drift=report(*there), labelled=labelled, clock=clock)  # fmt: skip
        found[day] = run.reason
        if run.state != "refused":
            assert run.state == "blocked"
    refusals = ("quiet", "failures", "labels", "persist", "cooldown")
    runs = [day for day, reason in found.items() if reason not in refusals]
    # After 1,000 rows since the change that is due, or the last retraining for it; each change twice.
    assert runs == [5, 10, 25, 30, 35]
    assert found[9] == found[24] == found[29] == found[34] == "labels"
    assert found[15] == found[36] == "failures"


def test_alarms_from_before_the_champion_are_told(registry, tmp_path):
    clock = Clock()
    clock.now = posix_of(registry.aliases("churn")["champion"].at) - 9 * DAY
    drift = report(alarm(at=clock.now - DAY), alarm(feature="c1", at=clock.now))
    run = retrain(registry, tmp_path, drift=drift, clock=clock)
    assert run.reason == "quiet"
    assert "2 alarms, the newest of 20" in run.message
    assert "are closed with the champion 1.0.0 of 20" in run.message
    assert "clock= gives an earlier time" in run.message


def test_labels_and_age_are_reasons_of_their_own(registry, tmp_path):
    asked = []

    def labelled(since):
        asked.append(since)
        return 250

    clock = Clock()
    policy = replace(AT_ONCE, fresh=1, labels=251)
    refused = retrain(registry, tmp_path, policy=policy, drift=(), labelled=labelled, clock=clock)
    assert refused.reason == "quiet"
    run = retrain(registry, tmp_path, policy=replace(policy, labels=250), drift=(),
                  labelled=labelled, clock=clock)  # fmt: skip
    assert (run.state, run.reason) == ("promoted", "labels")
    aged = replace(AT_ONCE, schedule=3 * DAY)
    for days, reason in ((2.9, "quiet"), (3, "schedule")):
        clock.now = START + days * DAY
        assert retrain(registry, tmp_path, policy=aged, drift=(), clock=clock).reason == reason


def test_labelled_rows_have_to_be_counted(registry, tmp_path):
    with pytest.raises(UsageError, match="labelled="):
        retrain(registry, tmp_path, policy=replace(AT_ONCE, fresh=1))
    with pytest.raises(UsageError, match="-3"):
        retrain(registry, tmp_path, policy=replace(AT_ONCE, labels=1), labelled=lambda since: -3)


def drifted(profile, clock):
    detector = mk.Detector(profile, clock=clock)
    rng = np.random.default_rng(0)
    while not detector.alarms:
        detector.update(rng.normal(2, 1, size=(200, 3)))
    return detector


def test_alarms_of_the_old_champion_are_closed_with_the_run(registry, tmp_path):
    rng = np.random.default_rng(1)
    profile = mk.Profile.fit(rng.normal(size=(500, 3)), reference=rng.normal(size=(500, 3)))
    clock = Clock()
    workers = [drifted(profile, clock), drifted(profile, clock)]
    clock.now += 3600
    run = retrain(registry, tmp_path, policy=CANARY, drift=workers, clock=clock)
    assert run.state == "on trial"
    assert {one.kind for one in run.alarms} <= {"changed", "material"}
    assert not workers[0].report().acknowledged
    registry.decide_rollout("churn", registry.state("churn").rollout, "promote", reason="guards")
    clock.now += 2 * DAY
    after = retrain(registry, tmp_path, policy=CANARY, drift=workers, clock=clock)
    assert (after.state, after.reason) == ("refused", "quiet")
    for worker in workers:
        report = worker.report()
        assert {note.alarm for note in report.acknowledged} == set(report.alarms)
        assert report.acknowledged[0].reason == f"retraining 1 promoted {run.version}"
    stale = replace(workers[0].report(), acknowledged=())  # as of a job that read it before
    assert retrain(registry, tmp_path, drift=stale, clock=clock).reason == "quiet"


def test_equal_refusals_in_a_row_are_recorded_once(registry, tmp_path):
    clock = Clock()
    policy = replace(AT_ONCE, persist=3600.0)
    for minute in range(0, 180, 10):
        clock.now = START + minute * 60
        drift = report(alarm(at=START + 3600)) if minute >= 60 else ()
        retrain(registry, tmp_path, policy=policy, drift=drift, clock=clock)
    told = [
        (run.at - START, run.state, run.reason)
        for run in retrainings_of(registry, "churn", clock.now)
    ]
    assert told == [
        (0, "refused", "quiet"),
        (3600, "refused", "persist"),
        (7200, "promoted", "material"),
        (7800, "refused", "quiet"),
    ]


def test_an_alarm_that_came_after_the_promotion_stands_though_that_is_seen_later(
    registry, tmp_path
):
    clock = Clock()
    retrain(registry, tmp_path, policy=CANARY, clock=clock)
    registry.decide_rollout("churn", registry.state("churn").rollout, "promote", reason="guards")
    clock.now += 3 * DAY
    drift = report(alarm(at=START), alarm(feature="c1", at=START + 2 * DAY))
    run = retrain(registry, tmp_path, drift=drift, clock=clock)
    assert run.number == 2
    assert [one.feature for one in run.alarms] == ["c1"]


def test_the_same_alarms_are_one_refusal_however_often_they_come(registry, tmp_path):
    policy = mk.RetrainPolicy(rollout=None, fresh=0, persist=DAY)
    clock = Clock()
    for _ in range(20):
        clock.now += 60
        told = report(*[alarm(at=clock.now) for _ in range(3)])
        refused = retrain(registry, tmp_path, policy=policy, clock=clock, drift=[told, told])
        assert refused.reason == "persist"
        assert len(refused.alarms) == 1
    assert len(retrainings_of(registry, "churn")) == 1


def test_alarms_of_several_workers_about_one_thing_are_one():
    workers = [report(alarm(at=START + n, row=n), alarm("changed", at=START)) for n in (30, 10, 20)]
    found = standing_of(alarms_of(workers), (), 0.0, START + 100)
    assert [(one.kind, one.since) for one in found] == [
        ("changed", START),
        ("material", START + 10),
    ]
    for order in itertools.permutations(workers):
        assert standing_of(alarms_of(order), (), 0.0, START + 100) == found


def test_an_alarm_that_somebody_knows_of_does_not_stand():
    first, second = alarm(), alarm(feature="c1")
    known = Acknowledgement(first, "a sale", START)
    found = standing_of(alarms_of([report(first, second, acknowledged=(known,))]), (), 0.0, START)
    assert [one.feature for one in found] == ["c1"]


def test_alarms_from_before_the_champion_are_closed():
    alarms = [alarm(at=START), alarm(feature="c1", at=START + 1)]
    found = standing_of(alarms, (), START, START + 5)
    assert [one.feature for one in found] == ["c1"]


def test_an_alarm_without_a_time_stands_since_it_was_first_seen():
    untimed = replace(alarm(), time=None, began_time=None)
    first = standing_of([untimed], (), START - 5, START)
    assert first[0].since == START
    later = standing_of([untimed], first, START - 5, START + 3600.0)
    assert later == first
    gone = standing_of([], later, START - 5, START + 3600.0)
    assert standing_of([untimed], gone, START - 5, START + DAY)[0].since == START + DAY


def test_what_watches_is_a_detector_or_a_report():
    assert watched_of(report()) == watched_of([report()])
    with pytest.raises(TypeError, match="DriftReport"):
        watched_of([alarm()])
