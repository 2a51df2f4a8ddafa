"""A row with a wrong time ends no days that are still to come, and a clock tells a time."""

import copy
import pickle

import numpy as np
import pytest
from helpers.streams import rng, still

import modelkit as mk
from modelkit.drift.open_unit import MOST_AHEAD
from modelkit.errors import UsageError

DAY = 86_400
START = 1_767_225_600.0  # the first of January 2026, a Thursday
PER_DAY = 40
SIGNATURE = mk.Signature(
    inputs=[mk.TensorSpec("X", "float64", ("batch", 1), columns=(mk.Column("x", "float64"),))],
    outputs=[mk.TensorSpec("prediction", "float64", ("batch",))],
)


def days(first, count, seed, unit=1, shift=0.0):
    """Rows of days or weeks, counted from the first of January."""
    n = count * PER_DAY
    t = START + DAY * unit * np.repeat(np.arange(first, first + count), PER_DAY)
    return {"x": rng(seed).normal(shift, 1, n), "t": t + np.tile(np.arange(PER_DAY), count) * 60.0}


@pytest.fixture(scope="module", params=["day", "week"])
def profile(request):
    unit = 1 if request.param == "day" else 7
    return mk.Profile.fit(
        days(-200, 30, 1, unit), reference=days(-100, 60, 2, unit), unit=request.param, time="t"
    )


def width(profile):
    return 1 if profile.unit == "day" else 7


def judged(detector):
    return detector._tracker.units.sequence.blocks


def with_stray(rows, ahead, unit):
    stray = days(ahead, 1, 9, unit)
    return {name: np.append(rows[name], stray[name][0]) for name in rows}


def test_a_call_with_a_row_far_ahead_is_refused_whole(profile):
    """The days after it are judged as if it had never come."""
    unit = width(profile)
    strayed, plain = (mk.Detector(profile, clock=still) for _ in range(2))
    for day in range(60):
        rows = days(day, 1, 100 + day, unit, 0.8 * (day > 30))
        plain.update(rows)
        if day in (0, 20, 40):
            before = strayed.state() if day else None
            wrong = with_stray(rows, day + MOST_AHEAD + 1, unit)
            with pytest.raises(UsageError, match=rf"row {PER_DAY} is of {profile.unit} 20\d\d"):
                strayed.update(wrong)
            assert before is None or strayed.state() == before
        strayed.update(rows)
    assert strayed.state() == plain.state()
    assert strayed.alarms == plain.alarms != ()
    assert judged(strayed) == 59


def test_the_message_says_what_is_wrong_and_what_to_do(profile):
    unit = width(profile)
    detector = mk.Detector(profile, clock=still)
    detector.update(days(0, 2, 1, unit))
    with pytest.raises(UsageError) as caught:
        detector.update(days(400, 1, 2, unit))
    said = str(caught.value)
    assert "row 0 is of" in said
    assert f"399 {profile.unit}s after" in said
    assert "update(at=...) without rows" in said


def test_time_that_has_passed_is_said_first(profile):
    """A shop that closes for a year: the caller says so, and the open day is judged."""
    unit = width(profile)
    detector = mk.Detector(profile, clock=still)
    detector.update(days(0, 2, 1, unit))
    later = days(400, 2, 2, unit)
    with pytest.raises(UsageError, match="after"):
        detector.update(later)
    detector.update(at=later["t"][0] - DAY)
    assert judged(detector) == 2
    resumed = mk.Detector.resume(profile, detector.state(), clock=still)
    for each in (detector, resumed):
        each.update(later)
        assert judged(each) == 3
        assert each.rows == 4 * PER_DAY


@pytest.mark.parametrize("ahead", [1, MOST_AHEAD])
def test_a_gap_of_a_month_is_none(profile, ahead):
    unit = width(profile)
    detector = mk.Detector(profile, clock=still)
    detector.update(days(0, 1, 1, unit))
    detector.update(days(ahead, 1, 2, unit))
    assert judged(detector) == 1
    whole = {
        name: np.append(one, other)
        for (name, one), other in zip(
            days(0, 1, 1, unit).items(), days(ahead, 1, 2, unit).values(), strict=True
        )
    }
    again = mk.Detector(profile, clock=still)
    again.update(whole)
    assert judged(again) == 1


def test_after_a_new_reference_the_days_before_are_known(profile):
    unit = width(profile)
    detector = mk.Detector(profile, clock=still)
    detector.update(days(0, 3, 1, unit))
    detector.rebase(profile, "the same again")
    with pytest.raises(UsageError, match="after"):
        detector.update(days(200, 1, 2, unit))
    detector.update(days(3, 2, 2, unit))
    assert judged(detector) == 1


def test_rows_that_come_too_late_are_counted_and_said(profile):
    """A stray row within a month ends the days until then: their rows are said to be late."""
    unit = width(profile)
    detector = mk.Detector(profile, clock=still)
    detector.update(days(0, 1, 1, unit))
    detector.update(days(20, 1, 2, unit))
    detector.update(days(1, 5, 3, unit))
    assert detector.rows == 7 * PER_DAY
    (check,) = [check for check in detector.report().checks if check.name == "late rows"]
    assert f"{5 * PER_DAY} rows came after their unit was judged" in check.found


# Clocks.


class Hands:
    def __init__(self, now=1.7e9):
        self.now = now

    def __call__(self):
        return self.now


def model():
    return mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, SIGNATURE)


@pytest.mark.parametrize("now", [float("nan"), float("inf"), 1.7e12, None])
def test_a_clock_that_tells_no_time_is_an_error(now):
    of_rows = mk.Profile.fit({"x": rng(1).normal(size=1000)})
    clock = Hands(now)
    detector = mk.Detector(of_rows, clock=clock)
    rows = {"x": rng(2).normal(size=300)}
    for ask in (lambda: detector.update(rows), lambda: detector.rebase(of_rows, "again")):
        with pytest.raises(UsageError, match=r"clock= gave the time .*seconds since 1970"):
            ask()
    assert detector.rows == 0
    watched = mk.Monitor(model(), of_rows, clock=clock)
    for i in range(6):
        watched.predict(rng(i).normal(size=(60, 1)))
    with pytest.raises(UsageError, match="clock= gave"):
        watched.state()
    assert watched.failures > 0
    assert "clock= gave the time" in watched.last_failure
    clock.now = 1.7e9  # it is set right
    failures = watched.failures
    for i in range(6):
        watched.predict(rng(i).normal(size=(60, 1)))
    assert watched.detector.rows == watched.served // 2 == 360
    assert watched.failures == failures
    assert detector.update(rows) == []


def test_a_monitor_of_days_is_not_made_by_a_broken_clock():
    past = days(-100, 60, 2)
    profile = mk.Profile.fit(days(-200, 30, 1), reference=past, unit="day", time="t")
    with pytest.raises(UsageError, match="clock= gave the time nan"):
        mk.Monitor(model(), profile, clock=Hands(float("nan")))


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_detector_that_is_pickled_says_what_to_do(how):
    detector = mk.Detector(mk.Profile.fit({"x": rng(1).normal(size=1000)}))
    with pytest.raises(TypeError, match=r"take detector.state\(\).*Detector.resume"):
        how(detector)
