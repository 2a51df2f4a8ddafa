"""Which alarms stand: those of several workers once, and none that somebody knows of or that is older than the champion."""

import itertools
from dataclasses import replace

import pytest
from helpers.retrainings import DAY, START, alarm, report

from modelkit.drift.values import Acknowledgement
from modelkit.lifecycle.retrain.standing import alarms_of, standing_of, watched_of

HOUR = 3600.0


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
    later = standing_of([untimed], first, START - 5, START + HOUR)
    assert later == first
    gone = standing_of([], later, START - 5, START + HOUR)
    assert standing_of([untimed], gone, START - 5, START + DAY)[0].since == START + DAY


def test_what_watches_is_a_detector_or_a_report():
    assert watched_of(report()) == watched_of([report()])
    with pytest.raises(TypeError, match="DriftReport"):
        watched_of([alarm()])
