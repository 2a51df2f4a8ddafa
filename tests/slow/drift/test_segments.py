"""How rarely segments that did not change are named, in simulation."""

from helpers.shops import by, rows
from helpers.streams import at_most

import modelkit as mk


def test_segments_that_did_not_change_are_rarely_named():
    runs, named = 40, 0
    for run in range(runs):
        profile = mk.Profile.fit(
            rows(300, 10 * run), reference=rows(1500, 10 * run + 1), segments=("shop",)
        )
        detector = mk.Detector(profile, alpha=0.1, seed=run)
        detector.update(rows(2500, 10 * run + 2, moved=["a"], shift=3))
        found = by(detector.report(), "price", "shop")
        assert found["a"].p < 0.01
        named += any(found[shop].p <= 0.1 for shop in "bcd" if shop in found)
    assert at_most(named, runs, 0.1), named


def test_the_alarm_that_decides_when_to_look_names_no_segment():
    """A weak change of one segment: the chance that raised the alarm is in the others as well."""
    alarms, right, wrong = 0, 0, 0
    for run in range(20):
        profile = mk.Profile.fit(
            rows(300, 10 * run), reference=rows(1000, 10 * run + 1), segments=("shop",)
        )
        detector = mk.Detector(profile, alpha=0.1, seed=run, history=0)
        call = rows(5000, 10 * run + 2, moved=["c"], shift=1)
        for start in range(0, 5000, 250):
            part = slice(start, start + 250)
            if detector.update({name: values[part] for name, values in call.items()}):
                break
        found = by(detector.report(), "price", "shop")
        alarms += bool(found)
        right += bool(found) and found["c"].p <= 0.1
        wrong += any(found[shop].p <= 0.1 for shop in "abd" if shop in found)
    assert alarms > 10
    assert right == alarms
    assert at_most(wrong, alarms, 0.1), wrong
