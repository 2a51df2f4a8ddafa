"""Rows of several strata: those of each and those of all together keep alpha between them."""

import numpy as np
import pytest
from helpers.streams import NULLS, at_most, rng

import modelkit as mk

ALPHA = 0.2


@pytest.mark.parametrize("guarantee", ["ever", "arl"])
@pytest.mark.parametrize("strata", [2, 6])
def test_exchangeable_rows_of_strata_raise_false_alarms_with_at_most_alpha(strata, guarantee):
    runs = 200
    alarms = together = 0
    for run in range(runs):
        r = rng(run, strata, 91)

        def rows(n, r=r):
            member = r.integers(0, strata, n)
            tied = NULLS["ties"](n, r) + member
            return {"x": r.normal(member, 1 + member), "y": tied, "s": member}

        profile = mk.Profile.fit(rows(300), reference=rows(600), stratum="s")
        detector = mk.Detector(profile, alpha=ALPHA, guarantee=guarantee, seed=run)
        for _ in range(6):
            detector.update(rows(500))
        alarms += bool(detector.alarms)
        together += any(alarm.stratum is None for alarm in detector.alarms)
    assert at_most(alarms, runs, ALPHA), alarms
    assert at_most(together, runs, ALPHA / 4), together


def test_a_change_in_all_strata_is_seen_in_less_than_half_the_rows_of_one_in_one():
    delays = {"all": [], "one": []}
    for run in range(12):
        r = rng(run, 92)

        def rows(n, shift, r=r):
            return {"x": r.normal(shift, 1, n), "s": np.arange(n) % 7}

        profile = mk.Profile.fit(rows(3500, 0), reference=rows(10_500, 0), stratum="s")
        for where, changed in (("all", range(7)), ("one", [3])):
            detector = mk.Detector(profile, seed=run)
            later = rows(14_000, 0)
            later["x"] += 0.5 * np.isin(later["s"], changed)
            detector.update(rows(2800, 0), order="time")
            found = [a for a in detector.update(later, order="time") if a.kind == "changed"]
            delays[where].append(min(alarm.row for alarm in found) - 2800)
    assert np.median(delays["all"]) < np.median(delays["one"]) / 2
    assert np.median(delays["all"]) < 400
    assert np.median(delays["one"]) < 1500
