"""How rarely the alarms of a Detector are false, in simulation."""

from collections import Counter

import numpy as np
import pytest
from helpers.streams import NULLS, ar, at_most, rng

import modelkit as mk
from modelkit.drift.cells import CELLS
from modelkit.drift.profile import Profile


def false_alarms(runs, rows, reference, **options):
    """In how many runs any alarm came, all nulls being columns of one profile of alpha 0.05, and by which column."""
    count, who = 0, Counter()
    for run in range(runs):
        r = rng(run, rows)
        train, held, served = (
            {name: law(n, r) for name, law in NULLS.items()} for n in (400, reference, rows)
        )
        detector = mk.Detector(Profile.fit(train, reference=held), alpha=0.05, seed=run, **options)
        detector.update(served)
        count += bool(detector.alarms)
        who.update({alarm.feature for alarm in detector.alarms})
    return count, who


@pytest.mark.parametrize("guarantee", ["ever", "arl"])
def test_false_alarms_are_as_rare_as_promised(guarantee):
    runs = 60  # of six columns each
    count, who = false_alarms(runs, 3000, 500, guarantee=guarantee)
    assert at_most(count, runs, 0.05), (count, who)


def test_one_column_that_has_all_of_alpha_keeps_to_it():
    runs, count = 300, 0
    train = Profile.fit({"x": rng(0).normal(size=400)}, reference={"x": rng(1).normal(size=400)})
    for run in range(runs):
        r = rng(run, 3)
        counts = np.zeros_like(train.counts)
        cells = train.features[0].cells(r.normal(size=3600)).astype(np.uint8)
        counts[0, 0] = np.bincount(cells[:600], minlength=CELLS)  # a fresh reference
        profile = Profile(
            **{f: getattr(train, f) for f in train.__dataclass_fields__}
            | {"counts": counts, "rows": 600}
        )
        detector = mk.Detector(profile, alpha=0.1, seed=run)
        count += bool(detector._tracker.push(cells[600:, None], None, 0.0))
    assert at_most(count, runs, 0.1), count


def test_dependent_rows_and_seasons_raise_no_alarm_where_they_are_told():
    runs, alarms, naive, unstratified = 40, 0, 0, 0
    for run in range(runs):
        r = rng(run, 17)
        train, held, served = ({"x": ar(n, 0.8, r)} for n in (2000, 6000, 4000))
        alarms += bool(
            mk.Detector(Profile.fit(train, reference=held, ordered=True), seed=run).update(
                served, order="time"
            )
        )
        naive += bool(
            mk.Detector(Profile.fit(train, reference=held), seed=run).update(served, order="time")
        )
    assert at_most(alarms, runs, 0.01), alarms
    assert naive > runs / 2  # what the stride is for
    alarms = 0
    for run in range(runs):
        r = rng(run, 18)
        days = [(np.arange(n) // 500 % 2, r) for n in (2000, 6000, 4000)]
        train, held, served = ({"night": night, "x": r.normal(night * 1.0)} for night, r in days)
        alarms += bool(
            mk.Detector(Profile.fit(train, reference=held, stratum="night"), seed=run).update(
                served, order="time"
            )
        )
        rest = [{"x": side["x"]} for side in (train, held, served)]
        unstratified += bool(
            mk.Detector(Profile.fit(rest[0], reference=rest[1]), seed=run).update(
                rest[2], order="time"
            )
        )
    assert at_most(alarms, runs, 0.01), alarms
    assert unstratified > runs / 2  # what strata are for
