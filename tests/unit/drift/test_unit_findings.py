"""Reports on units: of tallies together, of one day, and of several."""

import numpy as np
import pytest
from helpers.flights import CHANGES
from helpers.units import batches, later

import modelkit as mk
from modelkit.errors import UsageError


@pytest.fixture
def profile(of_days):
    return of_days


def test_workers_share_a_day_by_tallies_and_merge_no_states_of_units(profile):
    rows = later([100], CHANGES["dep_delay"])
    alone = mk.Detector(profile, alpha=0.05)
    tally = mk.types.Tally.total([profile.tally(rows.iloc[i::3]) for i in range(3)])
    tested = alone.test(rows)
    assert [f.p_changed for f in alone.test(tally).features] == [
        f.p_changed for f in tested.features
    ]
    with pytest.raises(UsageError, match=r"Profile\.tally, whose tallies add up"):
        mk.Detector.merge(profile, [alone.state()])


def test_a_test_of_units_names_the_categories_that_are_new(profile):
    rows = later([100])
    rows.loc[rows.index[:3], "origin"] = "OSL"
    (check,) = [own for own in mk.Detector(profile).test(rows).checks if own.feature == "origin"]
    assert check.found == f"3 of {len(rows):,} rows, such as 'OSL'"


def test_a_test_of_one_day_is_its_rank_among_the_days_of_the_reference(profile):
    rows = later([100])
    rows["dep_delay"] += 90
    detector = mk.Detector(profile, alpha=0.02)
    report = detector.test(rows)
    (alarm,) = report.alarms
    assert (alarm.feature, alarm.unit, alarm.p) == ("dep_delay", "day 2014-01-01", 1 / 61)
    assert detector.rows == 0
    few = mk.Detector(profile, alpha=0.01).test(rows)
    assert few.alarms == ()
    assert "no alarm is possible at alpha 0.01" in str(few.assumptions)


def test_several_days_together_show_what_none_of_them_does(profile):
    detector = mk.Detector(profile, alpha=0.01)
    report = detector.test(later(range(100, 115), CHANGES["origin"]))
    assert "origin" in {alarm.feature for alarm in report.alarms}
    assert "15 days, day 2014-01-01 to day 2014-01-15" in str(report.alarms[0])


def test_a_unit_without_values_of_a_feature_says_nothing_of_it():
    rng = np.random.default_rng(3)
    past = batches(rng, 40)
    scores = rng.normal(size=200 * 40)
    profile = mk.Profile.fit(batches(rng, 1)[0], reference=past, unit="batch", scores=scores)
    detector = mk.Detector(profile)
    detector.update(batches(rng, 1)[0])
    detector.update(scores=rng.normal(size=200))
    report = {drift.feature: drift for drift in detector.report().features}
    assert report["prediction"].effects[0].low < 0.05
    assert report["prediction"].effects[0].value < 0.2
    assert detector._tracker.units.sequence.blocks == 2
