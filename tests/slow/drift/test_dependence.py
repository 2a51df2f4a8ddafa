"""How rarely strides of dependent rows let alarms be false, in simulation."""

import numpy as np
from helpers.streams import ar, at_most, rng

import modelkit as mk


def test_rows_in_order_that_are_exchangeable_keep_to_alpha():
    """The stride is chosen from the rows that are counted; benchmarks/drift/claims.py has more runs."""
    runs, count, several = 200, 0, 0
    for run in range(runs):
        r = rng(run, 66)
        profile = mk.Profile.fit(
            {"x": r.normal(size=100)}, reference={"x": r.normal(size=300)}, ordered=True, seed=run
        )
        stride = profile.features[0].stride
        detector = mk.Detector(profile, alpha=0.05, seed=run, history=0)
        detector.update({"x": r.normal(size=1280 * min(stride, 4))}, order="time")
        several += stride > 1
        count += bool(detector.alarms)
    assert several > 10
    assert at_most(count, runs, 0.05), count


def test_dependent_rows_that_come_sorted_raise_no_alarm():
    runs, count = 40, 0
    for run in range(runs):
        r = rng(run, 67)
        train, held, served = ({"x": ar(n, 0.8, r)} for n in (2000, 6000, 6000))
        detector = mk.Detector(mk.Profile.fit(train, reference=held, ordered=True), seed=run)
        for start in range(0, 6000, 1000):
            detector.update({"x": np.sort(served["x"][start : start + 1000])})
        count += bool(detector.alarms)
    assert at_most(count, runs, 0.01), count
