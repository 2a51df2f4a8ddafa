"""What a newcomer to drift stumbled over: messages, sentences and figures that contradict another."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.flights import flights

import modelkit as mk
from modelkit.errors import DriftError

SMALL = {"x": np.arange(400.0) % 97, "shop": np.array(["a", "b"] * 200, object)}
APART = {"x": np.arange(400.0) % 89 + 0.5, "shop": np.array(["a", "b"] * 200, object)}


def span_of(first, last):
    rows = flights()
    return rows[(rows["when"] >= first) & (rows["when"] < last)].drop(columns=["day", "hour"])


@pytest.fixture(scope="module")
def autumn():
    """A Detector of the days of spring that saw those of September, and its alarms."""
    past = span_of("2013-02-01", "2013-06-01")
    profile = mk.Profile.fit(
        span_of("2013-01-01", "2013-02-01"),
        reference=past,
        unit="day",
        time="when",
        segments=["origin"],
    )
    detector = mk.Detector(profile)
    for day in pd.date_range("2013-09-01", "2013-09-20"):
        detector.update(span_of(day, day + pd.Timedelta(days=1)))
    detector.update(at="2013-09-21")
    assert detector.alarms
    return detector


@pytest.fixture(scope="module")
def small():
    return mk.Profile.fit(SMALL, reference=APART)


def test_a_week_without_an_alarm_is_not_said_to_be_like_the_past(autumn):
    week = autumn.history.report(since="2013-09-14", until="2013-09-20")
    assert not week.alarms
    assert "Nothing" not in week.headline()
    assert "described, not tested" in week.headline()
    assert 'class="box "' in week.to_html()  # neither red nor green
    assert "read the report of the whole stream" in week.to_html()
    assert "adjusted for all features: -" not in str(week)
    assert "not tested" in str(week)


def test_a_tested_week_names_what_differs_though_its_alarm_came_before():
    rng = np.random.default_rng(0)
    profile = mk.Profile.fit(
        {"x": rng.normal(size=2000), "y": rng.normal(size=2000)},
        reference={"x": rng.normal(size=4000), "y": rng.normal(size=4000)},
    )
    now = [86_400.0 * 20_000]
    detector = mk.Detector(profile, clock=lambda: now[0])
    for shift in (0.0, 1.0, 1.0):
        detector.update({"x": rng.normal(shift, size=2000), "y": rng.normal(size=2000)})
        now[0] += 86_400
    assert [alarm.feature for alarm in detector.alarms] == ["x", "x"]
    first, _, last = (
        detector.history.report(since=now[0] - back * 86_400, until=now[0] - (back - 1) * 86_400)
        for back in (3, 2, 1)
    )
    assert first.headline() == (
        "No alarm was raised in this span. Nothing in its 2,000 rows shows that they differ from before."
    )
    assert not last.alarms
    assert last.headline().startswith(
        "No alarm was raised in this span, but x differs from the reference in its 2,000 rows: of x, "
    )
    assert "Nothing needs to be done" not in last.to_html()


def test_a_report_without_rows_claims_nothing_about_them(small):
    assert mk.Detector(small).report().headline() == "No alarm. No rows have come yet."


def test_days_are_told_by_dates_and_not_by_numbers_of_rows(autumn):
    for alarm in autumn.alarms:
        assert re.search(r"since about 2013-09-\d\d 00:00 UTC", str(alarm))
        assert "row" not in str(alarm)


def test_the_p_values_of_days_rest_on_all_days(autumn):
    report = autumn.report()
    missing = flights()["air_time"].isna()
    assert missing.any()
    judged = len(span_of("2013-09-01", "2013-09-21"))
    assert {drift.compared for drift in report.features} == {judged}
    assert f"anytime p of {judged:,} rows" in str(report)
    assert "- (beyond the tolerance)" not in str(report)


def test_a_feature_began_when_its_alarm_says(autumn):
    report = autumn.report()
    page = report.to_html()
    for alarm in report.alarms:
        card = page.split(f"<h3>{alarm.feature} <span")[1].split("</section>")[0]
        since = re.search(r"<dt>since</dt><dd>(.*?)</dd>", card)[1]
        assert f"The change began at {since}; the alarm came with {alarm.unit}" in page


def test_segments_that_are_not_tested_have_no_column_of_dashes(autumn):
    page = autumn.report().to_html()
    assert "(not tested)" in page
    assert "<th>p</th></tr><tr><td>JFK" not in page
    assert "<td>-</td></tr><tr><td>JFK" not in page


def test_the_axis_of_rows_reaches_to_those_that_a_budget_left_out(small):
    detector = mk.Detector(small, clock=lambda: 0.0)
    rng = np.random.default_rng(0)
    shops = rng.choice(["a", "b"], 2000).astype(object)
    detector.update({"x": rng.uniform(200, 300, 2000), "shop": shops})
    whole = detector.report()
    assert whole.alarms
    sampled = replace(whole, rows=whole.rows - 1500, skipped=1500)
    axis = re.compile(r'<svg class="when".*?</svg>')
    assert axis.search(sampled.to_html())[0] == axis.search(whole.to_html())[0]


def test_a_column_named_day_may_tell_the_days():
    rows = flights().rename(columns={"day": "number"})
    rows = rows[rows["number"] < 60].drop(columns=["hour", "number"])
    rows = rows.rename(columns={"when": "day"})
    past = rows[rows["day"] >= "2013-01-21"]
    profile = mk.Profile.fit(
        rows[rows["day"] < "2013-01-21"], reference=past, unit="day", time="day"
    )
    detector = mk.Detector(profile)
    detector.update(rows[rows["day"] >= "2013-02-20"].assign(day=lambda own: own["day"]))
    assert detector.report().rows
    assert "day" not in [feature.name for feature in profile.features]


def test_a_column_of_times_that_is_no_time_is_spoken_of():
    rows = flights()[["when", "dep_delay"]]
    profile = mk.Profile.fit(rows[:4000:2], reference=rows[1:4000:2])
    assert "pass time='when'" in profile.advice
    assert mk.Profile.fit(rows[:4000:2], reference=rows[1:4000:2], time="when").advice


@pytest.mark.parametrize("labels", [[0, 1], [0.0, 1.0]])
def test_numbers_beside_names_are_refused_as_labels_and_raise_no_alarm(labels):
    names = np.array(["late", "on time"] * 200)
    profile = mk.Profile.fit(SMALL, reference=APART, scores=names, labels=names)
    detector = mk.Detector(profile)
    with pytest.raises(DriftError, match="never equal to predictions such as 'late'"):
        detector.update_labels(labels * 20, ["late", "on time"] * 20)
    assert detector.update_labels(names, names) == []
    digits = np.array(["1", "0"] * 200)
    told = mk.Profile.fit(SMALL, reference=APART, scores=digits, labels=digits)
    assert mk.Detector(told).update_labels([1, 0] * 20, digits[:40]) == []


def test_a_detector_says_what_it_is(small):
    said = repr(mk.Detector(small))
    assert said == f"<Detector of {small!r}: 0 rows taken, 0 alarms>"


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda p: mk.Detector(SMALL), "a Profile, not a dict; mk.Profile.fit"),
        (lambda p: mk.Detector(p.to_bytes()), "not a bytes; .*Profile.from_bytes"),
        (lambda p: mk.Detector.resume(SMALL, b""), "a Profile, not a dict"),
        (lambda p: mk.Detector(p).rebase(APART, "they are the new past"), "a Profile, not a dict"),
    ],
)
def test_rows_in_place_of_a_profile_are_refused_with_the_way_to_one(small, act, says):
    with pytest.raises(TypeError, match=says):
        act(small)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda p: mk.Detector.resume(p, b"abc"), "the bytes are not those of an npz file"),
        (lambda p: mk.Profile.from_bytes(b""), "the bytes are not those of an npz file"),
        (lambda p: mk.Detector(p).history.report("last week"), "since is 'last week', which is no time"),
        (lambda p: mk.Detector(p).history.report(until=["2013"]), "until is one time; got list"),
        (lambda p: mk.Detector(p).suppress("a sale", "2033-01-01"), "until is 'a sale', which is no time"),
        (lambda p: mk.Detector(p).suppress("2013-01-01", "a sale"), "00:00 UTC; it starts now unless since="),
        (lambda p: mk.Detector(p).suppress("2033-01-01", "a sale", features="x"), r"pass \('x',\)"),
        (lambda p: mk.Detector(p).acknowledge("x", "known"), "pass an Alarm from `alarms`"),
        (lambda p: mk.Profile.fit(SMALL, reference=APART, text="shop"), r"pass \('shop',\)"),
        (lambda p: mk.Profile.fit(SMALL, reference=APART, unit="month"), "'day', 'week' or 'batch'"),
        (lambda p: mk.Profile.fit(SMALL, reference=APART, stratum="weekday"), "where time= names the column"),
    ],
)  # fmt: skip
def test_a_message_says_what_was_wrong_and_what_to_do(small, act, says):
    with pytest.raises(DriftError, match=says) as raised:
        act(small)
    assert "unsafe" not in str(raised.value)
    assert "column 'at'" not in str(raised.value)
