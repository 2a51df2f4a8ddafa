"""Which of units, strata, strides and rows fits a reference is found by a check, and told once."""

from contextlib import contextmanager

import numpy as np
import pytest
from helpers.flights import flights, rows_of
from scipy.signal import lfilter

import modelkit as mk

DAY_SECONDS = 86_400.0


def advice(rows, reference=None, **options):
    with hearing(mk.events.Advised) as heard:
        profile = mk.Profile.fit(rows, reference=reference, **options)
    assert [event.advice for event in heard] in ([], [profile.advice])
    assert mk.Profile.from_bytes(profile.to_bytes()).advice == profile.advice
    return profile.advice, bool(heard)


@contextmanager
def hearing(kind):
    heard = []
    stop = mk.events.subscribe(heard.append, kind)
    try:
        yield heard
    finally:
        stop()


def timed(rng, n, daily=0.0, lag=0.0):
    """Rows of 40 days in the order of time, with a daily wave or with dependence between neighbours."""
    seconds = np.sort(rng.uniform(0, 40 * DAY_SECONDS, n))
    noise = lfilter([1], [1, -lag], rng.normal(size=n))
    return {"x": noise + daily * np.sin(seconds / DAY_SECONDS * 2 * np.pi), "t": seconds}


def test_rows_that_are_alike_are_told_to_fit():
    wrong = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        line, heard = advice(timed(rng, 500), timed(rng, 4000), time="t", seed=seed)
        wrong += heard
        assert heard == ("rows fit" not in line)
    assert wrong <= 3  # each finding has the level .001


@pytest.mark.parametrize("unit", [None, "day"])
def test_hours_that_differ_call_for_a_stratum_or_whole_days(unit):
    rng = np.random.default_rng(0)
    line, heard = advice(timed(rng, 500), timed(rng, 20_000, daily=1.0), time="t", unit=unit)
    assert line.startswith("hours of the day differ more than chance allows (x), days do not")
    assert heard == (unit is None)


def test_neighbouring_rows_that_depend_on_each_other_call_for_a_stride():
    rng = np.random.default_rng(1)
    rows = timed(rng, 20_000, lag=0.3)
    line, heard = advice(timed(rng, 500), rows, time="t")
    assert "use ordered=True" in line
    assert heard
    _, heard = advice(timed(rng, 500), rows, time="t", ordered=True)
    assert not heard


def test_units_that_do_not_differ_are_told_to_be_needless():
    rng = np.random.default_rng(2)
    rows = {"x": rng.normal(size=4000), "lot": np.repeat(np.arange(40), 100)}
    line, heard = advice({"x": rng.normal(size=500)}, rows, unit="lot")
    assert "rows would do" in line
    assert not heard  # units hold where rows do
    rows["x"] = rows["x"] + rows["lot"] / 10
    line, heard = advice({"x": rng.normal(size=500)}, rows, unit="lot")
    assert "unit='lot' fits" in line
    assert not heard


def test_a_reference_of_few_days_says_so():
    line, _ = advice(rows_of(range(10)), rows_of(range(10, 15)), time="when")
    assert line == "the reference covers 5 days: too few to say whether days differ"


def test_answers_to_half_of_the_rows_of_the_training_are_a_warning():
    """The model may have been fitted on them: their scores are surer than those of any later row."""
    signature = mk.Signature(
        inputs=[mk.TensorSpec("X", "float64", ("batch", 1), columns=(mk.Column("x", "float64"),))],
        outputs=[mk.TensorSpec("prediction", "float64", ("batch",))],
    )
    model = mk.FunctionModel(lambda feeds: {"prediction": feeds["X"][:, 0]}, signature)
    rows = {"x": np.arange(600.0)}
    with hearing(mk.events.Advised) as heard:
        mk.Profile.fit(rows, reference={"x": np.arange(600.0) + 0.5}, model=model)
        assert not heard
        mk.Profile.fit(rows, model=model)
    assert "pass reference=" in heard[0].advice


def test_profiles_without_times_or_units_have_no_advice():
    rng = np.random.default_rng(0)
    profile = mk.Profile.fit({"x": rng.normal(size=500)})
    assert profile.advice == ""


def test_a_column_of_times_that_is_no_time_is_spoken_of():
    rows = flights()[["when", "dep_delay"]]
    profile = mk.Profile.fit(rows[:4000:2], reference=rows[1:4000:2])
    assert "pass time='when'" in profile.advice
    assert mk.Profile.fit(rows[:4000:2], reference=rows[1:4000:2], time="when").advice


def test_real_days_differ_and_the_check_says_so_once():
    past, rows = rows_of(range(30)), rows_of(range(30, 100))
    line, heard = advice(past, rows, time="when")
    assert line.startswith("days differ more than chance allows (dep_delay")
    assert "use unit='day'" in line
    assert heard
    line, heard = advice(past, rows, time="when", unit="day", stratum="weekday")
    assert "unit='day' fits" in line
    assert not heard
    assert "\n" not in line
