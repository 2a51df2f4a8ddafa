"""How rarely alarms of labels are false, in simulation."""

import numpy as np
import pytest
from helpers.streams import at_most, classes, inputs, rng

import modelkit as mk


def test_labels_that_did_not_change_raise_no_alarm():
    runs, alarms = 100, 0
    for run in range(runs):
        labels = classes(400, 3 * run)
        fresh = mk.Profile.fit(
            inputs(60, 10_000 + run), reference=inputs(400, run), scores=labels, labels=labels
        )
        detector = mk.Detector(fresh, alpha=0.2, seed=run)
        alarms += bool(detector.update_labels(classes(2500, 3 * run + 1)))
    assert at_most(alarms, runs, 0.2), alarms


@pytest.mark.parametrize("lines", [2, 5, 10])
def test_a_fifth_of_the_reference_is_a_random_one(lines):
    """Every fifth place was of one line, where rows come from five lines in turn."""
    runs, alarms = 20, 0
    for run in range(runs):
        r = rng(run, 44)

        def of_lines(n, r=r):
            return np.arange(n) % lines + r.normal(size=n) / 10

        profile = mk.Profile.fit(
            inputs(60, 10_000 + run),
            reference=inputs(2000, run),
            scores=of_lines(2000),
            labels=of_lines(2000),
        )
        detector = mk.Detector(profile, alpha=0.05, seed=run, history=0)
        detector.update(inputs(1500, 20_000 + run), of_lines(1500))
        detector.update_labels(of_lines(1500), of_lines(1500))
        alarms += bool(detector.alarms)
    assert at_most(alarms, runs, 0.05), alarms
