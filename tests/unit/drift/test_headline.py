"""A report begins with what changed, since when and by how much, in words that promise no more than p."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.flights import flights

import modelkit as mk
from modelkit.drift import words
from modelkit.drift.effects import largest_move
from modelkit.drift.values import Alarm, Effect, FeatureDrift

FEATURE = FeatureDrift(
    "fare",
    "number",
    None,
    1000,
    1e-9,
    1e-4,
    (Effect("ks", 0.3, 0.2, 0.4),),
    (0.0, 0.0),
    1.0,
    (("up to 1", 0.5, 0.2), ("1 to 2", 0.3, 0.3), ("above 2", 0.2, 0.5)),
    bins=(("+inf", 10, 10),),
    reference_rows=10,
    compared=10,
)
ALARM = Alarm(
    "changed",
    "fare",
    None,
    "martingale",
    1e-4,
    1e-3,
    400,
    100,
    Effect("ks", 0.3, 0.2, 0.4),
    "g",
    (),
)
ASKED = 1_388_534_400.0  # 2014-01-01


def sentence(*alarms, features=(FEATURE,), kind="stream"):
    return words.headline(alarms, features, kind, 1000, 0.01)


def test_the_sentence_says_what_since_when_and_by_how_much():
    assert sentence(ALARM) == (
        "fare is no longer like the reference, since about row 100: "
        "values up to 1 went from 50 % to 20 % of the latest 1,000 rows."
    )


def test_the_most_serious_alarm_comes_first_and_the_others_are_named():
    material = replace(ALARM, kind="material", feature="age", p=0.01, began=0)
    others = [replace(ALARM, feature=name) for name in ("a", "b", "c", "d", "e")]
    said = sentence(ALARM, *others, material)
    assert said.startswith(
        "age differs from the reference by more than the tolerance, since the first row"
    )
    assert said.endswith("fare, a, b, c and 2 more have an alarm too.")
    worse = replace(
        ALARM, kind="performance", feature="loss", effect=Effect("mean loss", 0.3, 0.2, 0.4)
    )
    said = sentence(ALARM, worse)
    assert said.startswith("The model is worse, by more than the tolerance, since about row 100")
    assert "the mean loss is 0.3." in said


def test_times_are_said_where_they_are_known():
    timed = replace(ALARM, time=ASKED + 86400, began_time=ASKED)
    assert "since about 2014-01-01 00:00 UTC" in sentence(timed)
    assert "the alarm came at 2014-01-02 00:00 UTC, row 400" in words.raised_text(timed, "stream")


def test_a_batch_has_no_since():
    assert "since" not in sentence(ALARM, kind="batch")
    assert words.raised_text(ALARM, "batch") == ""


def test_the_size_is_that_of_the_rows_now_and_says_of_which():
    assert "values up to 1 went from 50 % to 20 % of the latest 1,000 rows" in sentence(ALARM)
    assert "of the 1,000 rows" in sentence(ALARM, kind="batch")
    gone = replace(FEATURE, rows=0)
    assert "ks 0.300 [0.200, 0.400] at the alarm" in sentence(ALARM, features=(gone,))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (0.17, 0.30, 'those with "b" went from 17 % to 30 % of the 1,000 rows'),
        (0.1712, 0.1741, 'those with "b" went from 17.1 % to 17.4 % of the 1,000 rows'),
        (0.17121, 0.17123, "no share of the 1,000 rows differs by more than 0.1 %"),
    ],
)
def test_no_share_goes_from_a_number_to_the_same(old, new, said):
    drift = replace(FEATURE, kind="category", cells=(("b", old, new),))
    assert words.move_text(drift, "batch") == said


def test_an_alarm_that_is_over_comes_after_others_and_the_latest_of_a_feature_first():
    calm = replace(FEATURE, feature="age", effects=(Effect("ks", 0.01, 0.0, 0.03),))
    over = replace(ALARM, kind="material", feature="age")
    assert sentence(over, ALARM, features=(calm, FEATURE)).startswith("fare is no longer")
    again = replace(ALARM, began=300, again=True)
    assert sentence(ALARM, again).startswith(
        "fare has changed again since its last alarm was acknowledged, since about row 300"
    )


def test_missing_values_and_categories_are_named():
    gone = replace(
        FEATURE, cells=(("up to 1", 0.6, 0.4), ("above 1", 0.4, 0.3), ("(missing)", 0.0, 0.3))
    )
    assert words.move_text(gone, "span") == "missing values went from 0 % to 30 % of the 1,000 rows"
    cells = (("JFK", 0.5, 0.2), ("LGA", 0.5, 0.4), ("(new)", 0.0, 0.4))
    ports = replace(FEATURE, kind="category", cells=cells)
    assert words.move_text(ports, "span").startswith("categories that training did not know went")
    ports = replace(FEATURE, kind="category", cells=cells[:2])
    assert largest_move(ports) == ("JFK", 0.5, 0.2, False)
    day = (("up to 2013-01-02T10:00", 0.5, 0.1), ("above 2013-01-02T10:00", 0.5, 0.9))
    timed = replace(FEATURE, kind="time", cells=day)
    assert words.move_text(timed, "span").startswith("times up to 2013-01-02 10:00 went")
    assert largest_move(replace(FEATURE, cells=())) is None


def test_advice_goes_by_the_most_serious_alarm():
    def advice(alarms, checks):
        return words.advice(alarms, (), "stream", 0.01, checks)

    assert "source" in advice([ALARM, replace(ALARM, kind="material")], 0)
    day = replace(ALARM, unit="day 2014-01-01")
    assert "If it matters: find out" in advice([day], 0)
    assert "go back" in advice([replace(ALARM, kind="performance")], 2)
    assert "2 data checks" in advice([replace(ALARM, kind="performance")], 2)
    assert "does not prove" in advice([], 0)
    assert "1 data check" in advice([], 1)


def span_of(first, last):
    rows = flights()
    return rows[(rows["when"] >= first) & (rows["when"] < last)].drop(columns=["day", "hour"])


@pytest.fixture(scope="module")
def autumn():
    """A Detector of the days of spring that saw those of September, and its alarms."""
    past = span_of("2013-02-01", "2013-06-01")
    january = span_of("2013-01-01", "2013-02-01")
    profile = mk.Profile.fit(january, reference=past, unit="day", time="when")
    detector = mk.Detector(profile)
    for day in pd.date_range("2013-09-01", "2013-09-20"):
        detector.update(span_of(day, day + pd.Timedelta(days=1)))
    detector.update(at="2013-09-21")
    assert detector.alarms
    return detector


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
        "No alarm was raised in this span. Nothing in its 2,000 rows shows a difference from the reference."
    )
    assert not last.alarms
    assert last.headline().startswith(
        "No alarm was raised in this span, but x differs from the reference in its 2,000 rows."
    )
    assert "There is nothing to do" not in last.to_html()


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
