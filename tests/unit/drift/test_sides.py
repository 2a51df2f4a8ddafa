"""What a Profile of units is fitted from, and what is refused."""

import numpy as np
import pytest
from helpers.flights import flights, rows_of
from helpers.units import later

import modelkit as mk
from modelkit.errors import UsageError


@pytest.fixture
def profile(of_days):
    return of_days


def test_a_column_may_tell_the_unit_and_is_no_feature():
    rng = np.random.default_rng(1)
    rows = {"x": rng.normal(size=4000), "lot": np.repeat(np.arange(40), 100)}
    profile = mk.Profile.fit(rows, unit="lot")
    assert [feature.name for feature in profile.features] == ["x"]
    assert profile.units.found == 20
    detector = mk.Detector(profile)
    detector.update(rows, order="time")
    report = detector.report()
    assert "39 units by 'lot' judged, the last lot 38" in report.assumptions
    detector.update({"x": np.zeros(3), "lot": [5, 5, 5]})
    assert "3 rows came after" in str(detector.report().checks)


def test_a_stratum_that_differs_within_a_unit_is_refused():
    with pytest.raises(UsageError, match="rows of several strata"):
        mk.Profile.fit(rows_of(range(20)), unit="day", time="when", stratum="hour")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unit": "day"}, "needs time="),
        ({"unit": "when", "time": "when"}, "both name"),
        ({"unit": "day", "time": "when", "ordered": True}, "pass one of them"),
        ({"unit": "batch"}, "list of batches"),
        ({"unit": "month", "time": "when"}, "lacks the column 'month'"),
        ({"time": "where"}, "lacks the column 'where'"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        mk.Profile.fit(rows_of(range(20)), **options)


def test_a_column_named_like_a_period_is_ambiguous():
    rows = rows_of(range(20)).assign(day=1.0)
    with pytest.raises(UsageError, match="may mean the column 'day'"):
        mk.Profile.fit(rows, unit="day", time="when")


def test_fewer_than_eight_units_are_refused():
    with pytest.raises(UsageError, match="has 5 days"):
        mk.Profile.fit(rows_of(range(10)), unit="day", time="when")


def test_rows_without_their_times_are_refused(profile):
    rows = later([100]).drop(columns="when")
    detector = mk.Detector(profile)
    with pytest.raises(UsageError, match="pass at="):
        detector.update(rows)
    assert detector.rows == 0
    detector.update(rows, at="2014-05-01")
    assert detector.rows == len(rows)
    with pytest.raises(UsageError, match="leave out at="):
        detector.update(later([100]), at=0)


def test_a_profile_of_units_keeps_its_bytes(profile):
    data = profile.to_bytes()
    again = mk.Profile.from_bytes(data)
    assert again.to_bytes() == data
    assert (again.unit, again.time, again.units.found) == ("day", "when", 60)
    assert "60 days" in repr(again)


def test_of_more_units_than_are_kept_a_random_part_is():
    rng = np.random.default_rng(0)
    training = {"x": rng.normal(size=500)}
    rows = {"x": rng.normal(size=5000), "lot": np.repeat(np.arange(500), 10)}
    one, same, other = (
        mk.Profile.fit(training, reference=rows, unit="lot", seed=seed) for seed in (0, 0, 1)
    )
    assert len(one.units.shares) == 400
    assert one.units.found == 500
    assert one.to_bytes() == same.to_bytes() != other.to_bytes()
    assert "a random 400 of them kept" in str(one.assumptions())


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
